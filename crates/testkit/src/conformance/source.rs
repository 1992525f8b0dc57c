//! What every source must do. Each check is a function with its invariant in the name.

use std::collections::BTreeMap;
use std::sync::Arc;

use hutong_core::{Checkpoint, Contract, ErrorKind, Op, Row, Value};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::patience::in_time;
use super::reading::Reading;
use super::site::{Fate, SourceSite};
use super::values::{cases, is_exact};
use super::workload::{BATCH_LIMIT, CHUNK_LIMIT, Step, Table, Write, contract, key, people, person};

fn put(id: i64, name: &str) -> Write {
    Write::Put(person(id, name, id))
}

/// Has the department make one transaction; returns the changes that should come of it.
async fn write<S: SourceSite>(site: &S, table: &mut Table, writes: &[Write]) -> Vec<Step> {
    let steps = writes.iter().flat_map(|write| table.write(write)).collect();
    in_time("write", site.write(writes)).await;
    steps
}

/// An origin with three rows that a source has read already, and the place where it stands.
async fn settled<S: SourceSite>(contract: &Arc<Contract>) -> (S, Table, Reading) {
    let site = S::fresh(contract).await;
    let mut table = Table::new(contract);
    let steps = write(&site, &mut table, &[put(1, "张三"), put(2, "李四"), put(3, "王五")]).await;
    let mut reading = Reading::open(&site, &Checkpoint::default()).await;
    reading.until(steps.len()).await;
    reading.settle().await;
    assert_eq!(reading.steps, steps, "every row once");
    reading.source.ack(&reading.at).await.expect("a source is acked");
    reading.steps.clear();
    reading.stops = vec![(reading.at.clone(), 0)];
    (site, table, reading)
}

/// A day at the department: transactions of every kind, and one of more changes than a batch holds. It ends with the
/// rows that the next day needs.
fn transactions<S: SourceSite>(number: usize) -> Vec<Vec<Write>> {
    let today = |what: &str| format!("{what} on day {number}");
    let mut transactions = vec![
        vec![put(4, "赵六")],
        vec![put(1, "张三三"), put(4, "赵六六"), Write::Delete(key(2))],
        vec![Write::Rekey { from: key(1), to: person(50, "张三三", 1) }, put(1, "another")],
        (100..100 + 4 * BATCH_LIMIT as i64).map(|id| put(id, &today("many"))).collect(),
        vec![put(5, ""), Write::Delete(key(5)), put(5, "again"), put(5, "and again"), Write::Delete(key(50))],
    ];
    if S::FEATURES.truncates {
        transactions.push(vec![put(6, "soon gone"), Write::Truncate, put(6, "after it")]);
    }
    transactions.push(vec![put(2, &today("back")), put(7, &today("the last"))]);
    transactions
}

async fn day<S: SourceSite>(site: &S, table: &mut Table, number: usize) -> Vec<Step> {
    let mut steps = Vec::new();
    for transaction in transactions::<S>(number) {
        steps.extend(write(site, table, &transaction).await);
    }
    steps
}

/// I1: what nobody has acked is there for whoever opens, from the first change on.
pub async fn i1_nothing_is_forgotten_that_was_not_acked<S: SourceSite>() {
    let (site, mut table, mut reading) = settled::<S>(&people()).await;
    let start = reading.at.clone();
    let expected = day(&site, &mut table, 0).await;
    reading.until(expected.len()).await;
    assert_eq!(reading.steps, expected);
    // Acked up to the middle of the day: the rest must stay, and comes again.
    let (middle, count) = reading.stops[reading.stops.len() / 2].clone();
    let _ = reading.source.close().await;
    drop(reading);
    let mut again = Reading::open(&site, &start).await;
    again.until(expected.len()).await;
    assert_eq!(again.steps, expected, "nothing was acked");
    again.source.ack(&middle).await.expect("a source is acked");
    let _ = again.source.close().await;
    drop(again);

    let mut rest = Reading::open(&site, &middle).await;
    rest.until(expected.len() - count).await;

    assert_eq!(rest.steps, expected[count..]);
}

