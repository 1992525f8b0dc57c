//! Reads unchanged large values again, by key, which the stream did not tell.
//!
//! The row may be newer by now. A value is taken only from a row that is like the change in everything that the
//! stream did tell: what a later change wrote beside other values, which nobody may be permitted to see, does not
//! go out with these. Nor may it be older than the value that did not change: a commit is streamed before others
//! see it (for long, while a synchronous standby does not answer), so the rows are read only in a snapshot that
//! sees the change's transaction. A row that is another one, gone, or locked for long leaves the value unknown: the
//! change that made it so is still to come, and tells the value itself.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use hutong_core::{Batch, Contract, Position, Result, Row, Value};
use tokio::time::Instant;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::catalog::{self, Live, Types};
use super::error;
use super::fit::Plan;
use super::ident::{TableName, literal, quote};
use super::image;
use super::pgoutput::Cell;
use super::visibility::Visibility;

/// How many rows one query asks for.
pub(crate) const ROWS: usize = 200;
/// How long a batch waits for a table that somebody has locked: every table waits with it.
pub(crate) const LOCKED: Duration = Duration::from_secs(3);

/// A change with a value that nobody told.
#[derive(Debug)]
pub(crate) struct Missing {
    pub(crate) table: usize,
    /// The row's key now, as the server's bytes.
    pub(crate) key: Vec<Cell>,
    /// The transaction that changed it.
    pub(crate) xid: u32,
    pub(crate) position: Position,
    /// Whether nothing but the key was told: the change becomes what the row is now (see `mend.rs`).
    pub(crate) whole: bool,
}

/// A batch that is complete but for missing values.
pub(crate) struct Due {
    pub(crate) batch: Batch,
    pub(crate) missing: Vec<Missing>,
    /// Until when it waits for locked tables; `None` before it met one.
    pub(crate) locked_until: Option<Instant>,
}

impl Due {
    pub(crate) fn new(batch: Batch, missing: Vec<Missing>) -> Self {
        Self { batch, missing, locked_until: None }
    }
}

/// What a query for rows has found.
pub(crate) enum Found {
    Rows(Vec<Vec<Cell>>),
    /// The snapshot that they were read in does not see every transaction.
    Unseen,
    /// Somebody holds a lock on the table.
    Locked,
    /// The role may not read it.
    Denied,
    /// One of the keys is no value of its column's type.
    Invalid,
}

/// Fills what is missing of one table; `false`: one of its transactions is not seen yet, or the table is locked, so
/// it is to be called again. So it may be when it was dropped halfway.
pub(crate) async fn fill(
    client: &Client,
    types: &mut Types,
    table: usize,
    name: &TableName,
    contract: &Contract,
    due: &mut Due,
) -> Result<bool> {
    let Some(live) = catalog::live(client, types, name).await? else { return Ok(true) };
    let present = contract.fields.iter().filter_map(|field| live.column(field.column()));
    // A table that no longer fits tells nothing; its next relation message suspends it.
    let Ok(plan) = Plan::new(contract, present.map(|c| (c.name.as_str(), &c.ty))) else { return Ok(true) };
    let missing: Vec<_> =
        due.missing.iter().filter(|missing| missing.table == table && !missing.whole).collect();
    let mut found: HashMap<Position, Row> = HashMap::new();
    for some in missing.chunks(ROWS) {
        let rows: HashMap<Vec<Cell>, Row> = match rows(client, contract, &live, some).await? {
            // A row of which one value cannot be carried tells nothing; its own change is rejected by name.
            Found::Rows(rows) => rows
                .iter()
                .filter_map(|cells| Some((plan.key_text(contract, cells), plan.row(contract, cells).ok()?)))
                .collect(),
            Found::Unseen => return Ok(false),
            Found::Invalid => {
                tracing::warn!(table = %name.plain(), "a key is none of its: unchanged large values stay unknown");
                break;
            }
            Found::Denied => {
                tracing::warn!(table = %name.plain(), "may not be read: unchanged large values stay unknown");
                break;
            }
            Found::Locked => {
                let until = *due.locked_until.get_or_insert_with(|| Instant::now() + LOCKED);
                if Instant::now() < until {
                    return Ok(false);
                }
                tracing::warn!(table = %name.plain(), "locked for long: unchanged large values stay unknown");
                break;
            }
        };
        for missing in some {
            if let Some(row) = rows.get(&missing.key) {
                found.insert(missing.position, row.clone());
            }
        }
    }
    for change in &mut due.batch.changes {
        if let (Some(row), Some(after)) = (found.get(&change.position), &mut change.after)
            && is_like(after, row)
        {
            image::fill(after, row);
        }
    }
    Ok(true)
}

/// Reads rows by key.
pub(crate) async fn rows(
    client: &Client,
    contract: &Contract,
    live: &Live,
    missing: &[&Missing],
) -> Result<Found> {
    let list = |fields: &mut dyn Iterator<Item = &hutong_core::Field>| {
        fields.map(|field| quote(field.column())).collect::<Vec<_>>().join(", ")
    };
    let columns = list(&mut contract.fields.iter());
    let key = list(&mut contract.key_fields());
    let casts: Vec<_> = contract
        .key_fields()
        .map(|field| live.column(field.column()).map_or("text", |c| c.sql_type.as_str()))
        .collect();
    let values = missing.iter().map(|missing| {
        let values = missing.key.iter().zip(&casts).map(|(cell, cast)| match cell {
            Cell::Text(text) => format!("{}::{cast}", literal(&String::from_utf8_lossy(text))),
            Cell::Null | Cell::Unchanged => "NULL".to_owned(),
        });
        format!("({})", values.collect::<Vec<_>>().join(", "))
    });
    let values = values.collect::<Vec<_>>().join(", ");
    // One statement has one snapshot, which is told even when every row is gone.
    let sql = format!(
        "SELECT pg_current_snapshot()::text, r.* FROM (SELECT 1) one LEFT JOIN \
         (SELECT {columns}, true FROM {} WHERE ({key}) IN ({values})) r ON true",
        live.only()
    );
    let answer = match client.simple_query(&sql).await {
        Err(e) if error::is_locked(&e) => return Ok(Found::Locked),
        Err(e) if error::is_denied(&e) => return Ok(Found::Denied),
        Err(e) if error::is_of_values(&e) => return Ok(Found::Invalid),
        answer => answer
            .map_err(|e| error::of(e, || format!("read unchanged values of {} again", live.name.plain())))?,
    };
    let mut rows = Vec::new();
    for message in answer {
        let SimpleQueryMessage::Row(row) = message else { continue };
        let visibility = Visibility::parse(row.get(0).unwrap_or_default())?;
        if !missing.iter().all(|missing| visibility.sees(missing.xid)) {
            return Ok(Found::Unseen);
        }
        if row.get(row.len() - 1).is_none() {
            break;
        }
        let cells = (1..row.len() - 1).map(|i| {
            row.get(i).map_or(Cell::Null, |text| Cell::Text(Bytes::copy_from_slice(text.as_bytes())))
        });
        rows.push(cells.collect());
    }
    Ok(Found::Rows(rows))
}

/// States whether two images of a row agree in everything that the first one tells (I5).
fn is_like(told: &[Value], row: &[Value]) -> bool {
    told.len() == row.len() && told.iter().zip(row).all(|(told, row)| told.is_unknown() || told == row)
}

/// States whether a row has a value that nobody told.
pub(crate) fn is_incomplete(row: &[Value]) -> bool {
    row.iter().any(Value::is_unknown)
}
