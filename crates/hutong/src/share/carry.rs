//! One lane: it begins when its pair comes to this process, and ends when the pair goes.

use std::sync::Arc;
use std::time::Duration;

use hutong_core::Result;
use hutong_engine::Lane;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::roster::{Place, Work};
use crate::ledger::govern;
use crate::wire::Wire;

/// How long a lane may take to finish what it is committing.
const GRACE: Duration = Duration::from_secs(30);

/// Runs a lane whenever this process holds its pair, until it is asked to stop.
///
/// `Err` when it has halted: it stands so until its pair goes to another process, or until a restart.
pub async fn carry(wire: Arc<Wire>, place: Place, token: CancellationToken) -> Result<()> {
    loop {
        let hold = tokio::select! {
            () = token.cancelled() => return Ok(()),
            hold = place.holding.take(&place.pair) => hold,
            problem = place.holding.denied(&place.pair.topic) => {
                // No process of this name may run it: it is not with another one, it halts.
                wire.cannot_run(place.lane.clone(), &problem);
                tokio::select! {
                    () = token.cancelled() => return Ok(()),
                    hold = place.holding.take(&place.pair) => hold,
                }
            }
        };
        if place.holding.is_shared() {
            info!(lane = %place.lane, "is run here");
        }
        let held = token.child_token();
        let running = run(&wire, &place, held.clone());
        tokio::pin!(running);
        let ended = tokio::select! {
            ended = &mut running => Some(ended),
            () = place.holding.lost(&place.pair) => {
                held.cancel();
                // What hangs is dropped: whatever becomes of its commit, the next owner asks the sink.
                if timeout(GRACE, running).await.is_err() {
                    warn!(lane = %place.lane, "did not stop in time and is dropped");
                }
                None
            }
        };
        drop(hold);
        if let Some(ended) = ended {
            tokio::select! {
                biased;
                () = token.cancelled() => return ended,
                () = place.holding.lost(&place.pair) => {}
            }
        }
        info!(lane = %place.lane, "is not run here any more");
        wire.left(&place.lane);
    }
}

async fn run(wire: &Arc<Wire>, place: &Place, token: CancellationToken) -> Result<()> {
    if let (Work::Replicate(subscription), Some(ledger)) = (&place.work, wire.ledger()) {
        // What flows, and when, the ledger says.
        return govern(wire, ledger, subscription, place, token).await;
    }
    match lane(wire, place) {
        Ok(lane) => lane.run(token).await,
        Err(problem) => {
            wire.cannot_run(place.lane.clone(), &problem);
            Err(problem)
        }
    }
}

/// Makes the lane as the configuration says.
fn lane(wire: &Wire, place: &Place) -> Result<Lane> {
    let lane = match &place.work {
        Work::Capture(capture) => wire.capture(capture),
        Work::Replicate(subscription) => wire.replicate_one(subscription, place.lane.partition),
    };
    lane.map(|lane| place.seat(lane))
}
