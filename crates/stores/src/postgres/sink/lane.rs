//! Where a lane stands, who owns it, and under which grant.
//!
//! Knows `hutong_lane` and `hutong_receipt`; nothing of rows, but how to remove those of a lane.

use hutong_core::ledger::{Proof, receipt::NOTE};
use hutong_core::{Checkpoint, Error, ErrorKind, Hold, LaneId, Result};
use tokio_postgres::types::Json;
use tokio_postgres::{Client, Statement};

use super::catalog::{self, LANE, Table};
use super::narrow::Narrowed;
use super::pool::UNHURRIED;
use super::writer::SinkConfig;
use super::{beside, gone, narrow, room};
use crate::gone::Gone;
use crate::postgres::error;
use crate::postgres::ident::{TableName, literal, quote};
use crate::receipt;
use crate::steered::{NOBODYS, RECALLED};

/// Statements that every commit needs.
pub(super) struct Fixed {
    checkpoint: Statement,
    receipt: Statement,
}

/// What one commit did, for its receipt.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counts {
    pub(super) changes: i64,
    pub(super) written: i64,
    pub(super) deleted: i64,
    pub(super) quarantined: i64,
}

impl Fixed {
    /// Prepares them; the tables must be there.
    pub(super) async fn prepare(client: &Client) -> Result<Self> {
        let failed = |e| error::of(e, || "prepare the statements of a lane".into());
        // I2: the fence. A newer owner has raised the epoch, another grant has changed the digest.
        let checkpoint = client
            .prepare(
                r#"UPDATE hutong.hutong_lane SET "position" = $4, changed = clock_timestamp()
                    WHERE lane = $1 AND epoch = $2 AND "grant" = $3"#,
            )
            .await
            .map_err(failed)?;
        let receipt = client
            .prepare(
                r#"INSERT INTO hutong.hutong_receipt
                   (lane, "from", "to", "grant", changes, written, deleted, quarantined, sequence, proof)
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"#,
            )
            .await
            .map_err(failed)?;
        Ok(Self { checkpoint, receipt })
    }

    /// Moves the checkpoint: the last statement before COMMIT. `false`: somebody else owns the lane.
    pub(super) async fn checkpoint(
        &self,
        client: &Client,
        lane: &str,
        epoch: i64,
        grant: &str,
        to: &Checkpoint,
    ) -> Result<bool, tokio_postgres::Error> {
        let moved = client.execute(&self.checkpoint, &[&lane, &epoch, &grant, &Json(to)]).await?;
        Ok(moved == 1)
    }

    /// Writes down what the commit did.
    pub(super) async fn receipt(
        &self,
        client: &Client,
        lane: &str,
        grant: &str,
        (from, to): (&Checkpoint, &Checkpoint),
        counts: Counts,
        proof: Option<&Proof>,
    ) -> Result<(), tokio_postgres::Error> {
        let Counts { changes, written, deleted, quarantined } = counts;
        let sequence = proof.map(|proof| proof.sequence.cast_signed());
        let proof = proof.map(receipt::text);
        client
            .execute(
                &self.receipt,
                &[
                    &lane,
                    &Json(&from.positions),
                    &Json(&to.positions),
                    &grant,
                    &changes,
                    &written,
                    &deleted,
                    &quarantined,
                    &sequence,
                    &proof,
                ],
            )
            .await?;
        Ok(())
    }
}

/// Looks how a lane stands to the owner that opened it under `own`.
pub(super) async fn look(client: &Client, lane: &str, own: i64) -> Result<Hold> {
    let failed = |e| error::of(e, || format!("look at {lane}"));
    let sql = r#"SELECT epoch, "position" FROM hutong.hutong_lane WHERE lane = $1"#;
    // A lane that its topic no longer has was removed by another owner.
    let Some(row) = client.query_opt(sql, &[&lane]).await.map_err(failed)? else { return Ok(Hold::Taken) };
    let Json(checkpoint) = row
        .try_get::<_, Json<Checkpoint>>(1)
        .map_err(|e| Error::caused(ErrorKind::Broken, format!("read the checkpoint of {lane}"), e))?;
    Ok(checkpoint.hold(row.get(0), own))
}

