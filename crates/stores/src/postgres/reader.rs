//! The running capture: reads the replication stream, lets chunks in between, and hands out batches.
//!
//! Everything lives in the struct between two awaits, so that a dropped `next` loses nothing.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use futures_util::FutureExt;
use hutong_core::{Batch, Behind, Checkpoint, Error, ErrorKind, Position, Result};
use pgwire_replication::client::{ReplicationClient, ReplicationEvent};
use pgwire_replication::{Lsn, PgWireError};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::assembly::{Assembly, PARTITION};
use super::captured::{Captured, Open};
use super::catalog::Types;
use super::connect::Session;
use super::lost::Stand;
use super::pgoutput::Relation;
use super::reload::Reload;
use super::reread::{self, Due};
use super::snapshot::Snapshot;
use super::source::SourceConfig;
use super::trace::Trace;
use super::{error, mend, owner, slot, stream};

/// How long a batch waits for more when the stream is silent after a batch of more than [`BUSY`] changes. After a
/// smaller one it does not wait: what comes during its commit goes together into the next.
const LINGER: Duration = Duration::from_millis(2);
/// So many changes in a batch are a backlog.
const BUSY: usize = 100;
/// How many events are taken in between two looks at the clock.
const DRAIN: usize = 256;
/// How long the first change of a batch waits at most between transactions.
const AGE: Duration = Duration::from_millis(20);
/// How long to wait before looking again whether a commit that was streamed is seen.
const UNSEEN: Duration = Duration::from_millis(50);
/// How long closing may take.
const CLOSE: Duration = Duration::from_secs(5);
/// A place of the log that was its end at a time.
pub(super) struct Mark {
    lsn: u64,
    time_us: i64,
}

/// What a reader starts from.
pub(crate) struct Start<'a> {
    pub(crate) config: &'a SourceConfig,
    pub(crate) stand: Stand,
    pub(crate) control: Session,
    pub(crate) client: ReplicationClient,
    pub(crate) types: Types,
    pub(crate) tables: Vec<Captured>,
    pub(crate) era: u16,
    pub(crate) at: Position,
    pub(crate) lsn: u64,
    pub(crate) notes: BTreeMap<String, Option<String>>,
    pub(crate) barrier: Option<u64>,
    pub(crate) reload: Vec<(usize, String)>,
    pub(crate) version: u32,
    pub(crate) trace: Trace,
    pub(crate) claimed: bool,
}

/// The running capture.
pub(crate) struct Reader {
    pub(super) config: SourceConfig,
    pub(super) slot: String,
    /// What is durable downstream.
    stand: Stand,
    pub(super) control: Session,
    /// The session that reads chunks, and whether a transaction may be open on it.
    pub(super) chunks: Option<(Session, bool)>,
    pub(super) client: ReplicationClient,
    pub(super) types: Types,
    pub(super) tables: Vec<Captured>,
    /// Relations of the stream: the table, or `None` for one that the configuration does not name.
    pub(super) relations: HashMap<u32, Option<usize>>,
    /// A relation whose types are still to be asked for.
    pub(super) relation: Option<Relation>,
    pub(super) era: u16,
    /// Where the last batch ended, and whether it was a large one.
    pub(super) at: Position,
    pub(super) busy: bool,
    /// What is committed downstream already and must not be handed out again.
    pub(super) skip: Position,
    pub(super) open: Option<Open>,
    pub(super) assembly: Assembly,
    /// A batch on its way out.
    pub(super) due: Option<Due>,
    /// Everything that committed before this was read.
    pub(super) reached: u64,
    pub(super) mark: Option<Mark>,
    /// The log's end at the last look, to tell how many bytes are left.
    pub(super) log_end: u64,
    pub(super) complete_to_us: Option<i64>,
    pub(super) told_us: Option<i64>,
    pub(super) tick_at: Instant,
    pub(super) snapshot: Option<Snapshot>,
    /// Tables that are to be read anew.
    pub(super) reloads: BTreeMap<usize, Reload>,
    /// The server's version.
    pub(super) version: u32,
    trace: Trace,
    /// Whether everybody is told that something of the slot is durable downstream.
    claimed: bool,
}

