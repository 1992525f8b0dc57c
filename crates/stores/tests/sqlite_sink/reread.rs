//! A lane that is set back over what needs rows that are gone by now: it converges, and what is really lost is said.

use std::collections::BTreeMap;

use hutong_core::{Act, Order, Verb};
use hutong_stores::sqlite::steer;

use super::*;

const LIMIT: u64 = 3;

/// More rows than the limit lets be set aside.
const ROWS: i64 = 8;

impl Office {
    async fn strict(&self, limit: u64) -> Lane<'_> {
        let mut sink = sqlite::Sink::new(SinkConfig { quarantine_limit: limit, ..self.config(0, "g") });
        let checkpoint = sink.open(&lane(0)).await.unwrap();
        sink.prepare(&self.contract).await.unwrap();
        Lane { office: self, sink, at: checkpoint.position("p").as_offset().unwrap_or(0) }
    }

    fn set_back(&self, to: u64) {
        let act =
            Act { verb: Verb::Rewind, at_us: 7, by: "李".into(), reason: "核对".into(), to_us: None };
        let back = BTreeMap::from([(lane(0).to_string(), ("p".to_owned(), position(to)))]);
        let steered = steer(&self.path(), &lane(0).pipeline, &Order { act, back }).unwrap();
        assert!(steered[0].after.is_some());
    }

    fn waiting(&self) -> usize {
        self.items().iter().filter(|(_, state)| state == "waiting").count()
    }
}

fn partial(id: i64) -> (Op, Row) {
    (Op::Update, vec![Value::Integer(id), Value::text("z".to_owned()), Value::Unknown])
}

#[tokio::test]
async fn i3_i7_partial_changes_of_rows_that_are_gone_by_now_are_no_flood_when_they_come_again() {
    let office = Office::new("");
    let inserts: Vec<_> = (0..ROWS).map(|id| (Op::Insert, row(id, "a", None))).collect();
    // Each twice, so that some queue behind others.
    let partials: Vec<_> = (0..ROWS).flat_map(|id| [partial(id), partial(id)]).collect();
    let deletes: Vec<_> = (1..ROWS).map(|id| (Op::Delete, row(id, "", None))).collect();
    let mut lane = office.strict(LIMIT).await;
    for changes in [&inserts, &partials[..8].to_vec(), &partials[8..].to_vec(), &deletes] {
        lane.commit(changes).await.unwrap();
    }
    let end = lane.at;
    for half in [true, false] {
        office.set_back(ROWS as u64);
        lane = office.strict(LIMIT).await;
        assert_eq!(lane.at, ROWS as u64);
        for half in [&partials[..8], &partials[8..]] {
            let batch = lane.batch(half);
            let refused = lane.sink.commit(&batch).await.unwrap();
            assert!(refused.lasting == 0 && refused.again > LIMIT, "{refused:?}");
        }
        assert!(office.waiting() > LIMIT as usize, "I3: each is set aside");
        if !half {
            lane.commit(&deletes).await.unwrap();
        }
    }
    assert_eq!((lane.at, office.waiting()), (end, 0), "the deletes settle them");
    assert_eq!(office.rows(), [stands(0, "z", None)]);
    // From here on, what is set aside is a flood again.
    let more: Vec<_> = (1..ROWS).map(partial).collect();
    assert_eq!(lane.commit(&more).await.unwrap_err().kind, ErrorKind::Broken);
}

#[tokio::test]
async fn i3_rows_that_were_really_lost_halt_the_lane_where_it_was_before() {
    for silent in [true, false] {
        let office = Office::new("");
        let inserts: Vec<_> = (0..ROWS).map(|id| (Op::Insert, row(id, "a", None))).collect();
        let partials: Vec<_> = (0..ROWS).map(partial).collect();
        let mut lane = office.strict(LIMIT).await;
        lane.commit(&inserts).await.unwrap();
        lane.commit(&partials).await.unwrap();
        // The last one is a record that the grant drops, or a change.
        let last = |lane: &mut Lane<'_>| {
            let mut batch = lane.batch(&[(Op::Insert, row(99, "b", None))]);
            batch.changes.retain(|_| !silent);
            batch
        };
        let batch = last(&mut lane);
        lane.sink.commit(&batch).await.unwrap();
        // By nobody whom the stream knows.
        office.run("DELETE FROM people WHERE id < 99");
        office.set_back(ROWS as u64);
        for first in [true, false] {
            lane = office.strict(LIMIT).await;
            if first {
                lane.commit(&partials).await.unwrap();
            }

            let batch = last(&mut lane);
            let error = lane.sink.commit(&batch).await.unwrap_err();

            assert_eq!(error.kind, ErrorKind::Broken, "it halts, also when it is started again");
            assert!(error.to_string().contains("8 changes still wait whose rows are not there"), "{error}");
            assert!(error.hint.unwrap().contains("hutong subscription reload office`"));
        }
        // Who lets so many wait goes on, and they wait on.
        lane = office.strict(1_000).await;
        let batch = last(&mut lane);
        lane.sink.commit(&batch).await.unwrap();
        assert_eq!(office.waiting(), ROWS as usize);
        let states = sqlite::lanes(&office.path()).unwrap();
        assert_eq!(states[0].checkpoint.reread(), None);
    }
}
