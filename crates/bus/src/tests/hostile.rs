//! Damaged framing, checkpoints and quarantine records: an error, or just what the bytes say.

use bytes::Bytes;
use hutong_core::{Checkpoint, ErrorKind, Position, RecordTrace, Rejected};
use hutong_testkit::hostile;

use crate::verification::{Detail, Word};
use crate::watermark::{Watermark, base_note, partition_key};
use crate::{framing, quarantine};

/// What reading a record of Hutong's own may take: it keeps texts, and a map's entries for two bytes each.
fn most(bytes: &[u8]) -> usize {
    (64 << 10) + 256 * bytes.len()
}

#[test]
fn damaged_framing_is_refused_or_gives_the_bytes_back() {
    let valid = [[&framing::head(7)[..], b"body"].concat(), vec![1; 21], b"{\"a\":1}".to_vec()];
    hostile::feed("damaged_framing_is_refused_or_gives_the_bytes_back", 5_000, &valid, |bytes| {
        let record = Bytes::copy_from_slice(bytes);
        match framing::split(&record) {
            Ok((id, body)) => {
                assert_eq!([&framing::head(id)[..], &body].concat(), bytes);
                assert_eq!(framing::id(bytes), Some(id));
            }
            Err(error) => {
                assert_eq!(error.kind, ErrorKind::Malformed);
                assert_eq!(framing::id(bytes), None);
            }
        }
    });
}

fn watermarks() -> Vec<Vec<u8>> {
    let notes =
        [(base_note("t", 3), "41".to_owned()), ("snapshot.public.t".to_owned(), r#"{"rows":5}"#.to_owned())];
    let full = Watermark {
        lane: "capture.gongan.0".into(),
        checkpoint: Checkpoint {
            positions: [
                ("wal".to_owned(), Position::wal(0, 7, 8, 1)),
                ("t/0".to_owned(), Position::offset(3)),
            ]
            .into(),
            notes: notes.into(),
        },
        as_of_us: Some(1_767_225_600_000_000),
        ends: [(partition_key("t", 3), 44), (partition_key("t", 4), u64::from(u32::MAX))].into(),
    };
    [full, Watermark::default()].iter().map(|watermark| watermark.encode(9).to_vec()).collect()
}

#[test]
fn i2_a_damaged_checkpoint_is_broken_or_reads_as_it_would_be_written() {
    let name = "i2_a_damaged_checkpoint_is_broken_or_reads_as_it_would_be_written";
    hostile::feed(name, 5_000, &watermarks(), |bytes| {
        let record = Bytes::copy_from_slice(bytes);
        let mut read = None;
        hostile::within(most(bytes), || read = Some(Watermark::decode(&record)));
        match read.unwrap() {
            // Written again it reads the same: nothing was guessed, and no place was lost on the way.
            Ok(watermark) => assert_eq!(Watermark::decode(&watermark.encode(9)).unwrap(), watermark),
            Err(error) => assert_eq!(error.kind, ErrorKind::Broken),
        }
    });
}

#[test]
fn i3_a_damaged_word_of_a_comparison_is_refused_or_reads_as_it_would_be_written() {
    let detail = Detail {
        digest: Bytes::from_static(&[3; 16]),
        fields: vec![0, u64::MAX],
        key: r#"["某人",1]"#.into(),
    };
    let told = Word {
        session: "1a-2".into(),
        number: 3,
        word: "told".into(),
        rows: 9,
        unknown: 1,
        begins: [(0, 4), (1, 0)].into(),
        ends: [(0, 5)].into(),
        sums: Bytes::from_static(&[1; 52]),
        digests: Bytes::from_static(&[2; 64]),
        details: vec![detail.clone(), detail],
        asides: vec![(Bytes::from_static(&[4; 16]), "check".into())],
        by: "b".into(),
        parts: 2,
        ..Word::default()
    };
    let mend = Word { word: "mend".into(), mend: vec!["[1]".into(), "00ff".into()], ..Word::default() };
    let ask = Word {
        skip: vec!["a".into()],
        ranges: Bytes::from_static(&[0, 1]),
        settled: true,
        ..Word::default()
    };
    let valid: Vec<Vec<u8>> = [told, mend, ask].iter().map(|word| word.encode(9).to_vec()).collect();
    let name = "i3_a_damaged_word_of_a_comparison_is_refused_or_reads_as_it_would_be_written";
    hostile::feed(name, 5_000, &valid, |bytes| {
        let record = Bytes::copy_from_slice(bytes);
        let mut read = None;
        hostile::within(most(bytes), || read = Some(Word::decode(&record)));
        match read.unwrap() {
            Ok(word) => assert_eq!(Word::decode(&word.encode(9)).unwrap(), word),
            Err(error) => assert_eq!(error.kind, ErrorKind::Broken),
        }
    });
}

#[test]
fn i3_a_damaged_quarantine_record_is_refused_or_read() {
    let trace =
        RecordTrace { topic: "t".into(), partition: 1, offset: 2, schema_id: Some(3), digest: "00ff".into() };
    let rejected = |record| Rejected {
        rule: "decode",
        reason: "它太早结束".into(),
        position: Position::offset(2),
        stream: "s".into(),
        change: None,
        record,
    };
    let envelope = Bytes::from_static(b"\0\0\0\0\x01x");
    let valid = [
        quarantine::encode(5, "capture.a.0", &rejected(Some(trace)), 1, Some(&envelope), Some(r#"{"id":1}"#))
            .to_vec(),
        quarantine::encode(5, "capture.a.0", &rejected(None), 1, None, None).to_vec(),
    ];
    hostile::feed("i3_a_damaged_quarantine_record_is_refused_or_read", 5_000, &valid, |bytes| {
        let record = Bytes::copy_from_slice(bytes);
        let mut read = None;
        hostile::within(most(bytes), || read = Some(quarantine::decode(&record)));
        match read.unwrap() {
            // What is told of it stands in the bytes.
            Ok(kept) => {
                let has =
                    |part: &[u8]| part.is_empty() || bytes.windows(part.len()).any(|window| window == part);
                assert!(
                    [&kept.lane, &kept.rule, &kept.reason, &kept.position]
                        .iter()
                        .all(|text| has(text.as_bytes()))
                );
                assert!(kept.envelope.as_deref().is_none_or(has));
                assert!(kept.key.as_deref().is_none_or(|key| has(key.as_bytes())));
            }
            Err(error) => assert_eq!(error.kind, ErrorKind::Malformed),
        }
    });
}
