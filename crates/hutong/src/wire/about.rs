//! About how many rows a stream has, without reading them.

use std::time::Duration;

use hutong_stores::{postgres, sqlite};

use super::{Bus, bases};
use crate::config::Plan;
use crate::config::plan::{StoreSystem, SubscriptionPlan};

/// How long the source is asked: whoever looks at a request waits for the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// About how many rows a stream has, and who says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct About {
    /// How many.
    pub rows: u64,
    /// By what.
    pub by: &'static str,
}

/// Asks the captured table's own statistics where its store is reached from here, else the topic, which holds at most
/// so many rows as it has offsets from its base on. `None` when neither tells.
pub async fn about(plan: &Plan, subscription: &SubscriptionPlan) -> Option<About> {
    let asked = tokio::time::timeout(PATIENCE, source(plan, subscription)).await;
    if let Ok(Some(about)) = asked {
        return Some(about);
    }
    let bus = Bus::look(&plan.bus).ok()?;
    let bases = bases(plan, &bus, subscription).await.ok()?;
    let rows = bases.values().map(|base| base.end.saturating_sub(base.first)).sum();
    (!bases.is_empty()).then_some(About { rows, by: "at most: by the length of the topic" })
}

async fn source(plan: &Plan, subscription: &SubscriptionPlan) -> Option<About> {
    let capture = plan.captures.iter().find(|c| Some(&c.name) == subscription.stream.capture.as_ref())?;
    let (table, _) = capture.tables.iter().find(|(_, stream)| stream.name == subscription.stream.name)?;
    let (rows, by) = match &capture.store.system {
        StoreSystem::Postgres { url, .. } => {
            let rows = postgres::estimate(&url.resolve().ok()?, table).await.ok()??;
            (rows, "about: by the statistics of the captured table")
        }
        StoreSystem::Sqlite { path } => {
            let rows = sqlite::estimate(path, table).ok()??;
            (rows, "by a count of the captured table")
        }
    };
    Some(About { rows, by })
}
