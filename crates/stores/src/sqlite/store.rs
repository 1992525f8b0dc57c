//! The one writer of a file: a thread that commits the work of all waiting lanes together.
//!
//! SQLite has one writer at a time, and a commit costs a flush of the disk. So whatever waits is written in one
//! transaction, each lane in a savepoint of its own: a lane that fails takes back its own work only.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hutong_core::{Error, ErrorKind, Result};
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::error::Context;
use super::opened::Opened;
use super::{connect, lane};

/// How many lanes one transaction commits at most.
const GROUP: usize = 64;

/// What is being done where a whole transaction fails.
pub(super) const COMMIT: &str = "commit to the store";

/// How often one group is run again because a trigger of the department rolled it back.
const AGAIN: usize = 1_000;

/// A SQLite file that sinks write. All that share it share the one writer, whose thread ends with it, or when another
/// file stands in its place.
pub struct Store {
    path: PathBuf,
    writer: Mutex<Option<Writer>>,
}

/// The way to the writer, and the file that it has open.
#[derive(Clone)]
struct Writer {
    queue: mpsc::Sender<Box<dyn Task>>,
    file: Arc<Opened>,
}

/// Work for the writer. It may be run more than once before it is finished.
trait Task: Send {
    /// Does the work in the transaction that is open.
    fn run(&mut self, connection: &Connection) -> Ran;
    /// Answers the caller; `failed` when the transaction was not committed.
    fn finish(self: Box<Self>, failed: Option<&Error>);
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
    /// Names a file. Touches nothing; it is opened, and made when it is not there, by the first that writes. One that
    /// was there before in this process is not made again.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), writer: Mutex::new(None) }
    }

    /// Returns the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `work` in the writer's next transaction and waits until that is committed. Returns also the file into which
    /// it went.
    ///
    /// `work` returns `None` when it finds that the transaction is gone, and is then run again. After `Err`
    /// nothing of it is in the file, but for `ErrorKind::Unknown`.
    pub(super) async fn open<T, F>(&self, work: F) -> Result<(T, Arc<Opened>)>
    where
        T: Send + 'static,
        F: FnMut(&Connection) -> Result<Option<T>> + Send + 'static,
    {
        self.send(None, work, ErrorKind::Unavailable).await
    }

    /// As [`Store::open`], into no other file than this one: what a lane knows is of the file that it has opened (I2).
    pub(super) async fn write<T, F>(&self, file: &Arc<Opened>, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&Connection) -> Result<Option<T>> + Send + 'static,
    {
        // Another lane's row may cure a deferred constraint; the lane must not skip it.
        self.send(Some(file), work, ErrorKind::Unavailable).await.map(|(done, _)| done)
    }

    /// As [`Store::write`], for work that nothing depends on: `Err(Refused)` when a constraint refuses it at COMMIT.
    pub(super) async fn attempt<T, F>(&self, file: &Arc<Opened>, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&Connection) -> Result<Option<T>> + Send + 'static,
    {
        self.send(Some(file), work, ErrorKind::Refused).await.map(|(done, _)| done)
    }

    /// Fails when the file that a lane has opened is no longer the one that is written, or that stands at its path.
    pub(super) fn holds(&self, file: &Arc<Opened>) -> Result<()> {
        let written = self.lock().as_ref().is_some_and(|writer| writer.is_of(file) && writer.is_there());
        if written { file.stands() } else { Err(opened_anew()) }
    }

    async fn send<T, F>(
        &self,
        file: Option<&Arc<Opened>>,
        work: F,
        refused: ErrorKind,
    ) -> Result<(T, Arc<Opened>)>
    where
        T: Send + 'static,
        F: FnMut(&Connection) -> Result<Option<T>> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let gone = || Error::new(ErrorKind::Unknown, "write to the store", "its writer has ended");
        let writer = self.writer().await?;
        if file.is_some_and(|file| !writer.is_of(file)) {
            return Err(opened_anew());
        }
        let work = Work { work, refused, outcome: None, reply };
        writer.queue.send(Box::new(work)).await.map_err(|_| gone())?;
        let done = answer.await.map_err(|_| gone())??;
        Ok((done, writer.file))
    }

    /// Returns the way to the writer, which is started when there is none.
    async fn writer(&self) -> Result<Writer> {
        if let Some(writer) = self.lock().as_ref().filter(|writer| writer.is_there()) {
            return Ok(writer.clone());
        }
        let path = self.path.clone();
        let opened = tokio::task::spawn_blocking(move || {
            let (connection, file) = Opened::open(&path, |known| connect::writer(&path, !known))?;
            lane::create(&connection)?;
            Ok::<_, Error>((connection, file))
        });
        let (connection, file) =
            opened.await.map_err(|e| Error::caused(ErrorKind::Unavailable, "open a store", e))??;
        let mut held = self.lock();
        if let Some(writer) = held.as_ref().filter(|writer| writer.is_there()) {
            // Another lane was faster.
            return Ok(writer.clone());
        }
        let (queue, waiting) = mpsc::channel(GROUP);
        let writer = Writer { queue, file: Arc::new(file) };
        let file = Arc::clone(&writer.file);
        std::thread::Builder::new()
            .name("sqlite store".into())
            .spawn(move || run(&connection, &file, waiting))
            .map_err(|e| Error::caused(ErrorKind::Unavailable, "start the writer of a store", e))?;
        *held = Some(writer.clone());
        Ok(writer)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Writer>> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    fn is_there(&self) -> bool {
        !self.queue.is_closed()
    }

    /// States whether this is the file that it has open, by the very opening: an inode is given out again.
    fn is_of(&self, file: &Arc<Opened>) -> bool {
        Arc::ptr_eq(&self.file, file)
    }
}

