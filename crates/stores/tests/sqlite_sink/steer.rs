//! What a person does to the lanes of a subscription: they are shut out and open again.

use std::collections::BTreeMap;

use hutong_core::{Act, Hold, Order, Verb};
use hutong_stores::sqlite::{lanes, rows_of, steer};

use super::refuse::rejected;
use super::*;

fn order(verb: Verb) -> Order {
    let act = Act { verb, at_us: 7, by: "李".into(), reason: "维护".into(), to_us: None };
    Order { act, back: BTreeMap::new() }
}

fn pipeline() -> PipelineId {
    super::lane(0).pipeline
}

#[tokio::test]
async fn i7_a_pause_stands_in_the_file_and_nothing_is_committed_after_it() {
    let office = Office::new("");
    assert!(steer(&office.path(), &pipeline(), &order(Verb::Pause)).unwrap().is_empty());
    let (mut first, mut second) = (office.open(0).await, office.open(1).await);
    first.commit(&[(Op::Insert, row(1, "a", None))]).await.unwrap();
    second.commit(&[(Op::Insert, row(2, "b", None))]).await.unwrap();

    let paused = steer(&office.path(), &pipeline(), &order(Verb::Pause)).unwrap();

    assert!(paused.len() == 2 && paused.iter().all(|lane| lane.after.is_some()));
    let again = steer(&office.path(), &pipeline(), &order(Verb::Pause)).unwrap();
    assert!(again.iter().all(|lane| lane.after.is_none() && lane.before.pause().is_some()));
    for (partition, lane) in (0..).zip([&mut first, &mut second]) {
        assert_eq!(lane.sink.look().await.unwrap(), Hold::Turned);
        let error = lane.commit(&[(Op::Insert, row(3, "c", None))]).await.unwrap_err();
        assert_eq!(
            (error.kind, lane.sink.look().await.unwrap()),
            (ErrorKind::Fenced, Hold::Turned),
            "{error}"
        );
        let stands = lane.sink.open(&super::lane(partition)).await.unwrap();
        assert_eq!(stands.pause().unwrap().by, "李");
        assert_eq!(lane.sink.look().await.unwrap(), Hold::Held);
    }
    assert_eq!(office.rows().len(), 2);

    steer(&office.path(), &pipeline(), &order(Verb::Resume)).unwrap();

    assert_eq!(first.sink.look().await.unwrap(), Hold::Turned);
    let mut next = office.open(0).await;
    assert_eq!((next.at, first.sink.look().await.unwrap()), (1, Hold::Taken));
    next.commit(&[(Op::Insert, row(3, "c", None))]).await.unwrap();
    assert_eq!(office.rows().len(), 3);
    let stands = lanes(&office.path()).unwrap();
    let acts: Vec<Verb> = stands[0].checkpoint.acts().iter().map(|act| act.verb).collect();
    assert_eq!(acts, [Verb::Pause, Verb::Resume]);
    let rows: Vec<u64> = rows_of(&office.path(), "people").unwrap().into_values().collect();
    assert_eq!(rows, [2, 1]);
}

#[tokio::test]
async fn i3_i7_a_rewind_shuts_the_owner_out_and_settles_what_comes_again() {
    let office = Office::new("CREATE TABLE people (id INTEGER PRIMARY KEY, code TEXT, \"备注\" TEXT);");
    let mut lane = office.open(0).await;
    let mut batch = lane.batch(&[(Op::Insert, row(1, "a", None)), (Op::Insert, row(2, "b", None))]);
    batch.rejected = vec![rejected("decode", 0, None, true), rejected("decode", 1, None, true)];
    lane.sink.commit(&batch).await.unwrap();
    let name = super::lane(0).to_string();
    let back = |lane: &str, to| {
        let mut order = order(Verb::Rewind);
        order.back.insert(lane.to_owned(), ("p".into(), position(to)));
        steer(&office.path(), &pipeline(), &order).unwrap().remove(0)
    };
    for (lane, to) in [(name.as_str(), 2), ("replicate.other.0", 0)] {
        let stays = back(lane, to);
        assert!(stays.after.is_none() && stays.settled.is_empty());
    }

    assert_eq!(back(&name, 1).settled.len(), 1);

    let items: Vec<String> = office.items().into_iter().map(|(_, state)| state).collect();
    assert_eq!(items, ["waiting", "replayed"]);
    assert_eq!(lane.commit(&[(Op::Insert, row(3, "c", None))]).await.unwrap_err().kind, ErrorKind::Fenced);
    let mut next = office.open(0).await;
    assert_eq!(next.at, 1);
    // What was there comes again, and takes the last state.
    next.commit(&[(Op::Insert, row(2, "b", None)), (Op::Insert, row(3, "c", None))]).await.unwrap();
    assert_eq!(office.rows(), [stands(1, "a", None), stands(2, "b", None), stands(3, "c", None)]);
}
