//! How a cluster is reached: settings that every client shares, and one client for questions.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use hutong_core::{Result, Secret};
use rdkafka::admin::AdminClient;
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::metadata::Metadata;

use super::error::failed;

/// How long a question to the cluster may take.
pub(super) const TIMEOUT: Duration = Duration::from_secs(30);

/// How a cluster is reached.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// Host and port of some brokers, separated by commas.
    pub brokers: String,
    /// The bus's name: it begins transactional ids, groups and Hutong's own topics.
    pub bus: String,
    /// TLS and SASL settings by librdkafka's names, passed through.
    pub security: Vec<(String, Secret)>,
    /// How many replicas each topic has; a topic is made when so many brokers are there. `None`: as many as the cluster
    /// shows that it can have.
    pub replication: Option<usize>,
}

/// One cluster.
pub(super) struct Client {
    config: Config,
    admin: AdminClient<DefaultClientContext>,
    // Read uncommitted: what it is asked for is the true end of a partition.
    asker: BaseConsumer,
    /// Read committed: the end that it is told stands before an open transaction. Made for the first who asks.
    committed: OnceLock<BaseConsumer>,
    /// One client a group, which reads nothing and tells lag tools how far its pipeline is.
    tellers: Mutex<HashMap<String, Weak<BaseConsumer>>>,
}

impl Client {
    pub(super) fn new(config: Config) -> Result<Self> {
        // Before librdkafka does it: else OpenSSL frees what all connections share when the program ends, and a client of
        // which somebody still holds a part then ends it by a signal, after its work was done.
        openssl_sys::init();
        let base = settings(&config);
        let admin = base.create().map_err(|e| failed("make a Kafka admin client", e))?;
        let asker = base
            .clone()
            .set("isolation.level", "read_uncommitted")
            .set("enable.auto.commit", "false")
            .set("group.id", format!("{}.asker", config.bus))
            .create()
            .map_err(|e| failed("make a Kafka client", e))?;
        Ok(Self { config, admin, asker, committed: OnceLock::new(), tellers: Mutex::default() })
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    pub(super) fn admin(&self) -> &AdminClient<DefaultClientContext> {
        &self.admin
    }

    /// Returns the client as librdkafka knows it; it lives as long as this one.
    pub(super) fn native(&self) -> *mut rdkafka::bindings::rd_kafka_t {
        self.admin.inner().native_ptr()
    }

    pub(super) fn asker(&self) -> &BaseConsumer {
        &self.asker
    }

    /// Returns the client that is told the end of what is committed.
    pub(super) fn committed_asker(&self) -> Result<&BaseConsumer> {
        if let Some(asker) = self.committed.get() {
            return Ok(asker);
        }
        let group = format!("{}.asker", self.config.bus);
        let asker = self.reading(&group).create().map_err(|e| failed("make a Kafka client", e))?;
        Ok(self.committed.get_or_init(|| asker))
    }

    /// Returns the settings that every client starts from.
    pub(super) fn settings(&self) -> ClientConfig {
        settings(&self.config)
    }

    /// Returns the settings of a committed-only reader that says when a position is lost.
    pub(super) fn reading(&self, group: &str) -> ClientConfig {
        let mut settings = self.settings();
        settings
            .set("group.id", group)
            .set("isolation.level", "read_committed")
            .set("check.crcs", "true")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("enable.partition.eof", "true")
            .set("fetch.wait.max.ms", "100")
            .set("fetch.queue.backoff.ms", "10")
            // Bounded memory for each reader: what is prefetched counts.
            .set("queued.max.messages.kbytes", "1024")
            .set("queued.min.messages", "2000")
            .set("fetch.message.max.bytes", "262144")
            .set("receive.message.max.bytes", "104857600");
        settings
    }

    /// Returns the client of a group that tells its offsets; the same while somebody holds it.
    pub(super) fn teller(&self, group: &str) -> Result<Arc<BaseConsumer>> {
        let mut tellers = self.tellers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(teller) = tellers.get(group).and_then(Weak::upgrade) {
            return Ok(teller);
        }
        let teller: BaseConsumer =
            self.reading(group).create().map_err(|e| failed(format!("make a client of group {group}"), e))?;
        let teller = Arc::new(teller);
        tellers.insert(group.to_owned(), Arc::downgrade(&teller));
        Ok(teller)
    }

    /// Returns what the cluster says of itself and of all its topics.
    pub(super) fn metadata(&self) -> Result<Metadata> {
        let metadata = self.asker.fetch_metadata(None, TIMEOUT);
        metadata.map_err(|e| failed(format!("ask {} for its brokers", self.config.brokers), e))
    }
}

fn settings(config: &Config) -> ClientConfig {
    let mut settings = ClientConfig::new();
    settings
        .set("bootstrap.servers", &config.brokers)
        .set("client.id", "hutong")
        .set("allow.auto.create.topics", "false")
        .set("topic.metadata.refresh.interval.ms", "60000")
        .set("reconnect.backoff.max.ms", "2000")
        .set("log.connection.close", "false");
    for (name, value) in &config.security {
        settings.set(name, value.reveal());
    }
    settings
}
