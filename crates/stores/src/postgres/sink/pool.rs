//! The few connections that the lanes of a store share.
//!
//! Knows sessions, their settings and their prepared statements; nothing of lanes or tables.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

use hutong_core::{Error, ErrorKind, Result, Secret};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::lane::Fixed;
use super::stage::{self, Stage};
use super::table::Plan;
use crate::postgres::connect::{self, Session};
use crate::postgres::error;

/// Sessions wait this long for a row or a table. A transaction whose owner stands still is ended by the server before
/// the lane is given to another process, which takes six seconds on Kafka: then its next owner goes on (I7).
const SETTINGS: &str = "SET lock_timeout = '15s'; SET statement_timeout = '10min'; \
                        SET idle_in_transaction_session_timeout = '6s'";

/// Lifts the time limit of a statement for the transaction: a large replica is not removed in minutes.
pub(super) const UNHURRIED: &str = "SET LOCAL statement_timeout = 0";
/// Puts back the time limit that sessions have.
pub(super) const HURRIED: &str = "SET LOCAL statement_timeout = '10min'";

/// The connections to one store, shared by its lanes. Clones share them.
#[derive(Clone)]
pub struct Pool {
    url: Secret,
    permits: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Pool {
    /// Makes a pool of at most `limit` connections; opens none yet.
    pub fn new(url: Secret, limit: usize) -> Self {
        Self { url, permits: Arc::new(Semaphore::new(limit.max(1))), idle: Arc::default() }
    }

    /// Returns a connection, a new one when none is idle; waits while all are in use.
    ///
    /// Cancel safe: a call that is dropped takes nothing.
    pub(super) async fn lease(&self) -> Result<Lease> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| {
            Error::new(ErrorKind::Broken, "take a connection of the store", "the pool is closed")
        })?;
        let idle = loop {
            let next = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            match next {
                Some(connection) if connection.session.is_closed() => {}
                other => break other,
            }
        };
        let connection = match idle {
            Some(connection) => connection,
            None => Connection::open(&self.url).await?,
        };
        Ok(Lease { connection: Some(connection), idle: Arc::clone(&self.idle), clean: true, _permit: permit })
    }
}

/// One connection with what it has prepared.
pub(super) struct Connection {
    pub(super) session: Session,
    /// Statements that every lane needs.
    pub(super) fixed: Option<Arc<Fixed>>,
    /// What carries staged rows into replicas, by what it does.
    stages: HashMap<String, Arc<Stage>>,
    /// The names of the staging tables, by their columns. Fifty replicas of one shape share one: each commit empties
    /// all that the session has, which with fifty takes longer than to apply the rows.
    staging: HashMap<String, String>,
}

impl Connection {
    async fn open(url: &Secret) -> Result<Self> {
        let session = connect::open(url, "sink").await?;
        session.batch_execute(SETTINGS).await.map_err(|e| error::of(e, || "set up a session".into()))?;
        Ok(Self { session, fixed: None, stages: HashMap::new(), staging: HashMap::new() })
    }

    /// Prepares the statements that every lane needs, once a connection. Hutong's tables must be there.
    pub(super) async fn fix(&mut self) -> Result<()> {
        if self.fixed.is_none() {
            self.fixed = Some(Arc::new(Fixed::prepare(&self.session).await?));
        }
        Ok(())
    }

    /// Returns the stage of a plan, made when it is first asked for. Not within a transaction.
    pub(super) async fn stage(&mut self, plan: &Plan) -> Result<Arc<Stage>> {
        let signature = stage::signature(plan);
        if let Some(stage) = self.stages.get(&signature) {
            return Ok(Arc::clone(stage));
        }
        let failed = |e| error::of(e, || format!("prepare to write into {}", plan.table.plain()));
        let columns = stage::columns(plan);
        let name = match self.staging.get(&columns) {
            Some(name) => name.clone(),
            None => {
                let name = stage::create(&self.session, &columns).await.map_err(failed)?;
                self.staging.entry(columns).or_insert(name).clone()
            }
        };
        let stage = Arc::new(Stage::prepare(&self.session, name, plan).await.map_err(failed)?);
        self.stages.insert(signature, Arc::clone(&stage));
        Ok(stage)
    }
}

/// A connection in use. It goes back to the pool only when nothing was left open on it.
pub(super) struct Lease {
    connection: Option<Connection>,
    idle: Arc<Mutex<Vec<Connection>>>,
    /// States that no transaction is open on it; false while one may be.
    pub(super) clean: bool,
    _permit: OwnedSemaphorePermit,
}

impl Deref for Lease {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection.as_ref().expect("only drop takes the connection out")
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut Connection {
        self.connection.as_mut().expect("only drop takes the connection out")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        // A commit that was dropped half way leaves its transaction open: the server ends it with the connection.
        if self.clean && !connection.session.is_closed() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
    }
}
