//! Changes into envelopes: Avro's binary form written straight from a contract.
//!
//! Knows nothing of topics and partitions. A differential test against `apache-avro` keeps it honest.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use hutong_core::seal::Sealer;
use hutong_core::{Before, Change, Contract, Error, ErrorKind, Field, Op, Origin, Position, Result, Value};

use super::seal::Seal;
use super::value;
use crate::binary::{put_bytes, put_long, put_null, put_some};
use crate::framing;

/// The form's version in `source.version`: Hutong's own.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// How much is allocated at once: what `bytes` takes at the most when a buffer must grow again.
const BUFFER_BYTES: usize = 1 << 16;

/// A framed record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// The key; `None` for a truncate.
    pub key: Option<Bytes>,
    /// The envelope.
    pub value: Bytes,
}

/// Where a row may hold NULL. On the wire every field but the key's may; NOT NULL is the contract's word.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Nulls {
    AsTheContractSays,
    Everywhere,
}

/// Writes the changes of one topic.
pub struct Encoder {
    contract: Arc<Contract>,
    /// `Some` when a column is sealed.
    seal: Option<Seal>,
    key_head: [u8; framing::HEAD],
    value_head: [u8; framing::HEAD],
    // Records are cut off its front, so that a batch shares few allocations.
    buffer: BytesMut,
}

impl Encoder {
    /// Makes the encoder of a topic from its contract and the ids of its registered schemas.
    pub fn new(contract: Arc<Contract>, key_id: u32, value_id: u32) -> Self {
        Self {
            seal: contract.seals().then(|| Seal::new(&contract)),
            contract,
            key_head: framing::head(key_id),
            value_head: framing::head(value_id),
            buffer: BytesMut::with_capacity(BUFFER_BYTES),
        }
    }

    /// Gives it what seals the values of sealed columns; without it, it encodes nothing of such a contract.
    #[must_use]
    pub fn sealing(mut self, sealer: Sealer) -> Self {
        self.reseal(sealer);
        self
    }

    /// Gives it what seals from now on: another epoch has begun.
    pub fn reseal(&mut self, sealer: Sealer) {
        if let Some(seal) = &mut self.seal {
            seal.sealer = Some(sealer);
        }
    }

    /// Returns the contract that it writes.
    pub fn contract(&self) -> &Arc<Contract> {
        &self.contract
    }

    /// Encodes a change; `captured_us` is the writer's clock, microseconds since 1970 UTC.
    ///
    /// I6: `Err(Refused)` names the field whose value does not fit its type exactly, never the value.
    pub fn encode(&mut self, change: &Change, captured_us: i64) -> Result<Encoded> {
        self.encode_with(change, captured_us, Nulls::AsTheContractSays)
    }

    /// Encodes a change that was refused, for its quarantine: a NULL that the contract forbids stands as NULL.
    /// Everything else is as exact as in [`Encoder::encode`].
    pub fn encode_refused(&mut self, change: &Change, captured_us: i64) -> Result<Encoded> {
        self.encode_with(change, captured_us, Nulls::Everywhere)
    }

    /// Encodes the key of a change whose row cannot be encoded; `None` when the key cannot be either.
    pub fn encode_key(&mut self, change: &Change) -> Option<Bytes> {
        let key = if change.op == Op::Truncate { None } else { self.key(change).ok() };
        self.buffer.clear();
        key
    }

    fn encode_with(&mut self, change: &Change, captured_us: i64, nulls: Nulls) -> Result<Encoded> {
        let encoded = self.attempt(change, captured_us, nulls).map_err(|why| {
            Error::new(ErrorKind::Refused, format!("encode a change of {}", self.contract.stream), why)
        });
        // What a refused change has left behind belongs to no record.
        self.buffer.clear();
        encoded
    }

