//! Opens a capture: checks what is there against the checkpoint, prepares publication and slot, and starts.

use std::collections::BTreeMap;
use std::sync::Arc;

use hutong_core::snapshot::NOT_CAPTURED;
use hutong_core::{Checkpoint, Error, ErrorKind, Place, Position, Result};
use tokio_postgres::Client;

use super::anew::asked;
use super::assembly::PARTITION;
use super::captured::Captured;
use super::catalog::{self, Types};
use super::chunk::Progress;
use super::connect::{self, Session};
use super::ident::TableName;
use super::lost::{self, Stand};
use super::reader::{Reader, Start};
use super::shape::Shape;
use super::slot::Published;
use super::source::SourceConfig;
use super::trace::Trace;
use super::{error, fit, owner, reload, slot, stream};

/// Returns the note of a table's snapshot.
pub(crate) fn snapshot_note(table: &str) -> String {
    format!("snapshot.{table}")
}

/// Returns the note of a suspended table.
pub(crate) fn suspended_note(table: &str) -> String {
    format!("suspended.{table}")
}

/// Opens a capture where `from` says.
pub(crate) async fn open(config: &SourceConfig, from: &Checkpoint) -> Result<Reader> {
    let slot = slot::name(&config.capture)?;
    let names = config.names()?;
    let control = connect::open(&config.url, &format!("{slot} control")).await?;
    // Our own commits (watermarks, the publication) need not wait for a standby that nobody can reach.
    control
        .batch_execute("SET synchronous_commit = local; SET row_security = off")
        .await
        .map_err(|e| error::of(e, || "prepare a session".to_owned()))?;
    let (user, database, version) = session_facts(&control).await?;
    if version < 140_000 {
        return Err(Error::new(
            ErrorKind::Config,
            format!("capture {}", config.capture),
            format!("the server is version {}, and 14 is the oldest that is supported", version / 10_000),
        ));
    }
    // Before anything is made or altered: the publication has the slot's name, and would be another's as well.
    owner::of_this_database(&control, &slot).await?;
    owner::begins(&control, &slot, from).await?;
    // Read before it is mended: what it did not hand out is missing downstream.
    let held = slot::published(&control, &slot).await?;
    let mut types = Types::default();
    let mut tables = Vec::with_capacity(names.len());
    let mut notes = BTreeMap::new();
    let mut kept = Vec::new();
    let mut reloads = Vec::new();
    for (table, name) in config.tables.iter().zip(names) {
        let plain = name.plain();
        let live = catalog::live(&control, &mut types, &name).await?;
        let noted_suspended = from.note(&suspended_note(&plain));
        let was_suspended = noted_suspended.is_some();
        let mut progress: Progress = match from.note(&snapshot_note(&plain)) {
            Some(text) => serde_json::from_str(text).map_err(|e| {
                Error::caused(ErrorKind::Broken, format!("read the snapshot progress of {plain}"), e)
            })?,
            None => Progress::default(),
        };
        let suspended = match &live {
            None => Some(format!("{plain} does not exist")),
            Some(live) => {
                let problems = fit::problems(&table.contract, live, version);
                // A table whose old images are still good may stay in the publication.
                if !live.identities.contains(&catalog::Identity::Nothing) {
                    kept.push(name.clone());
                }
                // One that was read already needs no more than the stream.
                let unreadable = live.unreadable().filter(|_| was_suspended || !progress.done);
                if problems.is_empty() { unreadable } else { Some(fit::told(&problems)) }
            }
        };
        match &suspended {
            Some(why) => {
                tracing::warn!(capture = %config.capture, table = %plain, reason = %why, "table suspended");
                notes.insert(suspended_note(&plain), Some(why.clone()));
            }
            None if was_suspended => {
                // It fits again. What was dropped meanwhile is made good by a new snapshot after a truncate.
                progress = Progress::default();
                let why = noted_suspended.and_then(asked).unwrap_or("it was suspended");
                reloads.push((tables.len(), why.to_owned()));
            }
            None => {
                let shape = live.as_ref().map(|live| Shape::of(&table.contract, live));
                let noted = from.note(&snapshot_note(&plain)).is_some();
                match missed(held.as_ref(), &name, &progress, shape.as_ref()).filter(|_| noted) {
                    Some(why) => {
                        progress = Progress::default();
                        reloads.push((tables.len(), why));
                    }
                    None => {
                        progress.shape = match (progress.shape.take(), shape) {
                            (Some(noted), Some(now)) => Some(noted.followed_by(now)),
                            (_, now) => now,
                        };
                        notes.insert(snapshot_note(&plain), Some(progress.text()));
                    }
                }
            }
        }
        tables.push(Captured {
            contract: Arc::clone(&table.contract),
            place: Arc::new(Place {
                connector: "postgresql".into(),
                name: config.capture.clone(),
                db: database.clone(),
                schema: name.schema.clone(),
                table: name.table.clone(),
            }),
            name,
            oid: live.as_ref().map(|live| live.oid),
            partitioned: live.is_some_and(|live| live.partitioned),
            plan: None,
            unfit: None,
            suspended,
            progress,
        });
    }
    some_left(config, from, &tables, ErrorKind::SchemaConflict)?;

    let era = era(from);
    let at = from.position(PARTITION);
    let lsn = at.as_wal().map_or(0, |(_, lsn, ..)| lsn);
    // Nothing is made on a system that is not the checkpoint's.
    let (mut client, system) = stream::connect(&config.url, &user, &database, &slot, lsn).await?;
    let stand = Stand::of(&slot, from);
    let end = log_end(&control).await?;
    same_system(&stand, from, &system.system_id, system.timeline, end)?;
    let trace = Trace::look(&control, &stand, from, end).await?;
    let noted = from.note("timeline").and_then(|noted| noted.parse::<u32>().ok());
    if let Some(noted) = noted.filter(|noted| *noted < system.timeline) {
        stream::same_history(&mut client, &stand, noted, system.timeline, end).await?;
    }
    let wanted: Vec<_> = tables.iter().filter(|t| t.suspended.is_none()).map(|t| t.name.clone()).collect();
    // The publication is made before the slot: the server decodes with the catalog of the time of each change.
    for (name, why) in slot::publish(&control, &slot, version, held.as_ref(), &wanted, &kept).await? {
        let Some(at) = tables.iter().position(|table| table.name == name) else { continue };
        tracing::warn!(capture = %config.capture, table = %name.plain(), reason = %why, "table suspended");
        notes.insert(suspended_note(&name.plain()), Some(why.clone()));
        notes.remove(&snapshot_note(&name.plain()));
        reloads.retain(|(table, _)| *table != at);
        tables[at].suspended = Some(why);
    }
    some_left(config, from, &tables, ErrorKind::Denied)?;
    let confirmed = prepare_slot(&control, &stand, from, end).await?;
    slot::take_over(&control, &slot).await?;
    let claimed = !at.is_start();
    if claimed {
        owner::claim(&control, &slot).await?;
    }
    stream::start(&mut client, &stand, end).await?;

    notes.insert("system".into(), Some(system.system_id));
    notes.insert("timeline".into(), Some(system.timeline.to_string()));
    notes.insert("era".into(), Some(era.to_string()));
    // A table that is no longer captured keeps a note of it: its rows are still downstream, so when it is taken up
    // again they go before the new snapshot, for some may be deleted by then (I3).
    for name in from.notes.keys() {
        let Some(table) = name.strip_prefix("snapshot.").or(name.strip_prefix("suspended.")) else {
            continue;
        };
        if tables.iter().all(|t| t.name.plain() != table) {
            notes.insert(snapshot_note(table), None);
            notes.insert(suspended_note(table), Some(NOT_CAPTURED.to_owned()));
        }
    }
    notes.retain(|name, text| from.note(name) != text.as_deref());
    // Drawn after the slot exists and the tables are published: see `snapshot.rs`.
    let barrier = match tables.iter().any(|table| table.suspended.is_none() && !table.progress.done) {
        true => Some(reload::draw_xid(&control).await?),
        false => None,
    };
    // From here on the stream stands still while this session waits.
    control
        .batch_execute("SET lock_timeout = '250ms'")
        .await
        .map_err(|e| error::of(e, || "prepare a session".to_owned()))?;
    Ok(Reader::new(Start {
        config,
        stand,
        control,
        client,
        types,
        tables,
        era,
        at,
        lsn: lsn.max(confirmed),
        notes,
        barrier,
        reload: reloads,
        version,
        trace,
        claimed,
    }))
}

