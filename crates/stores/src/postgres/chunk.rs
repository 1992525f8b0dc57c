//! Reads one chunk of a table, together with the database snapshot that it was read in.

use std::collections::HashMap;

use bytes::Bytes;
use hutong_core::{Contract, Error, ErrorKind, Result, Row};
use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

use super::catalog::{self, Live, Types};
use super::copied::{Copied, cells};
use super::error;
use super::fit::{Plan, Uncarried};
use super::ident::{TableName, literal, quote};
use super::pgoutput::Cell;
use super::shape::Shape;
use super::visibility::Visibility;

/// How many rows a chunk asks for at first, to learn how wide they are.
const FIRST: usize = 8;
/// A chunk ends early when it holds this much.
const CHUNK_BYTES: usize = 8 << 20;

/// How far the snapshot of one table has come: the note `snapshot.<schema>.<table>` of a checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Chunks committed.
    pub(crate) chunks: u64,
    /// Rows read.
    pub(crate) rows: u64,
    /// The server's estimate of all rows, when it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) estimate: Option<u64>,
    /// The key of the last row read, as the server's text, in the order of the key's index.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) last: Vec<String>,
    /// Whether every row was read.
    #[serde(default)]
    pub(crate) done: bool,
    /// What the table was like when it was begun; an older note lacks it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) shape: Option<Shape>,
}

impl Progress {
    /// Returns the text of the note.
    pub(crate) fn text(&self) -> String {
        serde_json::to_string(self).expect("progress is plain numbers and texts")
    }
}

/// A chunk that waits for its high watermark.
pub(crate) struct Chunk {
    pub(crate) visibility: Visibility,
    pub(crate) read_us: i64,
    /// Rows in key order; `None` when a streamed change has taken its place.
    pub(crate) rows: Vec<Option<Result<Row, Uncarried>>>,
    /// The rows as they came.
    lines: Vec<Bytes>,
    /// Row number by key; made when the first change asks for it, which most chunks never see.
    keys: Option<HashMap<Vec<Cell>, usize>>,
    /// How far the table has come with it.
    pub(crate) progress: Progress,
    pub(crate) plan: Plan,
}

impl Chunk {
    /// Makes a chunk without a row yet, after `progress`.
    pub(crate) fn new(visibility: Visibility, read_us: i64, progress: Progress, plan: Plan) -> Self {
        Self { visibility, read_us, rows: Vec::new(), lines: Vec::new(), keys: None, progress, plan }
    }

    /// Adds the next row in key order, as a line of COPY.
    pub(crate) fn push(&mut self, contract: &Contract, line: Bytes) {
        self.rows.push(Some(self.plan.row(contract, &cells(&line))));
        self.lines.push(line);
    }

    /// Takes the row of a key out: a newer change has been streamed.
    pub(crate) fn give_way(&mut self, contract: &Contract, key: &Vec<Cell>) -> Option<Row> {
        let keys = self.keys.get_or_insert_with(|| {
            let key = |(number, line)| (self.plan.key_text(contract, &cells(line)), number);
            self.lines.iter().enumerate().map(|(number, line)| key((number, line))).collect()
        });
        let row = *keys.get(key)?;
        self.rows.get_mut(row)?.take()?.ok()
    }

    /// Takes every row out.
    pub(crate) fn clear(&mut self) {
        self.rows.iter_mut().for_each(|row| *row = None);
    }
}

