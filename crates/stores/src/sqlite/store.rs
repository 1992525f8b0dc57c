//! The one writer of a file: a thread that commits the work of all waiting lanes together.
//!
//! SQLite has one writer at a time, and a commit costs a flush of the disk. So whatever waits is written in one
//! transaction, each lane in a savepoint of its own: a lane that fails takes back its own work only.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hutong_core::{Error, ErrorKind, Result};
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::error::Context;
use super::{connect, lane};

/// How many lanes one transaction commits at most.
const GROUP: usize = 64;

/// What is being done where a whole transaction fails.
pub(super) const COMMIT: &str = "commit to the store";

/// How often one group is run again because a trigger of the department rolled it back.
const AGAIN: usize = 1_000;

/// A SQLite file that sinks write. All that share it share the one writer, whose thread ends with it.
pub struct Store {
    path: PathBuf,
    queue: Mutex<Option<mpsc::Sender<Box<dyn Task>>>>,
}

/// Work for the writer. It may be run more than once before it is finished.
trait Task: Send {
    /// Does the work in the transaction that is open.
    fn run(&mut self, connection: &Connection) -> Ran;
    /// Answers the caller; `failed` when the transaction was not committed.
    fn finish(self: Box<Self>, failed: Option<(ErrorKind, &str)>);
}

/// What became of a run.
#[derive(PartialEq)]
enum Ran {
    Done,
    /// It wants to be run again, since a trigger rolled the whole transaction back.
    Again,
    Failed,
}

struct Work<F, T> {
    work: F,
    /// What the caller hears when a constraint refuses the whole transaction at COMMIT.
    refused: ErrorKind,
    outcome: Option<Result<T>>,
    reply: oneshot::Sender<Result<T>>,
}

impl Store {
    /// Names a file. Touches nothing; it is opened, and made when it is not there, by the first that writes.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), queue: Mutex::new(None) }
    }

    /// Returns the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `work` in the writer's next transaction and waits until that is committed.
    ///
    /// `work` returns `None` when it finds that the transaction is gone, and is then run again. After `Err`
    /// nothing of it is in the file, but for `ErrorKind::Unknown`.
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&Connection) -> Result<Option<T>> + Send + 'static,
    {
        // Another lane's row may cure a deferred constraint; the lane must not skip it.
        self.send(work, ErrorKind::Unavailable).await
    }

    /// As [`Store::write`], for work that nothing depends on: `Err(Refused)` when a constraint refuses it at COMMIT.
    pub(super) async fn attempt<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&Connection) -> Result<Option<T>> + Send + 'static,
    {
        self.send(work, ErrorKind::Refused).await
    }

    async fn send<T, F>(&self, work: F, refused: ErrorKind) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&Connection) -> Result<Option<T>> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let gone = || Error::new(ErrorKind::Unknown, "write to the store", "its writer has ended");
        self.queue()
            .await?
            .send(Box::new(Work { work, refused, outcome: None, reply }))
            .await
            .map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Returns the way to the writer, which is started when there is none.
    async fn queue(&self) -> Result<mpsc::Sender<Box<dyn Task>>> {
        if let Some(queue) = self.lock().as_ref().filter(|q| !q.is_closed()) {
            return Ok(queue.clone());
        }
        let path = self.path.clone();
        let opened = tokio::task::spawn_blocking(move || {
            let connection = connect::writer(&path)?;
            lane::create(&connection)?;
            Ok::<_, Error>(connection)
        });
        let connection =
            opened.await.map_err(|e| Error::caused(ErrorKind::Unavailable, "open a store", e))??;
        let mut queue = self.lock();
        if let Some(queue) = queue.as_ref().filter(|q| !q.is_closed()) {
            // Another lane was faster.
            return Ok(queue.clone());
        }
        let (sender, waiting) = mpsc::channel(GROUP);
        std::thread::Builder::new()
            .name("sqlite store".into())
            .spawn(move || run(&connection, waiting))
            .map_err(|e| Error::caused(ErrorKind::Unavailable, "start the writer of a store", e))?;
        *queue = Some(sender.clone());
        Ok(sender)
    }

    fn lock(&self) -> MutexGuard<'_, Option<mpsc::Sender<Box<dyn Task>>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The writer: takes what waits, and ends when the store is gone.
