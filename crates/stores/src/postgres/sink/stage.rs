//! The staging tables of a connection, and the statements that carry them into replicas set-wise.
//!
//! Knows a plan's SQL; nothing of changes or of what happens when the store refuses.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::SinkExt as _;
use tokio_postgres::{Client, SimpleQueryMessage, Statement};

use super::binary::Rows;
use super::catalog::{LANE, OFFSET};
use super::table::Plan;
use crate::postgres::ident::{literal, quote};

/// How much is handed to the connection at a time.
const PIECE: usize = 256 * 1024;

/// A staging table and the prepared statements of one replica. It is empty at the start of every transaction.
pub(super) struct Stage {
    name: String,
    copy: Statement,
    put: Statement,
    /// Copies into the replica itself, where every staged value is of the column's own type.
    direct: Option<Statement>,
    /// For a department's own table: where its rows come from.
    side: Option<Statement>,
}

static NUMBER: AtomicU64 = AtomicU64::new(0);

/// Returns what two plans must share to use the same statements.
pub(super) fn signature(plan: &Plan) -> String {
    format!("{} {}", put(plan, ""), columns(plan))
}

/// Creates a staging table and returns its name. Called outside a transaction, so that a rollback does not take the
/// table away.
pub(super) async fn create(client: &Client, columns: &str) -> Result<String, tokio_postgres::Error> {
    let name = format!("hutong_stage_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    client
        .batch_execute(&format!(
            "CREATE TEMP TABLE {name} (hutong_run int4, hutong_no int4, hutong_at int8{columns}) ON COMMIT DELETE ROWS"
        ))
        .await?;
    Ok(format!("pg_temp.{name}"))
}

impl Stage {
    /// Prepares the statements that carry what is staged in a table into a plan's replica.
    pub(super) async fn prepare(
        client: &Client,
        name: String,
        plan: &Plan,
    ) -> Result<Self, tokio_postgres::Error> {
        let copy = client.prepare(&format!("COPY {name} FROM STDIN (FORMAT binary)")).await?;
        let put = client.prepare(&put(plan, &name)).await?;
        let side = match plan.own {
            true => Some(client.prepare(&side_put(plan, &name, "$1", "$2")).await?),
            false => None,
        };
        let direct = match plan.own || plan.columns.iter().any(|column| column.kind.cast()) {
            true => None,
            false => Some(client.prepare(&direct(plan)).await?),
        };
        Ok(Self { name, copy, put, direct, side })
    }

    /// Stages some rows under a run of their own.
    pub(super) async fn fill(
        &self,
        client: &Client,
        rows: &Rows,
        range: Range<usize>,
        run: i32,
    ) -> Result<(), tokio_postgres::Error> {
        copy(client, &self.copy, rows.copy(range, run)).await.map(drop)
    }

    /// Copies new rows into the replica itself and returns how many; `None` when this table does not take them so.
    pub(super) async fn insert(
        &self,
        client: &Client,
        rows: &Rows,
        range: Range<usize>,
        lane: &str,
    ) -> Result<Option<u64>, tokio_postgres::Error> {
        let Some(direct) = &self.direct else { return Ok(None) };
        copy(client, direct, rows.direct(range, lane)).await.map(Some)
    }

    /// Upserts the rows of a run and returns how many the store has written.
    pub(super) async fn put(
        &self,
        client: &Client,
        run: i32,
        lane: &str,
    ) -> Result<u64, tokio_postgres::Error> {
        match &self.side {
            None => client.execute(&self.put, &[&run, &lane]).await,
            Some(side) => {
                let written = client.execute(&self.put, &[&run]).await?;
                client.execute(side, &[&run, &lane]).await?;
                Ok(written)
            }
        }
    }

    /// Deletes the `count` keys of a run; a missing row is fine. Returns how many rows are there all the same.
    ///
    /// Not prepared: a plan made while the table was small would read the whole of it when it has grown.
    pub(super) async fn delete(
        &self,
        client: &Client,
        plan: &Plan,
        run: i32,
        count: u64,
    ) -> Result<u64, tokio_postgres::Error> {
        let (table, name) = (&plan.table, &self.name);
        let mut sql =
            format!("DELETE FROM {table} t USING {name} s WHERE s.hutong_run = {run} AND {}", same(plan));
        if plan.own {
            sql.push_str(&format!(
                "; DELETE FROM hutong.hutong_row r USING {name} s
                    WHERE s.hutong_run = {run} AND r.table_name = {} AND r.key = {}",
                literal(&table.to_string()),
                side_key(plan)
            ));
        }
        if changed(client, &sql).await? >= count {
            return Ok(0);
        }
        let kept =
            format!("SELECT count(*) FROM {table} t, {name} s WHERE s.hutong_run = {run} AND {}", same(plan));
        Ok(client.query_one(&kept, &[]).await?.get::<_, i64>(0).unsigned_abs())
    }

    /// Updates the columns of `known` in the `count` rows of a run; returns the numbers of those that are not there,
    /// and how many of the others the store has left as they are.
    pub(super) async fn patch(
        &self,
        client: &Client,
        plan: &Plan,
        known: &[usize],
        (run, count): (i32, u64),
        lane: &str,
    ) -> Result<(Vec<usize>, u64), tokio_postgres::Error> {
        let (table, name, same) = (&plan.table, &self.name, same(plan));
        let mut sets: Vec<String> = known
            .iter()
            .filter(|at| !plan.key.contains(at))
            .map(|at| format!("{} = {}", quote(&plan.columns[*at].name), staged(plan, *at)))
            .collect();
        if !plan.own {
            sets.push(format!("{LANE} = {}", literal(lane)));
            sets.push(format!("{OFFSET} = s.hutong_at"));
        }
        let missing = format!(
            "SELECT s.hutong_no FROM {name} s WHERE s.hutong_run = {run}
                AND NOT EXISTS (SELECT FROM {table} t WHERE {same})"
        );
        let missing = client.query(&missing, &[]).await?;
        let mut skipped = 0;
        if !sets.is_empty() {
            let update = format!(
                "UPDATE {table} t SET {} FROM {name} s WHERE s.hutong_run = {run} AND {same}",
                sets.join(", ")
            );
            skipped = (count - missing.len() as u64).saturating_sub(changed(client, &update).await?);
        }
        if plan.own {
            // Only of rows that are there: the others leave the run before it is noted where it comes from.
            let gone = format!(
                "DELETE FROM {name} s WHERE s.hutong_run = {run} AND NOT EXISTS (SELECT FROM {table} t WHERE {same});"
            );
            let noted = side_put(plan, name, &run.to_string(), &literal(lane));
            client.batch_execute(&(gone + &noted)).await?;
        }
        Ok((missing.iter().map(|row| row.get::<_, i32>(0) as usize).collect(), skipped))
    }
}

/// Runs statements without preparing them; returns how many rows the first has changed.
async fn changed(client: &Client, sql: &str) -> Result<u64, tokio_postgres::Error> {
    let answers = client.simple_query(sql).await?;
    let first = answers.iter().find_map(|answer| match answer {
        SimpleQueryMessage::CommandComplete(count) => Some(*count),
        _ => None,
    });
    Ok(first.unwrap_or(0))
}

/// Copies rows and returns how many arrived: a trigger may skip some.
async fn copy(client: &Client, into: &Statement, mut bytes: Bytes) -> Result<u64, tokio_postgres::Error> {
    let sink = client.copy_in::<_, Bytes>(into).await?;
    futures_util::pin_mut!(sink);
    while !bytes.is_empty() {
        let piece = bytes.split_to(bytes.len().min(PIECE));
        sink.send(piece).await?;
    }
    sink.finish().await
}

fn direct(plan: &Plan) -> String {
    let names: String = plan.columns.iter().map(|column| format!(", {}", quote(&column.name))).collect();
    format!("COPY {} ({LANE}, {OFFSET}{names}) FROM STDIN (FORMAT binary)", plan.table)
}

/// Returns the staging table's columns: without constraint, without name to quote. Plans for which they are the same
/// share the table.
pub(super) fn columns(plan: &Plan) -> String {
    plan.columns.iter().enumerate().map(|(at, c)| format!(", c{at} {}", c.kind.staged())).collect()
}

/// Returns the staged value of a column as the column takes it.
fn staged(plan: &Plan, at: usize) -> String {
    let column = &plan.columns[at];
    if column.kind.cast() { format!("s.c{at}::{}", column.declared) } else { format!("s.c{at}") }
}

/// Returns the condition that the staged key is the row's. Cast, so that the table's index is used.
fn same(plan: &Plan) -> String {
    let equal = |at: &usize| {
        let column = &plan.columns[*at];
        format!("t.{} = s.c{at}::{}", quote(&column.name), column.declared)
    };
    plan.key.iter().map(equal).collect::<Vec<_>>().join(" AND ")
}

fn put(plan: &Plan, stage: &str) -> String {
    let mut names: Vec<String> = plan.columns.iter().map(|c| quote(&c.name)).collect();
    let mut values: Vec<String> = (0..plan.columns.len()).map(|at| staged(plan, at)).collect();
    let key: Vec<&str> = plan.key.iter().map(|at| names[*at].as_str()).collect();
    let key = key.join(", ");
    let mut sets: Vec<String> = (0..plan.columns.len())
        .filter(|at| !plan.key.contains(at))
        .map(|at| format!("{0} = EXCLUDED.{0}", names[at]))
        .collect();
    if !plan.own {
        names.extend([LANE.to_owned(), OFFSET.to_owned()]);
        values.extend(["$2".to_owned(), "s.hutong_at".to_owned()]);
        sets.extend([LANE, OFFSET].map(|name| format!("{name} = EXCLUDED.{name}")));
    }
    let action =
        if sets.is_empty() { "NOTHING".to_owned() } else { format!("UPDATE SET {}", sets.join(", ")) };
    format!(
        "INSERT INTO {} AS t ({}) SELECT {} FROM {stage} s WHERE s.hutong_run = $1 ON CONFLICT ({key}) DO {action}",
        plan.table,
        names.join(", "),
        values.join(", ")
    )
}

/// Returns the row's key as the side table keeps it: column names and the values' text.
fn side_key(plan: &Plan) -> String {
    let part = |at: &usize| {
        let column = &plan.columns[*at];
        format!("{}, (s.c{at}::{})::text", literal(&column.name), column.declared)
    };
    format!("jsonb_build_object({})", plan.key.iter().map(part).collect::<Vec<_>>().join(", "))
}

fn side_put(plan: &Plan, stage: &str, run: &str, lane: &str) -> String {
    format!(
        "INSERT INTO hutong.hutong_row (table_name, key, lane, \"offset\")
         SELECT {}, {}, {lane}, s.hutong_at FROM {stage} s WHERE s.hutong_run = {run}
         ON CONFLICT (table_name, key) DO UPDATE SET lane = EXCLUDED.lane, \"offset\" = EXCLUDED.\"offset\"",
        literal(&plan.table.to_string()),
        side_key(plan)
    )
}
