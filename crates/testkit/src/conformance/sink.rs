//! What every sink must do. Each check is a function with its invariant in the name.

use std::collections::BTreeMap;
use std::sync::Arc;

use hutong_core::{
    Batch, Checkpoint, Contract, Delta, ErrorKind, Hold, Op, Position, Rejected, Row, Sink, Value,
};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::patience::{at_most, in_time};
use super::site::{Fate, Seen, SinkSite};
use super::values::{cases, is_exact};
use super::workload::{Step, Table, Write, contract, key, lane, people, person};

/// The partition that the batches of the suite speak of.
const PARTITION: &str = "conformance";

/// What comes to a sink: changes one after the other, batches that continue each other, and what they should leave.
#[derive(Clone)]
struct Stream {
    contract: Arc<Contract>,
    table: Table,
    next: u64,
    committed: u64,
}

impl Stream {
    fn new(contract: &Arc<Contract>) -> Self {
        Self { contract: Arc::clone(contract), table: Table::new(contract), next: 0, committed: 0 }
    }

    fn batch(&mut self, writes: &[Write]) -> Batch {
        let steps: Vec<Step> = writes.iter().flat_map(|write| self.table.write(write)).collect();
        self.steps(&steps)
    }

    /// Makes the next batch of steps that the table has seen already.
    fn steps(&mut self, steps: &[Step]) -> Batch {
        let changes = steps
            .iter()
            .map(|step| {
                self.next += 1;
                step.change(&self.contract, Position::offset(self.next))
            })
            .collect();
        let delta = Delta::range(PARTITION, place(self.committed), place(self.next));
        self.committed = self.next;
        Batch { changes, delta, ..Batch::default() }
    }

    /// Sets a change aside in a batch, as a step before the sink does.
    fn reject(&mut self, batch: &mut Batch, row: Row) {
        self.next += 1;
        let step = Step { op: Op::Insert, key: self.contract.key_of(&row), after: Some(row) };
        let change = step.change(&self.contract, Position::offset(self.next));
        batch.rejected.push(Rejected {
            rule: "check",
            reason: "a rule before the sink".into(),
            position: change.position,
            stream: self.contract.stream.clone(),
            change: Some(Box::new(change)),
            record: None,
        });
        if let Some((_, to)) = batch.delta.ranges.get_mut(PARTITION) {
            *to = place(self.next);
        }
        self.committed = self.next;
    }

    fn is_left(&self, seen: &Seen) {
        let rows = self.table.ordered(seen.rows.clone());
        assert_eq!(rows, self.table.rows(), "the rows are those that the changes leave");
    }
}

fn place(next: u64) -> Position {
    if next == 0 { Position::START } else { Position::offset(next) }
}

fn put(id: i64, name: &str) -> Write {
    Write::Put(person(id, name, id))
}

/// Opens another sink of the lane, prepared for the contract.
async fn open<S: SinkSite>(site: &S, contract: &Contract) -> (Box<dyn Sink>, Checkpoint) {
    let mut sink = site.sink();
    let checkpoint = reopen(&mut sink, contract).await;
    (sink, checkpoint)
}

async fn reopen(sink: &mut Box<dyn Sink>, contract: &Contract) -> Checkpoint {
    let checkpoint = in_time("open a sink", sink.open(&lane())).await.expect("a sink opens");
    in_time("prepare a sink", sink.prepare(contract)).await.expect("a sink prepares");
    checkpoint
}

async fn commit(sink: &mut Box<dyn Sink>, batch: &Batch) {
    let refused = in_time("commit a batch", sink.commit(batch)).await.expect("a batch is committed");
    assert_eq!(refused.count(), 0, "the store takes every row");
}

/// Returns what is seen of a place, which no call may have changed when it is compared with another look.
fn looks(seen: &Seen, table: &Table) -> (Vec<Row>, u64, u64) {
    (table.ordered(seen.rows.clone()), seen.taken, seen.quarantined)
}

