//! One read transaction: the change log from where the source stands, then a chunk of a pending snapshot.
//!
//! SQLite shows a reader whole transactions only, and shows it the table and the log as of one moment. So rows
//! of a chunk are exact as of the log's end, which was handed out before them: no window, no watermark, no seam.

use std::sync::Arc;

use hutong_core::{
    Before, Change, Contract, Error, ErrorKind, Op, Origin, Place, Rejected, Result, Row, Value,
};
use rusqlite::types::Value as Stored;
use rusqlite::{Connection, OptionalExtension, Row as StoredRow, params_from_iter};

use super::connect::{quoted, quoted_list};
use super::cursor::{self, Cursor, Progress};
use super::error::Context;
use super::install::now_us;
use super::mend::{GONE, IS};
use super::recent::{LOOK_BACK, Recent};
use super::source::{Captured, Limits};
use super::table::Table;
use super::trigger::{Names, numbered};
use super::values;

/// What one read found.
#[derive(Default)]
pub(super) struct Found {
    pub(super) changes: Vec<Change>,
    pub(super) rejected: Vec<Rejected>,
    pub(super) unchanged: u64,
    pub(super) skipped: u64,
    pub(super) weight: usize,
    /// Number and time of the log's row that was read last.
    pub(super) last_read: Option<(u64, i64)>,
}

/// A captured table, as the reader needs it.
pub(super) struct Reading {
    pub(super) captured: Captured,
    /// Its layout and its shape; `None` while it is suspended.
    pub(super) standing: Option<(i64, Table)>,
    pub(super) place: Arc<Place>,
}

/// Reads changes and rows. Holds no place: that is the cursor's.
pub(super) struct Reader {
    pub(super) names: Names,
    pub(super) tables: Vec<Reading>,
    pub(super) limit: Limits,
}

/// One row of the log: what it says happened.
struct Logged {
    at_us: i64,
    /// What the log left there before, where it is neither the old row nor the new one.
    standing: Option<Row>,
    old: Option<Image>,
    new: Option<Image>,
    /// Whether nothing is told of what was before: a person has asked for the row of a key (see `mend.rs`).
    asked: bool,
}

/// One image of a row; `refused` says why a field of it cannot be carried, which then is not known.
struct Image {
    row: Row,
    refused: Option<String>,
}

