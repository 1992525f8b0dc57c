//! Opens the replication session of a capture.

use std::time::Duration;

use hutong_core::{Error, ErrorKind, Result, Secret};
use pgwire_replication::client::{IdentifySystem, ReplicationClient};
use pgwire_replication::{Lsn, ReplicationConfig};
use tokio_postgres::config::Host;

use super::{connect, error};

/// Connects, and asks which system this is. Nothing is streamed before [`start`].
pub(crate) async fn connect(
    url: &Secret,
    user: &str,
    database: &str,
    slot: &str,
    from: u64,
) -> Result<(ReplicationClient, IdentifySystem)> {
    let address = connect::parse(url)?;
    let port = address.get_ports().first().copied().unwrap_or(5432);
    let host = match address.get_hosts().first() {
        Some(Host::Tcp(host)) => host.clone(),
        Some(Host::Unix(folder)) => folder.to_string_lossy().into_owned(),
        None => "localhost".to_owned(),
    };
    let password = address.get_password().map(String::from_utf8_lossy).unwrap_or_default();
    let mut config = ReplicationConfig::new(host, user, password, database, slot, slot)
        .with_port(port)
        .with_start_lsn(Lsn(from))
        // An ack reaches the server within this time.
        .with_status_interval(Duration::from_secs(1))
        .with_wakeup_interval(Duration::from_secs(5))
        .with_application_name(format!("hutong {slot}"));
    config.options = Some(connect::SETTINGS.to_owned());
    let doing = || format!("open the replication session of {slot}");
    let mut client = ReplicationClient::connect_gated(config).await.map_err(|e| error::of_stream(e, doing))?;
    let system = client.identify_system().await.map_err(|e| error::of_stream(e, doing))?;
    Ok((client, system))
}

/// Starts to stream; the slot is held when it returns.
pub(crate) async fn start(client: &mut ReplicationClient, slot: &str) -> Result<()> {
    let doing = || format!("read the replication slot {slot}");
    client.start().await.map_err(|e| error::of_stream(e, doing))?;
    client.wait_started().await.map_err(|e| failed(e, slot))
}

/// Wraps an error of the stream; a slot whose log is gone is `PositionLost`.
pub(crate) fn failed(error: pgwire_replication::PgWireError, slot: &str) -> Error {
    let text = error.to_string();
    if text.contains("can no longer get changes") || text.contains("requested WAL segment") {
        return lost(slot, text);
    }
    error::of_stream(error, || format!("read the replication slot {slot}"))
}

/// Makes the error of a position that the server no longer holds.
pub(crate) fn lost(slot: &str, why: impl Into<String>) -> Error {
    Error::new(ErrorKind::PositionLost, format!("go on reading the replication slot {slot}"), why).hint(
        "changes since the last committed position are gone from the log: remove the capture's slot with \
         `hutong source remove` and start it again with an empty checkpoint, which takes a new snapshot",
    )
}
