//! How far the snapshots of a capture have come, as its checkpoint's notes say.

use serde::{Deserialize, Serialize};

use crate::Checkpoint;

/// The prefix of the notes that tell it; the table's name follows.
const PREFIX: &str = "snapshot.";

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

impl Checkpoint {
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
    fn reads_the_notes_of_snapshots_and_no_others() {
        let mut checkpoint = Checkpoint::default();
        let notes = [
            ("snapshot.public.t", r#"{"rows":5,"estimate":9,"done":false,"last":["x"]}"#),
            ("snapshot.u", "rubbish"),
            ("base.t/0", "7"),
        ];
        checkpoint.notes.extend(notes.map(|(name, text)| (name.to_owned(), text.to_owned())));
        let wanted = Progress { table: "public.t".into(), rows: 5, estimate: Some(9), done: false };
        assert_eq!(checkpoint.snapshots(), [wanted]);
    }
}