/// Returns an error when a capture begins and there is no table that it could read.
fn some_left(config: &SourceConfig, from: &Checkpoint, tables: &[Captured], kind: ErrorKind) -> Result<()> {
    let begins = from.position(PARTITION).is_start() && !tables.is_empty();
    if !begins || tables.iter().any(|table| table.suspended.is_none()) {
        return Ok(());
    }
    let why = tables.iter().filter_map(|t| t.suspended.as_deref()).collect::<Vec<_>>().join("; ");
    Err(Error::new(kind, format!("capture {}", config.capture), why)
        .hint("`hutong check --probe` says what to do about each"))
}

/// Returns why what was captured of a table no longer stands for it, though the stream has not told.
fn missed(
    held: Option<&Published>,
    name: &TableName,
    progress: &Progress,
    shape: Option<&Shape>,
) -> Option<String> {
    if !held.is_some_and(|held| held.tables.contains(name)) {
        return Some("it was not in the publication".to_owned());
    }
    let outgrown = || progress.shape.as_ref()?.outgrown(shape?);
    held.and_then(Published::lacks).map(str::to_owned).or_else(outgrown)
}

async fn session_facts(control: &Session) -> Result<(String, String, u32)> {
    let row = control
        .query_one(
            "SELECT session_user::text, current_database()::text, current_setting('server_version_num')::int4",
            &[],
        )
        .await
        .map_err(|e| error::of(e, || "ask PostgreSQL who it is".to_owned()))?;
    Ok((row.get(0), row.get(1), row.get::<_, i32>(2) as u32))
}

