//! What moves a capture beside the stream: relations, suspended tables, chunks of the snapshot.

use std::sync::Arc;
use std::time::Duration;

use hutong_core::{ErrorKind, Field, Origin, Position, Result};
use tokio::time::{Instant, sleep};

use super::captured::Captured;
use super::catalog::{self, Live, Types};
use super::chunk::{self, Refused};
use super::column::PgType;
use super::connect;
use super::fit::{self, Plan};
use super::image::Maker;
use super::open::{snapshot_note, suspended_note};
use super::pgoutput::Relation;
use super::reader::Reader;
use super::shape::Shape;
use super::slot::{self, Published};
use super::snapshot::Waiting;

/// How often a chunk is tried again while the stream stands still, and how long after each time. Then the stream goes
/// on, since a standby that does not answer keeps commits unseen for as long as it likes.
const UNREAD: (u32, Duration) = (20, Duration::from_millis(10));

/// What a relation message makes of a table.
pub(super) enum Found {
    /// Its rows are read by this plan.
    Fits(Plan),
    /// So too, and what was read of it before stands for this one, which has only more room.
    Wider(Plan, Shape),
    /// So too, but what was read of it before stands no longer, for this reason.
    Outgrown(Plan, String),
    /// It does not fit, for this reason.
    Unfit(String),
}

impl Reader {
    /// A relation message says how rows look from here on: matches it to a table and its contract.
    pub(super) async fn match_relation(&mut self, relation: &Relation) -> Result<Option<(usize, Found)>> {
        let named = |t: &Captured| t.name.schema == relation.schema && t.name.table == relation.table;
        let Some(table) = self.tables.iter().position(named) else {
            let renamed = self.tables.iter().position(|t| t.oid == Some(relation.oid));
            return Ok(renamed.map(|table| {
                (
                    table,
                    Found::Unfit(format!("the table is now called {}.{}", relation.schema, relation.table)),
                )
            }));
        };
        let mut columns = Vec::with_capacity(relation.columns.len());
        for column in &relation.columns {
            // A type that is gone since fits nothing; unless the contract asks for it, that does not matter.
            let ty = self.types.resolve(&self.control, column.type_oid, column.typmod).await?;
            columns.push((column.name.as_str(), ty.unwrap_or(PgType::Gone)));
        }
        let captured = &self.tables[table];
        let plan = Plan::new(&captured.contract, columns.iter().map(|(name, ty)| (*name, ty)));
        let in_identity = |field: &Field| relation.columns.iter().any(|c| c.key && c.name == field.column());
        let found = match plan {
            Err(why) => Found::Unfit(why),
            // A row whose key changes, or that is deleted, would not be found again. What the log holds of a partition
            // is the partition's own identity, which no message tells.
            Ok(_)
                if !relation.full
                    && !captured.partitioned
                    && !captured.contract.key_fields().all(in_identity) =>
            {
                Found::Unfit("its replica identity does not hold the contract's key".to_owned())
            }
            Ok(plan) => {
                match captured.progress.shape.as_ref().and_then(|shape| shape.outgrown_by(relation)) {
                    Some(why) => match self.wider(captured, relation, &columns).await? {
                        Some(shape) => Found::Wider(plan, shape),
                        None => Found::Outgrown(plan, why),
                    },
                    None => Found::Fits(plan),
                }
            }
        };
        Ok(Some((table, found)))
    }

    /// Returns what is to be noted of a table of which a relation tells nothing but wider columns.
    async fn wider(
        &self,
        captured: &Captured,
        relation: &Relation,
        columns: &[(&str, PgType)],
    ) -> Result<Option<Shape>> {
        let Some(noted) = &captured.progress.shape else { return Ok(None) };
        let live = catalog::live(&self.control, &mut Types::default(), &captured.name).await?;
        Ok(live.and_then(|live| {
            let now = Shape::of(&captured.contract, &live);
            noted.widened(&captured.contract, relation, columns, &now)
        }))
    }