impl Reader {
    pub(crate) fn new(start: Start<'_>) -> Self {
        let mut reader = Self {
            config: start.config.clone(),
            slot: start.stand.slot.clone(),
            stand: start.stand,
            control: start.control,
            chunks: None,
            client: start.client,
            types: start.types,
            tables: start.tables,
            relations: HashMap::new(),
            relation: None,
            era: start.era,
            at: start.at,
            busy: false,
            skip: start.at,
            open: None,
            assembly: Assembly::default(),
            due: None,
            reached: start.lsn,
            mark: None,
            log_end: 0,
            complete_to_us: None,
            told_us: None,
            tick_at: Instant::now(),
            snapshot: start.barrier.map(Snapshot::new),
            reloads: BTreeMap::new(),
            version: start.version,
            trace: start.trace,
            claimed: start.claimed,
        };
        for (name, text) in start.notes {
            reader.assembly.note(name, text);
        }
        for (table, why) in start.reload {
            reader.reload(table, &why);
        }
        reader
    }

    /// Waits for the next batch. Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<Batch> {
        if !self.claimed && self.stand.lsn > 0 {
            owner::claim(&self.control, &self.slot).await?;
            self.claimed = true;
        }
        loop {
            if let Some(relation) = self.relation.clone() {
                let found = self.match_relation(&relation).await?;
                self.settle(found);
            }
            if self.due.is_some() {
                if !self.fill().await? {
                    sleep(UNSEEN).await;
                    continue;
                }
                if let Some(due) = self.due.take() {
                    return Ok(due.batch);
                }
            }
            if let Some(batch) = self.ready() {
                self.hand_out(batch);
                continue;
            }
            let now = Instant::now();
            if now >= self.tick_at {
                self.look().await?;
                self.check_publication().await?;
                self.check_partitions().await?;
                self.trace.leave(&self.control, &self.slot).await?;
                self.tick_at = now + self.config.watermark_interval;
                if let Some(batch) = self.idle() {
                    self.hand_out(batch);
                    continue;
                }
            }
            self.write_reloads().await?;
            self.advance_snapshot().await?;
            if self.drain()? {
                continue;
            }
            let until = self.wake_at();
            tokio::select! {
                biased;
                event = self.client.recv() => self.received(event)?,
                () = sleep_until(until) => {
                    if self.open.is_none() && self.assembly.is_urgent() {
                        let batch = self.take();
                        self.hand_out(batch);
                    }
                }
            }
        }
    }

    /// Takes in what has arrived already, up to what needs another look; `false` when there was nothing.
    ///
    /// In a backlog this is the loop that every change goes through: it asks no clock and sets no timer. An error of a
    /// session that ends at this very moment may get lost; then the next call says only that it has ended, and who
    /// opens again learns why.
    fn drain(&mut self) -> Result<bool> {
        for taken in 0..DRAIN {
            let full = self.assembly.is_large(&self.config.limit) && self.open.is_none();
            if full || self.relation.is_some() || self.assembly.is_beyond(&self.config.limit) {
                // Nothing taken: what is beyond the limits is one row, which ends nowhere else, and the next one is waited
                // for.
                return Ok(taken > 0);
            }
            match self.client.recv().now_or_never() {
                Some(event) => self.received(event)?,
                None => return Ok(taken > 0),
            }
        }
        Ok(true)
    }

    fn received(&mut self, event: Result<Option<ReplicationEvent>, PgWireError>) -> Result<()> {
        match event.map_err(|e| stream::failed(e, &self.stand, self.log_end))? {
            Some(event) => self.event(event),
            None => {
                let doing = format!("read the replication slot {}", self.slot);
                Err(Error::new(ErrorKind::Unavailable, doing, "the server has ended the stream"))
            }
        }
    }

    /// Everything up to `upto` is durable downstream.
    ///
    /// I1: only a place between two transactions is confirmed, so no transaction that is not wholly committed
    /// downstream can be forgotten.
    pub(crate) fn ack(&mut self, upto: &Checkpoint) {
        self.stand = Stand::of(&self.slot, upto);
        let position = upto.position(PARTITION);
        if let Some((era, lsn, 0, _)) = position.as_wal()
            && era == self.era
        {
            self.client.update_applied_lsn(Lsn(lsn));
        }
    }

    /// Ends the sessions; the slot stays, free for whoever opens next.
    pub(crate) async fn close(mut self) {
        let ending = async {
            // What the stream still had in flight is sent again after the next opening.
            if self.client.shutdown().await.is_ok() {
                slot::wait_free(&self.control, &self.slot).await?;
            }
            Ok::<(), Error>(())
        };
        if !matches!(timeout(CLOSE, ending).await, Ok(Ok(()))) {
            tracing::debug!(slot = %self.slot, "the slot is not free yet; its next owner takes it over");
        }
    }

    fn wake_at(&self) -> Instant {
        let mut until = self.tick_at;
        if self.open.is_none()
            && let Some(since) = self.assembly.since()
        {
            let linger = if self.busy { LINGER } else { Duration::ZERO };
            until = until.min(Instant::now() + linger).min(since + AGE);
        }
        match self.snapshot.as_ref().and_then(Snapshot::due) {
            Some(due) => until.min(due),
            None => until,
        }
    }

    /// Returns the batch if it must end here.
    fn ready(&mut self) -> Option<Batch> {
        match &self.open {
            Some(_) if self.assembly.is_beyond(&self.config.limit) => {
                let batch = self.assembly.split(self.at, self.behind())?;
                self.moved(&batch);
                Some(batch)
            }
            Some(_) => None,
            None if self.assembly.is_large(&self.config.limit)
                || self.assembly.since().is_some_and(|since| since.elapsed() >= AGE) =>
            {
                Some(self.take())
            }
            None => None,
        }
    }

    /// Takes what there is as a batch that reaches the place between two transactions.
    fn take(&mut self) -> Batch {
        let to = Position::wal(self.era, self.reached, 0, 0);
        let batch = self.assembly.take(self.at, to, self.behind());
        self.moved(&batch);
        batch
    }

    /// Puts a batch where the next turn of the loop finds it, with what is missing in it.
    fn hand_out(&mut self, batch: Batch) {
        let missing = self.assembly.missing(self.at);
        self.due = Some(Due::new(batch, missing));
    }

    /// Fills the missing values of the batch that is due; `false`: it must wait for a commit to be seen.
    async fn fill(&mut self) -> Result<bool> {
        let Some(due) = &mut self.due else { return Ok(true) };
        for (table, captured) in self.tables.iter().enumerate() {
            if due.missing.iter().any(|missing| missing.table == table) {
                let (name, contract) = (&captured.name, &captured.contract);
                if !reread::fill(&self.control, &mut self.types, table, name, contract, due).await?
                    || !mend::fill(&self.control, &mut self.types, table, name, contract, due).await?
                {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn moved(&mut self, batch: &Batch) {
        self.busy = batch.changes.len() > BUSY;
        if let Some((_, to)) = batch.delta.ranges.values().next() {
            self.at = *to;
        }
    }

    /// Returns the idle batch: how far everything is complete, with nothing in flight.
    fn idle(&mut self) -> Option<Batch> {
        if self.open.is_some() || self.assembly.is_urgent() {
            return None;
        }
        if let Some((name, word)) = self.trace.note(self.reached) {
            self.assembly.note(name, Some(word));
        }
        let moved = Position::wal(self.era, self.reached, 0, 0) > self.at;
        let complete = self.complete_to_us();
        if !moved && self.assembly.is_empty() && (complete.is_none() || self.told_us == complete) {
            return None;
        }
        if let Some(us) = complete {
            self.assembly.note("complete_to_us", Some(us.to_string()));
            self.told_us = complete;
        }
        Some(self.take())
    }

    fn behind(&self) -> Behind {
        Behind {
            count: None,
            bytes: (self.log_end > 0).then(|| self.log_end.saturating_sub(self.reached)),
            complete_to_us: self.complete_to_us(),
        }
    }

    /// Returns until when everything was handed out; nothing can be said while rows are still to be read.
    fn complete_to_us(&self) -> Option<i64> {
        self.complete_to_us.filter(|_| self.snapshot.is_none() && self.reloads.is_empty())
    }

    /// Looks where the log ends now, and at what time.
    async fn look(&mut self) -> Result<()> {
        // Read before the log's end: what had committed by then lies before that end. By this machine's clock, by which
        // lags are told: how far the server's is from it is measured elsewhere, and no part of a lag.
        let time_us = jiff::Timestamp::now().as_microsecond();
        let row = self
            .control
            .query_one("SELECT (pg_current_wal_flush_lsn() - '0/0')::int8", &[])
            .await
            .map_err(|e| error::of(e, || "read how far the log goes".to_owned()))?;
        self.log_end = row.get::<_, i64>(0) as u64;
        if self.mark.is_none() {
            self.mark = Some(Mark { lsn: self.log_end, time_us });
        }
        self.reach(0);
        Ok(())
    }

    /// Everything that committed before `lsn` was read.
    pub(super) fn reach(&mut self, lsn: u64) {
        self.reached = self.reached.max(lsn);
        if let Some(mark) = self.mark.take_if(|mark| mark.lsn <= self.reached) {
            self.complete_to_us = Some(mark.time_us);
        }
    }
}
