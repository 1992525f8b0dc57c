//! The end of a lane that several processes may be given: whoever does not hold it opens nothing.

use std::time::Duration;

use async_trait::async_trait;
use hutong_bus::holding::Holding;
use hutong_core::{Batch, Checkpoint, Contract, Error, ErrorKind, Hold, Kind, LaneId, Refused, Result, Sink};
use tokio::time::{Instant, sleep_until};
use tracing::warn;

/// How long a lane that was shut out waits before it opens again, if its pair is still held here. By then a process that
/// was given up has heard of it; with each further time it is twice as long, for then somebody outside the group runs
/// the same lane.
const GIVES_WAY: Duration = Duration::from_secs(3);
/// How often it is doubled.
const DOUBLED: u32 = 5;

/// A sink that opens only while its process holds the lane, and gives way when another has taken it.
pub(super) struct Held {
    inner: Box<dyn Sink>,
    holding: Holding,
    lane: LaneId,
    /// How often it was shut out, and until when it waits for that.
    fenced: u32,
    until: Option<Instant>,
}

impl Held {
    pub(super) fn new(inner: Box<dyn Sink>, holding: Holding, lane: LaneId) -> Self {
        Self { inner, holding, lane, fenced: 0, until: None }
    }

    /// Turns the news of a newer owner into an outage: it passes, for the group says who goes on. A person is no owner, and
    /// the lane opens again at once.
    async fn give_way(&mut self, error: Error) -> Error {
        if error.kind == ErrorKind::Unavailable
            && error.hint.is_none()
            && self.lane.pipeline.kind == Kind::Replicate
        {
            return error.hint(
                "if others reach this store, stop this process (SIGTERM): they carry its lanes on at once",
            );
        }
        if error.kind != ErrorKind::Fenced || matches!(self.inner.look().await, Ok(Hold::Turned)) {
            return error;
        }
        self.wait();
        let hint = "it goes on by itself, here or where it was taken. If it is taken again and again, a process that \
                    carries other subscriptions (`--only`, another configuration) carries this one too: stop one of the two";
        Error::new(ErrorKind::Unavailable, error.doing.clone(), error.why()).hint(hint)
    }

    /// Lets the next opening wait, each time for longer.
    fn wait(&mut self) {
        let wait = GIVES_WAY * 2_u32.pow(self.fenced.min(DOUBLED));
        self.fenced += 1;
        self.until = Some(Instant::now() + wait);
        warn!(lane = %self.lane, times = self.fenced, wait_s = wait.as_secs(), "another process has taken it: gives way");
    }
}

#[async_trait]
impl Sink for Held {
    async fn open(&mut self, lane: &LaneId) -> Result<Checkpoint> {
        if let Some(until) = self.until.take() {
            sleep_until(until).await;
        }
        // I4: one owner a lane. A process that stood still may have been given up: it must not shut the new owner out.
        self.holding.sure().await;
        match self.inner.open(lane).await {
            Err(error) => Err(self.give_way(error).await),
            done => done,
        }
    }

    async fn prepare(&mut self, contract: &Contract) -> Result<()> {
        match self.inner.prepare(contract).await {
            Err(error) => Err(self.give_way(error).await),
            done => done,
        }
    }

    async fn commit(&mut self, batch: &Batch) -> Result<Refused> {
        match self.inner.commit(batch).await {
            Err(error) => Err(self.give_way(error).await),
            done => done,
        }
    }

    async fn look(&mut self) -> Result<Hold> {
        match self.inner.look().await? {
            Hold::Taken => {
                self.wait();
                // It opens again, as after a person's word, and not at once.
                Ok(Hold::Turned)
            }
            hold => Ok(hold),
        }
    }

