//! Receipts on their way from a store into their topic: each once, rooted when the day is over, trimmed behind a root,
//! and told when the store was set back.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hutong_bus::embedded::Bus;
use hutong_bus::receipts::{topic, walk};
use hutong_core::ledger::{Audit, Audited};
use hutong_core::{Batch, Before, Change, Delta, LaneId, Op, Origin, Position, Sink as _, Value};
use hutong_stores::sqlite::{Sink, SinkConfig, Store, receipts};
use hutong_testkit::hostile;

use super::super::tests::{HOUR, Scene, key};
use super::*;
use crate::config::plan::{StorePlan, StoreSystem, Target};

/// A lane that writes, and who publishes what it has left.
struct Office {
    scene: Scene,
    ledger: Ledger,
    sink: Sink,
    lane: LaneId,
    at: u64,
    /// What stands in the rows.
    word: &'static str,
}

impl Office {
    async fn new() -> Self {
        let mut scene = Scene::new().await;
        let path = scene.folder.path().join("gongan.key");
        std::fs::write(&path, key().reveal()).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        scene.plan.ledger.as_mut().unwrap().keys.insert("gongan".into(), path);
        let ledger = scene.ledger(HOUR);
        ledger.catch_up().await.unwrap();
        let lane = LaneId::new(scene.plan.subscriptions[0].pipeline(), 0);
        let sink = sink(&scene.folder.path().join("b.db"), &lane);
        let mut office = Self { scene, ledger, sink, lane, at: 0, word: "a" };
        office.opens().await;
        office
    }

    /// Opens the lane, as the next process would.
    async fn opens(&mut self) {
        self.sink = sink(&self.store(), &self.lane);
        let checkpoint = self.sink.open(&self.lane).await.unwrap();
        self.sink.prepare(&self.scene.plan.subscriptions[0].stream.contract).await.unwrap();
        self.at = checkpoint.position("t/0").as_offset().unwrap_or(0);
    }

    /// Delivers one row.
    async fn delivers(&mut self) {
        let from = if self.at == 0 { Position::START } else { Position::offset(self.at) };
        self.at += 1;
        let contract = Arc::clone(&self.scene.plan.subscriptions[0].stream.contract);
        let origin = Origin {
            place: Arc::default(),
            committed_us: 1,
            xid: None,
            lsn: None,
            transaction: None,
            last: true,
        };
        let change = Change {
            contract,
            op: Op::Insert,
            before: Before::None,
            after: Some(vec![Value::Integer(self.at as i64), Value::text(self.word), Value::Null]),
            position: Position::offset(self.at - 1),
            source_position: Position::offset(self.at - 1),
            origin,
        };
        let delta = Delta::range("t/0", from, Position::offset(self.at));
        let batch = Batch { changes: vec![change], delta, ..Batch::default() };
        self.sink.commit(&batch).await.unwrap();
    }

    fn store(&self) -> PathBuf {
        match &self.scene.plan.subscriptions[0].into.store().unwrap().system {
            StoreSystem::Sqlite { path } => path.clone(),
            StoreSystem::Postgres { .. } => panic!("the replica is a file"),
        }
    }

    fn publisher(&self) -> Publisher {
        let plan = &self.scene.plan;
        let ends = Ends {
            bus: plan.bus.name.clone(),
            zone: plan.bus.zone.clone(),
            log: Arc::clone(&self.scene.bus) as _,
            append: Arc::clone(&self.scene.bus) as _,
        };
        let ledger = (self.ledger.clone(), plan.ledger.clone().unwrap());
        Publisher::new("gongan", ends, ledger, &[&plan.subscriptions[0]]).unwrap()
    }

    fn topic(&self) -> String {
        topic(&self.scene.plan.bus.name, "gongan")
    }

    /// Returns the number in the topic and the number in its lane of each published receipt.
    async fn published(&self) -> Vec<(u64, u64)> {
        read(&self.scene.bus, &self.topic()).await.iter().map(|r| (r.number, r.proof.sequence)).collect()
    }