    /// The relation that was waited for is known.
    pub(super) fn settle(&mut self, found: Option<(usize, Found)>) {
        let Some(relation) = self.relation.take() else { return };
        let table = found.map(|(table, found)| {
            let captured = &mut self.tables[table];
            match found {
                Found::Fits(plan) => (captured.plan, captured.unfit) = (Some(plan), None),
                Found::Wider(plan, shape) => {
                    (captured.plan, captured.unfit) = (Some(plan), None);
                    captured.progress.shape = Some(shape);
                    let note = (snapshot_note(&captured.name.plain()), captured.progress.text());
                    if captured.suspended.is_none() {
                        self.assembly.note(note.0, Some(note.1));
                    }
                }
                Found::Outgrown(plan, why) => {
                    (captured.plan, captured.unfit) = (Some(plan), None);
                    if captured.suspended.is_none() {
                        self.reload(table, &why);
                    }
                }
                // It may look otherwise where the new snapshot begins; another relation message says so then.
                Found::Unfit(why) if self.reloads.contains_key(&table) => {
                    (captured.plan, captured.unfit) = (None, Some(why));
                }
                Found::Unfit(why) => self.suspend(table, why),
            }
            table
        });
        self.relations.insert(relation.oid, table);
    }

    /// Suspends the tables that somebody has taken out of the publication, by dropping them for instance, and takes up
    /// again those that fit again.
    pub(super) async fn check_publication(&mut self) -> Result<()> {
        let held = slot::published(&self.control, &self.slot).await?;
        // It may have lacked what was done meanwhile, so everything is read anew once it is whole again.
        if let Some(lacks) = held.as_ref().and_then(Published::lacks) {
            slot::make_whole(&self.control, &self.slot, self.version).await?;
            for table in 0..self.tables.len() {
                if self.tables[table].suspended.is_none() {
                    self.reload(table, lacks);
                }
            }
        }
        for table in 0..self.tables.len() {
            let captured = &self.tables[table];
            let counts = captured.suspended.is_none() || self.reloads.contains_key(&table);
            let published = held.as_ref().is_some_and(|held| held.tables.contains(&captured.name));
            if counts && !published {
                self.suspend(table, "the table is no longer in the publication".to_owned());
            }
        }
        match held {
            Some(held) => self.check_suspended(&held).await,
            None => Ok(()),
        }
    }

    /// Reads the suspended tables anew that fit again, and publishes those that are not published.
    async fn check_suspended(&mut self, held: &Published) -> Result<()> {
        for table in 0..self.tables.len() {
            let captured = &self.tables[table];
            if captured.suspended.is_none() || self.reloads.contains_key(&table) {
                continue;
            }
            let Some(live) = catalog::live(&self.control, &mut self.types, &captured.name).await? else {
                continue;
            };
            let fits = fit::problems(&captured.contract, &live, self.version).is_empty();
            if fits && live.readable && self.publish_again(table, &live, held).await? {
                self.reload(table, "it fits again");
            }
        }
        Ok(())
    }