    async fn close(&mut self) -> Result<()> {
        self.inner.close().await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use hutong_core::PipelineId;

    use super::*;

    /// A lane that another process, or a person, always takes.
    struct Contested(Arc<AtomicU32>, Hold);

    #[async_trait]
    impl Sink for Contested {
        async fn open(&mut self, _: &LaneId) -> Result<Checkpoint> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(Checkpoint::default())
        }

        async fn prepare(&mut self, _: &Contract) -> Result<()> {
            Ok(())
        }

        async fn commit(&mut self, _: &Batch) -> Result<Refused> {
            Err(Error::new(ErrorKind::Fenced, "commit", "a newer owner has taken the lane"))
        }

        async fn look(&mut self) -> Result<Hold> {
            Ok(self.1)
        }
    }

    fn lane() -> LaneId {
        LaneId::new(PipelineId::new(Kind::Replicate, "a"), 0)
    }

    /// A lane whose store does not answer.
    struct Away;

    #[async_trait]
    impl Sink for Away {
        async fn open(&mut self, _: &LaneId) -> Result<Checkpoint> {
            Err(Error::new(ErrorKind::Unavailable, "open", "no answer"))
        }

        async fn prepare(&mut self, _: &Contract) -> Result<()> {
            Ok(())
        }

        async fn commit(&mut self, _: &Batch) -> Result<Refused> {
            Err(Error::new(ErrorKind::Unavailable, "commit", "no answer").hint("what the store says"))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lane_whose_store_is_away_says_how_others_get_it() {
        let mut held = Held::new(Box::new(Away), Holding::everything(), lane());
        let hint = |error: Error| (error.kind, error.hint.unwrap_or_default());
        let (kind, said) = hint(held.open(&lane()).await.map(drop).unwrap_err());
        assert_eq!(kind, ErrorKind::Unavailable, "it waits");
        assert!(said.contains("stop this process"), "{said}");
        let (_, said) = hint(held.commit(&Batch::default()).await.map(drop).unwrap_err());
        assert_eq!(said, "what the store says", "who knows more is heard");
    }

    #[tokio::test(start_paused = true)]
    async fn a_person_who_acts_on_a_lane_is_no_other_owner() {
        let inner = Box::new(Contested(Arc::default(), Hold::Turned));
        let mut held = Held::new(inner, Holding::everything(), lane());
        held.open(&lane()).await.unwrap();
        assert_eq!(held.commit(&Batch::default()).await.unwrap_err().kind, ErrorKind::Fenced);
        assert_eq!(held.look().await.unwrap(), Hold::Turned);
        let began = Instant::now();
        held.open(&lane()).await.unwrap();
        assert_eq!(began.elapsed(), Duration::ZERO, "it opens at once");
    }

    #[tokio::test(start_paused = true)]
    async fn i4_an_idle_lane_that_finds_itself_taken_opens_again_after_a_while_and_does_not_halt() {
        let mut held =
            Held::new(Box::new(Contested(Arc::default(), Hold::Taken)), Holding::everything(), lane());
        held.open(&lane()).await.unwrap();
        assert_eq!(held.look().await.unwrap(), Hold::Turned);
        let began = Instant::now();
        held.open(&lane()).await.unwrap();
        assert_eq!(began.elapsed().as_secs(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn i4_a_lane_that_is_taken_gives_way_for_longer_and_longer() {
        let opened = Arc::new(AtomicU32::new(0));
        let lane = lane();
        let inner = Box::new(Contested(Arc::clone(&opened), Hold::Taken));
        let mut held = Held::new(inner, Holding::everything(), lane.clone());
        let mut waited = Vec::new();
        for _ in 0..8 {
            let began = Instant::now();
            held.open(&lane).await.unwrap();
            waited.push(began.elapsed().as_secs());
            let error = held.commit(&Batch::default()).await.unwrap_err();
            assert_eq!(error.kind, ErrorKind::Unavailable, "it opens again by itself: {error}");
        }
        assert_eq!(waited, [0, 3, 6, 12, 24, 48, 96, 96]);
        assert_eq!(opened.load(Ordering::Relaxed), 8);
    }
}
