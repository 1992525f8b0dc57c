//! A table of a SQLite store as the sink of one lane.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use hutong_core::grant::Content;
use hutong_core::ledger::{Proof, receipt};
use hutong_core::{
    Aside, Batch, Checkpoint, Class, Contract, Error, ErrorKind, Hold, LaneId, Refused, Reread, Result,
};
use rusqlite::{Connection, params};
use tracing::debug;

use super::apply::{Applied, Apply, UNDONE};
use super::beside::{self, Put};
use super::error::Context;
use super::install::now_us;
use super::opened::Opened;
use super::store::{COMMIT, Store};
use super::target::{self, Target};
use super::{gone, lane, orphan, quarantine, replay, steer};
use crate::again::{Again, Round};
use crate::flood::{Count, flood};
use crate::fold::{self, CONFLICT, STORE};
use crate::receipt as kept;
use crate::reread;
use crate::waiting::Waiting;

/// How often a constraint that speaks up at COMMIT is left to another lane before its rows are set aside.
const PATIENCE: u32 = 5;

const ORPHAN: &str = "a foreign key of the store finds no row at the end of the transaction";

/// What a sink writes, and under which grant.
#[derive(Clone)]
pub struct SinkConfig {
    /// The file, shared by all its lanes.
    pub store: Arc<Store>,
    /// The lane.
    pub lane: LaneId,
    /// The table.
    pub table: String,
    /// The digest of the grant; under another one than before the lane starts anew (I5).
    pub grant: String,
    /// How many lanes the pipeline has; those beyond are removed when lane 0 opens. `None`: nobody has said.
    pub partitions: Option<u32>,
    /// What the lane will write: where it is known, a replica that starts anew keeps its rows until its table takes
    /// those that come instead.
    pub contract: Option<Arc<Contract>>,
    /// What the grant's content is, by which one that lets less through is known. `None`: the lane starts anew
    /// under every other grant.
    pub content: Option<Content>,
    /// The grant's number in the ledger: each commit leaves a receipt under it that can be proved. `None` without a
    /// ledger: then a receipt only counts.
    pub number: Option<u64>,
    /// How many rows the store may refuse since the sink was made before the lane halts. As many may wait at a
    /// time for a change of another lane; with more the lane gives way and waits itself.
    pub quarantine_limit: u64,
}

/// A table of a SQLite store as the sink of one lane.
///
/// Batches are folded by key and applied by upserts and deletes, with the checkpoint in the same transaction,
/// which the store's writer commits together with those of the other lanes.
pub struct Sink {
    config: SinkConfig,
    stand: Option<Stand>,
    /// The table that is written: beside the one that is served while the lane is filled anew.
    table: String,
    targets: Vec<Arc<Target>>,
    again: Option<Again>,
    /// How many rows the store has refused for good, since a person last acted on the lane.
    refused: Aside,
    waiting: Waiting,
    /// How often in a row a commit has failed that may go through when another lane has written.
    given_way: u32,
    /// What was last opened, also when a commit has failed since.
    own: Option<Own>,
}

/// A lane as it was opened.
#[derive(Clone)]
struct Own {
    lane: String,
    epoch: i64,
    /// Where the lane stands is read in this file, and only there it is written on (I2).
    file: Arc<Opened>,
}

struct Stand {
    epoch: i64,
    checkpoint: Checkpoint,
}

impl Sink {
    /// Makes a sink. Touches nothing until it is opened.
    pub fn new(config: SinkConfig) -> Self {
        Self {
            table: config.table.clone(),
            config,
            stand: None,
            targets: Vec::new(),
            again: None,
            refused: Aside::default(),
            waiting: Waiting::default(),
            given_way: 0,
            own: None,
        }
    }
}

#[async_trait]
impl hutong_core::Sink for Sink {
    async fn open(&mut self, lane: &LaneId) -> Result<Checkpoint> {
        self.stand = None;
        self.waiting = Waiting::default();
        self.config.lane = lane.clone();
        let (table, contract) = (self.config.table.clone(), self.config.contract.clone());
        let begin =
            move |connection: &Connection| gone::begin(connection, &table, contract.as_deref()).map(Some);
        if self.config.store.open(begin).await?.0 {
            return Err(crate::gone::own(&self.config.table));
        }
        let config = self.config.clone();
        let work = move |connection: &Connection| lane::open(connection, &config).map(Some);
        let ((epoch, checkpoint), file) = self.config.store.open(work).await?;
        // Anew, for who takes the lane over may have removed the table that it fills beside.
        self.targets.clear();
        self.table = beside::written(&lane.to_string(), &self.config.table, &checkpoint);
        self.stand = Some(Stand { epoch, checkpoint: checkpoint.clone() });
        self.own = Some(Own { lane: lane.to_string(), epoch, file });
        self.refused.opened(&checkpoint);
        // The first commit finds out whether anything waits for another lane.
        self.again.get_or_insert_with(Again::now);
        Ok(checkpoint)
    }

