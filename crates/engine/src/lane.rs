//! The pipeline loop: one lane from its source through its steps into its sink.
//!
//! The order of a round is steps, commit, ack (I1). Reading the next batch overlaps with the commit.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hutong_core::trail::TARGET;
use hutong_core::{
    Aside, Batch, Change, Checkpoint, Class, Contract, Error, ErrorKind, LaneId, Op, Refused, Result, Sink,
    Source, Step, Verdict,
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span, debug, debug_span, error, info, warn};

use crate::ahead::{Ahead, Share};
use crate::backoff::Backoff;
use crate::glance::GLANCE;
use crate::journey;
use crate::metrics::Metrics;
use crate::status::{Entry, Passed, State, now_us};

/// How a lane behaves.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Changes that may be quarantined since the lane was started, or a person last acted on it, before it halts: a flood
    /// is not an exception.
    pub quarantine_limit: u64,
    /// The first moment at which nothing may leave any more, microseconds since 1970 UTC (I5).
    pub ends_us: Option<i64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { quarantine_limit: 1_000, ends_us: None }
    }
}

/// One lane: source, steps, sink, and who watches it.
pub struct Lane {
    /// Its name.
    pub id: LaneId,
    /// Where it reads.
    pub source: Box<dyn Source>,
    /// What decides about each change, in order.
    pub steps: Vec<Box<dyn Step>>,
    /// Where it writes.
    pub sink: Box<dyn Sink>,
    /// How it behaves.
    pub settings: Settings,
    /// Its entry on the board.
    pub entry: Entry,
    /// The process's metrics.
    pub metrics: Metrics,
    /// The room that it shares with the other lanes of the process.
    pub ahead: Ahead,
}

/// How long a step that writes no rows waits for one that does. A lane that is granted few of many rows so commits
/// few times; after a crash it only reads again what it has dropped before.
const SILENCE: Duration = Duration::from_millis(500);

/// How many changes and rejects a lane reads ahead of a commit that runs, and how many bytes, but for its last batch.
const AHEAD: usize = 2_000;
const AHEAD_BYTES: usize = 4 << 20;

/// What a lane has read, decided about, and not yet committed.
struct Held {
    batch: Batch,
    share: Share,
    newest_us: Option<i64>,
    /// When the first of it was read, and how long the steps took with all of it.
    since: tokio::time::Instant,
    decided: Duration,
    /// When the first change that is written was read.
    writes: tokio::time::Instant,
}

impl Held {
    /// States whether there is room for more.
    fn is_small(&self) -> bool {
        self.batch.changes.len() + self.batch.rejected.len() < AHEAD && self.share.bytes() < AHEAD_BYTES
    }

    /// Returns when it is committed although it writes nothing.
    fn until(&self) -> tokio::time::Instant {
        self.since + SILENCE
    }

    fn is_due(&self) -> bool {
        // A step that only tells freshness comes once an interval, and late it would look like lag.
        let moves = !self.batch.delta.is_empty();
        !self.batch.is_silent() || !moves || tokio::time::Instant::now() >= self.until()
    }
}

/// What happens next.
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and none is kept")]
enum Turn {
    Asked,
    Read(Result<Option<Batch>>),
    /// What is held has waited long enough.
    Due,
    /// Nothing was committed for a while.
    Glance,
}

/// Marks a lane as halted that ends in a panic: it would look as if it ran.
struct Watch {
    entry: Entry,
    lane: LaneId,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let problem = Error::new(ErrorKind::Broken, format!("run {}", self.lane), "it panicked")
                .hint("this is a bug in Hutong: report the log, then start the process again");
            self.entry.halted(&problem, now_us());
        }
    }
}

/// How a session of a lane ended without an error.
pub(crate) enum End {
    Asked,
    Exhausted,
    /// A person has acted on it, so it opens again.
    Turned,
}

impl Lane {
    /// Runs the lane until it is asked to stop, its bounded source ends, or it halts.
    ///
    /// `Err` only when it halts: a person must act. An outage never ends it (I7): it opens again.
    pub async fn run(self, token: CancellationToken) -> Result<()> {
        let _watch = Watch { entry: self.entry.clone(), lane: self.id.clone() };
        self.rounds(token).await
    }

