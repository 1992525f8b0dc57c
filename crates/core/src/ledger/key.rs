//! Keys and signatures, each with the name of its algorithm.
//!
//! Another algorithm (SM2 with SM3) is another [`Algorithm`] and another arm below; entries name theirs already.

use std::fmt;

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

use crate::error::{Error, ErrorKind, Result};
use crate::hexadecimal;

/// How something is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// Ed25519 (RFC 8032), verified strictly: no small orders, no second form of a signature.
    Ed25519,
}

impl Algorithm {
    /// Returns its name in entries and keys.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
        }
    }

    /// Finds an algorithm by its name; `None` for one that this program does not know.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Ed25519].into_iter().find(|algorithm| algorithm.name() == name)
    }
}

/// A department's public key; as text `ed25519:` and 64 hexadecimal digits.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// Reads a key. `Err(Config)` for an algorithm that this program does not know, `Err(Malformed)` for no key.
    pub fn parse(text: &str) -> Result<Self> {
        let doing = "read a public key";
        let malformed = || {
            Error::new(ErrorKind::Malformed, doing, "it is not `ed25519:` and 64 hexadecimal digits")
                .hint("`hutong ledger keygen FILE` prints one")
        };
        let (algorithm, digits) = text.split_once(':').ok_or_else(malformed)?;
        match Algorithm::named(algorithm) {
            Some(Algorithm::Ed25519) => {}
            None => {
                let why = format!("this program does not know the algorithm `{algorithm}`");
                return Err(
                    Error::new(ErrorKind::Config, doing, why).hint("use the newer Hutong that wrote it")
                );
            }
        }
        let bytes: [u8; 32] =
            hexadecimal::read(digits).and_then(|bytes| bytes.try_into().ok()).ok_or_else(malformed)?;
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| malformed())?;
        if key.is_weak() { Err(malformed()) } else { Ok(Self(key)) }
    }

    /// Returns its algorithm.
    pub fn algorithm(&self) -> Algorithm {
        Algorithm::Ed25519
    }

    /// States whether the owner of this key signed the message.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        Signature::from_slice(signature)
            .is_ok_and(|signature| self.0.verify_strict(message, &signature).is_ok())
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm().name(), hexadecimal::text(self.0.as_bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What stands before a private key's algorithm in its file.
const MARK: &str = "hutong-private-key";

/// A department's private key. Its `Debug` prints `***`.
pub struct PrivateKey(SigningKey);

impl PrivateKey {
    /// Makes the key of 32 random bytes; whoever calls has drawn them from the system.
    pub fn new(seed: [u8; 32]) -> Self {
        Self(SigningKey::from_bytes(&seed))
    }

    /// Reads the text of a key's file. `Err(Denied)` for anything else; the text is not repeated.
    pub fn parse(text: &str) -> Result<Self> {
        let seed = match text.split_ascii_whitespace().collect::<Vec<_>>()[..] {
            [MARK, algorithm, digits] if algorithm == Algorithm::Ed25519.name() => hexadecimal::read(digits),
            _ => None,
        };
        let seed: [u8; 32] = seed.and_then(|seed| seed.try_into().ok()).ok_or_else(|| {
            Error::new(ErrorKind::Denied, "read a private key", "the file holds none")
                .hint("`hutong ledger keygen FILE` makes one")
        })?;
        Ok(Self::new(seed))
    }

    /// Returns the text of the key's file.
    pub fn reveal(&self) -> String {
        format!("{MARK} {} {}\n", Algorithm::Ed25519.name(), hexadecimal::text(&self.0.to_bytes()))
    }

    /// Returns the key that verifies what this one signs.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// Returns its algorithm.
    pub fn algorithm(&self) -> Algorithm {
        Algorithm::Ed25519
    }

    /// Signs a message.
    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message).to_bytes().to_vec()
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