/// A batch that is committed already is refused by the sink that committed it, by that sink when it has opened again,
/// and by the next owner; and nothing of it is there twice.
pub async fn i2_a_batch_that_is_committed_again_changes_nothing<S: SinkSite>() {
    let contract = people();
    let site = S::fresh(&contract).await;
    let mut stream = Stream::new(&contract);
    let (mut sink, empty) = open(&site, &contract).await;
    assert_eq!(empty.position(PARTITION), Position::START, "a fresh lane stands at its start");
    let mut first = stream.batch(&[put(1, "张三"), put(2, "李四"), Write::Delete(key(1))]);
    stream.reject(&mut first, person(9, "王五", 9));
    commit(&mut sink, &first).await;
    commit(&mut sink, &stream.batch(&[put(2, "李四四")])).await;
    let before = looks(&site.seen().await, &stream.table);

    sink.commit(&first).await.expect_err("refused by the algebra of checkpoints");
    let stands = reopen(&mut sink, &contract).await;
    assert_eq!(stands.position(PARTITION), place(stream.committed));
    sink.commit(&first).await.expect_err("refused by the lane's own checkpoint");
    let (mut next, _) = open(&site, &contract).await;
    next.commit(&first).await.expect_err("refused by the next owner");

    assert_eq!(looks(&site.seen().await, &stream.table), before);
    reopen(&mut next, &contract).await;
    commit(&mut next, &stream.batch(&[put(3, "赵六")])).await;
    stream.is_left(&site.seen().await);
}

/// A batch that does not begin where the lane stands would leave changes out.
pub async fn i2_a_gap_is_refused_and_changes_nothing<S: SinkSite>() {
    let contract = people();
    let site = S::fresh(&contract).await;
    let mut stream = Stream::new(&contract);
    let (mut sink, _) = open(&site, &contract).await;
    commit(&mut sink, &stream.batch(&[put(1, "张三")])).await;
    let before = looks(&site.seen().await, &stream.table);
    let skipped = stream.batch(&[put(1, "never told")]);
    let after = stream.batch(&[put(2, "李四")]);

    sink.commit(&after).await.expect_err("a gap is refused");

    assert_eq!(looks(&site.seen().await, &stream.table), before);
    let stands = reopen(&mut sink, &contract).await;
    assert_eq!(stands.position(PARTITION), place(1));
    commit(&mut sink, &skipped).await;
    commit(&mut sink, &after).await;
    stream.is_left(&site.seen().await);
}

/// The commit is durable, its answer is lost: whoever opens is told that it is there, and does not write it twice.
pub async fn i2_after_a_lost_answer_the_sink_tells_where_it_stands<S: SinkSite>() {
    let contract = people();
    let site = S::fresh(&contract).await;
    let mut stream = Stream::new(&contract);
    let (mut sink, _) = open(&site, &contract).await;
    commit(&mut sink, &stream.batch(&[put(1, "张三")])).await;
    let mut batch = stream.batch(&[put(2, "李四"), Write::Delete(key(1))]);
    stream.reject(&mut batch, person(9, "王五", 9));

    in_time("lose an answer", site.commit_unheard(sink.as_mut(), &batch)).await;

    // The same sink, as the engine goes on, and then another process.
    for round in 0..2 {
        let stands = reopen(&mut sink, &contract).await;
        assert_eq!(stands.position(PARTITION), place(stream.committed), "it was committed");
        let seen = site.seen().await;
        stream.is_left(&seen);
        assert_eq!((seen.taken, seen.quarantined), (3 + round, 1));
        sink.commit(&batch).await.expect_err("it is not written twice");
        sink = site.sink();
        reopen(&mut sink, &contract).await;
        commit(&mut sink, &stream.batch(&[put(7, if round == 0 { "孙七" } else { "周八" })])).await;
    }
    stream.is_left(&site.seen().await);
}

