//! Sends rows again as they are now, by key, through the capture: what a replica lost or altered comes back so.
//!
//! Whoever asks for it writes a message with the keys into the log ([`mend`]). Where it passes, the capture makes a
//! change of each key and reads the row when the batch goes out, in a snapshot that sees the message's transaction; a
//! row that is gone is a delete. The row may be newer than the message: what made it so is still to come in the stream
//! and ends in the same state, so that each replica converges, and every subscriber of the stream gets the same (I4).
//! The changes have the message's place, so after a crash they are made again, or not at all (I2).

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use hutong_core::{Before, Change, Contract, Op, Origin, Position, Rejected, Result, Row, Secret, Value};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use tokio::time::Instant;
use tokio_postgres::Client;

use super::catalog::{self, Types};
use super::fit::Plan;
use super::ident::TableName;
use super::image::{Item, NOT_CARRIED};
use super::pgoutput::Cell;
use super::reader::Reader;
use super::reread::{self, Due, Found, LOCKED, Missing, ROWS};
use super::{connect, slot};
use crate::{fold, keep};

/// What a message that asks for it begins with.
const PREFIX: &str = "mend ";
/// How many keys stand in one message: each becomes a part of its position, which has 256.
const KEYS: usize = 100;
/// The rules that drop rows that were asked for and could not be read; else it is `suspended`, for the table does not
/// fit its contract.
const LOCKED_RULE: &str = "asked_locked";
const DENIED_RULE: &str = "asked_denied";

fn hint(rule: &str) -> &'static str {
    match rule {
        LOCKED_RULE => "somebody holds a lock on the table: ask again when it is free",
        DENIED_RULE => "let the role read the table (GRANT SELECT), and ask again",
        _ => "`hutong contract check` says what does not fit; ask again when it does",
    }
}

/// What a message asks for.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Asked {
    pub(super) table: String,
    keys: Vec<Json>,
}

impl Asked {
    /// Reads a message of Hutong's; `None` when it asks for no rows, `Some(None)` when it cannot be read.
    ///
    /// Anybody who may write into the log may have written it.
    pub(super) fn read(content: &[u8]) -> Option<Option<Self>> {
        Some(serde_json::from_slice(content.strip_prefix(PREFIX.as_bytes())?).ok())
    }

    /// Returns the keys of a contract with their numbers; `None` of one that is none, or that no column can hold.
    pub(super) fn keys(&self, contract: &Contract) -> impl Iterator<Item = (u8, Option<Row>)> {
        let parts = self.keys.iter().zip(0..=u8::MAX);
        parts.map(|(key, part)| (part, keep::read_key(contract, key).filter(|key| key.iter().all(can_stand))))
    }
}

/// States whether a value can stand in a statement: no text of PostgreSQL holds a zero byte.
fn can_stand(value: &Value) -> bool {
    match value {
        Value::Text(text) => !text.contains('\0'),
        Value::Array(items) => items.iter().all(can_stand),
        _ => true,
    }
}

/// Asks the capture of a table to send the rows of these keys again, or their deletes.
///
/// Durable when it returns; a capture that does not run does it when it runs.
pub async fn mend(url: &Secret, table: &str, keys: &[Row]) -> Result<()> {
    let table = TableName::parse(table)?.plain();
    let session = connect::open(url, "mend").await?;
    for keys in keys.chunks(KEYS) {
        let keys = keys.iter().map(|key| keep::written_key(key)).collect();
        let asked = serde_json::to_string(&Asked { table: table.clone(), keys }).expect("texts print");
        slot::emit(&session, &format!("{PREFIX}{asked}")).await?;
    }
    Ok(())
}

impl Reader {
    /// A message of Hutong's passes in the stream: makes the changes that it asks for, whose rows are still to be read.
    pub(super) fn mend(&mut self, content: &[u8]) {
        let Some(asked) = Asked::read(content) else { return };
        let Some(asked) = asked else {
            tracing::warn!(capture = %self.config.capture, "a message that asks for rows cannot be read");
            return;
        };
        let Some(table) = self.tables.iter().position(|t| t.name.plain() == asked.table) else { return };
        let Some(open) = &self.open else { return };
        let (era, commit_lsn, index, xid) = (self.era, open.commit_lsn, open.index, open.xid);
        let captured = &self.tables[table];
        let contract = Arc::clone(&captured.contract);
        let origin = Origin {
            place: Arc::clone(&captured.place),
            committed_us: open.committed_us,
            xid: Some(u64::from(xid)),
            lsn: None,
            transaction: None,
            last: false,
        };
        let suspended = captured.suspended.is_some();
        for (part, key) in asked.keys(&contract) {
            let position = Position::wal(era, commit_lsn, index, part);
            if position <= self.skip {
                continue;
            }
            if suspended {
                self.assembly.drop("suspended");
                continue;
            }
            let Some(key) = key else {
                tracing::warn!(table = %asked.table, "a key that is asked for is none of the contract's");
                continue;
            };
            let change = Change {
                contract: Arc::clone(&contract),
                op: Op::Read,
                before: Before::None,
                after: Some(contract.key_row(&key)),
                position,
                source_position: position,
                origin: origin.clone(),
            };
            self.assembly.push_read(Item::Change(change));
            let key = key.iter().map(|value| Cell::Text(Bytes::from(text(value)))).collect();
            self.assembly.miss(Missing { table, key, xid, position, whole: true });
        }
    }
}

