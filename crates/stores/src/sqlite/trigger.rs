//! The SQL of a capture at its source: the change log and the triggers that fill it.
//!
//! One log table a capture, so that all its tables have one order. Its columns `o0, n0, o1, n1, …` (old and new
//! values) have no declared type: what a trigger writes stays as exact as the table held it. What the columns
//! mean is told by the row's layout, see `install.rs`.
//!
//! SQLite fires no delete trigger for a row that `OR REPLACE` removes. So a BEFORE trigger notes every row that
//! collides with the new one in any unique index ("doomed"), and the AFTER trigger logs those of them that are
//! indeed gone. With `OR IGNORE`, `OR FAIL` and `ON CONFLICT DO UPDATE` the AFTER trigger of that row never
//! fires; with `recursive_triggers` the delete trigger does fire and takes its note away. After an insert or
//! update the row is read again from the table, so that triggers of the department that change it in between are
//! in the log whatever the order in which SQLite fires them.
//!
//! Such a trigger may write the same table, and then a whole statement runs between the two halves of another.
//! So a note always says what its row holds now (an update carries it along), a note without such a row means a
//! replaced row whichever trigger finds it first, and no trigger clears the notes of others but the oldest.
//! Where OR FAIL stops within such a trigger, the row that it leaves is not logged: no trigger of ours is asked.
//!
//! The text runs inside the department's own programs, so it keeps to SQL that every SQLite since 3.9 knows.

use super::connect::{literal, quoted};
use super::table::{Indexed, Table};

/// Milliseconds are all that SQLite's clock has. It is the time of the statement, not of the commit.
const NOW: &str = "CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER) * 1000";

/// How many notes of rows that are still there are kept. Those of the statements that are under way are among
/// the newest; those that `OR IGNORE` left would slow down every later statement.
const KEPT: usize = 16;

/// The names of a capture's own tables, not yet quoted.
#[derive(Debug, Clone)]
pub(super) struct Names {
    /// The change log.
    pub(super) log: String,
    /// Rows that a statement may be about to replace.
    pub(super) doomed: String,
    /// What the columns of the log mean.
    pub(super) layout: String,
    /// What the names of its triggers begin with. Names of captures hold no colon, so no capture's prefix
    /// begins with another's.
    pub(super) trigger_prefix: String,
}

impl Names {
    /// Names the tables of a capture.
    pub(super) fn of(capture: &str) -> Self {
        Self {
            log: format!("hutong_change_{capture}"),
            doomed: format!("hutong_doomed_{capture}"),
            layout: format!("hutong_layout_{capture}"),
            trigger_prefix: format!("hutong:{capture}:"),
        }
    }
}

/// A trigger: its name and the statement that makes it.
pub(super) struct Trigger {
    /// Its name.
    pub(super) name: String,
    /// `CREATE TRIGGER …`, as SQLite keeps it.
    pub(super) sql: String,
}

/// Returns the triggers of a table whose `columns` are logged under `layout`.
pub(super) fn all(names: &Names, table: &Table, columns: &[String], layout: i64) -> Vec<Trigger> {
    let text = Text { names, table, columns, layout };
    [
        ("insert_before", "BEFORE INSERT", text.note_doomed(false)),
        ("insert", "AFTER INSERT", text.log_replaced(false) + &text.log_current('c', false)),
        ("update_before", "BEFORE UPDATE", text.note_doomed(true)),
        (
            "update",
            "AFTER UPDATE",
            text.log_replaced(true) + &text.carry_note() + &text.log_current('u', true),
        ),
        ("delete", "AFTER DELETE", text.log_deleted()),
    ]
    .into_iter()
    .map(|(suffix, when, body)| {
        let name = format!("{}{}:{suffix}", names.trigger_prefix, table.name);
        let sql =
            format!("CREATE TRIGGER {} {when} ON {} BEGIN {body} END", quoted(&name), quoted(&table.name));
        Trigger { name, sql }
    })
    .collect()
}

struct Text<'a> {
    names: &'a Names,
    table: &'a Table,
    columns: &'a [String],
    layout: i64,
}

