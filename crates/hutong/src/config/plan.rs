//! What a configuration means. Everything below this module sees a plan and never the file.
//!
//! A plan is whole: every name in it is known, every column exists, every grant is compiled. Secrets are still only
//! places ([`SecretSource`]); whoever connects reads them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hutong_core::contract::Sharing;
use hutong_core::grant::Grant;
use hutong_core::ledger::{Calendar, Charter};
use hutong_core::mask::Mask;
use hutong_core::seal::PublicKey;
use hutong_core::{Contract, Error, ErrorKind, Filter, Kind, PipelineId, Result, Secret};
use jiff::civil;
use jiff::tz::TimeZone;

pub use super::secret::SecretSource;

/// What a configuration means.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The bus and its settings.
    pub bus: BusPlan,
    /// Names of the departments, by their short names.
    pub departments: BTreeMap<String, String>,
    /// Who departments are for the cluster, by their short names, where the configuration says it.
    pub principals: BTreeMap<String, String>,
    /// The streams, by name.
    pub streams: BTreeMap<String, Arc<StreamPlan>>,
    /// The stores, by name.
    pub stores: BTreeMap<String, Arc<StorePlan>>,
    /// The captures, in the order of their names.
    pub captures: Vec<CapturePlan>,
    /// The subscriptions, in the order of their names.
    pub subscriptions: Vec<SubscriptionPlan>,
    /// Where metrics and status are served.
    pub http: HttpPlan,
    /// Where patience ends.
    pub limits: LimitsPlan,
    /// The ledger that says what may flow; `None`: the configuration says it.
    pub ledger: Option<LedgerPlan>,
    /// By whose keys columns are sealed and opened here.
    pub sealing: SealingPlan,
}

/// By whose keys columns are sealed and opened here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SealingPlan {
    /// Department to the file of its private key; only departments that seal or open from here.
    pub keys: BTreeMap<String, PathBuf>,
    /// Department to its public key; departments that open their columns themselves, and owners whose columns they are.
    pub public: BTreeMap<String, PublicKey>,
}

/// The bus and the settings that all pipelines share.
#[derive(Debug, Clone)]
pub struct BusPlan {
    /// The name that prefixes Hutong's own topics, groups and transactional ids.
    pub name: String,
    /// The zone in which an `until` ends.
    pub zone: TimeZone,
    /// How long topics keep what is before their base.
    pub history: Duration,
    /// What carries the topics.
    pub system: BusSystem,
}

/// What carries the topics.
#[derive(Debug, Clone)]
pub enum BusSystem {
    /// Apache Kafka and a schema registry.
    Kafka(KafkaPlan),
    /// One folder of this machine.
    Embedded(EmbeddedPlan),
}

/// Apache Kafka and a schema registry.
#[derive(Debug, Clone)]
pub struct KafkaPlan {
    /// `host:port`, comma-separated.
    pub brokers: String,
    /// The base of the registry's Confluent API.
    pub registry: String,
    /// Who asks the registry.
    pub registry_login: Option<LoginPlan>,
    /// How many replicas each topic has; `None`: as many as the cluster shows that it can have.
    pub replication: Option<u32>,
    /// TLS, when it is on.
    pub tls: Option<TlsPlan>,
    /// Who speaks to the brokers.
    pub sasl: Option<SaslPlan>,
}

/// Certificates for the brokers' TLS; what is `None` is the system's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsPlan {
    /// The authorities that are trusted, PEM.
    pub ca_file: Option<PathBuf>,
    /// The client's certificate, PEM.
    pub certificate_file: Option<PathBuf>,
    /// The client's key, PEM.
    pub key_file: Option<PathBuf>,
}

/// SASL to the brokers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaslPlan {
    /// How the password is shown.
    pub mechanism: Mechanism,
    /// Who.
    pub login: LoginPlan,
}

/// A SASL mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// The password itself; only over TLS.
    Plain,
    /// SCRAM-SHA-256.
    ScramSha256,
    /// SCRAM-SHA-512.
    ScramSha512,
}

impl Mechanism {
    /// Returns the name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// A user and where the password is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginPlan {
    /// The user.
    pub user: String,
    /// Where the password is.
    pub password: SecretSource,
}

/// One folder of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddedPlan {
    /// Where the log and the registry are kept.
    pub folder: PathBuf,
    /// Where the registry listens; always a loopback address, port 0 for any free one.
    pub registry: SocketAddr,
}

