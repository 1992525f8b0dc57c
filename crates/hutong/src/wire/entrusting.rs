//! The end of a capture that seals under a ledger: before each commit, keys are wrapped for those who may open now.

use async_trait::async_trait;
use hutong_bus::TopicSink;
use hutong_core::{Batch, Checkpoint, Class, Contract, Error, Hold, LaneId, Refused, Result, Sink};
use tracing::warn;

use crate::ledger::{Asked, Entrusted, Ledger};

/// A sink that asks the ledger who may open what it seals.
///
/// An idle capture commits its watermark all the same, so a new grant is given its keys within seconds.
pub(super) struct Entrusting {
    inner: TopicSink,
    ledger: Ledger,
    asked: Asked,
    /// What was found last, and is wrapped.
    entrusted: Option<Entrusted>,
}

impl Entrusting {
    pub(super) fn new(inner: TopicSink, ledger: Ledger, asked: Asked) -> Self {
        Self { inner, ledger, asked, entrusted: None }
    }

    /// I5: asked for at each commit, so that nothing is sealed under a key that a department without a grant opens.
    async fn entrust(&mut self) -> Result<()> {
        if self.entrusted.as_ref().is_some_and(|entrusted| self.ledger.still(entrusted)) {
            return Ok(());
        }
        let entrusted = self.found()?;
        self.inner.entrust(&entrusted.readers).await?;
        self.entrusted = Some(entrusted);
        Ok(())
    }

    fn found(&self) -> Result<Entrusted> {
        let entrusted = self.ledger.entrusted(&self.asked)?;
        if !entrusted.is_verified() {
            warn!("the ledger is not verified: what is captured now is sealed for its owner alone");
        }
        Ok(entrusted)
    }
}

#[async_trait]
impl Sink for Entrusting {
    async fn open(&mut self, lane: &LaneId) -> Result<Checkpoint> {
        self.entrusted = None;
        // What was revoked while nothing ran must be known before anything is sealed. I7: whoever was killed between the
        // ledger's word and the new key begins here.
        if let Err(problem) = self.ledger.catch_up().await
            && problem.class() == Class::Retry
            && !self.ledger.entrusted(&self.asked).is_ok_and(|entrusted| entrusted.is_verified())
        {
            return Err(Error { doing: format!("open {lane}: {}", problem.doing), ..problem });
        }
        // What else is wrong with the ledger it has said itself: then nobody is entrusted with anything.
        let entrusted = self.found()?;
        self.inner.will_entrust(&entrusted.readers);
        let checkpoint = self.inner.open(lane).await?;
        self.entrusted = Some(entrusted);
        Ok(checkpoint)
    }

    async fn prepare(&mut self, contract: &Contract) -> Result<()> {
        self.inner.prepare(contract).await
    }

    async fn commit(&mut self, batch: &Batch) -> Result<Refused> {
        self.entrust().await?;
        self.inner.commit(batch).await
    }

    async fn look(&mut self) -> Result<Hold> {
        self.inner.look().await
    }

    async fn close(&mut self) -> Result<()> {
        self.inner.close().await
    }
}
