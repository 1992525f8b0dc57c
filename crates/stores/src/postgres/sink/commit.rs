//! One transaction: rows, rejects, receipt and checkpoint, fenced by the epoch (I2).
//!
//! Knows the order of things in a commit; nothing of when it is tried again.

use std::collections::HashSet;
use std::sync::Arc;

use hutong_core::ledger::Proof;
use hutong_core::{Batch, Checkpoint, Error, ErrorKind, Op, Position, Rejected, Result};

use super::apply::{Apply, Limit, Mode, Way};
use super::beside::{self, Put};
use super::lane::{self, Counts};
use super::pool::{Connection, HURRIED, Lease, UNHURRIED};
use super::quarantine::{self, Waiting};
use super::refusal::{Fault, Refusal};
use super::table::Plan;
use crate::fold::{End, Folded, Key, STORE, UNKNOWN_VALUE, reject};
use crate::keep;
use crate::postgres::error;
use crate::postgres::ident::{TableName, literal};
use crate::reread::{self, BEHIND, Tally};

/// What a commit needs to know of its lane.
pub(super) struct Context<'a> {
    pub(super) lane: &'a str,
    pub(super) table: &'a TableName,
    pub(super) grant: &'a str,
    pub(super) epoch: i64,
    pub(super) from: &'a Checkpoint,
    pub(super) to: &'a Checkpoint,
    /// What proves it, under a ledger.
    pub(super) proof: Option<&'a Proof>,
    pub(super) waiting: &'a Waiting,
    /// How many changes may still be set aside.
    pub(super) limit: Limit,
    /// Set by the commit with which what the lane has filled beside takes its place.
    pub(super) put: Option<Put<'a>>,
}

/// How a commit ended.
pub(super) enum Done {
    /// It is durable.
    Committed {
        /// What the store refused, beside what the batch had rejected.
        refused: Vec<Rejected>,
        /// The same, counted.
        tally: Tally,
        /// Keys of which nothing waits any more.
        superseded: Vec<String>,
        /// How many changes that the lane has read again wait for good, now that it is where it was.
        lost: u64,
    },
    /// The table does not take at once what the lane has filled beside it, and nothing has happened.
    Apart {
        /// Why.
        problem: Error,
    },
    /// The store refuses a row, and nothing has happened.
    Refused {
        /// Why.
        reason: String,
    },
}

/// What the quarantine means for a batch.
#[derive(Default)]
struct Effect {
    /// Partial changes that queue behind what waits.
    queued: HashSet<Key>,
    behind: Vec<Rejected>,
    /// Complete changes that settle what waits.
    settled: Vec<(String, Position)>,
}

/// Runs one transaction. `Err(Unknown)` only when COMMIT itself was not answered.
pub(super) async fn run(
    lease: &mut Lease,
    context: &Context<'_>,
    batch: &Batch,
    folded: &Folded,
    plans: &[Arc<Plan>],
    mode: Mode,
) -> Result<Done> {
    lease.clean = false;
    let mut ways = Vec::with_capacity(plans.len());
    for plan in plans {
        let stage = lease.stage(plan).await?;
        ways.push(Way { plan: Arc::clone(plan), stage });
    }
    let done = transact(lease, context, batch, folded, &ways, mode).await;
    // Whatever went wrong, the next commit finds a connection without a transaction, or a new connection.
    lease.clean = match &done {
        Ok(Done::Committed { .. }) => true,
        _ => lease.session.batch_execute("ROLLBACK").await.is_ok(),
    };
    done
}

