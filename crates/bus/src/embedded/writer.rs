//! The one thread that writes: it takes all jobs that wait and commits them together.
//!
//! A job is a closure over the writing connection. Each runs in a savepoint of its own, so that one that
//! fails (a fenced lane) leaves the others alone; nobody is answered before the group is durable (I1).

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

use hutong_core::{Error, ErrorKind, Result, ResultExt};
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot, watch};

use super::error;

/// How many jobs may wait; more wait in their callers.
const WAITING: usize = 64;

/// The names of the topics that a job has written to, to wake their readers.
pub(super) type Touched = BTreeSet<Arc<str>>;

type Reply = Box<dyn FnOnce(Result<()>) + Send>;

type Job = Box<dyn FnOnce(Turn<'_>) -> (bool, Reply) + Send>;

/// What a job gets when its turn comes.
enum Turn<'a> {
    /// The connection, in the job's savepoint.
    Run(&'a Connection, &'a mut Touched),
    /// The group has failed already.
    Refuse(Error),
}

/// The writing end of the bus's file. Dropping it waits until the thread has ended and the file is closed.
pub(super) struct Writer {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

/// Wakes the readers of a topic when something of it was committed.
#[derive(Default)]
pub(super) struct Wakes(Mutex<HashMap<Arc<str>, watch::Sender<()>>>);

impl Writer {
    /// Starts the thread.
    pub(super) fn start(db: Connection, wakes: Arc<Wakes>) -> Result<Self> {
        let (jobs, mut waiting) = mpsc::channel::<Job>(WAITING);
        let thread = Builder::new()
            .name("hutong-bus".into())
            .spawn(move || {
                while let Some(first) = waiting.blocking_recv() {
                    let mut group = vec![first];
                    while group.len() < WAITING
                        && let Ok(job) = waiting.try_recv()
                    {
                        group.push(job);
                    }
                    commit(&db, group, &wakes);
                }
            })
            .or_kind(ErrorKind::Unavailable, || "start the bus's writing thread".into())?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Runs `work` in the next transaction and returns its result when that is durable.
    ///
    /// `Err` of the work itself undoes the work and nothing else. Dropping the future before the end leaves
    /// the outcome unknown.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection, &mut Touched) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |turn| {
            let result = match turn {
                Turn::Run(db, touched) => work(db, touched),
                Turn::Refuse(error) => Err(error),
            };
            let kept = result.is_ok();
            // Nobody may wait any more: a caller that was dropped.
            (
                kept,
                Box::new(move |committed: Result<()>| {
                    let _ = reply.send(result.and_then(|value| committed.map(|()| value)));
                }),
            )
        });
        let gone = || Error::new(ErrorKind::Unavailable, "write to the bus", "its writing thread has ended");
        let jobs = self.jobs.as_ref().ok_or_else(gone)?;
        jobs.send(job).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.jobs.take();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was answered to its callers as "has ended".
            let _ = thread.join();
        }
    }
}

impl Wakes {
    /// Returns a receiver that sees every later commit to the topic.
    pub(super) fn listen(&self, topic: &Arc<str>) -> watch::Receiver<()> {
        let mut senders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        senders.entry(Arc::clone(topic)).or_insert_with(|| watch::Sender::new(())).subscribe()
    }

    fn wake(&self, touched: &Touched) {
        let senders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for topic in touched {
            if let Some(sender) = senders.get(topic) {
                sender.send_replace(());
            }
        }
    }
}

/// Runs a group in one transaction, makes it durable, then wakes and answers.
fn commit(db: &Connection, group: Vec<Job>, wakes: &Wakes) {
    let mut touched = Touched::new();
    let mut replies: Vec<Reply> = Vec::with_capacity(group.len());
    let mut outcome =
        db.execute_batch("BEGIN IMMEDIATE").map_err(|e| error::of("begin a write to the bus", &e));
    for job in group {
        if let Err(fault) = &outcome {
            replies.push(job(Turn::Refuse(error::again(fault))).1);
            continue;
        }
        let (reply, ran) = in_savepoint(db, job, &mut touched);
        replies.push(reply);
        outcome = ran;
    }
    if outcome.is_ok() {
        outcome = db.execute_batch("COMMIT").map_err(|e| error::of("commit to the bus", &e));
    }
    if outcome.is_err() && !db.is_autocommit() {
        // Nothing to do when this fails too: the next BEGIN says it to its callers.
        let _ = db.execute_batch("ROLLBACK");
    }
    if outcome.is_ok() {
        wakes.wake(&touched);
    }
    for reply in replies {
        reply(match &outcome {
            Ok(()) => Ok(()),
            Err(fault) => Err(error::again(fault)),
        });
    }
}

/// Runs one job. `Err` beside its reply: the whole transaction is lost, as SQLite does when a disk is full.
fn in_savepoint(db: &Connection, job: Job, touched: &mut Touched) -> (Reply, Result<()>) {
    if let Err(e) = db.execute_batch("SAVEPOINT job") {
        let fault = error::of("write to the bus", &e);
        return (job(Turn::Refuse(error::again(&fault))).1, Err(fault));
    }
    let mut topics = Touched::new();
    let (kept, reply) = job(Turn::Run(db, &mut topics));
    if kept {
        touched.append(&mut topics);
    }
    if db.is_autocommit() {
        let why = "the disk is full or refuses to write, and the transaction was undone";
        return (
            reply,
            Err(Error::new(ErrorKind::Unavailable, "write to the bus", why)
                .hint("look at the disk that holds the bus's folder")),
        );
    }
    let end = if kept { "RELEASE job" } else { "ROLLBACK TO job; RELEASE job" };
    (reply, db.execute_batch(end).map_err(|e| error::of("write to the bus", &e)))
}
