//! Narrows a replica where it stands: columns that are granted no more are emptied, values that are masked from now on
//! are masked, and rows that are granted no more go; the others stay.
//!
//! Knows the rows of a lane, and asks what becomes of each (`hutong_core::grant::Narrowing`); nothing of what a grant is.

use hutong_core::grant::{Fate, Narrowing};
use hutong_core::{Class, Error, ErrorKind, Field, Result, Row, Value};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};

use super::binary::Kind;
use super::catalog::{self, LANE, Table};
use super::column::{Catalog, fit};
use super::pool::UNHURRIED;
use super::writer::SinkConfig;
use super::{held, lane, room};
use crate::postgres::error;
use crate::postgres::ident::{TableName, literal, quote};
use crate::postgres::pgoutput::Cell;

/// How many rows are looked at at a time.
const ROWS: usize = 2_000;

/// What was narrowed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Narrowed {
    /// How many rows were emptied or masked.
    pub(super) changed: u64,
    /// How many rows went.
    pub(super) removed: u64,
}

/// Narrows the rows of a lane, in the transaction that takes it over (I5, I7).
///
/// `None` when the table does not let them be narrowed, or when something waits in the quarantine, which may hold what is
/// granted no more: then the replica fills anew.
pub(super) async fn in_place(
    client: &Client,
    name: &str,
    config: &SinkConfig,
    narrowing: &Narrowing,
) -> Result<Option<Narrowed>> {
    let failed = |e| error::of(e, || doing(name, &config.table));
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
    let gone: Vec<&Catalog> = narrowing.gone.iter().filter_map(|column| found.column(column)).collect();
    if gone.iter().any(|column| column.required || column.generated) {
        return Ok(None);
    }
    client.batch_execute(&format!("{UNHURRIED}; SAVEPOINT narrow")).await.map_err(failed)?;
    let lane = Lane { client, name, table: &config.table, found: &found };
    let done = match lane.narrow(narrowing, &gone).await {
        Err(error) if error.class() == Class::Retry => return Err(error),
        Err(error) => {
            tracing::info!(lane = name, %error, "it cannot be narrowed where it stands, and fills anew");
            None
        }
        Ok(done) => done,
    };
    // What was settled has the columns, too.
    let rest = match done {
        Some(_) => format!("DELETE FROM hutong.hutong_quarantine WHERE lane = {}", literal(name)),
        None => "ROLLBACK TO SAVEPOINT narrow".into(),
    };
    client.batch_execute(&rest).await.map_err(failed)?;
    Ok(done)
}

fn doing(name: &str, table: &TableName) -> String {
    format!("narrow what {} holds of {name}", table.plain())
}

/// A lane and the table that has its rows.
struct Lane<'a> {
    client: &'a Client,
    name: &'a str,
    table: &'a TableName,
    found: &'a Table,
}

/// How the rows of a lane are found: those `t` of the table, by a side table `r` where they do not say it themselves.
struct Whose {
    beside: &'static str,
    rows: String,
}