/// Reads the rows of a table that were asked for; `false`: to be called again, as [`reread::fill`].
pub(crate) async fn fill(
    client: &Client,
    types: &mut Types,
    table: usize,
    name: &TableName,
    contract: &Contract,
    due: &mut Due,
) -> Result<bool> {
    let asked: Vec<_> =
        due.missing.iter().filter(|missing| missing.table == table && missing.whole).collect();
    if asked.is_empty() {
        return Ok(true);
    }
    let mut found = HashMap::new();
    let mut read = Vec::new();
    let mut unread_by = "suspended";
    let live = catalog::live(client, types, name).await?;
    let plan = live.as_ref().and_then(|live| {
        let present = contract.fields.iter().filter_map(|field| live.column(field.column()));
        Plan::new(contract, present.map(|c| (c.name.as_str(), &c.ty))).ok()
    });
    if let (Some(live), Some(plan)) = (&live, &plan) {
        let mut left: Vec<_> = asked.chunks(ROWS).rev().collect();
        while let Some(some) = left.pop() {
            match reread::rows(client, contract, live, some).await? {
                Found::Rows(rows) => {
                    for cells in rows {
                        let row = plan.row(contract, &cells);
                        let told = row.as_ref().unwrap_or_else(|uncarried| &uncarried.rest);
                        if let Some(key) = fold::Key::of(contract, told) {
                            found.insert(key, row);
                        }
                    }
                    read.extend(some.iter().map(|missing| missing.position));
                }
                Found::Unseen => return Ok(false),
                Found::Locked => {
                    let until = *due.locked_until.get_or_insert_with(|| Instant::now() + LOCKED);
                    if Instant::now() < until {
                        return Ok(false);
                    }
                    unread_by = LOCKED_RULE;
                    break;
                }
                Found::Denied => {
                    unread_by = DENIED_RULE;
                    break;
                }
                // Looked for in halves: one key that is none must not stop the capture.
                Found::Invalid if some.len() > 1 => {
                    let (first, second) = some.split_at(some.len() / 2);
                    left.extend([second, first]);
                }
                // There is no row with a key that its column cannot hold.
                Found::Invalid => read.extend(some.iter().map(|missing| missing.position)),
            }
        }
    }
    let unread: Vec<Position> =
        asked.iter().map(|missing| missing.position).filter(|position| !read.contains(position)).collect();
    if !unread.is_empty() {
        // Said, and never guessed: a row that nobody could read is not one that is gone.
        let (count, hint) = (unread.len(), hint(unread_by));
        tracing::warn!(
            table = %name.plain(),
            count,
            rule = unread_by,
            hint,
            "rows that were asked for could not be read"
        );
        *due.batch.dropped.entry(unread_by).or_default() += count as u64;
    }
    let (mut changes, mut rejected) = (Vec::with_capacity(due.batch.changes.len()), Vec::new());
    for mut change in std::mem::take(&mut due.batch.changes) {
        if unread.contains(&change.position) {
            continue;
        }
        if !read.contains(&change.position) {
            changes.push(change);
            continue;
        }
        let key = change.after.as_ref().and_then(|row| fold::Key::of(contract, row));
        // Not taken out: two may ask for one row, and their messages stand in one batch.
        match key.and_then(|key| found.get(&key).cloned()) {
            Some(Ok(row)) => change.after = Some(row),
            Some(Err(uncarried)) => {
                change.after = Some(uncarried.rest);
                rejected.push(Rejected {
                    rule: NOT_CARRIED,
                    reason: uncarried.why,
                    position: change.position,
                    stream: contract.stream.clone(),
                    change: Some(Box::new(change)),
                    record: None,
                });
                continue;
            }
            None => {
                change.op = Op::Delete;
                change.before = change.after.take().map_or(Before::None, Before::Key);
            }
        }
        changes.push(change);
    }
    due.batch.changes = changes;
    due.batch.rejected.extend(rejected);
    due.missing.retain(|missing| missing.table != table || !missing.whole);
    Ok(true)
}

/// Returns the text by which PostgreSQL reads a key's value, of whatever type that its column has.
pub(super) fn text(value: &Value) -> String {
    match keep::written_key(std::slice::from_ref(value)) {
        Json::Array(mut parts) => match (value, parts.pop()) {
            (Value::Bytes(_), Some(Json::String(digits))) => format!("\\x{digits}"),
            (Value::Decimal(number), _) => number.to_plain_string(),
            (Value::Time(86_400_000_000), _) => "24:00:00".into(),
            (Value::Array(items), _) => array(items),
            (_, Some(Json::String(text))) => text,
            (_, Some(other)) => other.to_string(),
            (_, None) => String::new(),
        },
        _ => String::new(),
    }
}

fn array(items: &[Value]) -> String {
    let item = |item: &Value| match item {
        Value::Null | Value::Unknown => "NULL".to_owned(),
        item => format!("\"{}\"", text(item).replace('\\', "\\\\").replace('"', "\\\"")),
    };
    format!("{{{}}}", items.iter().map(item).collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use hutong_core::Type;

    use super::super::text::read;
    use super::*;

    #[test]
    fn i6_a_keys_text_is_read_as_the_same_value() {
        let decimal = |text: &str| Value::Decimal(text.parse().unwrap());
        let list = Type::Array(Box::new(Type::Text { length: None }));
        for (ty, value) in [
            (Type::Long, Value::Integer(i64::MIN)),
            (Type::Boolean, Value::Boolean(true)),
            (Type::Text { length: None }, Value::text("张'三\\")),
            (Type::Bytes, Value::Bytes(Bytes::from_static(&[0, 255]))),
            (Type::Numeric, decimal("1e30")),
            (Type::Date, Value::Date(11_016)),
            (Type::Time, Value::Time(86_400_000_000)),
            (Type::Time, Value::Time(1)),
            (list, Value::Array(vec![Value::text("a\"b\\,"), Value::Null, Value::text("")])),
        ] {
            let text = text(&value);
            assert_eq!(read(&ty, false, &Bytes::from(text.clone())).unwrap(), value, "{text}");
        }
    }
}
