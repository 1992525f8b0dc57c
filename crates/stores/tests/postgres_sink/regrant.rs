//! A replay and a change of grant keep out of each other's way.

use std::time::Duration;

use hutong_core::{Op, Sink as _};
use hutong_stores::postgres::sink;
use hutong_testkit::launch::connect;

use crate::given::{Store, TABLE, Topic, lane, people, person};

/// Waits until so many sessions of the database wait for a lock.
async fn stuck(store: &Store, sessions: usize) {
    let sql = "SELECT pid::text FROM pg_stat_activity
                WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while store.rows(sql).await.len() < sessions {
        assert!(tokio::time::Instant::now() < deadline, "{sessions} sessions do not wait");
    }
}

#[tokio::test]
async fn i5_a_replay_leaves_no_row_of_the_old_grant_behind() {
    let store = Store::fresh().await;
    store
        .run(&format!(
            "CREATE SCHEMA share;
             CREATE TABLE {TABLE} (id bigint PRIMARY KEY, name varchar(20), age int CHECK (age >= 0))"
        ))
        .await;
    let contract = people();
    let mut topic = Topic::new(&contract);
    let mut old = store.opened(0, &contract).await;
    old.commit(&topic.batch([(Op::Insert, person(1, "张三", -1))])).await.unwrap();
    let item = sink::list(&store.url, None, false).await.unwrap()[0].id;
    store.run(&format!("ALTER TABLE {TABLE} DROP CONSTRAINT people_age_check")).await;
    // Somebody's open transaction holds the replay up in its middle.
    let other = connect(store.url.reveal()).await.unwrap();
    other.batch_execute(&format!("BEGIN; INSERT INTO {TABLE} (id) VALUES (1)")).await.unwrap();
    let replay = sink::replay(&store.url, item);
    let regrant = async {
        stuck(&store, 1).await;
        let mut new = store.sink("g2");
        let zero = lane(0);
        let open = new.open(&zero);
        let release = async {
            stuck(&store, 2).await;
            other.batch_execute("ROLLBACK").await.unwrap();
        };
        tokio::join!(open, release).0.unwrap();
    };

    let (replayed, ()) = tokio::join!(replay, regrant);

    replayed.unwrap();
    assert!(store.people().await.is_empty(), "{:?}", store.people().await);
    assert!(store.quarantine().await.is_empty());
    let again = sink::replay(&store.url, item).await.unwrap_err();
    assert!(again.why().contains("no such item"), "{again}");
}
