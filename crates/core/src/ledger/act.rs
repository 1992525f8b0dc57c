//! What can be said in the ledger.

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::head::{Digest, Head};
use super::terms::Terms;
use crate::contract::Sharing;

/// How a stream is offered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// Whoever asks is granted it at once.
    Unconditional,
    /// Its owner answers each request; for what it may be had.
    Conditional(String),
    /// Nobody may have it; by which law.
    None(String),
}

impl From<&Sharing> for Condition {
    fn from(sharing: &Sharing) -> Self {
        match sharing {
            Sharing::Unconditional => Self::Unconditional,
            Sharing::Conditional(words) => Self::Conditional(words.clone()),
            Sharing::Denied(law) => Self::None(law.clone()),
        }
    }
}

/// A stream as its owner offers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    /// The stream.
    pub stream: String,
    /// Who may have it.
    pub sharing: Condition,
    /// The wire names of the columns that may be asked for.
    pub columns: Vec<String>,
}

/// A department's wish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The subscription's name, which is its department's own.
    pub subscription: String,
    /// Who owns the stream.
    pub owner: String,
    /// The stream.
    pub stream: String,
    /// What for.
    pub purpose: String,
    /// By which law; empty for a stream that is shared unconditionally.
    pub legal_basis: String,
    /// What of it.
    pub terms: Terms,
    /// Where it goes: the store and the table.
    pub into: String,
}

/// A doubt about what was delivered. It names no row's value: the ledger is for everybody to read, and for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Doubt {
    /// The grant under which it was delivered.
    pub grant: Digest,
    /// The wire names of the columns that are doubted.
    pub columns: Vec<String>,
    /// Where the row's record stands in the stream's topic, `PARTITION/OFFSET`; `None` when it is not about one row.
    #[serde(default)]
    pub at: Option<String>,
    /// Why.
    pub reason: String,
}

/// What an entry says. A grant goes by the digest of its request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Act {
    /// A department takes part. The governing department says it.
    Joined {
        /// Who.
        department: String,
        /// Its public key.
        key: String,
    },
    /// A department has another key from here on. The governing department says it, also of itself.
    Rekeyed {
        /// Who.
        department: String,
        /// Its new public key.
        key: String,
    },
    /// A stream may be asked for. Its owner says it, as everything about a stream.
    Offered(Offer),
    /// A stream is offered otherwise from here on; grants stay what they are.
    Changed(Offer),
    /// A stream is offered no more, and nothing of it flows.
    Withdrawn {
        /// The stream.
        stream: String,
    },
    /// A department asks.
    Requested(Request),
    /// The owner agrees, to all of it or to less.
    Approved {
        /// The request.
        request: Digest,
        /// What is granted when it is less than what was asked for.
        #[serde(default)]
        narrower: Option<Terms>,
    },
    /// The owner refuses.
    Rejected {
        /// The request.
        request: Digest,
        /// Why, and by which law.
        reason: String,
    },
    /// Nothing flows until it is resumed; the replica stays.
    Suspended {
        /// The grant.
        grant: Digest,
        /// Why.
        reason: String,
    },
    /// It flows again.
    Resumed {
        /// The grant.
        grant: Digest,
    },
    /// Less is granted from here on.
    Narrowed {
        /// The grant.
        grant: Digest,
        /// What is granted now.
        terms: Terms,
    },
    /// More is granted from here on, and not more than was asked for.
    Widened {
        /// The grant.
        grant: Digest,
        /// What is granted now.
        terms: Terms,
    },
    /// The grant is over.
    Revoked {
        /// The grant.
        grant: Digest,
        /// Whether the rows of the replica are deleted.
        recall: bool,
        /// Why.
        reason: String,
    },
    /// The owner notes that the last day is over. Lanes end by the clock, whether it is noted or not.
    Expired {
        /// The grant.
        grant: Digest,
    },
    /// A department doubts what it was given, and asks the owner to correct it.
    Doubted(Doubt),
    /// The owner answers a doubt.
    Corrected {
        /// The doubt.
        doubt: Digest,
        /// Whether it was wrong, and is corrected at the source.
        accepted: bool,
        /// What was found.
        reason: String,
    },
    /// What was delivered of a department's streams is this, up to the end of a day: the head of its receipt topic.
    Rooted {
        /// The day.
        day: Date,
        /// How many receipts stood in the topic then, and the digest over all of them.
        receipts: Head,
    },
}

impl Act {
    /// Returns the first version of the ledger in which it can be said.
    pub fn version(&self) -> u16 {
        match self {
            Self::Doubted(_) | Self::Corrected { .. } => 3,
            Self::Rooted { .. } => 2,
            _ => 1,
        }
    }

    /// Returns the word for it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Joined { .. } => "joined",
            Self::Rekeyed { .. } => "rekeyed",
            Self::Offered(_) => "offered",
            Self::Changed(_) => "changed",
            Self::Withdrawn { .. } => "withdrawn",
            Self::Requested(_) => "requested",
            Self::Approved { narrower: None, .. } => "approved",
            Self::Approved { .. } => "approved narrower",
            Self::Rejected { .. } => "rejected",
            Self::Suspended { .. } => "suspended",
            Self::Resumed { .. } => "resumed",
            Self::Narrowed { .. } => "narrowed",
            Self::Widened { .. } => "widened",
            Self::Revoked { recall: false, .. } => "revoked",
            Self::Revoked { .. } => "revoked with recall",
            Self::Expired { .. } => "expired",
            Self::Doubted(_) => "correction requested",
            Self::Corrected { accepted: true, .. } => "corrected",
            Self::Corrected { .. } => "correction refused",
            Self::Rooted { .. } => "rooted",
        }
    }
}
