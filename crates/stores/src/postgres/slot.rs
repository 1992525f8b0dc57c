//! The publication and the replication slot of a capture: both are called `hutong_<capture>`.

use std::collections::BTreeSet;
use std::time::Duration;

use hutong_core::{Error, ErrorKind, Result, Secret};
use tokio::time::Instant;
use tokio_postgres::Client;

use super::ident::{TableName, literal, quote};
use super::{connect, error};

/// How long a slot may take to be let go by a backend that was told to end.
const LET_GO: Duration = Duration::from_secs(15);

/// How long a closed session takes to go.
const GOES: Duration = Duration::from_millis(200);

/// Returns the name of a capture's slot and publication; `Err(Config)` when it is no name for them.
pub(crate) fn name(capture: &str) -> Result<String> {
    let fits = capture.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if !fits || capture.is_empty() || capture.len() > 56 {
        return Err(Error::new(
            ErrorKind::Config,
            format!("name the slot of capture `{capture}`"),
            "a capture's name is 1 to 56 small letters, digits and underscores",
        ));
    }
    Ok(format!("hutong_{capture}"))
}

/// What the server says of a slot.
#[derive(Debug, Clone)]
pub(crate) struct State {
    /// Everything before this is confirmed and will not be sent again.
    pub(crate) confirmed: u64,
    /// The backend that reads it now.
    pub(crate) holder: Option<i32>,
    /// Whether the server has thrown its log away, and why where it says so.
    pub(crate) lost: bool,
    pub(crate) reason: Option<String>,
    pub(crate) plugin: String,
}

/// Reads a slot; `None` when there is none in this database.
pub(crate) async fn state(client: &Client, slot: &str) -> Result<Option<State>> {
    let row = client
        .query_opt(
            // As JSON, since the reason exists from PostgreSQL 17 on.
            "SELECT coalesce(confirmed_flush_lsn - '0/0', 0)::int8, active_pid, \
               coalesce(wal_status = 'lost', false) OR restart_lsn IS NULL, plugin::text, \
               to_jsonb(s) ->> 'invalidation_reason' \
             FROM pg_replication_slots s WHERE slot_name = $1 AND database = current_database()",
            &[&slot],
        )
        .await
        .map_err(|e| error::of(e, || format!("read the replication slot {slot}")))?;
    Ok(row.map(|row| State {
        confirmed: row.get::<_, i64>(0) as u64,
        holder: row.get(1),
        lost: row.get(2),
        plugin: row.get(3),
        reason: row.get(4),
    }))
}

/// Creates the slot. Waits for the transactions that are running now.
pub(crate) async fn create(client: &Client, slot: &str) -> Result<()> {
    client
        .execute("SELECT pg_create_logical_replication_slot($1, 'pgoutput')", &[&slot])
        .await
        .map_err(|e| error::of(e, || format!("create the replication slot {slot}")))?;
    Ok(())
}

