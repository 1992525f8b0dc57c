//! A trace that a running capture leaves in the server, and notes: a server on which an older state was restored does
//! not have it, even when its log has grown past the checkpoint since.
//!
//! It is a random word in the comment of the capture's publication, another one every few minutes. A role that does
//! not own the publication leaves none, and over somebody else's comment none is written.

use std::time::Duration;

use hutong_core::{Checkpoint, Result};
use tokio::time::Instant;
use tokio_postgres::Client;

use super::error;
use super::ident::{literal, quote};
use super::lost::Stand;

/// The note of the trace that was left last.
const NOTE: &str = "trace";
/// How often another one is left: what was restored from a moment before the last one is not noticed.
const EVERY: Duration = Duration::from_secs(300);
/// How many stay, newest first: an owner that was shut out may still have left one.
const KEPT: usize = 16;
/// What a comment begins with that holds traces.
const HEAD: &str = "Hutong notices by these words when an older state of the server is restored:";

/// The traces of a capture.
#[derive(Debug)]
pub(crate) struct Trace {
    /// What the checkpoint has noted.
    noted: Option<String>,
    /// What was left and is not noted yet, and where the log ended behind it.
    left: Option<(String, u64)>,
    due: Instant,
}

/// What a publication says.
struct Found {
    own: bool,
    /// `None`: the comment is somebody else's.
    words: Option<Vec<String>>,
}

impl Trace {
    /// Looks for the trace that the checkpoint has noted; `Err(PositionLost)` when others are there and it is not.
    pub(crate) async fn look(control: &Client, stand: &Stand, from: &Checkpoint, end: u64) -> Result<Self> {
        let noted = from.note(NOTE).map(str::to_owned);
        let words = read(control, &stand.slot).await?.and_then(|found| found.words).unwrap_or_default();
        // None at all: somebody has made the publication again, or removed the comment.
        if let Some(noted) = noted.as_ref().filter(|noted| !words.is_empty() && !words.contains(noted)) {
            let why = format!(
                "the server has not the trace {noted}, which the capture left before the checkpoint: an older state was \
                 restored, and its log has grown past the checkpoint since"
            );
            return Err(stand.lost(why, end));
        }
        Ok(Self { noted, left: None, due: Instant::now() })
    }

    /// Leaves another trace when it is time.
    pub(crate) async fn leave(&mut self, control: &Client, publication: &str) -> Result<()> {
        if self.left.is_some() || Instant::now() < self.due {
            return Ok(());
        }
        let Some(Found { own: true, words: Some(mut words) }) = read(control, publication).await? else {
            return Ok(());
        };
        let word = format!("{:016x}", rand::random::<u64>());
        // The noted one stays however often the capture opens before it commits.
        words.retain(|word| self.noted.as_ref() != Some(word));
        words.splice(0..0, std::iter::once(word.clone()).chain(self.noted.clone()));
        words.truncate(KEPT);
        let text = literal(&format!("{HEAD} {}", words.join(" ")));
        let comment = format!("COMMENT ON PUBLICATION {} IS {text}", quote(publication));
        match control.batch_execute(&comment).await {
            // Somebody alters the publication now: at the next look.
            Err(e) if error::is_locked(&e) => return Ok(()),
            left => left.map_err(|e| error::of(e, doing))?,
        }
        let end = "SELECT (pg_current_wal_insert_lsn() - '0/0')::int8";
        let end: i64 = control.query_one(end, &[]).await.map_err(|e| error::of(e, doing))?.get(0);
        self.left = Some((word, end as u64));
        self.due = Instant::now() + EVERY;
        Ok(())
    }

    /// Returns the note to be made once everything up to `reached` was read: a standby that takes over there has the
    /// trace too.
    pub(crate) fn note(&mut self, reached: u64) -> Option<(&'static str, String)> {
        let (word, _) = self.left.take_if(|(_, end)| *end <= reached)?;
        self.noted = Some(word.clone());
        Some((NOTE, word))
    }
}

fn doing() -> String {
    "leave a trace in the publication's comment".to_owned()
}

async fn read(control: &Client, publication: &str) -> Result<Option<Found>> {
    let sql = "SELECT pg_has_role(pubowner, 'USAGE'), coalesce(obj_description(oid, 'pg_publication'), '') \
               FROM pg_publication WHERE pubname = $1";
    let row = control.query_opt(sql, &[&publication]).await.map_err(|e| error::of(e, doing))?;
    Ok(row.map(|row| Found { own: row.get(0), words: words(row.get(1)) }))
}

fn words(comment: &str) -> Option<Vec<String>> {
    let words = if comment.is_empty() { "" } else { comment.strip_prefix(HEAD)? };
    Some(words.split_whitespace().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_of_somebody_else_holds_no_traces() {
        assert_eq!(words(""), Some(vec![]));
        assert_eq!(words(&format!("{HEAD} a b")), Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(words("made by the office"), None);
    }

    #[tokio::test]
    async fn a_trace_is_noted_only_where_the_log_holds_it() {
        let mut trace = Trace { noted: None, left: Some(("a".into(), 9)), due: Instant::now() };
        assert_eq!(trace.note(8), None);
        assert_eq!(trace.note(9), Some(("trace", "a".to_owned())));
        assert_eq!(trace.note(10), None);
    }
}
