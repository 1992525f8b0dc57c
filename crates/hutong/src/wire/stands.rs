//! Where the lanes of a store stand, and under the mark of which grant.

use std::collections::BTreeMap;

use hutong_core::{Checkpoint, Result};
use hutong_stores::{postgres, sqlite};

use crate::config::plan::{StorePlan, StoreSystem};

/// A lane as its store knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Stand {
    /// The mark of the grant under which its rows were written.
    pub mark: String,
    /// The table that it writes, as the store keeps its name.
    pub table: String,
    /// Where it stands.
    pub checkpoint: Checkpoint,
    /// How many items of it wait in the quarantine.
    pub waiting: u64,
}

/// Returns the lanes of a store by name; reads only.
pub async fn stands(store: &StorePlan) -> Result<BTreeMap<String, Stand>> {
    Ok(match &store.system {
        StoreSystem::Postgres { url, .. } => {
            let lanes = postgres::sink::lanes(&url.resolve()?).await?;
            let stand = |l: postgres::sink::Stand| {
                let waiting = l.waiting.unsigned_abs();
                (l.lane, Stand { mark: l.grant, table: l.table, checkpoint: l.checkpoint, waiting })
            };
            lanes.into_iter().map(stand).collect()
        }
        // Looking at a store that no lane has opened yet does not make it.
        StoreSystem::Sqlite { path } if !path.exists() => BTreeMap::new(),
        StoreSystem::Sqlite { path } => {
            let lanes = sqlite::lanes(path)?;
            let stand = |l: sqlite::LaneState| {
                (
                    l.lane,
                    Stand { mark: l.grant, table: l.table, checkpoint: l.checkpoint, waiting: l.waiting },
                )
            };
            lanes.into_iter().map(stand).collect()
        }
    })
}
