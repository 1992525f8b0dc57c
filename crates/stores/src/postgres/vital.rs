//! Asks a PostgreSQL server now and then how it is, with a session of its own: also when no lane can open.

use std::time::Instant;

use hutong_core::{Result, Secret};

use super::connect::{self, Session};
use super::{error, slot};

/// What a server keeps for one capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The capture.
    pub capture: String,
    /// Bytes of the log that its slot holds back.
    pub bytes: u64,
    /// Bytes that may still be written before the server drops them; `None` without a limit.
    pub safe_bytes: Option<u64>,
    /// Whether it has dropped some already.
    pub lost: bool,
}

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vital {
    /// Its clock minus this machine's, microseconds, as far as the way there and back lets tell.
    pub clock_us: i64,
    /// What it keeps, by capture.
    pub kept: Vec<Kept>,
    /// The captures that have no slot: not yet, or not any more.
    pub gone: Vec<String>,
}

/// Asks one server, over a session that stays open from one question to the next.
pub struct Pulse {
    url: Secret,
    captures: Vec<String>,
    session: Option<Session>,
}

impl Pulse {
    /// Makes it; nothing is touched before the first question.
    pub fn new(url: Secret, captures: Vec<String>) -> Self {
        Self { url, captures, session: None }
    }

    /// Asks. After `Err`, and after a call that was dropped, the next one connects anew.
    pub async fn ask(&mut self, now_us: impl Fn() -> i64 + Send) -> Result<Vital> {
        // Put back only when it has answered.
        let session = match self.session.take() {
            Some(session) => session,
            None => connect::open(&self.url, "pulse").await?,
        };
        let (before, began) = (now_us(), Instant::now());
        let row = session
            .query_one("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8", &[])
            .await
            .map_err(|e| error::of(e, || "ask PostgreSQL for its time".to_owned()))?;
        let half_us = (began.elapsed() / 2).as_micros() as i64;
        let there_us: i64 = row.get(0);
        let (mut kept, mut gone) = (Vec::new(), Vec::new());
        for capture in &self.captures {
            match ask_slot(&session, capture).await? {
                Some(slot) => kept.push(slot),
                None => gone.push(capture.clone()),
            }
        }
        self.session = Some(session);
        Ok(Vital { clock_us: there_us - (before + half_us), kept, gone })
    }
}

async fn ask_slot(session: &Session, capture: &str) -> Result<Option<Kept>> {
    let name = slot::name(capture)?;
    let row = session
        .query_opt(
            // A standby has no current place; a lost slot has no restart place. `greatest` makes nothing of NULL.
            "SELECT greatest(CASE WHEN pg_is_in_recovery() THEN 0 \
               ELSE pg_current_wal_lsn() - restart_lsn END, 0)::int8, \
               CASE WHEN safe_wal_size IS NOT NULL THEN greatest(safe_wal_size, 0) END, coalesce(wal_status = 'lost', false) \
             FROM pg_replication_slots WHERE slot_name = $1 AND database = current_database()",
            &[&name],
        )
        .await
        .map_err(|e| error::of(e, || format!("ask what the replication slot {name} holds back")))?;
    Ok(row.map(|row| Kept {
        capture: capture.to_owned(),
        bytes: row.get::<_, i64>(0) as u64,
        safe_bytes: row.get::<_, Option<i64>>(1).map(|bytes| bytes as u64),
        lost: row.get(2),
    }))
}