/// I1: acks that come late, twice or again say nothing new, and take nothing back.
pub async fn i1_acks_out_of_order_and_twice_do_no_harm<S: SourceSite>() {
    let (site, mut table, mut reading) = settled::<S>(&people()).await;
    let expected = day(&site, &mut table, 0).await;
    reading.until(expected.len()).await;
    let stops = reading.stops.clone();
    let (middle, count) = &stops[stops.len() / 2];
    for upto in [middle, &stops[0].0, middle, &stops[stops.len() / 3].0, middle, &Checkpoint::default()] {
        reading.source.ack(upto).await.expect("a source is acked");
    }
    // It reads on as if nothing were the matter.
    let more = write(&site, &mut table, &[put(8, "周八")]).await;
    reading.until(expected.len() + 1).await;
    assert_eq!(reading.steps[expected.len()..], more);
    drop(reading);

    let mut rest = Reading::open(&site, middle).await;
    rest.until(expected.len() - count + 1).await;

    assert_eq!(rest.steps[..expected.len() - count], expected[*count..]);
    assert_eq!(rest.steps[expected.len() - count..], more);
}

/// I1: where the origin has forgotten what comes next, the source says so instead of leaving it out. Where the origin
/// keeps everything, it is read again.
pub async fn i1_a_place_that_the_origin_has_forgotten_is_said_to_be_lost<S: SourceSite>() {
    let (site, mut table, mut reading) = settled::<S>(&people()).await;
    let start = reading.at.clone();
    let expected = day(&site, &mut table, 0).await;
    reading.until(expected.len()).await;
    reading.settle().await;
    let end = reading.at.clone();
    reading.source.ack(&end).await.expect("a source is acked");
    if S::FEATURES.prunes {
        // An origin may need to be asked for more before it takes an ack in.
        let forgotten = site.forgotten(&end);
        let reads = async {
            loop {
                reading.next().await;
            }
        };
        in_time("forget", async {
            tokio::select! {
                () = forgotten => {}
                () = reads => {}
            }
        })
        .await;
    }
    let _ = reading.source.close().await;
    drop(reading);

    let mut source = site.source();
    let opened = in_time("open a source", source.open(&start)).await;

    if !S::FEATURES.prunes {
        opened.expect("an origin that keeps everything opens anywhere");
        return;
    }
    let error = opened.expect_err("what comes next is gone");
    assert_eq!(error.kind, ErrorKind::PositionLost, "{error}");
    // And where everything was acked, it goes on.
    let more = write(&site, &mut table, &[put(8, "周八")]).await;
    let mut rest = Reading::open(&site, &end).await;
    rest.until(1).await;
    assert_eq!(rest.steps, more);
}

/// I3: however often a caller gives up waiting, the snapshot and the stream come whole.
pub async fn i3_a_read_that_nobody_waited_for_loses_nothing<S: SourceSite>() {
    let contract = people();
    let site = S::fresh(&contract).await;
    let mut table = Table::new(&contract);
    let rows: Vec<Write> = (0..3 * CHUNK_LIMIT as i64).map(|id| put(id, "there before")).collect();
    let mut expected = write(&site, &mut table, &rows).await;
    let mut reading = Reading::open(&site, &Checkpoint::default()).await;
    reading.polls = Some(1);
    reading.until(expected.len()).await;
    reading.settle().await;
    for number in 0..3 {
        expected.extend(day(&site, &mut table, number).await);
        reading.until(expected.len()).await;
    }
    expected.extend(write(&site, &mut table, &[put(8, "周八")]).await);
    reading.until(expected.len()).await;
    assert_eq!(reading.steps, expected);
}

/// I3: a table that was empty when the capture began is no end.
pub async fn i3_an_empty_source_waits_and_then_delivers<S: SourceSite>() {
    let contract = people();
    let site = S::fresh(&contract).await;
    let mut table = Table::new(&contract);
    let mut reading = Reading::open(&site, &Checkpoint::default()).await;
    for round in 0..3 {
        // A call that waits already when the change comes.
        let writes = [put(round, "张三"), put(round, "张三三")];
        let (expected, ()) = tokio::join!(write(&site, &mut table, &writes), async {
            // A snapshot may still find the row as its second statement left it.
            while reading.steps.last().and_then(|step| step.after.clone())
                != Some(person(round, "张三三", round))
            {
                reading.next().await;
            }
        });
        reading.settle().await;
        if round > 0 {
            assert_eq!(reading.steps, expected);
        }
        reading.steps.clear();
    }
}

