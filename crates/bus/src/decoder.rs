//! Records of a topic into changes: framing, the registry's schemas, and one compiled plan a schema id.
//!
//! Used by [`crate::TopicSource`] and by everything that only looks at a topic.

use std::collections::HashMap;
use std::sync::Arc;

use hutong_core::{Change, Contract, Error, ErrorKind, Result};

use crate::envelope::{Decoded, Plan, Unseal};
use crate::framing;
use crate::log::Incoming;
use crate::registry::SchemaRegistry;

/// The rule of a record whose sealed columns this process may not open, or not yet.
pub(crate) const NO_KEY: &str = "no_key";

/// What became of a record.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// A change.
    Change(Box<Change>),
    /// Nothing that a lane carries, by a named rule: `tombstone`, `message`.
    Dropped(&'static str),
    /// It cannot be read, by a named rule: `decode`, `unknown_schema`, `unfit_schema`, `unseal`, `no_key`.
    Unreadable {
        /// The rule.
        rule: &'static str,
        /// Why, in words, without any of its bytes.
        reason: String,
    },
}

/// What is known of a schema id.
enum Known {
    Plan(Box<Plan>),
    NoEnvelope(String),
    /// It is another topic's, and the contract cannot read it.
    Foreign(String),
    Absent,
}

/// Decodes the records of one topic.
pub struct Decoder {
    registry: Arc<dyn SchemaRegistry>,
    contract: Arc<Contract>,
    plans: HashMap<u32, Known>,
    foreign_before_full: bool,
    topic: Option<String>,
    unseal: Option<Unseal>,
}

impl Decoder {
    /// Makes the decoder of a topic whose rows are to be read by `contract`.
    pub fn new(registry: Arc<dyn SchemaRegistry>, contract: Arc<Contract>) -> Self {
        Self {
            registry,
            contract,
            plans: HashMap::new(),
            foreign_before_full: false,
            topic: None,
            unseal: None,
        }
    }

    /// Says that old rows of a writer other than Hutong are whole (REPLICA IDENTITY FULL); otherwise only
    /// their key counts.
    #[must_use]
    pub fn foreign_before_full(mut self, full: bool) -> Self {
        self.foreign_before_full = full;
        self
    }

    /// Says which topic it decodes: a schema of another one that does not fit is the fault of the record that names
    /// it, and not of the contract.
    #[must_use]
    pub fn of(mut self, topic: &str) -> Self {
        self.topic = Some(topic.to_owned());
        self
    }

    /// Gives it the keys of sealed columns; without them, and where the keys lack one, such a column stays unknown.
    pub fn unseal(&mut self, unseal: Option<Unseal>) {
        self.unseal = unseal;
        // Compiled with the keys of before.
        self.plans.clear();
    }

    /// Asks the registry for every schema that the records name and that is not known yet.
    ///
    /// `Err(Unavailable)` when the registry is away: an outage never makes a record unreadable.
    /// `Err(SchemaConflict)` when a schema of the topic itself and the contract do not fit. Cancel safe.
    pub async fn learn(&mut self, records: &[Incoming]) -> Result<()> {
        // An id that was unknown may be known by now: it is asked for once in each call.
        self.plans.retain(|_, known| !matches!(known, Known::Absent));
        for record in records {
            let Some(id) = record.value.as_deref().and_then(framing::id) else { continue };
            if self.plans.contains_key(&id) {
                continue;
            }
            let known = match self.registry.by_id(id).await? {
                None => Known::Absent,
                Some(text) => match Plan::compile(&text, &self.contract) {
                    Ok(plan) => {
                        let plan = plan.foreign_before_full(self.foreign_before_full);
                        Known::Plan(Box::new(plan.unsealing(self.unseal.clone())))
                    }
                    Err(error) if error.kind == ErrorKind::Malformed => Known::NoEnvelope(error.why()),
                    Err(error) if self.topic.as_ref().is_some_and(|topic| !is_of(&text, topic)) => {
                        Known::Foreign(error.why())
                    }
                    Err(error) => {
                        let at = format!("read the record at offset {} by its schema {id}", record.offset);
                        return Err(Error { doing: at, ..error });
                    }
                },
            };
            self.plans.insert(id, known);
        }
        Ok(())
    }

    /// Returns the first schema id that the records name and that the registry did not know when it was asked, with
    /// the offset of its record.
    pub(crate) fn unknown(&self, records: &[Incoming]) -> Option<(u32, u64)> {
        let ids = records.iter().filter_map(|r| Some((r.value.as_deref().and_then(framing::id)?, r.offset)));
        ids.into_iter().find(|(id, _)| matches!(self.plans.get(id), Some(Known::Absent)))
    }

    /// Decodes a record whose schema was learnt.
    pub fn decode(&mut self, record: &Incoming) -> Outcome {
        let unreadable = |rule, reason: String| Outcome::Unreadable { rule, reason };
        // Some writers mark a deleted key by an empty value instead of none.
        let Some(value) = record.value.as_ref().filter(|v| !v.is_empty()) else {
            return Outcome::Dropped("tombstone");
        };
        let (id, body) = match framing::split(value) {
            Ok(split) => split,
            Err(error) => return unreadable("decode", error.why()),
        };
        match self.plans.get_mut(&id) {
            Some(Known::Plan(plan)) => match plan.decode_keyed(&body, record.offset, key(record)) {
                Ok(Decoded::Change(change)) => Outcome::Change(change),
                Ok(Decoded::Dropped(rule)) => Outcome::Dropped(rule),
                Err(error) if error.kind == ErrorKind::Denied => unreadable(NO_KEY, error.why()),
                Err(error) if error.kind == ErrorKind::Refused => unreadable("unseal", error.why()),
                Err(error) => unreadable("decode", error.why()),
            },
            Some(Known::NoEnvelope(why)) => unreadable("decode", format!("schema {id}: {why}")),
            Some(Known::Foreign(why)) => {
                let at = record.offset;
                let why =
                    format!("the record at offset {at} names schema {id}, which is of another topic: {why}");
                unreadable("unfit_schema", why)
            }
            Some(Known::Absent) | None => {
                unreadable("unknown_schema", format!("the registry knows no schema {id}"))
            }
        }
    }

    /// Decodes one record; `None` when a named rule drops it.
    pub async fn decode_one(&mut self, record: &Incoming) -> Result<Option<Change>> {
        self.learn(std::slice::from_ref(record)).await?;
        match self.decode(record) {
            Outcome::Change(change) => Ok(Some(*change)),
            Outcome::Dropped(_) => Ok(None),
            Outcome::Unreadable { reason, .. } => {
                Err(Error::new(ErrorKind::Malformed, format!("read the record at {}", record.offset), reason))
            }
        }
    }
}

/// Returns a record's key without its framing.
fn key(record: &Incoming) -> &[u8] {
    record.key.as_deref().and_then(|key| key.get(framing::HEAD..)).unwrap_or_default()
}

/// States whether a schema is one of a topic, whose name is its namespace; so it is for Hutong and for Debezium.
fn is_of(schema: &str, topic: &str) -> bool {
    let Ok(json) = serde_json::from_str::<serde_json::Value>(schema) else { return false };
    let name = json["name"].as_str().unwrap_or_default();
    // A full name wins over the namespace (Avro 1.12, "Names").
    let namespace =
        name.rsplit_once('.').map_or(json["namespace"].as_str(), |(namespace, _)| Some(namespace));
    namespace == Some(topic)
}
