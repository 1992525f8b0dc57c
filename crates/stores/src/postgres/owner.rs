//! Whose the slot of a capture is: one of its name may be another database's, or another installation may read it.
//!
//! Whoever reads a slot and has something of it durable downstream holds an advisory lock for as long as it reads.
//! Everybody sees it, no privilege is needed for it, and it goes with the session. A process that was killed before its
//! first commit never had it, so the next one takes the slot over at once; another installation's has it, whatever it
//! waits for.

use std::time::Duration;

use hutong_core::{Checkpoint, Error, ErrorKind, Result};
use tokio::time::Instant;
use tokio_postgres::Client;

use super::assembly::PARTITION;
use super::ident::literal;
use super::{error, slot};

/// How long the sessions of a process that was killed may take to go.
const GOES: Duration = Duration::from_secs(3);

/// `Err(Config)` when the server has a slot of this name that is not of this database: names of slots are the server's.
pub(crate) async fn of_this_database(control: &Client, slot: &str) -> Result<()> {
    let sql = "SELECT database::text FROM pg_replication_slots \
               WHERE slot_name = $1 AND database IS DISTINCT FROM current_database()";
    let doing = || format!("look for the replication slot {slot}");
    let row = control.query_opt(sql, &[&slot]).await.map_err(|e| error::of(e, doing))?;
    let Some(row) = row else { return Ok(()) };
    let whose = match row.get::<_, Option<String>>(0) {
        Some(database) => format!("exists in the database {database} of this server"),
        None => "exists on this server, for a standby".to_owned(),
    };
    let why = format!("the slot {slot} {whose}, and names of slots are the server's");
    Err(Error::new(ErrorKind::Config, doing(), why).hint("name the capture otherwise: [capture.NAME]"))
}

/// Says to everybody that what this session's capture reads is durable downstream, as long as the session lasts.
pub(crate) async fn claim(control: &Client, slot: &str) -> Result<()> {
    // Shared, so it never waits: an earlier owner of the same capture may still have it.
    let sql = format!("SELECT pg_advisory_lock_shared({})", lock_of(slot));
    control
        .batch_execute(&sql)
        .await
        .map_err(|e| error::of(e, || format!("claim the replication slot {slot}")))
}

/// `Err(Config)` when a capture begins, and its slot is read by an installation that has something durable already.
///
/// I1: the slot would be dropped under it, and what it has not read yet would be gone. Of the capture's own earlier
/// owners none had committed anything, for then the checkpoint, which is read after they are shut out, would say where
/// it stands. A reset gives up a position by a person's word, and notes an era.
pub(crate) async fn begins(control: &Client, slot: &str, from: &Checkpoint) -> Result<()> {
    if !from.position(PARTITION).is_start() || from.note("era").is_some() {
        return Ok(());
    }
    let began = Instant::now();
    loop {
        let Some(pid) = slot::state(control, slot).await?.and_then(|state| state.holder) else {
            return Ok(());
        };
        if !is_claimed(control, slot).await? {
            return Ok(());
        }
        if began.elapsed() > GOES {
            let capture = slot.strip_prefix("hutong_").unwrap_or(slot);
            let why = format!(
                "another installation reads it: its slot {slot} is in use by backend {pid}, and what it has read \
                 is durable there, while the bus of this one holds nothing of it"
            );
            return Err(Error::new(ErrorKind::Config, format!("begin the capture {capture}"), why).hint(format!(
                "look whether this is the right bus (its folder, the volume, a copy of a configuration); else stop the \
                 capture there, or name this one otherwise: [capture.NAME]; where nobody wants the other one any more, \
                 `hutong source remove {capture}` frees the name"
            )));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// States whether a session in this database has claimed the slot.
async fn is_claimed(control: &Client, slot: &str) -> Result<bool> {
    let sql = format!(
        "SELECT EXISTS (SELECT FROM pg_locks l, (SELECT {} AS key) k \
           WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 \
             AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
             AND (l.classid::int8 << 32) | l.objid::int8 = k.key)",
        lock_of(slot)
    );
    let row = control.query_one(&sql, &[]).await;
    Ok(row.map_err(|e| error::of(e, || format!("ask who has claimed the replication slot {slot}")))?.get(0))
}

/// Returns the SQL of a slot's advisory lock; the sink's have other seeds.
fn lock_of(slot: &str) -> String {
    format!("hashtextextended({}, 2)", literal(slot))
}