/// I3, I4: the department's changes, each once, in the order in which they were committed.
pub async fn i4_changes_come_once_and_in_the_order_of_their_commits<S: SourceSite>() {
    let (site, mut table, mut reading) = settled::<S>(&people()).await;
    let mut expected = day(&site, &mut table, 0).await;
    for seed in 0..4 {
        println!("seed {seed}");
        let writes = table.any(&mut StdRng::seed_from_u64(seed), 40, S::FEATURES.truncates);
        for transaction in writes.chunks(1 + seed as usize * 4) {
            expected.extend(write(&site, &mut table, transaction).await);
        }
        reading.until(expected.len()).await;
        reading.source.ack(&reading.at).await.expect("a source is acked");
    }
    reading.settle().await;
    assert_eq!(reading.steps, expected);
}

/// I4: a transaction of many batches, and a row that is larger than what a batch should hold.
pub async fn i4_a_giant_transaction_and_a_giant_row_come_whole<S: SourceSite>() {
    let (site, mut table, mut reading) = settled::<S>(&people()).await;
    let mut writes: Vec<Write> = (100..2_100).map(|id| put(id, "许多")).collect();
    writes.push(put(4, &"胡同".repeat(1 << 20)));
    writes.push(put(5, "behind it"));
    let expected = write(&site, &mut table, &writes).await;
    reading.until(expected.len()).await;
    reading.settle().await;
    assert!(reading.steps == expected, "{} changes are those that were made", reading.steps.len());
    assert!(
        !S::FEATURES.limited || reading.stops.len() > 10,
        "they come in many batches: {}",
        reading.stops.len()
    );
    // From the middle of it.
    let (middle, count) = reading.stops[reading.stops.len() / 2].clone();
    drop(reading);
    let mut rest = Reading::open(&site, &middle).await;
    rest.until(expected.len() - count).await;
    assert!(rest.steps == expected[count..], "{} changes are the rest", rest.steps.len());
}

/// I6: every value of every type, in a row that a snapshot reads and in one that the stream brings.
pub async fn i6_every_value_is_carried_exactly_or_set_aside<S: SourceSite>() {
    let cases = cases();
    let mut fields = vec![hutong_core::Field::new("id", hutong_core::Type::Long)];
    let named = cases.iter().enumerate();
    fields.extend(named.map(|(n, (ty, _))| hutong_core::Field::new(format!("f{n}"), ty.clone())));
    let contract = contract("everything", fields);
    let site = S::fresh(&contract).await;
    let mut table = Table::new(&contract);
    let rows = |first: i64| {
        let empty = |id: i64| {
            let mut row = vec![Value::Null; cases.len() + 1];
            row[0] = Value::Integer(id);
            row
        };
        let (mut carried, mut refused) = (BTreeMap::from([(first, empty(first))]), Vec::new());
        let mut together = empty(first + 1);
        let mut id = first + 1;
        for (at, (ty, values)) in cases.iter().enumerate() {
            for value in values {
                id += 1;
                let mut row = empty(id);
                row[at + 1] = value.clone();
                match S::fate(ty, value) {
                    Fate::Carried => {
                        together[at + 1] = value.clone();
                        carried.insert(id, row);
                    }
                    Fate::Refused => refused.push(row),
                    Fate::Impossible => {}
                }
            }
        }
        carried.insert(first + 1, together);
        (carried, refused)
    };
    let mut opened = None;
    for first in [0, 10_000] {
        let (carried, refused) = rows(first);
        let writes: Vec<Write> = carried.values().chain(&refused).cloned().map(Write::Put).collect();
        write(&site, &mut table, &writes).await;
        let mut reading = match opened.take() {
            Some(reading) => reading,
            None => Reading::open(&site, &Checkpoint::default()).await,
        };
        while reading.steps.len() + reading.rejected.len() < writes.len() {
            reading.next().await;
        }
        reading.settle().await;
        is_exact(keyed(&reading.steps), &carried);
        let reasons: Vec<_> = reading.rejected.iter().map(|item| (item.rule, &item.reason)).collect();
        assert_eq!(reasons.len(), refused.len(), "{reasons:?}");
        assert!(
            reasons.iter().all(|(_, reason)| reason.contains('f')),
            "by the name of a field: {reasons:?}"
        );
        reading.steps.clear();
        reading.rejected.clear();
        opened = Some(reading);
    }
}

/// Returns the new rows with their keys.
fn keyed(steps: &[Step]) -> impl ExactSizeIterator<Item = (&Value, Option<&Row>)> {
    steps.iter().map(|step| (&step.key[0], step.after.as_ref()))
}

