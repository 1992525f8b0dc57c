//! When the certificates end that the configuration names for TLS: the bus's and the stores'.
//!
//! Read again and again, for who renews one writes another file under the same name. RFC 5280, section 4.1.2.5.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hutong_core::{Error, ErrorKind, Result, ResultExt};
use hutong_engine::certificates::Certificates;
use hutong_stores::postgres;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use x509_cert::Certificate;
use x509_cert::der::Decode;

use crate::config::Plan;
use crate::config::plan::{BusSystem, StoreSystem};

/// How often the files are read.
const LOOK: Duration = Duration::from_secs(10);

/// One file that the configuration names.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Named {
    /// `bus`, or `store <name>`.
    used_for: String,
    /// `authorities` or `own`.
    certificate: &'static str,
    path: PathBuf,
}

/// Returns the files of the bus and of these stores. An address that cannot be read names none: its lanes say why.
pub(super) fn named(plan: &Plan, stores: &BTreeSet<&str>) -> Vec<Named> {
    let mut found = Vec::new();
    if let BusSystem::Kafka(kafka) = &plan.bus.system
        && let Some(tls) = &kafka.tls
    {
        let files = [("authorities", &tls.ca_file), ("own", &tls.certificate_file)];
        for (certificate, path) in files {
            let path = path.clone();
            found.extend(path.map(|path| Named { used_for: "bus".into(), certificate, path }));
        }
    }
    for store in stores.iter().filter_map(|name| plan.stores.get(*name)) {
        let StoreSystem::Postgres { url, .. } = &store.system else { continue };
        let files = url.resolve().and_then(|url| postgres::certificates(&url)).unwrap_or_default();
        for (certificate, path) in files {
            found.push(Named { used_for: format!("store {}", store.name), certificate, path });
        }
    }
    found
}

/// Tells when they end, until it is asked to stop.
pub(super) async fn watch(files: Vec<Named>, told: Certificates, token: CancellationToken) -> Result<()> {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut unread = BTreeSet::new();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = token.cancelled() => return Ok(()),
        }
        for (at, file) in files.iter().enumerate() {
            // A file on a disk that hangs holds up no lane.
            let path = file.path.clone();
            let read = tokio::task::spawn_blocking(move || ends(&path)).await;
            let read =
                read.unwrap_or_else(|e| Err(Error::caused(ErrorKind::Broken, "read a certificate", e)));
            told.ends(&file.used_for, file.certificate, read.as_ref().ok().copied());
            match read {
                Ok(_) => {
                    unread.remove(&at);
                }
                Err(problem) if unread.insert(at) => {
                    warn!(used_for = file.used_for, error = %problem, "nobody knows when a certificate ends");
                }
                Err(_) => {}
            }
        }
    }
}

/// Returns when the first certificate of a PEM file ends, seconds since 1970.
fn ends(path: &Path) -> Result<i64> {
    let doing = || format!("read when the certificates in {} end", path.display());
    let found: Vec<CertificateDer<'_>> =
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect).or_kind(ErrorKind::Config, doing)?;
    let mut first = None;
    for der in &found {
        let certificate = Certificate::from_der(der).or_kind(ErrorKind::Config, doing)?;
        let ends = certificate.tbs_certificate.validity.not_after.to_unix_duration().as_secs();
        let ends = i64::try_from(ends).unwrap_or(i64::MAX);
        first = Some(first.map_or(ends, |first: i64| first.min(ends)));
    }
    first.ok_or_else(|| Error::new(ErrorKind::Config, doing(), "it has no certificate"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use hutong_testkit::hostile;
    use tempfile::TempDir;

    use super::*;

    /// Makes a certificate that ends after so many days, and returns it as PEM.
    fn made(folder: &Path, days: u32) -> String {
        let certificate = folder.join(format!("{days}.pem"));
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
        openssl.args(["-subj", "/CN=bus.example", "-days", &days.to_string(), "-keyout"]);
        openssl.arg(folder.join("key.pem")).arg("-out").arg(&certificate);
        let done = openssl.output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        fs::read_to_string(certificate).unwrap()
    }

    #[test]
    fn of_a_file_the_first_certificate_that_ends_counts() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("chain.pem");
        fs::write(&path, [made(folder.path(), 30), made(folder.path(), 3), made(folder.path(), 60)].concat())
            .unwrap();
        let left = ends(&path).unwrap() - jiff::Timestamp::now().as_second();
        assert!((3 * 86_400 - 600..=3 * 86_400).contains(&left), "{left} s");
        for (text, why) in [
            ("", "it has no certificate"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", ""),
        ] {
            fs::write(&path, text).unwrap();
            let problem = ends(&path).unwrap_err();
            assert!(problem.kind == ErrorKind::Config && problem.to_string().contains(why), "{problem}");
        }
    }

    #[test]
    fn a_hostile_certificate_is_read_or_refused() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("hostile.pem");
        let valid = [made(folder.path(), 30).into_bytes()];
        hostile::feed("a_hostile_certificate_is_read_or_refused", 500, &valid, |bytes| {
            fs::write(&path, bytes).unwrap();
            // Whatever it says, it is a time.
            if let Ok(ends) = ends(&path) {
                assert!(ends >= 0);
            }
        });
    }
}