    async fn audit(&self) -> Audited {
        let charter = self.scene.plan.ledger.as_ref().unwrap().charter.clone();
        let mut reading = Reading::new(&self.scene.plan.bus.name, charter, false);
        reading.catch_up(self.scene.bus.as_ref()).await.unwrap();
        let mut audit = Audit::new(&reading.book, "gongan");
        walk(self.scene.bus.as_ref(), &self.topic(), |record| {
            audit.take(record.value.as_deref());
            Ok(true)
        })
        .await
        .unwrap();
        audit.end()
    }
}

async fn read(bus: &Bus, topic: &str) -> Vec<Receipt> {
    let mut found = Vec::new();
    walk(bus, topic, |record| {
        found.push(Receipt::read(record.value.as_deref().unwrap()).unwrap());
        Ok(true)
    })
    .await
    .unwrap();
    found
}

fn sink(path: &PathBuf, lane: &LaneId) -> Sink {
    Sink::new(SinkConfig {
        store: Arc::new(Store::new(path)),
        lane: lane.clone(),
        table: "entry".into(),
        grant: "g".into(),
        partitions: None,
        contract: None,
        content: None,
        number: Some(4),
        quarantine_limit: 9,
    })
}

#[tokio::test]
async fn i2_each_receipt_is_published_once_whoever_publishes_and_however_often_it_begins() {
    let mut office = Office::new().await;
    let (mut one, mut other) = (office.publisher(), office.publisher());
    one.round().await.unwrap();
    assert!(office.published().await.is_empty());
    for n in 1..=6 {
        office.delivers().await;
        // The last one has taken the topic over, and each begins anew after it was shut out.
        let by = if n % 2 == 0 { &mut one } else { &mut other };
        if by.round().await.is_err() {
            by.round().await.unwrap();
        }
    }
    office.publisher().round().await.unwrap();
    assert_eq!(office.published().await, (1..=6).map(|n| (n, n)).collect::<Vec<_>>());
    let kept = receipts::since(&office.store(), &office.lane.to_string(), 0, 99).unwrap();
    let proofs: Vec<_> =
        read(&office.scene.bus, &office.topic()).await.into_iter().map(|r| r.proof).collect();
    assert_eq!(kept.into_iter().map(|kept| kept.proof).collect::<Vec<_>>(), proofs);
    let audited = office.audit().await;
    assert_eq!(
        (audited.receipts, audited.unrooted, &audited.wrong[..], &audited.told[..]),
        (6, 6, &[][..], &[][..])
    );
}

#[tokio::test]
async fn a_day_that_is_over_is_rooted_and_what_a_root_covers_may_go() {
    let mut office = Office::new().await;
    let mut publisher = office.publisher();
    for day in 0..3 {
        office.delivers().await;
        office.delivers().await;
        publisher.round().await.unwrap();
        assert_eq!(office.audit().await.roots, day, "not before the day is over");
        // As if it had been published the day before.
        let published = &mut publisher.open.as_mut().unwrap().1;
        published.day = published.day.yesterday().unwrap();
        publisher.round().await.unwrap();
        office.ledger.catch_up().await.unwrap();
        publisher.round().await.unwrap();
        let audited = office.audit().await;
        assert_eq!((audited.roots, audited.unrooted, &audited.wrong[..]), (day + 1, 0, &[][..]));
        let kept = receipts::since(&office.store(), &office.lane.to_string(), 0, 99).unwrap();
        assert!(kept.is_empty(), "the store has forgotten them");
    }
    trim(office.scene.bus.as_ref(), &office.topic(), 4).await.unwrap();
    assert_eq!(office.published().await, [(5, 5), (6, 6)]);
    let audited = office.audit().await;
    assert_eq!((audited.receipts, audited.roots, &audited.wrong[..]), (2, 1, &[][..]));
    trim(office.scene.bus.as_ref(), &office.topic(), 6).await.unwrap();
    assert!(office.published().await.is_empty());
    office.delivers().await;
    office.publisher().round().await.unwrap();
    assert_eq!(office.published().await, [(7, 7)]);
    assert_eq!(office.audit().await.wrong, Vec::<String>::new());
}