async fn transact(
    connection: &Connection,
    context: &Context<'_>,
    batch: &Batch,
    folded: &Folded,
    ways: &[Way],
    mode: Mode,
) -> Result<Done> {
    let client = &connection.session;
    let fixed = connection.fixed.as_ref().ok_or_else(|| {
        Error::new(ErrorKind::Broken, "commit", "the statements of the lane were not prepared")
    })?;
    let doing = || format!("commit a batch of {}", context.lane);
    let failed = |e| error::of(e, doing);
    // Shared with every commit of the lane, so that a replay, which takes it alone, is never in the middle of one.
    let mut begin = format!(
        "BEGIN; SET LOCAL application_name = {}; SELECT pg_advisory_xact_lock_shared({});",
        literal(&format!("hutong {}", context.lane)),
        lock_of(context.lane)
    );
    if mode.careful() {
        // A deferred constraint would speak up at COMMIT, when no row can be told from another.
        begin.push_str("SET CONSTRAINTS ALL IMMEDIATE;");
    }
    client.batch_execute(&begin).await.map_err(failed)?;

    let effect = effect(connection, context, batch, folded).await?;
    let again = context.from.reread();
    let mut apply = Apply {
        client,
        lane: context.lane,
        mode,
        changes: &batch.changes,
        queued: &effect.queued,
        refused: Vec::new(),
        tally: Tally::default(),
        reread: again.as_ref(),
        counts: Counts { changes: batch.changes.len() as i64, ..Counts::default() },
        limit: context.limit,
        run: 0,
    };
    let applied = async {
        if folded.truncate {
            truncate(&mut apply, context).await?;
        }
        apply.all(folded, ways).await?;
        apply.set_aside(effect.behind)?;
        apply.set_aside(folded.rejected.iter().cloned())
    };
    match Box::pin(applied).await {
        Ok(()) => {}
        Err(Fault::Refused(refusal)) => return Ok(Done::Refused { reason: refusal.reason }),
        Err(Fault::Stop(problem)) => return Err(problem),
    }
    let Apply { refused, tally, mut counts, .. } = apply;

    // What waits is settled before new items are put down, and those of this batch by position.
    quarantine::insert(client, context.lane, batch.rejected.iter()).await.map_err(failed)?;
    // A truncate that is refused leaves the rows, and what waits for them.
    let is_refused = |at: &Position| refused.iter().any(|r| r.position == *at);
    let truncate = batch.changes.iter().rfind(|c| c.op == Op::Truncate);
    if let Some(at) = truncate.filter(|truncate| !is_refused(&truncate.position)) {
        quarantine::supersede_all(client, context.lane, at.position).await.map_err(failed)?;
    }
    if !effect.settled.is_empty() {
        quarantine::supersede(client, context.lane, &effect.settled).await.map_err(failed)?;
    }
    quarantine::insert(client, context.lane, refused.iter()).await.map_err(failed)?;
    if folded.parts.len() > 1 && !refused.is_empty() {
        // What one contract's part refused, a later part of the batch may have settled.
        quarantine::supersede(client, context.lane, &complete(batch, folded)).await.map_err(failed)?;
    }

    let mut lost = 0;
    if let Some(again) = reread::ended(context.from, context.to) {
        lost = quarantine::lacking(client, context.lane, &again).await?;
        if lost.saturating_add(tally.lasting()) > context.limit.lasting {
            return Err(reread::lost(context.lane, lost, context.limit.lasting));
        }
    }

    if let Some(put) = &context.put
        && let Err(problem) = beside::put(client, context.lane, put).await
    {
        return if beside::passes(&problem) { Err(problem) } else { Ok(Done::Apart { problem }) };
    }

    counts.quarantined = (batch.rejected.len() + refused.len()) as i64;
    let ends = (context.from, context.to);
    let receipt = fixed.receipt(client, context.lane, context.grant, ends, counts, context.proof);
    let moved = fixed.checkpoint(client, context.lane, context.epoch, context.grant, context.to);
    // Sent one behind the other without waiting between: the checkpoint is the last statement before COMMIT.
    let ((), moved) = tokio::try_join!(biased; receipt, moved).map_err(failed)?;
    if !moved {
        return Err(fenced(context.lane));
    }
    match client.batch_execute("COMMIT").await {
        Ok(()) => {
            let superseded = effect.settled.into_iter().map(|(key, _)| key).collect();
            Ok(Done::Committed { refused, tally, superseded, lost })
        }
        Err(problem) => match Fault::of(problem, doing) {
            // A deferred constraint: the server has said that nothing is committed.
            Fault::Refused(refusal) => Ok(Done::Refused { reason: refusal.reason }),
            Fault::Stop(problem) => Err(Error { kind: ErrorKind::Unknown, ..problem }),
        },
    }
}