/// Takes the lane over: raises its epoch, so that no earlier owner can commit, and returns epoch and checkpoint.
///
/// I5: under another grant than the stored one the lane starts anew: its rows and what is quarantined go, in
/// the same transaction, so that nothing stays that the new grant does not cover. They go only when the table takes
/// what comes instead, as far as the contract is known ahead. Under a grant that lets less through it goes on where it
/// stands, and what is granted no more goes in the same transaction (see `narrow.rs`). I3: where somebody has dropped
/// the table, or a column of it, every lane that had something there starts anew. Where all of its rows are granted as they are, as in a
/// reload, they are served until those that come instead are there (see `beside.rs`). With lane 0 go the lanes that the pipeline no longer
/// has.
pub(super) async fn take_over(
    client: &mut Client,
    lane: &LaneId,
    config: &SinkConfig,
) -> Result<(i64, Checkpoint)> {
    let SinkConfig { grant, table, partitions, contract, content, number, .. } = config;
    let failed = |e| error::of(e, || format!("take over {lane}"));
    let name = lane.to_string();
    let tx = client.transaction().await.map_err(failed)?;
    // Looked at before the lane's row is locked: a lane that waits for others to make room in the table holds
    // nothing that they need.
    let sql = r#"SELECT FROM hutong.hutong_lane WHERE lane = $1 AND "grant" = $2 AND table_name = $3
                  AND NOT coalesce("position" -> 'notes', '{}') ? 'beside.until'"#;
    let known = tx.query_opt(sql, &[&name, grant, &table.to_string()]).await.map_err(failed)?.is_some();
    let mut gone = gone::look(tx.client(), table, contract.as_deref()).await?;
    if contract.is_some() && (!known || !gone.is_nothing()) {
        room::alone(tx.client(), table).await?;
        // Another lane may have made it meanwhile.
        gone = gone::look(tx.client(), table, contract.as_deref()).await?;
    }
    let row = tx
        .query_one(
            r#"INSERT INTO hutong.hutong_lane AS l (lane, "position", epoch, "grant", backend, table_name)
               VALUES ($1, '{"positions":{}}', 1, $2, pg_backend_pid(), $3)
               ON CONFLICT (lane) DO UPDATE SET epoch = l.epoch + 1, backend = pg_backend_pid()
               RETURNING l.epoch, l."position", l."grant", l.table_name"#,
            &[&name, grant, &table.to_string()],
        )
        .await
        .map_err(failed)?;
    let (epoch, before, held): (i64, String, String) = (row.get(0), row.get(2), row.get(3));
    let mut checkpoint = row
        .try_get::<_, Json<Checkpoint>>(1)
        .map_err(|e| Error::caused(ErrorKind::Broken, format!("read the checkpoint of {lane}"), e))?
        .0;
    let strayed = checkpoint.strayed();
    let lost = gone.strikes(&checkpoint, &before).filter(|_| held == table.to_string());
    if !gone.is_nothing() {
        Box::pin(gone::strike(tx.client(), table, &name, &gone)).await?;
    }
    let other = strayed || lost.is_some() || before != *grant || held != table.to_string();
    let narrower = content.as_ref().filter(|_| held == table.to_string() && !checkpoint.serves());
    let narrower = narrower.filter(|_| lost.is_none());
    let mark = (before != NOBODYS).then_some(&*before);
    let served = content.as_ref().filter(|_| other && held == table.to_string());
    let served = served.filter(|_| gone != Gone::Table);
    let served = served.is_some_and(|content| !strayed && content.covers(&checkpoint, mark));
    let narrowed = match narrower.and_then(|content| content.narrows_from(&checkpoint, &before)) {
        Some(narrowing) => narrow::in_place(tx.client(), &name, config, &narrowing).await?,
        None => None,
    };
    // A lane that is new stands beside those that the pipeline had before, whose table it finds.
    if let Some(contract) = contract.as_ref().filter(|_| narrowed.is_none() && (other || epoch == 1)) {
        room::renew(tx.client(), table, contract, lane, grant).await?;
    } else if let Some(contract) = contract.as_ref().filter(|_| !gone.is_nothing()) {
        room::make(tx.client(), table, contract).await?;
    }
    let noted = content.as_ref().is_some_and(|content| content.note(&mut checkpoint));
    if let Some(Narrowed { changed, removed }) = narrowed {
        let counts = (changed, removed);
        let proof = number.and_then(|number| Proof::narrowed(&name, number, &checkpoint, counts));
        if let Some(proof) = proof {
            counted(tx.client(), &name, grant, counts, &proof, &mut checkpoint).await?;
        }
        tracing::info!(lane = %lane, changed, removed, "narrowed where it stands, and goes on");
    } else if other {
        let held = TableName::parse(&held)?;
        tx.batch_execute(UNHURRIED).await.map_err(failed)?;
        // Of an earlier one, which did not come to its end.
        beside::remove(tx.client(), &name).await?;
        let (mut removed, mut says) = (0, "starts anew under another grant");
        if let Some(why) = &lost {
            tracing::warn!(lane = %lane, table = %table.plain(), why, "somebody has dropped it: it begins anew");
        }
        if lost.is_some() || gone == Gone::Table {
            says = "starts anew";
        }
        if served && beside::can(tx.client(), &held, &name).await? {
            checkpoint = checkpoint.anew_beside();
            says = "is filled anew beside its rows, which are served until then";
        } else {
            removed = clear(tx.client(), &held, &name).await?;
            checkpoint = checkpoint.anew();
        }
        if let Some(number) = number.filter(|_| grant.starts_with(RECALLED)) {
            let proof = Proof::recalled(&name, number, &checkpoint, removed);
            counted(tx.client(), &name, grant, (0, removed), &proof, &mut checkpoint).await?;
        }
        tx.execute("DELETE FROM hutong.hutong_quarantine WHERE lane = $1", &[&name]).await.map_err(failed)?;
        tracing::info!(lane = %lane, "{says}");
    }
    if other || noted {
        let sql =
            r#"UPDATE hutong.hutong_lane SET "position" = $2, "grant" = $3, table_name = $4 WHERE lane = $1"#;
        tx.execute(sql, &[&name, &Json(&checkpoint), grant, &table.to_string()]).await.map_err(failed)?;
    }
    if let Some(partitions) = partitions.filter(|_| lane.partition == 0) {
        retire(tx.client(), lane, partitions).await?;
    }
    tx.commit()
        .await
        .map_err(|e| Error::new(ErrorKind::Unknown, format!("take over {lane}"), error::text(&e)))?;
    Ok((epoch, checkpoint))
}

