//! Applies a folded batch inside a transaction: set-wise at first, and where the store refuses, by bisecting.
//!
//! Knows folded rows, plans and staging tables; nothing of checkpoints, and it neither begins nor commits.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use hutong_core::{Change, Error, ErrorKind, Op, Rejected, Reread, Value};
use tokio_postgres::Client;

use super::binary::Rows;
use super::lane::Counts;
use super::refusal::{Fault, Refusal};
use super::stage::Stage;
use super::table::Plan;
use crate::flood::{Count, flood};
use crate::fold::{CONFLICT, End, Folded, Key, Keyed, Part, STORE, UNKNOWN_VALUE, fold, reject};
use crate::reread::{BEHIND, NOT_THERE, Tally};

/// How a batch is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// As `Swift`, for rows that the lane has never written: they are copied into the replica itself.
    Fresh,
    /// Everything at once; the first refusal ends it.
    Swift,
    /// Under savepoints: what is refused is found by bisecting and set aside.
    Careful {
        /// Whether a refusal that another lane may cure ends it, so that it is tried again later.
        patient: bool,
    },
}

impl Mode {
    /// States whether each attempt stands under a savepoint.
    pub(super) fn careful(self) -> bool {
        matches!(self, Self::Careful { .. })
    }
}

/// One application of a batch on a connection with an open transaction.
pub(super) struct Apply<'a> {
    pub(super) client: &'a Client,
    pub(super) lane: &'a str,
    pub(super) mode: Mode,
    pub(super) changes: &'a [Change],
    /// Keys whose partial changes wait behind a quarantined one.
    pub(super) queued: &'a HashSet<Key>,
    /// What was set aside.
    pub(super) refused: Vec<Rejected>,
    /// The same, counted.
    pub(super) tally: Tally,
    /// What the lane reads again.
    pub(super) reread: Option<&'a Reread>,
    /// What was done.
    pub(super) counts: Counts,
    /// How many changes may be set aside.
    pub(super) limit: Limit,
    /// The number of the next staged run.
    pub(super) run: i32,
}

/// How many changes a commit may set aside: a flood is not an exception.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    /// Past so many that only a person can cure, the lane halts.
    pub(super) lasting: u64,
    /// Past so many that another lane may cure, the batch gives way until it has.
    pub(super) curable: u64,
}

impl Limit {
    /// No limit.
    pub(super) const NONE: Self = Self { lasting: u64::MAX, curable: u64::MAX };
}

/// Where the rows of a part go.
pub(super) struct Way {
    pub(super) plan: Arc<Plan>,
    pub(super) stage: Arc<Stage>,
}

/// What became of the rows that were sent.
struct Sent {
    /// The numbers of those that a patch did not find.
    missing: Vec<usize>,
    /// How many the store left as they are without a word.
    skipped: u64,
}

/// Rows of one end, encoded, with the keys that they belong to.
struct Set<'a> {
    end: End,
    /// The fields that a patch knows.
    known: Vec<usize>,
    keys: Vec<&'a Keyed>,
    rows: Rows,
}

impl<'a> Apply<'a> {
    /// Applies what was folded; `ways` holds one way for each part.
    ///
    /// `Err(Refused)` only without savepoints, or for a refusal to be patient about: then roll back.
    pub(super) async fn all(&mut self, folded: &'a Folded, ways: &[Way]) -> Result<(), Fault> {
        for (part, way) in folded.parts.iter().zip(ways) {
            // Deletes first: what a deleted row held (a unique value) may go to another key of the batch.
            for end in [End::Delete, End::Put, End::Patch] {
                for set in self.encode(part, way, end).await? {
                    self.apply(part, way, &set).await?;
                }
            }
        }
        Ok(())
    }

