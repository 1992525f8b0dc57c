//! TLS to PostgreSQL, with the words of libpq: `sslmode`, `sslrootcert`, `sslcert`, `sslkey`.
//!
//! One rustls configuration serves SQL sessions and the replication session. Knows files and certificates,
//! nothing of hosts. Source: PostgreSQL, "SSL Support" in the chapter on libpq.

use std::error::Error as StdError;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hutong_core::{Error, ErrorKind, Result, ResultExt};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

/// The parameters as an address gives them.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub(crate) struct Given {
    mode: Option<String>,
    roots: Option<String>,
    certificate: Option<String>,
    key: Option<String>,
}

impl Given {
    /// Keeps a parameter, if it is one of TLS. An empty one counts as not given.
    pub(crate) fn take(&mut self, key: &str, value: impl FnOnce() -> String) -> bool {
        let place = match key {
            "sslmode" => &mut self.mode,
            "sslrootcert" => &mut self.roots,
            "sslcert" => &mut self.certificate,
            "sslkey" => &mut self.key,
            _ => return false,
        };
        *place = Some(value()).filter(|value| !value.is_empty());
        true
    }
}

/// What is asked of the server.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Mode {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// How to speak TLS to one server.
pub(crate) struct Tls {
    mode: Mode,
    /// The file of the authorities; `None`: the system's.
    roots: Option<PathBuf>,
    /// Our certificate and its key.
    own: Option<(PathBuf, PathBuf)>,
}

impl Tls {
    /// No TLS.
    pub(crate) fn disabled() -> Self {
        Self { mode: Mode::Disable, roots: None, own: None }
    }

    /// Reads the parameters; opens no file.
    pub(crate) fn new(given: Given) -> Result<Self> {
        let refused = |why, hint| {
            Err(Error::new(ErrorKind::Config, "read the address of a PostgreSQL store", why).hint(hint))
        };
        let mode = match given.mode.as_deref() {
            Some("disable") => Mode::Disable,
            None | Some("prefer") => Mode::Prefer,
            // As in libpq, an authority that is named is also asked.
            Some("require") if given.roots.is_some() => Mode::VerifyCa,
            Some("require") => Mode::Require,
            Some("verify-ca") => Mode::VerifyCa,
            Some("verify-full") => Mode::VerifyFull,
            Some(_) => {
                return refused(
                    "its sslmode is unknown",
                    "write disable, prefer, require, verify-ca or verify-full",
                );
            }
        };
        if mode == Mode::Prefer && given.roots.is_some() {
            return refused(
                "sslrootcert is given, and sslmode=prefer verifies nothing",
                "write sslmode=verify-full",
            );
        }
        let own = match (given.certificate, given.key) {
            (Some(certificate), Some(key)) => Some((certificate.into(), key.into())),
            (None, None) => None,
            _ => return refused("of sslcert and sslkey only one is given", "give both, or none"),
        };
        let roots = given.roots.filter(|roots| roots != "system").map(PathBuf::from);
        Ok(Self { mode, roots, own })
    }

    pub(crate) fn is_disabled(&self) -> bool {
        self.mode == Mode::Disable
    }

    pub(crate) fn is_required(&self) -> bool {
        self.mode > Mode::Prefer
    }

    /// Returns the files of certificates that it reads: whose they are, and where.
    pub(crate) fn files(&self) -> Vec<(&'static str, PathBuf)> {
        // Where nothing is verified the authorities are not read.
        let roots = self.roots.clone().filter(|_| self.mode >= Mode::VerifyCa);
        let own =
            self.own.as_ref().filter(|_| !self.is_disabled()).map(|(certificate, _)| certificate.clone());
        let files = [("authorities", roots), ("own", own)];
        files.into_iter().filter_map(|(whose, path)| Some((whose, path?))).collect()
    }

    /// Reads the files and returns what both kinds of sessions speak TLS with.
    pub(crate) fn client(&self) -> Result<ClientConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = Arc::new(self.verifier(&provider)?);
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has every version that rustls has")
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut client = match &self.own {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let doing = || format!("read the key {}", key.display());
                let private = PrivateKeyDer::from_pem_file(key).or_kind(ErrorKind::Config, doing);
                let private =
                    private.map_err(|e| e.hint("sslkey is a PEM file with a key without password"))?;
                builder
                    .with_client_auth_cert(certificates(certificate)?, private)
                    .or_kind(ErrorKind::Config, || format!("use the certificate {}", certificate.display()))?
            }
        };
        // The registered name of the protocol, which PostgreSQL 17 asks for with sslnegotiation=direct.
        client.alpn_protocols = vec![b"postgresql".to_vec()];
        Ok(client)
    }

    fn verifier(&self, provider: &CryptoProvider) -> Result<Verifier> {
        let algorithms = provider.signature_verification_algorithms;
        let names = self.mode == Mode::VerifyFull;
        if self.mode < Mode::VerifyCa {
            return Ok(Verifier { roots: None, named: Vec::new(), names, algorithms });
        }
        let named = self.roots.as_deref().map(certificates).transpose()?;
        let mut roots = RootCertStore::empty();
        let found = named.clone().unwrap_or_else(|| rustls_native_certs::load_native_certs().certs);
        let (good, _) = roots.add_parsable_certificates(found);
        // An old self-signed certificate (version 1) is no authority to rustls, but can still be recognised.
        if good == 0 && named.is_none() {
            let why = "the system has no certificates of authorities";
            return Err(Error::new(ErrorKind::Config, "verify the certificate of PostgreSQL", why)
                .hint("name the authority's file: sslrootcert=/path/ca.pem"));
        }
        Ok(Verifier { roots: Some(roots), named: named.unwrap_or_default(), names, algorithms })
    }
}