/// Leaves the receipt of rows that were written or deleted because a grant has changed, in the transaction that does so
/// (I2).
async fn counted(
    client: &Client,
    lane: &str,
    mark: &str,
    (written, deleted): (u64, u64),
    proof: &Proof,
    checkpoint: &mut Checkpoint,
) -> Result<()> {
    let sql = r#"INSERT INTO hutong.hutong_receipt
                 (lane, "from", "to", "grant", changes, written, deleted, quarantined, sequence, proof)
                 VALUES ($1, $2, $2, $3, 0, $4, $5, 0, $6, $7)"#;
    let (written, deleted) = (written.cast_signed(), deleted.cast_signed());
    let (sequence, text) = (proof.sequence.cast_signed(), receipt::text(proof));
    let places = Json(&checkpoint.positions);
    client
        .execute(sql, &[&lane, &places, &mark, &written, &deleted, &sequence, &text])
        .await
        .map_err(|e| error::of(e, || format!("leave the receipt of a changed grant of {lane}")))?;
    checkpoint.notes.insert(NOTE.into(), proof.head().to_string());
    Ok(())
}

/// Removes the lanes of a pipeline that its partitions no longer have, with their rows and their quarantine:
/// nobody opens such a lane again, so its rows would stay for good.
async fn retire(client: &Client, lane: &LaneId, partitions: u32) -> Result<()> {
    let failed = |e| error::of(e, || format!("remove the lanes of {} beyond {partitions}", lane.pipeline));
    let sql = "SELECT lane FROM hutong.hutong_lane WHERE starts_with(lane, $1 || '.')";
    let rows = client.query(sql, &[&lane.pipeline.to_string()]).await.map_err(failed)?;
    let gone: Vec<String> = rows
        .iter()
        .map(|row| row.get(0))
        .filter(|name: &String| lane.pipeline.partition(name).is_some_and(|p| p >= partitions))
        .collect();
    for name in gone {
        client.batch_execute(UNHURRIED).await.map_err(failed)?;
        // First, so that an owner in the middle of a commit is shut out or has its rows where they are seen.
        let sql = "DELETE FROM hutong.hutong_lane WHERE lane = $1 RETURNING table_name";
        let Some(row) = client.query_opt(sql, &[&name]).await.map_err(failed)? else { continue };
        clear(client, &TableName::parse(row.get(0))?, &name).await?;
        beside::remove(client, &name).await?;
        let sql = "DELETE FROM hutong.hutong_quarantine WHERE lane = $1";
        client.execute(sql, &[&name]).await.map_err(failed)?;
        tracing::info!(lane = name, "removed: its topic has no such partition");
    }
    Ok(())
}

