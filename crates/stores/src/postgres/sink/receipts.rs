//! Reads the receipts that lanes have left in a store, for who publishes them, over a session that stays open.
//!
//! Knows `hutong_lane` and `hutong_receipt`; nothing of topics.

use std::collections::BTreeMap;

use hutong_core::ledger::{Head, Kept, receipt};
use hutong_core::{Result, Secret};

use super::quarantine;
use crate::postgres::connect::{self, Session};
use crate::postgres::error;
use crate::receipt::{head, kept};

/// The receipts of one store.
pub struct Receipts {
    url: Secret,
    session: Option<Session>,
}

impl Receipts {
    /// Makes the reader; nothing is touched before the first question.
    pub fn new(url: Secret) -> Self {
        Self { url, session: None }
    }

    /// Takes the session out: it is put back only when it has answered.
    async fn session(&mut self) -> Result<Session> {
        match self.session.take().filter(|session| !session.is_closed()) {
            Some(session) => Ok(session),
            None => connect::open(&self.url, "receipts").await,
        }
    }

    /// Returns the head of each lane's chain; nothing of a lane that has left no receipt under a ledger.
    pub async fn heads(&mut self) -> Result<BTreeMap<String, Head>> {
        let session = self.session().await?;
        if !quarantine::there(&session).await? {
            return Ok(BTreeMap::new());
        }
        let sql = r#"SELECT lane, "position" -> 'notes' ->> $1 FROM hutong.hutong_lane
                      WHERE "position" -> 'notes' ->> $1 IS NOT NULL"#;
        let rows = session.query(sql, &[&receipt::NOTE]).await;
        let rows = rows.map_err(|e| error::of(e, || "read the lanes of a store".into()))?;
        self.session = Some(session);
        rows.iter().map(|row| Ok((row.get(0), head(row.get(0), row.get(1))?))).collect()
    }

    /// Returns the receipts of a lane that have this number in its chain or a later one, in their order.
    pub async fn since(&mut self, lane: &str, sequence: u64, limit: usize) -> Result<Vec<Kept>> {
        let session = self.session().await?;
        let sql = "SELECT proof, written, deleted, quarantined, (extract(epoch FROM at) * 1000000)::int8
                     FROM hutong.hutong_receipt WHERE lane = $1 AND sequence >= $2 ORDER BY sequence LIMIT $3";
        let (sequence, limit) = (sequence.cast_signed(), limit as i64);
        let rows = session.query(sql, &[&lane, &sequence, &limit]).await;
        let rows = rows.map_err(|e| error::of(e, || format!("read the receipts of {lane}")))?;
        self.session = Some(session);
        rows.iter()
            .map(|row| kept(lane, row.get(0), [row.get(1), row.get(2), row.get(3)], row.get(4)))
            .collect()
    }

    /// Forgets the receipts of a lane up to this number in its chain; returns how many.
    pub async fn forget(&mut self, lane: &str, sequence: u64) -> Result<u64> {
        let session = self.session().await?;
        let sql = "DELETE FROM hutong.hutong_receipt WHERE lane = $1 AND sequence <= $2";
        let gone = session.execute(sql, &[&lane, &sequence.cast_signed()]).await;
        let gone = gone.map_err(|e| error::of(e, || format!("forget the receipts of {lane}")))?;
        self.session = Some(session);
        Ok(gone)
    }
}
