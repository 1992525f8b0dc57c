//! A delivery: what one subscription is granted, in a topic of its own, exactly once, generation after generation.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use hutong_core::grant::{Grant, Permit};
use hutong_core::ledger::receipt;
use hutong_core::{
    Act, Change, Class, ErrorKind, Hold, Kind, LaneId, Op, Order, PipelineId, Result, Secret, Sink, Source,
    Step, Value, Verb, Verdict,
};

use super::office::{Office, PARTITIONS, TOPIC, batch, drain, opened, records};
use crate::decoder::{Decoder, Outcome};
use crate::delivery::{Delivery, DeliveryConfig, DeliverySink, Generations, Proofs};
use crate::log::TopicSpec;

const STEM: &str = "gongan.person.to.pension";

fn generations(office: &Office) -> Generations {
    Generations {
        log: Arc::clone(&office.log),
        registry: Arc::clone(&office.registry),
        bus: "hutong".into(),
        pipeline: PipelineId::new(Kind::Deliver, "pension"),
        stem: STEM.into(),
        partitions: PARTITIONS,
        subscriber: None,
    }
}

/// Returns the step of a grant.
fn permit(office: &Office, columns: &[&str], rows: Option<&str>) -> Permit {
    let grant = Grant {
        subscription: "pension".into(),
        stream: "person".into(),
        columns: columns.iter().map(|c| (*c).to_owned()).collect(),
        rows: rows.map(str::to_owned),
        masks: BTreeMap::new(),
        until: None,
        key: Secret::new("k"),
    };
    Permit::new(Arc::clone(&office.contract), &grant).unwrap().told()
}

/// Returns the delivery of a process that knows this grant.
fn delivery(office: &Office, mark: &str, permit: &Permit) -> Arc<Delivery> {
    let config = DeliveryConfig {
        mark: mark.into(),
        contract: permit.projection(),
        compatibility: None,
        history: Duration::ZERO,
    };
    Delivery::new(generations(office), config)
}

fn lane(partition: u32) -> LaneId {
    LaneId::new(PipelineId::new(Kind::Deliver, "pension"), partition)
}

/// Runs a lane as the engine does until nothing more comes.
async fn carry(office: &Office, sink: &mut DeliverySink, partition: u32, permit: &mut Permit) -> Result<()> {
    let mut checkpoint = sink.open(&lane(partition)).await?;
    let mut source = office.source(partition);
    source.open(&checkpoint).await?;
    for mut batch in drain(&mut source, &mut checkpoint).await? {
        let changes = std::mem::take(&mut batch.changes);
        for change in changes {
            match permit.apply(change) {
                Verdict::Pass(change) => batch.changes.push(change),
                Verdict::Reject(rejected) => batch.rejected.push(rejected),
                Verdict::Drop { .. } => {}
            }
        }
        for change in &batch.changes {
            sink.prepare(&change.contract).await?;
        }
        sink.commit(&batch).await?;
    }
    Ok(())
}

/// Runs all lanes of a process that knows this grant, once.
async fn run(office: &Office, mark: &str, columns: &[&str], rows: Option<&str>) {
    let delivery = delivery(office, mark, &permit(office, columns, rows));
    for partition in 0..PARTITIONS {
        carry(office, &mut delivery.sink(None), partition, &mut permit(office, columns, rows)).await.unwrap();
    }
}

/// Returns what stands in each partition of a topic: letter, key, name; `?` of a row without it.
async fn told(office: &Office, generation: u32, columns: &[&str]) -> Vec<Vec<String>> {
    let topic = generations(office).topic(generation);
    let contract = permit(office, columns, None).projection();
    let mut told = Vec::new();
    for partition in 0..PARTITIONS {
        let found = records(office, &topic, partition).await;
        let mut decoder = Decoder::new(Arc::clone(&office.registry), Arc::clone(&contract)).of(&topic);
        decoder.learn(&found).await.unwrap();
        let text = |record| match decoder.decode(record) {
            Outcome::Change(change) => text(&change),
            other => panic!("{other:?}"),
        };
        told.push(found.iter().map(text).collect());
    }
    told
}

fn text(change: &Change) -> String {
    let row = change.after.as_ref().or(change.before.row());
    let parts = row.into_iter().flatten().map(|value| match value {
        Value::Integer(n) => n.to_string(),
        other => other.as_text().unwrap_or("?").to_owned(),
    });
    std::iter::once(change.op.letter().to_owned()).chain(parts).collect::<Vec<_>>().join(" ")
}