fn run(connection: &Connection, mut waiting: mpsc::Receiver<Box<dyn Task>>) {
    while let Some(first) = waiting.blocking_recv() {
        let mut group = vec![first];
        while group.len() < GROUP
            && let Ok(next) = waiting.try_recv()
        {
            group.push(next);
        }
        write_group(connection, group);
    }
}

impl<T: Send, F: FnMut(&Connection) -> Result<Option<T>> + Send> Task for Work<F, T> {
    fn run(&mut self, connection: &Connection) -> Ran {
        match (self.work)(connection) {
            Ok(None) => Ran::Again,
            Ok(Some(value)) => {
                self.outcome = Some(Ok(value));
                Ran::Done
            }
            Err(error) => {
                self.outcome = Some(Err(error));
                Ran::Failed
            }
        }
    }

    fn finish(self: Box<Self>, failed: Option<(ErrorKind, &str)>) {
        let outcome = match (self.outcome, failed) {
            // Its own error says more than that of the group.
            (Some(Err(error)), _) => Err(error),
            (_, Some((kind, why))) => {
                let kind = if kind == ErrorKind::Refused { self.refused } else { kind };
                Err(Error::new(kind, COMMIT, why))
            }
            (Some(Ok(value)), None) => Ok(value),
            (None, None) => Err(Error::new(ErrorKind::Unknown, COMMIT, "it was not run")),
        };
        // A caller that no longer waits finds out by opening its lane again.
        let _ = self.reply.send(outcome);
    }
}

fn write_group(connection: &Connection, mut group: Vec<Box<dyn Task>>) {
    let mut outcome =
        Err(Error::new(ErrorKind::Broken, "commit to the store", "triggers roll it back again and again"));
    for _ in 0..AGAIN {
        match attempt(connection, &mut group) {
            Ok(true) => {
                outcome = Ok(());
                break;
            }
            Ok(false) => {}
            Err(error) => {
                outcome = Err(error);
                break;
            }
        }
    }
    if !connection.is_autocommit() {
        // Fails only when SQLite has rolled back by itself.
        let _ = connection.execute_batch("ROLLBACK");
    }
    match outcome {
        Ok(()) => group.into_iter().for_each(|task| task.finish(None)),
        // A deferred constraint shows at the commit only, and then of one lane: each for itself.
        Err(error) if error.kind == ErrorKind::Refused && group.len() > 1 => {
            group.into_iter().for_each(|task| write_group(connection, vec![task]));
        }
        Err(error) => {
            let why = error.why();
            group.into_iter().for_each(|task| task.finish(Some((error.kind, &why))));
        }
    }
}

/// Runs the group in one transaction and commits it; `Ok(false)` when it must be run again.
fn attempt(connection: &Connection, group: &mut [Box<dyn Task>]) -> Result<bool> {
    let doing = || COMMIT.to_owned();
    connection.execute_batch("BEGIN IMMEDIATE").doing(doing)?;
    for task in group.iter_mut() {
        connection.execute_batch("SAVEPOINT lane").doing(doing)?;
        let ran = task.run(connection);
        match (ran, connection.is_autocommit()) {
            (Ran::Again, true) => return Ok(false),
            (_, true) => {
                return Err(Error::new(
                    ErrorKind::Unavailable,
                    doing(),
                    "SQLite rolled the transaction back",
                ));
            }
            (Ran::Done, false) => connection.execute_batch("RELEASE lane").doing(doing)?,
            (Ran::Failed | Ran::Again, false) => {
                connection.execute_batch("ROLLBACK TO lane; RELEASE lane").doing(doing)?;
            }
        }
    }
    connection.execute_batch("COMMIT").doing(doing)?;
    Ok(true)
}