/// A step that writes nothing but how far the lane is, and notes that come and go.
pub async fn i2_a_step_without_rows_moves_the_checkpoint<S: SinkSite>() {
    let contract = people();
    let site = S::fresh(&contract).await;
    let mut stream = Stream::new(&contract);
    let (mut sink, _) = open(&site, &contract).await;
    // As the very first commit of a lane, too.
    for round in 0..3 {
        stream.next += 10;
        let mut batch = stream.steps(&[]);
        batch.delta.set_note("conformance.round", round.to_string());
        batch.delta.notes.insert("conformance.gone".into(), (round == 0).then(|| "soon".into()));
        commit(&mut sink, &batch).await;
        let (next, stands) = open(&site, &contract).await;
        sink = next;
        assert_eq!(stands.position(PARTITION), place(stream.committed));
        assert_eq!(stands.note("conformance.round"), Some(round.to_string().as_str()));
        assert_eq!(stands.note("conformance.gone"), (round == 0).then_some("soon"));
        let seen = site.seen().await;
        assert_eq!((seen.rows.len(), seen.taken, seen.quarantined), (0, 0, 0));
    }
    commit(&mut sink, &stream.batch(&[put(1, "张三")])).await;
    stream.is_left(&site.seen().await);
}

/// What a step before the sink has set aside is kept in the commit of the rows, or not at all.
pub async fn i3_rejects_are_kept_with_the_rows_and_the_checkpoint<S: SinkSite>() {
    let contract = people();
    let site = S::fresh(&contract).await;
    let mut stream = Stream::new(&contract);
    let (mut sink, _) = open(&site, &contract).await;
    let mut batch = stream.batch(&[put(1, "张三")]);
    stream.reject(&mut batch, person(8, "李四", 8));
    stream.reject(&mut batch, person(9, "王五", 9));
    commit(&mut sink, &batch).await;
    let seen = site.seen().await;
    stream.is_left(&seen);
    assert_eq!(seen.quarantined, 2);

    // Nothing but a reject is a commit, too.
    let mut alone = stream.batch(&[]);
    stream.reject(&mut alone, person(10, "赵六", 10));
    commit(&mut sink, &alone).await;
    let (mut next, stands) = open(&site, &contract).await;
    assert_eq!(stands.position(PARTITION), place(stream.committed));
    assert_eq!(site.seen().await.quarantined, 3);

    // An earlier owner's rejects are not kept, since its rows are not.
    let before = looks(&site.seen().await, &stream.table);
    let mut late = stream.batch(&[]);
    stream.reject(&mut late, person(11, "孙七", 11));
    let error = sink.commit(&late).await.expect_err("the earlier owner is shut out");
    assert_eq!(error.kind, ErrorKind::Fenced, "{error}");
    assert_eq!(looks(&site.seen().await, &stream.table), before);
    commit(&mut next, &late).await;
    assert_eq!(site.seen().await.quarantined, 4);
}

