//! Narrows a replica where it stands: columns that are granted no more are emptied, and the rows stay.
//!
//! Knows which columns went, and the rows of a lane; nothing of what a grant is.

use hutong_core::{Class, ErrorKind, Result};
use tokio_postgres::Client;

use super::catalog::{self, LANE, Table};
use super::column::Catalog;
use super::pool::UNHURRIED;
use super::writer::SinkConfig;
use super::{lane, room};
use crate::postgres::error;
use crate::postgres::ident::{TableName, literal, quote};

/// Empties columns of a lane's rows, in the transaction that takes it over (I5, I7).
///
/// Returns how many rows had a value there. `None` when the table does not let them be empty, or when something waits in
/// the quarantine, which may hold what is granted no more: then the replica fills anew.
pub(super) async fn empty(
    client: &Client,
    name: &str,
    config: &SinkConfig,
    gone: &[String],
) -> Result<Option<u64>> {
    let failed = |e| error::of(e, || format!("empty columns of {} for {name}", config.table.plain()));
    let waits = "SELECT EXISTS (SELECT FROM hutong.hutong_quarantine WHERE lane = $1 AND state = 'waiting')";
    if client.query_one(waits, &[&name]).await.map_err(failed)?.get(0) {
        return Ok(None);
    }
    if let Some(contract) = &config.contract {
        match room::make(client, &config.table, contract).await {
            Err(error) if error.kind == ErrorKind::SchemaConflict => return Ok(None),
            made => made.map(drop)?,
        }
    }
    let Some(found) = catalog::read(client, &config.table).await? else { return Ok(None) };
    let there: Vec<&Catalog> = gone.iter().filter_map(|column| found.column(column)).collect();
    if there.iter().any(|column| column.required || column.generated) {
        return Ok(None);
    }
    client.batch_execute(&format!("{UNHURRIED}; SAVEPOINT narrow")).await.map_err(failed)?;
    let rows = match set_null(client, name, &config.table, &found, &there).await {
        Err(error) if error.class() == Class::Retry => return Err(error),
        Err(error) => {
            tracing::info!(lane = name, %error, "its columns cannot be emptied: it fills anew");
            None
        }
        Ok(rows) => rows,
    };
    // What was settled has the columns, too.
    let rest = match rows {
        Some(_) => format!("DELETE FROM hutong.hutong_quarantine WHERE lane = {}", literal(name)),
        None => "ROLLBACK TO SAVEPOINT narrow".into(),
    };
    client.batch_execute(&rest).await.map_err(failed)?;
    Ok(rows)
}

/// Returns how many rows it has changed; `None` when some of them still have a value: a trigger has the last word.
async fn set_null(
    client: &Client,
    name: &str,
    table: &TableName,
    found: &Table,
    columns: &[&Catalog],
) -> Result<Option<u64>> {
    if columns.is_empty() {
        return Ok(Some(0));
    }
    let lane = literal(name);
    // The side table is read beside a department's own, whose rows do not say where they come from.
    let (from, beside, own) = if found.created_by_hutong() {
        ("", "", format!("t.{LANE} = {lane}"))
    } else {
        let Some(same) = lane::same(client, table, found, name).await? else { return Ok(Some(0)) };
        let held = literal(&table.to_string());
        let own = format!("r.table_name = {held} AND r.lane = {lane} AND {same}");
        ("FROM hutong.hutong_row r", ", hutong.hutong_row r", own)
    };
    let names = || columns.iter().map(|column| quote(&column.name));
    let set: Vec<String> = names().map(|column| format!("{column} = NULL")).collect();
    let filled: Vec<String> = names().map(|column| format!("t.{column} IS NOT NULL")).collect();
    let (set, whose) = (set.join(", "), format!("WHERE {own} AND ({})", filled.join(" OR ")));
    let failed = |e| error::of(e, || format!("empty columns of {} for {name}", table.plain()));
    let rows =
        client.execute(&format!("UPDATE {table} t SET {set} {from} {whose}"), &[]).await.map_err(failed)?;
    // What waits for the commit decides now: there it would refuse the whole opening, again and again.
    let decide = "SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED";
    client.batch_execute(decide).await.map_err(failed)?;
    let left = format!("SELECT EXISTS (SELECT FROM {table} t{beside} {whose})");
    let left: bool = client.query_one(&left, &[]).await.map_err(failed)?.get(0);
    Ok((!left).then_some(rows))
}