/// Ends the backend that holds the slot, if there is one, and waits until the slot is free.
///
/// The caller owns the capture already (its sink is fenced), so whoever holds the slot is an earlier owner. One whose
/// checkpoint says nothing yet has asked `owner.rs` whether it is another installation.
pub(crate) async fn take_over(client: &Client, slot: &str) -> Result<()> {
    let began = Instant::now();
    let mut ended = None;
    loop {
        let Some(pid) = state(client, slot).await?.and_then(|state| state.holder) else { return Ok(()) };
        // A session that this process has just closed goes by itself.
        if ended != Some(pid) && began.elapsed() > GOES {
            tracing::info!(slot, pid, "ending the backend that still holds the slot");
            client
                .execute("SELECT pg_terminate_backend($1)", &[&pid])
                .await
                .map_err(|e| error::of(e, || format!("end the backend that holds the slot {slot}")))?;
            ended = Some(pid);
        }
        if began.elapsed() > LET_GO {
            return Err(Error::new(
                ErrorKind::Unavailable,
                format!("take over the replication slot {slot}"),
                format!("the backend {pid} does not let it go"),
            ));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until nobody holds the slot.
pub(crate) async fn wait_free(client: &Client, slot: &str) -> Result<()> {
    while state(client, slot).await?.is_some_and(|state| state.holder.is_some()) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Returns what a publication must be: it hands out everything, rows of partitions as those of their table, and where
/// it is a matter of choice the generated columns that the log holds.
fn whole(server_version: u32) -> String {
    let all = "publish_via_partition_root = true, publish = 'insert, update, delete, truncate'";
    let generated = if server_version >= 180_000 { ", publish_generated_columns = stored" } else { "" };
    format!("{all}{generated}")
}

/// Makes the publication hold exactly `wanted`, and of what it holds already also `kept`. Returns the tables that the
/// role may not publish, each with the server's reason.
pub(crate) async fn publish(
    client: &Client,
    publication: &str,
    version: u32,
    held: Option<&Published>,
    wanted: &[TableName],
    kept: &[TableName],
) -> Result<Vec<(TableName, String)>> {
    let doing = || format!("prepare the publication {publication}");
    let name = quote(publication);
    let none = BTreeSet::new();
    let tables = match held {
        None => {
            let create = format!("CREATE PUBLICATION {name} WITH ({})", whole(version));
            client.batch_execute(&create).await.map_err(|e| error::of(e, doing))?;
            &none
        }
        Some(held) => {
            if held.lacks().is_some() || !held.generated {
                make_whole(client, publication, version).await?;
            }
            &held.tables
        }
    };
    let mut refused = Vec::new();
    for table in wanted.iter().filter(|table| !tables.contains(table)) {
        let add = format!("ALTER PUBLICATION {name} ADD TABLE ONLY {table}");
        match client.batch_execute(&add).await {
            Err(e) if error::is_denied(&e) => {
                let why = format!("the role may not publish {}: {}", table.plain(), error::text(&e));
                refused.push((table.clone(), why));
            }
            added => added.map_err(|e| error::of(e, doing))?,
        }
    }
    for table in tables.iter().filter(|table| !wanted.contains(table) && !kept.contains(table)) {
        let drop = format!("ALTER PUBLICATION {name} DROP TABLE {table}");
        client.batch_execute(&drop).await.map_err(|e| error::of(e, doing))?;
    }
    Ok(refused)
}

/// Makes a publication hand out everything.
pub(crate) async fn make_whole(client: &Client, publication: &str, version: u32) -> Result<()> {
    client
        .batch_execute(&format!("ALTER PUBLICATION {} SET ({})", quote(publication), whole(version)))
        .await
        .map_err(|e| error::of(e, || format!("prepare the publication {publication}")))
}

/// Drops the slot, which may be gone already, and ends the backend that holds it.
pub(crate) async fn drop_slot(client: &Client, slot: &str) -> Result<()> {
    if state(client, slot).await?.is_some() {
        take_over(client, slot).await?;
        client
            .execute("SELECT pg_drop_replication_slot($1)", &[&slot])
            .await
            .map_err(|e| error::of(e, || format!("drop the replication slot {slot}")))?;
    }
    Ok(())
}

/// A publication as it is.
#[derive(Debug)]
pub(crate) struct Published {
    /// The tables that it names.
    pub(crate) tables: BTreeSet<TableName>,
    whole: bool,
    /// Without them a table whose contract asks for one is suspended, so nothing of it is missed unnoticed.
    generated: bool,
}

impl Published {
    /// States whether it names a table, and hands out every column that it may.
    pub(crate) fn hands_out(&self, table: &TableName) -> bool {
        self.generated && self.tables.contains(table)
    }

    /// Returns what it does not do, when somebody has made it do less than Hutong asked for.
    pub(crate) fn lacks(&self) -> Option<&'static str> {
        (!self.whole).then_some("the publication handed out only some of the changes")
    }
}

/// Reads a publication; `None` when it does not exist. An entry with a row filter or a column list would hide
/// changes, and is `Err(Config)`.
pub(crate) async fn published(client: &Client, publication: &str) -> Result<Option<Published>> {
    let doing = || format!("read the publication {publication}");
    let whole = client
        .query_opt(
            // As JSON, since the column exists from PostgreSQL 18 on.
            "SELECT pubviaroot AND pubinsert AND pubupdate AND pubdelete AND pubtruncate, \
               coalesce(to_jsonb(p) ->> 'pubgencols', 's') = 's' \
             FROM pg_publication p WHERE pubname = $1",
            &[&publication],
        )
        .await
        .map_err(|e| error::of(e, doing))?;
    let Some(whole) = whole else { return Ok(None) };
    // As JSON, since the two columns exist from PostgreSQL 15 on.
    let rows = client
        .query(
            "SELECT n.nspname::text, c.relname::text, \
               coalesce(to_jsonb(r) ->> 'prqual', to_jsonb(r) ->> 'prattrs') IS NULL \
             FROM pg_publication p \
               JOIN pg_publication_rel r ON r.prpubid = p.oid JOIN pg_class c ON c.oid = r.prrelid \
               JOIN pg_namespace n ON n.oid = c.relnamespace WHERE p.pubname = $1",
            &[&publication],
        )
        .await
        .map_err(|e| error::of(e, doing))?;
    let mut tables = BTreeSet::new();
    for row in rows {
        let table = TableName::new(row.get::<_, String>(0), row.get::<_, String>(1));
        if !row.get::<_, bool>(2) {
            let why = format!("its entry of {} has a row filter or a column list", table.plain());
            return Err(Error::new(ErrorKind::Config, doing(), why).hint(format!(
                "ALTER PUBLICATION {} DROP TABLE {table}; it is added whole",
                quote(publication)
            )));
        }
        tables.insert(table);
    }
    Ok(Some(Published { tables, whole: whole.get(0), generated: whole.get(1) }))
}

/// Drops a capture's slot and publication. Both may be gone already.
pub async fn remove(url: &Secret, capture: &str) -> Result<()> {
    let name = name(capture)?;
    let session = connect::open(url, "source remove").await?;
    drop_slot(&session, &name).await?;
    session
        .batch_execute(&format!("DROP PUBLICATION IF EXISTS {}", quote(&name)))
        .await
        .map_err(|e| error::of(e, || format!("drop the publication {name}")))
}

/// Writes a message into the change stream, in a transaction of its own.
pub(crate) async fn emit(client: &Client, content: &str) -> Result<()> {
    let sql = format!("SELECT pg_logical_emit_message(true, {}, {})", literal(PREFIX), literal(content));
    client.batch_execute(&sql).await.map_err(|e| error::of(e, || "write a watermark".to_owned()))
}

/// The prefix of Hutong's own messages in a change stream.
pub(crate) const PREFIX: &str = "hutong";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_columns_are_asked_for_where_they_can_be() {
        let asked = |version| whole(version).contains("publish_generated_columns = stored");
        assert_eq!((asked(150_000), asked(179_999), asked(180_000)), (false, false, true));
    }
}