/// Returns the rows that a reader of the whole topic holds in the end.
async fn replica(office: &Office, generation: u32, columns: &[&str]) -> BTreeMap<String, String> {
    let mut rows = BTreeMap::new();
    for partition in told(office, generation, columns).await {
        let mut own: BTreeMap<String, String> = BTreeMap::new();
        for line in partition {
            let mut parts = line.split(' ').map(str::to_owned);
            match (parts.next().as_deref(), parts.next(), parts.next()) {
                (Some("t"), ..) => own.clear(),
                (Some("d"), Some(key), _) => drop(own.remove(&key)),
                (_, Some(key), name) => drop(own.insert(key, name.unwrap_or_default())),
                (_, None, _) => panic!("{line}"),
            }
        }
        rows.extend(own);
    }
    rows
}

async fn exists(office: &Office, topic: &str) -> bool {
    office.log.extent(topic).await.unwrap().is_some()
}

#[tokio::test]
async fn i2_i4_a_truncate_of_one_lane_takes_no_row_of_another_and_a_lost_answer_writes_nothing_twice() {
    let office = Office::new();
    let (mut capture, _) = opened(&office).await;
    let all = &["id", "name"];
    let rows = |step, from: i64| (from..from + 9).map(move |id| (step, id));
    let changes = |list: Vec<(u64, i64)>| -> Vec<Change> {
        list.into_iter().map(|(step, id)| office.change(step, Op::Insert, id, "甲")).collect()
    };
    capture.commit(&batch(0, 1, changes(rows(1, 0).collect()), 1)).await.unwrap();
    let mut second = vec![office.change(2, Op::Truncate, 0, "")];
    second.extend(changes(rows(2, 100).collect()));
    capture.commit(&batch(1, 2, second, 2)).await.unwrap();

    // The last lane goes ahead of the others, which come to the truncate when its new rows stand there already.
    let mut permit = permit(&office, all, None);
    let delivery = delivery(&office, "m", &permit);
    for partition in (0..PARTITIONS).rev() {
        let mut sink = delivery.sink(None);
        office.lose.store(partition == 0, Ordering::Relaxed);
        while let Err(error) = carry(&office, &mut sink, partition, &mut permit).await {
            assert_eq!(error.class(), Class::Retry, "{error}");
        }
    }

    assert_eq!(
        replica(&office, 1, all).await.into_keys().map(|id| id.parse::<i64>().unwrap()).collect::<Vec<_>>(),
        (100..109).collect::<Vec<_>>()
    );
    let (delivered, captured) = (told(&office, 1, all).await, told_of_stream(&office).await);
    assert_eq!(delivered, captured, "each lane keeps its partition and its order, and writes once");
}

/// Returns what stands in each partition of the change topic.
async fn told_of_stream(office: &Office) -> Vec<Vec<String>> {
    let mut told = Vec::new();
    for partition in 0..PARTITIONS {
        let found = records(office, TOPIC, partition).await;
        let mut decoder = Decoder::new(Arc::clone(&office.registry), Arc::clone(&office.contract)).of(TOPIC);
        decoder.learn(&found).await.unwrap();
        told.push(
            found
                .iter()
                .map(|record| match decoder.decode(record) {
                    Outcome::Change(change) => text(&change),
                    other => panic!("{other:?}"),
                })
                .collect(),
        );
    }
    told
}

#[tokio::test]
async fn i5_another_grant_begins_the_next_generation_at_the_base_and_the_earlier_topic_is_gone() {
    let office = Office::new();
    let (mut capture, _) = opened(&office).await;
    let people = (1..=9).map(|id| office.change(1, Op::Insert, id, if id % 2 == 0 { "甲" } else { "乙" }));
    capture.commit(&batch(0, 1, people.collect(), 1)).await.unwrap();
    run(&office, "wide", &["id", "name"], None).await;
    assert_eq!(replica(&office, 1, &["id", "name"]).await.len(), 9);

    // One of three lanes has begun under the narrower grant when the process is killed.
    let narrow = Some("name = '甲'");
    let step = permit(&office, &["id"], narrow);
    let begun = delivery(&office, "narrow", &step);
    carry(&office, &mut begun.sink(None), 1, &mut permit(&office, &["id"], narrow)).await.unwrap();
    assert!(!exists(&office, "gongan.person.to.pension.v1").await, "what is no longer granted is not kept");
    run(&office, "narrow", &["id"], narrow).await;
    run(&office, "narrow", &["id"], narrow).await;

    assert_eq!(replica(&office, 2, &["id"]).await.into_keys().collect::<Vec<_>>(), ["2", "4", "6", "8"]);
    let count: usize = told(&office, 2, &["id"]).await.iter().map(Vec::len).sum();
    assert_eq!(count, 4, "once each, also where a lane had begun");
    assert_eq!(generations(&office).newest().await.unwrap(), Some(2));
    // The grant of before is another one again: its topic is not taken up where it was left.
    run(&office, "wide", &["id", "name"], None).await;
    assert_eq!(replica(&office, 3, &["id", "name"]).await.len(), 9);
    assert!(!exists(&office, "gongan.person.to.pension.v2").await);
}