/// Removes the rows of the lane; what refers to them may refuse it, and then the truncate is set aside.
async fn truncate(apply: &mut Apply<'_>, context: &Context<'_>) -> Result<(), Fault> {
    let failed = |e| Fault::Stop(error::of(e, || format!("truncate for {}", context.lane)));
    let client = apply.client;
    let begin = format!("SAVEPOINT hutong_try; {UNHURRIED}");
    client.batch_execute(&begin).await.map_err(failed)?;
    let Err(problem) = lane::clear(client, context.table, context.lane).await else {
        let end = format!("RELEASE SAVEPOINT hutong_try; {HURRIED}");
        return client.batch_execute(&end).await.map_err(failed);
    };
    if problem.kind != ErrorKind::Refused {
        return Err(Fault::Stop(problem));
    }
    let refusal = Refusal { reason: problem.why(), curable: true };
    if apply.mode != (Mode::Careful { patient: false }) {
        return Err(Fault::Refused(refusal));
    }
    client.batch_execute("ROLLBACK TO SAVEPOINT hutong_try").await.map_err(failed)?;
    let change = apply.changes.iter().rfind(|c| c.op == Op::Truncate);
    // Not under the rule by which a lane tries again: what has come since would go with it.
    apply.set_aside(change.map(|change| reject(change, STORE, refusal.reason)))
}

/// Looks up what the batch means for what waits in the quarantine. Costs nothing while nothing waits.
async fn effect(
    connection: &Connection,
    context: &Context<'_>,
    batch: &Batch,
    folded: &Folded,
) -> Result<Effect> {
    let mut effect = Effect::default();
    let mut rejected = Waiting::new();
    for item in &batch.rejected {
        if let Some(key) = quarantine::key_of(item) {
            let first = rejected.entry(key).or_insert(item.position);
            *first = item.position.min(*first);
        }
    }
    if context.waiting.is_empty() && rejected.is_empty() {
        return Ok(effect);
    }
    let before = |waiting: &Waiting, key: &str, position| waiting.get(key).is_some_and(|at| *at < position);
    let mut stored: Option<Waiting> = None;
    for part in &folded.parts {
        for keyed in &part.keys {
            let Some(text) = keep::key_text(&part.contract, keyed.row(&batch.changes)) else { continue };
            let position = batch.changes[keyed.last].position;
            let here = before(&rejected, &text, position);
            if !here && !before(context.waiting, &text, position) {
                continue;
            }
            if keyed.end != End::Patch {
                effect.settled.push((text, position));
                continue;
            }
            // A person may have settled what the lane remembers, so the store is asked.
            if stored.is_none() {
                stored = Some(quarantine::waiting(&connection.session, context.lane).await?);
            }
            if here || stored.as_ref().is_some_and(|stored| stored.contains_key(&text)) {
                let changes = part.of_key(&batch.changes, &keyed.key);
                effect.behind.extend(changes.map(|at| reject(&batch.changes[at], UNKNOWN_VALUE, BEHIND)));
                effect.queued.insert(keyed.key.clone());
            }
        }
    }
    Ok(effect)
}

/// Returns the keys that end complete, with the position of the change that decided each.
fn complete(batch: &Batch, folded: &Folded) -> Vec<(String, Position)> {
    let mut keys = Vec::new();
    for part in &folded.parts {
        for keyed in part.keys.iter().filter(|keyed| keyed.end != End::Patch) {
            let text = keep::key_text(&part.contract, keyed.row(&batch.changes));
            keys.extend(text.map(|text| (text, batch.changes[keyed.last].position)));
        }
    }
    keys
}

/// Moves the checkpoint of a batch without rows: one statement, which is its own transaction.
pub(super) async fn step(lease: &mut Lease, context: &Context<'_>) -> Result<()> {
    lease.clean = false;
    let fixed = lease.fixed.clone().ok_or_else(|| {
        Error::new(ErrorKind::Broken, "commit", "the statements of the lane were not prepared")
    })?;
    let moved = fixed
        .checkpoint(&lease.session, context.lane, context.epoch, context.grant, context.to)
        .await
        .map_err(|e| Error {
            kind: ErrorKind::Unknown,
            ..error::of(e, || format!("move {}", context.lane))
        })?;
    lease.clean = true;
    if moved { Ok(()) } else { Err(fenced(context.lane)) }
}

/// Returns the SQL of the advisory lock of a lane.
pub(super) fn lock_of(lane: &str) -> String {
    format!("hashtextextended({}, 1)", literal(&format!("hutong {lane}")))
}

fn fenced(lane: &str) -> Error {
    Error::new(ErrorKind::Fenced, format!("commit a batch of {lane}"), "a newer owner has taken the lane")
        .hint("another process runs it: stop one of the two")
}