/// However changes are cut into batches, they leave what they leave one by one: inserts, updates, deletes, key
/// changes and truncates, also of one key in one batch.
pub async fn i4_changes_of_a_batch_leave_what_they_leave_one_by_one<S: SinkSite>() {
    let contract = people();
    let scripts: [&[Write]; 5] = [
        &[put(1, "a"), put(1, "b"), Write::Delete(key(1)), put(1, "c")],
        &[put(1, "a"), Write::Delete(key(1)), put(2, "b"), Write::Delete(key(7))],
        &[put(1, "a"), Write::Rekey { from: key(1), to: person(2, "a", 1) }, put(1, "new")],
        &[put(1, "a"), put(2, "b"), Write::Truncate, put(2, "c"), Write::Truncate, put(3, "d")],
        // Two rows change places.
        &[put(1, "a"), put(2, "b"), Write::Delete(key(1)), Write::Delete(key(2)), put(2, "a"), put(1, "b")],
    ];
    let site = S::fresh(&contract).await;
    let mut stream = Stream::new(&contract);
    let (mut sink, _) = open(&site, &contract).await;
    for script in scripts {
        commit(&mut sink, &stream.batch(&[Write::Truncate])).await;
        commit(&mut sink, &stream.batch(script)).await;
        stream.is_left(&site.seen().await);
        commit(&mut sink, &stream.batch(&[Write::Truncate])).await;
        for write in script {
            commit(&mut sink, &stream.batch(std::slice::from_ref(write))).await;
        }
        stream.is_left(&site.seen().await);
    }
    for seed in 0..6 {
        println!("seed {seed}");
        let writes = stream.table.any(&mut StdRng::seed_from_u64(seed), 60, true);
        for writes in writes.chunks(1 + seed as usize * 7) {
            commit(&mut sink, &stream.batch(writes)).await;
        }
        stream.is_left(&site.seen().await);
    }
}

/// More rows than any statement holds at once, a key that many of them share, and a row of several MiB.
pub async fn i4_a_giant_batch_arrives_whole<S: SinkSite>() {
    let contract = people();
    let site = S::fresh(&contract).await;
    let mut stream = Stream::new(&contract);
    let (mut sink, _) = open(&site, &contract).await;
    let large = "胡同".repeat(1 << 20);
    let mut writes: Vec<Write> = (0..20_000).map(|n| put(n % 15_000, &format!("人{n}"))).collect();
    writes.extend((0..2_000).map(|n| put(1, &format!("{n}"))));
    writes.push(put(-1, &large));
    let batch = stream.batch(&writes);
    commit(&mut sink, &batch).await;
    let seen = site.seen().await;
    assert_eq!((seen.rows.len(), seen.taken), (15_001, writes.len() as u64));
    stream.is_left(&seen);
    commit(&mut sink, &stream.batch(&[Write::Rekey { from: key(-1), to: person(-2, &large, 1) }])).await;
    stream.is_left(&site.seen().await);
}

/// Every value of every type, alone in its row and with others in one, as an insert and as an update: what arrives is
/// the same to the last bit, and what the store cannot hold is set aside and nothing else.
pub async fn i6_every_value_arrives_exactly_or_is_refused<S: SinkSite>() {
    let cases = cases();
    let mut fields = vec![hutong_core::Field::new("id", hutong_core::Type::Long)];
    fields.extend(
        cases.iter().enumerate().map(|(n, (ty, _))| hutong_core::Field::new(format!("f{n}"), ty.clone())),
    );
    let contract = contract("everything", fields);
    let site = S::fresh(&contract).await;
    let mut stream = Stream::new(&contract);
    let (mut sink, _) = open(&site, &contract).await;

    let empty = |id: i64| {
        let mut row = vec![Value::Null; cases.len() + 1];
        row[0] = Value::Integer(id);
        row
    };
    let (mut expected, mut refused) = (BTreeMap::new(), Vec::new());
    let mut rows = vec![empty(0)];
    let mut together = empty(1);
    expected.insert(0, empty(0));
    for (at, (ty, values)) in cases.iter().enumerate() {
        for value in values {
            let id = rows.len() as i64 + 10;
            let mut row = empty(id);
            row[at + 1] = value.clone();
            match S::fate(ty, value) {
                Fate::Carried => {
                    together[at + 1] = value.clone();
                    expected.insert(id, row.clone());
                }
                Fate::Refused => refused.push((id, ty.name(), value.clone())),
                Fate::Impossible => panic!("a sink carries a value or refuses it"),
            }
            rows.push(row);
        }
    }
    expected.insert(1, together.clone());
    rows.push(together);
    let step = |op, row: &Row| Step { op, key: row[..1].to_vec(), after: Some(row.clone()) };
    let inserts: Vec<Step> = rows.iter().map(|row| step(Op::Insert, row)).collect();
    let set_aside =
        in_time("insert", sink.commit(&stream.steps(&inserts))).await.expect("inserts are committed");
    let seen = site.seen().await;
    is_exact(keyed(&seen), &expected);
    assert_eq!(
        (set_aside.count(), seen.quarantined),
        (refused.len() as u64, refused.len() as u64),
        "{refused:?}"
    );

    // The same as updates of rows that hold NULL, but for what is refused.
    let (mut blanks, mut updates) = (Vec::new(), Vec::new());
    for (id, row) in &expected {
        blanks.push(step(Op::Insert, &empty(1_000 + id)));
        let mut row = row.clone();
        row[0] = Value::Integer(1_000 + id);
        updates.push(step(Op::Update, &row));
    }
    expected.extend(
        updates
            .iter()
            .zip(expected.clone())
            .map(|(step, (id, _))| (1_000 + id, step.after.clone().expect("an update has a row"))),
    );
    commit(&mut sink, &stream.steps(&blanks)).await;
    commit(&mut sink, &stream.steps(&updates)).await;
    is_exact(keyed(&site.seen().await), &expected);
}

