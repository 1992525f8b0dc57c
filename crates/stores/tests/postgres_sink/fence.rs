//! What is left when an owner, its connection or its store goes in the middle of a commit.

use std::cell::Cell;
use std::time::{Duration, Instant};

use hutong_core::{Class, Op, Sink as _};
use hutong_testkit::launch::Postgres;

use crate::given::{Store, Topic, lane, people, person};

#[tokio::test]
async fn i7_a_commit_that_is_dropped_half_way_leaves_nothing_and_blocks_nobody() {
    let store = Store::fresh().await;
    let contract = people();
    let mut topic = Topic::new(&contract);
    let mut sink = store.opened(0, &contract).await;
    let batch = topic.batch((0..20_000).map(|n| (Op::Insert, person(n, "某人", n))));
    {
        let commit = sink.commit(&batch);
        tokio::pin!(commit);
        // Once the rows are on their way, the owner goes.
        let begun = async {
            loop {
                let busy = "SELECT count(*)::text FROM pg_stat_activity
                             WHERE application_name = 'hutong replicate.renshe_people.0' AND datname = current_database()";
                if store.rows(busy).await == ["1"] {
                    break;
                }
            }
        };
        tokio::select! {
            _ = &mut commit => {}
            () = begun => {}
        }
    }
    let mut next = store.sink("g1");
    let checkpoint = next.open(&lane(0)).await.unwrap();
    next.prepare(&contract).await.unwrap();
    if checkpoint.is_empty() {
        assert!(store.people().await.is_empty());
        next.commit(&batch).await.unwrap();
    }
    assert_eq!(store.people().await.len(), 20_000);
}

#[tokio::test]
async fn i7_an_owner_that_stands_still_in_the_midst_of_its_rows_holds_the_next_one_up_for_seconds_only() {
    let store = Store::fresh().await;
    let contract = people();
    let mut topic = Topic::new(&contract);
    let mut stands_still = store.opened(0, &contract).await;
    let batch = topic.batch((0..20_000).map(|n| (Op::Insert, person(n, "某人", n))));
    let commit = stands_still.commit(&batch);
    tokio::pin!(commit);
    let holds_rows = "SELECT (count(*) > 0)::text FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
                       WHERE c.relname = 'people' AND l.mode = 'RowExclusiveLock'
                         AND l.pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ShareLock')";
    tokio::select! {
        biased;
        _ = &mut commit => panic!("it was to be held up"),
        () = async { while store.rows(holds_rows).await != ["true"] {} } => {}
    }
    // From here on nobody moves it, and its connection stays: as of a program that was stopped.
    let began = Instant::now();
    let other = Store::of(store.url.reveal().to_owned()).await;
    let mut next = other.opened(0, &contract).await;
    next.commit(&Topic::new(&contract).batch([(Op::Insert, person(1, "张三", 1))])).await.unwrap();
    // Sooner than the server ends a transaction in which nothing happens.
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(store.people().await, ["1|张三|1"]);

    let error = commit.await.err().unwrap();
    assert_eq!(error.class(), Class::Retry, "it asks where the lane stands: {error}");
}

#[tokio::test]
async fn i7_a_lost_connection_is_an_outage_and_the_next_commit_goes_on() {
    let store = Store::fresh().await;
    let contract = people();
    let mut topic = Topic::new(&contract);
    let mut sink = store.opened(0, &contract).await;
    sink.commit(&topic.batch([(Op::Insert, person(1, "张三", 1))])).await.unwrap();
    let batch = topic.batch([(Op::Insert, person(2, "李四", 2))]);
    store
        .run(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
              WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .await;

    crate::given::persist(&mut sink, 0, &batch).await.unwrap();

    assert_eq!(store.people().await, ["1|张三|1", "2|李四|2"]);
    assert!(store.quarantine().await.is_empty(), "an outage never fills the quarantine");
}

#[tokio::test]
async fn i7_a_killed_store_comes_back_with_rows_and_checkpoint_of_the_same_commits() {
    let mut postgres = Postgres::start().await.unwrap();
    let store = Store::of(postgres.url()).await;
    let contract = people();
    let mut sink = store.opened(0, &contract).await;
    let mut topic = Topic::new(&contract);
    let batches: Vec<_> = (0..5_000i64)
        .map(|n| topic.batch((0..20).map(|m| (Op::Insert, person(n * 20 + m, "某人", m)))))
        .collect();
    let committed = Cell::new(0);
    let writing = async {
        for batch in &batches {
            if let Err(problem) = sink.commit(batch).await {
                assert_eq!(problem.class(), Class::Retry, "{problem}");
                return;
            }
            committed.set(committed.get() + 1);
        }
    };
    let killing = async {
        while committed.get() < 30 {
            tokio::task::yield_now().await;
        }
        postgres.kill().await.unwrap();
    };
    tokio::join!(writing, killing);
    postgres.restart().await.unwrap();

    let store = Store::of(postgres.url()).await;
    let mut sink = store.sink("g1");
    let checkpoint = sink.open(&lane(0)).await.unwrap();
    sink.prepare(&contract).await.unwrap();
    let reached = checkpoint.position("0").as_offset().unwrap() / 20;
    // The last commit may have been durable although its answer was lost.
    assert!((committed.get()..=committed.get() + 1).contains(&reached), "{reached} of {}", committed.get());
    assert_eq!(store.people().await.len() as u64, reached * 20);
    sink.commit(&batches[reached as usize]).await.unwrap();
    assert_eq!(store.people().await.len() as u64, (reached + 1) * 20);
}