impl Text<'_> {
    /// Logs the noted rows that are gone, then notes the rows that collide with NEW; in an update all but the
    /// row itself.
    fn note_doomed(&self, update: bool) -> String {
        let Self { table, layout, .. } = self;
        let doomed = quoted(&self.names.doomed);
        let collide = |unique: &Vec<Indexed>| {
            let parts = unique.iter().map(|u| u.matches("t.", "=", &format!("NEW.{}", quoted(&u.column))));
            format!("({})", parts.collect::<Vec<_>>().join(" AND "))
        };
        let mut condition = table.unique.iter().map(collide).collect::<Vec<_>>().join(" OR ");
        if update {
            let itself = self.identity("t.", "OLD.");
            condition = format!("({condition}) AND NOT ({itself})");
        }
        format!(
            "{gone}DELETE FROM {doomed} WHERE layout = {layout} AND (rowid <= (SELECT max(rowid) FROM {doomed}) - {KEPT} \
             OR EXISTS (SELECT 1 FROM {name} AS t WHERE {noted} AND ({condition}))); \
             INSERT INTO {doomed} (layout, {}, {}) SELECT {layout}, {}, {} FROM {name} AS t WHERE {condition};",
            numbered("i", table.identity.len()),
            numbered("o", self.columns.len()),
            prefixed("t.", table.identity.iter().map(|i| i.column.as_str())),
            self.columns_of("t."),
            gone = self.log_noted(&self.gone()),
            noted = self.noted("t."),
            name = quoted(&table.name),
        )
    }

    /// Logs the noted rows that are gone, or whose identity is NEW's now, as deleted.
    fn log_replaced(&self, update: bool) -> String {
        let replaced = format!("(({}) OR {})", self.noted("NEW."), self.gone());
        if !update {
            return self.log_noted(&replaced);
        }
        // The row that was updated is not gone, it is another row now.
        self.log_noted(&format!("NOT ({}) AND {replaced}", self.noted("OLD.")))
    }

    /// Logs the noted rows for which `condition` holds as deleted, and takes their notes away.
    fn log_noted(&self, condition: &str) -> String {
        let layout = self.layout;
        let width = numbered("o", self.columns.len());
        let doomed = quoted(&self.names.doomed);
        format!(
            "INSERT INTO {log} (at_us, layout, op, {width}) SELECT {NOW}, {layout}, 'd', {width} FROM {doomed} \
             WHERE layout = {layout} AND {condition}; \
             DELETE FROM {doomed} WHERE layout = {layout} AND {condition}; ",
            log = quoted(&self.names.log),
        )
    }

    /// Makes the note of the row that was updated say what the row holds now.
    fn carry_note(&self) -> String {
        let Self { table, layout, .. } = self;
        let stale = format!("layout = {layout} AND {} AND {}", self.noted("OLD."), self.gone());
        format!(
            "INSERT INTO {doomed} (layout, {}, {}) SELECT {layout}, {}, {} FROM {} AS t WHERE {} \
             AND EXISTS (SELECT 1 FROM {doomed} WHERE {stale}); DELETE FROM {doomed} WHERE {stale}; ",
            numbered("i", table.identity.len()),
            numbered("o", self.columns.len()),
            prefixed("t.", table.identity.iter().map(|i| i.column.as_str())),
            self.columns_of("t."),
            quoted(&table.name),
            self.identity("t.", "NEW."),
            doomed = quoted(&self.names.doomed),
        )
    }

    /// Logs the row as it stands in the table now.
    fn log_current(&self, op: char, old: bool) -> String {
        let (mut into, mut from) = (numbered("n", self.columns.len()), self.columns_of("t."));
        if old {
            into = format!("{}, {into}", numbered("o", self.columns.len()));
            from = format!("{}, {from}", self.columns_of("OLD."));
        }
        format!(
            "INSERT INTO {} (at_us, layout, op, {into}) SELECT {NOW}, {}, {}, {from} FROM {} AS t WHERE {};",
            quoted(&self.names.log),
            self.layout,
            literal(&op.to_string()),
            quoted(&self.table.name),
            self.identity("t.", "NEW."),
        )
    }

    /// Logs the deleted row, which needs no note any more. A note that says otherwise is of a row that was
    /// replaced by it.
    fn log_deleted(&self) -> String {
        format!(
            "INSERT INTO {} (at_us, layout, op, {}) VALUES ({NOW}, {layout}, 'd', {}); \
             DELETE FROM {} WHERE layout = {layout} AND {} AND {};",
            quoted(&self.names.log),
            numbered("o", self.columns.len()),
            self.columns_of("OLD."),
            quoted(&self.names.doomed),
            self.noted("OLD."),
            self.unchanged("OLD."),
            layout = self.layout,
        )
    }

    /// States that no row is as the note says: the row was replaced.
    fn gone(&self) -> String {
        format!(
            "NOT EXISTS (SELECT 1 FROM {} AS t WHERE {} AND {})",
            quoted(&self.table.name),
            self.noted("t."),
            self.unchanged("t.")
        )
    }

    /// States that the note is about `row`.
    fn noted(&self, row: &str) -> String {
        let parts = self.table.identity.iter().enumerate();
        parts.map(|(i, id)| id.matches(row, "IS", &format!("i{i}"))).collect::<Vec<_>>().join(" AND ")
    }

    /// States that `row` holds what the note says, byte for byte.
    fn unchanged(&self, row: &str) -> String {
        let parts = self.columns.iter().enumerate();
        let same = |(i, column): (usize, &String)| format!("{row}{} COLLATE BINARY IS o{i}", quoted(column));
        parts.map(same).collect::<Vec<_>>().join(" AND ")
    }

    fn identity(&self, left: &str, right: &str) -> String {
        let same = |id: &Indexed| id.matches(left, "=", &format!("{right}{}", quoted(&id.column)));
        self.table.identity.iter().map(same).collect::<Vec<_>>().join(" AND ")
    }

    fn columns_of(&self, row: &str) -> String {
        prefixed(row, self.columns.iter().map(String::as_str))
    }
}

/// Returns `o0, o1, …`.
pub(super) fn numbered(prefix: &str, count: usize) -> String {
    (0..count).map(|i| format!("{prefix}{i}")).collect::<Vec<_>>().join(", ")
}

fn prefixed<'a>(row: &str, names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| format!("{row}{}", quoted(name))).collect::<Vec<_>>().join(", ")
}