impl Reader {
    /// Returns the number of the log's last row, and of its first.
    ///
    /// After `INSERT OR FAIL` SQLite's own counter stays behind, so the rows count too.
    pub(super) fn ends(&self, connection: &Connection) -> Result<(u64, Option<u64>)> {
        let log = &self.names.log;
        let sql = format!(
            "SELECT max(coalesce((SELECT max(seq) FROM {0}), 0), \
             coalesce((SELECT seq FROM sqlite_sequence WHERE name = ?1), 0)), (SELECT min(seq) FROM {0})",
            quoted(log)
        );
        connection
            .prepare_cached(&sql)
            .and_then(|mut s| {
                s.query_row([log], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Option<i64>>(1)?)))
            })
            .map(|(head, first)| (head as u64, first.map(|f| f as u64)))
            .doing(|| "read the end of the change log".into())
    }

    /// Returns the time of a row of the log; `None` when it is there no more.
    pub(super) fn time_of(&self, connection: &Connection, seq: u64) -> Result<Option<i64>> {
        let sql = format!("SELECT at_us FROM {} WHERE seq = ?1", quoted(&self.names.log));
        let found = connection.query_row(&sql, [seq as i64], |row| row.get(0)).optional();
        found.doing(|| format!("read row {seq} of the change log"))
    }

    /// Reads the log after `cursor` up to the limit. Returns whether it was read to its end.
    pub(super) fn log(
        &self,
        connection: &Connection,
        cursor: &mut Cursor,
        found: &mut Found,
    ) -> Result<bool> {
        let doing = || "read the change log".to_owned();
        // A suspended table may have a contract for which the log is not wide enough yet.
        let standing = self.tables.iter().filter(|t| t.standing.is_some());
        let width = standing.map(|t| t.captured.contract.fields.len()).max().unwrap_or(0);
        let sql = format!(
            "SELECT seq, at_us, layout, op, {}, {} FROM {} WHERE seq > ?1 - {LOOK_BACK} ORDER BY seq",
            numbered("o", width),
            numbered("n", width),
            quoted(&self.names.log)
        );
        let mut statement = connection.prepare_cached(&sql).doing(doing)?;
        let mut rows = statement.query([cursor.seq as i64]).doing(doing)?;
        let mut recent = Recent::default();
        while let Some(row) = rows.next().doing(doing)? {
            let seq = row.get::<_, i64>(0).doing(doing)? as u64;
            let layout: i64 = row.get(2).doing(doing)?;
            let reading = self.tables.iter().find(|t| t.layout() == Some(layout));
            if seq <= cursor.seq {
                // Handed out before: it only tells what is downstream.
                if let Some(reading) = reading {
                    logged(row, reading, layout, width, &mut recent).doing(doing)?;
                }
                continue;
            }
            if found.full(self.limit) {
                return Ok(false);
            }
            *cursor = Cursor { seq, ordinal: 0, part: 0 };
            found.last_read = Some((seq, row.get(1).doing(doing)?));
            let Some(reading) = reading else {
                // I3: a table that is suspended, is read again as a whole, or is captured no more.
                found.skipped += 1;
                continue;
            };
            let logged = logged(row, reading, layout, width, &mut recent).doing(doing)?;
            logged.hand_out(reading, cursor, found);
        }
        Ok(true)
    }

    /// Reads the next chunk of a table. Returns whether the table was read to its end.
    pub(super) fn chunk(
        &self,
        connection: &Connection,
        table: usize,
        progress: &mut Progress,
        cursor: &mut Cursor,
        found: &mut Found,
    ) -> Result<bool> {
        let reading = &self.tables[table];
        let doing = || format!("read a chunk of table {}", reading.captured.name);
        let Some((_, shape)) = &reading.standing else { return Ok(false) };
        let order: Vec<String> = shape
            .identity
            .iter()
            .map(|i| format!("{} COLLATE {}", quoted(&i.column), quoted(&i.collation)))
            .collect();
        let order = order.join(", ");
        let after = match progress.after.len() {
            0 => String::new(),
            n => format!("WHERE ({order}) > ({}) ", vec!["?"; n].join(", ")),
        };
        let contract = &reading.captured.contract;
        let sql = format!(
            "SELECT {}, {} FROM {} {after}ORDER BY {order} LIMIT {}",
            quoted_list(contract.fields.iter().map(|f| f.column())),
            quoted_list(shape.identity.iter().map(|i| i.column.as_str())),
            quoted(&reading.captured.name),
            self.limit.chunk,
        );
        let mut statement = connection.prepare_cached(&sql).doing(doing)?;
        let bound: Vec<Stored> = progress.after.iter().map(cursor::Place::stored).collect();
        let mut rows = statement.query(params_from_iter(bound)).doing(doing)?;
        let (at_us, width, mut count) = (now_us(), contract.fields.len(), 0);
        while let Some(row) = rows.next().doing(doing)? {
            if found.full(self.limit) && count > 0 {
                return Ok(false);
            }
            count += 1;
            cursor.next_row();
            progress.rows += 1;
            let places =
                (width..width + shape.identity.len()).map(|i| Ok(cursor::Place::of(row.get_ref(i)?)));
            let places = places.collect::<rusqlite::Result<Option<Vec<_>>>>().doing(doing)?;
            // Without it the table could not be read on; SQLite's row numbers always have one.
            progress.after = places.ok_or_else(|| {
                Error::new(
                    ErrorKind::SchemaConflict,
                    doing(),
                    "its primary key holds a value that is no valid text",
                )
            })?;
            let image = image(row, reading, 0).doing(doing)?;
            let change = reading.change(Op::Read, Before::None, Some(image.row), cursor, at_us, None);
            found.push(change, image.refused);
        }
        Ok(count < self.limit.chunk)
    }

    /// Says that the table's rows are read anew from here.
    pub(super) fn truncate(&self, table: usize, cursor: &mut Cursor, found: &mut Found) {
        cursor.next_row();
        let change = self.tables[table].change(Op::Truncate, Before::None, None, cursor, now_us(), None);
        found.push(change, None);
    }
}

impl Found {
    fn push(&mut self, change: Change, refused: Option<String>) {
        self.weight += change.weight();
        match refused {
            None => self.changes.push(change),
            Some(reason) => self.rejected.push(Rejected {
                rule: "not_carried",
                reason,
                position: change.position,
                stream: change.contract.stream.clone(),
                change: Some(Box::new(change)),
                record: None,
            }),
        }
    }

    fn full(&self, limit: Limits) -> bool {
        self.changes.len() + self.rejected.len() >= limit.changes || self.weight >= limit.bytes
    }
}

impl Reading {
    /// Returns its layout; `None` while it is suspended.
    pub(super) fn layout(&self) -> Option<i64> {
        self.standing.as_ref().map(|(layout, _)| *layout)
    }

    /// Returns the schema version that a snapshot of it depends on, where VACUUM may renumber its rows.
    pub(super) fn schema(&self, version: i64) -> Option<i64> {
        self.standing.as_ref().filter(|(_, shape)| shape.renumbered).map(|_| version)
    }

