//! Starts real servers for tests: PostgreSQL, Apache Kafka, Apicurio Registry and Prometheus.
//!
//! A server lives in a folder of its own below the system's temporary folder, listens on a free
//! loopback port, and dies with the test, also when the test is killed (see `watchdog.sh`). A missing
//! server is an error that says how to get it, never a skipped test: run `make servers`.
//!
//! `start()` gives a server of one's own, to be stopped and killed at will. `shared()` gives the one
//! server of this test process, which is quicker: prefer it wherever a test does not stop its server.
//!
//! `HUTONG_KAFKA_LIBS`, `HUTONG_APICURIO` and `HUTONG_POSTGRES_BIN` name other folders than the usual
//! ones, to test against other versions.
//!
//! Knows nothing of Hutong: it starts what Hutong talks to.

mod answer;
mod error;
mod java;
mod kafka;
mod port;
mod postgres;
mod prometheus;
mod proxy;
mod registry;
mod secured;
mod server;
mod template;

pub use error::{Error, Result};
pub use kafka::{Cluster, Kafka, KafkaBuilder};
pub use port::free_port;
pub use postgres::{Database, Postgres, PostgresBuilder, connect};
pub use prometheus::Prometheus;
pub use proxy::Proxy;
pub use registry::{Registry, RegistryBuilder};
pub use secured::{OPERATOR, SecuredKafka};
