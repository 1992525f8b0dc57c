//! The sink of one lane of a replicate into PostgreSQL.

use std::sync::Arc;

use async_trait::async_trait;
use hutong_core::grant::Content;
use hutong_core::ledger::{Proof, receipt};
use hutong_core::{
    Aside, Batch, Checkpoint, Contract, Error, ErrorKind, Hold, LaneId, Op, Refused, Result, Secret,
};
use tracing::{debug, info, warn};

use super::apply::{Limit, Mode};
use super::beside::{self, Put};
use super::commit::{self, Context, Done};
use super::earlier;
use super::gone;
use super::lane;
use super::pool::{Lease, Pool};
use super::quarantine::{self, Waiting};
use super::replay;
use super::room;
use super::schema;
use super::table::Plan;
use crate::again::{Again, Round};
use crate::fold::{self, CONFLICT, Folded};
use crate::postgres::ident::TableName;
use crate::reread::{self, Tally};

/// How often a refusal that another lane may cure is tried again before it is set aside.
const PATIENCE: u32 = 5;

/// What a lane writes into, and under which grant.
#[derive(Clone)]
pub struct SinkConfig {
    /// The store's connections, shared by its lanes.
    pub pool: Pool,
    /// The table that takes the rows: `share.population_base`.
    pub table: TableName,
    /// The digest of the grant. Under another one than the stored, the lane starts anew (I5).
    pub grant: String,
    /// How many rows the store may refuse since the sink was made before the lane halts. As many may wait at a
    /// time for a change of another lane; with more the lane gives way and waits itself.
    pub quarantine_limit: u64,
    /// How many lanes the pipeline has; those beyond are removed when lane 0 opens. `None`: nobody has said.
    pub partitions: Option<u32>,
    /// What the lane will write: where it is known, a replica that starts anew keeps its rows until its table takes
    /// those that come instead.
    pub contract: Option<Arc<Contract>>,
    /// What the grant's content is, by which one that lets less through is known. `None`: the lane starts anew under every
    /// other grant.
    pub content: Option<Content>,
    /// The grant's number in the ledger: each commit leaves a receipt under it that can be proved. `None` without a
    /// ledger: then a receipt only counts.
    pub number: Option<u64>,
}

impl SinkConfig {
    /// Makes the configuration of a sink with connections of its own; `table` is `schema.table`.
    pub fn new(url: Secret, table: &str, grant: impl Into<String>) -> Result<Self> {
        Self::shared(Pool::new(url, 4), table, grant)
    }

    /// Makes the configuration of a sink that shares the connections of its store.
    pub fn shared(pool: Pool, table: &str, grant: impl Into<String>) -> Result<Self> {
        let (table, grant) = (TableName::parse(table)?, grant.into());
        Ok(Self {
            pool,
            table,
            grant,
            quarantine_limit: 1_000,
            partitions: None,
            contract: None,
            content: None,
            number: None,
        })
    }
}

/// Writes one lane of a replicate into a table, exactly once.
pub struct Sink {
    config: SinkConfig,
    open: Option<Open>,
    /// The table that is written: beside the one that is served while the lane is filled anew.
    table: TableName,
    plans: Vec<(Contract, Arc<Plan>)>,
    /// How often in a row a commit gave way to a refusal that another lane may cure.
    given_way: u32,
    /// How many rows the store has refused for good, since a person last acted on the lane.
    refused: Aside,
    /// Whether the lane has written nothing but a snapshot since it stood at its start.
    fresh: bool,
    again: Option<Again>,
    waits: crate::waiting::Waiting,
    /// The lane and its epoch since it was last opened, also when a commit has failed since.
    own: Option<(String, i64)>,
}

/// What an owner of a lane knows.
struct Open {
    lane: String,
    epoch: i64,
    checkpoint: Checkpoint,
    waiting: Waiting,
}

impl Sink {
    /// Makes the sink; nothing is connected before `open`.
    pub fn new(config: SinkConfig) -> Self {
        let waits = crate::waiting::Waiting::default();
        Self {
            table: config.table.clone(),
            config,
            open: None,
            plans: Vec::new(),
            given_way: 0,
            refused: Aside::default(),
            fresh: false,
            again: None,
            waits,
            own: None,
        }
    }

    /// Takes a connection on which the statements of every lane are prepared.
    async fn lease(&self) -> Result<Lease> {
        let mut lease = self.config.pool.lease().await?;
        lease.fix().await?;
        Ok(lease)
    }

    fn plans_of(&self, folded: &Folded) -> Result<Vec<Arc<Plan>>> {
        let plan = |contract: &Contract| {
            let found = self.plans.iter().find(|(known, _)| known == contract);
            found.map(|(_, plan)| Arc::clone(plan)).ok_or_else(|| {
                Error::new(
                    ErrorKind::Broken,
                    format!("commit changes of {}", contract.stream),
                    "the sink was not prepared for their contract",
                )
            })
        };
        folded.parts.iter().map(|part| plan(&part.contract)).collect()
    }

