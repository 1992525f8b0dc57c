//! What the two halves of a comparison say to each other, in a topic of one partition: `<bus>.verify.<subscription>`.
//!
//! The form is `schemas/hutong_verify.avsc`. Knows the words; nothing of what is compared.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use hutong_core::{Error, ErrorKind, Result};

use crate::binary::{Fault, Input, put_bytes, put_long};
use crate::framing;

/// The schema of the record, as it is registered.
pub const SCHEMA: &str = include_str!("../../../schemas/hutong_verify.avsc");

/// The form that this program writes, and the newest that it reads.
const VERSION: i64 = 2;

/// Returns the name of the topic in which a subscription's halves speak.
pub fn topic(bus: &str, subscription: &str) -> String {
    format!("{bus}.verify.{subscription}")
}

/// One word; what its kind does not need is empty.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Word {
    /// The comparison that it belongs to.
    pub session: String,
    /// The question's number in it.
    pub number: u64,
    /// `ask`, `told`, `mend`, `mended` or `failed`. Of `told` there may be several that are one answer.
    pub word: String,
    /// `ranges`, `within` or `keys`.
    pub about: String,
    /// The mark of the grant by which a question is to be answered.
    pub mark: String,
    /// Fields that are not compared, by wire name.
    pub skip: Vec<String>,
    /// Whether transactions that run now must end before the table is read.
    pub settled: bool,
    /// The ranges that are asked about, packed.
    pub ranges: Bytes,
    /// The digests of the keys that are asked about, packed.
    pub keys: Bytes,
    /// How many rows there are.
    pub rows: u64,
    /// How many are set aside whose key is not known.
    pub unknown: u64,
    /// Partition to the end of the topic before the table was read.
    pub begins: BTreeMap<u32, u64>,
    /// Partition to the place behind everything that was read.
    pub ends: BTreeMap<u32, u64>,
    /// The sums of ranges, packed.
    pub sums: Bytes,
    /// The digests of rows, packed.
    pub digests: Bytes,
    /// What is known of rows that were asked for by key.
    pub details: Vec<Detail>,
    /// Digest of a key that waits, and the rule.
    pub asides: Vec<(Bytes, String)>,
    /// The keys whose rows are to be sent again.
    pub mend: Vec<String>,
    /// Why it failed.
    pub problem: String,
    /// What a person may do.
    pub hint: String,
    /// Who answers: the parts of one answer have one.
    pub by: String,
    /// Which part of the answer it is, counted from 0.
    pub part: u64,
    /// How many parts the answer has.
    pub parts: u64,
}

/// What is known of one row.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Detail {
    /// The digest of its key.
    pub digest: Bytes,
    /// The digest of each field.
    pub fields: Vec<u64>,
    /// Its key in the replica, as JSON.
    pub key: String,
}

impl Word {
    /// Encodes the record, framed with the id of its registered schema.
    pub fn encode(&self, schema_id: u32) -> Bytes {
        let mut out = BytesMut::new();
        out.extend_from_slice(&framing::head(schema_id));
        put_long(&mut out, VERSION);
        put_text(&mut out, &self.session);
        put_long(&mut out, self.number as i64);
        for text in [&self.word, &self.about, &self.mark] {
            put_text(&mut out, text);
        }
        put_list(&mut out, &self.skip, |out, name| put_text(out, name));
        out.extend_from_slice(&[u8::from(self.settled)]);
        put_bytes(&mut out, &self.ranges);
        put_bytes(&mut out, &self.keys);
        put_long(&mut out, self.rows as i64);
        put_long(&mut out, self.unknown as i64);
        for places in [&self.begins, &self.ends] {
            let places: Vec<_> = places.iter().collect();
            put_list(&mut out, &places, |out, (partition, place)| {
                put_text(out, &partition.to_string());
                put_long(out, **place as i64);
            });
        }
        put_bytes(&mut out, &self.sums);
        put_bytes(&mut out, &self.digests);
        put_list(&mut out, &self.details, |out, detail| {
            put_bytes(out, &detail.digest);
            put_list(out, &detail.fields, |out, field| put_long(out, *field as i64));
            put_text(out, &detail.key);
        });
        put_list(&mut out, &self.asides, |out, (digest, rule)| {
            put_bytes(out, digest);
            put_text(out, rule);
        });
        put_list(&mut out, &self.mend, |out, key| put_text(out, key));
        put_text(&mut out, &self.problem);
        put_text(&mut out, &self.hint);
        put_text(&mut out, &self.by);
        put_long(&mut out, self.part as i64);
        put_long(&mut out, self.parts as i64);
        out.freeze()
    }

    /// Decodes a record. `Err(Broken)` when it was written by a newer Hutong or is damaged: it is never guessed.
    pub fn decode(record: &Bytes) -> Result<Self> {
        let doing = "read a word of a comparison";
        let (_, body) = framing::split(record).map_err(|e| Error::new(ErrorKind::Broken, doing, e.why()))?;
        Self::read(&body).map_err(|why| {
            Error::new(ErrorKind::Broken, doing, why).hint("run the version of Hutong that wrote it")
        })
    }