#[tokio::test]
async fn i7_a_recall_deletes_the_topic_as_often_as_it_is_done_and_what_comes_after_is_the_next_one() {
    let office = Office::new();
    let (mut capture, _) = opened(&office).await;
    capture.commit(&batch(0, 1, vec![office.change(1, Op::Insert, 1, "甲")], 1)).await.unwrap();
    let columns = &["id", "name"];
    run(&office, "m", columns, None).await;
    let step = permit(&office, columns, None);
    let running = delivery(&office, "m", &step);
    let mut lanes = Vec::new();
    for partition in 0..PARTITIONS {
        let mut sink = running.sink(None);
        lanes.push((sink.open(&lane(partition)).await.unwrap(), sink));
    }

    for _ in 0..2 {
        for partition in 0..PARTITIONS {
            generations(&office).recall(&lane(partition), 3, 7).await.unwrap();
            assert!(!exists(&office, "gongan.person.to.pension.v1").await);
        }
    }
    let (_, mut sink) = lanes.remove(0);
    let error = sink.commit(&batch(0, 1, Vec::new(), 1)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Fenced, "who still runs is shut out: {error}");
    assert_eq!(sink.look().await.unwrap(), Hold::Taken, "and by no person who wants the lane to go on");

    run(&office, "m", columns, None).await;
    assert_eq!(replica(&office, 2, columns).await.len(), 1);
    assert!(!exists(&office, "gongan.person.to.pension.v1").await);
}

#[tokio::test]
async fn i7_what_was_recalled_before_any_of_its_lanes_had_opened_is_delivered_when_it_is_granted_again() {
    let office = Office::new();
    let (mut capture, _) = opened(&office).await;
    let people = (1..=9).map(|id| office.change(1, Op::Insert, id, "甲"));
    capture.commit(&batch(0, 1, people.collect(), 1)).await.unwrap();
    for partition in 0..PARTITIONS {
        generations(&office).recall(&lane(partition), 3, 7).await.unwrap();
    }
    let columns = &["id", "name"];
    let mut step = permit(&office, columns, None);
    let granted = delivery(&office, "m", &step);
    for partition in 0..PARTITIONS {
        carry(&office, &mut granted.sink(Some(9)), partition, &mut step).await.unwrap();
    }
    assert_eq!(replica(&office, 1, columns).await.len(), 9);
}

#[tokio::test]
async fn i3_a_delivery_topic_that_somebody_deleted_halts_until_a_person_begins_the_next_one() {
    let office = Office::new();
    let (mut capture, _) = opened(&office).await;
    let people = (1..=9).map(|id| office.change(1, Op::Insert, id, "甲"));
    capture.commit(&batch(0, 1, people.collect(), 1)).await.unwrap();
    let columns = &["id", "name"];
    run(&office, "m", columns, None).await;

    office.log.delete("gongan.person.to.pension.v1").await.unwrap();
    let mut step = permit(&office, columns, None);
    let lost = carry(&office, &mut delivery(&office, "m", &step).sink(None), 0, &mut step).await.unwrap_err();
    assert_eq!(lost.kind, ErrorKind::PositionLost);
    assert!(lost.hint.unwrap().contains("`hutong subscription reload pension`"));

    let act = Act { verb: Verb::Reload, at_us: 1, by: "li".into(), reason: "掉了".into(), to_us: None };
    let order = Order { act: act.clone(), back: BTreeMap::new() };
    let stood = generations(&office).reload(&order).await.unwrap();
    let lanes: Vec<String> = stood.iter().map(|(lane, _)| lane.to_string()).collect();
    assert_eq!(lanes, ["deliver.pension.0", "deliver.pension.1", "deliver.pension.2"]);
    for (lane, checkpoint, ended) in generations(&office).stands().await.unwrap() {
        assert!(ended && checkpoint.positions.is_empty(), "{lane}");
        assert_eq!(checkpoint.acts(), std::slice::from_ref(&act), "{lane}");
    }
    run(&office, "m", columns, None).await;
    assert_eq!(replica(&office, 2, columns).await.len(), 9);
}

