//! Opens SQL sessions to PostgreSQL, all with the same settings, so that a value always has the same text.
//!
//! Knows the session settings; nothing of tables, slots or rows.

use std::ops::{Deref, DerefMut};

use hutong_core::{ErrorKind, Result, Secret};
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::address::{self, Address};
use super::{error, tls};

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

/// Opens a session; `purpose` appears in `pg_stat_activity` as `hutong <purpose>`.
pub async fn open(url: &Secret, purpose: &str) -> Result<Session> {
    let Address { mut config, tls } = address::parse(url)?;
    config.application_name(format!("hutong {purpose}"));
    let mut mover = JoinSet::new();
    let connected = if tls.is_disabled() {
        config.connect(NoTls).await.map(|(client, connection)| {
            mover.spawn(moved(connection));
            client
        })
    } else {
        config.connect(MakeRustlsConnect::new(tls.client()?)).await.map(|(client, connection)| {
            mover.spawn(moved(connection));
            client
        })
    };
    let client = connected.map_err(|e| {
        let advice = tls::advice(&e).or_else(|| about_encryption(&e));
        tls::advised(error::of(e, || "connect to PostgreSQL".to_owned()), advice)
    })?;
    let row = client
        .query_one("SELECT pg_backend_pid()", &[])
        .await
        .map_err(|e| error::of(e, || "ask PostgreSQL for its process id".to_owned()))?;
    Ok(Session { client, pid: row.get(0), _mover: mover })
}

async fn moved(connection: impl Future<Output = Result<(), tokio_postgres::Error>>) {
    if let Err(error) = connection.await {
        tracing::debug!(error = %error::text(&error), "a PostgreSQL session ended");
    }
}

/// Says what to do when `pg_hba.conf` has no line for us, and the reason may be the encryption.
fn about_encryption(error: &tokio_postgres::Error) -> Option<(ErrorKind, &'static str)> {
    let refused = error.as_db_error().filter(|error| error.code().code() == "28000")?;
    let hint = match refused.message() {
        text if text.ends_with(", no encryption") => {
            "the server may let us in over TLS only (hostssl): write sslmode=verify-full, or require"
        }
        text if text.ends_with(", SSL encryption") => {
            "the server may let us in without TLS only (hostnossl): write sslmode=disable"
        }
        _ => return None,
    };
    Some((ErrorKind::Denied, hint))
}
