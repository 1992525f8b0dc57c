//! Receipts that were taken away, changed, put in, cut off or moved, and roots that tell.

use std::sync::Arc;

use jiff::civil::date;

use super::receipt::{NOTE, begin, content};
use super::*;
use crate::change::{Before, Change, Op, Origin, Rejected};
use crate::checkpoint::{Checkpoint, Delta};
use crate::contract::Contract;
use crate::port::Batch;
use crate::position::Position;
use crate::value::Value;

const LANE: &str = "replicate.pension.0";

fn change(offset: u64, name: Value) -> Change {
    let contract = r#"{"type":"record","name":"population","key":["id"],"sharing":"unconditional","fields":[
        {"name":"id","type":"long"},{"name":"name","type":["null","string"]}]}"#;
    Change {
        contract: Contract::parse(contract).unwrap().shared(),
        op: Op::Insert,
        before: Before::None,
        after: Some(vec![Value::Integer(1), name]),
        position: Position::offset(offset),
        source_position: Position::offset(offset),
        origin: Origin {
            place: Arc::default(),
            committed_us: 0,
            xid: None,
            lsn: None,
            transaction: None,
            last: true,
        },
    }
}

fn batch(from: u64, changes: Vec<Change>) -> Batch {
    let to = Position::offset(from + changes.len() as u64);
    let from = if from == 0 { Position::START } else { Position::offset(from) };
    Batch { changes, delta: Delta::range("t/0", from, to), ..Batch::default() }
}

/// Proves a batch and moves the checkpoint as a sink does.
fn proven(here: &mut Checkpoint, batch: &Batch, grant: u64) -> Proof {
    let proof = Proof::of(LANE, grant, here, batch).unwrap();
    here.advance(&batch.delta).unwrap();
    here.notes.insert(NOTE.into(), proof.head().to_string());
    proof
}

#[test]
fn a_digest_is_of_every_part_of_what_was_delivered() {
    let one = |name: Value| batch(0, vec![change(0, name)]);
    let first = content(&one(Value::text("张三")));
    assert_eq!(content(&one(Value::text("张三"))), first);
    for other in [Value::Null, Value::Unknown, Value::text(""), Value::text("张四"), Value::Array(Vec::new())]
    {
        assert_ne!(content(&one(other.clone())), first, "{other:?}");
    }
    type Alter = fn(&mut Change);
    let alters: [Alter; 5] = [
        |c| c.op = Op::Update,
        |c| c.position = Position::offset(9),
        |c| c.before = Before::Key(vec![Value::Integer(1), Value::Unknown]),
        |c| c.after = None,
        |c| c.origin.committed_us = 1,
    ];
    for (at, alter) in alters.into_iter().enumerate() {
        let mut other = one(Value::text("张三"));
        alter(&mut other.changes[0]);
        assert_ne!(content(&other), first, "{at}");
    }
    let mut aside = one(Value::text("张三"));
    let rejected = Rejected {
        rule: "unknown_value",
        reason: "why".into(),
        position: Position::offset(1),
        stream: "population".into(),
        change: None,
        record: None,
    };
    aside.rejected.push(rejected);
    assert_ne!(content(&aside), first);
}

#[test]
fn a_lane_chains_its_receipts_over_grants_and_a_silent_commit_leaves_none() {
    let mut here = Checkpoint::default();
    assert_eq!(Proof::of(LANE, 4, &here, &batch(0, Vec::new())), None);
    let first = proven(&mut here, &batch(0, vec![change(0, Value::Null)]), 4);
    assert!(first.sequence == 1 && first.follows(LANE, &begin(LANE)));
    // Under another grant it fills anew: the lane's places go, the chain stays.
    let mut here = here.anew();
    let second = proven(&mut here, &batch(0, vec![change(0, Value::Null)]), 7);
    assert!(second.sequence == 2 && second.follows(LANE, &first.head()));
    assert!(!second.follows("replicate.pension.1", &first.head()));
    type Alter = fn(&mut Proof);
    let alters: [Alter; 5] = [
        |p| p.grant = 4,
        |p| p.changes = 0,
        |p| p.rejected = 1,
        |p| p.content = Digest::of(b"other"),
        |p| p.ranges.clear(),
    ];
    for (at, alter) in alters.into_iter().enumerate() {
        let mut other = second.clone();
        alter(&mut other);
        assert!(!other.follows(LANE, &first.head()), "{at}");
    }
}

/// A ledger with one grant, number 4, and the records of `gongan`'s receipts.
struct Scene {
    book: Book,
    records: Vec<Vec<u8>>,
    head: Head,
}

fn key() -> PrivateKey {
    PrivateKey::new([1; 32])
}

