//! Applies a batch to a table, one key at a time, and finds out which rows the store refuses.
//!
//! A statement that fails takes back itself only, so a refused row costs the others nothing. Knows one
//! transaction that is open; nothing of its beginning or its commit.

use std::collections::HashMap;
use std::sync::Arc;

use hutong_core::{Change, Op, Position, Rejected, Value};
use rusqlite::types::Value as Stored;
use rusqlite::{Connection, params, params_from_iter};

use super::connect::quoted;
use super::error::{self, Refusal};
use super::target::{LANE, OFFSET, Target};
use super::{quarantine, values};
use crate::fold::{self, End, Folded, Keyed, Part, UNKNOWN_VALUE};
use crate::keep;

const UNDONE: &str = "a trigger of the table rolled the transaction back";

/// What a batch did.
#[derive(Debug, Default)]
pub(super) struct Applied {
    /// Rows upserted or patched.
    pub(super) written: u64,
    /// Keys deleted.
    pub(super) deleted: u64,
    /// Changes set aside.
    pub(super) quarantined: u64,
    /// Whether anything of the lane waits in the quarantine.
    waiting: bool,
}

/// A batch on its way into a lane's tables. Kept between runs, since a trigger may roll everything back.
pub(super) struct Apply {
    /// The lane.
    pub(super) lane: String,
    /// The changes.
    pub(super) changes: Vec<Change>,
    /// What earlier steps have rejected.
    pub(super) rejected: Vec<Rejected>,
    /// What they fold to.
    pub(super) folded: Folded,
    /// The tables, by contract.
    pub(super) targets: Vec<Arc<Target>>,
    /// Changes whose row made a trigger roll the whole transaction back (`RAISE(ROLLBACK, …)`), and what it said.
    pub(super) poison: HashMap<usize, String>,
}

/// Why one row was not written.
enum Fault {
    /// The store refused it.
    Refused(Refusal),
    /// A rule of Hutong's refused it.
    Rule(&'static str, String),
    /// The transaction is gone.
    RolledBack,
    /// Anything else: an outage, which is never the row's fault (I3).
    Failed(rusqlite::Error),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        match error::refusal(&error) {
            Some(refusal) => Self::Refused(refusal),
            None => Self::Failed(error),
        }
    }
}

impl Applied {
    fn set_aside(
        &mut self,
        connection: &Connection,
        lane: &str,
        rejected: &Rejected,
    ) -> rusqlite::Result<()> {
        quarantine::insert(connection, lane, rejected)?;
        self.quarantined += 1;
        self.waiting = true;
        Ok(())
    }
}

