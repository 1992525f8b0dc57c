//! The key by which a department wraps and unwraps: X25519 (RFC 7748), as text with the name of its algorithm.
//!
//! It signs nothing: the ledger's keys are others.

use std::fmt;

use aws_lc_rs::agreement::{self, UnparsedPublicKey, X25519};

use super::{KEY_BYTES, Key};
use crate::error::{Error, ErrorKind, Result};
use crate::hexadecimal;

/// What stands before the digits of a key.
const ALGORITHM: &str = "x25519";

/// What stands before a private key's algorithm in its file.
const MARK: &str = "hutong-sealing-key";

/// What keeps a department's private key: a file ([`PrivateKey`]), or a device that never shows it.
pub trait Custody: Send + Sync {
    /// Returns the public half.
    fn public(&self) -> PublicKey;

    /// Returns the secret that this key and another's public half have in common. `Err(Denied)` when they have none.
    fn agree(&self, with: &PublicKey) -> Result<Key>;
}

/// A department's public key; as text `x25519:` and 64 hexadecimal digits.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey([u8; KEY_BYTES]);

impl PublicKey {
    /// Reads a key. `Err(Malformed)` for anything else.
    pub fn parse(text: &str) -> Result<Self> {
        let digits = text.strip_prefix(ALGORITHM).and_then(|rest| rest.strip_prefix(':'));
        let bytes = digits.and_then(hexadecimal::read).and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| {
            let why = "it is not `x25519:` and 64 hexadecimal digits";
            Error::new(ErrorKind::Malformed, "read a public sealing key", why)
        })
    }

    /// Returns its bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{ALGORITHM}:{}", hexadecimal::text(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A department's private key, in memory. Its `Debug` prints `***`.
pub struct PrivateKey {
    secret: [u8; KEY_BYTES],
    key: agreement::PrivateKey,
    public: PublicKey,
}

impl PrivateKey {
    /// Makes the key of 32 random bytes; whoever calls has drawn them from the system.
    pub fn new(secret: [u8; KEY_BYTES]) -> Result<Self> {
        let denied = || Error::new(ErrorKind::Denied, "read a sealing key", "it is no key of X25519");
        let key = agreement::PrivateKey::from_private_key(&X25519, &secret).map_err(|_| denied())?;
        let public = key.compute_public_key().map_err(|_| denied())?;
        let public = PublicKey(public.as_ref().try_into().map_err(|_| denied())?);
        Ok(Self { secret, key, public })
    }

    /// Reads the text of a key's file. `Err(Denied)` for anything else; the text is not repeated.
    pub fn parse(text: &str) -> Result<Self> {
        let secret = match text.split_ascii_whitespace().collect::<Vec<_>>()[..] {
            [MARK, ALGORITHM, digits] => hexadecimal::read(digits),
            _ => None,
        };
        let secret = secret.and_then(|secret| secret.try_into().ok()).ok_or_else(|| {
            Error::new(ErrorKind::Denied, "read a sealing key", "the file holds none")
                .hint("`hutong ledger keygen --sealing FILE` makes one")
        })?;
        Self::new(secret)
    }

    /// Returns the text of the key's file.
    pub fn reveal(&self) -> String {
        format!("{MARK} {ALGORITHM} {}\n", hexadecimal::text(&self.secret))
    }
}

impl Custody for PrivateKey {
    fn public(&self) -> PublicKey {
        self.public.clone()
    }

    fn agree(&self, with: &PublicKey) -> Result<Key> {
        let other = UnparsedPublicKey::new(&X25519, with.bytes());
        // A point of small order makes a secret that everybody knows; the library refuses it.
        let denied = || {
            Error::new(ErrorKind::Denied, format!("agree on a key with {with}"), "it is no usable public key")
        };
        agreement::agree(&self.key, other, denied(), |secret| {
            secret.try_into().map(Key::new).map_err(|_| denied())
        })
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