    async fn prepare(&mut self, contract: &Contract) -> Result<()> {
        if self.targets.iter().any(|t| *t.contract == *contract) {
            return Ok(());
        }
        let Some(own) = &self.own else {
            return Err(Error::new(ErrorKind::Broken, "prepare a table", "the lane is not open"));
        };
        let (table, contract) = (self.table.clone(), Arc::new(contract.clone()));
        let had = self.config.contract.clone().filter(|_| self.table == self.config.table);
        let work = move |connection: &Connection| {
            // I3: what the opening has made sure of is not made again without its rows.
            gone::check(connection, &table, had.as_deref())?;
            target::prepare(connection, &table, &contract).map(Some)
        };
        let target = self.config.store.write(&own.file, work).await?;
        self.targets.push(Arc::new(target));
        Ok(())
    }

    async fn commit(&mut self, batch: &Batch) -> Result<Refused> {
        let name = self.config.lane.to_string();
        let (Some(stand), Some(own)) = (self.stand.take(), self.own.clone()) else {
            return Err(Error::new(ErrorKind::Broken, format!("commit lane {name}"), "the lane is not open"));
        };
        let before = stand.checkpoint;
        let mut checkpoint = before.clone();
        let number = self.config.number;
        let proof = number.and_then(|number| Proof::of(&name, number, &checkpoint, batch));
        checkpoint.advance(&batch.delta)?;
        let overtakes = checkpoint.overtakes();
        if let Some(proof) = &proof {
            checkpoint.notes.insert(receipt::NOTE.into(), proof.head().to_string());
        }
        let changes = batch.changes.clone();
        let folded = fold::fold(&changes);
        if let Some(part) =
            folded.parts.iter().find(|p| !self.targets.iter().any(|t| *t.contract == *p.contract))
        {
            let why = format!("a contract of stream {} was not prepared", part.contract.stream);
            return Err(Error::new(ErrorKind::Broken, format!("commit lane {name}"), why));
        }
        let mut commit = Commit {
            apply: Apply {
                lane: name,
                changes,
                rejected: batch.rejected.clone(),
                folded,
                targets: self.targets.clone(),
                poison: HashMap::new(),
                reread: before.reread(),
            },
            delta: serde_json::to_string(&batch.delta).expect("texts print"),
            grant: self.config.grant.clone(),
            proof,
            epoch: stand.epoch,
            checkpoint: checkpoint.clone(),
            ended: reread::ended(&before, &checkpoint),
            put: overtakes.then(|| Put {
                table: self.config.table.clone(),
                had: self.config.contract.clone(),
                contracts: self.targets.iter().map(|target| Arc::clone(&target.contract)).collect(),
            }),
            undone: false,
            room: self.config.quarantine_limit.saturating_sub(self.refused.count),
            limit: self.config.quarantine_limit,
            patient: self.given_way < PATIENCE,
            count: self.waiting.is_due(false),
        };
        let written = self.config.store.attempt(&own.file, move |connection| commit.run(connection)).await;
        let mut written = written.and_then(|done| done).map_err(|error| self.of_commit(error));
        if matches!(&written, Err(e) if e.kind == ErrorKind::SchemaConflict) {
            written = self.whole().await.and(written);
        }
        if let Ok((refused, lost)) = &written {
            self.stand = Some(Stand { epoch: stand.epoch, checkpoint });
            self.refused.count += refused.lasting + lost;
            if let Some(count) = refused.waiting {
                self.waiting.found(count);
            }
            if refused.curable > 0 {
                // Patience is used up until a commit goes through without: else each batch would wait anew.
                self.again = Some(Again::soon());
            } else {
                self.given_way = 0;
            }
        }
        if overtakes && written.is_ok() {
            written = self.serve().await.and(written);
        }
        // Also after an error: where the lane gives way, only what is replayed makes room.
        self.try_again().await;
        written.map(|(refused, _)| refused)
    }

    async fn look(&mut self) -> Result<Hold> {
        let Some(Own { lane, epoch, file }) = self.own.clone() else {
            return Err(Error::new(ErrorKind::Broken, "look at a lane", "the sink was not opened"));
        };
        let store = Arc::clone(&self.config.store);
        let looked = tokio::task::spawn_blocking(move || {
            let looked = steer::look(store.path(), &lane, epoch);
            match store.holds(&file) {
                Ok(()) => looked,
                // A person has moved it. Of a look that fails the engine asks another time, and an idle lane would stay
                // as it is: so it opens again, and the opening says what there is to say.
                Err(gone) => {
                    debug!(lane, error = %gone, "look");
                    Ok(Hold::Turned)
                }
            }
        });
        looked.await.unwrap_or_else(|e| Err(Error::caused(ErrorKind::Broken, "look at a lane", e)))
    }

