//! A stream with a sealed key and a sealed column: what stands on the bus, and who opens it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hutong_core::seal::{Custody, PrivateKey, Reader};
use hutong_core::{Checkpoint, Contract, ErrorKind, Op, Sink, Source, Value};

use super::office::{Office, PARTITIONS, TOPIC, batch, drain, lane, records};
use crate::log::checkpoint_topic;
use crate::{Sealing, TopicSink, TopicSource, Unsealing, keys};

const STATE: &str = r#"{"rows":1,"done":false,"last":[990000]}"#;

fn key(byte: u8) -> Arc<dyn Custody> {
    Arc::new(PrivateKey::new([byte; 32]).unwrap())
}

fn office() -> Office {
    let mut office = Office::new();
    let text = r#"{"type":"record","name":"person","sharing":"unconditional","key":["id"],"fields":[
        {"name":"id","type":"long","sealed":true},
        {"name":"name","type":["null",{"type":"string","length":4}],"sealed":true}]}"#;
    office.contract = Contract::parse(text).unwrap().shared();
    office
}

fn reader(grant: &str, by: u8) -> Reader {
    Reader { grant: grant.into(), to: key(by).public(), fields: vec!["id".into(), "name".into()] }
}

async fn opened(office: &Office, readers: Vec<Reader>) -> (TopicSink, Checkpoint) {
    let sealing = BTreeMap::from([("person".to_owned(), Sealing { owner: key(1), readers })]);
    let mut sink = office.sink().sealing(sealing);
    let checkpoint = sink.open(&lane()).await.unwrap();
    sink.prepare(&office.contract).await.unwrap();
    (sink, checkpoint)
}

/// `grant`: the grant whose department's key `own` is; `None`: the owner's.
fn source(office: &Office, partition: u32, own: u8, grant: Option<&str>) -> TopicSource {
    let unsealing = Unsealing {
        keys: keys::topic("hutong", "gongan"),
        own: Some(key(own)),
        by: Some(key(1).public()),
        grant: grant.map(str::to_owned),
        fields: vec!["id".into(), "name".into()],
        remedy: "wait for the key".into(),
    };
    office.source(partition).unsealing(Some(unsealing))
}

/// Returns every byte of the change topic and of the checkpoint topic.
async fn bytes(office: &Office) -> Vec<u8> {
    let mut bytes = Vec::new();
    let checkpoints = checkpoint_topic("hutong", &lane().pipeline);
    for (topic, partitions) in [(TOPIC, PARTITIONS), (&checkpoints, 1), (&keys::topic("hutong", "gongan"), 1)]
    {
        for partition in 0..partitions {
            for record in records(office, topic, partition).await {
                bytes.extend([record.key, record.value].into_iter().flatten().flatten());
            }
        }
    }
    bytes
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}

#[tokio::test]
async fn i7_nonces_are_reserved_before_use_and_never_come_twice_over_openings_and_lost_answers() {
    let office = office();
    let mut at = 0;
    for opening in 1..=4_u32 {
        let (mut sink, checkpoint) = opened(&office, Vec::new()).await;
        assert_eq!(checkpoint.note("seal.opening"), Some(opening.to_string().as_str()));
        // What the last owner left behind is committed, whether it was told or not.
        assert_eq!(checkpoint.position("wal").is_start(), at == 0);
        for _ in 0..2 {
            office.lose.store(at % 2 == 1, Ordering::Relaxed);
            let changes = (0..5).map(|id| office.change(at + 1, Op::Insert, id, "同名")).collect();
            let done = sink.commit(&batch(at, at + 1, changes, 1)).await;
            assert_eq!(done.is_err(), at % 2 == 1, "{done:?}");
            at += 1;
        }
    }
    let bytes = bytes(&office).await;
    // Version 1, epoch 1, an opening, and a counter that fits into two bytes.
    let head = |part: &&[u8]| part[..8] == [1, 0, 0, 0, 1, 0, 0, 0] && part[9..15] == [0; 6];
    let nonces: Vec<&[u8]> = bytes.windows(17).filter(head).map(|part| &part[5..]).collect();
    assert!(nonces.len() >= 4 * 2 * 5 * 2, "{} are found", nonces.len());
    assert_eq!(nonces.iter().collect::<HashSet<_>>().len(), nonces.len());
}

