//! Where a change waits that could not go on, with its reason.
//!
//! Knows `hutong_quarantine`; nothing of how changes are applied.

use std::collections::HashMap;

use hutong_core::{Position, Rejected, Reread, Result, Secret};
use tokio_postgres::Client;
use tokio_postgres::types::Json;

use crate::keep;
use crate::postgres::connect;
use crate::postgres::error;
use crate::reread;

/// What waits in a lane: the key's text, and the position of the first change of it that waits.
pub(super) type Waiting = HashMap<String, Position>;

/// Returns the text by which the quarantine knows the row of a rejected change.
pub(super) fn key_of(rejected: &Rejected) -> Option<String> {
    let change = rejected.change.as_ref()?;
    let row = change.after.as_ref().or(change.before.row())?;
    keep::key_text(&change.contract, row)
}

/// Reads what waits in a lane.
pub(super) async fn waiting(client: &Client, lane: &str) -> Result<Waiting> {
    let rows = client
        .query(
            r#"SELECT key, min("position" COLLATE "C") FROM hutong.hutong_quarantine
                WHERE lane = $1 AND state = 'waiting' AND key IS NOT NULL GROUP BY key"#,
            &[&lane],
        )
        .await
        .map_err(|e| error::of(e, || format!("read the quarantine of {lane}")))?;
    rows.iter().map(|row| Ok((row.get(0), row.get::<_, String>(1).parse()?))).collect()
}

/// Sets changes aside, in the transaction that is open.
pub(super) async fn insert(
    client: &Client,
    lane: &str,
    rejected: impl Iterator<Item = &Rejected>,
) -> Result<(), tokio_postgres::Error> {
    let mut prepared = None;
    for item in rejected {
        let statement = match &prepared {
            Some(statement) => statement,
            None => prepared.insert(
                client
                    .prepare(
                        r#"INSERT INTO hutong.hutong_quarantine
                           (lane, stream, rule, reason, "position", key, change, record)
                           VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"#,
                    )
                    .await?,
            ),
        };
        let change = item.change.as_ref().map(|change| Json(keep::change_json(change)));
        let record = item.record.as_ref().map(|record| Json(keep::record_json(record)));
        // PostgreSQL's text holds no zero character; a reason that quotes one may not stop the lane.
        let reason = item.reason.replace('\0', "\u{fffd}");
        client
            .execute(
                statement,
                &[
                    &lane,
                    &item.stream,
                    &item.rule,
                    &reason,
                    &item.position.to_string(),
                    &key_of(item),
                    &change,
                    &record,
                ],
            )
            .await?;
    }
    Ok(())
}

/// Marks what waits for each key as superseded by a later complete change or delete of it.
pub(super) async fn supersede(
    client: &Client,
    lane: &str,
    by: &[(String, Position)],
) -> Result<(), tokio_postgres::Error> {
    let keys: Vec<&str> = by.iter().map(|(key, _)| key.as_str()).collect();
    let positions: Vec<String> = by.iter().map(|(_, position)| position.to_string()).collect();
    client
        .execute(
            r#"UPDATE hutong.hutong_quarantine q SET state = 'superseded', settled = clock_timestamp()
                 FROM unnest($2::text[], $3::text[]) AS later (key, "position")
                WHERE q.lane = $1 AND q.state = 'waiting' AND q.key = later.key
                  AND q."position" < later."position" COLLATE "C""#,
            &[&lane, &keys, &positions],
        )
        .await?;
    Ok(())
}

/// Marks everything that waits in a lane from before a truncate as superseded, also what belongs to no known row.
pub(super) async fn supersede_all(
    client: &Client,
    lane: &str,
    before: Position,
) -> Result<(), tokio_postgres::Error> {
    client
        .execute(
            r#"UPDATE hutong.hutong_quarantine SET state = 'superseded', settled = clock_timestamp()
                WHERE lane = $1 AND state = 'waiting' AND "position" < $2 COLLATE "C""#,
            &[&lane, &before.to_string()],
        )
        .await?;
    Ok(())
}

/// One item of a store's quarantine, as an operator sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Its number in this store.
    pub id: i64,
    /// The lane that set it aside.
    pub lane: String,
    /// The stream.
    pub stream: String,
    /// The rule that refused it.
    pub rule: String,
    /// Why, in words.
    pub reason: String,
    /// Its place in the partition that it was read from.
    pub position: Position,
    /// `waiting`, `superseded`, `replayed` or `discarded`.
    pub state: String,
    /// When it was set aside, as text: `2026-01-31 08:00:00.123456+00`.
    pub first_seen: String,
    /// The change, as far as it may be shown here.
    pub change: Option<serde_json::Value>,
    /// What is known of a record that did not decode.
    pub record: Option<serde_json::Value>,
}

const ITEMS: &str = r#"SELECT id, lane, stream, rule, reason, "position", state, first_seen::text, change, record
                         FROM hutong.hutong_quarantine"#;

fn item(row: &tokio_postgres::Row) -> Result<Item> {
    Ok(Item {
        id: row.get(0),
        lane: row.get(1),
        stream: row.get(2),
        rule: row.get(3),
        reason: row.get(4),
        position: row.get::<_, String>(5).parse()?,
        state: row.get(6),
        first_seen: row.get(7),
        change: row.get(8),
        record: row.get(9),
    })
}