impl Lane<'_> {
    async fn narrow(&self, narrowing: &Narrowing, gone: &[&Catalog]) -> Result<Option<Narrowed>> {
        // The side table is read beside a department's own, whose rows do not say where they come from.
        let lane = literal(self.name);
        let whose = if self.found.created_by_hutong() {
            Whose { beside: "", rows: format!("t.{LANE} = {lane}") }
        } else {
            let same = lane::same(self.client, self.table, self.found, self.name).await?;
            let Some(same) = same else { return Ok(Some(Narrowed::default())) };
            let held = literal(&self.table.to_string());
            let rows = format!("r.table_name = {held} AND r.lane = {lane} AND {same}");
            Whose { beside: "hutong.hutong_row r", rows }
        };
        let Some(mut done) = self.judge(narrowing, gone, &whose).await? else { return Ok(None) };
        let Some(emptied) = self.empty(gone, &whose).await? else { return Ok(None) };
        done.changed += emptied;
        Ok(Some(done))
    }

    /// Asks of each row what becomes of it, where that has to be asked; `None` when nobody can tell, or when the table
    /// does not do as it is told.
    async fn judge(
        &self,
        narrowing: &Narrowing,
        gone: &[&Catalog],
        whose: &Whose,
    ) -> Result<Option<Narrowed>> {
        let mut done = Narrowed::default();
        let reads: Vec<&Field> = narrowing.reads();
        if reads.is_empty() {
            return Ok(Some(done));
        }
        // What a trigger does behind a row is not seen here.
        if self.is_followed().await? {
            return Ok(None);
        }
        let mut kinds = Vec::with_capacity(reads.len());
        for field in &reads {
            let kind = self.found.column(field.column()).and_then(|there| fit(&field.ty, there));
            let Some(kind) = kind else { return Ok(None) };
            kinds.push(kind);
        }
        let failed = |e| error::of(e, || doing(self.name, self.table));
        let columns: Vec<String> = reads.iter().map(|field| format!("t.{}", quote(field.column()))).collect();
        let cursor = format!(
            "DECLARE narrow NO SCROLL CURSOR FOR SELECT t.ctid, t.tableoid, {} FROM {} t{} WHERE {}",
            columns.join(", "),
            self.table,
            whose.also(),
            whose.rows
        );
        self.client.batch_execute(&cursor).await.map_err(failed)?;
        loop {
            // In the words of the wire, so that a value is read as everywhere.
            let told =
                self.client.simple_query(&format!("FETCH {ROWS} FROM narrow")).await.map_err(failed)?;
            let rows: Vec<&SimpleQueryRow> = told
                .iter()
                .filter_map(|message| match message {
                    SimpleQueryMessage::Row(row) => Some(row),
                    _ => None,
                })
                .collect();
            if rows.is_empty() {
                break;
            }
            let (mut goes, mut masked) = (Places::default(), Places::default());
            let mut values: Vec<Vec<Option<String>>> = vec![Vec::new(); narrowing.masks().len()];
            for row in rows {
                match narrowing.fate(read(row, &reads, &kinds)) {
                    Fate::Stays => {}
                    Fate::Goes => goes.add(row)?,
                    Fate::Masked(row_values) => {
                        masked.add(row)?;
                        for (column, value) in values.iter_mut().zip(row_values) {
                            column.push(value.as_text().map(str::to_owned));
                        }
                    }
                    Fate::Untold => return Ok(None),
                }
            }
            if !self.remove(&goes, whose).await? || !self.mask(&masked, narrowing, &values, gone).await? {
                return Ok(None);
            }
            done.removed += goes.at.len() as u64;
            done.changed += masked.at.len() as u64;
        }
        self.client.batch_execute("CLOSE narrow").await.map_err(failed)?;
        Ok(Some(done))
    }

    /// States whether a trigger of the table acts behind its rows.
    async fn is_followed(&self) -> Result<bool> {
        // `tgtype`: 2 of one before, 64 of one instead (PostgreSQL, `pg_trigger.h`).
        let sql = "SELECT EXISTS (SELECT FROM pg_trigger t WHERE NOT t.tgisinternal AND t.tgtype & 66 = 0
                   AND t.tgrelid IN (SELECT relid FROM pg_partition_tree(to_regclass($1))
                                     UNION SELECT to_regclass($1)))";
        let row = self.client.query_one(sql, &[&self.table.to_string()]).await;
        Ok(row.map_err(|e| error::of(e, || doing(self.name, self.table)))?.get(0))
    }

    /// Removes rows by their places; `false` when not all of them went: somebody else has moved one, or keeps it.
    async fn remove(&self, goes: &Places, whose: &Whose) -> Result<bool> {
        if goes.at.is_empty() {
            return Ok(true);
        }
        let failed = |e| error::of(e, || doing(self.name, self.table));
        let here = "unnest($1::text[]::tid[], $2::oid[]) v (at, of)";
        let place = "t.ctid = v.at AND t.tableoid = v.of";
        if !whose.beside.is_empty() {
            let sql = format!(
                "DELETE FROM {} USING {} t, {here} WHERE {} AND {place}",
                whose.beside, self.table, whose.rows
            );
            self.client.execute(&sql, &[&goes.at, &goes.of]).await.map_err(failed)?;
        }
        let sql = format!("DELETE FROM {} t USING {here} WHERE {place}", self.table);
        let went = self.client.execute(&sql, &[&goes.at, &goes.of]).await.map_err(failed)?;
        Ok(went == goes.at.len() as u64)
    }

    /// Masks values by the places of their rows, and empties what is granted no more there; `false` when not all of them
    /// are masked then.
    async fn mask(
        &self,
        places: &Places,
        narrowing: &Narrowing,
        values: &[Vec<Option<String>>],
        gone: &[&Catalog],
    ) -> Result<bool> {
        if places.at.is_empty() {
            return Ok(true);
        }
        let masks = narrowing.masks();
        let columns: Vec<String> = masks.iter().map(|field| quote(field.column())).collect();
        let each = || columns.iter().enumerate();
        let mut set: Vec<String> = each().map(|(at, column)| format!("{column} = v.m{at}")).collect();
        set.extend(gone.iter().map(|column| format!("{} = NULL", quote(&column.name))));
        let arrays: Vec<String> = each().map(|(at, _)| format!(", ${}::text[]", at + 3)).collect();
        let names: Vec<String> = each().map(|(at, _)| format!(", m{at}")).collect();
        let kept: Vec<String> = each()
            .map(|(at, column)| {
                format!(r#"t.{column}::text COLLATE "C" IS NOT DISTINCT FROM v.m{at} COLLATE "C""#)
            })
            .collect();
        let sql = format!(
            "WITH done AS (UPDATE {} t SET {} FROM unnest($1::text[]::tid[], $2::oid[]{}) v (at, of{})
             WHERE t.ctid = v.at AND t.tableoid = v.of RETURNING {} AS kept)
             SELECT count(*) FILTER (WHERE kept) FROM done",
            self.table,
            set.join(", "),
            arrays.concat(),
            names.concat(),
            kept.join(" AND ")
        );
        let mut bound: Vec<&(dyn ToSql + Sync)> = vec![&places.at, &places.of];
        bound.extend(values.iter().map(|column| column as &(dyn ToSql + Sync)));
        let kept = self.client.query_one(&sql, &bound).await;
        let kept: i64 = kept.map_err(|e| error::of(e, || doing(self.name, self.table)))?.get(0);
        Ok(kept == places.at.len() as i64)
    }

    /// Returns how many rows it has emptied; `None` when some of them still have a value: a trigger has the last word.
    async fn empty(&self, columns: &[&Catalog], whose: &Whose) -> Result<Option<u64>> {
        let failed = |e| error::of(e, || doing(self.name, self.table));
        // What waits for the commit decides now: there it would refuse the whole opening, again and again.
        let decide = "SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED";
        if columns.is_empty() {
            self.client.batch_execute(decide).await.map_err(failed)?;
            return Ok(Some(0));
        }
        let (table, rows) = (self.table, &whose.rows);
        let from = if whose.beside.is_empty() { String::new() } else { format!("FROM {}", whose.beside) };
        let names = || columns.iter().map(|column| quote(&column.name));
        let set: Vec<String> = names().map(|column| format!("{column} = NULL")).collect();
        let filled: Vec<String> = names().map(|column| format!("t.{column} IS NOT NULL")).collect();
        let (set, whose_rows) = (set.join(", "), format!("WHERE {rows} AND ({})", filled.join(" OR ")));
        let sql = format!("UPDATE {table} t SET {set} {from} {whose_rows}");
        let emptied = self.client.execute(&sql, &[]).await.map_err(failed)?;
        self.client.batch_execute(decide).await.map_err(failed)?;
        let left = format!("SELECT EXISTS (SELECT FROM {table} t{} {whose_rows})", whose.also());
        let left: bool = self.client.query_one(&left, &[]).await.map_err(failed)?.get(0);
        Ok((!left).then_some(emptied))
    }
}

impl Whose {
    fn also(&self) -> String {
        if self.beside.is_empty() { String::new() } else { format!(", {}", self.beside) }
    }
}

/// Where rows stand: their places, and the partition of the table that has them.
#[derive(Default)]
struct Places {
    at: Vec<String>,
    of: Vec<u32>,
}

impl Places {
    fn add(&mut self, row: &SimpleQueryRow) -> Result<()> {
        let broken = || Error::new(ErrorKind::Broken, "narrow a replica", "a row has no place");
        self.at.push(row.get(0).ok_or_else(broken)?.to_owned());
        self.of.push(row.get(1).and_then(|of| of.parse().ok()).ok_or_else(broken)?);
        Ok(())
    }
}

fn read(row: &SimpleQueryRow, fields: &[&Field], kinds: &[Kind]) -> Row {
    let value = |(at, (field, kind)): (usize, (&&Field, &Kind))| -> Value {
        let cell = row.get(at + 2).map_or(Cell::Null, |text| Cell::Text(text.to_owned().into()));
        held::value(&field.ty, kind, &cell)
    };
    fields.iter().zip(kinds).enumerate().map(value).collect()
}