/// Removes the rows of a lane from a table, and no others; returns how many there were.
pub(super) async fn clear(client: &Client, table: &TableName, lane: &str) -> Result<u64> {
    let failed = |e| error::of(e, || format!("remove the rows of {lane} from {}", table.plain()));
    let Some(found) = catalog::read(client, table).await? else { return Ok(0) };
    if found.created_by_hutong() {
        // Of a department's own table that stood there before: nothing may be found by it in the next one.
        let stale = "DELETE FROM hutong.hutong_row WHERE table_name = $1 AND lane = $2";
        client.execute(stale, &[&table.to_string(), &lane]).await.map_err(failed)?;
        let sql = format!("DELETE FROM {table} WHERE {LANE} = $1");
        return client.execute(&sql, &[&lane]).await.map_err(failed);
    }
    let Some(same) = same(client, table, &found, lane).await? else { return Ok(0) };
    let sql = format!(
        "DELETE FROM {table} t USING hutong.hutong_row r WHERE r.table_name = $1 AND r.lane = $2 AND {same}"
    );
    let removed = client.execute(&sql, &[&table.to_string(), &lane]).await.map_err(failed)?;
    client
        .execute(
            "DELETE FROM hutong.hutong_row WHERE table_name = $1 AND lane = $2",
            &[&table.to_string(), &lane],
        )
        .await
        .map_err(failed)?;
    Ok(removed)
}

/// Returns the condition by which rows `t` of a department's own table are those `r` of the side table; `None` when it
/// tells of none of the lane.
pub(super) async fn same(
    client: &Client,
    table: &TableName,
    found: &Table,
    lane: &str,
) -> Result<Option<String>> {
    let failed = |e| error::of(e, || format!("find the rows of {lane} in {}", table.plain()));
    // The side table tells the key's columns; their types are the catalog's.
    let names = client
        .query(
            "SELECT jsonb_object_keys(key) FROM (SELECT key FROM hutong.hutong_row
              WHERE table_name = $1 AND lane = $2 LIMIT 1) r",
            &[&table.to_string(), &lane],
        )
        .await
        .map_err(failed)?;
    let mut same = Vec::new();
    for name in names.iter().map(|row| row.get::<_, String>(0)) {
        let column = found.column(&name).ok_or_else(|| {
            Error::new(
                ErrorKind::SchemaConflict,
                format!("find the rows of {lane} in {}", table.plain()),
                format!("the key column {name} is not there any more"),
            )
        })?;
        same.push(format!("t.{} = (r.key ->> {})::{}", quote(&name), literal(&name), column.declared));
    }
    Ok((!same.is_empty()).then(|| same.join(" AND ")))
}
