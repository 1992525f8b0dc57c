//! The two buses, each a place of one's own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use hutong_bus::log::Log;
use hutong_bus::{HttpRegistry, RegistryConfig, SchemaRegistry, embedded, kafka};
use hutong_testkit::launch::{self, Registry};
use tempfile::TempDir;

/// A bus with its registry, under a name that no other test has.
pub(crate) trait Bus: Sized {
    /// Whether its readers hand out no more than they are told; Kafka's hand out what a fetch brings.
    const LIMITED: bool;

    async fn fresh() -> Self;

    /// Returns the bus as another process has it, where it can be shared by some.
    fn log(&self) -> Arc<dyn Log>;

    fn registry(&self) -> Arc<dyn SchemaRegistry>;

    /// Returns the bus's name, which begins the names of everything on it.
    fn name(&self) -> &str;
}

/// A bus in a folder, which belongs to one process.
pub(crate) struct Embedded {
    bus: Arc<embedded::Bus>,
    _folder: TempDir,
}

impl Bus for Embedded {
    const LIMITED: bool = true;

    async fn fresh() -> Self {
        let folder = TempDir::new().unwrap();
        Self {
            bus: embedded::Bus::open(folder.path(), embedded::Options::default()).unwrap(),
            _folder: folder,
        }
    }

    fn log(&self) -> Arc<dyn Log> {
        Arc::<embedded::Bus>::clone(&self.bus)
    }

    fn registry(&self) -> Arc<dyn SchemaRegistry> {
        Arc::new(embedded::Registry::new(Arc::clone(&self.bus)))
    }

    fn name(&self) -> &str {
        "hutong"
    }
}

/// Names of one's own on the Kafka and the registry of this test process.
pub(crate) struct Kafka {
    name: String,
    brokers: String,
    registry: Arc<HttpRegistry>,
}

impl Bus for Kafka {
    const LIMITED: bool = false;

    async fn fresh() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let (kafka, registry) = tokio::join!(launch::Kafka::shared(), Registry::shared());
        Self {
            name: format!("bus{}", COUNT.fetch_add(1, Ordering::Relaxed)),
            brokers: kafka.unwrap().bootstrap(),
            registry: Arc::new(HttpRegistry::new(RegistryConfig::new(registry.unwrap().url())).unwrap()),
        }
    }

    fn log(&self) -> Arc<dyn Log> {
        let (brokers, bus) = (self.brokers.clone(), self.name.clone());
        kafka::Bus::new(kafka::Config { brokers, bus, security: Vec::new(), replication: None }).unwrap()
    }

    fn registry(&self) -> Arc<dyn SchemaRegistry> {
        Arc::<HttpRegistry>::clone(&self.registry)
    }

    fn name(&self) -> &str {
        &self.name
    }
}