    fn attempt(
        &mut self,
        change: &Change,
        captured_us: i64,
        nulls: Nulls,
    ) -> std::result::Result<Encoded, String> {
        let key = match change.op {
            Op::Truncate => None,
            _ => Some(self.key(change)?),
        };
        let Some(seal) = &mut self.seal else {
            let contract = Arc::clone(&self.contract);
            return self.write(&contract, change, key, captured_us, nulls);
        };
        let record_key = key.as_ref().and_then(|key| key.get(framing::HEAD..)).unwrap_or_default();
        let (contract, sealed) = seal.change(change, record_key, nulls == Nulls::AsTheContractSays)?;
        self.write(&contract, &sealed, key, captured_us, nulls)
    }

    fn write(
        &mut self,
        contract: &Contract,
        change: &Change,
        key: Option<Bytes>,
        captured_us: i64,
        nulls: Nulls,
    ) -> std::result::Result<Encoded, String> {
        let out = &mut self.buffer;
        out.extend_from_slice(&self.value_head);
        let before = before(out, contract, &change.before)?;
        match (&change.after, change.op) {
            (None, Op::Delete | Op::Truncate) => put_null(out),
            (Some(row), Op::Read | Op::Insert | Op::Update) => {
                put_some(out);
                after(out, contract, row, nulls)?;
            }
            _ => return Err("its new row does not agree with what happened".into()),
        }
        source(out, contract, change, before);
        transaction(out, &change.origin);
        put_bytes(out, change.op.letter().as_bytes());
        times(out, captured_us);
        Ok(Encoded { key, value: self.buffer.split().freeze() })
    }

    fn key(&mut self, change: &Change) -> std::result::Result<Bytes, String> {
        let row = change.after.as_ref().or(change.before.row()).ok_or("its key is unknown")?;
        self.buffer.extend_from_slice(&self.key_head);
        let body = self.buffer.len();
        for &i in &self.contract.key {
            let field = &self.contract.fields[i];
            key_field(&mut self.buffer, field, row.get(i).unwrap_or(&Value::Unknown))?;
        }
        if let Some(seal) = &self.seal
            && let Some(digest) = seal.record_key(self.buffer.get(body..).unwrap_or_default())?
        {
            self.buffer.truncate(body);
            put_bytes(&mut self.buffer, &digest);
        }
        Ok(self.buffer.split().freeze())
    }
}

fn key_field(out: &mut BytesMut, field: &Field, value: &Value) -> std::result::Result<(), String> {
    match value {
        Value::Unknown => Err(format!("key field `{}` is unknown", field.name)),
        Value::Null => Err(format!("key field `{}` is NULL", field.name)),
        value => plain(out, field, value),
    }
}

pub(super) fn plain(out: &mut BytesMut, field: &Field, value: &Value) -> std::result::Result<(), String> {
    value::put(out, &field.ty, value)
        .map_err(|why| format!("field `{}` ({}): {why}", field.name, field.ty.name()))
}

fn after(
    out: &mut BytesMut,
    contract: &Contract,
    row: &[Value],
    nulls: Nulls,
) -> std::result::Result<(), String> {
    if row.len() != contract.fields.len() {
        return Err(format!("it has {} values, the contract {} fields", row.len(), contract.fields.len()));
    }
    for (i, (field, value)) in contract.fields.iter().zip(row).enumerate() {
        match value {
            value if contract.is_key(i) => key_field(out, field, value)?,
            // `source.unchanged` tells it apart from NULL.
            Value::Unknown => put_null(out),
            Value::Null if field.nullable || nulls == Nulls::Everywhere => put_null(out),
            Value::Null => return Err(format!("field `{}` is NULL, the contract says NOT NULL", field.name)),
            value => {
                put_some(out);
                plain(out, field, value)?;
            }
        }
    }
    Ok(())
}

