//! A department's store: the one place that tells PostgreSQL and SQLite apart.

use std::path::PathBuf;
use std::sync::Arc;

use hutong_core::grant::Content;
use hutong_core::{Contract, LaneId, Result, Sink, Source};
use hutong_stores::{Finding, postgres, sqlite};

use crate::config::SecretSource;
use crate::config::plan::{CapturePlan, StorePlan, StoreSystem};

/// A department's store, with the connections that its lanes share.
pub enum Department {
    /// PostgreSQL.
    Postgres {
        /// Where the address is.
        url: SecretSource,
        /// The connections of the lanes that write.
        pool: postgres::sink::Pool,
    },
    /// A SQLite file.
    Sqlite {
        /// The file.
        path: PathBuf,
        /// Its one writer.
        store: Arc<sqlite::Store>,
    },
}

/// What one lane of a subscription writes.
pub struct Replica {
    /// The lane.
    pub lane: LaneId,
    /// The table.
    pub table: String,
    /// The mark of the grant: under another one the lane starts anew.
    pub grant: String,
    /// How many lanes the pipeline has.
    pub partitions: u32,
    /// What the rows are like that the grant lets through; `None` when none will come.
    pub contract: Option<Arc<Contract>>,
    /// What the grant's content is: under one that lets less through it goes on where it stands.
    pub content: Option<Content>,
    /// The grant's number in the ledger, under which commits leave receipts that can be proved.
    pub number: Option<u64>,
    /// How many rows the store may refuse.
    pub quarantine_limit: u64,
}

impl Department {
    /// Makes the store; touches nothing.
    pub fn new(plan: &StorePlan) -> Result<Self> {
        Ok(match &plan.system {
            StoreSystem::Postgres { url, connections } => {
                let pool = postgres::sink::Pool::new(url.resolve()?, *connections as usize);
                Self::Postgres { url: url.clone(), pool }
            }
            StoreSystem::Sqlite { path } => {
                Self::Sqlite { path: path.clone(), store: Arc::new(sqlite::Store::new(path)) }
            }
        })
    }

    /// Makes the source of a capture.
    pub fn source(&self, capture: &CapturePlan) -> Result<Box<dyn Source>> {
        Ok(match self {
            Self::Postgres { url, .. } => {
                let mut config =
                    postgres::SourceConfig::new(url.resolve()?, &capture.name, postgres_tables(capture));
                config.chunk_rows = capture.chunk_rows as usize;
                config.watermark_interval = capture.watermark_interval;
                Box::new(postgres::Source::new(config))
            }
            Self::Sqlite { path, .. } => {
                let mut config = sqlite::SourceConfig::new(path, &capture.name, sqlite_tables(capture));
                config.limit.chunk = capture.chunk_rows as usize;
                config.watermark_interval = capture.watermark_interval;
                Box::new(sqlite::Source::new(config))
            }
        })
    }

    /// Makes the sink of a lane.
    pub fn sink(&self, replica: Replica) -> Result<Box<dyn Sink>> {
        let Replica { lane, table, grant, partitions, contract, content, number, quarantine_limit } = replica;
        Ok(match self {
            Self::Postgres { pool, .. } => {
                let mut config = postgres::sink::SinkConfig::shared(pool.clone(), &table, grant)?;
                config.quarantine_limit = quarantine_limit;
                config.partitions = Some(partitions);
                config.contract = contract;
                config.content = content;
                config.number = number;
                Box::new(postgres::sink::Sink::new(config))
            }
            Self::Sqlite { store, .. } => {
                let store = Arc::clone(store);
                let partitions = Some(partitions);
                Box::new(sqlite::Sink::new(sqlite::SinkConfig {
                    store,
                    lane,
                    table,
                    grant,
                    partitions,
                    contract,
                    content,
                    number,
                    quarantine_limit,
                }))
            }
        })
    }
}

/// Puts in place what a capture needs in its store; says what it did.
pub async fn install(capture: &CapturePlan) -> Result<String> {
    match &capture.store.system {
        StoreSystem::Postgres { .. } => {
            Ok("PostgreSQL needs nothing ahead: the slot and the publication are made when the capture opens"
                .into())
        }
        StoreSystem::Sqlite { path } => {
            sqlite::install(path, &capture.name, &sqlite_tables(capture))?;
            Ok(format!("change log and triggers of capture {} are in {}", capture.name, path.display()))
        }
    }
}

/// Removes everything that Hutong has put into a capture's store.
pub async fn remove(capture: &CapturePlan) -> Result<String> {
    match &capture.store.system {
        StoreSystem::Postgres { url, .. } => {
            postgres::remove(&url.resolve()?, &capture.name).await?;
            Ok(format!("slot and publication of capture {} are gone", capture.name))
        }
        StoreSystem::Sqlite { path } => {
            sqlite::remove(path, &capture.name)?;
            Ok(format!(
                "change log and triggers of capture {} are gone from {}",
                capture.name,
                path.display()
            ))
        }
    }
}

/// Drafts a contract of a live table.
pub async fn draft(store: &StorePlan, table: &str) -> Result<Contract> {
    match &store.system {
        StoreSystem::Postgres { url, .. } => postgres::draft(&url.resolve()?, table).await,
        StoreSystem::Sqlite { path } => sqlite::draft(path, table),
    }
}

/// Compares a table with a contract.
pub async fn compare(store: &StorePlan, table: &str, contract: &Contract) -> Result<Vec<Finding>> {
    match &store.system {
        StoreSystem::Postgres { url, .. } => postgres::compare(&url.resolve()?, table, contract).await,
        StoreSystem::Sqlite { path } => sqlite::compare(path, table, contract),
    }
}

pub(super) fn postgres_tables(capture: &CapturePlan) -> Vec<postgres::Table> {
    let table = |(name, stream): &(String, Arc<crate::config::plan::StreamPlan>)| postgres::Table {
        name: name.clone(),
        contract: Arc::clone(&stream.contract),
    };
    capture.tables.iter().map(table).collect()
}

pub(super) fn sqlite_tables(capture: &CapturePlan) -> Vec<sqlite::Captured> {
    let table = |(name, stream): &(String, Arc<crate::config::plan::StreamPlan>)| sqlite::Captured {
        name: name.clone(),
        contract: Arc::clone(&stream.contract),
    };
    capture.tables.iter().map(table).collect()
}
