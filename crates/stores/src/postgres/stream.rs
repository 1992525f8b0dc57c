//! Opens the replication session of a capture.

use std::time::Duration;

use hutong_core::{Error, Result, Secret};
use pgwire_replication::client::{IdentifySystem, ReplicationClient};
use pgwire_replication::{Lsn, ReplicationConfig};
use tokio_postgres::config::Host;

use super::lost::{self, Stand};
use super::{address, connect, error, relay};

/// Connects, and asks which system this is. Nothing is streamed before [`start`].
pub(crate) async fn connect(
    url: &Secret,
    user: &str,
    database: &str,
    slot: &str,
    from: u64,
) -> Result<(ReplicationClient, IdentifySystem)> {
    let address = address::parse(url)?;
    let port = address.config.get_ports().first().copied().unwrap_or(5432);
    let host = match address.config.get_hosts().first() {
        Some(Host::Tcp(host)) => host.clone(),
        Some(Host::Unix(folder)) => folder.to_string_lossy().into_owned(),
        None => "localhost".to_owned(),
    };
    // As in libpq: one may say where to connect to apart from the name that a certificate must have.
    let to = address.config.get_hostaddrs().first().map_or_else(|| host.clone(), ToString::to_string);
    let secured = relay::open(&address, &host, &to, port).await?;
    let to = secured.map_or(to, |folder| folder.to_string_lossy().into_owned());
    let password = address.config.get_password().map(String::from_utf8_lossy).unwrap_or_default();
    let mut config = ReplicationConfig::new(to, user, password, database, slot, slot)
        .with_port(port)
        .with_start_lsn(Lsn(from))
        // Rows may be large, and this bounds them by number only; a larger one was no faster.
        .with_buffer_size(64)
        // An ack reaches the server within this time.
        .with_status_interval(Duration::from_secs(1))
        .with_wakeup_interval(Duration::from_secs(5))
        .with_application_name(format!("hutong {slot}"));
    config.options = Some(connect::SETTINGS.to_owned());
    let doing = || format!("open the replication session of {slot}");
    let mut client =
        ReplicationClient::connect_gated(config).await.map_err(|e| error::of_stream(e, doing))?;
    let system = client.identify_system().await.map_err(|e| error::of_stream(e, doing))?;
    Ok((client, system))
}

/// Starts to stream; the slot is held when it returns.
pub(crate) async fn start(client: &mut ReplicationClient, stand: &Stand, end: u64) -> Result<()> {
    let doing = || format!("read the replication slot {}", stand.slot);
    client.start().await.map_err(|e| error::of_stream(e, doing))?;
    client.wait_started().await.map_err(|e| failed(e, stand, end))
}

/// After a failover, says whether the checkpoint lies on the history of the new timeline.
pub(crate) async fn same_history(
    client: &mut ReplicationClient,
    stand: &Stand,
    noted: u32,
    timeline: u32,
    end: u64,
) -> Result<()> {
    let history = client
        .timeline_history(timeline)
        .await
        .map_err(|e| error::of_stream(e, || format!("read the history of timeline {timeline}")))?;
    match switched_at(&String::from_utf8_lossy(&history.content), noted) {
        Some(switched) if stand.lsn <= switched => {
            tracing::info!(
                slot = stand.slot,
                noted,
                timeline,
                "the server is on a new timeline, which holds the checkpoint"
            );
            Ok(())
        }
        Some(switched) => {
            let why = format!(
                "the server is on timeline {timeline}, and timeline {noted}, which the checkpoint was made on, ended at {}, \
                 before the checkpoint",
                lost::text(switched)
            );
            Err(stand.lost(why, end))
        }
        None => {
            let why = format!(
                "the server is on timeline {timeline}, which does not come from timeline {noted}, which the checkpoint \
                 was made on"
            );
            Err(stand.lost(why, end))
        }
    }
}

/// Returns where a timeline ended, as a history file says it: lines of `timeline`, place, reason.
fn switched_at(history: &str, timeline: u32) -> Option<u64> {
    history.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next()?.parse() == Ok(timeline)).then_some(())?;
        Lsn::parse(words.next()?).ok().map(|lsn| lsn.as_u64())
    })
}

/// Wraps an error of the stream; a slot whose log is gone is `PositionLost`. `end` is where the log ended last.
pub(crate) fn failed(error: pgwire_replication::PgWireError, stand: &Stand, end: u64) -> Error {
    let text = error.to_string();
    // A publication that somebody dropped and we made again did not exist at the time of the changes.
    let unpublished = text.contains("publication") && text.contains("does not exist");
    if unpublished || text.contains("can no longer get changes") || text.contains("requested WAL segment") {
        return stand.lost(text, end);
    }
    error::of_stream(error, || format!("read the replication slot {}", stand.slot))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_says_where_a_timeline_ended() {
        let history = "1\t0/3000158\tno recovery target specified\n\n2\t1/A0\tbefore 2026-01-01\n";
        assert_eq!(switched_at(history, 1), Some(0x300_0158));
        assert_eq!(switched_at(history, 2), Some(0x1_0000_00a0));
        assert_eq!(switched_at(history, 3), None);
    }
}
