//! Carries the replication session's bytes over TLS.
//!
//! `pgwire-replication` opens its own connections, and its own TLS takes `verify-ca` for `verify-full` and knows
//! no authorities of the system. So it speaks plain text to a socket in a folder that only we may enter, and a
//! task of ours carries the bytes from there, over the same TLS as every other session.

use std::io;
use std::path::Path;

use hutong_core::{Error, ErrorKind, Result, ResultExt};
use rustls::pki_types::ServerName;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional_with_sizes};
use tokio::net::{TcpStream, UnixListener};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_postgres::config::SslNegotiation;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::address::Address;
use super::tls;

/// The message that asks for TLS: its length, and the code 80877103.
/// Source: PostgreSQL, "Message Formats", SSLRequest.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// As much as a TLS record holds, a few times over.
const BUFFER: usize = 64 * 1024;

/// One connection to the server, for one local reader; ends when it is dropped.
pub(crate) struct Relay {
    folder: TempDir,
    // Held only to be dropped with the relay: dropping the set ends the task.
    _mover: JoinSet<()>,
}

impl Relay {
    /// Connects. `None`: the server has no TLS, and the address can do without it.
    pub(crate) async fn open(address: &Address, host: &str, to: &str, port: u16) -> Result<Option<Self>> {
        if address.tls.is_disabled() {
            return Ok(None);
        }
        let doing = || "connect to PostgreSQL for replication".to_owned();
        let wait = *address.config.get_connect_timeout().expect("an address has a timeout");
        let connected = match timeout(wait, connect(address, host, to, port)).await {
            Ok(connected) => connected?,
            Err(_) => return Err(Error::new(ErrorKind::Unavailable, doing(), "no answer in time")),
        };
        let Some(server) = connected else { return Ok(None) };
        // A folder of 0700: whoever may enter it may read our memory too.
        let local = TempDir::new().and_then(|folder| {
            let listener = UnixListener::bind(folder.path().join(format!(".s.PGSQL.{port}")))?;
            Ok((folder, listener))
        });
        let (folder, listener) = local
            .or_kind(ErrorKind::Config, || "make a socket in the folder of temporary files".to_owned())
            .map_err(|e| e.hint("set TMPDIR to a folder with a short name that Hutong may write to"))?;
        let mut mover = JoinSet::new();
        mover.spawn(async move {
            if let Err(error) = carry(listener, server).await {
                tracing::debug!(%error, "a replication session ended");
            }
        });
        Ok(Some(Self { folder, _mover: mover }))
    }

    /// Returns the folder with the socket, which PostgreSQL's clients take for a host.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

async fn carry(listener: UnixListener, mut server: TlsStream<TcpStream>) -> io::Result<()> {
    let (mut reader, _) = listener.accept().await?;
    drop(listener);
    copy_bidirectional_with_sizes(&mut reader, &mut server, BUFFER, BUFFER).await.map(drop)
}

async fn connect(
    address: &Address,
    host: &str,
    to: &str,
    port: u16,
) -> Result<Option<TlsStream<TcpStream>>> {
    let doing = || "connect to PostgreSQL for replication".to_owned();
    let client = address.tls.client()?;
    let unavailable = |error: io::Error| Error::caused(ErrorKind::Unavailable, doing(), error);
    let mut stream = TcpStream::connect((to, port)).await.map_err(unavailable)?;
    stream.set_nodelay(true).map_err(unavailable)?;
    if address.config.get_ssl_negotiation() == SslNegotiation::Postgres {
        stream.write_all(&SSL_REQUEST).await.map_err(unavailable)?;
        // Exactly one byte: whatever came after it would not be protected by TLS.
        if stream.read_u8().await.map_err(unavailable)? != b'S' {
            if !address.tls.is_required() {
                return Ok(None);
            }
            return Err(tls::explain(Error::new(ErrorKind::Config, doing(), tls::NO_TLS)));
        }
    }
    let name = ServerName::try_from(host.to_owned()).or_kind(ErrorKind::Config, doing)?;
    let stream = TlsConnector::from(std::sync::Arc::new(client)).connect(name, stream).await;
    stream.map(Some).map_err(|error| tls::explain(unavailable(error)))
}
