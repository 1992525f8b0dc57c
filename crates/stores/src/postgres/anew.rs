//! What a checkpoint without a position must note so that a capture reads its tables from nothing.

use std::collections::BTreeMap;

use hutong_core::snapshot::NOT_CAPTURED;
use hutong_core::{Checkpoint, Error, ErrorKind, Result};

use super::ident::TableName;
use super::open::{era, suspended_note};
use super::source::Table;

/// What a note begins with by which a person has a table read anew, and what is told of it.
const ASKED: [(&str, &str); 2] =
    [("reset: ", "its position was reset"), ("reload: ", "`source reload` asks for it")];

/// Returns what is told of a table that a person has read anew, from its note of a suspension; `None` where it was one.
pub(crate) fn asked(note: &str) -> Option<&'static str> {
    // The second is what the running capture notes, until the truncate is committed.
    let of_it = ASKED.iter().find(|(begins, told)| note.starts_with(*begins) || note.ends_with(*told));
    of_it.map(|(_, told)| *told)
}

/// Returns the notes of a capture whose position a person gives up; `reason` is why.
///
/// The era grows, so that the positions to come sort behind all earlier ones whatever the log's numbers are. Each
/// table counts as suspended until now: one that fits is truncated downstream and read again (I3). That the
/// server, its timeline or the slot are others than before is accepted by noting nothing of them.
pub fn anew(from: &Checkpoint, tables: &[Table], reason: &str) -> Result<BTreeMap<String, String>> {
    let era = era(from).checked_add(1).ok_or_else(|| {
        Error::new(ErrorKind::Broken, "begin another era", format!("{} is the last", u16::MAX))
    })?;
    let mut notes = BTreeMap::from([("era".to_owned(), era.to_string())]);
    // What is downstream of a table that the configuration no longer names stays there until it is named again.
    for name in from.notes.keys() {
        if let Some(table) = name.strip_prefix("snapshot.").or(name.strip_prefix("suspended.")) {
            notes.insert(suspended_note(table), NOT_CAPTURED.to_owned());
        }
    }
    for table in tables {
        let name = TableName::parse(&table.name)?;
        notes.insert(suspended_note(&name.plain()), format!("{}{reason}", ASKED[0].0));
    }
    Ok(notes)
}

/// Returns the notes by which a capture that stands where it does reads tables again (I3); `reason` is why.
///
/// They count as suspended until its next opening: one that fits is truncated downstream and read again.
pub fn reread(tables: &[Table], reason: &str) -> Result<BTreeMap<String, String>> {
    let note = |table: &Table| {
        Ok((suspended_note(&TableName::parse(&table.name)?.plain()), format!("{}{reason}", ASKED[1].0)))
    };
    tables.iter().map(note).collect()
}

#[cfg(test)]
mod tests {
    use hutong_core::Position;

    use super::*;

    #[test]
    fn the_era_grows_from_the_note_or_the_position() {
        let at = |era| Checkpoint {
            positions: [("wal".to_owned(), Position::wal(era, 9, 0, 0))].into(),
            ..Checkpoint::default()
        };
        let mut noted = at(2);
        noted.notes.insert("era".into(), "6".into());
        for (from, era) in [(Checkpoint::default(), "1"), (at(2), "3"), (noted, "7")] {
            assert_eq!(anew(&from, &[], "").unwrap()["era"], era);
        }
        assert_eq!(anew(&at(u16::MAX), &[], "").unwrap_err().kind, ErrorKind::Broken);
    }

    #[test]
    fn what_a_person_has_read_anew_is_no_suspension() {
        for (note, told) in [
            ("reset: 复制槽被误删", Some("its position was reset")),
            ("it is read anew: its position was reset", Some("its position was reset")),
            ("reload: 试", Some("`source reload` asks for it")),
            ("public.people does not exist", None),
            ("it is read anew: it was suspended", None),
            (NOT_CAPTURED, None),
        ] {
            assert_eq!(asked(note), told, "{note}");
        }
    }

    #[test]
    fn i3_a_table_that_left_is_still_read_anew_when_it_comes_back() {
        let mut from = Checkpoint::default();
        from.notes.insert("snapshot.public.left".into(), "{}".into());
        from.notes.insert("suspended.public.gone".into(), "not captured".into());
        let notes = anew(&from, &[], "").unwrap();
        for table in ["left", "gone"] {
            assert_eq!(notes[&format!("suspended.public.{table}")], "not captured");
        }
    }
}
