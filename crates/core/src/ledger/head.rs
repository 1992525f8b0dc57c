//! Digests, and the running digest over a log.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use crate::hexadecimal;

/// SHA-256 (FIPS 180-4) of something; 64 lower-case hexadecimal digits as text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Returns the digest of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Reads 64 hexadecimal digits; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        hexadecimal::read(text)?.try_into().ok().map(Self)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hexadecimal::text(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("a digest has 64 hexadecimal digits"))
    }
}

/// How far a log has been read: how many records, and the digest over all of them.
///
/// Records are counted, not offsets: aborted transactions and a move to another cluster change nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// How many records were read.
    pub sequence: u64,
    /// The digest over them and the ledger's name.
    pub digest: Digest,
}

impl Head {
    /// Returns the head behind the next record; `None` is a record without a value.
    #[must_use]
    pub fn after(&self, record: Option<&[u8]>) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"hutong ledger head\0");
        hash.update(self.digest.0);
        match record {
            Some(bytes) => {
                hash.update([1]);
                hash.update(Digest::of(bytes).0);
            }
            None => hash.update([0]),
        }
        Self { sequence: self.sequence.saturating_add(1), digest: Digest(hash.finalize().into()) }
    }

    /// Reads `SEQUENCE:DIGEST`; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let (sequence, digest) = text.split_once(':')?;
        Some(Self { sequence: sequence.parse().ok()?, digest: Digest::parse(digest)? })
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.sequence, self.digest)
    }
}