/// Why a table has no chunk.
pub(crate) enum Refused {
    /// Somebody holds a lock on it, as an ALTER TABLE does.
    Busy,
    /// The database snapshot is behind the stream.
    Behind,
    /// It no longer fits its contract, or cannot be read.
    Unfit(String),
    /// What was read of it is of no use any more.
    Outgrown(String),
    /// Everything else.
    Failed(Error),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Prepares a session for reading chunks.
///
/// The stream stands still while a chunk is read, so it may not wait for a lock for long. Row security would
/// hide rows silently: off, it is an error.
pub(crate) async fn prepare(client: &Client) -> Result<()> {
    client
        .batch_execute("SET lock_timeout = '250ms'; SET row_security = off")
        .await
        .map_err(|e| error::of(e, || "prepare a session".to_owned()))
}

/// Reads the rows after `progress`, at most `limit`.
///
/// In one REPEATABLE READ transaction that takes its lock before its snapshot: a table that is rewritten
/// looks empty to an older snapshot. Dropped halfway it leaves a transaction open, which `open` says and the
/// next call ends. `is_level` looks at the snapshot before a row is read.
#[expect(clippy::too_many_arguments, reason = "a session with its state, a table with its state")]
pub(crate) async fn read(
    client: &Client,
    open: &mut bool,
    types: &mut Types,
    name: &TableName,
    contract: &Contract,
    progress: &Progress,
    limit: usize,
    is_level: impl FnOnce(&Visibility) -> bool,
) -> Result<Chunk, Refused> {
    let doing = || format!("read a chunk of {}", name.plain());
    if std::mem::replace(open, true) {
        client.batch_execute("ROLLBACK").await.map_err(|e| error::of(e, doing))?;
    }
    let begin =
        format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; LOCK TABLE {name} IN ACCESS SHARE MODE");
    client.batch_execute(&begin).await.map_err(|e| match error::kind(&e) {
        ErrorKind::SchemaConflict | ErrorKind::Denied => Refused::Unfit(error::text(&e)),
        _ if error::is_locked(&e) => Refused::Busy,
        _ => Refused::Failed(error::of(e, doing)),
    })?;
    let row = client
        .query_one(
            "SELECT pg_current_snapshot()::text, (extract(epoch FROM clock_timestamp()) * 1000000)::int8",
            &[],
        )
        .await
        .map_err(|e| error::of(e, doing))?;
    let visibility = Visibility::parse(row.get(0))?;
    if !is_level(&visibility) {
        client.batch_execute("ROLLBACK").await.map_err(|e| error::of(e, doing))?;
        *open = false;
        return Err(Refused::Behind);
    }
    let read_us = row.get(1);
    let Some(live) = catalog::live(client, types, name).await? else {
        return Err(Refused::Unfit("the table is gone".into()));
    };
    let order = key_order(contract, &live).map_err(Refused::Unfit)?;
    let present = contract.fields.iter().filter_map(|field| live.column(field.column()));
    let plan = Plan::new(contract, present.map(|c| (c.name.as_str(), &c.ty))).map_err(Refused::Unfit)?;

    let mut chunk = Chunk::new(visibility, read_us, progress.clone(), plan);
    let mut last = progress.last.clone();
    let mut bytes = 0;
    let mut exhausted = false;
    while chunk.rows.len() < limit && bytes < CHUNK_BYTES && !exhausted {
        let asked = asked(chunk.rows.len(), bytes).min(limit - chunk.rows.len());
        let before = chunk.rows.len();
        let query = select(contract, &live, &order, &last, asked);
        let mut copied = Copied::start(client, &query).await.map_err(|e| match last.is_empty() {
            false if error::is_of_values(&e) => {
                Refused::Outgrown(format!("its key cannot be what was read last: {}", error::text(&e)))
            }
            // Row security says so only now.
            _ if error::is_denied(&e) => Refused::Unfit(error::text(&e)),
            _ => Refused::Failed(error::of(e, doing)),
        })?;
        // Rows may be much wider than those before them: what then follows is asked for again.
        while bytes < 2 * CHUNK_BYTES
            && let Some(line) = copied.line().await.map_err(|e| error::of(e, doing))?
        {
            bytes += line.len();
            chunk.push(contract, line);
        }
        exhausted = chunk.rows.len() - before < asked && bytes < 2 * CHUNK_BYTES;
        if let Some(line) = chunk.lines.last() {
            last = key_texts(&cells(line), &order);
        }
    }
    client.batch_execute("COMMIT").await.map_err(|e| error::of(e, doing))?;
    *open = false;

    let progress = &mut chunk.progress;
    progress.chunks += 1;
    progress.rows += chunk.rows.len() as u64;
    progress.estimate = live.estimate.filter(|estimate| *estimate > 0);
    progress.done = exhausted;
    if exhausted {
        progress.last.clear();
    } else {
        progress.last = last;
    }
    Ok(chunk)
}

/// Returns how many rows to ask for next, when so many have brought so much: they are in memory all at once.
fn asked(rows: usize, bytes: usize) -> usize {
    // What is asked for is sent, also when rows are suddenly so wide that it is not wanted any more.
    let most = (rows * FIRST).max(FIRST);
    if rows == 0 { FIRST } else { (CHUNK_BYTES.saturating_sub(bytes) * rows / bytes.max(1)).clamp(1, most) }
}

/// Returns the key of a row as the server's texts, in the order of the key's index.
fn key_texts(cells: &[Cell], order: &[usize]) -> Vec<String> {
    let text = |field: &usize| match cells.get(*field) {
        Some(Cell::Text(text)) => String::from_utf8_lossy(text).into_owned(),
        _ => String::new(),
    };
    order.iter().map(text).collect()
}

/// Returns the fields of the key in the order of the key's index, by which rows are read.
fn key_order(contract: &Contract, live: &Live) -> Result<Vec<usize>, String> {
    let names: Vec<&str> = contract.key_fields().map(|field| field.column()).collect();
    let key = live.key_of(&names).ok_or("its key is gone")?;
    let field =
        |column: &String| contract.key.iter().copied().find(|f| contract.fields[*f].column() == column);
    key.columns.iter().map(|column| field(column).ok_or_else(|| "its key is gone".to_owned())).collect()
}

fn select(contract: &Contract, live: &Live, order: &[usize], last: &[String], limit: usize) -> String {
    let list = |fields: &mut dyn Iterator<Item = usize>| {
        fields.map(|f| quote(contract.fields[f].column())).collect::<Vec<_>>().join(", ")
    };
    let columns = list(&mut (0..contract.fields.len()));
    let key = list(&mut order.iter().copied());
    let mut condition = String::new();
    if last.len() == order.len() {
        let bounds = order.iter().zip(last).map(|(field, text)| {
            let ty = live.column(contract.fields[*field].column()).map_or("text", |c| c.sql_type.as_str());
            format!("{}::{ty}", literal(text))
        });
        condition = format!(" WHERE ({key}) > ({})", bounds.collect::<Vec<_>>().join(", "));
    }
    format!("SELECT {columns} FROM {}{condition} ORDER BY {key} LIMIT {limit}", live.only())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_rows_are_read_a_few_at_a_time() {
        assert_eq!(asked(0, 0), 8);
        assert_eq!(asked(8, 8 * 400), 64);
        assert_eq!(asked(5_000, 5_000 * 400), CHUNK_BYTES / 400 - 5_000);
        assert_eq!(asked(8, 0), 64);
        assert_eq!(asked(8, 2 << 20), 24);
        assert_eq!(asked(1, 9 << 20), 1);
    }
}
