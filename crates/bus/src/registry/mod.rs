//! The schema registry as Hutong uses it: the Confluent API's subjects, ids and compatibility.
//!
//! Two implementations: [`HttpRegistry`] for any registry that speaks the API, and the embedded bus's own.

mod http;

use async_trait::async_trait;
use hutong_core::{ErrorKind, Result};

pub use http::{HttpRegistry, RegistryConfig};

/// What a registry says of a schema that was not registered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// Why it would be refused, in the registry's words; empty when it would be taken.
    pub reasons: Vec<String>,
    /// The text of the subject's latest version; `None` when there is none, or when it would be taken.
    pub latest: Option<String>,
}

/// A schema registry. Subjects are named by topic: `<topic>-key` and `<topic>-value`.
///
/// Every call may return `Err(Unavailable)`: an outage is never an answer about a schema.
#[async_trait]
pub trait SchemaRegistry: Send + Sync {
    /// Registers a schema under a subject and returns its id; the same text gives the same id again.
    ///
    /// `Err(SchemaConflict)` with the registry's reasons when it is not compatible with earlier versions.
    async fn register(&self, subject: &str, schema: &str) -> Result<u32>;

    /// Returns the schema text of an id; `None` when the registry answers that it knows no such id.
    async fn by_id(&self, id: u32) -> Result<Option<String>>;

    /// Returns which version of a subject a schema is; `None` when the registry does not know it there.
    async fn version(&self, subject: &str, schema: &str) -> Result<Option<u32>>;

    /// Sets a subject's compatibility level by the API's name: `FULL_TRANSITIVE`, `BACKWARD`, `NONE`, …
    async fn set_compatibility(&self, subject: &str, level: &str) -> Result<()>;

    /// Tells whether a schema would be taken under a subject. Registers nothing.
    async fn check(&self, subject: &str, schema: &str) -> Result<Checked>;
}

/// What a person does about a schema that a registry refuses.
pub(crate) const REFUSED: &str = "make the contract compatible, or open the stream's next generation";

/// Returns a registry's message without the earlier schema, which some repeat whole in it: a person looks for a reason.
pub(crate) fn without_schema(message: &str) -> String {
    message.split(", {oldSchema").next().unwrap_or(message).to_owned()
}

/// Registers a schema under a subject of a level.
///
/// The schema first, for not every registry knows levels of subjects that are not there; but a level that was
/// loosened must be set before the schema that needs it.
pub(crate) async fn register_at(
    registry: &dyn SchemaRegistry,
    subject: &str,
    schema: &str,
    level: &str,
) -> Result<u32> {
    let first = registry.register(subject, schema).await;
    if let Err(error) = &first
        && error.kind != ErrorKind::SchemaConflict
    {
        return first;
    }
    registry.set_compatibility(subject, level).await?;
    match first {
        Ok(id) => Ok(id),
        Err(_) => registry.register(subject, schema).await,
    }
}
