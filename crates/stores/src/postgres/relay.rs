//! Carries the replication session's bytes over TLS.
//!
//! `pgwire-replication` opens its own connections, and its own TLS takes `verify-ca` for `verify-full` and knows
//! no authorities of the system. So it speaks plain text to a socket in a folder that only we may enter, and a
//! task of ours carries the bytes from there, over the same TLS as every other session.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hutong_core::{Error, ErrorKind, Result, ResultExt};
use rustls::pki_types::ServerName;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader, copy_buf};
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

const DOING: &str = "connect to PostgreSQL for replication";

/// How long to wait for the server where the address does not say, and for the reader, which comes at once.
const PATIENCE: Duration = Duration::from_secs(10);

/// As much as a TLS record holds, a few times over.
const BUFFER: usize = 64 * 1024;

/// Connects, and returns the folder of the socket where the session is to be had, once: PostgreSQL's clients take
/// it for a host. `None`: the server has no TLS, and the address can do without it.
pub(crate) async fn open(address: &Address, host: &str, to: &str, port: u16) -> Result<Option<PathBuf>> {
    if address.tls.is_disabled() {
        return Ok(None);
    }
    let wait = address.config.get_connect_timeout().copied().unwrap_or(PATIENCE);
    let connected = timeout(wait, connect(address, host, to, port)).await;
    let connected =
        connected.unwrap_or_else(|_| Err(Error::new(ErrorKind::Unavailable, DOING, "no answer in time")));
    let Some(server) = connected? else { return Ok(None) };
    let mut private = tempfile::Builder::new();
    private.prefix("hutong-").permissions(Permissions::from_mode(0o700));
    let local = private.tempdir().and_then(|folder| {
        let listener = UnixListener::bind(folder.path().join(format!(".s.PGSQL.{port}")))?;
        Ok((folder, listener))
    });
    let (folder, listener) = local
        .or_kind(ErrorKind::Config, || "make a socket in the folder of temporary files".to_owned())
        .map_err(|e| e.hint("set TMPDIR to a folder with a short name that Hutong may write to"))?;
    let path = folder.path().to_owned();
    let mut mover = JoinSet::new();
    mover.spawn(async move {
        if let Err(error) = carry(folder, listener, server).await {
            tracing::debug!(%error, "a replication session ended");
        }
    });
    // Not ended with the session, which still has a farewell to send: it ends by itself right after.
    mover.detach_all();
    Ok(Some(path))
}

/// Waits for the reader, then carries bytes until one of the two ends.
async fn carry(folder: TempDir, listener: UnixListener, server: TlsStream<TcpStream>) -> io::Result<()> {
    let (reader, _) = timeout(PATIENCE, listener.accept()).await??;
    // Nobody else comes in, and a kill leaves nothing in the file system.
    drop((listener, folder));
    let (from_server, mut to_server) = tokio::io::split(server);
    let (from_reader, mut to_reader) = reader.into_split();
    let mut from_server = BufReader::with_capacity(BUFFER, from_server);
    let mut from_reader = BufReader::with_capacity(BUFFER, from_reader);
    tokio::select! {
        carried = copy_buf(&mut from_server, &mut to_reader) => carried.map(drop),
        carried = copy_buf(&mut from_reader, &mut to_server) => {
            carried?;
            to_server.shutdown().await
        }
    }
}

async fn connect(address: &Address, host: &str, to: &str, port: u16) -> Result<Option<TlsStream<TcpStream>>> {
    let client = address.tls.client()?;
    let unavailable = |error: io::Error| Error::caused(ErrorKind::Unavailable, DOING, error);
    let mut stream = TcpStream::connect((to, port)).await.map_err(unavailable)?;
    stream.set_nodelay(true).map_err(unavailable)?;
    if address.config.get_ssl_negotiation() == SslNegotiation::Postgres {
        stream.write_all(&SSL_REQUEST).await.map_err(unavailable)?;
        // Exactly one byte: whatever came after it would not be protected by TLS.
        if stream.read_u8().await.map_err(unavailable)? != b'S' {
            if !address.tls.is_required() {
                return Ok(None);
            }
            return Err(tls::explained(Error::new(ErrorKind::Config, DOING, tls::NO_TLS)));
        }
    }
    let name = ServerName::try_from(host.to_owned()).or_kind(ErrorKind::Config, || DOING.to_owned())?;
    let stream = TlsConnector::from(Arc::new(client)).connect(name, stream).await;
    stream.map(Some).map_err(|error| tls::explained(unavailable(error)))
}