impl Apply {
    /// Applies the batch; `None` when a trigger rolled the transaction back and it must be run again.
    pub(super) fn run(&mut self, connection: &Connection) -> rusqlite::Result<Option<Applied>> {
        let mut applied =
            Applied { waiting: quarantine::waits(connection, &self.lane)?, ..Applied::default() };
        // I3: set aside before anything is applied, so that a later change of the same batch settles it.
        for rejected in self.rejected.iter().chain(&self.folded.rejected) {
            applied.set_aside(connection, &self.lane, rejected)?;
        }
        if let Some(at) = self.changes.iter().rposition(|c| c.op == Op::Truncate)
            && !self.truncate(connection, at, &mut applied)?
        {
            self.poison.insert(at, UNDONE.into());
            return Ok(None);
        }
        let mut again: Vec<(&Part, &Keyed)> = Vec::new();
        let mut poisoned = None;
        'parts: for part in &self.folded.parts {
            for keyed in &part.keys {
                let fault = match self.write(connection, part, keyed, &mut applied) {
                    Ok(()) => continue,
                    Err(fault) => fault,
                };
                match fault {
                    Fault::Failed(error) => return Err(error),
                    Fault::RolledBack => {}
                    // Another row of the batch may cure it.
                    Fault::Refused(refusal) if refusal.curable => {
                        again.push((part, keyed));
                        continue;
                    }
                    Fault::Refused(_) | Fault::Rule(..) => {
                        if self.one_by_one(connection, part, keyed, &mut applied, &mut poisoned)? {
                            continue;
                        }
                    }
                }
                poisoned.get_or_insert(keyed.last);
                break 'parts;
            }
        }
        if poisoned.is_none() {
            for (part, keyed) in again {
                if !self.one_by_one(connection, part, keyed, &mut applied, &mut poisoned)? {
                    poisoned.get_or_insert(keyed.last);
                    break;
                }
            }
        }
        if let Some(at) = poisoned {
            self.poison.insert(at, UNDONE.into());
            return Ok(None);
        }
        Ok(Some(applied))
    }

    /// Removes the rows of the lane; what refers to them may refuse it, and then the truncate is set aside (I3).
    ///
    /// Returns whether the transaction still stands.
    fn truncate(&self, connection: &Connection, at: usize, applied: &mut Applied) -> rusqlite::Result<bool> {
        let change = &self.changes[at];
        quarantine::supersede_all(connection, &self.lane, change.position)?;
        let reason = match self.poison.get(&at) {
            Some(reason) => reason.clone(),
            None => {
                connection.execute_batch("SAVEPOINT removal")?;
                let done =
                    self.targets.iter().try_for_each(|t| remove_rows(connection, &self.lane, &t.table));
                let refused = match done {
                    Ok(()) => None,
                    Err(error) => Some(error::refusal(&error).ok_or(error)?),
                };
                if connection.is_autocommit() {
                    return Ok(false);
                }
                let Some(refusal) = refused else {
                    connection.execute_batch("RELEASE removal")?;
                    return Ok(true);
                };
                connection.execute_batch("ROLLBACK TO removal; RELEASE removal")?;
                refusal.reason
            }
        };
        applied.set_aside(connection, &self.lane, &fold::reject(change, "store", reason))?;
        Ok(true)
    }

    /// Writes what a key has come to.
    fn write(
        &self,
        connection: &Connection,
        part: &Part,
        keyed: &Keyed,
        applied: &mut Applied,
    ) -> Result<(), Fault> {
        let row = keyed.row(&self.changes);
        self.write_row(connection, part, keyed.last, keyed.end, row, applied)
    }

    /// Applies the changes of one key in order, so that a good one before a bad one is not lost.
    ///
    /// Returns whether the transaction still stands; if not, `poisoned` is the change that ended it.
    fn one_by_one(
        &self,
        connection: &Connection,
        part: &Part,
        keyed: &Keyed,
        applied: &mut Applied,
        poisoned: &mut Option<usize>,
    ) -> rusqlite::Result<bool> {
        for at in part.of_key(&self.changes, &keyed.key) {
            let change = &self.changes[at];
            let (end, row) = match (change.op, &change.after) {
                (Op::Delete, _) => (End::Delete, change.before.row()),
                (_, Some(row)) if row.iter().any(Value::is_unknown) => (End::Patch, Some(row)),
                (_, row) => (End::Put, row.as_ref()),
            };
            // `fold` has rejected a change without a row already.
            let Some(row) = row else { continue };
            let (rule, reason) = match self.write_row(connection, part, at, end, row, applied) {
                Ok(()) => continue,
                Err(Fault::Refused(refusal)) => ("store", refusal.reason),
                Err(Fault::Rule(rule, reason)) => (rule, reason),
                Err(Fault::Failed(error)) => return Err(error),
                Err(Fault::RolledBack) => {
                    *poisoned = Some(at);
                    return Ok(false);
                }
            };
            applied.set_aside(connection, &self.lane, &fold::reject(change, rule, reason))?;
        }
        Ok(true)
    }

    fn write_row(
        &self,
        connection: &Connection,
        part: &Part,
        at: usize,
        end: End,
        row: &[Value],
        applied: &mut Applied,
    ) -> Result<(), Fault> {
        if let Some(reason) = self.poison.get(&at) {
            return Err(Fault::Rule("store", reason.clone()));
        }
        let Some(target) = self.targets.iter().find(|t| *t.contract == *part.contract) else {
            return Err(Fault::Rule("store", "no table was prepared for its contract".into()));
        };
        let position = self.changes[at].position;
        let key = if applied.waiting { keep::key_text(&part.contract, row) } else { None };
        if let (End::Patch, Some(key)) = (end, &key)
            && quarantine::waits_for(connection, &self.lane, key, position)?
        {
            return Err(Fault::Rule("behind", "an earlier change of its row waits in the quarantine".into()));
        }
        let done = match end {
            End::Put => put(connection, target, &self.lane, position, row),
            End::Patch => patch(connection, target, &self.lane, position, row),
            End::Delete => delete(connection, target, row),
        };
        if connection.is_autocommit() {
            return Err(match done {
                // A rollback that no trigger asked for is an outage.
                Err(Fault::Failed(error)) => Fault::Failed(error),
                _ => Fault::RolledBack,
            });
        }
        done?;
        if !target.own {
            note_lane(connection, target, &self.lane, position, row, end)?;
        }
        if let (End::Put | End::Delete, Some(key)) = (end, &key) {
            quarantine::supersede(connection, &self.lane, key, position)?;
        }
        match end {
            End::Delete => applied.deleted += 1,
            End::Put | End::Patch => applied.written += 1,
        }
        Ok(())
    }
}

