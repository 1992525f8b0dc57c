//! A bus whose next commit is done and whose answer is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use hutong_bus::log::{Extent, Log, Outgoing, Reader, TopicSpec, Trim, Writer};
use hutong_core::{Error, ErrorKind, LaneId, PipelineId, Result};

/// A bus that loses an answer whenever `lose` is set.
pub(crate) struct Lossy {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) lose: Arc<AtomicBool>,
}

#[async_trait]
impl Trim for Lossy {
    async fn since(&self, topic: &str, partition: u32, since_us: i64) -> Result<u64> {
        self.log.since(topic, partition, since_us).await
    }

    async fn trim(&self, topic: &str, partition: u32, base: u64, since_us: i64) -> Result<u64> {
        self.log.trim(topic, partition, base, since_us).await
    }

    async fn delete(&self, topic: &str) -> Result<bool> {
        self.log.delete(topic).await
    }
}

#[async_trait]
impl Log for Lossy {
    async fn ensure(&self, topic: &TopicSpec) -> Result<Vec<String>> {
        self.log.ensure(topic).await
    }

    async fn extent(&self, topic: &str) -> Result<Option<Extent>> {
        self.log.extent(topic).await
    }

    async fn writer(&self, lane: &LaneId) -> Result<Box<dyn Writer>> {
        let writer = self.log.writer(lane).await?;
        Ok(Box::new(LossyWriter { writer, lose: Arc::clone(&self.lose) }))
    }

    async fn reader(
        &self,
        topic: &str,
        partition: u32,
        group: Option<&PipelineId>,
    ) -> Result<Box<dyn Reader>> {
        self.log.reader(topic, partition, group).await
    }
}

struct LossyWriter {
    writer: Box<dyn Writer>,
    lose: Arc<AtomicBool>,
}

#[async_trait]
impl Writer for LossyWriter {
    async fn open(&mut self) -> Result<Option<Bytes>> {
        self.writer.open().await
    }

    async fn commit(&mut self, records: Vec<Outgoing>, checkpoint: Bytes) -> Result<Vec<u64>> {
        let offsets = self.writer.commit(records, checkpoint).await?;
        if self.lose.swap(false, Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Unknown, "commit", "the answer is lost"));
        }
        Ok(offsets)
    }
}