/// One stream.
#[derive(Debug, Clone)]
pub struct StreamPlan {
    /// Its name.
    pub name: String,
    /// The department that owns it.
    pub owner: String,
    /// Its rows.
    pub contract: Arc<Contract>,
    /// Who may have it: the contract's word, or a narrower one of the configuration.
    pub sharing: Sharing,
    /// Counts from 1; see [`StreamPlan::topic`].
    pub generation: u32,
    /// The partitions of its topic.
    pub partitions: u32,
    /// Which later contracts the registry lets in.
    pub compatibility: Compatibility,
    /// The capture that feeds it: this configuration's, or another's that it names.
    pub capture: Option<String>,
    /// The subscription whose delivery topic is read here in the place of the change topic.
    pub delivered: Option<String>,
}

impl StreamPlan {
    /// Returns the name of the change topic, `<owner>.<stream>.v<generation>`, or of the delivery topic,
    /// `<owner>.<stream>.to.<subscription>.v<generation>`.
    pub fn topic(&self) -> String {
        let to = self.delivered.iter().map(|name| format!(".to.{name}")).collect::<String>();
        format!("{}.{}{to}.v{}", self.owner, self.name, self.generation)
    }

    /// Returns the name of the topic in which the capture sets items aside: `<owner>.<stream>.quarantine`.
    pub fn quarantine_topic(&self) -> String {
        format!("{}.{}.quarantine", self.owner, self.name)
    }
}

/// Which later schemas a registry lets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compatibility {
    /// New readers read the last version.
    Backward,
    /// New readers read every version.
    BackwardTransitive,
    /// Readers of the last version read the new one.
    Forward,
    /// Readers of every version read the new one.
    ForwardTransitive,
    /// Both, with the last version.
    Full,
    /// Both, with every version.
    #[default]
    FullTransitive,
}

impl Compatibility {
    /// Every mode. `NONE` is not among them: readers would break without a word.
    pub const ALL: [Self; 6] = [
        Self::Backward,
        Self::BackwardTransitive,
        Self::Forward,
        Self::ForwardTransitive,
        Self::Full,
        Self::FullTransitive,
    ];

    /// Returns the name in the registry's API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Backward => "BACKWARD",
            Self::BackwardTransitive => "BACKWARD_TRANSITIVE",
            Self::Forward => "FORWARD",
            Self::ForwardTransitive => "FORWARD_TRANSITIVE",
            Self::Full => "FULL",
            Self::FullTransitive => "FULL_TRANSITIVE",
        }
    }
}

/// A department's database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorePlan {
    /// Its name.
    pub name: String,
    /// What it is.
    pub system: StoreSystem,
}

/// What a store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreSystem {
    /// PostgreSQL 14 or later.
    Postgres {
        /// Its address, `postgres://user:password@host:port/database`.
        url: SecretSource,
        /// How many connections the lanes share.
        connections: u32,
    },
    /// A SQLite file.
    Sqlite {
        /// The file.
        path: PathBuf,
    },
}

/// A pipeline from a store into topics.
#[derive(Debug, Clone)]
pub struct CapturePlan {
    /// Its name.
    pub name: String,
    /// Where it reads.
    pub store: Arc<StorePlan>,
    /// The tables, as written, and the streams they feed.
    pub tables: Vec<(String, Arc<StreamPlan>)>,
    /// Rows of one chunk of the snapshot.
    pub chunk_rows: u32,
    /// How often an idle capture says that it is up to date.
    pub watermark_interval: Duration,
}

impl CapturePlan {
    /// Returns the pipeline's name.
    pub fn pipeline(&self) -> PipelineId {
        PipelineId::new(Kind::Capture, &self.name)
    }
}

/// Where a subscription writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A table of a store.
    Table {
        /// The store.
        store: Arc<StorePlan>,
        /// The table, as written.
        table: String,
    },
    /// A delivery topic, which the department reads with clients of its own.
    Topic,
}

impl Target {
    /// Returns the store, where there is one.
    pub fn store(&self) -> Option<&Arc<StorePlan>> {
        match self {
            Self::Table { store, .. } => Some(store),
            Self::Topic => None,
        }
    }
}

/// A pipeline from a topic into a subscriber's store, or into a topic of its own.
#[derive(Debug, Clone)]
pub struct SubscriptionPlan {
    /// Its name.
    pub name: String,
    /// The department that subscribes.
    pub department: String,
    /// Where it reads.
    pub stream: Arc<StreamPlan>,
    /// What for.
    pub purpose: String,
    /// By which law; empty when the stream is shared unconditionally and nobody said.
    pub legal_basis: String,
    /// The last day, in the bus's zone.
    pub until: Option<civil::Date>,
    /// The wire names of the granted columns, in the order of the replica.
    pub columns: Vec<String>,
    /// The condition that granted rows fulfil.
    pub rows: Option<String>,
    /// The masks, the contract's own included.
    pub masks: BTreeMap<String, Mask>,
    /// Where the subscription's own key is; always there when pseudonyms or a hidden row key need one.
    pub key: Option<SecretSource>,
    /// How fresh its replica is promised to be.
    pub freshness: Duration,
    /// How often a running process compares the replica with its source; `None`: only by command.
    pub verify: Option<Duration>,
    /// Where it writes.
    pub into: Target,
    /// Who its department is for the cluster, such as `User:renshe`: who may read a delivery topic.
    pub principal: Option<String>,
}