#[tokio::test]
async fn a_lane_that_a_person_shut_out_opens_again_and_writes_the_next_topic() {
    let office = Office::new();
    let (mut capture, _) = opened(&office).await;
    let people = (1..=9).map(|id| office.change(1, Op::Insert, id, "甲"));
    capture.commit(&batch(0, 1, people.collect(), 1)).await.unwrap();
    let columns = &["id", "name"];
    run(&office, "m", columns, None).await;
    let mut step = permit(&office, columns, None);
    let running = delivery(&office, "m", &step);
    let mut sinks = Vec::new();
    for partition in 0..PARTITIONS {
        let mut sink = running.sink(None);
        sink.open(&lane(partition)).await.unwrap();
        sinks.push(sink);
    }

    let act = Act { verb: Verb::Reload, at_us: 1, by: "li".into(), reason: String::new(), to_us: None };
    generations(&office).reload(&Order { act, back: BTreeMap::new() }).await.unwrap();

    for (sink, partition) in sinks.iter_mut().zip(0..) {
        // The second of them learns of it from the first.
        let kind = sink.commit(&batch(0, 1, Vec::new(), 1)).await.unwrap_err().kind;
        match partition {
            0 => assert_eq!((kind, sink.look().await.unwrap()), (ErrorKind::Fenced, Hold::Turned)),
            _ => assert_eq!(kind, ErrorKind::Unavailable),
        }
        carry(&office, sink, partition, &mut step).await.unwrap();
    }
    assert_eq!(replica(&office, 2, columns).await.len(), 9);
    assert!(!exists(&office, "gongan.person.to.pension.v1").await);
}

#[tokio::test]
async fn i7_lanes_that_are_recalled_at_once_are_in_nobodys_way() {
    for _ in 0..5 {
        let office = Office::new();
        let (mut capture, _) = opened(&office).await;
        let people = (1..=9).map(|id| office.change(1, Op::Insert, id, "甲"));
        capture.commit(&batch(0, 1, people.collect(), 1)).await.unwrap();
        run(&office, "m", &["id", "name"], None).await;
        let topics = generations(&office);
        let lanes: Vec<LaneId> = (0..PARTITIONS).map(lane).collect();
        for recalled in join_all(lanes.iter().map(|lane| topics.recall(lane, 3, 7))).await {
            recalled.unwrap();
        }
        assert!(!exists(&office, "gongan.person.to.pension.v1").await);
    }
}

#[tokio::test]
async fn i5_a_topic_that_was_made_again_behind_its_end_is_deleted_again() {
    let office = Office::new();
    let (mut capture, _) = opened(&office).await;
    capture.commit(&batch(0, 1, vec![office.change(1, Op::Insert, 1, "甲")], 1)).await.unwrap();
    run(&office, "wide", &["id", "name"], None).await;
    run(&office, "narrow", &["id"], None).await;
    let made = TopicSpec { name: "gongan.person.to.pension.v1".into(), partitions: 1, compacted: false };
    office.log.ensure(&made).await.unwrap();

    run(&office, "narrow", &["id"], None).await;

    assert!(!exists(&office, "gongan.person.to.pension.v1").await);
    assert_eq!(replica(&office, 2, &["id"]).await.len(), 1);
}

#[tokio::test]
async fn i5_what_a_delivery_sets_aside_holds_what_is_granted_and_no_more() {
    let office = Office::new();
    let (mut capture, _) = opened(&office).await;
    let inside = office.change(1, Op::Insert, 1, "甲");
    // Without its old row nobody can tell whether the subscriber holds it: the key would name somebody.
    let outside = office.change(2, Op::Update, 990_101, "乙");
    capture.commit(&batch(0, 1, vec![inside], 1)).await.unwrap();
    capture.commit(&batch(1, 2, vec![outside], 2)).await.unwrap();

    run(&office, "m", &["id"], Some("name = '甲'")).await;

    assert_eq!(replica(&office, 1, &["id"]).await.into_keys().collect::<Vec<_>>(), ["1"]);
    let aside = records(&office, "gongan.person.to.pension.quarantine", 0).await;
    let [item] = aside.as_slice() else { panic!("{aside:?}") };
    let kept = crate::quarantine::decode(item.value.as_ref().unwrap()).unwrap();
    assert_eq!((kept.rule.as_str(), kept.envelope, kept.key), ("unknown_value", None, None));
    assert!(!format!("{item:?}").contains("990101"));
}

