//! Sealed columns: their values leave the department encrypted, and are opened where the permit runs.
//!
//! - [`cell`]: one value, sealed and opened: AES-256-GCM (NIST SP 800-38D), bound to where it stands.
//! - [`key`]: the private key of a department that seals or opens, and the small interface behind which it is kept.
//! - [`wrap`]: a data key wrapped for the owner or for a grant, as a record of a topic `hutong.keys.<capture>`.
//! - [`ring`]: what follows from those records: the epochs, who may open which, and when a new epoch begins.
//!
//! A topic has a data key in each epoch. A column's own key is derived of it, so a grant is given the keys of its columns
//! and of no other. The record key is a digest under a key that stays for the topic's life: another one would move rows
//! to other partitions.
//!
//! What sealing does not hide: which rows change and when, and how long a value is. A NULL is sealed like a value. It
//! hides values from whoever reads the bus; that nobody has written into it, it does not prove.

pub mod cell;
pub mod key;
pub mod ring;
pub mod wrap;

pub use cell::{Cell, Fault, Image, Nonces, Opener, Sealer};
pub use key::{Custody, PrivateKey, PublicKey};
pub use ring::{Reader, Ring};
pub use wrap::Wrapped;

use aws_lc_rs::hkdf;

use crate::error::{Error, ErrorKind, Result};

/// How many bytes a key has.
pub const KEY_BYTES: usize = 32;

/// A secret key. Its `Debug` prints `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; KEY_BYTES]);

impl Key {
    /// Wraps 32 random bytes; whoever calls has drawn them from the system.
    pub fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// Derives another key by HKDF-SHA-256 (RFC 5869); what it is for are the parts, each behind its length.
    fn derive(secret: &[u8], parts: &[&[u8]]) -> Result<Self> {
        let broken = |_| Error::new(ErrorKind::Broken, "derive a key", "the library refuses");
        let mut what_for = Vec::new();
        parts.iter().for_each(|part| put(&mut what_for, part));
        let mut key = [0; KEY_BYTES];
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]);
        let (extracted, what_for) = (salt.extract(secret), [what_for.as_slice()]);
        let expanded = extracted.expand(&what_for, hkdf::HKDF_SHA256).map_err(broken)?;
        expanded.fill(&mut key).map_err(broken)?;
        Ok(Self(key))
    }

    /// Derives the key of one column of a topic out of the topic's data key.
    fn of_field(&self, topic: &str, field: &str) -> Result<Self> {
        Self::derive(&self.0, &[b"hutong.sealed.v1", b"column", topic.as_bytes(), field.as_bytes()])
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// Appends a part behind its length in 4 bytes, so that two lists of parts never make the same bytes.
fn put(out: &mut Vec<u8>, part: &[u8]) {
    out.extend_from_slice(&(part.len() as u32).to_be_bytes());
    out.extend_from_slice(part);
}

#[cfg(test)]
mod tests;
