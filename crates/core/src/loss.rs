//! What was lost and accepted by a person: kept in the capture's checkpoint, so that it can be read afterwards.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Checkpoint, Position};

/// The note that holds the losses, a JSON list, the oldest first.
pub const NOTE: &str = "losses";

/// How many losses are kept: a checkpoint is written with every commit, so it may not grow for good.
const KEPT: usize = 20;

/// One loss that a person has accepted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// When, RFC 3339.
    pub at: String,
    /// Why, in the person's words.
    pub reason: String,
    /// The positions that were given up, by partition of the origin.
    #[serde(default)]
    pub positions: BTreeMap<String, Position>,
    /// Where the base began until then, by `<topic>/<partition>`.
    #[serde(default)]
    pub bases: BTreeMap<String, u64>,
    /// Where the new base begins, by `<topic>/<partition>`: what stands between the two is of before the loss.
    #[serde(default)]
    pub begins: BTreeMap<String, u64>,
}

impl Checkpoint {
    /// Returns the losses that were accepted, oldest first. A note that cannot be read tells none.
    pub fn losses(&self) -> Vec<Loss> {
        if let Some(text) = self.note(NOTE) {
            return serde_json::from_str(text).unwrap_or_default();
        }
        // As it was kept before there was a list.
        let older = self.note("reset.at").zip(self.note("reset.reason"));
        older
            .map(|(at, reason)| Loss { at: at.into(), reason: reason.into(), ..Loss::default() })
            .into_iter()
            .collect()
    }

    /// Returns the text of the note of losses with one more, without those that are too old to be kept.
    pub fn with_loss(&self, loss: Loss) -> String {
        let mut losses = self.losses();
        losses.push(loss);
        losses.drain(..losses.len().saturating_sub(KEPT));
        serde_json::json!(losses).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(name: &str, text: &str) -> Checkpoint {
        Checkpoint { notes: [(name.to_owned(), text.to_owned())].into(), ..Checkpoint::default() }
    }

    #[test]
    fn i3_the_latest_losses_are_kept_in_order() {
        let mut checkpoint = noted("reset.reason", "旧");
        checkpoint.notes.insert("reset.at".into(), "2026-01-01T00:00:00Z".into());
        assert_eq!(checkpoint.losses()[0].reason, "旧", "what was kept before there was a list");
        for n in 0..30 {
            let loss = Loss {
                at: "2026-01-02T00:00:00Z".into(),
                reason: n.to_string(),
                positions: [("wal".to_owned(), Position::wal(0, n, 0, 0))].into(),
                bases: [("t/0".to_owned(), n)].into(),
                begins: [("t/0".to_owned(), n + 1)].into(),
            };
            let text = checkpoint.with_loss(loss.clone());
            checkpoint.notes.insert(NOTE.into(), text);
            assert_eq!(checkpoint.losses().last(), Some(&loss));
            assert_eq!(checkpoint.losses().len(), (n as usize + 2).min(20));
        }
        let reasons: Vec<String> = checkpoint.losses().into_iter().map(|loss| loss.reason).collect();
        assert_eq!(reasons, (10..30).map(|n| n.to_string()).collect::<Vec<_>>());
        assert_eq!(noted(NOTE, "rubbish").losses(), []);
    }
}
