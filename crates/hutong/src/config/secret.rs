//! Where a secret is, and reading it when a connection is made.

use std::fmt;
use std::path::PathBuf;

use hutong_core::{Error, ErrorKind, Result, ResultExt, Secret};

/// Where a secret is. Nothing is read before a connection needs it, so a check needs no secrets.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// Written out in the configuration; only for addresses that hold no password.
    Text(Secret),
    /// An environment variable.
    Env(String),
    /// A file; a line break at its end is not part of the secret.
    File(PathBuf),
}

impl SecretSource {
    /// Reads the secret. `Err(Denied)` when it is not there or empty.
    pub fn resolve(&self) -> Result<Secret> {
        let (text, doing) = match self {
            Self::Text(secret) => return Ok(secret.clone()),
            Self::Env(name) => {
                let doing = format!("read a secret from the environment variable {name}");
                let text = std::env::var(name).or_kind(ErrorKind::Denied, || doing.clone())?;
                (text, doing)
            }
            Self::File(path) => {
                let doing = format!("read a secret from {}", path.display());
                let text = std::fs::read_to_string(path).or_kind(ErrorKind::Denied, || doing.clone())?;
                (text.trim_end_matches(['\r', '\n']).to_owned(), doing)
            }
        };
        if text.is_empty() {
            return Err(Error::new(ErrorKind::Denied, doing, "it is empty"));
        }
        Ok(Secret::new(text))
    }
}

impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("***"),
            Self::Env(name) => write!(f, "env {name}"),
            Self::File(path) => write!(f, "file {}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_without_its_line_break_and_never_printed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "abc \n").unwrap();
        let source = SecretSource::File(path.clone());
        let secret = source.resolve().unwrap();
        assert_eq!(secret.reveal(), "abc ");
        assert!(!format!("{source:?} {secret:?}").contains("abc"));
        std::fs::write(&path, "\n").unwrap();
        assert_eq!(source.resolve().unwrap_err().kind, ErrorKind::Denied);
        let nowhere = SecretSource::File(folder.path().join("nowhere"));
        assert_eq!(nowhere.resolve().unwrap_err().kind, ErrorKind::Denied);
    }
}
