//! The quarantine record of a capture: what could not go into a topic, with the reason (I3).
//!
//! Its form is `schemas/hutong_quarantine.avsc`.

use bytes::{Bytes, BytesMut};
use hutong_core::{Change, Error, ErrorKind, RecordTrace, Rejected, Result, Value, hexadecimal};
use serde_json::{Map, Value as Json};
use sha2::{Digest, Sha256};

use crate::binary::{Fault, Input, put_bytes, put_long, put_null, put_some};
use crate::framing;
use crate::log::Incoming;

/// The schema of the record, as it is registered.
pub const SCHEMA: &str = include_str!("../../../schemas/hutong_quarantine.avsc");

const VERSION: i64 = 1;

/// Returns the name of a topic's quarantine: `<owner>.<stream>.quarantine`, shared by its generations.
pub fn topic(change_topic: &str) -> String {
    format!("{}.quarantine", stem(change_topic))
}

/// Returns what the generations of a topic share: its name without the generation.
pub(crate) fn stem(topic: &str) -> &str {
    match topic.rsplit_once(".v") {
        Some((stem, generation)) if generation.bytes().all(|b| b.is_ascii_digit()) => stem,
        _ => topic,
    }
}

/// Encodes a record, framed with the id of its registered schema.
pub(crate) fn encode(
    schema_id: u32,
    lane: &str,
    rejected: &Rejected,
    at_us: i64,
    envelope: Option<&Bytes>,
    key: Option<&str>,
) -> Bytes {
    let mut out = BytesMut::new();
    out.extend_from_slice(&framing::head(schema_id));
    put_long(&mut out, VERSION);
    for text in [lane, &rejected.stream, rejected.rule, &rejected.reason, &rejected.position.to_string()] {
        put_bytes(&mut out, text.as_bytes());
    }
    put_long(&mut out, at_us);
    match envelope {
        Some(bytes) => {
            put_some(&mut out);
            put_bytes(&mut out, bytes);
        }
        None => put_null(&mut out),
    }
    match &rejected.record {
        Some(trace) => {
            put_some(&mut out);
            put_bytes(&mut out, trace.topic.as_bytes());
            put_long(&mut out, trace.partition.into());
            put_long(&mut out, trace.offset as i64);
            match trace.schema_id {
                Some(id) => {
                    put_some(&mut out);
                    put_long(&mut out, id.into());
                }
                None => put_null(&mut out),
            }
            put_bytes(&mut out, trace.digest.as_bytes());
        }
        None => put_null(&mut out),
    }
    match key {
        Some(text) => {
            put_some(&mut out);
            put_bytes(&mut out, text.as_bytes());
        }
        None => put_null(&mut out),
    }
    out.freeze()
}

/// Returns the key of the row that a change speaks of, as JSON; `None` when nothing of it is known.
///
/// For a person: what JSON has no form for stands as Hutong's own number (days, microseconds) or text.
pub(crate) fn key_text(change: &Change) -> Option<String> {
    let row = change.after.as_ref().or(change.before.row())?;
    let fields = change.contract.key.iter().filter_map(|&i| {
        let name = &change.contract.fields.get(i)?.name;
        Some((name.clone(), row.get(i).filter(|value| !value.is_unknown()).map(json)?))
    });
    let fields: Map<String, Json> = fields.collect();
    (!fields.is_empty()).then(|| Json::Object(fields).to_string())
}

fn json(value: &Value) -> Json {
    match value {
        Value::Unknown | Value::Null => Json::Null,
        Value::Boolean(truth) => (*truth).into(),
        Value::Integer(number)
        | Value::Time(number)
        | Value::Timestamp(number)
        | Value::TimestampTz(number) => (*number).into(),
        Value::Float(number) => f64::from(*number).into(),
        Value::Double(number) => (*number).into(),
        Value::Decimal(number) => number.to_string().into(),
        Value::Text(text) => (**text).into(),
        Value::Bytes(bytes) => hexadecimal::text(bytes).into(),
        Value::Date(days) => (*days).into(),
        Value::Array(items) => items.iter().map(json).collect(),
    }
}

/// What a quarantine record says, without the change itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The lane that set it aside.
    pub lane: String,
    /// The rule.
    pub rule: String,
    /// Why, in words.
    pub reason: String,
    /// Its position in the lane's source, hexadecimal.
    pub position: String,
    /// When it was set aside, microseconds since 1970 UTC.
    pub at_us: i64,
    /// The framed envelope, when the change could be written.
    pub envelope: Option<Bytes>,
    /// The record that did not decode.
    pub record: Option<RecordTrace>,
    /// The key of the row that it speaks of, as JSON; `None` when it is not known or too large.
    pub key: Option<String>,
}