    fn read(body: &Bytes) -> std::result::Result<Self, Fault> {
        let mut input = Input::new(body);
        if input.int()? != VERSION as i32 {
            return Err("it has a version that this program does not know");
        }
        let word = Self {
            session: text(&mut input)?,
            number: count(&mut input)?,
            word: text(&mut input)?,
            about: text(&mut input)?,
            mark: text(&mut input)?,
            skip: list(&mut input, text)?,
            settled: input.boolean()?,
            ranges: input.bytes()?,
            keys: input.bytes()?,
            rows: count(&mut input)?,
            unknown: count(&mut input)?,
            begins: list(&mut input, place)?.into_iter().collect(),
            ends: list(&mut input, place)?.into_iter().collect(),
            sums: input.bytes()?,
            digests: input.bytes()?,
            details: list(&mut input, |input| {
                Ok(Detail {
                    digest: input.bytes()?,
                    fields: list(input, |input| input.long().map(|n| n as u64))?,
                    key: text(input)?,
                })
            })?,
            asides: list(&mut input, |input| Ok((input.bytes()?, text(input)?)))?,
            mend: list(&mut input, text)?,
            problem: text(&mut input)?,
            hint: text(&mut input)?,
            by: text(&mut input)?,
            part: count(&mut input)?,
            parts: count(&mut input)?,
        };
        input.finish()?;
        Ok(word)
    }
}

fn put_text(out: &mut BytesMut, text: &str) {
    put_bytes(out, text.as_bytes());
}

fn put_list<T>(out: &mut BytesMut, items: &[T], put: impl Fn(&mut BytesMut, &T)) {
    if !items.is_empty() {
        put_long(out, items.len() as i64);
        items.iter().for_each(|item| put(out, item));
    }
    put_long(out, 0);
}

fn text(input: &mut Input<'_>) -> std::result::Result<String, Fault> {
    input.str().map(str::to_owned)
}

fn count(input: &mut Input<'_>) -> std::result::Result<u64, Fault> {
    u64::try_from(input.long()?).map_err(|_| "a number is negative")
}

fn place(input: &mut Input<'_>) -> std::result::Result<(u32, u64), Fault> {
    let partition = input.str()?.parse().map_err(|_| "a partition is no number")?;
    Ok((partition, count(input)?))
}

fn list<'a, T>(
    input: &mut Input<'a>,
    read: impl Fn(&mut Input<'a>) -> std::result::Result<T, Fault>,
) -> std::result::Result<Vec<T>, Fault> {
    let mut items = Vec::new();
    loop {
        let count = input.block()?;
        if count == 0 {
            return Ok(items);
        }
        for _ in 0..count {
            items.push(read(input)?);
        }
    }
}

#[cfg(test)]
mod tests {
    use apache_avro::types::Value as Avro;

    use super::*;
    use crate::oracle;

    fn example() -> Word {
        Word {
            session: "s".into(),
            number: 3,
            word: "told".into(),
            about: "keys".into(),
            mark: "m".into(),
            skip: vec!["json".into()],
            settled: true,
            ranges: Bytes::from_static(&[0, 1]),
            keys: Bytes::from_static(&[7; 16]),
            rows: 9,
            unknown: 1,
            begins: [(0, 4), (1, 0)].into(),
            ends: [(0, 5)].into(),
            sums: Bytes::from_static(&[1; 26]),
            digests: Bytes::from_static(&[2; 32]),
            details: vec![Detail {
                digest: Bytes::from_static(&[3; 16]),
                fields: vec![0, u64::MAX],
                key: "[1]".into(),
            }],
            asides: vec![(Bytes::from_static(&[4; 16]), "check".into())],
            mend: vec!["[1]".into()],
            problem: "为何".into(),
            hint: "h".into(),
            by: "b".into(),
            part: 1,
            parts: 3,
        }
    }

    #[test]
    fn round_trips_and_is_what_its_schema_says() {
        let word = example();
        let bytes = word.encode(9);
        assert_eq!(Word::decode(&bytes).unwrap(), word);
        let Avro::Record(fields) = oracle::read(SCHEMA, &bytes[framing::HEAD..]) else { panic!("a record") };
        assert_eq!(fields[1].1, Avro::String("s".into()));
        assert_eq!(fields.last().unwrap().1, Avro::Long(3));
        assert_eq!(Word::decode(&Word::default().encode(9)).unwrap(), Word::default());
    }

    #[test]
    fn every_cut_and_a_newer_version_are_errors() {
        let bytes = example().encode(9);
        for end in 0..bytes.len() {
            assert_eq!(Word::decode(&bytes.slice(..end)).unwrap_err().kind, ErrorKind::Broken);
        }
        let mut newer = bytes.to_vec();
        newer[framing::HEAD] = 6;
        assert!(Word::decode(&newer.into()).unwrap_err().to_string().contains("version"));
    }
}