    async fn close(&mut self) -> Result<()> {
        self.stand = None;
        Ok(())
    }
}

impl Sink {
    /// Counts what a constraint refuses at COMMIT, which a row of another lane may cure: no row of this one must be skipped
    /// for it at once. An outage there is none of these.
    fn of_commit(&mut self, error: Error) -> Error {
        if error.kind != ErrorKind::Refused || error.doing != COMMIT {
            return error;
        }
        self.given_way += 1;
        Error { kind: ErrorKind::Unavailable, ..error }
    }

    /// `Err(Unavailable)` when somebody has dropped what the lane writes into: its next opening fills that anew.
    async fn whole(&mut self) -> Result<()> {
        let Some(own) = &self.own else { return Ok(()) };
        let (table, had) = (self.config.table.clone(), self.config.contract.clone());
        let work = move |connection: &Connection| gone::check(connection, &table, had.as_deref()).map(Some);
        self.config.store.write(&own.file, work).await
    }

    /// Writes into the table that is served from now on. The batch is durable already; after `Err` an opening goes on.
    async fn serve(&mut self) -> Result<()> {
        tracing::info!(lane = %self.config.lane, table = self.config.table, "what was filled anew is served");
        self.table = self.config.table.clone();
        for target in std::mem::take(&mut self.targets) {
            let prepared = hutong_core::Sink::prepare(self, &target.contract).await;
            prepared.inspect_err(|_| self.stand = None)?;
        }
        Ok(())
    }

    /// Replays what waits for another lane, when its time has come.
    ///
    /// The batch is durable already, so a failure here is only noted; the next commit tries again.
    async fn try_again(&mut self) {
        let Some(Own { lane, file, .. }) = self.own.clone() else { return };
        let Some(again) = self.again.take_if(|again| again.due()) else { return };
        let after = again.after;
        let tried = replay::conflicts(&self.config.store, &file, &lane, after).await;
        let round = tried.unwrap_or_else(|problem| {
            debug!(lane, error = %problem, "replay what waits for another lane");
            Round { left: true, after }
        });
        self.again = again.next(&round);
    }
}

/// One batch with everything that its transaction writes.
struct Commit {
    apply: Apply,
    delta: String,
    grant: String,
    /// What proves it, under a ledger.
    proof: Option<Proof>,
    epoch: i64,
    checkpoint: Checkpoint,
    /// What the lane has read again, with this batch to its end.
    ended: Option<Reread>,
    /// Set by the batch with which what the lane has filled beside takes its place.
    put: Option<Put>,
    /// Whether a trigger has rolled the transaction back when it did.
    undone: bool,
    /// How many changes the store may refuse for good.
    room: u64,
    /// How many may wait at a time for a change of another lane.
    limit: u64,
    /// Whether a constraint that speaks up at COMMIT is left to another lane.
    patient: bool,
    /// Whether what waits is counted, also when the batch sets nothing aside.
    count: bool,
}

impl Commit {
    /// I2: rows, quarantine, receipt and checkpoint are one savepoint of one transaction.
    ///
    /// Returns what was refused, and how many changes that the lane has read again wait for good. `Err` within: what it has
    /// filled beside does not go to its place, and only that is noted.
    fn run(&mut self, connection: &Connection) -> Result<Option<Result<(Refused, u64)>>> {
        let lane = self.apply.lane.clone();
        let doing = || format!("write the rows of lane {lane}");
        let Some(applied) = self.applied(connection).doing(doing)? else { return Ok(None) };
        let mut refused = self.within_limits(connection, &applied)?;
        let lost = self.lost(connection, refused.lasting)?;
        if self.count || applied.aside.all > 0 {
            let (waiting, oldest_us) = quarantine::waiting(connection, &lane).doing(doing)?;
            (refused.waiting, refused.oldest_us) = (Some(waiting), oldest_us);
        }
        if let Some(why) = self.put_in_place(connection)? {
            if connection.is_autocommit() {
                return Ok(None);
            }
            let served = self.put.as_ref().map_or("", |put| &put.table);
            return beside::give_up(connection, (&lane, self.epoch), served, &why).map(|e| Some(Err(e)));
        }
        self.receipt(connection, &applied).doing(doing)?;
        lane::advance(connection, &lane, self.epoch, &self.checkpoint)?;
        Ok(Some(Ok((refused, lost))))
    }