#[tokio::test]
async fn a_note_that_holds_a_rows_key_is_sealed_on_the_bus_and_whole_for_its_source() {
    let office = office();
    let (mut sink, _) = opened(&office, Vec::new()).await;
    let mut batch = batch(0, 1, vec![office.change(1, Op::Read, 990_000, "欧阳")], 1);
    batch.delta.set_note("snapshot.person", STATE);
    batch.delta.set_note("other", "clear-note");
    sink.commit(&batch).await.unwrap();
    let bytes = bytes(&office).await;
    for (text, there) in [("990000", false), ("\"last\"", false), ("欧阳", false), ("clear-note", true)] {
        assert_eq!(holds(&bytes, text), there, "{text}");
    }
    let (_, checkpoint) = opened(&office, Vec::new()).await;
    assert_eq!(checkpoint.note("snapshot.person"), Some(STATE));
    // By a sink that has no key it is not taken for none.
    let error = office.sink().open(&lane()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Denied, "{error}");
}

#[tokio::test]
async fn i3_what_is_refused_of_a_sealed_stream_is_quarantined_without_a_word_in_clear() {
    let office = office();
    let (mut sink, _) = opened(&office, Vec::new()).await;
    let long = office.change(1, Op::Insert, 990_000, "五个字的名");
    let refused = sink.commit(&batch(0, 1, vec![long], 1)).await.unwrap();
    assert_eq!(refused.lasting, 1);
    let [kept] = &records(&office, "gongan.person.quarantine", 0).await[..] else { panic!("one record") };
    let value = kept.value.as_ref().unwrap();
    assert!(!holds(value, "990000") && !holds(value, "五个字"), "nothing of the row in clear");
    assert!(kept.key.is_some(), "its record key");
}

#[tokio::test]
async fn i5_a_source_opens_by_its_key_and_without_one_it_does_not_begin() {
    let office = office();
    let (mut sink, _) = opened(&office, vec![reader("renshe", 2)]).await;
    let changes = vec![
        office.change(1, Op::Insert, 7, "甲"),
        office.change(1, Op::Update, 7, "乙"),
        office.change(1, Op::Delete, 7, ""),
        office.change(1, Op::Truncate, 0, ""),
    ];
    sink.commit(&batch(0, 1, changes, 1)).await.unwrap();
    for (own, grant) in [(1, None), (2, Some("renshe"))] {
        let (mut letters, mut names) = (Vec::new(), Vec::new());
        for partition in 0..PARTITIONS {
            let mut source = source(&office, partition, own, grant);
            source.open(&Checkpoint::default()).await.unwrap();
            for batch in drain(&mut source, &mut Checkpoint::default()).await.unwrap() {
                assert!(batch.rejected.is_empty(), "{:?}", batch.rejected);
                for change in batch.changes.iter().filter(|change| change.op != Op::Truncate) {
                    assert_eq!(change.key(), Some(vec![Value::Integer(7)]), "{:?}", change.op);
                    letters.push(change.op.letter());
                    names.extend(change.after.iter().filter_map(|row| row[1].as_text().map(str::to_owned)));
                }
            }
        }
        assert_eq!((letters.concat().as_str(), names.concat().as_str()), ("cud", "甲乙"), "{grant:?}");
    }
    let error = office.source(0).open(&Checkpoint::default()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Denied, "{error}");
}

#[tokio::test]
async fn i5_a_new_epoch_is_found_by_running_lanes_and_shuts_the_revoked_out() {
    let office = office();
    let (mut sink, _) = opened(&office, vec![reader("renshe", 2)]).await;
    let every = |at: u64| (0..30).map(|id| office.change(at, Op::Insert, id, "甲")).collect::<Vec<_>>();
    sink.commit(&batch(0, 1, every(1), 1)).await.unwrap();
    let (mut owners, mut granted) = (source(&office, 0, 1, None), source(&office, 0, 2, Some("renshe")));
    let (mut first, mut second) = (Checkpoint::default(), Checkpoint::default());
    let rows =
        |batches: &[hutong_core::Batch]| batches.iter().map(|batch| batch.changes.len()).sum::<usize>();
    let mut read = 0;
    for (source, checkpoint) in [(&mut owners, &mut first), (&mut granted, &mut second)] {
        source.open(checkpoint).await.unwrap();
        read = rows(&drain(source, checkpoint).await.unwrap());
        assert!(read > 0);
    }

    let (mut sink, checkpoint) = opened(&office, Vec::new()).await;
    assert_eq!(checkpoint.note(&format!("seal.epoch.{TOPIC}")), Some("2"));
    sink.commit(&batch(1, 2, every(2), 1)).await.unwrap();

    assert_eq!(rows(&drain(&mut owners, &mut first).await.unwrap()), read, "it goes on in the new epoch");
    let error = drain(&mut granted, &mut second).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("epoch 2"), "{error}");
}