/// Reads a file of PEM certificates.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let doing = || format!("read the certificates in {}", path.display());
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .or_kind(ErrorKind::Config, doing)
        .map_err(|e| e.hint("sslrootcert and sslcert are PEM files that Hutong may read"))?;
    if found.is_empty() {
        return Err(Error::new(ErrorKind::Config, doing(), "it has no certificate")
            .hint("a PEM certificate begins with -----BEGIN CERTIFICATE-----"));
    }
    Ok(found)
}

/// Verifies as much of a server's certificate as the mode asks.
#[derive(Debug)]
struct Verifier {
    /// `None`: any certificate will do.
    roots: Option<RootCertStore>,
    /// The certificates of `sslrootcert`: the server's own may be among them, as with OpenSSL.
    named: Vec<CertificateDer<'static>>,
    /// Whether the certificate must be for the host.
    names: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    /// Where nothing is verified, a certificate that rustls cannot read (version 1, say) does no harm:
    /// one that channel binding relies on is read, and its signature counts.
    fn forgive(
        &self,
        signature: Result<HandshakeSignatureValid, rustls::Error>,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        match signature {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::BadEncoding | CertificateError::Other(_),
            )) if self.roots.is_none() => Ok(HandshakeSignatureValid::assertion()),
            signature => signature,
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(roots) = &self.roots else { return Ok(ServerCertVerified::assertion()) };
        let parsed = ParsedCertificate::try_from(certificate)?;
        if !self.named.contains(certificate) {
            let algorithms = self.algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, now, algorithms)?;
        }
        if self.names {
            verify_server_name(&parsed, name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.forgive(verify_tls12_signature(message, certificate, signed, &self.algorithms))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.forgive(verify_tls13_signature(message, certificate, signed, &self.algorithms))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Says what an error of TLS means and what a person must do; `None`: it is not one, or waiting may help.
pub(crate) fn advice(error: &(dyn StdError + 'static)) -> Option<(ErrorKind, &'static str)> {
    let mut next = Some(error);
    while let Some(error) = next {
        // An I/O error shows the cause of what it wraps, and not what it wraps.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let inner = inner.map_or(error, |inner| inner as &(dyn StdError + 'static));
        if let Some(tls) = inner.downcast_ref::<rustls::Error>() {
            return of_rustls(tls);
        }
        if error.to_string() == NO_TLS {
            let hint = "turn ssl on in the server, or write sslmode=prefer, which also speaks without TLS";
            return Some((ErrorKind::Config, hint));
        }
        next = error.source();
    }
    None
}

/// Adds the advice for the error's cause.
pub(crate) fn explained(error: Error) -> Error {
    let advice = error.source.as_ref().and_then(|cause| advice(cause.as_ref()));
    advised(error, advice)
}

/// Adds an advice to an error.
pub(crate) fn advised(error: Error, advice: Option<(ErrorKind, &'static str)>) -> Error {
    match advice {
        Some((kind, hint)) => Error { kind, ..error }.hint(hint),
        None => error,
    }
}

/// What tokio-postgres says, and we say, when the server has no TLS.
pub(crate) const NO_TLS: &str = "server does not support TLS";

fn of_rustls(error: &rustls::Error) -> Option<(ErrorKind, &'static str)> {
    use rustls::Error as E;
    Some(match error {
        E::InvalidCertificate(certificate) => (ErrorKind::Denied, of_certificate(certificate)),
        E::AlertReceived(
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRequired
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError,
        ) => (
            ErrorKind::Denied,
            "the server refuses our certificate: name one that its ssl_ca_file knows with sslcert and sslkey",
        ),
        E::AlertReceived(AlertDescription::HandshakeFailure | AlertDescription::ProtocolVersion)
        | E::PeerIncompatible(_) => (
            ErrorKind::Config,
            "the server must speak TLS 1.2 or 1.3 with a modern cipher: see its ssl_min_protocol_version and ssl_ciphers",
        ),
        _ => return None,
    })
}

fn of_certificate(error: &CertificateError) -> &'static str {
    match error {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "the server's certificate is not signed by the authority that sslrootcert (or the system) names: \
             set sslrootcert to the PEM file of the authority that signed it"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "connect by a name that the certificate has as subjectAltName, have one issued for this name, \
             or write sslmode=verify-ca if the network vouches for the host"
        }
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => {
            "renew the server's certificate, and compare the clocks of both machines"
        }
        _ => {
            "have a certificate issued for the server: X.509 version 3, with subjectAltName, no authority itself"
        }
    }
}
