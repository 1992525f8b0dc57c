//! The files of private keys: made for their owner only, and refused when others may read them.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;

use hutong_core::ledger::{PrivateKey, PublicKey};
use hutong_core::seal::{self, Custody as _};
use hutong_core::{Error, ErrorKind, Result, ResultExt};
use rand::TryRngCore;
use rand::rngs::OsRng;

use crate::config::plan::LedgerPlan;

/// Makes a private key in a new file that only its owner may read; returns the public key.
pub fn generate(path: &Path) -> Result<PublicKey> {
    let key = PrivateKey::new(drawn(path)?);
    keep(path, &key.reveal())?;
    Ok(key.public())
}

/// Makes a sealing key in a new file that only its owner may read; returns the public key.
pub fn generate_sealing(path: &Path) -> Result<seal::PublicKey> {
    let key = seal::PrivateKey::new(drawn(path)?)?;
    keep(path, &key.reveal())?;
    Ok(key.public())
}

/// Reads the sealing key of a department.
pub fn sealing_key(path: &Path, department: &str) -> Result<seal::PrivateKey> {
    let doing = format!("read the sealing key of {department} from {}", path.display());
    if !path.exists() {
        return Err(Error::new(ErrorKind::Denied, doing, "there is no such file").hint(format!(
            "put it back out of your copy, then start again: what was sealed for `{department}` opens by nothing else"
        )));
    }
    seal::PrivateKey::parse(&read(path, &doing)?)
}

fn drawn(path: &Path) -> Result<[u8; 32]> {
    let mut seed = [0; 32];
    let doing = || format!("make a private key in {}", path.display());
    OsRng.try_fill_bytes(&mut seed).or_kind(ErrorKind::Unavailable, doing)?;
    Ok(seed)
}

/// Writes a new file that only its owner may read.
fn keep(path: &Path, text: &str) -> Result<()> {
    let doing = || format!("make a private key in {}", path.display());
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).or_kind(ErrorKind::Denied, doing)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).or_kind(ErrorKind::Denied, doing)
}

/// Reads the private key of a department that acts from here.
pub fn private_key(plan: &LedgerPlan, department: &str) -> Result<PrivateKey> {
    let Some(path) = plan.keys.get(department) else {
        let why = format!("`keys` of [ledger] names no file for `{department}`");
        return Err(Error::new(ErrorKind::Denied, format!("sign for {department}"), why)
            .hint(format!("keys = {{ {department} = \"FILE\" }}, where that department acts")));
    };
    let doing = format!("read the private key of {department} from {}", path.display());
    PrivateKey::parse(&read(path, &doing)?).map_err(|problem| {
        let hint = problem.hint.clone().unwrap_or_default();
        Error::new(problem.kind, doing, problem.why()).hint(hint)
    })
}

/// Reads a file that only its owner may read; `Err(Denied)` for any other.
fn read(path: &Path, doing: &str) -> Result<String> {
    let doing = || doing.to_owned();
    let mut file = File::open(path).or_kind(ErrorKind::Denied, doing)?;
    let metadata = file.metadata().or_kind(ErrorKind::Denied, doing)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        if metadata.mode() & 0o077 != 0 {
            let why = format!("its mode is {:03o}: others may use it", metadata.mode() & 0o777);
            return Err(
                Error::new(ErrorKind::Denied, doing(), why).hint(format!("chmod 600 {}", path.display()))
            );
        }
    }
    if !metadata.is_file() {
        return Err(Error::new(ErrorKind::Denied, doing(), "it is no file"));
    }
    let mut text = String::new();
    file.read_to_string(&mut text).or_kind(ErrorKind::Denied, doing)?;
    Ok(text)
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use hutong_core::ledger::Charter;

    use super::*;

    #[test]
    fn a_key_that_others_may_read_is_refused_and_one_that_is_there_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gongan.key");
        let public = generate(&path).unwrap();
        let plan = LedgerPlan {
            charter: Charter { id: "l".into(), governing: "gongan".into(), key: public.clone() },
            keys: [("gongan".to_owned(), path.clone())].into(),
            patience: std::time::Duration::ZERO,
            answer_days: 10,
            calendar: Default::default(),
        };
        assert_eq!(private_key(&plan, "gongan").unwrap().public(), public);
        assert!(generate(&path).is_err());
        let sealing = folder.path().join("gongan.seal");
        let sealed = generate_sealing(&sealing).unwrap();
        assert_eq!(sealing_key(&sealing, "gongan").unwrap().public(), sealed);
        assert_eq!(sealing_key(&path, "gongan").unwrap_err().kind, ErrorKind::Denied, "a key that signs");
        std::fs::set_permissions(&sealing, PermissionsExt::from_mode(0o640)).unwrap();
        assert_eq!(sealing_key(&sealing, "gongan").unwrap_err().kind, ErrorKind::Denied);
        for mode in [0o640, 0o604, 0o644] {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            assert_eq!(private_key(&plan, "gongan").unwrap_err().kind, ErrorKind::Denied, "{mode:o}");
        }
        assert_eq!(private_key(&plan, "renshe").unwrap_err().kind, ErrorKind::Denied);
    }
}