/// Returns the rows with their keys.
fn keyed(seen: &Seen) -> impl ExactSizeIterator<Item = (&Value, Option<&Row>)> {
    seen.rows.iter().map(|row| (&row[0], Some(row)))
}

/// A value that nobody told leaves the column as it is, in a batch of its own and folded with others.
pub async fn i6_an_unknown_value_leaves_the_column_as_it_is<S: SinkSite>() {
    let contract = people();
    let site = S::fresh(&contract).await;
    let mut stream = Stream::new(&contract);
    let (mut sink, _) = open(&site, &contract).await;
    commit(&mut sink, &stream.batch(&[put(1, "张三"), put(2, "李四"), put(3, "王五")])).await;
    let partial = |id: i64, name: Value, age: Value| Step {
        op: Op::Update,
        key: key(id),
        after: Some(vec![Value::Integer(id), name, age]),
    };
    let batches = [
        vec![partial(1, Value::Unknown, Value::Integer(30)), partial(2, Value::text("李"), Value::Unknown)],
        // NULL is a value, and not the same as an unknown one.
        vec![partial(1, Value::Null, Value::Unknown), partial(1, Value::Unknown, Value::Integer(31))],
        vec![partial(3, Value::Unknown, Value::Null), partial(3, Value::text("王"), Value::Unknown)],
        vec![partial(2, Value::Unknown, Value::Unknown)],
    ];
    for steps in batches {
        let steps: Vec<Step> = steps.into_iter().map(|step| stream.table.step(step)).collect();
        commit(&mut sink, &stream.steps(&steps)).await;
        let seen = site.seen().await;
        stream.is_left(&seen);
        assert_eq!(seen.quarantined, 0);
    }
}

/// A commit that is given up after its first, its second, … look leaves all of itself or nothing, and the lane goes
/// on from where it says that it stands.
pub async fn i7_a_commit_that_is_dropped_at_any_moment_is_whole_or_nothing<S: SinkSite>() {
    let contract = people();
    let site = S::fresh(&contract).await;
    let mut stream = Stream::new(&contract);
    let (mut sink, _) = open(&site, &contract).await;
    commit(&mut sink, &stream.batch(&[put(1, "张三"), put(2, "李四")])).await;
    let (mut polls, mut step) = (1, 1);
    loop {
        let (before, stood) = (site.seen().await, stream.committed);
        let old = stream.table.clone();
        let mut batch = stream.batch(&[put(1, &format!("{polls}")), Write::Delete(key(2)), put(2, "again")]);
        stream.reject(&mut batch, person(9, "王五", 9));
        let done = in_time("commit in part", at_most(polls, sink.commit(&batch))).await;

        let (next, stands) = open(&site, &contract).await;
        sink = next;
        let after = site.seen().await;
        if stands.position(PARTITION) == place(stood) {
            assert!(done.is_none(), "a commit that was answered is there");
            assert_eq!(looks(&after, &old), looks(&before, &old), "nothing of it is there");
            commit(&mut sink, &batch).await;
        } else {
            assert_eq!(stands.position(PARTITION), place(stream.committed));
        }
        let after = site.seen().await;
        stream.is_left(&after);
        assert_eq!(after.quarantined, before.quarantined + 1);
        if done.is_some() {
            return;
        }
        // Every look at first, then fewer and fewer.
        polls += step;
        step += usize::from(polls > 12) * step / 2 + usize::from(polls == 12);
    }
}

