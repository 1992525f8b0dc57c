//! Lanes under a ledger: made for one grant, shown when nothing flows, recalled.

use hutong_core::{Error, LaneId, Result};
use hutong_engine::{Lane, status::now_us};

use super::{Wire, us};
use crate::config::plan::SubscriptionPlan;
use crate::ledger::{Permitted, Remembering};

impl Wire {
    /// Makes the lanes of a subscription as it is granted under this number: each asks the ledger before it commits.
    pub fn replicate_under(&self, granted: &SubscriptionPlan, number: u64) -> Result<Vec<Lane>> {
        let lanes = (0..granted.stream.partitions).map(|partition| {
            let mut lane = self.replicate_lane(granted, partition)?;
            let Some(ledger) = self.ledger() else { return Ok(lane) };
            lane.source = Box::new(Remembering {
                inner: lane.source,
                ledger: ledger.clone(),
                lane: lane.id.clone(),
                told: None,
            });
            let subscription = granted.clone();
            lane.sink = Box::new(Permitted {
                inner: lane.sink,
                ledger: ledger.clone(),
                subscription,
                number,
                under: None,
            });
            Ok(lane)
        });
        lanes.collect()
    }

    /// Shows the lanes of a subscription before the ledger was asked.
    pub fn announced(&self, subscription: &SubscriptionPlan) {
        for partition in 0..subscription.stream.partitions {
            self.board.add(LaneId::new(subscription.pipeline(), partition), us(super::INTERVAL), now_us());
        }
    }

    /// Shows the lanes of a subscription to which nothing flows, and why.
    pub fn held(&self, subscription: &SubscriptionPlan, problem: &Error) {
        for partition in 0..subscription.stream.partitions {
            let id = LaneId::new(subscription.pipeline(), partition);
            self.board.add(id, us(super::INTERVAL), now_us()).halted(problem, now_us());
        }
    }

    /// Deletes the rows of a subscription's replica, and what it has quarantined, and forgets where it stood.
    ///
    /// Shuts out whoever runs the lanes. A lane that is opened under a mark that no grant has starts anew, which is all
    /// that a recall is; a second time nothing is left to delete.
    pub async fn recall(&self, subscription: &SubscriptionPlan, since: u64) -> Result<()> {
        for partition in 0..subscription.stream.partitions {
            let id = LaneId::new(subscription.pipeline(), partition);
            let mut sink = self.sink(subscription, &id, format!("recalled {since}"), None)?;
            sink.open(&id).await?;
            sink.close().await?;
        }
        Ok(())
    }
}