#[tokio::test]
async fn whoever_signs_a_root_every_store_forgets_what_it_covers_and_nothing_else() {
    let mut office = Office::new().await;
    // This process publishes and has no key: a person roots.
    let plan = office.scene.plan.ledger.as_mut().unwrap();
    plan.keys.clear();
    let mut publisher = office.publisher();
    office.delivers().await;
    office.delivers().await;
    publisher.round().await.unwrap();
    let published = &mut publisher.open.as_mut().unwrap().1;
    published.day = published.day.yesterday().unwrap();
    let (day, head) = (published.day, published.head);
    let kept = |office: &Office| {
        let kept = receipts::since(&office.store(), &office.lane.to_string(), 0, 99).unwrap();
        kept.into_iter().map(|kept| kept.proof.sequence).collect::<Vec<_>>()
    };
    // The next day begins before anybody has signed.
    office.delivers().await;
    publisher.round().await.unwrap();
    assert_eq!(kept(&office), [1, 2, 3], "nothing is proved yet");

    office.scene.says("gongan", Act::Rooted { day, receipts: head }).await;
    office.ledger.catch_up().await.unwrap();
    // Another process, which begins anew.
    office.publisher().round().await.unwrap();
    assert_eq!(kept(&office), [3], "only what the root covers goes");
    assert_eq!(office.published().await, [(1, 1), (2, 2), (3, 3)]);
    office.delivers().await;
    office.publisher().round().await.unwrap();
    assert_eq!(office.published().await.last(), Some(&(4, 4)), "and it goes on from there");
    assert_eq!(office.audit().await.wrong, Vec::<String>::new());
}

#[tokio::test]
async fn a_store_that_was_set_back_publishes_its_other_history_too() {
    let mut office = Office::new().await;
    office.delivers().await;
    let (store, copy) = (office.store(), office.store().with_file_name("copy.db"));
    for suffix in ["", "-wal"] {
        let named = |path: &Path| format!("{}{suffix}", path.display());
        std::fs::copy(named(&store), named(&copy)).unwrap();
    }
    office.delivers().await;
    office.publisher().round().await.unwrap();
    // A person puts the copy in the place of the store.
    let system = StoreSystem::Sqlite { path: copy };
    let plan = StorePlan { name: "b".into(), system };
    let subscription = &mut office.scene.plan.subscriptions[0];
    let table = subscription.replica("move").unwrap().1.to_owned();
    subscription.into = Target::Table { store: Arc::new(plan), table };
    office.opens().await;
    assert_eq!(office.at, 1, "the store stands where it stood");
    // The same would be the same receipt.
    office.word = "b";
    office.delivers().await;
    office.publisher().round().await.unwrap();
    assert_eq!(office.published().await, [(1, 1), (2, 2), (3, 1), (4, 2)]);
    let audited = office.audit().await;
    assert_eq!((audited.receipts, &audited.wrong[..]), (4, &[][..]));
    assert!(!audited.told.is_empty());
}

#[test]
fn i2_a_hostile_word_of_what_was_published_is_refused_or_reads_as_it_would_be_written() {
    let head = Head { sequence: 7, digest: hutong_core::ledger::Digest::of(b"a") };
    let lanes: BTreeMap<String, Head> = [("renshe replicate.pension.0".to_owned(), head)].into();
    let closed = Some(Closed { sequence: 5, lanes: lanes.clone() });
    let published = Published { version: VERSION, day: Date::constant(2026, 11, 27), head, lanes, closed };
    let valid = [serde_json::to_vec(&published).unwrap()];
    let name = "i2_a_hostile_word_of_what_was_published_is_refused_or_reads_as_it_would_be_written";
    hostile::feed(name, 4_000, &valid, |bytes| match super::read(bytes, "t") {
        Ok(read) => {
            let again = serde_json::to_vec(&read).unwrap();
            assert_eq!(super::read(&again, "t").unwrap(), read);
        }
        Err(error) => assert!(matches!(error.kind, ErrorKind::Broken | ErrorKind::Config), "{error}"),
    });
}