/// Returns the items of a store's quarantine, oldest first; those that wait, or `all`; those of one lane, or of each.
pub async fn list(url: &Secret, lane: Option<&str>, all: bool) -> Result<Vec<Item>> {
    let session = connect::open(url, "quarantine").await?;
    if !there(&session).await? {
        return Ok(Vec::new());
    }
    let sql =
        format!("{ITEMS} WHERE ($1::text IS NULL OR lane = $1) AND ($2 OR state = 'waiting') ORDER BY id");
    let rows = session.query(&sql, &[&lane, &all]).await.map_err(|e| error::of(e, reading))?;
    rows.iter().map(item).collect()
}

/// Returns one item; `None` when there is none of this number.
pub async fn show(url: &Secret, id: i64) -> Result<Option<Item>> {
    let session = connect::open(url, "quarantine").await?;
    find(&session, id).await
}

/// Finds one item; `None` when there is none of this number.
pub(super) async fn find(client: &Client, id: i64) -> Result<Option<Item>> {
    if !there(client).await? {
        return Ok(None);
    }
    let sql = format!("{ITEMS} WHERE id = $1");
    let row = client.query_opt(&sql, &[&id]).await.map_err(|e| error::of(e, reading))?;
    row.as_ref().map(item).transpose()
}

/// Returns how many items of a lane wait under a rule.
pub(super) async fn count(client: &Client, lane: &str, rule: &str) -> Result<u64> {
    let sql =
        "SELECT count(*) FROM hutong.hutong_quarantine WHERE lane = $1 AND rule = $2 AND state = 'waiting'";
    let row = client.query_one(sql, &[&lane, &rule]).await.map_err(|e| error::of(e, reading))?;
    Ok(row.get::<_, i64>(0).unsigned_abs())
}

/// Returns how many items of a lane wait, and since when the oldest does (microseconds since 1970 UTC).
pub(super) async fn count_all(client: &Client, lane: &str) -> Result<(u64, Option<i64>)> {
    let sql = "SELECT count(*), (extract(epoch FROM min(first_seen)) * 1000000)::bigint
                 FROM hutong.hutong_quarantine WHERE lane = $1 AND state = 'waiting'";
    let row = client.query_one(sql, &[&lane]).await.map_err(|e| error::of(e, reading))?;
    Ok((row.get::<_, i64>(0).unsigned_abs(), row.get(1)))
}

/// Returns how many changes wait, of those that a lane has read again, whose rows are not there.
pub(super) async fn lacking(client: &Client, lane: &str, again: &Reread) -> Result<u64> {
    let sql = format!(
        r#"SELECT count(*) FROM hutong.hutong_quarantine WHERE lane = $1 AND state = 'waiting'
              AND "position" >= $2 COLLATE "C" AND "position" < $3 COLLATE "C" AND {}"#,
        reread::lacking()
    );
    let (from, to) = (again.from.to_string(), again.to.to_string());
    let row = client.query_one(&sql, &[&lane, &from, &to]).await.map_err(|e| error::of(e, reading))?;
    Ok(row.get::<_, i64>(0).unsigned_abs())
}

/// Returns the oldest items of a lane that wait under a rule and have come after another, at most `limit`.
pub(super) async fn of_rule(
    client: &Client,
    lane: &str,
    rule: &str,
    after: i64,
    limit: i64,
) -> Result<Vec<Item>> {
    let sql = format!(
        "{ITEMS} WHERE lane = $1 AND rule = $2 AND state = 'waiting' AND id > $3 ORDER BY id LIMIT $4"
    );
    let rows =
        client.query(&sql, &[&lane, &rule, &after, &limit]).await.map_err(|e| error::of(e, reading))?;
    rows.iter().map(item).collect()
}

/// Returns what queues behind an item under a rule and a reason: later changes of its row, in order.
pub(super) async fn behind(client: &Client, id: i64, rule: &str, reason: &str) -> Result<Vec<Item>> {
    let sql = format!(
        r#"{ITEMS} WHERE (lane, key) = (SELECT lane, key FROM hutong.hutong_quarantine WHERE id = $1)
              AND rule = $2 AND reason = $3 AND state = 'waiting' ORDER BY "position", id"#
    );
    let rows = client.query(&sql, &[&id, &rule, &reason]).await.map_err(|e| error::of(e, reading))?;
    rows.iter().map(item).collect()
}

/// Marks a waiting item as discarded: a person has decided that it is not needed. `false` when it does not wait.
pub async fn discard(url: &Secret, id: i64) -> Result<bool> {
    let session = connect::open(url, "quarantine").await?;
    if !there(&session).await? {
        return Ok(false);
    }
    let sql = "UPDATE hutong.hutong_quarantine SET state = 'discarded', settled = clock_timestamp()
                WHERE id = $1 AND state = 'waiting'";
    let count =
        session.execute(sql, &[&id]).await.map_err(|e| error::of(e, || format!("discard item {id}")))?;
    Ok(count == 1)
}

pub(super) async fn there(client: &Client) -> Result<bool> {
    let sql = "SELECT to_regclass('hutong.hutong_quarantine') IS NOT NULL";
    Ok(client.query_one(sql, &[]).await.map_err(|e| error::of(e, reading))?.get(0))
}

fn reading() -> String {
    "read the quarantine".into()
}