    /// States whether a table is in the publication, and tries to put it there.
    async fn publish_again(&self, table: usize, live: &Live, held: &Published) -> Result<bool> {
        let name = &self.tables[table].name;
        if held.hands_out(name) {
            return Ok(true);
        }
        // Asked first: what is refused would stand in the server's log at each look.
        if !live.owned {
            return Ok(false);
        }
        let kept: Vec<_> = held.tables.iter().cloned().collect();
        let wanted = std::slice::from_ref(name);
        match slot::publish(&self.control, &self.slot, self.version, Some(held), wanted, &kept).await {
            Ok(refused) => Ok(refused.is_empty()),
            // Somebody holds a lock on it, as whoever alters it does; a session that is lost says so again.
            Err(error) if error.kind == ErrorKind::Unavailable => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reads the tables anew of which a partition came or went.
    pub(super) async fn check_partitions(&mut self) -> Result<()> {
        let counts = |t: &&Captured| t.partitioned && t.suspended.is_none();
        let oids: Vec<u32> = self.tables.iter().filter(counts).filter_map(|t| t.oid).collect();
        if oids.is_empty() {
            return Ok(());
        }
        let leaves = catalog::leaves(&self.control, &oids).await?;
        for table in 0..self.tables.len() {
            let captured = &self.tables[table];
            let now = captured.oid.filter(|_| counts(&captured)).and_then(|oid| leaves.get(&oid));
            let shape = captured.progress.shape.as_ref();
            if let Some(why) = shape.and_then(|shape| shape.outgrown_by_leaves(now)) {
                self.reload(table, &why);
            }
        }
        Ok(())
    }

    /// Suspends a table: its changes are dropped and counted from here on, until it fits again.
    pub(super) fn suspend(&mut self, table: usize, why: String) {
        let captured = &self.tables[table];
        if captured.suspended.is_none() || self.reloads.contains_key(&table) {
            tracing::warn!(capture = %self.config.capture, table = %captured.name.plain(), reason = %why, "table suspended");
        }
        self.set_aside(table, why);
    }

    /// Does what [`Self::suspend`] does, and says nothing.
    pub(super) fn set_aside(&mut self, table: usize, why: String) {
        let reloads = self.reloads.remove(&table).is_some();
        let captured = &mut self.tables[table];
        if captured.suspended.is_none() || reloads {
            self.assembly.note(suspended_note(&captured.name.plain()), Some(why.clone()));
            captured.suspended = Some(why);
        }
        if let Some(snapshot) = &mut self.snapshot {
            snapshot.forget(table);
        }
    }

    /// Reads the next chunk when it is time, and writes its high watermark.
    pub(super) async fn advance_snapshot(&mut self) -> Result<()> {
        let Some(snapshot) = &self.snapshot else { return Ok(()) };
        if snapshot.waiting.is_none() {
            self.read_chunk().await?;
        }
        let waiting = self.snapshot.as_mut().and_then(|snapshot| snapshot.waiting.as_mut());
        if let Some(waiting) = waiting.filter(|waiting| !waiting.written) {
            // Written again when this was dropped halfway; the second one says nothing to anybody.
            slot::emit(&self.control, &waiting.token).await?;
            waiting.written = true;
        }
        Ok(())
    }

    async fn read_chunk(&mut self) -> Result<()> {
        let Some(snapshot) = &mut self.snapshot else { return Ok(()) };
        if snapshot.due().is_none_or(|due| due > Instant::now()) {
            return Ok(());
        }
        let next = self.tables.iter().position(|t| t.suspended.is_none() && !t.progress.done);
        let Some(table) = next else {
            tracing::info!(capture = %self.config.capture, "snapshot done");
            self.snapshot = None;
            self.chunks = None;
            return Ok(());
        };
        if self.chunks.is_none() {
            let session = connect::open(&self.config.url, &format!("{} snapshot", self.slot)).await?;
            chunk::prepare(&session).await?;
            self.chunks = Some((session, false));
        }
        let Some((session, open)) = &mut self.chunks else { return Ok(()) };
        let captured = &self.tables[table];
        let mut tries = 0;
        let read = loop {
            let read = chunk::read(
                session,
                open,
                &mut self.types,
                &captured.name,
                &captured.contract,
                &captured.progress,
                self.config.chunk_rows.max(1),
                |visibility| snapshot.is_level(table, visibility),
            );
            match read.await {
                Err(Refused::Behind) if tries < UNREAD.0 && snapshot.may_soon_be_level() => {
                    tries += 1;
                    sleep(UNREAD.1).await;
                }
                read => break read,
            }
        };
        match read {
            Ok(chunk) => snapshot.accept(table, chunk),
            Err(Refused::Behind) => snapshot.behind_stream(),
            Err(Refused::Busy) => snapshot.busy(),
            Err(Refused::Unfit(why)) => self.suspend(table, why),
            Err(Refused::Outgrown(why)) => self.reload(table, &why),
            Err(Refused::Failed(error)) => return Err(error),
        }
        Ok(())
    }

    /// The high watermark of a chunk has passed: what is left of it comes in here.
    pub(super) fn let_in(&mut self, waiting: Waiting) {
        let Some(open) = &self.open else { return };
        let (era, commit_lsn, index) = (self.era, open.commit_lsn, open.index);
        let captured = &mut self.tables[waiting.table];
        captured.progress = waiting.chunk.progress;
        let origin = Origin {
            place: Arc::clone(&captured.place),
            committed_us: waiting.chunk.read_us,
            xid: None,
            lsn: None,
            transaction: None,
            last: false,
        };
        let position = move |_| Position::wal(era, commit_lsn, index, 0);
        let maker = Maker {
            contract: &captured.contract,
            plan: &waiting.chunk.plan,
            origin: &origin,
            position: &position,
        };
        for row in waiting.chunk.rows.into_iter().flatten() {
            self.assembly.push_read(maker.read(row));
        }
        self.assembly.note(snapshot_note(&captured.name.plain()), Some(captured.progress.text()));
    }
}