/// How many records each of two keys opens in a partition, until it meets one that it does not.
async fn opens(office: &Office, own: u8, grant: Option<&str>) -> Result<usize, String> {
    let mut rows = 0;
    for partition in 0..PARTITIONS {
        let mut source = source(office, partition, own, grant);
        source.open(&Checkpoint::default()).await.unwrap();
        let batches = drain(&mut source, &mut Checkpoint::default()).await.map_err(|e| e.to_string())?;
        rows += batches.iter().map(|batch| batch.changes.len()).sum::<usize>();
    }
    Ok(rows)
}

#[tokio::test]
async fn i5_a_lane_that_runs_wraps_its_key_for_a_new_grant_and_seals_by_another_when_one_is_over() {
    let office = office();
    let (mut sink, _) = opened(&office, Vec::new()).await;
    let change = |at: u64| vec![office.change(at, Op::Insert, at as i64, "甲")];
    let readers = |grants: &[(&str, u8)]| {
        let readers = grants.iter().map(|(grant, by)| reader(grant, *by)).collect();
        BTreeMap::from([("person".to_owned(), readers)])
    };
    sink.commit(&batch(0, 1, change(1), 1)).await.unwrap();
    assert!(opens(&office, 2, Some("renshe")).await.unwrap_err().contains("epoch 1"));

    sink.entrust(&readers(&[("renshe", 2), ("minzheng", 3)])).await.unwrap();
    assert_eq!(opens(&office, 2, Some("renshe")).await, Ok(1), "what was written before, too");
    sink.commit(&batch(1, 2, change(2), 1)).await.unwrap();
    assert_eq!(opens(&office, 2, Some("renshe")).await, Ok(2));

    sink.entrust(&readers(&[("minzheng", 3)])).await.unwrap();
    sink.commit(&batch(2, 3, change(3), 1)).await.unwrap();
    assert!(opens(&office, 2, Some("renshe")).await.unwrap_err().contains("epoch 2"));
    for (own, grant) in [(1, None), (3, Some("minzheng"))] {
        assert_eq!(opens(&office, own, grant).await, Ok(3), "{grant:?}");
    }
    // The same again writes nothing, and the next opening goes on under the new epoch.
    let keys = keys::topic("hutong", "gongan");
    let written = records(&office, &keys, 0).await.len();
    sink.entrust(&readers(&[("minzheng", 3)])).await.unwrap();
    assert_eq!(records(&office, &keys, 0).await.len(), written);
    let (_, checkpoint) = opened(&office, vec![reader("minzheng", 3)]).await;
    assert_eq!(checkpoint.note(&format!("seal.epoch.{TOPIC}")), Some("2"));
    assert_eq!(records(&office, &keys, 0).await.len(), written);
}

#[tokio::test]
async fn i7_a_new_epoch_whose_answer_was_lost_is_found_by_the_next_opening() {
    let office = office();
    let (mut sink, _) = opened(&office, vec![reader("renshe", 2)]).await;
    sink.commit(&batch(0, 1, vec![office.change(1, Op::Insert, 1, "甲")], 1)).await.unwrap();
    office.lose.store(true, Ordering::Relaxed);
    sink.entrust(&BTreeMap::new()).await.unwrap_err();
    sink.commit(&batch(1, 2, Vec::new(), 1)).await.unwrap_err();
    let (mut sink, checkpoint) = opened(&office, Vec::new()).await;
    assert_eq!(checkpoint.note(&format!("seal.epoch.{TOPIC}")), Some("2"));
    assert_eq!(checkpoint.position("wal"), hutong_core::Position::wal(0, 1, 0, 0));
    sink.commit(&batch(1, 2, vec![office.change(2, Op::Insert, 1, "乙")], 1)).await.unwrap();
    assert!(opens(&office, 2, Some("renshe")).await.unwrap_err().contains("epoch 2"));
    assert_eq!(opens(&office, 1, None).await, Ok(2));
}

#[tokio::test(start_paused = true)]
async fn a_capture_whose_owners_key_is_another_one_halts_and_names_the_key_that_it_needs() {
    let office = office();
    let _ = opened(&office, Vec::new()).await;
    let sealing = Sealing { owner: key(9), readers: Vec::new() };
    let mut sink = office.sink().sealing(BTreeMap::from([("person".to_owned(), sealing)]));
    let error = sink.open(&lane()).await.unwrap_err();
    assert_eq!((error.kind, error.class()), (ErrorKind::Denied, hutong_core::Class::Halt), "{error}");
    let told = error.to_string();
    for part in [TOPIC, "hutong.keys.gongan", &key(1).public().to_string(), &key(9).public().to_string()] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(error.hint.unwrap().contains("put the file of the owner's sealing key back"));
}