impl Scene {
    /// Three days of two receipts each, of which each day is rooted.
    fn new() -> Self {
        let charter = Charter { id: "test".into(), governing: "gongan".into(), key: key().public() };
        let head = charter.receipts("gongan");
        let mut scene = Self { book: Book::new(charter), records: Vec::new(), head };
        scene.says("gongan", Act::Joined { department: "renshe".into(), key: key().public().to_string() });
        let columns = vec!["id".to_owned(), "name".to_owned()];
        let sharing = Condition::Conditional("按需".into());
        scene.says(
            "gongan",
            Act::Offered(Offer { stream: "population".into(), sharing, columns: columns.clone() }),
        );
        let request = Request {
            subscription: "pension".into(),
            owner: "gongan".into(),
            stream: "population".into(),
            purpose: "养老保险".into(),
            legal_basis: "社会保险法".into(),
            terms: Terms { columns, rows: Vec::new(), masks: Default::default(), until: None },
            into: "renshe t".into(),
        };
        let request = scene.says("renshe", Act::Requested(request));
        scene.says("gongan", Act::Approved { request, narrower: None });
        let mut here = Checkpoint::default();
        for day in 1..4 {
            for _ in 0..2 {
                scene.receives(&mut here);
            }
            let root = Act::Rooted { day: date(2026, 11, day), receipts: scene.head };
            scene.says("gongan", root);
        }
        scene
    }

    fn says(&mut self, department: &str, act: Act) -> Digest {
        match self.tries(department, act) {
            Taken::Entry { digest, .. } => digest,
            Taken::Skipped(skipped) => panic!("{skipped}"),
        }
    }

    fn tries(&mut self, department: &str, act: Act) -> Taken {
        let entry = Entry { department: department.into(), at_us: 1, seen: self.book.head(), act };
        let record = entry.sign(self.book.charter(), &key());
        self.book.read(Some(&record)).unwrap()
    }

    fn receives(&mut self, here: &mut Checkpoint) {
        let at = self.records.len() as u64;
        let proof = proven(here, &batch(at, vec![change(at, Value::Null)]), 4);
        let record = receipt(at + 1, proof).record();
        self.head = self.head.after(Some(&record));
        self.records.push(record);
    }

    fn audit(&self, records: &[Vec<u8>]) -> Audited {
        let mut audit = Audit::new(&self.book, "gongan");
        for record in records {
            audit.take(Some(record));
        }
        audit.end()
    }

    /// Returns the first thing that is wrong.
    fn wrong(&self, change: impl FnOnce(&mut Vec<Vec<u8>>)) -> String {
        let mut records = self.records.clone();
        change(&mut records);
        self.audit(&records).wrong.first().cloned().unwrap_or_default()
    }
}

fn receipt(number: u64, proof: Proof) -> Receipt {
    Receipt {
        number,
        department: "renshe".into(),
        subscription: "pension".into(),
        stream: "population".into(),
        lane: LANE.into(),
        proof,
        written: 1,
        deleted: 0,
        quarantined: 0,
        at_us: 5,
    }
}

#[test]
fn receipts_that_nobody_has_touched_fit_their_roots_also_when_rooted_ones_are_trimmed() {
    let scene = Scene::new();
    let whole = scene.audit(&scene.records);
    assert_eq!((whole.receipts, whole.roots, whole.unrooted, &whole.wrong[..]), (6, 3, 0, &[][..]));
    assert_eq!(whole.head, Some(scene.head));
    let kept = scene.audit(&scene.records[4..]);
    assert_eq!((kept.receipts, kept.roots, kept.head, &kept.wrong[..]), (2, 1, Some(scene.head), &[][..]));
    let mut more = Scene::new();
    let mut here = Checkpoint::default();
    here.notes.insert(NOTE.into(), Receipt::read(&more.records[5]).unwrap().proof.head().to_string());
    here.advance(&Delta::range("t/0", Position::START, Position::offset(6))).unwrap();
    more.receives(&mut here);
    let more = more.audit(&more.records);
    assert_eq!((more.unrooted, &more.wrong[..], &more.told[..]), (1, &[][..], &[][..]));
}

