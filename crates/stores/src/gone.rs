//! What somebody has taken from the table of a replica, and which lanes have to bring it back.
//!
//! I3: what Hutong makes again is empty, so the lanes whose rows or values were there begin at the base again. Knows
//! checkpoints; asks no store.

use hutong_core::{Checkpoint, Error, ErrorKind, Result, grant};

use crate::steered::NOBODYS;

/// What a table lacks of the contract that a lane writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Gone {
    /// Nothing that Hutong would make by itself.
    Nothing,
    /// The table.
    Table,
    /// Columns of a table that Hutong made; never empty.
    Columns(Vec<String>),
}

impl Gone {
    /// Returns what is gone where a table lacks these columns.
    pub(crate) fn of(columns: Vec<String>) -> Self {
        if columns.is_empty() { Self::Nothing } else { Self::Columns(columns) }
    }

    /// States whether nothing is gone.
    pub(crate) fn is_nothing(&self) -> bool {
        *self == Self::Nothing
    }

    /// Returns why a lane that stands here under this mark has to begin anew; `None` when it has lost nothing: it has not
    /// begun, it begins anew already, or a column is one that it has never had, by a wider grant or a grown contract.
    pub(crate) fn strikes(&self, checkpoint: &Checkpoint, mark: &str) -> Option<String> {
        if mark == NOBODYS || checkpoint.is_empty() && !checkpoint.serves() {
            return None;
        }
        match self {
            Self::Nothing => None,
            Self::Table => Some(self.why()),
            Self::Columns(lacking) => {
                let held = grant::noted_columns(checkpoint, mark);
                let lost: Vec<String> = lacking.iter().filter(|name| held.contains(*name)).cloned().collect();
                (!lost.is_empty()).then(|| Self::Columns(lost).why())
            }
        }
    }

    /// `Err(Unavailable)` when anything is gone of what an opening has made sure of: only the next opening finds out
    /// which lanes have to begin anew.
    pub(crate) fn refused(&self, table: &str) -> Result<()> {
        if self.is_nothing() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Unavailable, format!("write into {table}"), self.why())
            .hint("somebody has dropped it: the lane opens again, and it is filled anew from the base"))
    }

    fn why(&self) -> String {
        match self {
            Self::Nothing => String::new(),
            Self::Table => "the table is not there any more".into(),
            Self::Columns(names) => format!("its column {} is not there any more", names.join(", ")),
        }
    }
}

/// Says that a department's own table is gone: Hutong makes none in its place, which would lack all that the department
/// has made of it.
pub(crate) fn own(table: &str) -> Error {
    let why = "the department's own table is not there any more";
    Error::new(ErrorKind::SchemaConflict, format!("open a lane of {table}"), why)
        .hint("make it again, then restart: its lanes fill it from the base")
}

#[cfg(test)]
mod tests {
    use hutong_core::Position;

    use super::*;

    fn at(offset: u64) -> Checkpoint {
        let positions = [("t/0".to_owned(), Position::offset(offset))].into();
        Checkpoint { positions, ..Checkpoint::default() }
    }

    #[test]
    fn i3_who_has_rows_in_a_table_that_is_gone_begins_anew() {
        let why = Gone::Table.strikes(&at(3), "g");
        assert_eq!(why.as_deref(), Some("the table is not there any more"));
        assert!(Gone::Table.strikes(&at(3).anew_beside(), "g").is_some(), "what it serves is gone");
        assert_eq!(Gone::Table.strikes(&Checkpoint::default(), "g"), None, "it has not begun");
        assert_eq!(Gone::Table.strikes(&at(3), NOBODYS), None, "it begins anew already");
        assert_eq!(Gone::Nothing.strikes(&at(3), "g"), None);
    }

    #[test]
    fn i3_a_column_is_lost_to_who_has_noted_it_and_to_nobody_else() {
        let gone = Gone::of(vec!["age".into(), "office".into()]);
        let mut lane = at(3);
        assert_eq!(gone.strikes(&lane, "g"), None, "it has noted nothing");
        let noted = r#"{"mark":"g","rest":"","rows":[],"columns":{"id":"","age":""}}"#;
        lane.notes.insert(grant::NOTE.into(), noted.into());
        assert_eq!(gone.strikes(&lane, "g").as_deref(), Some("its column age is not there any more"));
        assert_eq!(gone.strikes(&lane, "h"), None, "noted under another grant");
        assert_eq!(Gone::of(vec!["office".into()]).strikes(&lane, "g"), None, "it is new");
    }

    #[test]
    fn what_is_gone_is_told_and_tried_again() {
        assert!(Gone::of(Vec::new()).refused("share.people").is_ok());
        let error = Gone::Table.refused("share.people").unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable);
        assert!(error.to_string().contains("share.people"), "{error}");
    }
}