/// Returns the era of the positions to come.
pub(crate) fn era(from: &Checkpoint) -> u16 {
    let noted = from.note("era").and_then(|era| era.parse().ok());
    noted.or(from.position(PARTITION).as_wal().map(|(era, ..)| era)).unwrap_or(0)
}

/// Creates the slot for a checkpoint without a position, or checks that it still holds what the checkpoint needs.
/// Returns the place that the slot has confirmed.
async fn prepare_slot(control: &Client, stand: &Stand, from: &Checkpoint, end: u64) -> Result<u64> {
    let slot = stand.slot.as_str();
    if from.position(PARTITION).is_start() {
        // What an earlier attempt has left would only repeat changes that the snapshot holds anyway.
        slot::drop_slot(control, slot).await?;
    }
    let Some(state) = slot::state(control, slot).await? else {
        if from.position(PARTITION) != Position::START {
            return Err(stand.lost("the slot is gone", end));
        }
        tracing::info!(slot, "creating the slot: waits for the transactions that are running now");
        slot::create(control, slot).await?;
        let state = slot::state(control, slot).await?;
        return Ok(state.map_or(0, |state| state.confirmed));
    };
    if state.plugin != "pgoutput" {
        let why = format!("the slot's plugin is {}, not pgoutput", state.plugin);
        return Err(Error::new(ErrorKind::Config, format!("read the replication slot {slot}"), why));
    }
    if state.lost {
        return Err(stand.lost(lost::invalidated(state.reason.as_deref()), end));
    }
    if from.position(PARTITION) != Position::START && state.confirmed > stand.lsn {
        let (confirmed, gone) = (lost::text(state.confirmed), lost::apart(stand.lsn, state.confirmed));
        let why = format!("the slot has moved on past the checkpoint, to {confirmed}, {gone}");
        return Err(stand.lost(why, end));
    }
    Ok(state.confirmed)
}

/// Compares the system, whose log ends at `end`, with the one that the checkpoint was made on.
fn same_system(stand: &Stand, from: &Checkpoint, system: &str, timeline: u32, end: u64) -> Result<()> {
    if let Some(noted) = from.note("system").filter(|noted| *noted != system) {
        let why = format!("the checkpoint was made on system {noted}, and this is system {system}");
        return Err(stand.elsewhere(why, end));
    }
    let noted = from.note("timeline").and_then(|noted| noted.parse::<u32>().ok());
    if let Some(noted) = noted.filter(|noted| *noted > timeline) {
        let why = format!(
            "the server is back on timeline {timeline}, and the checkpoint was made on timeline {noted}: an older state \
             was restored"
        );
        return Err(stand.lost(why, end));
    }
    if stand.lsn > end {
        return Err(stand.lost("the log ends before the checkpoint: an older state was restored", end));
    }
    Ok(())
}

/// Returns where the log ends now.
async fn log_end(control: &Client) -> Result<u64> {
    let row = control
        .query_one("SELECT (pg_current_wal_flush_lsn() - '0/0')::int8", &[])
        .await
        .map_err(|e| error::of(e, || "read how far the log goes".to_owned()))?;
    Ok(row.get::<_, i64>(0) as u64)
}