fn opened_anew() -> Error {
    let why = "the file was opened anew since the lane was, or its writer has ended";
    Error::new(ErrorKind::Unavailable, "write to the store", why)
}

/// The writer: takes what waits, and ends when the store is gone, or its file.
fn run(connection: &Connection, file: &Opened, mut waiting: mpsc::Receiver<Box<dyn Task>>) {
    while let Some(first) = waiting.blocking_recv() {
        let mut group = vec![first];
        while group.len() < GROUP
            && let Ok(next) = waiting.try_recv()
        {
            group.push(next);
        }
        if let Err(gone) = file.stands() {
            // The next lane that opens takes what stands there then.
            waiting.close();
            while let Some(next) = waiting.blocking_recv() {
                group.push(next);
            }
            group.into_iter().for_each(|task| task.finish(Some(&gone)));
            return;
        }
        write_group(connection, file, group);
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

    fn finish(self: Box<Self>, failed: Option<&Error>) {
        let outcome = match (self.outcome, failed) {
            // Its own error says more than that of the group.
            (Some(Err(error)), _) => Err(error),
            (_, Some(failed)) => {
                let kind = if failed.kind == ErrorKind::Refused { self.refused } else { failed.kind };
                Err(Error { hint: failed.hint.clone(), ..Error::new(kind, COMMIT, failed.why()) })
            }
            (Some(Ok(value)), None) => Ok(value),
            (None, None) => Err(Error::new(ErrorKind::Unknown, COMMIT, "it was not run")),
        };
        // A caller that no longer waits finds out by opening its lane again.
        let _ = self.reply.send(outcome);
    }
}

fn write_group(connection: &Connection, file: &Opened, mut group: Vec<Box<dyn Task>>) {
    let mut outcome =
        Err(Error::new(ErrorKind::Broken, "commit to the store", "triggers roll it back again and again"));
    for _ in 0..AGAIN {
        match attempt(connection, file, &mut group) {
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
            group.into_iter().for_each(|task| write_group(connection, file, vec![task]));
        }
        Err(error) => group.into_iter().for_each(|task| task.finish(Some(&error))),
    }
}

/// Runs the group in one transaction and commits it; `Ok(false)` when it must be run again.
fn attempt(connection: &Connection, file: &Opened, group: &mut [Box<dyn Task>]) -> Result<bool> {
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
    // What is committed into a file that is gone, nobody reads.
    file.stands()?;
    connection.execute_batch("COMMIT").doing(doing)?;
    Ok(true)
}
