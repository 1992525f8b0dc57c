//! Opens SQL sessions to PostgreSQL, all with the same settings, so that a value always has the same text.
//!
//! Knows the address and the session settings; nothing of tables, slots or rows.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use hutong_core::{Error, ErrorKind, Result, Secret};
use tokio::task::JoinSet;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config, NoTls};

use super::error;

/// The settings of every session of Hutong, also of the replication session: they decide the text of a value.
pub const SETTINGS: &str = "-c DateStyle=ISO,MDY -c TimeZone=UTC -c IntervalStyle=iso_8601 \
     -c extra_float_digits=1 -c bytea_output=hex -c standard_conforming_strings=on \
     -c idle_session_timeout=0 -c statement_timeout=0";

/// One SQL session: a [`Client`] with the task that moves its bytes, which ends with it.
pub struct Session {
    client: Client,
    /// The backend's process id, by which another session can recognise or end it.
    pub pid: i32,
    // Held only to be dropped with the session: dropping the set ends the task.
    _mover: JoinSet<()>,
}

impl Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

/// Reads an address (`postgres://user:password@host:port/database` or `host=… dbname=…`).
///
/// `Err(Config)` does not repeat the address, since it may hold a password.
pub fn parse(url: &Secret) -> Result<Config> {
    let mut config: Config = url.reveal().parse().map_err(|_: tokio_postgres::Error| {
        Error::new(
            ErrorKind::Config,
            "read the address of a PostgreSQL store",
            "it is not a PostgreSQL address",
        )
        .hint("write postgres://user@host:5432/database")
    })?;
    if config.get_ssl_mode() == SslMode::Require {
        return Err(Error::new(
            ErrorKind::Config,
            "read the address of a PostgreSQL store",
            "sslmode=require is asked for, and this build does not speak TLS to PostgreSQL",
        ));
    }
    let options = match config.get_options() {
        Some(own) => format!("{own} {SETTINGS}"),
        None => SETTINGS.to_owned(),
    };
    config.options(&options);
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(Duration::from_secs(10));
    }
    Ok(config)
}

/// Opens a session; `purpose` appears in `pg_stat_activity` as `hutong <purpose>`.
pub async fn open(url: &Secret, purpose: &str) -> Result<Session> {
    let mut config = parse(url)?;
    config.application_name(format!("hutong {purpose}"));
    let (client, connection) =
        config.connect(NoTls).await.map_err(|e| error::of(e, || "connect to PostgreSQL".to_owned()))?;
    let mut mover = JoinSet::new();
    mover.spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(error = %error::text(&error), "a PostgreSQL session ended");
        }
    });
    let row = client
        .query_one("SELECT pg_backend_pid()", &[])
        .await
        .map_err(|e| error::of(e, || "ask PostgreSQL for its process id".to_owned()))?;
    Ok(Session { client, pid: row.get(0), _mover: mover })
}