    fn change(
        &self,
        op: Op,
        before: Before,
        after: Option<Row>,
        cursor: &Cursor,
        at_us: i64,
        seq: Option<u64>,
    ) -> Change {
        let position = cursor.position();
        Change {
            contract: Arc::clone(&self.captured.contract),
            op,
            before,
            after,
            position,
            source_position: position,
            origin: Origin {
                place: Arc::clone(&self.place),
                committed_us: at_us,
                xid: None,
                lsn: seq,
                transaction: None,
                last: false,
            },
        }
    }
}

impl Image {
    /// States whether the whole key could be carried.
    fn keyed(&self, contract: &Contract) -> bool {
        contract.key.iter().all(|i| !matches!(self.row[*i], Value::Unknown | Value::Null))
    }

    /// Returns the old image as far as it could be carried: never invented.
    fn before(self, contract: &Contract) -> Before {
        if self.refused.is_none() {
            Before::Full(self.row)
        } else if self.keyed(contract) {
            Before::Key(contract.key_row(&contract.key_of(&self.row)))
        } else {
            Before::None
        }
    }
}

impl Logged {
    fn hand_out(self, reading: &Reading, cursor: &mut Cursor, found: &mut Found) {
        let contract = &reading.captured.contract;
        let (at_us, seq) = (self.at_us, Some(cursor.seq));
        let mut push = |op, before, after, refused| {
            found.push(reading.change(op, before, after, cursor, at_us, seq), refused);
            cursor.part += 1;
        };
        if let (Some(standing), Some(old)) = (self.standing, &self.old) {
            push(Op::Update, Before::Full(standing), Some(old.row.clone()), None);
        }
        match (self.old, self.new) {
            (_, Some(new)) if self.asked => push(Op::Read, Before::None, Some(new.row), new.refused),
            (Some(old), None) => {
                let refused = old.refused.clone().filter(|_| !old.keyed(contract));
                push(Op::Delete, old.before(contract), None, refused);
            }
            (Some(old), Some(new)) if old.keyed(contract) => {
                if contract.key_of(&old.row) != contract.key_of(&new.row) {
                    push(Op::Delete, old.before(contract), None, None);
                    push(Op::Insert, Before::None, Some(new.row), new.refused);
                } else if old.row != new.row || old.refused.is_some() || new.refused.is_some() {
                    push(Op::Update, old.before(contract), Some(new.row), new.refused);
                } else {
                    // A change of columns that the contract does not name.
                    found.unchanged += 1;
                }
            }
            // An old row without a key that could be carried never went downstream.
            (_, Some(new)) => push(Op::Insert, Before::None, Some(new.row), new.refused),
            (None, None) => {}
        }
        cursor.part = cursor.part.saturating_sub(1);
    }
}

/// Reads a row of the log, and remembers what it leaves.
fn logged(
    row: &StoredRow<'_>,
    reading: &Reading,
    layout: i64,
    width: usize,
    recent: &mut Recent,
) -> rusqlite::Result<Logged> {
    let contract = &reading.captured.contract;
    let op: String = row.get(3)?;
    let asked = op == IS || op == GONE;
    let mut old = if op == "c" || op == IS { None } else { Some(image(row, reading, 4)?) };
    let new = if op == "d" || op == GONE { None } else { Some(image(row, reading, 4 + width)?) };
    if op == GONE
        && let Some(old) = &mut old
    {
        // Only the key is told; the rest is not NULL but unknown.
        old.refused = Some(String::new());
    }
    let mut standing = None;
    if let Some(old) = &old {
        let key = contract.key_of(&old.row);
        let differs = |row: &&Row| **row != old.row && new.as_ref().is_none_or(|new| new.row != **row);
        standing = recent.row(layout, &key).filter(differs).filter(|_| old.refused.is_none()).cloned();
        recent.left(layout, key, None);
    }
    if let Some(new) = new.as_ref().filter(|new| new.refused.is_none()) {
        recent.left(layout, contract.key_of(&new.row), Some(new.row.clone()));
    }
    Ok(Logged { at_us: row.get(1)?, standing, old, new, asked })
}

/// Reads the contract's fields out of the columns from `first` on. I6: what cannot be carried is named.
fn image(row: &StoredRow<'_>, reading: &Reading, first: usize) -> rusqlite::Result<Image> {
    let mut image = Image { row: Vec::new(), refused: None };
    for (i, field) in reading.captured.contract.fields.iter().enumerate() {
        let value = match values::read(&field.ty, row.get_ref(first + i)?) {
            Ok(Value::Null) if !field.nullable => Err("it is NULL, the contract says it never is".to_owned()),
            other => other,
        };
        image.row.push(value.unwrap_or_else(|why| {
            image.refused.get_or_insert_with(|| format!("column {}: {why}", field.column()));
            Value::Unknown
        }));
    }
    Ok(image)
}