/// Writes the old image and returns how much of it is known.
fn before(
    out: &mut BytesMut,
    contract: &Contract,
    before: &Before,
) -> std::result::Result<&'static str, String> {
    let (row, full) = match before {
        Before::None => {
            put_null(out);
            return Ok("none");
        }
        Before::Key(row) => (row, false),
        // An old row with a hole is not a full one, and on the wire a hole would read as NULL.
        Before::Full(row) => (row, !row.iter().any(Value::is_unknown)),
    };
    put_some(out);
    for (i, field) in contract.fields.iter().enumerate() {
        match row.get(i).unwrap_or(&Value::Unknown) {
            value if contract.is_key(i) => key_field(out, field, value)?,
            Value::Unknown | Value::Null => put_null(out),
            _ if !full => put_null(out),
            value => {
                put_some(out);
                plain(out, field, value)?;
            }
        }
    }
    Ok(if full { "full" } else { "key" })
}

/// Writes a time in milliseconds, microseconds and nanoseconds.
fn times(out: &mut BytesMut, us: i64) {
    put_optional(out, Some(us.div_euclid(1_000)));
    put_us_ns(out, us);
}

fn put_us_ns(out: &mut BytesMut, us: i64) {
    put_optional(out, Some(us));
    put_optional(out, us.checked_mul(1_000));
}

fn put_optional(out: &mut BytesMut, number: Option<i64>) {
    match number {
        Some(number) => {
            put_some(out);
            put_long(out, number);
        }
        None => put_null(out),
    }
}

fn source(out: &mut BytesMut, contract: &Contract, change: &Change, before: &str) {
    let (origin, place) = (&change.origin, &change.origin.place);
    put_bytes(out, VERSION.as_bytes());
    put_bytes(out, place.connector.as_bytes());
    put_bytes(out, place.name.as_bytes());
    put_long(out, origin.committed_us.div_euclid(1_000));
    // `snapshot` is [T, "null"]: T comes first.
    put_long(out, 0);
    put_bytes(out, if change.op == Op::Read { b"true" } else { b"false" });
    put_bytes(out, place.db.as_bytes());
    sequence(out, &change.source_position, origin.lsn);
    put_us_ns(out, origin.committed_us);
    put_bytes(out, place.schema.as_bytes());
    put_bytes(out, place.table.as_bytes());
    // Both are 64 bits without a sign; Debezium writes their bits as a signed number too.
    put_optional(out, origin.xid.map(|n| n as i64));
    put_optional(out, origin.lsn.map(|n| n as i64));
    put_null(out);
    put_bytes(out, change.source_position.to_string().as_bytes());
    put_bytes(out, before.as_bytes());
    unchanged(out, contract, change);
    out.extend_from_slice(&[u8::from(origin.last)]);
}

/// Writes Debezium's order key of PostgreSQL: `["<commit LSN>","<LSN>"]`.
fn sequence(out: &mut BytesMut, position: &Position, lsn: Option<u64>) {
    match (position.as_wal(), lsn) {
        (Some((_, commit, _, _)), Some(lsn)) => {
            put_some(out);
            put_bytes(out, format!("[\"{commit}\",\"{lsn}\"]").as_bytes());
        }
        _ => put_null(out),
    }
}

fn unchanged(out: &mut BytesMut, contract: &Contract, change: &Change) {
    let row = change.after.as_deref().unwrap_or_default();
    let names = || contract.fields.iter().zip(row).filter(|(_, v)| v.is_unknown()).map(|(f, _)| &f.name);
    let count = names().count();
    if count > 0 {
        put_long(out, count as i64);
        names().for_each(|name| put_bytes(out, name.as_bytes()));
    }
    put_long(out, 0);
}

fn transaction(out: &mut BytesMut, origin: &Origin) {
    match &origin.transaction {
        Some(transaction) => {
            put_some(out);
            put_bytes(out, transaction.id.as_bytes());
            put_long(out, transaction.order as i64);
            put_long(out, transaction.stream_order as i64);
        }
        None => put_null(out),
    }
}
