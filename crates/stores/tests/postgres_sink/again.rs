//! What waits for another lane is tried again by itself: each in its turn, and with what queues behind it.

use std::time::Duration;

use hutong_core::{ErrorKind, Op, Sink as _, Value};
use hutong_stores::postgres::sink::{Sink, SinkConfig};

use crate::given::{Store, TABLE, Topic, key_only, lane, people, persist, person};

#[tokio::test]
async fn i4_a_replayed_change_takes_along_what_queued_behind_it_and_nobody_starves() {
    let store = Store::fresh().await;
    store
        .run(&format!(
            "CREATE SCHEMA share; CREATE TABLE {TABLE} (id bigint PRIMARY KEY, name varchar(20) UNIQUE, age int)"
        ))
        .await;
    let contract = people();
    let (mut left, mut right) = (Topic::new(&contract), Topic::new(&contract));
    let mut zero = store.opened(0, &contract).await;
    let mut one = store.opened(1, &contract).await;
    // More than are tried at a time hold on to their names.
    let named = |id: i64| person(id, &format!("某{}", id % 1000), 1);
    one.commit(&right.batch((0..110).map(|n| (Op::Insert, named(n))))).await.unwrap();
    persist(&mut zero, 0, &left.batch((1000..1110).map(|n| (Op::Insert, named(n))))).await.unwrap();
    let older = vec![Value::Integer(1109), Value::Unknown, Value::Integer(70)];
    zero.commit(&left.batch([(Op::Update, older)])).await.unwrap();
    assert_eq!(store.quarantine().await.len(), 111);

    one.commit(&right.batch([(Op::Delete, key_only(109))])).await.unwrap();

    let last = format!("SELECT id::text, name, age::text FROM {TABLE} t WHERE id > 999");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while store.rows(&last).await != ["1109|某109|70"] {
        assert!(tokio::time::Instant::now() < deadline, "{:?}", store.rows(&last).await);
        zero.commit(&left.batch([(Op::Delete, key_only(99_999))])).await.unwrap();
    }
    let settled = "SELECT key, rule FROM hutong.hutong_quarantine WHERE state = 'replayed' ORDER BY id";
    assert_eq!(store.rows(settled).await, ["[1109]|conflict", "[1109]|unknown_value"]);
}

#[tokio::test]
async fn i3_more_conflicts_than_the_limit_are_waited_for_and_halt_no_lane() {
    let store = Store::fresh().await;
    store
        .run(&format!(
            "CREATE SCHEMA share; CREATE TABLE {TABLE} (id bigint PRIMARY KEY, name varchar(20) UNIQUE, age int)"
        ))
        .await;
    let contract = people();
    let (mut left, mut right) = (Topic::new(&contract), Topic::new(&contract));
    let mut one = store.opened(1, &contract).await;
    let mut config = SinkConfig::shared(store.pool.clone(), TABLE, "g1").unwrap();
    config.quarantine_limit = 3;
    let mut zero = Sink::new(config);
    zero.open(&lane(0)).await.unwrap();
    zero.prepare(&contract).await.unwrap();
    let named = |id: i64| person(id, &format!("某{}", id % 1000), 1);
    one.commit(&right.batch((0..9).map(|n| (Op::Insert, named(n))))).await.unwrap();
    let within = left.batch((1000..1003).map(|n| (Op::Insert, named(n))));
    persist(&mut zero, 0, &within).await.unwrap();
    assert_eq!(store.quarantine().await.len(), 3);

    // Another one is more than the limit allows.
    let beyond = left.batch((1003..1006).map(|n| (Op::Insert, named(n))));
    let error = persist(&mut zero, 0, &beyond).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    assert_eq!(store.quarantine().await.len(), 3);

    // The other lane lets go of the first three: they are tried again although no commit goes through, and then
    // there is room for those that still wait.
    one.commit(&right.batch((0..3).map(|n| (Op::Delete, key_only(n))))).await.unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        zero.open(&lane(0)).await.unwrap();
        zero.prepare(&contract).await.unwrap();
        let Err(problem) = zero.commit(&beyond).await else { break };
        assert_eq!(problem.kind, ErrorKind::Unavailable, "{problem}");
        assert!(tokio::time::Instant::now() < deadline, "they still wait");
    }
    let held = store.rows(&format!("SELECT id::text FROM {TABLE} WHERE id > 999 ORDER BY id")).await;
    assert_eq!(held, ["1000", "1001", "1002"]);
    one.commit(&right.batch((3..9).map(|n| (Op::Delete, key_only(n))))).await.unwrap();
    while store.people().await.len() < 6 {
        assert!(tokio::time::Instant::now() < deadline, "{:?}", store.people().await);
        zero.commit(&left.batch([(Op::Delete, key_only(99_999))])).await.unwrap();
    }
}
