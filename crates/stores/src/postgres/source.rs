//! The source: a capture of some tables of one PostgreSQL database.
//!
//! One partition, `wal`. A position is (era, LSN, index, part): of a change the LSN at which its transaction's
//! commit record begins, the number of the row message in the transaction from 1, and the part of the message;
//! between transactions (LSN, 0, 0), where LSN is the end of everything that was read, which is never after
//! the beginning of the next commit record. So positions of later transactions are always greater, and
//! (LSN, 0, 0) is what may be confirmed to the server.
//!
//! Notes in the checkpoint: `system`, `timeline`, `era`, `trace`, `complete_to_us`, `snapshot.<schema>.<table>`
//! (progress), `suspended.<schema>.<table>` (why).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hutong_core::{Batch, Checkpoint, Contract, Error, ErrorKind, Result, Secret};

use super::ident::TableName;
use super::open;
use super::reader::Reader;

/// A table of a capture.
#[derive(Debug, Clone)]
pub struct Table {
    /// `schema.table`, parts quoted where SQL would need it.
    pub name: String,
    /// The contract of the stream that it feeds.
    pub contract: Arc<Contract>,
}

/// How large a batch may be.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// Changes at which a batch ends with the transaction.
    pub rows: usize,
    /// Bytes of memory at which a batch ends with the transaction.
    pub bytes: usize,
    /// Changes of one transaction at which it is split.
    pub transaction_rows: usize,
    /// Bytes of one transaction at which it is split.
    pub transaction_bytes: usize,
}

impl Default for Limit {
    fn default() -> Self {
        Self { rows: 5_000, bytes: 8 << 20, transaction_rows: 50_000, transaction_bytes: 32 << 20 }
    }
}

/// What a capture reads.
#[derive(Debug, Clone)]
pub struct SourceConfig {
    /// The database's address.
    pub url: Secret,
    /// The capture's name, which names slot and publication.
    pub capture: String,
    /// The tables.
    pub tables: Vec<Table>,
    /// How many rows a chunk of the snapshot holds at most.
    pub chunk_rows: usize,
    /// How large a batch may be.
    pub limit: Limit,
    /// How often an idle capture says how far it has come.
    pub watermark_interval: Duration,
}

impl SourceConfig {
    /// Makes a configuration with the usual limits.
    pub fn new(url: Secret, capture: impl Into<String>, tables: Vec<Table>) -> Self {
        Self {
            url,
            capture: capture.into(),
            tables,
            chunk_rows: 5_000,
            limit: Limit::default(),
            watermark_interval: Duration::from_secs(2),
        }
    }

    /// Returns the tables' names; `Err(Config)` on one that cannot be read or stands there twice.
    pub(crate) fn names(&self) -> Result<Vec<TableName>> {
        let mut names = Vec::with_capacity(self.tables.len());
        for table in &self.tables {
            let name = TableName::parse(&table.name)?;
            if names.contains(&name) {
                let doing = format!("read the tables of capture {}", self.capture);
                return Err(Error::new(ErrorKind::Config, doing, format!("{} is named twice", name.plain())));
            }
            names.push(name);
        }
        Ok(names)
    }
}

/// Reads the committed changes of some tables, a snapshot of them first.
pub struct Source {
    config: SourceConfig,
    reader: Option<Reader>,
}

impl Source {
    /// Makes a source; nothing is touched before `open`.
    pub fn new(config: SourceConfig) -> Self {
        Self { config, reader: None }
    }
}

#[async_trait]
impl hutong_core::Source for Source {
    async fn open(&mut self, from: &Checkpoint) -> Result<()> {
        // The earlier sessions end first: one of them holds the slot.
        self.reader = None;
        self.reader = Some(open::open(&self.config, from).await?);
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<Batch>> {
        let Some(reader) = &mut self.reader else {
            return Err(Error::new(ErrorKind::Broken, "read a change", "the source is not open"));
        };
        reader.next().await.map(Some)
    }

    async fn ack(&mut self, upto: &Checkpoint) -> Result<()> {
        if let Some(reader) = &mut self.reader {
            reader.ack(upto);
        }
        Ok(())
    }

    async fn close(&mut self) -> Result<()> {
        if let Some(reader) = self.reader.take() {
            reader.close().await;
        }
        Ok(())
    }
}
