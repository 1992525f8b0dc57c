//! The bus on Apache Kafka 3.7 or later.
//!
//! Everything that librdkafka blocks on runs off the async runtime: administration and commits in
//! `spawn_blocking`, reading on a thread of its own for each reader.

mod acl;
mod append;
mod client;
mod error;
mod group;
mod idea;
mod last;
mod ping;
mod reader;
mod replicas;
mod topics;
mod writer;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hutong_core::{Error, ErrorKind, LaneId, PipelineId, Result};

pub use acl::{May, Right};
pub use client::Config;
pub use group::{SILENCE, of_captures, of_subscriptions};
pub use idea::Idea;

use crate::ledger::{self, Append};
use crate::log::{Extent, Log, Reader, TopicSpec, Trim, Writer};

/// A Kafka cluster.
#[derive(Clone)]
pub struct Bus {
    client: Arc<client::Client>,
    /// Who gives or takes rights looks at them first, and nobody else meanwhile.
    rights: Arc<tokio::sync::Mutex<()>>,
}

impl Bus {
    /// Makes the bus; touches the network only when it is asked something.
    pub fn new(config: Config) -> Result<Arc<Self>> {
        Ok(Arc::new(Self { client: Arc::new(client::Client::new(config)?), rights: Arc::default() }))
    }

    /// Removes the records of a partition before an offset. The caller keeps base and history.
    pub async fn delete_before(&self, topic: &str, partition: u32, offset: u64) -> Result<()> {
        topics::delete_before(&self.client, topic, partition, offset).await
    }

    /// Returns everything that a principal is allowed or denied by its own name.
    ///
    /// `Err(Config)` when the cluster has no authorizer, so that there are no rights.
    pub async fn rights(&self, principal: &str) -> Result<Vec<Right>> {
        let (client, principal) = (Arc::clone(&self.client), principal.to_owned());
        blocking(move || acl::of(&client, &principal)).await
    }

    /// Gives rights; those that are there already stay.
    pub async fn give(&self, rights: Vec<Right>) -> Result<()> {
        let client = Arc::clone(&self.client);
        blocking(move || acl::give(&client, &rights)).await
    }

    /// Takes rights away; those that are not there are no error.
    pub async fn take_away(&self, rights: Vec<Right>) -> Result<()> {
        let client = Arc::clone(&self.client);
        blocking(move || acl::take(&client, &rights)).await
    }

    /// Lets nobody else of this process change rights while it is held.
    pub(crate) async fn alone(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.rights.lock().await
    }

    /// Returns how many brokers the cluster has; for probes.
    ///
    /// `Err` names the brokers that were asked and, where librdkafka knows it, why they do not answer.
    pub async fn ping(&self, timeout: Duration) -> Result<usize> {
        let client = Arc::clone(&self.client);
        blocking(move || ping::ping(&client, timeout)).await
    }

    /// Returns the topics of those that `ours` names that have fewer replicas than they should, with how many; for
    /// probes.
    pub async fn thin_topics(
        &self,
        ours: impl Fn(&str) -> bool + Send + 'static,
    ) -> Result<Vec<(String, usize)>> {
        let client = Arc::clone(&self.client);
        blocking(move || Ok(replicas::thin(&client.metadata()?, client.config().replication, ours))).await
    }
}

#[async_trait]
impl Trim for Bus {
    async fn since(&self, topic: &str, partition: u32, since_us: i64) -> Result<u64> {
        let (client, name) = (Arc::clone(&self.client), topic.to_owned());
        let look = move || {
            let (_, end) = topics::watermarks(&client, &name, partition)?;
            // Asked for after the end: what is written in between comes again anyway.
            Ok(topics::since(&client, &name, partition, since_us)?.map_or(end, |since| since.min(end)))
        };
        blocking(look).await
    }

    async fn trim(&self, topic: &str, partition: u32, base: u64, since_us: i64) -> Result<u64> {
        let (client, name) = (Arc::clone(&self.client), topic.to_owned());
        let look = move || {
            let (first, _) = topics::watermarks(&client, &name, partition)?;
            Ok((first, topics::since(&client, &name, partition, since_us)?))
        };
        let (first, since) = blocking(look).await?;
        let before = since.map_or(base, |since| since.min(base));
        if before <= first {
            return Ok(first);
        }
        self.delete_before(topic, partition, before).await?;
        Ok(before)
    }

    async fn delete(&self, topic: &str) -> Result<bool> {
        topics::delete(&self.client, topic).await
    }
}

#[async_trait]
impl Append for Bus {
    async fn append(&self, topic: &str, value: Bytes) -> Result<u64> {
        for drift in topics::ensure(&self.client, &ledger::spec(topic)).await? {
            tracing::warn!(drift, "a topic is not as it should be");
        }
        let (client, topic) = (Arc::clone(&self.client), topic.to_owned());
        blocking(move || append::one(&client, &topic, &value)).await
    }
}

#[async_trait]
impl Log for Bus {
    async fn ensure(&self, topic: &TopicSpec) -> Result<Vec<String>> {
        topics::ensure(&self.client, topic).await
    }

    async fn extent(&self, topic: &str) -> Result<Option<Extent>> {
        let (client, topic) = (Arc::clone(&self.client), topic.to_owned());
        blocking(move || topics::extent(&client, &topic)).await
    }

    async fn open_transactions(&self, topic: &str) -> Result<BTreeMap<u32, u64>> {
        let (client, topic) = (Arc::clone(&self.client), topic.to_owned());
        blocking(move || topics::open_transactions(&client, &topic)).await
    }

    async fn writer(&self, lane: &LaneId) -> Result<Box<dyn Writer>> {
        Ok(Box::new(writer::Lane::new(Arc::clone(&self.client), lane.clone())))
    }

    async fn reader(
        &self,
        topic: &str,
        partition: u32,
        group: Option<&PipelineId>,
    ) -> Result<Box<dyn Reader>> {
        let group = group.map(|pipeline| format!("{}.{pipeline}", self.client.config().bus));
        Ok(Box::new(reader::Partition::new(Arc::clone(&self.client), topic, partition, group)))
    }
}

/// Runs a blocking call of librdkafka off the async runtime.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(join) => Err(Error::caused(ErrorKind::Broken, "call the Kafka client", join)),
    }
}