/// An owner that slept while another took its lane is refused, whatever it wants to commit, and changes nothing.
pub async fn i7_an_earlier_owner_that_wakes_up_changes_nothing<S: SinkSite>() {
    let contract = people();
    let site = S::fresh(&contract).await;
    let mut stream = Stream::new(&contract);
    for newer_commits in [false, true] {
        for late in ["rows", "a step", "a reject"] {
            let (mut old, _) = open(&site, &contract).await;
            commit(&mut old, &stream.batch(&[put(1, "张三")])).await;
            let (mut new, stands) = open(&site, &contract).await;
            assert_eq!(stands.position(PARTITION), place(stream.committed));
            let mut stale = stream.clone();
            let stale = match late {
                "rows" => stale.batch(&[put(1, "stale"), put(5, "stale")]),
                "a step" => {
                    stale.next += 3;
                    stale.steps(&[])
                }
                _ => {
                    let mut batch = stale.batch(&[]);
                    stale.reject(&mut batch, person(9, "stale", 9));
                    batch
                }
            };
            if newer_commits {
                commit(&mut new, &stream.batch(&[put(2, "李四")])).await;
            }
            let before = looks(&site.seen().await, &stream.table);

            let error = in_time("a late commit", old.commit(&stale)).await.expect_err("it is shut out");

            assert_eq!(error.kind, ErrorKind::Fenced, "{late}: {error}");
            assert_eq!(looks(&site.seen().await, &stream.table), before, "{late}");
            commit(&mut new, &stream.batch(&[put(3, "王五"), Write::Delete(key(1))])).await;
            stream.is_left(&site.seen().await);
        }
    }
}

/// Whoever looks takes nothing from the owner, and is never told that a person has acted when another owner has: it
/// would open again, and the two would take the lane from each other for ever.
pub async fn i7_a_look_takes_nothing_and_is_never_a_persons_where_an_owner_has_taken_the_lane<S: SinkSite>() {
    let contract = people();
    let site = S::fresh(&contract).await;
    let mut stream = Stream::new(&contract);
    let look =
        async |sink: &mut Box<dyn Sink>| in_time("look", sink.look()).await.expect("a look is answered");
    let (mut old, _) = open(&site, &contract).await;
    commit(&mut old, &stream.batch(&[put(1, "张三")])).await;
    assert_eq!(look(&mut old).await, Hold::Held);
    // A lane that waits without a connection looks, too.
    old.close().await.expect("a sink closes");
    assert_eq!(look(&mut old).await, Hold::Held);
    let (mut new, _) = open(&site, &contract).await;
    assert_ne!(look(&mut old).await, Hold::Turned);
    commit(&mut new, &stream.batch(&[put(2, "李四")])).await;
    assert_eq!(look(&mut new).await, Hold::Held);
    let stands = reopen(&mut old, &contract).await;
    assert_eq!(stands.position(PARTITION), place(stream.committed));
    let error = new.commit(&stream.batch(&[put(3, "王五")])).await.expect_err("it is shut out");
    assert_eq!((error.kind, look(&mut new).await == Hold::Turned), (ErrorKind::Fenced, false), "{error}");
}