    async fn rounds(mut self, token: CancellationToken) -> Result<()> {
        self.metrics.lane_added(&self.id);
        let mut backoff = Backoff::of(&self.id);
        let mut aside = Aside::default();
        let halted = loop {
            let ended = self.session(&token, &mut backoff, &mut aside).await;
            match self.turned_or(ended).await {
                Ok(End::Turned) => {
                    info!(lane = %self.id, "a person has acted on it, or another process has taken it: it opens again");
                    self.entry.state(State::Opening, now_us());
                }
                Ok(end @ (End::Asked | End::Exhausted)) => {
                    self.close().await;
                    self.entry.state(State::Stopped, now_us());
                    let asked = matches!(end, End::Asked);
                    let why = if asked { "stopped" } else { "reached the end of its source" };
                    info!(lane = %self.id, "{why}");
                    return Ok(());
                }
                Err(problem) if problem.class() == Class::Retry => {
                    self.metrics.retried(&self.id, problem.kind);
                    let wait = backoff.wait();
                    self.entry.failed(&problem, backoff.attempts(), now_us());
                    warn!(lane = %self.id, error = %problem, wait_ms = wait.as_millis() as u64, "will open again");
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = token.cancelled() => {
                            self.close().await;
                            self.entry.state(State::Stopped, now_us());
                            return Ok(());
                        }
                    }
                }
                Err(problem) => break problem,
            }
        };
        self.entry.failed(&halted, 0, now_us());
        error!(lane = %self.id, error = %halted, hint = halted.hint.as_deref().unwrap_or(""), "halted");
        self.close().await;
        Err(halted)
    }

    /// Frees both ends; nothing depends on it, so an error is only noted.
    pub(crate) async fn close(&mut self) {
        for (end, closed) in [("source", self.source.close().await), ("sink", self.sink.close().await)] {
            if let Err(problem) = closed {
                debug!(lane = %self.id, end, error = %problem, "close");
            }
        }
    }

    /// Opens both ends and goes round until something stops it.
    async fn session(
        &mut self,
        token: &CancellationToken,
        backoff: &mut Backoff,
        aside: &mut Aside,
    ) -> Result<End> {
        self.permitted_now()?;
        // The sink first: it shuts an earlier owner out, and only it knows where the lane stands (I2).
        let mut checkpoint = until(token, self.sink.open(&self.id)).await?;
        let Some(checkpoint) = checkpoint.as_mut() else { return Ok(End::Asked) };
        self.entry.opened(checkpoint, now_us());
        aside.opened(checkpoint);
        if let Some(pause) = checkpoint.pause() {
            return self.paused(&pause, token).await;
        }
        if until(token, self.source.open(checkpoint)).await?.is_none() {
            return Ok(End::Asked);
        }
        if !checkpoint.is_empty() {
            // A commit whose answer was lost is durable all the same: without this the origin would keep
            // what it covers until the next change comes.
            self.source.ack(checkpoint).await?;
        }
        self.entry.state(State::Running, now_us());
        info!(lane = %self.id, "opened");
        let mut prepared: Vec<Arc<Contract>> = Vec::new();
        let mut early: Option<Result<Option<Batch>>> = None;
        let mut held: Option<Held> = None;
        let mut seen = tokio::time::Instant::now();
        loop {
            let turn = match early.take() {
                Some(read) => Turn::Read(read),
                None => self.turn(token, held.as_ref(), seen + GLANCE).await,
            };
            let end = match turn {
                Turn::Read(read) => match read? {
                    // Nothing of this batch is committed; the next owner reads it again.
                    Some(_) if token.is_cancelled() => Some(End::Asked),
                    Some(batch) => {
                        gather(&mut self.steps, batch, &mut held, &self.ahead)?;
                        None
                    }
                    None => Some(End::Exhausted),
                },
                Turn::Asked => Some(End::Asked),
                Turn::Due => None,
                Turn::Glance => {
                    seen = tokio::time::Instant::now();
                    self.glance(token).await?
                }
            };
            self.permitted_now()?;
            // The share is given back when the commit is over.
            let Some(Held { mut batch, newest_us, share: _share, since, decided, writes }) =
                held.take_if(|held| end.is_some() || held.is_due())
            else {
                match end {
                    Some(end) => return Ok(end),
                    None => continue,
                }
            };
            self.entry.reading(batch.changes.iter().map(|c| c.origin.committed_us).min(), now_us());
            // Counted only when they are committed: a commit that is tried again is no flood.
            let would_be = aside.count + batch.rejected.len() as u64;
            if would_be > self.settings.quarantine_limit {
                return Err(self.flooded(would_be, &batch));
            }
            for change in &batch.changes {
                if !prepared.iter().any(|c| Arc::ptr_eq(c, &change.contract)) {
                    self.sink.prepare(&change.contract).await?;
                    prepared.push(Arc::clone(&change.contract));
                }
            }
            let started = Instant::now();
            let span = journey::begin(&self.id, &mut batch, since.elapsed(), decided);
            let refused;
            (refused, early) = self.commit_while_reading(&batch, &mut held, span).await?;
            // What another lane may cure is no flood: the sink keeps it low and tries it again.
            aside.count = would_be + refused.lasting;
            checkpoint.advance(&batch.delta)?;
            backoff.reset();
            // The commit was the look.
            seen = tokio::time::Instant::now();
            // I3: counted before anything else can fail.
            self.note(&batch, refused, newest_us, checkpoint, started.elapsed());
            let begun_us = self.entry.begun_us();
            self.metrics.latency().committed(&self.id, &batch, writes.elapsed(), begun_us, now_us());
            // I1: only now may the origin forget.
            self.source.ack(checkpoint).await?;
            if let Some(end) = end {
                return Ok(end);
            }
        }
    }

    /// Waits for what happens next. Dropping `next` is safe: it is cancel safe.
    async fn turn(
        &mut self,
        token: &CancellationToken,
        held: Option<&Held>,
        glance: tokio::time::Instant,
    ) -> Turn {
        let due = async {
            match held {
                Some(held) if held.is_due() => {}
                Some(held) => tokio::time::sleep_until(held.until()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = token.cancelled() => Turn::Asked,
            () = due => Turn::Due,
            () = tokio::time::sleep_until(glance), if held.is_none() => Turn::Glance,
            read = self.source.next() => Turn::Read(read),
        }
    }

    /// Commits, and meanwhile reads and decides about what goes into the next commit: the longer a commit takes, the
    /// larger the next one, up to [`AHEAD`] and while there is room for all lanes. What ends the reading is returned.
    /// Dropping `next` is safe: it is cancel safe.
    async fn commit_while_reading(
        &mut self,
        batch: &Batch,
        held: &mut Option<Held>,
        span: Span,
    ) -> Result<(Refused, Option<Result<Option<Batch>>>)> {
        let doing = debug_span!(target: TARGET, parent: &span, "commit");
        let commit = self.sink.commit(batch).instrument(doing);
        tokio::pin!(commit);
        let mut ended = None;
        loop {
            let small = held.as_ref().is_none_or(Held::is_small) && self.ahead.has_room();
            tokio::select! {
                biased;
                done = &mut commit => {
                    self.metrics.produced(&self.id, &done);
                    return Ok((done?, ended));
                }
                read = self.source.next(), if ended.is_none() && small => match read {
                    Ok(Some(next)) => gather(&mut self.steps, next, held, &self.ahead)?,
                    end => ended = Some(end),
                },
            }
        }
    }

    fn note(
        &self,
        batch: &Batch,
        refused: Refused,
        newest_us: Option<i64>,
        checkpoint: &Checkpoint,
        took: Duration,
    ) {
        let written = (batch.changes.len() as u64).saturating_sub(batch.outside);
        let committed = written.saturating_sub(refused.count());
        let quarantined = batch.rejected.len() as u64 + refused.count();
        for (rule, count) in &batch.dropped {
            self.metrics.dropped(&self.id, rule, *count);
        }
        self.metrics.committed(&self.id, committed, quarantined, took);
        self.metrics.told(&self.id, batch);
        if let Some(first) = batch.rejected.first() {
            warn!(lane = %self.id, count = quarantined, rule = first.rule, reason = %first.reason, "quarantined");
        }
        debug!(
            lane = %self.id,
            changes = committed,
            quarantined,
            took_us = took.as_micros() as u64,
            // Made for who listens, not at each commit.
            trace = batch.trail.own.map(|own| format!("{:032x}", own.trace)),
            "committed"
        );
        let passed = Passed {
            committed,
            quarantined,
            waiting: refused.waiting,
            oldest_us: refused.oldest_us,
            dropped: &batch.dropped,
            newest_us,
            behind: batch.behind,
            checkpoint,
        };
        self.entry.passed(&passed, now_us());
    }

    /// I5: nothing leaves after the grant's last day, by this side's clock.
    pub(crate) fn permitted_now(&self) -> Result<()> {
        match self.settings.ends_us {
            Some(ends_us) if now_us() >= ends_us => Err(Error::new(
                ErrorKind::Denied,
                format!("go on with {}", self.id),
                "the last day of its grant is over",
            )
            .hint("nothing more is delivered; a new grant has a later `until`")),
            _ => Ok(()),
        }
    }

    /// Says of a batch that is one too many what it holds: nobody can look it up, for it is not recorded.
    fn flooded(&self, count: u64, batch: &Batch) -> Error {
        let mut rules: BTreeMap<&str, (u64, &str)> = BTreeMap::new();
        for rejected in &batch.rejected {
            rules.entry(rejected.rule).or_insert((0, &rejected.reason)).0 += 1;
        }
        let told = rules.iter().map(|(rule, (n, reason))| format!("{n} by {rule} ({reason})"));
        let mut places = batch.rejected.iter().map(|rejected| rejected.position.to_string());
        let first = places.next().unwrap_or_default();
        let why = format!(
            "{count} changes were quarantined, the limit is {}; the last batch holds from {first} to {}: {}",
            self.settings.quarantine_limit,
            places.next_back().unwrap_or_else(|| first.clone()),
            told.collect::<Vec<_>>().join("; ")
        );
        Error::new(ErrorKind::Broken, format!("go on with {}", self.id), why).hint(format!(
            "that batch is not recorded and comes again: mend its cause, or raise [limits] quarantine, then start again; \
             hutong quarantine list {} shows earlier ones",
            self.id.pipeline.name
        ))
    }
}

/// Decides about a batch, and joins it to what is held.
fn gather(steps: &mut [Box<dyn Step>], batch: Batch, held: &mut Option<Held>, ahead: &Ahead) -> Result<()> {
    let newest_us = batch.changes.iter().map(|c| c.origin.committed_us).max();
    let begun = Instant::now();
    let decided = decide(steps, batch);
    let took = begun.elapsed();
    let rejected = decided.rejected.iter().filter_map(|rejected| rejected.change.as_deref());
    let bytes = decided.changes.iter().chain(rejected).map(Change::weight).sum::<usize>();
    match held {
        None => {
            let since = tokio::time::Instant::now();
            let mut share = ahead.share();
            share.grow(bytes);
            *held = Some(Held { batch: decided, share, newest_us, since, decided: took, writes: since });
        }
        Some(held) => {
            if held.batch.changes.is_empty() {
                held.writes = tokio::time::Instant::now();
            }
            held.batch.append(decided)?;
            held.share.grow(bytes);
            held.decided += took;
            held.newest_us = held.newest_us.max(newest_us);
        }
    }
    Ok(())
}

/// Applies the steps to each change. I3: each one passes, is counted under a rule, or is set aside.
fn decide(steps: &mut [Box<dyn Step>], mut batch: Batch) -> Batch {
    if steps.is_empty() {
        return batch;
    }
    let mut passed = Vec::with_capacity(batch.changes.len());
    'changes: for mut change in std::mem::take(&mut batch.changes) {
        let read = change.op == Op::Read;
        for step in steps.iter_mut() {
            match step.apply(change) {
                Verdict::Pass(next) => change = next,
                Verdict::Drop { reason } => {
                    *batch.dropped.entry(reason).or_default() += 1;
                    continue 'changes;
                }
                Verdict::Reject(rejected) => {
                    batch.rejected.push(rejected);
                    continue 'changes;
                }
            }
        }
        if read && change.op == Op::Delete {
            // Nobody is told of the row: it is kept from the replica, in which an earlier grant may have left it.
            batch.outside += 1;
            *batch.dropped.entry("filtered").or_default() += 1;
        }
        passed.push(change);
    }
    batch.changes = passed;
    batch
}

/// Waits for `work` unless the lane is asked to stop first: then `None`, and `work` is dropped.
pub(crate) async fn until<T>(
    token: &CancellationToken,
    work: impl Future<Output = Result<T>>,
) -> Result<Option<T>> {
    tokio::select! {
        biased;
        () = token.cancelled() => Ok(None),
        done = work => done.map(Some),
    }
}
