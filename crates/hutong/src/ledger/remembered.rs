//! What the lanes of a configuration's stores remember of the ledger, for whoever looks at it with a command: a ledger
//! that was cut looks whole by itself.

use std::collections::BTreeMap;
use std::time::Duration;

use hutong_core::ledger::{Book, Contradiction, Head};

use super::pinned::NOTE;
use crate::config::Plan;
use crate::config::plan::StorePlan;
use crate::wire::stands;

/// How long a store has to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The heads that lanes have verified.
pub struct Remembered {
    /// Which lane of which store, and its head.
    pub heads: Vec<(String, Head)>,
    /// Which stores did not tell, and why.
    pub missed: Vec<String>,
}

impl Remembered {
    /// Asks every store that a subscription of the configuration fills.
    pub async fn of(plan: &Plan) -> Self {
        let filled = plan.subscriptions.iter().filter_map(|own| own.into.store());
        let stores: BTreeMap<&str, &StorePlan> =
            filled.map(|store| (store.name.as_str(), store.as_ref())).collect();
        let asked = stores.into_values().map(|store| async move {
            let told = tokio::time::timeout(PATIENCE, stands(store)).await;
            (store, told)
        });
        let mut all = Self { heads: Vec::new(), missed: Vec::new() };
        for (store, told) in futures_util::future::join_all(asked).await {
            let name = &store.name;
            match told {
                Ok(Ok(stands)) => {
                    // Of the lanes that there are: a store is its department's, who may write any other into it.
                    let own = |lane: &str| {
                        plan.subscriptions.iter().any(|own| {
                            own.pipeline().partition(lane).is_some_and(|p| p < own.stream.partitions)
                        })
                    };
                    let heads = stands.iter().filter(|(lane, _)| own(lane)).filter_map(|(lane, stand)| {
                        let head = stand.checkpoint.note(NOTE).and_then(Head::parse)?;
                        Some((format!("{lane} in the store {name}"), head))
                    });
                    all.heads.extend(heads);
                }
                Ok(Err(problem)) => all.missed.push(format!("the store {name} does not tell: {problem}")),
                Err(_) => all.missed.push(format!(
                    "the store {name} does not tell: no answer within {} s",
                    PATIENCE.as_secs()
                )),
            }
        }
        all
    }

    /// Returns what is not in this history.
    pub fn contradictions(&self, book: &Book) -> Vec<Contradiction> {
        self.heads.iter().filter_map(|(by, head)| book.check(by, *head).err()).collect()
    }
}