    async fn write(
        &mut self,
        open: &Open,
        (to, proof): (&Checkpoint, Option<&Proof>),
        batch: &Batch,
        overtakes: bool,
    ) -> Result<Done> {
        let mut lease = self.lease().await?;
        let lasting = self.config.quarantine_limit.saturating_sub(self.refused.count);
        let mut context = Context {
            lane: &open.lane,
            table: &self.table,
            grant: &self.config.grant,
            epoch: open.epoch,
            from: &open.checkpoint,
            to,
            proof,
            waiting: &open.waiting,
            limit: Limit { lasting, curable: self.config.quarantine_limit },
            put: overtakes.then(|| Put {
                table: &self.config.table,
                had: self.config.contract.as_deref(),
                contracts: self.plans.iter().map(|(contract, _)| contract).collect(),
            }),
        };
        let ends = overtakes || reread::ended(&open.checkpoint, to).is_some();
        if batch.changes.is_empty() && batch.rejected.is_empty() && !ends {
            commit::step(&mut lease, &context).await?;
            return Ok(Done::Committed {
                refused: Vec::new(),
                tally: Tally::default(),
                superseded: Vec::new(),
                lost: 0,
            });
        }
        let folded = fold::fold(&batch.changes);
        let plans = self.plans_of(&folded)?;
        // What a lane writes first is a snapshot: no row of it is there, since rows and checkpoint are one (I2).
        self.fresh &= batch.changes.iter().all(|change| change.op == Op::Read);
        if self.fresh {
            let fresh = commit::run(&mut lease, &context, batch, &folded, &plans, Mode::Fresh);
            if let done @ (Done::Committed { .. } | Done::Apart { .. }) = Box::pin(fresh).await? {
                return Ok(done);
            }
            self.fresh = false;
        }
        let swift = commit::run(&mut lease, &context, batch, &folded, &plans, Mode::Swift);
        if let done @ (Done::Committed { .. } | Done::Apart { .. }) = Box::pin(swift).await? {
            return Ok(done);
        }
        // Those that wait already leave so much less room; what was replayed leaves its room again.
        let waiting = quarantine::count(&lease.session, &open.lane, CONFLICT).await?;
        context.limit.curable = context.limit.curable.saturating_sub(waiting);
        let patient = self.given_way < PATIENCE;
        let careful = commit::run(&mut lease, &context, batch, &folded, &plans, Mode::Careful { patient });
        match Box::pin(careful).await? {
            Done::Refused { reason } if patient => {
                self.given_way += 1;
                let why = format!("{reason}; a change of another lane may cure it");
                Err(Error::new(ErrorKind::Unavailable, format!("commit a batch of {}", open.lane), why))
            }
            done => Ok(done),
        }
    }
}

#[async_trait]
impl hutong_core::Sink for Sink {
    async fn open(&mut self, lane: &LaneId) -> Result<Checkpoint> {
        self.open = None;
        self.waits = crate::waiting::Waiting::default();
        self.plans.clear();
        let mut lease = self.config.pool.lease().await?;
        lease.clean = false;
        schema::create(&mut lease.session).await?;
        earlier::end(&lease.session, lane).await?;
        gone::begin(&mut lease.session, &self.config.table, self.config.contract.as_deref()).await?;
        let (epoch, checkpoint) = lane::take_over(&mut lease.session, lane, &self.config).await?;
        let lane = lane.to_string();
        let waiting = quarantine::waiting(&lease.session, &lane).await?;
        let conflicts = quarantine::of_rule(&lease.session, &lane, CONFLICT, 0, 1).await?;
        if !conflicts.is_empty() && self.again.is_none() {
            self.again = Some(Again::now());
        }
        lease.clean = true;
        self.fresh = checkpoint.is_empty();
        self.table = beside::written(&lane, &self.config.table, &checkpoint);
        self.own = Some((lane.clone(), epoch));
        self.refused.opened(&checkpoint);
        self.open = Some(Open { lane, epoch, checkpoint: checkpoint.clone(), waiting });
        Ok(checkpoint)
    }

    async fn prepare(&mut self, contract: &Contract) -> Result<()> {
        if self.plans.iter().any(|(known, _)| known == contract) {
            return Ok(());
        }
        let mut lease = self.config.pool.lease().await?;
        lease.clean = false;
        let had = self.config.contract.as_deref().filter(|_| self.table == self.config.table);
        let plan = room::prepare(&mut lease.session, &self.table, contract, had).await?;
        lease.clean = true;
        self.plans.push((contract.clone(), Arc::new(plan)));
        Ok(())
    }