/// Reads a quarantine record. `Err(Malformed)` for anything else, and for a newer version of it.
pub fn decode(value: &Bytes) -> Result<Kept> {
    let (_, body) = framing::split(value)?;
    read(&mut Input::new(&body))
        .map_err(|why| Error::new(ErrorKind::Malformed, "read a quarantine record", why))
}

fn read(input: &mut Input<'_>) -> std::result::Result<Kept, Fault> {
    if input.long()? != VERSION {
        return Err("it has a version that this program does not know");
    }
    let mut text = || input.str().map(str::to_owned);
    let (lane, _stream, rule, reason, position) = (text()?, text()?, text()?, text()?, text()?);
    let at_us = input.long()?;
    let envelope = if some(input)? { Some(input.bytes()?) } else { None };
    let record = if some(input)? { Some(trace(input)?) } else { None };
    // The first records of this version end here.
    let key = if input.left() > 0 && some(input)? { Some(input.str()?.to_owned()) } else { None };
    input.finish()?;
    Ok(Kept { lane, rule, reason, position, at_us, envelope, record, key })
}

fn trace(input: &mut Input<'_>) -> std::result::Result<RecordTrace, Fault> {
    let narrow = |n: i64| u32::try_from(n).map_err(|_| "a number is not of 32 bits");
    Ok(RecordTrace {
        topic: input.str()?.to_owned(),
        partition: narrow(input.long()?)?,
        offset: u64::try_from(input.long()?).map_err(|_| "an offset is below zero")?,
        schema_id: if some(input)? { Some(narrow(input.long()?)?) } else { None },
        digest: input.str()?.to_owned(),
    })
}

/// Reads which branch of `["null", T]` follows.
fn some(input: &mut Input<'_>) -> std::result::Result<bool, Fault> {
    match input.index()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err("a union has no such branch"),
    }
}

/// Returns what may be told of a record that cannot be read: where it stands, its schema and its digest.
pub fn trace_of(topic: &str, partition: u32, record: &Incoming) -> RecordTrace {
    let value = record.value.as_deref().unwrap_or_default();
    RecordTrace {
        topic: topic.to_owned(),
        partition,
        offset: record.offset,
        schema_id: framing::id(value),
        digest: hexadecimal::text(&Sha256::digest(value)),
    }
}

#[cfg(test)]
mod tests {
    use hutong_core::Position;

    use super::*;
    use crate::oracle;

    const KEY: &str = r#"{"id":1}"#;

    #[test]
    fn i3_is_what_its_schema_says() {
        let trace = RecordTrace {
            topic: "t".into(),
            partition: 1,
            offset: 2,
            schema_id: Some(3),
            digest: "00".into(),
        };
        let rejected = Rejected {
            rule: "decode",
            reason: "it ends too early".into(),
            position: Position::offset(2),
            stream: "s".into(),
            change: None,
            record: Some(trace),
        };
        let bytes =
            encode(5, "capture.a.0", &rejected, 1, Some(&Bytes::from_static(b"\0\0\0\0\x01x")), Some(KEY));
        let read = oracle::read(SCHEMA, &bytes[framing::HEAD..]);
        assert!(format!("{read:?}").contains("it ends too early"));
        let kept = decode(&bytes).unwrap();
        assert_eq!((kept.lane.as_str(), kept.rule.as_str(), kept.at_us), ("capture.a.0", "decode", 1));
        assert_eq!(kept.envelope, Some(Bytes::from_static(b"\0\0\0\0\x01x")));
        assert_eq!(kept.record, rejected.record);
        assert_eq!(kept.key.as_deref(), Some(KEY));
        let first_form = bytes.len() - KEY.len() - 2;
        for end in (0..bytes.len()).filter(|end| *end != first_form) {
            assert_eq!(decode(&bytes.slice(..end)).unwrap_err().kind, ErrorKind::Malformed);
        }
        assert_eq!(decode(&bytes.slice(..first_form)).unwrap(), Kept { key: None, ..kept });
    }

    #[test]
    fn generations_share_a_topic() {
        assert_eq!(topic("gongan.population_base.v1"), "gongan.population_base.quarantine");
        assert_eq!(topic("gongan.vital"), "gongan.vital.quarantine");
    }
}