/// Writes one row by itself, for a replay from the quarantine; `Err` says why it is still refused.
pub(super) fn replay(
    connection: &Connection,
    target: &Target,
    lane: &str,
    position: Position,
    op: Op,
    row: &[Value],
) -> rusqlite::Result<Result<(), String>> {
    let end = match op {
        Op::Delete => End::Delete,
        _ if row.iter().any(Value::is_unknown) => End::Patch,
        _ => End::Put,
    };
    let done = match end {
        End::Put => put(connection, target, lane, position, row),
        End::Patch => patch(connection, target, lane, position, row),
        End::Delete => delete(connection, target, row),
    };
    match done {
        Ok(()) => {}
        Err(Fault::Refused(refusal)) => return Ok(Err(refusal.reason)),
        Err(Fault::Rule(_, reason)) => return Ok(Err(reason)),
        Err(Fault::RolledBack) => {
            return Ok(Err(UNDONE.into()));
        }
        Err(Fault::Failed(error)) => return Err(error),
    }
    if !target.own {
        note_lane(connection, target, lane, position, row, end)?;
    }
    Ok(Ok(()))
}

/// Removes the rows of a lane from a table; nothing when there is no such table.
pub(super) fn remove_rows(connection: &Connection, lane: &str, table: &str) -> rusqlite::Result<()> {
    let columns = "SELECT name FROM pragma_table_info(?1)";
    let columns: Vec<String> = connection
        .prepare(columns)?
        .query_map([table], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    if columns.iter().any(|c| c == LANE) {
        connection.execute(&format!("DELETE FROM {} WHERE {LANE} = ?1", quoted(table)), [lane])?;
        return Ok(());
    }
    let sql = "SELECT key FROM hutong_row WHERE table_name = ?1 AND lane = ?2";
    let keys: Vec<String> = connection
        .prepare(sql)?
        .query_map([table, lane], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    if !columns.is_empty() {
        for key in keys {
            let Ok(parts) = serde_json::from_str::<Vec<(String, super::cursor::Place)>>(&key) else {
                continue;
            };
            let condition =
                parts.iter().map(|(c, _)| format!("{} = ?", quoted(c))).collect::<Vec<_>>().join(" AND ");
            let bound: Vec<Stored> = parts.iter().map(|(_, place)| place.stored()).collect();
            let sql = format!("DELETE FROM {} WHERE {condition}", quoted(table));
            connection.prepare_cached(&sql)?.execute(params_from_iter(bound))?;
        }
    }
    connection.execute("DELETE FROM hutong_row WHERE table_name = ?1 AND lane = ?2", [table, lane])?;
    Ok(())
}

/// Returns a row's key as `hutong_row` keeps it: columns and stored values, so that no contract is needed to
/// find the row again.
fn row_key(target: &Target, row: &[Value]) -> String {
    let parts = target.contract.key.iter().map(|at| {
        let field = &target.contract.fields[*at];
        let value = row.get(*at).unwrap_or(&Value::Unknown);
        let place = values::write(&field.ty, value).ok().and_then(|s| super::cursor::Place::of((&s).into()));
        (field.column().to_owned(), place)
    });
    serde_json::to_string(&parts.collect::<Vec<_>>()).expect("texts and numbers print")
}

fn put(
    connection: &Connection,
    target: &Target,
    lane: &str,
    position: Position,
    row: &[Value],
) -> Result<(), Fault> {
    let mut bound = Vec::with_capacity(row.len() + 2);
    for (field, value) in target.contract.fields.iter().zip(row) {
        bound.push(stored(field, value)?);
    }
    if target.own {
        bound.extend([Stored::Text(lane.to_owned()), offset(position)]);
    }
    connection.prepare_cached(&target.upsert)?.execute(params_from_iter(bound))?;
    Ok(())
}

fn patch(
    connection: &Connection,
    target: &Target,
    lane: &str,
    position: Position,
    row: &[Value],
) -> Result<(), Fault> {
    let (mut set, mut bound) = (Vec::new(), Vec::new());
    for (at, (field, value)) in target.contract.fields.iter().zip(row).enumerate() {
        if !value.is_unknown() && !target.contract.is_key(at) {
            set.push(format!("{} = ?", quoted(field.column())));
            bound.push(stored(field, value)?);
        }
    }
    if target.own {
        set.extend([format!("{LANE} = ?"), format!("{OFFSET} = ?")]);
        bound.extend([Stored::Text(lane.to_owned()), offset(position)]);
    }
    let sql = if set.is_empty() {
        // There is nothing to set, but the row must be there all the same.
        format!(
            "UPDATE {0} SET {1} = {1} WHERE {2}",
            quoted(&target.table),
            key_column(target),
            target.by_key
        )
    } else {
        format!("UPDATE {} SET {} WHERE {}", quoted(&target.table), set.join(", "), target.by_key)
    };
    bound.extend(key(target, row)?);
    match connection.prepare_cached(&sql)?.execute(params_from_iter(bound))? {
        0 => Err(Fault::Rule(UNKNOWN_VALUE, "a value is not told and the row is not there".into())),
        _ => Ok(()),
    }
}

fn delete(connection: &Connection, target: &Target, row: &[Value]) -> Result<(), Fault> {
    connection.prepare_cached(&target.delete)?.execute(params_from_iter(key(target, row)?))?;
    Ok(())
}

fn key(target: &Target, row: &[Value]) -> Result<Vec<Stored>, Fault> {
    let part = |at: &usize| stored(&target.contract.fields[*at], row.get(*at).unwrap_or(&Value::Unknown));
    target.contract.key.iter().map(part).collect()
}

fn key_column(target: &Target) -> String {
    target.contract.key_fields().next().map(|f| quoted(f.column())).unwrap_or_default()
}

/// I6: what SQLite cannot hold exactly is refused, by name.
fn stored(field: &hutong_core::Field, value: &Value) -> Result<Stored, Fault> {
    values::write(&field.ty, value)
        .map_err(|why| Fault::Rule("not_carried", format!("column {}: {why}", field.column())))
}

fn offset(position: Position) -> Stored {
    match position.as_offset().and_then(|o| i64::try_from(o).ok()) {
        Some(offset) => Stored::Integer(offset),
        None => Stored::Text(position.to_string()),
    }
}

fn note_lane(
    connection: &Connection,
    target: &Target,
    lane: &str,
    position: Position,
    row: &[Value],
    end: End,
) -> rusqlite::Result<()> {
    let key = row_key(target, row);
    if end == End::Delete {
        let sql = "DELETE FROM hutong_row WHERE table_name = ?1 AND key = ?2";
        connection.prepare_cached(sql)?.execute([&target.table, &key])?;
    } else {
        let sql = "INSERT INTO hutong_row (table_name, key, lane, \"offset\") VALUES (?1, ?2, ?3, ?4) \
                   ON CONFLICT (table_name, key) DO UPDATE SET lane = excluded.lane, \"offset\" = excluded.\"offset\"";
        connection.prepare_cached(sql)?.execute(params![target.table, key, lane, offset(position)])?;
    }
    Ok(())
}