#[tokio::test]
async fn a_truncate_moves_the_base_so_that_what_stood_before_it_is_forgotten() {
    let office = Office::new();
    let (mut capture, _) = opened(&office).await;
    let columns = &["id", "name"];
    for step in 0..3 {
        let mut changes = vec![office.change(step + 1, Op::Truncate, 0, "")];
        changes.extend((0..9).map(|id| office.change(step + 1, Op::Insert, id, "甲")));
        capture.commit(&batch(step, step + 1, changes, 1)).await.unwrap();
        run(&office, "m", columns, None).await;
    }
    // Trimmed when a lane opens; a history of no time keeps nothing that is not needed.
    run(&office, "m", columns, None).await;
    let extent = office.log.extent("gongan.person.to.pension.v1").await.unwrap().unwrap();
    assert!(extent.values().all(|(first, _)| *first > 0), "{extent:?}");
    assert_eq!(replica(&office, 1, columns).await.len(), 9);
}

#[tokio::test]
async fn i2_each_commit_of_a_delivery_leaves_one_receipt_in_one_chain_over_all_grants() {
    let office = Office::new();
    let (mut capture, _) = opened(&office).await;
    let people = (1..=9).map(|id| office.change(1, Op::Insert, id, "甲"));
    capture.commit(&batch(0, 1, people.collect(), 1)).await.unwrap();
    let deliver = async |mark, grant| {
        let mut step = permit(&office, &["id"], None);
        let delivery = delivery(&office, mark, &step);
        for partition in 0..PARTITIONS {
            // A commit whose answer is lost has left its receipt, too.
            office.lose.store(true, Ordering::Relaxed);
            while let Err(error) = carry(&office, &mut delivery.sink(Some(grant)), partition, &mut step).await
            {
                assert_eq!(error.class(), Class::Retry, "{error}");
            }
        }
    };
    deliver("asked for", 7).await;
    capture.commit(&batch(1, 2, vec![office.change(2, Op::Delete, 3, "")], 2)).await.unwrap();
    deliver("asked for", 7).await;
    deliver("widened", 8).await;

    let proofs = || Proofs::new(Arc::clone(&office.log), "hutong", lane(0).pipeline);
    let (mut reader, mut counted) = (proofs(), BTreeMap::new());
    let heads = reader.heads().await.unwrap();
    assert_eq!(heads.len(), PARTITIONS as usize);
    for (lane, head) in &heads {
        let mut last = receipt::begin(lane);
        for kept in reader.since(lane, 0, 100).await.unwrap() {
            assert!(kept.proof.follows(lane, &last), "{lane}: {kept:?} behind {last:?}");
            last = kept.proof.head();
            let (written, deleted) = counted.entry(kept.proof.grant).or_insert((0, 0));
            (*written, *deleted) = (*written + kept.written, *deleted + kept.deleted);
        }
        assert_eq!(last, *head, "{lane}");
    }
    assert_eq!(counted, [(7, (9, 1)), (8, (9, 1))].into());

    // A recall leaves one more, however often it is done (I7), of what the present topic held.
    for _ in 0..2 {
        for partition in 0..PARTITIONS {
            generations(&office).recall(&lane(partition), 8, 99).await.unwrap();
        }
    }
    let (mut taken, before) = (0, heads);
    let heads = reader.heads().await.unwrap();
    for (lane, head) in &heads {
        let last = reader.since(lane, before[lane].sequence + 1, 100).await.unwrap();
        assert_eq!(last.len(), 1, "{lane}: {last:?}");
        assert!(last[0].proof.is_of_recall() && last[0].proof.follows(lane, &before[lane]));
        assert_eq!((last[0].proof.grant, last[0].proof.head()), (8, *head));
        taken += last[0].deleted;
    }
    assert_eq!(taken, 10);

    // What a root proves is forgotten, and the chain goes on.
    let (lane, head) = heads.iter().max_by_key(|(_, head)| head.sequence).unwrap();
    assert_eq!(reader.forget(lane, head.sequence - 1).await.unwrap(), head.sequence - 1);
    let rest = proofs().since(lane, 0, 100).await.unwrap();
    assert_eq!(rest.iter().map(|kept| kept.proof.head()).collect::<Vec<_>>(), [*head]);
    assert_eq!(proofs().heads().await.unwrap(), heads);
    assert_eq!(reader.forget(lane, 0).await.unwrap(), 0, "a second time there is nothing");
}
