//! How far the snapshots of a capture have come, and which tables are suspended, as its checkpoint's notes say.

use serde::{Deserialize, Serialize};

use crate::Checkpoint;

/// The prefix of the notes that tell it; the table's name follows.
const PREFIX: &str = "snapshot.";

/// The prefix of the notes of suspended tables; the table's name follows.
const SUSPENDED: &str = "suspended.";

/// The prefix of the notes of streams whose contract their topic does not take; the stream's name follows.
const REFUSED: &str = "refused.";

/// The note of a suspended table that the configuration no longer names.
pub const NOT_CAPTURED: &str = "not captured";

/// How far the snapshot of one table has come.
///
/// Every source that takes snapshots keeps a note `snapshot.<table>`: a JSON object with at least `rows`
/// and `done`, and `estimate` when the origin has one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The table.
    #[serde(default)]
    pub table: String,
    /// Rows read so far.
    pub rows: u64,
    /// The origin's estimate of all rows.
    #[serde(default)]
    pub estimate: Option<u64>,
    /// Whether every row was read.
    pub done: bool,
}

/// Returns the name of the note of a stream whose contract its topic does not take.
pub fn refused_note(stream: &str) -> String {
    format!("{REFUSED}{stream}")
}

/// A table, or the stream that it feeds, whose changes are dropped until it is read anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspended {
    /// The table; the stream where it is the topic that does not take its contract.
    pub table: String,
    /// Why, without a row value.
    pub reason: String,
}

impl Checkpoint {
    /// Returns why a stream's contract is not taken by its topic; `None` when it is.
    pub fn refused(&self, stream: &str) -> Option<&str> {
        self.note(&refused_note(stream))
    }

    /// Returns the suspended tables and streams, by name; those that are not captured any more are left out.
    pub fn suspended(&self) -> Vec<Suspended> {
        let notes = self.notes.iter().filter_map(|(name, text)| {
            Some((name.strip_prefix(SUSPENDED).or(name.strip_prefix(REFUSED))?, text))
        });
        notes
            .filter(|(_, text)| *text != NOT_CAPTURED)
            .map(|(table, text)| Suspended { table: table.to_owned(), reason: text.clone() })
            .collect()
    }

    /// Returns how far each snapshot has come, by table. A note that cannot be read is left out.
    pub fn snapshots(&self) -> Vec<Progress> {
        let notes = self.notes.iter().filter_map(|(name, text)| Some((name.strip_prefix(PREFIX)?, text)));
        notes
            .filter_map(|(table, text)| {
                let progress: Progress = serde_json::from_str(text).ok()?;
                Some(Progress { table: table.to_owned(), ..progress })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_notes_of_snapshots_and_suspended_tables_and_no_others() {
        let mut checkpoint = Checkpoint::default();
        let notes = [
            ("snapshot.public.t", r#"{"rows":5,"estimate":9,"done":false,"last":["x"]}"#),
            ("snapshot.u", "rubbish"),
            ("base.t/0", "7"),
            ("suspended.public.v", "its key is gone"),
            ("suspended.public.w", NOT_CAPTURED),
            ("refused.x", "its contract breaks those who read it"),
        ];
        checkpoint.notes.extend(notes.map(|(name, text)| (name.to_owned(), text.to_owned())));
        let wanted = Progress { table: "public.t".into(), rows: 5, estimate: Some(9), done: false };
        assert_eq!(checkpoint.snapshots(), [wanted]);
        let suspended = [("x", "its contract breaks those who read it"), ("public.v", "its key is gone")];
        let suspended =
            suspended.map(|(table, reason)| Suspended { table: table.into(), reason: reason.into() });
        assert_eq!(checkpoint.suspended(), suspended);
    }
}
