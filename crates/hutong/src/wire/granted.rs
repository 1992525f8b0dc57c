//! Lanes under a ledger: made for one grant, shown when nothing flows, recalled.

use hutong_core::{Error, LaneId, Result};
use hutong_engine::{Lane, status::now_us};
use hutong_stores::RECALLED;

use super::{Wire, us};
use crate::config::plan::{SubscriptionPlan, Target};
use crate::ledger::{Permitted, Remembering};

impl Wire {
    /// Makes one lane of a subscription as it is granted under this number: it asks the ledger before it commits.
    pub fn replicate_under(&self, granted: &SubscriptionPlan, number: u64, partition: u32) -> Result<Lane> {
        let mut lane = self.replicate_lane(granted, partition, Some(number))?;
        let Some(ledger) = self.ledger() else { return Ok(lane) };
        lane.source = Box::new(Remembering {
            inner: lane.source,
            ledger: ledger.clone(),
            lane: lane.id.clone(),
            department: granted.department.clone(),
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
    }

    /// Shows a lane that is run here, before it is made.
    pub fn announced(&self, lane: &LaneId) {
        self.board.add(lane.clone(), us(super::INTERVAL), now_us());
    }

    /// Shows a lane through which nothing may flow, why, and since when, where somebody has said when.
    pub fn held(&self, lane: &LaneId, why: &Error, since_us: Option<i64>) {
        self.board.add(lane.clone(), us(super::INTERVAL), now_us()).held(why, since_us, now_us());
    }

    /// Shows a lane through which nothing flows because something is wrong.
    pub fn halted(&self, lane: &LaneId, problem: &Error) {
        self.board.add(lane.clone(), us(super::INTERVAL), now_us()).halted(problem, now_us());
    }

    /// Shows a lane no more: another process runs it.
    pub fn left(&self, lane: &LaneId) {
        self.board.remove(lane);
    }

    /// Deletes the rows of a subscription's lane from the replica, and what it has quarantined, and forgets where it stood;
    /// of a delivery its topics: what is no longer granted is not kept for any reader.
    ///
    /// Shuts out whoever runs the lane. A lane that is opened under a mark that no grant has starts anew, which is all
    /// that a recall is; a second time nothing is left to delete. Each lane leaves a receipt of how many rows or records
    /// went, under the grant's number.
    pub async fn recall(
        &self,
        subscription: &SubscriptionPlan,
        lane: &LaneId,
        number: u64,
        since: u64,
    ) -> Result<()> {
        if subscription.into == Target::Topic {
            let topics = super::generations(&self.bus, &self.bus_name, subscription);
            return topics.recall(lane, number, since).await;
        }
        let mark = format!("{RECALLED}{since}");
        let mut sink = self.sink(subscription, lane, mark, (None, Some(number)))?;
        sink.open(lane).await?;
        sink.close().await
    }
}