/// I7: stopped after its first, its second, … batch, a snapshot goes on where it was: every row comes once.
pub async fn i7_a_snapshot_goes_on_after_every_stop<S: SourceSite>() {
    let contract = people();
    let count = 3 * CHUNK_LIMIT as i64 + 2;
    for stop in 0.. {
        let site = S::fresh(&contract).await;
        let mut table = Table::new(&contract);
        // Not in the order of their keys, which a snapshot may read them in.
        let writes: Vec<Write> = (0..count).map(|n| put(n * 7 % count, "there before")).collect();
        write(&site, &mut table, &writes).await;
        let mut reading = Reading::open(&site, &Checkpoint::default()).await;
        while reading.stops.len() <= stop && !reading.settled {
            reading.next().await;
        }
        let (done, at) = (reading.settled, reading.at.clone());
        let mut steps = std::mem::take(&mut reading.steps);
        drop(reading);

        let mut rest = Reading::open(&site, &at).await;
        rest.until(table.rows().len() - steps.len()).await;
        if !done {
            rest.settle().await;
        }
        let end = write(&site, &mut table, &[put(1_000, "the end")]).await;
        rest.until(table.rows().len() - steps.len()).await;

        steps.extend(rest.steps);
        assert!(steps.iter().all(|step| step.op == Op::Insert), "{steps:?}");
        assert_eq!(steps.last(), end.last(), "what comes after the snapshot comes after it");
        steps.sort_by_key(|step| format!("{:?}", step.key));
        let found: Vec<Row> = steps.into_iter().filter_map(|step| step.after).collect();
        assert_eq!(found, table.rows(), "after {stop} batches: every row once, none twice");
        if done {
            assert!(!S::FEATURES.limited || stop > 2, "the snapshot comes in several batches");
            return;
        }
    }
}

/// I3: whatever the department does while a snapshot is under way, also between a stop and the next opening, all that
/// comes leaves the table as it is.
pub async fn i3_changes_beside_a_snapshot_leave_the_table_as_it_is<S: SourceSite>() {
    let contract = people();
    for seed in 0..4 {
        println!("seed {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let site = S::fresh(&contract).await;
        let mut table = Table::new(&contract);
        let rows: Vec<Write> = (0..6 * CHUNK_LIMIT as i64).map(|id| put(id, "there before")).collect();
        write(&site, &mut table, &rows).await;
        let mut replica = Table::new(&contract);
        let mut reading = Reading::open(&site, &Checkpoint::default()).await;
        for round in 0..12 {
            let writes = table.any(&mut random, 3, S::FEATURES.truncates && round % 4 == 0);
            write(&site, &mut table, &writes).await;
            reading.next().await;
            for step in std::mem::take(&mut reading.steps) {
                replica.step(step);
            }
            if round % 3 == 2 {
                let at = reading.at.clone();
                drop(reading);
                reading = Reading::open(&site, &at).await;
            }
        }
        let last = write(&site, &mut table, &[put(-1, "the last")]).await;
        while !reading.steps.contains(&last[0]) {
            reading.next().await;
        }
        reading.settle().await;
        for step in reading.steps {
            replica.step(step);
        }
        assert_eq!(replica.rows(), table.rows());
    }
}

/// I7: stopped after any batch, also in the middle of a transaction, a source that opens at that place brings exactly
/// the rest.
pub async fn i7_the_rest_follows_after_every_stop<S: SourceSite>() {
    let (site, mut table, mut reading) = settled::<S>(&people()).await;
    let mut expected = Vec::new();
    for transaction in transactions::<S>(0) {
        expected.extend(write(&site, &mut table, &transaction).await);
        reading.until(expected.len()).await;
    }
    assert_eq!(reading.steps, expected);
    let stops = std::mem::take(&mut reading.stops);
    assert!(stops.len() > 5, "a day comes in several batches: {}", stops.len());
    drop(reading);
    // One after the other: a place that a source was opened at is durable, so the origin need not keep what is before it.
    for (at, count) in stops {
        let mut rest = Reading::open(&site, &at).await;
        rest.until(expected.len() - count).await;
        assert_eq!(rest.steps, expected[count..], "after {count} changes");
        // Nothing stands between the rest and what comes next.
        expected.extend(write(&site, &mut table, &[put(900, &format!("after {count}"))]).await);
        rest.until(expected.len() - count).await;
        assert_eq!(rest.steps, expected[count..], "after {count} changes, and one");
    }
}
