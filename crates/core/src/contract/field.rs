//! One field of a contract.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::Type;

/// One field of a contract.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// The ASCII wire name.
    pub name: String,
    /// The table's column, where its name differs.
    pub column: Option<String>,
    /// What it holds.
    pub ty: Type,
    /// Whether NULL is allowed. On the wire every field that is not in the key may be null all the same.
    pub nullable: bool,
    /// One sentence on what it is.
    pub doc: String,
    /// The mask that a grant gets unless it says otherwise.
    pub mask: Option<String>,
    /// Whether it leaves the department sealed: by its own property `sealed`, or by the contract's `seal`, which names
    /// the classifications that ask for it.
    pub sealed: bool,
    /// What a value must satisfy to be of use.
    pub checks: Vec<Check>,
    /// The catalogue's entry of the field: every other property, as written (title, classification, …).
    pub catalogue: serde_json::Map<String, Json>,
}

impl Field {
    /// Makes a field with a name and a type, nullable, without a catalogue entry.
    pub fn new(name: impl Into<String>, ty: Type) -> Self {
        Self {
            name: name.into(),
            column: None,
            ty,
            nullable: true,
            doc: String::new(),
            mask: None,
            sealed: false,
            checks: Vec::new(),
            catalogue: serde_json::Map::new(),
        }
    }

    /// Returns the name of the table's column.
    pub fn column(&self) -> &str {
        self.column.as_deref().unwrap_or(&self.name)
    }

    /// Returns the catalogue's title, else the wire name.
    pub fn title(&self) -> &str {
        self.catalogue.get("title").and_then(Json::as_str).unwrap_or(&self.name)
    }

    /// Returns the law by which it may not be shared although its stream may; `None` where it may.
    pub fn not_shared(&self) -> Option<&str> {
        let denied = self.catalogue.get("sharing").and_then(Json::as_str) == Some("none");
        let law =
            || self.catalogue.get("sharing_law").and_then(Json::as_str).unwrap_or("the contract says so");
        denied.then(law)
    }

    /// Returns the classification; empty when nobody has classified it.
    pub fn classification(&self) -> &str {
        self.catalogue.get("classification").and_then(Json::as_str).unwrap_or_default()
    }
}

/// A quality check of a field.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Check {
    /// GB 11643-1999: 18 characters with a birth date and a check character.
    CitizenNumber,
    /// GB 32100-2015: 18 characters with a check character.
    CreditCode,
    /// GB/T 2260: six digits.
    Division,
    /// One of these texts.
    Codes {
        /// The allowed texts.
        allowed: Vec<String>,
    },
    /// A regular expression that the whole text matches. Kept for readers; not enforced by Hutong.
    Pattern {
        /// The expression.
        pattern: String,
    },
    /// A number between two bounds, both included.
    Range {
        /// The least value.
        #[serde(default)]
        min: Option<f64>,
        /// The greatest value.
        #[serde(default)]
        max: Option<f64>,
    },
}