    async fn commit(&mut self, batch: &Batch) -> Result<Refused> {
        // Taken out: after an error the outcome is unknown, and only `open` says where the lane stands.
        let Some(mut open) = self.open.take() else {
            return Err(Error::new(ErrorKind::Broken, "commit a batch", "the sink is not open"));
        };
        let mut to = open.checkpoint.clone();
        // I2: what is committed already is refused before anything is written.
        to.advance(&batch.delta)?;
        let overtakes = to.overtakes();
        let number = self.config.number;
        let proof = number.and_then(|number| Proof::of(&open.lane, number, &open.checkpoint, batch));
        if let Some(proof) = &proof {
            to.notes.insert(receipt::NOTE.into(), proof.head().to_string());
        }
        let mut written = Box::pin(self.write(&open, (&to, proof.as_ref()), batch, overtakes)).await;
        if matches!(&written, Err(e) if e.kind == ErrorKind::SchemaConflict) {
            written = self.whole().await.and(written);
        }
        if self.given_way >= PATIENCE && matches!(&written, Err(e) if e.kind == ErrorKind::Unavailable) {
            // No commit goes through that would try again what waits, and only that makes room.
            self.try_again(&open.lane).await;
        }
        match written? {
            Done::Committed { refused, tally, superseded, lost } => {
                let mut refusals = tally.refused();
                if tally.curable > 0 {
                    // Patience is used up until a commit goes through without: else each batch would wait anew.
                    self.again = Some(Again::soon());
                } else {
                    self.given_way = 0;
                }
                self.refused.count += refusals.lasting + lost;
                for key in superseded {
                    open.waiting.remove(&key);
                }
                for item in batch.rejected.iter().chain(&refused) {
                    if let Some(key) = quarantine::key_of(item) {
                        open.waiting.entry(key).or_insert(item.position);
                    }
                }
                if let Some(first) = refused.first() {
                    warn!(lane = open.lane, count = refused.len(), rule = first.rule, "quarantined");
                }
                open.checkpoint = to;
                if overtakes {
                    self.serve(&open.lane).await?;
                }
                self.try_again(&open.lane).await;
                let set_aside = !batch.rejected.is_empty() || !refused.is_empty();
                if let Some((waiting, oldest_us)) = self.count(&open.lane, set_aside).await {
                    (refusals.waiting, refusals.oldest_us) = (Some(waiting), oldest_us);
                }
                self.open = Some(open);
                Ok(refusals)
            }
            Done::Apart { problem } => Err(self.give_up(&open, &problem).await),
            // Even alone and without patience: only a constraint that speaks up at COMMIT could do that.
            Done::Refused { .. } => Err(Error::new(
                ErrorKind::Broken,
                format!("commit a batch of {}", open.lane),
                "the store refuses the transaction, and no row of it",
            )),
        }
    }

    async fn look(&mut self) -> Result<Hold> {
        let Some((lane, epoch)) = &self.own else {
            return Err(Error::new(ErrorKind::Broken, "look at a lane", "the sink was not opened"));
        };
        let lease = self.config.pool.lease().await?;
        lane::look(&lease.session, lane, *epoch).await
    }

    async fn close(&mut self) -> Result<()> {
        self.open = None;
        Ok(())
    }
}

impl Sink {
    /// Writes into the table that is served from now on. The batch is durable already; after `Err` an opening goes on.
    async fn serve(&mut self, lane: &str) -> Result<()> {
        info!(lane, table = %self.config.table.plain(), "what was filled anew is served");
        (self.table, self.fresh) = (self.config.table.clone(), false);
        for (contract, _) in std::mem::take(&mut self.plans) {
            hutong_core::Sink::prepare(self, &contract).await?;
        }
        Ok(())
    }

    /// `Err(Unavailable)` when somebody has dropped what the lane writes into: its next opening fills that anew.
    async fn whole(&self) -> Result<()> {
        let lease = self.config.pool.lease().await?;
        gone::check(&lease.session, &self.config.table, self.config.contract.as_deref()).await
    }

    /// Gives up to be filled beside, since the table does not take the whole at once; returns the error that says so.
    async fn give_up(&self, open: &Open, problem: &Error) -> Error {
        match self.lease().await {
            Ok(lease) => {
                let session = &lease.session;
                beside::give_up(session, &open.lane, open.epoch, &self.config.table, problem).await
            }
            Err(error) => error,
        }
    }

    /// Counts what waits, when it is due. The batch is durable already, so a failure leaves the number unknown.
    async fn count(&mut self, lane: &str, set_aside: bool) -> Option<(u64, Option<i64>)> {
        if !self.waits.is_due(set_aside) {
            return None;
        }
        let lease = self.lease().await.ok()?;
        let count = quarantine::count_all(&lease.session, lane).await.ok()?;
        self.waits.found(count.0);
        Some(count)
    }

    /// Replays what waits for another lane, when its time has come.
    ///
    /// The batch is durable already, so a failure here is only noted; the next commit tries again.
    async fn try_again(&mut self, lane: &str) {
        let Some(again) = self.again.take_if(|again| again.due()) else { return };
        let tried = async {
            let mut lease = self.lease().await?;
            replay::conflicts(&mut lease, lane, again.after).await
        };
        let round = Box::pin(tried).await.unwrap_or_else(|problem| {
            debug!(lane, error = %problem, "replay what waits for another lane");
            Round { left: true, after: again.after }
        });
        self.again = again.next(&round);
    }
}
