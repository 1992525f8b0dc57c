//! Reads a table anew while the capture runs: what was captured of it before goes, and a snapshot follows.
//!
//! What made it necessary is in the catalog, and the stream may still have to come there. Changes from before it
//! are of rows that the snapshot does not know of, so they may not follow the truncate. Therefore the table is
//! suspended at first, a message is written into the stream, and where that passes the truncate stands: behind
//! everything that committed before the catalog was looked at. A capture that is opened meanwhile finds the table
//! suspended, and begins again (I7).

use std::sync::Arc;

use hutong_core::{Origin, Position, Result};
use tokio_postgres::Client;

use super::anew::asked;
use super::catalog;
use super::chunk::Progress;
use super::error;
use super::fit::{self, Plan};
use super::image::Maker;
use super::open::{snapshot_note, suspended_note};
use super::reader::Reader;
use super::shape::Shape;
use super::slot;
use super::snapshot::Snapshot;

/// A table that is to be read anew.
pub(crate) struct Reload {
    token: String,
    /// What was found when the message was written; `None` before.
    written: Option<Written>,
}

struct Written {
    shape: Shape,
    partitioned: bool,
    /// A transaction number drawn after it: whatever is in the stream before the message has a lower one.
    barrier: u64,
}

impl Reader {
    /// Reads a table anew: everything before goes, and a snapshot follows.
    pub(super) fn reload(&mut self, table: usize, why: &str) {
        if self.reloads.contains_key(&table) {
            return;
        }
        let (asked, why) = (asked(why).is_some(), format!("it is read anew: {why}"));
        if asked {
            // Nobody has suspended it: a person wants it read.
            let plain = self.tables[table].name.plain();
            tracing::info!(capture = %self.config.capture, table = %plain, reason = %why, "the table is set aside");
            self.set_aside(table, why);
        } else {
            self.suspend(table, why);
        }
        self.assembly.note(snapshot_note(&self.tables[table].name.plain()), None);
        let token = format!("anew-{:016x}", rand::random::<u64>());
        self.reloads.insert(table, Reload { token, written: None });
    }

    /// Writes the messages of the tables that are to be read anew. Cancel safe: what it was dropped in the midst of
    /// is written again, and the later message says nothing to anybody.
    pub(super) async fn write_reloads(&mut self) -> Result<()> {
        let new = |(table, reload): (&usize, &Reload)| reload.written.is_none().then_some(*table);
        while let Some(table) = self.reloads.iter().find_map(new) {
            let captured = &self.tables[table];
            // Looked at before the message is written: what changes later is found out like every later change.
            let Some(live) = catalog::live(&self.control, &mut self.types, &captured.name).await? else {
                let why = format!("{} does not exist", captured.name.plain());
                self.suspend(table, why);
                continue;
            };
            if let Some(why) = live.unreadable() {
                self.suspend(table, why);
                continue;
            }
            let problems = fit::problems(&captured.contract, &live, self.version);
            if !problems.is_empty() {
                self.suspend(table, fit::told(&problems));
                continue;
            }
            let shape = Shape::of(&captured.contract, &live);
            let Some(reload) = self.reloads.get_mut(&table) else { continue };
            slot::emit(&self.control, &reload.token).await?;
            let barrier = draw_xid(&self.control).await?;
            reload.written = Some(Written { shape, partitioned: live.partitioned, barrier });
        }
        Ok(())
    }

    /// A message of Hutong's passes in the stream: the table whose it is begins anew.
    pub(super) fn begin_anew(&mut self, content: &[u8]) {
        let of_it = |reload: &Reload| reload.token.as_bytes() == content;
        let Some(table) = self.reloads.iter().find(|(_, reload)| of_it(reload)).map(|(table, _)| *table)
        else {
            return;
        };
        let Some(written) = self.reloads.remove(&table).and_then(|reload| reload.written) else { return };
        let Some(open) = &self.open else { return };
        let (era, commit_lsn, index) = (self.era, open.commit_lsn, open.index);
        let position = move |_| Position::wal(era, commit_lsn, index, 0);
        let captured = &mut self.tables[table];
        captured.suspended = None;
        (captured.oid, captured.partitioned) = (Some(written.shape.oid), written.partitioned);
        captured.progress = Progress { shape: Some(written.shape), ..Progress::default() };
        let plain = captured.name.plain();
        tracing::info!(capture = %self.config.capture, table = %plain, "the table is read anew");
        let origin = Origin {
            place: Arc::clone(&captured.place),
            committed_us: open.committed_us,
            xid: None,
            lsn: None,
            transaction: None,
            last: false,
        };
        let plan = Plan::default();
        let maker = Maker { contract: &captured.contract, plan: &plan, origin: &origin, position: &position };
        let truncate = maker.truncate(0);
        self.assembly.push_read(truncate);
        self.assembly.note(suspended_note(&plain), None);
        self.assembly.note(snapshot_note(&plain), Some(captured.progress.text()));
        match &mut self.snapshot {
            Some(snapshot) => snapshot.wait_for(written.barrier),
            None => self.snapshot = Some(Snapshot::new(written.barrier)),
        }
    }
}

/// Draws a transaction number.
pub(crate) async fn draw_xid(control: &Client) -> Result<u64> {
    let row = control
        .query_one("SELECT pg_current_xact_id()::text::int8", &[])
        .await
        .map_err(|e| error::of(e, || "draw a transaction number".to_owned()))?;
    Ok(row.get::<_, i64>(0) as u64)
}