impl SubscriptionPlan {
    /// Returns the pipeline's name.
    pub fn pipeline(&self) -> PipelineId {
        let kind = match self.into {
            Target::Table { .. } => Kind::Replicate,
            Target::Topic => Kind::Deliver,
        };
        PipelineId::new(kind, &self.name)
    }

    /// Returns its store and table; `Err(Config)` when it delivers into a topic, for which `doing` has no meaning.
    pub fn replica(&self, doing: &str) -> Result<(&Arc<StorePlan>, &str)> {
        match &self.into {
            Target::Table { store, table } => Ok((store, table)),
            Target::Topic => {
                let name = &self.name;
                let why = "it delivers into a topic, which its department reads itself: there is no replica";
                Err(Error::new(ErrorKind::Config, format!("{doing} {name}"), why).hint(format!(
                    "`hutong tap {} --delivered {name}` shows what stands in the topic; `hutong subscription reload \
                     {name}` begins its next generation at the base",
                    self.stream.name
                )))
            }
        }
    }

    /// Returns what the names of its delivery topics share: `<owner>.<stream>.to.<subscription>`.
    pub fn delivery_stem(&self) -> String {
        format!("{}.{}.to.{}", self.stream.owner, self.stream.name, self.name)
    }

    /// Returns the sealed columns that its lanes must open: those that are granted, those of its row filter, the key's.
    pub fn opened(&self) -> Vec<String> {
        let contract = &self.stream.contract;
        let filter = self.rows.as_deref().and_then(|rows| Filter::compile(rows, contract).ok());
        let filtered = |at: usize| filter.as_ref().is_some_and(|filter| filter.columns().contains(&at));
        let needed = |at: usize| {
            let field = &contract.fields[at];
            field.sealed && (self.columns.contains(&field.name) || contract.is_key(at) || filtered(at))
        };
        (0..contract.fields.len())
            .filter(|at| needed(*at))
            .map(|at| contract.fields[at].name.clone())
            .collect()
    }

    /// Returns the sealed columns that its department may open by a key of its own: those that it is granted in every row
    /// and without a mask. Without the whole key, none: then its lanes cannot run by that key anyway.
    pub fn given(&self) -> Vec<String> {
        given(&self.stream.contract, &self.columns, &self.masks, self.rows.is_none())
    }

    /// Reads the subscription's key and returns what the department may hold. I5: what is not in it does not leave.
    ///
    /// `Err(Denied)` when there is a key and it cannot be read.
    pub fn grant(&self) -> Result<Grant> {
        let key = match &self.key {
            Some(key) => key.resolve()?,
            None => Secret::new(""),
        };
        Ok(Grant {
            subscription: self.name.clone(),
            stream: self.stream.name.clone(),
            columns: self.columns.clone(),
            rows: self.rows.clone(),
            masks: self.masks.clone(),
            until: self.until,
            key,
        })
    }
}

/// Returns the sealed columns that a department may open by a key of its own, which opens every row: see
/// [`SubscriptionPlan::given`]. `whole`: no row is kept from it.
pub fn given(
    contract: &Contract,
    columns: &[String],
    masks: &BTreeMap<String, Mask>,
    whole: bool,
) -> Vec<String> {
    let clear = |name: &String| columns.contains(name) && !masks.contains_key(name);
    let keyed = contract.key_fields().filter(|field| field.sealed).all(|field| clear(&field.name));
    if !whole || !keyed {
        return Vec::new();
    }
    contract.sealed().map(|field| field.name.clone()).filter(clear).collect()
}

/// The ledger that says what may flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerPlan {
    /// What the ledger is known by.
    pub charter: Charter,
    /// Department to the file of its private key; only departments that act from here.
    pub keys: BTreeMap<String, PathBuf>,
    /// How long lanes go on with grants that were verified while the ledger cannot be reached.
    pub patience: Duration,
    /// How many working days a request may wait for its answer.
    pub answer_days: u32,
    /// Which days are worked.
    pub calendar: Calendar,
}

/// Where metrics, liveness, readiness and status are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpPlan {
    /// The address.
    pub address: SocketAddr,
    /// The cluster's name, when Kafka Lag Exporter's metrics are told too.
    pub kafka_lag_exporter: Option<String>,
    /// The file of the token that whoever asks must show; always there where others than this machine can ask.
    pub token_file: Option<PathBuf>,
    /// Whether `/metrics` is answered without the token.
    pub open_metrics: bool,
}

/// Where patience ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitsPlan {
    /// How many items a lane may set aside before it halts.
    pub quarantine: u64,
}
