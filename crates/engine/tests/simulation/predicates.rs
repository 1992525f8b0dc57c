//! The invariants as pure predicates over what was recorded of a run.

use std::collections::{BTreeMap, BTreeSet};

use hutong_core::{ErrorKind, Row};

use crate::department::Entry;
use crate::expected::{Fate, Replica, Rules};
use crate::history::{End, Event, History, Left, Places, Transaction};

/// A run that is over.
#[derive(Debug)]
pub(crate) struct Run {
    /// What has happened.
    pub(crate) history: History,
    /// What the department has written.
    pub(crate) log: Vec<Vec<Option<Entry>>>,
    /// How far each partition is forgotten.
    pub(crate) pruned: Vec<u64>,
    /// Whether it forgets what is acked.
    pub(crate) forgets: bool,
    /// Whether each batch says in a note how far it goes.
    pub(crate) notes: bool,
    /// Whether no call failed or was held.
    pub(crate) calm: bool,
    /// What decides about changes.
    pub(crate) rules: Rules,
    /// The partitions of each lane.
    pub(crate) lanes: Vec<Vec<usize>>,
}

/// What a predicate finds wrong: the invariant's name and why.
pub(crate) type Finding = (&'static str, String);

type Predicate = fn(&Run) -> Result<(), String>;

/// Returns everything that is wrong with a run, at most one finding an invariant.
pub(crate) fn judge(run: &Run) -> Vec<Finding> {
    let predicates: [(&'static str, Predicate); 7] =
        [("I1", i1), ("I2", i2), ("I3", i3), ("I4", i4), ("I5", i5), ("I6", i6), ("I7", i7)];
    predicates.iter().filter_map(|(name, predicate)| predicate(run).err().map(|why| (*name, why))).collect()
}

impl Run {
    /// Returns the changes of the log between two places.
    fn between(&self, partition: usize, from: u64, to: u64) -> impl Iterator<Item = (u64, &Entry)> {
        let places = self.log[partition].iter().enumerate().map(|(at, entry)| (at as u64, entry));
        let within = places.skip(from as usize).take((to.saturating_sub(from)) as usize);
        within.filter_map(|(at, entry)| Some((at, entry.as_ref()?)))
    }

    /// Calls `look` with each transaction and where its lane stood before it, in order; forgets what was before a
    /// lane began anew.
    fn steps<'a>(
        &'a self,
        mut look: impl FnMut(&Places, Step<'a>) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut stands: BTreeMap<usize, Places> = BTreeMap::new();
        for (_, event) in &self.history {
            match event {
                Event::Stored(transaction) => {
                    let stand = stands.entry(transaction.lane).or_default();
                    look(stand, Step::Stored(transaction))?;
                    stand.clone_from(&transaction.reached);
                }
                Event::Anew { lane, grant } => {
                    look(&Places::new(), Step::Anew { lane: *lane, grant: *grant })?;
                    stands.remove(lane);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// What moves a lane.
#[derive(Clone, Copy)]
enum Step<'a> {
    Stored(&'a Transaction),
    Anew { lane: usize, grant: usize },
}

fn at(places: &Places, partition: usize) -> u64 {
    places.get(&partition).copied().unwrap_or(0)
}

fn require(holds: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(why()) }
}

/// What the origin may forget was durable downstream before.
fn i1(run: &Run) -> Result<(), String> {
    let mut durable = Places::new();
    for (when, event) in &run.history {
        match event {
            Event::Stored(transaction) => {
                for (partition, reached) in &transaction.reached {
                    let durable = durable.entry(*partition).or_default();
                    *durable = (*durable).max(*reached);
                }
            }
            Event::Acked { owner, upto, .. } => {
                for (partition, upto) in upto {
                    require(*upto <= at(&durable, *partition), || {
                        format!(
                            "at {when:?} owner {owner} acked {upto} places of {partition}, durable: {durable:?}"
                        )
                    })?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// What a transaction writes lies in the step that its own checkpoint makes, and its notes are of that step.
fn i2(run: &Run) -> Result<(), String> {
    run.steps(|before, step| {
        let Step::Stored(transaction) = step else { return Ok(()) };
        let written = transaction.writes.iter().map(|write| write.at);
        for (partition, offset) in written.chain(transaction.aside.iter().copied()) {
            let (from, to) = (at(before, partition), at(&transaction.reached, partition));
            require((from..to).contains(&offset), || {
                format!(
                    "owner {} wrote {offset} of {partition}, its checkpoint moves from {from} to {to}",
                    transaction.owner
                )
            })?;
        }
        let (noted, reached) = (&transaction.noted, &transaction.reached);
        require(!run.notes || noted == reached, || format!("the notes say {noted:?}, the places {reached:?}"))
    })
}

/// Every change of a step is written, set aside where it must be, or dropped by a rule that counts it.
fn i3(run: &Run) -> Result<(), String> {
    let (mut replicas, mut grants) = (BTreeMap::<usize, Replica>::new(), BTreeMap::new());
    run.steps(|before, step| {
        let transaction = match step {
            Step::Stored(transaction) => transaction,
            Step::Anew { lane, grant } => {
                grants.insert(lane, grant);
                replicas.retain(|partition, _| !run.lanes[lane].contains(partition));
                return Ok(());
            }
        };
        let grant = grants.get(&transaction.lane).copied().unwrap_or(0);
        let written: BTreeSet<_> = transaction.writes.iter().map(|write| write.at).collect();
        let aside: BTreeSet<_> = transaction.aside.iter().copied().collect();
        let mut dropped: BTreeMap<&'static str, u64> = BTreeMap::new();
        for (partition, to) in &transaction.reached {
            let replica = replicas.entry(*partition).or_default();
            for (offset, entry) in run.between(*partition, at(before, *partition), *to) {
                let place = (*partition, offset);
                let fate = replica.pass(run.rules, grant, offset, entry);
                let good = match (written.contains(&place), aside.contains(&place), fate) {
                    (true, false, Fate::Written | Fate::Spare(_)) | (false, true, Fate::Aside) => true,
                    (false, false, Fate::Dropped(rule) | Fate::Spare(rule)) => {
                        *dropped.entry(rule).or_default() += 1;
                        true
                    }
                    _ => false,
                };
                require(good, || {
                    let what = (written.contains(&place), aside.contains(&place));
                    format!(
                        "{:?} at {place:?} should be {fate:?}; (written, set aside) is {what:?}",
                        entry.op
                    )
                })?;
            }
        }
        require(dropped == transaction.dropped, || {
            format!("{dropped:?} is dropped, {:?} is counted", transaction.dropped)
        })
    })
}

/// What is written of a partition is written once, in order, and no checkpoint goes back.
fn i4(run: &Run) -> Result<(), String> {
    let mut next = Places::new();
    run.steps(|before, step| {
        let transaction = match step {
            Step::Stored(transaction) => transaction,
            Step::Anew { lane, .. } => {
                next.retain(|partition, _| !run.lanes[lane].contains(partition));
                return Ok(());
            }
        };
        for write in &transaction.writes {
            let (partition, offset) = write.at;
            let next = next.entry(partition).or_default();
            require(offset >= *next, || format!("{offset} of {partition} is written behind {next} places"))?;
            *next = offset + 1;
        }
        for (partition, before) in before {
            let now = at(&transaction.reached, *partition);
            require(now >= *before, || format!("the checkpoint of {partition} goes from {before} to {now}"))?;
        }
        Ok(())
    })
}

/// Nothing is committed under another grant than the one in force.
fn i5(run: &Run) -> Result<(), String> {
    let mut grants = BTreeMap::new();
    run.steps(|_, step| {
        match step {
            Step::Anew { lane, grant } => drop(grants.insert(lane, grant)),
            Step::Stored(transaction) => {
                // The first owner's grant is in force from the beginning.
                let force = grants.get(&transaction.lane).copied().unwrap_or(0);
                require(transaction.grant == force, || {
                    format!(
                        "owner {} committed under grant {}, in force is {force}",
                        transaction.owner, transaction.grant
                    )
                })?;
            }
        }
        Ok(())
    })
}

/// After each transaction the rows are the fold of the department's log up to the checkpoint, value by value.
fn i6(run: &Run) -> Result<(), String> {
    let (mut replicas, mut grants) = (BTreeMap::<usize, Replica>::new(), BTreeMap::new());
    let mut held: BTreeMap<usize, BTreeMap<i64, Row>> = BTreeMap::new();
    run.steps(|before, step| {
        let transaction = match step {
            Step::Stored(transaction) => transaction,
            Step::Anew { lane, grant } => {
                grants.insert(lane, grant);
                replicas.retain(|partition, _| !run.lanes[lane].contains(partition));
                held.retain(|partition, _| !run.lanes[lane].contains(partition));
                return Ok(());
            }
        };
        let grant = grants.get(&transaction.lane).copied().unwrap_or(0);
        for write in &transaction.writes {
            let held = held.entry(write.at.0).or_default();
            match &write.left {
                Left::Row(key, row) => drop(held.insert(*key, row.clone())),
                Left::Nothing(key) => drop(held.remove(key)),
                Left::Empty => held.clear(),
            }
        }
        for (partition, to) in &transaction.reached {
            let replica = replicas.entry(*partition).or_default();
            for (offset, entry) in run.between(*partition, at(before, *partition), *to) {
                replica.pass(run.rules, grant, offset, entry);
            }
            let held = held.entry(*partition).or_default();
            require(*held == replica.rows, || {
                format!("{partition} after {to} places: rows {held:?}, expected {:?}", replica.rows)
            })?;
        }
        Ok(())
    })
}

/// Whoever opens is told where the lane stands, nobody halts but who was shut out, and in the end everything is
/// committed, acked and forgotten.
fn i7(run: &Run) -> Result<(), String> {
    let mut stands: BTreeMap<usize, Places> = BTreeMap::new();
    let mut ends: BTreeMap<usize, End> = BTreeMap::new();
    let (mut acked, mut took) = (Places::new(), BTreeMap::new());
    for (when, event) in &run.history {
        match event {
            Event::Stored(transaction) => drop(stands.insert(transaction.lane, transaction.reached.clone())),
            Event::Anew { lane, .. } => drop(stands.remove(lane)),
            Event::Opened { owner, lane, told } => {
                let stand = stands.get(lane).cloned().unwrap_or_default();
                // Who was shut out meanwhile may be told an older place, from which it can do nothing.
                require(*told == stand || took.get(lane) != Some(owner), || {
                    format!("at {when:?} owner {owner} was told {told:?}, lane {lane} stands at {stand:?}")
                })?;
            }
            Event::Acked { upto, .. } => {
                acked.extend(upto);
            }
            Event::Ended { owner, lane, how } => {
                ends.insert(*lane, *how);
                let good = match how {
                    End::Finished | End::Drained | End::Killed | End::Halted(ErrorKind::Fenced) => true,
                    End::Held => !run.calm,
                    // Who is shut out while it opens stands at a place that the newer owner may have left behind.
                    End::Halted(ErrorKind::PositionLost) => took.get(lane) != Some(owner),
                    End::Halted(_) => false,
                };
                require(good, || format!("at {when:?} owner {owner} of lane {lane} ended: {how:?}"))?;
            }
            Event::Took { owner, lane } => took.extend([(*lane, *owner)]),
            Event::Given { .. } => {}
        }
    }
    for (lane, partitions) in run.lanes.iter().enumerate() {
        let how = ends.get(&lane);
        require(how == Some(&End::Finished), || format!("the last owner of lane {lane} ended: {how:?}"))?;
        for partition in partitions {
            let (all, stand) = (run.log[*partition].len() as u64, stands.get(&lane));
            let stand = stand.map_or(0, |stand| at(stand, *partition));
            require(stand == all, || format!("{stand} of {all} places of {partition} are committed"))?;
            require(at(&acked, *partition) == all, || {
                format!("not all {all} places of {partition} were acked")
            })?;
            let pruned = run.pruned[*partition];
            require(!run.forgets || pruned == all, || {
                format!("{pruned} of {all} of {partition} are forgotten")
            })?;
        }
    }
    Ok(())
}

/// Who was asked to stop, while nothing failed, has acked what it has committed: nothing of it is left to others.
pub(crate) fn drained(run: &Run) -> Result<(), String> {
    let mut open: BTreeMap<usize, &Places> = BTreeMap::new();
    for (when, event) in run.history.iter().filter(|_| run.calm) {
        match event {
            Event::Stored(transaction) => drop(open.insert(transaction.owner, &transaction.reached)),
            Event::Acked { owner, upto, .. } => open.retain(|of, reached| of != owner || *reached != upto),
            Event::Ended { owner, how: End::Drained, .. } => {
                let left = open.get(owner);
                require(left.is_none(), || format!("at {when:?} owner {owner} ended, not acked: {left:?}"))?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whatever an owner has committed, the source had given to it: nothing is made up.
pub(crate) fn given(run: &Run) -> Result<(), String> {
    let mut given: BTreeMap<(usize, usize), u64> = BTreeMap::new();
    for (_, event) in &run.history {
        match event {
            Event::Given { owner, steps, .. } => {
                for (partition, (_, to)) in steps {
                    let most = given.entry((*owner, *partition)).or_default();
                    *most = (*most).max(*to);
                }
            }
            Event::Stored(transaction) => {
                for write in &transaction.writes {
                    let most = given.get(&(transaction.owner, write.at.0)).copied().unwrap_or(0);
                    require(write.at.1 < most, || format!("{:?} was written and not given", write.at))?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}
