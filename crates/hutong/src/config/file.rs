//! The file as it is written: serde types that keep every value's place, and mean nothing yet.
//!
//! Every key is optional here, so that a missing one is told together with all other problems, by `check`.
//! External tags and nested tables only; `flatten` and `untagged` would lose the places.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use toml::Spanned;
use toml::value::Datetime;

/// A text with its place.
pub(super) type Text = Spanned<String>;
/// A whole number with its place.
pub(super) type Number = Spanned<i64>;

/// `[bus]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Bus {
    pub(super) name: Option<Text>,
    pub(super) timezone: Option<Text>,
    pub(super) history: Option<Text>,
    pub(super) partitions: Option<Number>,
    pub(super) kafka: Option<Spanned<Kafka>>,
    pub(super) embedded: Option<Spanned<Embedded>>,
}

/// `[bus.kafka]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kafka {
    pub(super) brokers: Option<Text>,
    pub(super) registry: Option<Text>,
    pub(super) registry_login: Option<Spanned<Login>>,
    pub(super) replication: Option<Number>,
    pub(super) security: Option<Spanned<Security>>,
}

/// `[bus.kafka.security]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Security {
    pub(super) tls: Option<Spanned<Tls>>,
    pub(super) sasl: Option<Spanned<Sasl>>,
}

/// `[bus.kafka.security.tls]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tls {
    pub(super) ca_file: Option<Text>,
    pub(super) certificate_file: Option<Text>,
    pub(super) key_file: Option<Text>,
}

/// `[bus.kafka.security.sasl]`: one mechanism.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sasl {
    pub(super) plain: Option<Spanned<Login>>,
    pub(super) scram_sha_256: Option<Spanned<Login>>,
    pub(super) scram_sha_512: Option<Spanned<Login>>,
}

/// A user and where the password is.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Login {
    pub(super) user: Option<Text>,
    pub(super) password: Option<Spanned<Sourced>>,
}

/// `[bus.embedded]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Embedded {
    pub(super) folder: Option<Text>,
    pub(super) registry: Option<Text>,
}

/// `[department.X]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Department {
    pub(super) name: Option<Text>,
    pub(super) principal: Option<Text>,
}

/// `[stream.X]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stream {
    pub(super) owner: Option<Text>,
    pub(super) contract: Option<Text>,
    pub(super) sharing: Option<Spanned<Sharing>>,
    pub(super) partitions: Option<Number>,
    pub(super) compatibility: Option<Text>,
    pub(super) generation: Option<Number>,
    pub(super) capture: Option<Text>,
    pub(super) delivered: Option<Text>,
}

/// Who may have a stream at all.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Sharing {
    Unconditional,
    Conditional(String),
    None(String),
}

/// `[store.X]`: one system.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Store {
    pub(super) postgres: Option<Spanned<Postgres>>,
    pub(super) sqlite: Option<Spanned<Sqlite>>,
}

/// `[store.X.postgres]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Postgres {
    pub(super) url: Option<Spanned<Sourced>>,
    pub(super) connections: Option<Number>,
}

/// `[store.X.sqlite]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sqlite {
    pub(super) path: Option<Text>,
}

/// `[capture.X]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Capture {
    pub(super) from: Option<Text>,
    pub(super) tables: Option<Spanned<BTreeMap<Text, Text>>>,
    pub(super) chunk_rows: Option<Number>,
    pub(super) watermark_interval: Option<Text>,
}

/// `[subscription.X]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Subscription {
    pub(super) department: Option<Text>,
    pub(super) stream: Option<Text>,
    pub(super) purpose: Option<Text>,
    pub(super) legal_basis: Option<Text>,
    pub(super) until: Option<Spanned<Datetime>>,
    pub(super) columns: Option<Spanned<Vec<Text>>>,
    pub(super) rows: Option<Text>,
    #[serde(default)]
    pub(super) mask: BTreeMap<Text, Text>,
    #[serde(default)]
    pub(super) clear: Vec<Text>,
    pub(super) key: Option<Spanned<Sourced>>,
    pub(super) freshness: Option<Text>,
    pub(super) verify: Option<Text>,
    pub(super) into: Option<Spanned<Into>>,
}

/// `into = { store = "…", table = "…" }` or `into = { topic = true }`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Into {
    pub(super) store: Option<Text>,
    pub(super) table: Option<Text>,
    pub(super) topic: Option<Spanned<bool>>,
}

/// `[http]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Http {
    pub(super) address: Option<Text>,
    pub(super) kafka_lag_exporter: Option<Text>,
    pub(super) token_file: Option<Text>,
    pub(super) open_metrics: Option<bool>,
}

/// `[ledger]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ledger {
    pub(super) id: Option<Text>,
    pub(super) governing: Option<Text>,
    pub(super) governing_key: Option<Text>,
    pub(super) keys: Option<Spanned<BTreeMap<Text, Text>>>,
    pub(super) patience: Option<Text>,
    pub(super) answer_days: Option<Number>,
    #[serde(default)]
    pub(super) holidays: Vec<Spanned<Datetime>>,
    #[serde(default)]
    pub(super) workdays: Vec<Spanned<Datetime>>,
}

/// `[sealing]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sealing {
    pub(super) keys: Option<Spanned<BTreeMap<Text, Text>>>,
    pub(super) public: Option<Spanned<BTreeMap<Text, Text>>>,
}

/// `[limits]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    pub(super) quarantine: Option<Number>,
}

/// A text that may be a secret: where to read it, or the text itself.
///
/// Read by hand, so that no error repeats what may be a password. Its `Debug` hides a text that is written out.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Sourced {
    /// Written out in the file.
    Text(String),
    /// The name of an environment variable.
    Env(String),
    /// The path of a file, relative to the one that names it.
    File(String),
}

impl fmt::Debug for Sourced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Text(***)"),
            Self::Env(name) => write!(f, "Env({name})"),
            Self::File(path) => write!(f, "File({path})"),
        }
    }
}

/// What `{ env = "…" }` and `{ file = "…" }` are made of.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Where {
    env: Option<String>,
    file: Option<String>,
}

impl<'de> Deserialize<'de> for Sourced {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SourcedVisitor)
    }
}

struct SourcedVisitor;

impl<'de> Visitor<'de> for SourcedVisitor {
    type Value = Sourced;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{ env = \"NAME\" } or { file = \"PATH\" }")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Sourced, E> {
        Ok(Sourced::Text(text.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Sourced, A::Error> {
        match Where::deserialize(MapAccessDeserializer::new(map))? {
            Where { env: Some(name), file: None } => Ok(Sourced::Env(name)),
            Where { env: None, file: Some(path) } => Ok(Sourced::File(path)),
            _ => Err(de::Error::custom("expected either { env = \"NAME\" } or { file = \"PATH\" }")),
        }
    }
}
