//! By what a source opens sealed columns: a key, whose wrapping counts, and the topic of the wrapped keys.

use std::sync::Arc;

use hutong_core::Result;
use hutong_core::seal::{Custody, Opener, PublicKey, ring};

use crate::envelope::Unseal;
use crate::keys;
use crate::log::Log;

/// By what a source opens sealed columns.
#[derive(Clone)]
pub struct Unsealing {
    /// The topic of the wrapped keys: that of the stream's capture.
    pub keys: String,
    /// The key of the stream's owner, or of the grant's department; `None` where no column need be opened.
    pub own: Option<Arc<dyn Custody>>,
    /// The public key of the stream's owner, whose wrapping alone counts; `None`: the own key is the owner's.
    pub by: Option<PublicKey>,
    /// The grant by which columns are opened; `None`: as the owner.
    pub grant: Option<String>,
    /// The wire names of the columns that are opened.
    pub fields: Vec<String>,
    /// What a person must do where a key is missing.
    pub remedy: String,
}

impl Unsealing {
    /// Reads the keys of a topic.
    pub async fn keys(&self, log: &dyn Log, topic: &str) -> Result<Unseal> {
        let Some(own) = &self.own else {
            return Ok(Unseal { opener: Arc::new(Opener::new(topic)), fields: Vec::new() });
        };
        let records = keys::read(log, &self.keys).await?;
        let by = self.by.clone().unwrap_or_else(|| own.public());
        let opener = ring::opener(topic, &records, own.as_ref(), &by, self.grant.as_deref(), &self.fields)?;
        Ok(Unseal { opener: Arc::new(opener), fields: self.fields.clone() })
    }
}