    /// Puts what the lane has filled beside in its place, when it has come so far; returns why the table does not take it.
    fn put_in_place(&mut self, connection: &Connection) -> Result<Option<String>> {
        let Some(put) = &self.put else { return Ok(None) };
        if self.undone {
            return Ok(Some(UNDONE.into()));
        }
        if !self.patient {
            return Ok(Some("a constraint of the store refuses it at the end of the transaction".into()));
        }
        let doing = || format!("write the rows of lane {}", self.apply.lane);
        connection.execute_batch("SAVEPOINT beside").doing(doing)?;
        let why = match beside::put(connection, &self.apply.lane, put) {
            Ok(()) => None,
            Err(error) if error.class() == Class::Retry && !connection.is_autocommit() => return Err(error),
            Err(error) => Some(error.why()),
        };
        if connection.is_autocommit() {
            self.undone = true;
            return Ok(why.or_else(|| Some(UNDONE.into())));
        }
        let end = if why.is_some() { "ROLLBACK TO beside; RELEASE beside" } else { "RELEASE beside" };
        connection.execute_batch(end).doing(doing)?;
        Ok(why)
    }

    /// Counts what lacks its row for good, when the lane is where it was before it was set back.
    fn lost(&self, connection: &Connection, lasting: u64) -> Result<u64> {
        let lane = &self.apply.lane;
        let Some(again) = &self.ended else { return Ok(0) };
        let lost =
            quarantine::lacking(connection, lane, again).doing(|| format!("commit a batch of {lane}"))?;
        if lost.saturating_add(lasting) > self.room {
            return Err(reread::lost(lane, lost, self.room));
        }
        Ok(lost)
    }

    /// Applies the batch; without patience also without the rows that a deferred foreign key would refuse at COMMIT,
    /// for the whole transaction and again and again.
    fn applied(&mut self, connection: &Connection) -> rusqlite::Result<Option<Applied>> {
        loop {
            connection.execute_batch("SAVEPOINT batch")?;
            let Some(applied) = self.apply.run(connection)? else { return Ok(None) };
            let named = if self.patient { Vec::new() } else { orphan::find(connection, &self.apply)? };
            if named.is_empty() {
                connection.execute_batch("RELEASE batch")?;
                return Ok(Some(applied));
            }
            connection.execute_batch("ROLLBACK TO batch; RELEASE batch")?;
            self.apply.poison.extend(named.into_iter().map(|at| (at, (CONFLICT, ORPHAN.to_owned()))));
        }
    }

    /// Counts what the store has refused; after `Err` the savepoint of the batch goes, and nothing of a flood stays.
    fn within_limits(&self, connection: &Connection, applied: &Applied) -> Result<Refused> {
        let lane = &self.apply.lane;
        let doing = || format!("commit a batch of {lane}");
        let mut refused = applied.aside.refused();
        // The store has not refused them.
        refused.lasting = refused.lasting.saturating_sub(self.apply.rejected.len() as u64);
        if refused.lasting > self.room {
            let last = applied.last.as_ref();
            let (rule, reason) = last.map_or((STORE, ""), |(rule, reason)| (*rule, reason.as_str()));
            let earlier = self.limit.saturating_sub(self.room);
            let count = Count { limit: self.limit, earlier, batch: refused.lasting };
            return Err(flood(lane, count, rule, reason));
        }
        if applied.aside.pressing > 0
            && quarantine::count(connection, lane, CONFLICT).doing(doing)? > self.limit
        {
            let why = "more changes wait for another lane than the limit allows; the batch gives way to it";
            return Err(Error::new(ErrorKind::Unavailable, doing(), why).hint(
                "if no other lane frees what the rows need, hutong quarantine list shows why each waits",
            ));
        }
        Ok(refused)
    }

    fn receipt(&self, connection: &Connection, applied: &Applied) -> rusqlite::Result<()> {
        let changes = self.apply.changes.len();
        if changes == 0 && applied.aside.all == 0 {
            return Ok(());
        }
        let sql = "INSERT INTO hutong_receipt \
                   (lane, delta, \"grant\", changes, written, deleted, quarantined, at_us, sequence, proof) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
        connection.prepare_cached(sql)?.execute(params![
            self.apply.lane,
            self.delta,
            self.grant,
            changes as i64,
            applied.written as i64,
            applied.deleted as i64,
            applied.aside.all as i64,
            now_us(),
            self.proof.as_ref().map(|proof| proof.sequence.cast_signed()),
            self.proof.as_ref().map(kept::text),
        ])?;
        Ok(())
    }
}
