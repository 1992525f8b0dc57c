//! The two ends of a lane under a ledger: what it has verified is remembered with its rows, and no commit is made that
//! the ledger does not permit at that moment.

use async_trait::async_trait;
use hutong_core::ledger::Head;
use hutong_core::{
    Batch, Checkpoint, Contract, Error, ErrorKind, Hold, LaneId, Refused, Result, Sink, Source,
};

use super::follow::Ledger;
use crate::config::plan::{SubscriptionPlan, Target};
use crate::wire::stands;
use crate::wire::steer::note;

/// The note of a lane's checkpoint that holds the head of the ledger: it commits with the rows that it permitted, and
/// outlives them (`LASTING`), for a history without a narrowing would otherwise be forgotten with the narrowed rows.
pub(super) const NOTE: &str = "ledger.head";

/// Remembers in the store of a lane through which nothing flows how far the ledger was read, as a commit would: else a
/// history from which somebody has cut the last word would say that it flows (I5).
///
/// `Err(Broken)` when the store remembers another history. A delivery's lane writes where the ledger is, and remembers
/// with its commits alone.
pub(super) async fn remember(ledger: &Ledger, subscription: &SubscriptionPlan, lane: &LaneId) -> Result<()> {
    let Target::Table { store, .. } = &subscription.into else { return Ok(()) };
    let Some(stand) = stands(store).await?.remove(&lane.to_string()) else { return Ok(()) };
    let told = stand.checkpoint.note(NOTE).map(|text| read(lane, text)).transpose()?;
    if let Some(told) = told {
        ledger.remembered(&subscription.department, &lane.to_string(), told).await?;
    }
    let head = ledger.head();
    if told.is_some_and(|told| told.sequence >= head.sequence) {
        return Ok(());
    }
    note(store, lane, NOTE, &head.to_string()).await
}

fn read(lane: &LaneId, text: &str) -> Result<Head> {
    Head::parse(text).ok_or_else(|| {
        let doing = format!("read what {lane} remembers of the ledger");
        Error::new(ErrorKind::Broken, doing, "it is no head of a ledger")
    })
}

/// A source that puts the head of the ledger into the lane's checkpoint.
pub(crate) struct Remembering {
    pub(crate) inner: Box<dyn Source>,
    pub(crate) ledger: Ledger,
    pub(crate) lane: LaneId,
    /// Whose store remembers.
    pub(crate) department: String,
    pub(crate) told: Option<Head>,
}

#[async_trait]
impl Source for Remembering {
    async fn open(&mut self, from: &Checkpoint) -> Result<()> {
        self.told = match from.note(NOTE) {
            None => None,
            Some(text) => {
                let head = read(&self.lane, text)?;
                self.ledger.remembered(&self.department, &self.lane.to_string(), head).await?;
                Some(head)
            }
        };
        self.inner.open(from).await
    }

    async fn next(&mut self) -> Result<Option<Batch>> {
        let mut batch = self.inner.next().await?;
        let head = self.ledger.head();
        if let Some(batch) = &mut batch
            && self.told != Some(head)
        {
            batch.delta.notes.insert(NOTE.into(), Some(head.to_string()));
            self.told = Some(head);
        }
        Ok(batch)
    }

    async fn ack(&mut self, upto: &Checkpoint) -> Result<()> {
        self.inner.ack(upto).await
    }

    async fn close(&mut self) -> Result<()> {
        self.inner.close().await
    }
}

/// A sink that commits only under the grant that its lane was made for.
pub(crate) struct Permitted {
    pub(crate) inner: Box<dyn Sink>,
    pub(crate) ledger: Ledger,
    pub(crate) subscription: SubscriptionPlan,
    pub(crate) number: u64,
    /// The head under which it was permitted last: while nothing is new, the same follows from it.
    pub(crate) under: Option<Head>,
}

impl Permitted {
    fn ask(&mut self) -> Result<()> {
        let head = self.ledger.head();
        if self.under != Some(head) || !self.ledger.is_verified(&self.subscription.department) {
            self.ledger.permits(&self.subscription, self.number)?;
            self.under = Some(head);
        }
        Ok(())
    }
}

#[async_trait]
impl Sink for Permitted {
    async fn open(&mut self, lane: &LaneId) -> Result<Checkpoint> {
        // I5: an opening under a grant that is over would take the lane from the one that is not.
        self.ask()?;
        self.inner.open(lane).await
    }

    async fn prepare(&mut self, contract: &Contract) -> Result<()> {
        self.inner.prepare(contract).await
    }

    async fn commit(&mut self, batch: &Batch) -> Result<Refused> {
        // I5: approval, suspension and revocation are asked for at each commit, not when the lane was made.
        self.ask()?;
        self.inner.commit(batch).await
    }

    async fn look(&mut self) -> Result<Hold> {
        self.inner.look().await
    }

    async fn close(&mut self) -> Result<()> {
        self.inner.close().await
    }
}
