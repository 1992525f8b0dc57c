//! The checkpoint record: where a lane stands, and how fresh its topics are.
//!
//! Written by [`crate::TopicSink`] in the transaction of its data (I2), read back by the next owner, and read by
//! every [`crate::TopicSource`] of its topics as a watermark. The form is `schemas/hutong_checkpoint.avsc`.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use hutong_core::checkpoint::INCARNATION;
use hutong_core::{Checkpoint, Error, ErrorKind, Result};

use crate::binary::{Fault, Input, put_bytes, put_long, put_null, put_some};
use crate::framing;

/// The schema of the record, as it is registered.
pub const SCHEMA: &str = include_str!("../../../schemas/hutong_checkpoint.avsc");

/// The form that this program writes, and the newest that it reads.
const VERSION: i64 = 1;

/// A lane's checkpoint with the watermark of its topics.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Watermark {
    /// The lane.
    pub lane: String,
    /// Where it stands.
    pub checkpoint: Checkpoint,
    /// Everything that the source had committed before this time (microseconds since 1970 UTC) stands before `ends`.
    pub as_of_us: Option<i64>,
    /// `<topic>/<partition>` to the offset behind the last record.
    pub ends: BTreeMap<String, u64>,
}

/// Returns the name under which `ends`, bases and checkpoints know a partition of a topic.
pub fn partition_key(topic: &str, partition: u32) -> String {
    format!("{topic}/{partition}")
}

/// Returns the name of the note that holds where a partition's base begins.
pub fn base_note(topic: &str, partition: u32) -> String {
    format!("base.{topic}/{partition}")
}

/// Returns the name of the note that holds the schema of a topic's keys: its id and its digest.
pub(crate) fn schema_note(topic: &str) -> String {
    format!("schema.{topic}")
}

/// Returns the name of the note by which a topic's readers know that it is the one that they began to read.
pub fn incarnation_note(topic: &str) -> String {
    format!("{INCARNATION}{topic}")
}

impl Watermark {
    /// Returns the offset at which a partition's base begins, when the capture has noted one.
    pub fn base(&self, topic: &str, partition: u32) -> Option<u64> {
        self.checkpoint.note(&base_note(topic, partition))?.parse().ok()
    }

    /// Returns the incarnation of a topic, when the capture has noted one.
    pub fn incarnation(&self, topic: &str) -> Option<&str> {
        self.checkpoint.note(&incarnation_note(topic))
    }

    /// Encodes the record, framed with the id of its registered schema.
    pub fn encode(&self, schema_id: u32) -> Bytes {
        let mut out = BytesMut::new();
        out.extend_from_slice(&framing::head(schema_id));
        put_long(&mut out, VERSION);
        put_bytes(&mut out, self.lane.as_bytes());
        put_map(&mut out, &self.checkpoint.positions, |out, p| put_bytes(out, p.to_string().as_bytes()));
        put_map(&mut out, &self.checkpoint.notes, |out, note| put_bytes(out, note.as_bytes()));
        match self.as_of_us {
            Some(us) => {
                put_some(&mut out);
                put_long(&mut out, us);
            }
            None => put_null(&mut out),
        }
        put_map(&mut out, &self.ends, |out, end| put_long(out, *end as i64));
        out.freeze()
    }

    /// Decodes a record. `Err(Broken)` when it was written by a newer Hutong or is damaged: it is never guessed.
    pub fn decode(record: &Bytes) -> Result<Self> {
        let doing = "read a checkpoint record";
        let (_, body) = framing::split(record).map_err(|e| {
            Error::new(ErrorKind::Broken, doing, e.why()).hint("look at the checkpoint topic")
        })?;
        Self::read(&body).map_err(|why| {
            Error::new(ErrorKind::Broken, doing, why)
                .hint("run the version of Hutong that wrote it, or look at the checkpoint topic")
        })
    }

    fn read(body: &Bytes) -> std::result::Result<Self, Fault> {
        let mut input = Input::new(body);
        if input.int()? != VERSION as i32 {
            return Err("it has a version that this program does not know");
        }
        let lane = input.str()?.to_owned();
        let positions = read_map(&mut input, |input| input.str()?.parse().map_err(|_| "a position is none"))?;
        let notes = read_map(&mut input, |input| input.str().map(str::to_owned))?;
        let as_of_us = match input.index()? {
            0 => None,
            1 => Some(input.long()?),
            _ => return Err("a union has no such branch"),
        };
        let ends =
            read_map(&mut input, |input| u64::try_from(input.long()?).map_err(|_| "an offset is negative"))?;
        input.finish()?;
        Ok(Self { lane, checkpoint: Checkpoint { positions, notes }, as_of_us, ends })
    }
}

fn put_map<T>(out: &mut BytesMut, map: &BTreeMap<String, T>, put: impl Fn(&mut BytesMut, &T)) {
    if !map.is_empty() {
        put_long(out, map.len() as i64);
        for (name, value) in map {
            put_bytes(out, name.as_bytes());
            put(out, value);
        }
    }
    put_long(out, 0);
}

fn read_map<'a, T>(
    input: &mut Input<'a>,
    read: impl Fn(&mut Input<'a>) -> std::result::Result<T, Fault>,
) -> std::result::Result<BTreeMap<String, T>, Fault> {
    let mut map = BTreeMap::new();
    loop {
        let count = input.block()?;
        if count == 0 {
            return Ok(map);
        }
        for _ in 0..count {
            let name = input.str()?.to_owned();
            map.insert(name, read(input)?);
        }
    }
}

#[cfg(test)]
mod tests {
    use apache_avro::types::Value as Avro;
    use hutong_core::Position;

    use super::*;
    use crate::oracle;

    fn example() -> Watermark {
        Watermark {
            lane: "capture.gongan.0".into(),
            checkpoint: Checkpoint {
                positions: [("wal".to_owned(), Position::wal(0, 7, 8, 1))].into(),
                notes: [(base_note("t", 3), "41".to_owned()), ("n".to_owned(), "登记".to_owned())].into(),
            },
            as_of_us: Some(1_767_225_600_000_000),
            ends: [(partition_key("t", 3), 44)].into(),
        }
    }

    #[test]
    fn i2_round_trips_and_is_what_its_schema_says() {
        let watermark = example();
        let bytes = watermark.encode(9);
        assert_eq!(Watermark::decode(&bytes).unwrap(), watermark);
        assert_eq!(watermark.base("t", 3), Some(41));
        let Avro::Record(fields) = oracle::read(SCHEMA, &bytes[framing::HEAD..]) else { panic!("a record") };
        assert_eq!(fields[1].1, Avro::String("capture.gongan.0".into()));
    }

    #[test]
    fn every_cut_and_a_newer_version_are_errors() {
        let bytes = example().encode(9);
        for end in 0..bytes.len() {
            assert_eq!(Watermark::decode(&bytes.slice(..end)).unwrap_err().kind, ErrorKind::Broken);
        }
        let mut newer = bytes.to_vec();
        newer[framing::HEAD] = 4;
        let error = Watermark::decode(&newer.into()).unwrap_err();
        assert!(error.to_string().contains("version"), "{error}");
    }
}
