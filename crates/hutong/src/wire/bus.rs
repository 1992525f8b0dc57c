//! The bus of a plan: its log and its registry.

use std::net::SocketAddr;
use std::sync::Arc;

use hutong_bus::ledger::Append;
use hutong_bus::log::Log;
use hutong_bus::registry::{HttpRegistry, RegistryConfig};
use hutong_bus::{SchemaRegistry, Shared, embedded, kafka};
use hutong_core::{Result, Secret};

use crate::config::plan::{BusPlan, BusSystem, EmbeddedPlan, KafkaPlan};

/// A bus: topics and schemas.
pub struct Bus {
    log: Arc<dyn Log>,
    shared: Arc<Shared>,
    registry: Arc<dyn SchemaRegistry>,
    append: Arc<dyn Append>,
    embedded: Option<embedded::Registry>,
    cluster: Option<Arc<kafka::Bus>>,
}

impl Bus {
    /// Opens the bus to write. Returns where an embedded bus's registry should listen.
    pub fn open(plan: &BusPlan) -> Result<(Self, Option<SocketAddr>)> {
        match &plan.system {
            BusSystem::Kafka(kafka) => Ok((Self::kafka(&plan.name, kafka)?, None)),
            BusSystem::Embedded(folder) => {
                let bus = embedded::Bus::open(&folder.folder, options(&plan.name))?;
                Ok((Self::embedded(&bus), Some(folder.registry)))
            }
        }
    }

    /// Opens the bus to add a record to the ledger, beside any process that runs on it.
    pub fn beside(plan: &BusPlan) -> Result<(Arc<dyn Log>, Arc<dyn Append>)> {
        match &plan.system {
            BusSystem::Kafka(kafka) => {
                let bus = kafka::Bus::new(cluster(&plan.name, kafka)?)?;
                Ok((Arc::clone(&bus) as _, bus))
            }
            BusSystem::Embedded(EmbeddedPlan { folder, .. }) => {
                let bus = embedded::Bus::open_beside(folder, options(&plan.name))?;
                Ok((Arc::clone(&bus) as _, bus))
            }
        }
    }

    /// Opens the bus to speak on it beside any process that runs on it: to add single records, under schemas of their own.
    pub fn speak(plan: &BusPlan) -> Result<(Self, Arc<dyn Append>)> {
        match &plan.system {
            BusSystem::Kafka(kafka) => {
                let append = kafka::Bus::new(cluster(&plan.name, kafka)?)?;
                Ok((Self::kafka(&plan.name, kafka)?, append))
            }
            BusSystem::Embedded(EmbeddedPlan { folder, .. }) => {
                let bus = embedded::Bus::open_beside(folder, options(&plan.name))?;
                Ok((Self::embedded(&bus), bus))
            }
        }
    }

    /// Opens the bus to look at it: the folder is only read, so that it works beside nothing else.
    pub fn look(plan: &BusPlan) -> Result<Self> {
        match &plan.system {
            BusSystem::Kafka(kafka) => Self::kafka(&plan.name, kafka),
            BusSystem::Embedded(EmbeddedPlan { folder, .. }) => {
                Ok(Self::embedded(&embedded::Bus::open_read_only(folder, options(&plan.name))?))
            }
        }
    }

    fn embedded(bus: &Arc<embedded::Bus>) -> Self {
        let registry = embedded::Registry::new(Arc::clone(bus));
        let log: Arc<dyn Log> = Arc::clone(bus) as _;
        let shared = Shared::new(Arc::clone(&log));
        let append: Arc<dyn Append> = Arc::clone(bus) as _;
        let embedded = Some(registry.clone());
        Self { log, shared, registry: Arc::new(registry), append, embedded, cluster: None }
    }

    fn kafka(name: &str, plan: &KafkaPlan) -> Result<Self> {
        let mut registry = RegistryConfig::new(&plan.registry);
        if let Some(login) = &plan.registry_login {
            registry.basic = Some((login.user.clone(), login.password.resolve()?));
        }
        let bus = kafka::Bus::new(cluster(name, plan)?)?;
        let log: Arc<dyn Log> = Arc::clone(&bus) as _;
        let append: Arc<dyn Append> = Arc::clone(&bus) as _;
        let shared = Shared::new(Arc::clone(&log));
        let registry = Arc::new(HttpRegistry::new(registry)?);
        Ok(Self { log, shared, registry, append, embedded: None, cluster: Some(bus) })
    }

    /// Returns the topics.
    pub fn log(&self) -> &Arc<dyn Log> {
        &self.log
    }

    /// Returns where a record of the ledger is added.
    pub fn append(&self) -> &Arc<dyn Append> {
        &self.append
    }

    /// Returns the topics for lanes that read what others of this process read too.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Returns the schemas.
    pub fn registry(&self) -> &Arc<dyn SchemaRegistry> {
        &self.registry
    }

    /// Returns the Kafka cluster, whose groups share out work and which knows who may read what; `None` for a folder, which
    /// one process has.
    pub fn cluster(&self) -> Option<&Arc<kafka::Bus>> {
        self.cluster.as_ref()
    }

    /// Returns the embedded bus's registry, to serve it.
    pub fn embedded_registry(&self) -> Option<embedded::Registry> {
        self.embedded.clone()
    }
}

fn options(name: &str) -> embedded::Options {
    embedded::Options { bus: name.to_owned(), ..embedded::Options::default() }
}

/// Returns how the cluster is reached.
pub(super) fn cluster(bus: &str, plan: &KafkaPlan) -> Result<kafka::Config> {
    let (brokers, replication) = (plan.brokers.clone(), plan.replication.map(|replicas| replicas as usize));
    Ok(kafka::Config { brokers, bus: bus.to_owned(), security: security(plan)?, replication })
}

/// Returns TLS and SASL by librdkafka's names.
fn security(plan: &KafkaPlan) -> Result<Vec<(String, Secret)>> {
    let mut settings = Vec::new();
    let mut set = |name: &str, value: Secret| settings.push((name.to_owned(), value));
    let protocol = match (plan.tls.is_some(), plan.sasl.is_some()) {
        (true, true) => "sasl_ssl",
        (true, false) => "ssl",
        (false, true) => "sasl_plaintext",
        (false, false) => "plaintext",
    };
    set("security.protocol", Secret::new(protocol));
    if let Some(tls) = &plan.tls {
        let files = [
            ("ssl.ca.location", &tls.ca_file),
            ("ssl.certificate.location", &tls.certificate_file),
            ("ssl.key.location", &tls.key_file),
        ];
        for (name, file) in files {
            if let Some(file) = file {
                set(name, Secret::new(file.to_string_lossy()));
            }
        }
    }
    if let Some(sasl) = &plan.sasl {
        set("sasl.mechanism", Secret::new(sasl.mechanism.name()));
        set("sasl.username", Secret::new(sasl.login.user.clone()));
        set("sasl.password", sasl.login.password.resolve()?);
    }
    Ok(settings)
}
