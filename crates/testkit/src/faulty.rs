//! A port wrapped in faults: whatever it wraps refuses, loses its answer, never answers, or answers late.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hutong_core::{
    Batch, Checkpoint, Contract, Error, ErrorKind, Hold, LaneId, Refused, Result, Sink, Source,
};

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// It is refused, and nothing is done.
    Refuse,
    /// It is done, and the answer is lost.
    Lose,
    /// Nothing is done and no answer comes, until the call is dropped.
    Hold,
    /// It is done, and no answer comes, until the call is dropped.
    HoldAnswer,
    /// It is done after so long.
    Slow(Duration),
    /// It is done, and answered after so long.
    SlowAnswer(Duration),
    /// Somebody else has taken the lane, says the other side.
    Fence,
}

/// The calls that can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// `Source::open`.
    OpenSource,
    /// `Source::next`.
    Next,
    /// `Source::ack`.
    Ack,
    /// `Sink::open`.
    OpenSink,
    /// `Sink::prepare`.
    Prepare,
    /// `Sink::commit`.
    Commit,
    /// `close` of either.
    Close,
}

/// Says what happens to each call.
pub type Faults = Arc<dyn Fn(Call) -> Fault + Send + Sync>;

/// A port, and what happens to its calls. A port of either kind is one again.
pub struct Faulty<T> {
    inner: T,
    faults: Faults,
}

impl<T> Faulty<T> {
    /// Wraps a port.
    pub fn new(inner: T, faults: Faults) -> Self {
        Self { inner, faults }
    }
}

/// Does `work` as a fault says.
async fn through<T>(fault: Fault, work: impl Future<Output = Result<T>>) -> Result<T> {
    let failed = |kind, why: &str| Err(Error::new(kind, "call a faulty port", why));
    match fault {
        Fault::None => work.await,
        Fault::Refuse => failed(ErrorKind::Unavailable, "refused"),
        Fault::Lose => {
            work.await?;
            failed(ErrorKind::Unknown, "the answer was lost")
        }
        Fault::Hold => std::future::pending().await,
        Fault::HoldAnswer => {
            work.await?;
            std::future::pending().await
        }
        Fault::Slow(wait) => {
            tokio::time::sleep(wait).await;
            work.await
        }
        Fault::SlowAnswer(wait) => {
            let done = work.await;
            tokio::time::sleep(wait).await;
            done
        }
        Fault::Fence => failed(ErrorKind::Fenced, "a newer owner"),
    }
}

#[async_trait]
impl Source for Faulty<Box<dyn Source>> {
    async fn open(&mut self, from: &Checkpoint) -> Result<()> {
        through((self.faults)(Call::OpenSource), self.inner.open(from)).await
    }

    async fn next(&mut self) -> Result<Option<Batch>> {
        // A batch that was taken and is not handed out would be lost to a call that is dropped, so only whoever
        // loses the answer altogether has taken one: the engine then opens again.
        let fault = match (self.faults)(Call::Next) {
            Fault::HoldAnswer => Fault::Hold,
            Fault::SlowAnswer(wait) => Fault::Slow(wait),
            fault => fault,
        };
        through(fault, self.inner.next()).await
    }

    async fn ack(&mut self, upto: &Checkpoint) -> Result<()> {
        through((self.faults)(Call::Ack), self.inner.ack(upto)).await
    }

    async fn close(&mut self) -> Result<()> {
        through((self.faults)(Call::Close), self.inner.close()).await
    }
}

#[async_trait]
impl Sink for Faulty<Box<dyn Sink>> {
    async fn open(&mut self, lane: &LaneId) -> Result<Checkpoint> {
        through((self.faults)(Call::OpenSink), self.inner.open(lane)).await
    }

    async fn prepare(&mut self, contract: &Contract) -> Result<()> {
        through((self.faults)(Call::Prepare), self.inner.prepare(contract)).await
    }

    async fn commit(&mut self, batch: &Batch) -> Result<Refused> {
        through((self.faults)(Call::Commit), self.inner.commit(batch)).await
    }

    async fn look(&mut self) -> Result<Hold> {
        self.inner.look().await
    }

    async fn close(&mut self) -> Result<()> {
        through((self.faults)(Call::Close), self.inner.close()).await
    }
}