    /// Encodes the keys of one end: one set, or for patches one set for each choice of known fields.
    async fn encode(&mut self, part: &'a Part, way: &Way, end: End) -> Result<Vec<Set<'a>>, Fault> {
        let mut sets: BTreeMap<Vec<usize>, Set<'a>> = BTreeMap::new();
        for keyed in part.keys.iter().filter(|k| k.end == end) {
            if end == End::Patch && self.queued.contains(&keyed.key) {
                continue;
            }
            let known = known(keyed, self.changes);
            let set = sets.entry(known).or_insert_with_key(|known| Set {
                end,
                known: known.clone(),
                keys: Vec::new(),
                rows: Rows::default(),
            });
            match push(set, &way.plan, self.changes, keyed) {
                Ok(()) => {}
                Err(refusal) => self.one_by_one(part, way, keyed, refusal).await?,
            }
        }
        Ok(sets.into_values().filter(|set| !set.keys.is_empty()).collect())
    }

    /// Applies a set; in careful mode halves it until each refused key stands alone.
    async fn apply(&mut self, part: &'a Part, way: &Way, set: &Set<'a>) -> Result<(), Fault> {
        let mut open: Vec<Range<usize>> = Vec::new();
        open.push(0..set.rows.len());
        while let Some(range) = open.pop() {
            match self.attempt(way, set, range.clone()).await {
                Ok(missing) => {
                    for at in missing {
                        self.missing(part, set.keys[at])?;
                    }
                }
                Err(Fault::Refused(refusal)) if self.mode.careful() => {
                    if range.len() == 1 {
                        self.one_by_one(part, way, set.keys[range.start], refusal).await?;
                    } else {
                        // The first half is taken next: order is kept.
                        let middle = range.start + range.len() / 2;
                        open.push(middle..range.end);
                        open.push(range.start..middle);
                    }
                }
                Err(fault) => return Err(fault),
            }
        }
        Ok(())
    }

    /// Sends some rows of a set; in careful mode a refusal leaves the transaction as it was before.
    async fn attempt(&mut self, way: &Way, set: &Set<'_>, range: Range<usize>) -> Result<Vec<usize>, Fault> {
        let failed = |e| Fault::of(e, || format!("write into {}", way.plan.table.plain()));
        let careful = self.mode.careful();
        if careful {
            self.client.batch_execute("SAVEPOINT hutong_try").await.map_err(failed)?;
        }
        self.run += 1;
        let count = range.len() as i64;
        let sent = self.send(way, set, range).await.map_err(failed);
        let done = sent.and_then(|sent| match sent.skipped {
            0 => Ok(sent.missing),
            _ => Err(Fault::Refused(Refusal { reason: SKIPPED.into(), curable: false })),
        });
        if careful {
            let after = match &done {
                Ok(_) => "RELEASE SAVEPOINT hutong_try",
                Err(Fault::Refused(_)) => "ROLLBACK TO SAVEPOINT hutong_try; RELEASE SAVEPOINT hutong_try",
                Err(Fault::Stop(_)) => return done,
            };
            self.client.batch_execute(after).await.map_err(failed)?;
        }
        let missing = done?;
        match set.end {
            End::Delete => self.counts.deleted += count,
            End::Put | End::Patch => self.counts.written += count - missing.len() as i64,
        }
        Ok(missing)
    }

    async fn send(
        &self,
        way: &Way,
        set: &Set<'_>,
        range: Range<usize>,
    ) -> Result<Sent, tokio_postgres::Error> {
        let count = range.len() as u64;
        let skipped = |written: u64| Sent { missing: Vec::new(), skipped: count.saturating_sub(written) };
        if self.mode == Mode::Fresh && set.end == End::Put {
            let done = way.stage.insert(self.client, &set.rows, range.clone(), self.lane).await?;
            if let Some(written) = done {
                return Ok(skipped(written));
            }
        }
        way.stage.fill(self.client, &set.rows, range, self.run).await?;
        match set.end {
            End::Delete => {
                let kept = way.stage.delete(self.client, &way.plan, self.run, count).await?;
                Ok(Sent { missing: Vec::new(), skipped: kept })
            }
            End::Put => {
                let written = way.stage.put(self.client, self.run, self.lane).await?;
                // A row that is a key and nothing else may be there already.
                Ok(skipped(if way.plan.key_only() { count } else { written }))
            }
            End::Patch => {
                let run = (self.run, count);
                let (missing, skipped) =
                    way.stage.patch(self.client, &way.plan, &set.known, run, self.lane).await?;
                Ok(Sent { missing, skipped })
            }
        }
    }

    /// Goes back to the changes of a refused key: the good ones are applied, the others set aside (I3).
    async fn one_by_one(
        &mut self,
        part: &'a Part,
        way: &Way,
        keyed: &Keyed,
        refusal: Refusal,
    ) -> Result<(), Fault> {
        let patient = match self.mode {
            Mode::Fresh | Mode::Swift => return Err(Fault::Refused(refusal)),
            Mode::Careful { patient } => patient,
        };
        if patient && refusal.curable {
            return Err(Fault::Refused(refusal));
        }
        let all: Vec<usize> = part.of_key(self.changes, &keyed.key).collect();
        if let [at] = all[..] {
            return self.set_aside([reject(&self.changes[at], refusal.rule(), refusal.reason)]);
        }
        let mut waiting: Vec<Rejected> = Vec::new();
        for at in all {
            let change = &self.changes[at];
            let alone = fold(std::slice::from_ref(change));
            let Some(single) = alone.parts.first().and_then(|part| part.keys.first()) else { continue };
            if single.end != End::Patch {
                // A complete change settles what was refused before it.
                waiting.clear();
            } else if !waiting.is_empty() {
                waiting.push(reject(change, UNKNOWN_VALUE, BEHIND));
                continue;
            }
            let mut set = Set {
                end: single.end,
                known: known(single, std::slice::from_ref(change)),
                keys: vec![single],
                rows: Rows::default(),
            };
            let row = single.row(std::slice::from_ref(change));
            let done = match push_row(&mut set.rows, &way.plan, row, change) {
                Ok(()) => self.attempt(way, &set, 0..1).await,
                Err(refusal) => Err(Fault::Refused(refusal)),
            };
            match done {
                Ok(missing) if missing.is_empty() => {}
                Ok(_) => waiting.push(reject(change, UNKNOWN_VALUE, NOT_THERE)),
                Err(Fault::Refused(refusal)) => waiting.push(reject(change, refusal.rule(), refusal.reason)),
                Err(fault) => return Err(fault),
            }
        }
        self.set_aside(waiting)
    }

    /// Sets the changes of a key aside that need a row which is not there: never NULL, never guessed.
    fn missing(&mut self, part: &Part, keyed: &Keyed) -> Result<(), Fault> {
        let changes = part.of_key(self.changes, &keyed.key);
        let items: Vec<Rejected> =
            changes.map(|at| reject(&self.changes[at], UNKNOWN_VALUE, NOT_THERE)).collect();
        self.set_aside(items)
    }

    /// Keeps what goes to the quarantine; `Err(Stop)` past the limit, and then nothing is committed.
    pub(super) fn set_aside(&mut self, items: impl IntoIterator<Item = Rejected>) -> Result<(), Fault> {
        for item in items {
            self.tally.count(self.reread, &item);
            self.refused.push(item);
        }
        if self.tally.pressing > self.limit.curable {
            let why = "more changes wait for another lane than the limit allows; the batch gives way to it";
            return Err(Fault::Stop(
                Error::new(ErrorKind::Unavailable, format!("commit a batch of {}", self.lane), why).hint(
                    "if no other lane frees what the rows need, hutong quarantine list shows why each waits",
                ),
            ));
        }
        if self.tally.lasting() <= self.limit.lasting {
            return Ok(());
        }
        let last = self.refused.iter().rfind(|item| item.rule != CONFLICT);
        let (rule, reason) = last.map_or((STORE, ""), |item| (item.rule, item.reason.as_str()));
        // What another lane may cure is limited by all that is configured, whatever was set aside before.
        let limit = self.limit.curable;
        let earlier = limit.saturating_sub(self.limit.lasting);
        let count = Count { limit, earlier, batch: self.tally.lasting() };
        Err(Fault::Stop(flood(self.lane, count, rule, reason)))
    }
}

const SKIPPED: &str =
    "the store leaves the row as it is and says nothing: a trigger or a rule of the table skips it";

/// Returns the fields that a patch tells; nothing for other ends, so that they are one set.
fn known(keyed: &Keyed, changes: &[Change]) -> Vec<usize> {
    if keyed.end != End::Patch {
        return Vec::new();
    }
    let row = keyed.row(changes);
    (0..row.len()).filter(|at| !row[*at].is_unknown()).collect()
}

fn push<'a>(set: &mut Set<'a>, plan: &Plan, changes: &[Change], keyed: &'a Keyed) -> Result<(), Refusal> {
    push_row(&mut set.rows, plan, keyed.row(changes), &changes[keyed.last])?;
    set.keys.push(keyed);
    Ok(())
}

/// Appends a row; of a delete only the key is sent.
fn push_row(rows: &mut Rows, plan: &Plan, row: &[Value], change: &Change) -> Result<(), Refusal> {
    const NULL: Value = Value::Null;
    let key_only = change.op == Op::Delete;
    let value = |at: usize| if key_only && !plan.key.contains(&at) { &NULL } else { &row[at] };
    let values = plan.columns.iter().enumerate().map(|(at, column)| (&column.kind, value(at)));
    rows.push(change.position.as_offset(), values).map_err(|(at, why)| Refusal {
        reason: format!("the value of column {} cannot be stored: {why}", plan.columns[at].name),
        curable: false,
    })
}
