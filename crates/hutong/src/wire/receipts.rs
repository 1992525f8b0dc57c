//! The receipts that lanes have left where they commit: the one place that tells PostgreSQL, SQLite and deliveries apart
//! for who reads them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hutong_bus::Proofs;
use hutong_bus::log::Log;
use hutong_core::ledger::{Head, Kept};
use hutong_core::{Error, ErrorKind, PipelineId, Result};
use hutong_stores::{postgres, sqlite};

use crate::config::plan::{StorePlan, StoreSystem};

/// The receipts of one store, read over a connection of their own, or of one delivery.
pub enum Receipts {
    /// Of PostgreSQL.
    Postgres(Box<postgres::sink::Receipts>),
    /// Of a SQLite file.
    Sqlite(PathBuf),
    /// Of a delivery.
    Delivery(Proofs),
}

impl Receipts {
    /// Makes the reader of a delivery's; touches nothing.
    pub fn of_delivery(log: &Arc<dyn Log>, bus: &str, pipeline: PipelineId) -> Self {
        Self::Delivery(Proofs::new(Arc::clone(log), bus, pipeline))
    }

    /// Makes the reader of a store's; touches nothing.
    pub fn of(store: &StorePlan) -> Result<Self> {
        Ok(match &store.system {
            StoreSystem::Postgres { url, .. } => {
                Self::Postgres(Box::new(postgres::sink::Receipts::new(url.resolve()?)))
            }
            StoreSystem::Sqlite { path } => Self::Sqlite(path.clone()),
        })
    }

    /// Returns the head of each lane's chain; nothing of a lane that has left no receipt under a ledger.
    pub async fn heads(&mut self) -> Result<BTreeMap<String, Head>> {
        match self {
            Self::Postgres(receipts) => receipts.heads().await,
            Self::Sqlite(path) => blocking(path, sqlite::receipts::heads).await,
            Self::Delivery(proofs) => proofs.heads().await,
        }
    }

    /// Returns the receipts of a lane that have this number in its chain or a later one, in their order.
    pub async fn since(&mut self, lane: &str, sequence: u64, limit: usize) -> Result<Vec<Kept>> {
        match self {
            Self::Postgres(receipts) => receipts.since(lane, sequence, limit).await,
            Self::Sqlite(path) => {
                let lane = lane.to_owned();
                blocking(path, move |path| sqlite::receipts::since(path, &lane, sequence, limit)).await
            }
            Self::Delivery(proofs) => proofs.since(lane, sequence, limit).await,
        }
    }

    /// Forgets the receipts of a lane up to this number in its chain; returns how many.
    pub async fn forget(&mut self, lane: &str, sequence: u64) -> Result<u64> {
        match self {
            Self::Postgres(receipts) => receipts.forget(lane, sequence).await,
            Self::Sqlite(path) => {
                let lane = lane.to_owned();
                blocking(path, move |path| sqlite::receipts::forget(path, &lane, sequence)).await
            }
            Self::Delivery(proofs) => proofs.forget(lane, sequence).await,
        }
    }
}

async fn blocking<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce(&Path) -> Result<T> + Send + 'static,
) -> Result<T> {
    let path = path.to_owned();
    let done = tokio::task::spawn_blocking(move || work(&path)).await;
    done.unwrap_or_else(|e| Err(Error::caused(ErrorKind::Broken, "read the receipts of a SQLite file", e)))
}
