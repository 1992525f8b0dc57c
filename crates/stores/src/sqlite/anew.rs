//! What a checkpoint without a position must note so that a capture reads its tables from nothing.

use std::collections::BTreeMap;

use hutong_core::Checkpoint;

use super::cursor::Progress;
use super::source::{Captured, note_name, retired, text};

/// Returns the notes of a capture whose position, `before`, a person gives up.
///
/// Layout 0 is nobody's, so each table is truncated downstream and read again (I3), also one that is captured no
/// more and comes back.
pub fn anew(before: &Checkpoint, tables: &[Captured]) -> BTreeMap<String, String> {
    let mut notes = retired(before, tables);
    notes.extend(reread(tables));
    notes
}

/// Returns the notes by which a capture that stands where it does reads tables again.
pub fn reread(tables: &[Captured]) -> BTreeMap<String, String> {
    let nothing = Progress { layout: 0, done: false, rows: 0, schema: None, after: Vec::new() };
    tables.iter().map(|table| (note_name(&table.name), text(&nothing))).collect()
}