#[test]
fn what_was_taken_away_changed_put_in_or_moved_is_named() {
    let scene = Scene::new();
    let says = |change: fn(&mut Vec<Vec<u8>>), words: &str| {
        let wrong = scene.wrong(change);
        assert!(wrong.contains(words), "{wrong} is not {words}");
    };
    says(|r| drop(r.remove(2)), "the receipts 3 to 3 are missing");
    says(|r| drop(r.drain(..1)), "no root ends before it");
    says(|r| r.truncate(5), "the topic ends at receipt 5, and the root of 2026-11-03 covers 6");
    says(|r| r.clear(), "the topic ends at receipt 0");
    says(|r| r.swap(2, 3), "the receipts 3 to 3 are missing");
    says(|r| r.insert(2, b"rubbish".to_vec()), "record 3 is no receipt");
    says(|r| r.insert(2, r[1].clone()), "record 3 is numbered 2");
    // What a store has counted is in no chain, but under the root.
    says(
        |r| {
            let mut other = Receipt::read(&r[2]).unwrap();
            other.written = 0;
            r[2] = other.record();
        },
        "the root of 2026-11-02 (record 6 of the ledger) does not fit the receipts up to 4",
    );
    says(
        |r| {
            let mut other = Receipt::read(&r[2]).unwrap();
            other.proof.content = Digest::of(b"other");
            r[2] = other.record();
        },
        "receipt 3 does not follow the one before it of replicate.pension.0",
    );
    says(
        |r| {
            let mut other = Receipt::read(&r[2]).unwrap();
            other.proof.grant = 3;
            r[2] = other.record();
        },
        "receipt 3 does not follow",
    );
    says(
        |r| {
            let mut other = Receipt::read(&r[2]).unwrap();
            other.subscription = "births".into();
            r[2] = other.record();
        },
        "receipt 3 names grant 4, which births has never had",
    );
    let mut newer = scene.records[2].clone();
    newer[16] = 9;
    let mut records = scene.records.clone();
    records[2] = newer;
    assert!(scene.audit(&records).wrong[0].contains("use the newer Hutong"));
}

#[test]
fn a_lane_that_begins_again_is_told_and_is_no_fault() {
    let mut scene = Scene::new();
    // The lane has lost its memory with its replica.
    let mut here = Checkpoint::default();
    let proof = proven(&mut here, &batch(0, vec![change(0, Value::Null)]), 4);
    scene.records.push(receipt(7, proof).record());
    let audited = scene.audit(&scene.records);
    assert_eq!(audited.wrong, Vec::<String>::new());
    assert!(audited.told[0].contains("begins again at receipt 7"), "{:?}", audited.told);
}

#[test]
fn what_a_recall_or_a_narrowing_has_counted_is_proved_by_its_store() {
    let mut here = Checkpoint::default();
    assert_eq!(Proof::narrowed(LANE, 4, &here, (0, 0)), None, "nothing was there");
    let scene = Scene::new();
    here.notes.insert(NOTE.into(), Receipt::read(&scene.records[5]).unwrap().proof.head().to_string());
    let recalled = Proof::recalled(LANE, 4, &here, 12);
    here.advance(&Delta::range("t/0", Position::START, Position::offset(6))).unwrap();
    let narrowed = Proof::narrowed(LANE, 4, &here, (12, 0)).unwrap();
    let fewer = Proof::narrowed(LANE, 4, &here, (12, 7)).unwrap();
    assert!(recalled.is_of_recall() && !recalled.is_of_narrowing());
    assert!(narrowed.is_of_narrowing() && !narrowed.is_of_recall());
    assert_eq!(narrowed.ranges, [("t/0".into(), (Position::offset(6), Position::offset(6)))].into());
    for (proof, written, deleted, words) in [
        (&recalled, 0, 12, "5 rows of replicate.pension.0 were recalled"),
        (&narrowed, 12, 0, "5 rows of replicate.pension.0 were changed and 0 removed"),
        (&fewer, 12, 7, "5 rows of replicate.pension.0 were changed and 5 removed"),
    ] {
        let one = Receipt { written, deleted, ..receipt(7, proof.clone()) };
        assert_eq!(scene.wrong(|records| records.push(one.record())), "");
        let other = Receipt { written: written.min(5), deleted: deleted.min(5), ..one };
        let wrong = scene.wrong(|records| records.push(other.record()));
        assert!(wrong.contains(words) && wrong.contains("its store has said otherwise"), "{wrong}");
    }
}

#[test]
fn roots_only_go_on_and_an_older_program_skips_them_as_everybody_does() {
    let mut scene = Scene::new();
    let root = |day, sequence, digest: &[u8]| Act::Rooted {
        day: date(2026, 11, day),
        receipts: Head { sequence, digest: Digest::of(digest) },
    };
    for (act, why) in [
        (root(2, 9, b"x"), "2026-11-03 is rooted already"),
        (root(4, 5, b"x"), "6 receipts are rooted already"),
        (root(4, 6, b"x"), "another root of the first 6 stands"),
    ] {
        match scene.tries("gongan", act) {
            Taken::Skipped(skipped) => {
                assert!(skipped.rule == "refused" && skipped.why.contains(why), "{skipped}");
            }
            Taken::Entry { .. } => panic!("{why}"),
        }
    }
    // Two processes may say the same.
    scene.says("gongan", Act::Rooted { day: date(2026, 11, 4), receipts: scene.head });
    assert_eq!(scene.book.roots("gongan").len(), 3);
    match scene.tries(
        "renshe",
        Act::Rooted { day: date(2026, 11, 4), receipts: scene.book.charter().receipts("renshe") },
    ) {
        Taken::Skipped(skipped) => assert!(skipped.why.contains("no receipt"), "{skipped}"),
        Taken::Entry { .. } => panic!("nothing was received"),
    }
    scene.says("gongan", root(5, 9, b"x"));
    assert_eq!(scene.book.roots("gongan").len(), 4);
}
