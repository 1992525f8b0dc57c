//! The snapshot beside live changes: nothing is lost, nothing old comes after something new.

use std::time::{Duration, Instant};

use crate::capture::{Capture, contract, people, person};
use hutong_core::{Class, Field, Op, Source as _, Type, Value};
use hutong_stores::postgres::Table;
use hutong_testkit::launch::Postgres;
use rand::prelude::*;

const PEOPLE: &str = "CREATE TABLE people (id int PRIMARY KEY, name text);";

fn thousand() -> String {
    format!("{PEOPLE} INSERT INTO people SELECT i, '旧' || i FROM generate_series(1, 1000) i")
}

async fn table(c: &Capture) -> Vec<Vec<Value>> {
    let rows = c.client.query("SELECT id, name FROM people", &[]).await.unwrap();
    let mut rows: Vec<_> = rows.iter().map(|r| person(r.get::<_, i32>(0).into(), r.get(1))).collect();
    rows.sort_by_key(|row| format!("{:?}", row[0]));
    rows
}

/// Makes commits wait for a standby that nobody can reach, but those of the capture's own client; returns a session
/// whose commits wait.
pub(crate) async fn hold_commits(c: &Capture, server: &Postgres) -> tokio_postgres::Client {
    c.sql("SET synchronous_commit = local").await;
    c.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'").await;
    c.sql("SELECT pg_reload_conf()").await;
    let held = hutong_testkit::launch::connect(&server.url()).await.unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let row = held.query_one("SELECT current_setting('synchronous_standby_names')", &[]).await.unwrap();
        if row.get::<_, String>(0) == "nobody" {
            break;
        }
        assert!(Instant::now() < until);
    }
    held
}

/// Lets the commits go.
pub(crate) async fn let_commits_go(c: &Capture) {
    c.sql("ALTER SYSTEM RESET synchronous_standby_names").await;
    c.sql("SELECT pg_reload_conf()").await;
}

/// A commit is flushed and streamed, but no other session sees it while its standby does not answer.
#[tokio::test]
async fn i3_a_commit_that_becomes_visible_after_the_chunk_is_not_lost() {
    let server = Postgres::start().await.unwrap();
    let mut c = Capture::at(&server.url(), "held", &thousand(), &[("people", people("people"))]).await;
    c.config.chunk_rows = 100;
    c.crash().await;
    c.until("the first chunk", |c| c.rows("people").len() >= 100).await;

    let held = hold_commits(&c, &server).await;
    let commit = held.batch_execute(
        "BEGIN; UPDATE people SET name = '新' WHERE id = 950; INSERT INTO people VALUES (951000, '新'); \
         DELETE FROM people WHERE id = 960; COMMIT",
    );
    let mut commit = std::pin::pin!(commit);
    // The change arrives, and chunks are still to be read, while the commit waits.
    let until = Instant::now() + Duration::from_secs(20);
    while !c.letters().contains("ucd") {
        assert!(Instant::now() < until, "the held commit is streamed");
        tokio::select! {
            biased;
            _ = &mut commit => panic!("the commit waits for its standby"),
            _ = c.next() => {}
        }
    }
    let seen = c.client.query_one("SELECT name FROM people WHERE id = 950", &[]).await.unwrap();
    assert_eq!(seen.get::<_, String>(0), "旧950", "the commit is not visible yet");
    // A source that remembers the held transaction, and one that has just been opened and does not.
    for _ in 0..2 {
        // Long enough for every chunk, if they were read now.
        let until = Instant::now() + Duration::from_millis(1500);
        while Instant::now() < until {
            tokio::select! {
                biased;
                _ = &mut commit => panic!("the commit waits for its standby"),
                _ = tokio::time::timeout(Duration::from_millis(100), c.next()) => {}
            }
        }
        let done = c.checkpoint.notes["snapshot.public.people"].contains("\"done\":true");
        assert!(!done, "no chunk is taken from before a change that was handed out");
        c.crash().await;
    }
    let_commits_go(&c).await;
    commit.await.unwrap();
    c.snapshot_done().await;
    c.catch_up().await;
    let equal = c.rows("people") == table(&c).await;
    assert!(equal, "the replica is the table");
}

/// Each commit is streamed at once and seen a little later, as with a standby that answers late, and there is always
/// one that is not seen yet.
#[tokio::test]
async fn commits_that_are_seen_late_do_not_starve_the_snapshot() {
    let server = Postgres::start().await.unwrap();
    let mut c = Capture::at(&server.url(), "late", &thousand(), &[("people", people("people"))]).await;
    c.config.chunk_rows = 100;
    c.crash().await;
    c.until("the first chunk", |c| c.rows("people").len() >= 100).await;
    let first = hold_commits(&c, &server).await;
    let mut writers = vec![first];
    for _ in 0..3 {
        writers.push(hutong_testkit::launch::connect(&server.url()).await.unwrap());
    }
    let write = async |writer: &tokio_postgres::Client| {
        loop {
            // Ended by the release below, which may also meet the next statement.
            let _ = writer
                .batch_execute("UPDATE people SET name = name || 'x' WHERE id = 1 + pg_backend_pid() % 50")
                .await;
        }
    };
    let releaser = hutong_testkit::launch::connect(&server.url()).await.unwrap();
    let release = async {
        loop {
            let sql = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity \
                       WHERE wait_event = 'SyncRep' AND clock_timestamp() - query_start > interval '30 ms'";
            releaser.batch_execute(sql).await.unwrap();
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    };
    let writing = futures_util::future::join_all(writers.iter().map(write));

    tokio::select! {
        _ = writing => unreachable!(),
        () = release => unreachable!(),
        () = c.snapshot_done() => {}
    }

    drop(writers);
    let_commits_go(&c).await;
    // A statement that was on its way ends in the server after its session's client has gone.
    let writing =
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'UPDATE people%' AND pid <> pg_backend_pid()";
    let deadline = Instant::now() + Duration::from_secs(30);
    while c.client.query_one(writing, &[]).await.unwrap().get::<_, i64>(0) > 0 {
        assert!(Instant::now() < deadline, "the writers end");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    c.catch_up().await;
    let equal = c.rows("people") == table(&c).await;
    assert!(equal, "the replica is the table");
}

#[tokio::test]
async fn i7_a_snapshot_goes_on_at_its_last_chunk_beside_live_changes() {
    let mut c = Capture::new(&thousand(), &[("people", people("people"))]).await;
    c.config.chunk_rows = 60;
    c.open_new().await;
    let writer = hutong_testkit::launch::connect(c.config.url.reveal()).await.unwrap();
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let writing = async {
        for round in 0..300 {
            let (a, b) = (random.random_range(1..1100), random.random_range(1..1100));
            let sql = match random.random_range(0..4) {
                0 => format!(
                    "INSERT INTO people VALUES ({a}, '新{round}') ON CONFLICT (id) DO UPDATE SET name = excluded.name"
                ),
                1 => format!("UPDATE people SET name = '改{round}' WHERE id BETWEEN {a} AND {}", a + 30),
                2 => format!("DELETE FROM people WHERE id = {a}"),
                _ => format!("DELETE FROM people WHERE id = {b}; UPDATE people SET id = {b} WHERE id = {a}"),
            };
            writer.batch_execute(&sql).await.unwrap();
        }
    };
    let reading = async {
        for round in 1..40 {
            c.next().await;
            if round % 10 == 0 {
                c.crash().await;
            }
        }
        c.snapshot_done().await;
    };
    tokio::join!(writing, reading);
    c.catch_up().await;
    let equal = c.rows("people") == table(&c).await;
    assert!(equal, "the replica is the table");
    let reads = c.letters().matches('r').count();
    assert!(reads <= 1100, "no chunk is taken twice: {reads}");
}

#[tokio::test]
async fn i7_a_chunk_larger_than_a_transaction_may_be_is_committed_with_its_progress() {
    let mut c = Capture::new(&thousand(), &[("people", people("people"))]).await;
    (c.config.chunk_rows, c.config.limit.transaction_rows) = (300, 100);
    c.open_new().await;
    for _ in 0..200 {
        c.next().await;
        let noted = c.checkpoint.notes.get("snapshot.public.people").cloned().unwrap_or_default();
        let noted: serde_json::Value = serde_json::from_str(&noted).unwrap_or_default();
        assert_eq!(noted["rows"].as_u64().unwrap_or(0), c.rows("people").len() as u64, "{noted}");
        if noted["done"] == true {
            return;
        }
        c.crash().await;
    }
    panic!("the snapshot ends");
}

#[tokio::test]
async fn a_column_altered_in_mid_snapshot() {
    let contract = contract(
        "people",
        1,
        vec![Field::new("id", Type::Long), Field::new("name", Type::Text { length: None })],
    );
    let mut c = Capture::new(&thousand(), &[("people", contract)]).await;
    c.config.chunk_rows = 100;
    c.open_new().await;
    c.until("some chunks", |c| c.rows("people").len() >= 200).await;

    c.sql("ALTER TABLE people ALTER id TYPE bigint, ADD extra int DEFAULT 7; UPDATE people SET name = 'x' WHERE id = 990")
        .await;
    c.snapshot_done().await;
    c.catch_up().await;

    assert_eq!(c.rows("people").len(), 1000);
    assert!(c.rows("people").contains(&person(990, "x")));
}

#[tokio::test]
async fn a_table_that_no_longer_fits_is_suspended_and_comes_back_whole() {
    let sql = format!(
        "{PEOPLE} CREATE TABLE other (id int PRIMARY KEY, name text); INSERT INTO people VALUES (1, 'a')"
    );
    let mut c = Capture::new(&sql, &[("people", people("people")), ("other", people("other"))]).await;
    c.open().await;
    c.snapshot_done().await;

    c.sql("ALTER TABLE people RENAME name TO label").await;
    c.sql("INSERT INTO people VALUES (2, 'b'); DELETE FROM people WHERE id = 1; INSERT INTO other VALUES (1, 'o')").await;
    c.until("the other table goes on", |c| c.rows("other").len() == 1).await;
    c.catch_up().await;
    assert!(c.checkpoint.notes["suspended.public.people"].contains("`name` is missing"));
    let dropped: u64 = c.batches.iter().filter_map(|b| b.dropped.get("suspended")).sum();
    assert_eq!(dropped, 2, "I3: what is dropped is counted");

    c.sql("ALTER TABLE people RENAME label TO name").await;
    c.crash().await;
    c.snapshot_done().await;
    c.catch_up().await;
    assert_eq!(c.rows("people"), [person(2, "b")]);
    assert!(!c.checkpoint.notes.contains_key("suspended.public.people"));
    assert_eq!(c.rows("other").len(), 1);
}

#[tokio::test]
async fn i7_a_large_transaction_is_split_and_goes_on_in_its_middle() {
    let mut c = Capture::new(PEOPLE, &[("people", people("people"))]).await;
    c.config.limit.transaction_rows = 1_000;
    c.open_new().await;
    c.snapshot_done().await;
    c.clear();

    c.sql("INSERT INTO people SELECT i, 'x' FROM generate_series(1, 10000) i").await;
    c.until("a part of it", |c| c.rows("people").len() >= 3_000).await;
    assert!(c.rows("people").len() < 9_000);
    c.crash().await;
    c.catch_up().await;

    assert_eq!(c.letters(), "c".repeat(10_000), "each once");
    let orders: Vec<_> = c
        .batches
        .iter()
        .flat_map(|b| &b.changes)
        .map(|c| c.origin.transaction.as_ref().unwrap().order)
        .collect();
    assert!(orders.iter().copied().eq(1..=10_000));
    let last: Vec<_> = c.batches.iter().flat_map(|b| &b.changes).map(|c| c.origin.last).collect();
    assert_eq!(last.iter().position(|last| *last), Some(9_999), "only the last is the last");
    assert!(c.batches.iter().all(|b| b.changes.len() <= 1_001), "bounded batches");
    assert!(c.batches.iter().flat_map(|b| &b.changes).all(|c| c.op == Op::Insert));
}

#[tokio::test]
async fn i7_a_row_beyond_the_limits_of_a_transaction_does_not_stop_the_capture() {
    let mut c = Capture::new(PEOPLE, &[("people", people("people"))]).await;
    c.config.limit.transaction_rows = 1;
    c.open_new().await;
    c.snapshot_done().await;
    c.clear();
    c.sql("INSERT INTO people SELECT i, 'x' FROM generate_series(1, 5) i").await;
    c.catch_up().await;
    assert_eq!(c.letters(), "ccccc");
}

#[tokio::test]
async fn a_table_that_joins_later_has_its_own_snapshot() {
    let sql = format!(
        "{}; CREATE TABLE other (id int PRIMARY KEY, name text); INSERT INTO other VALUES (1, 'o'), (2, 'q')",
        thousand()
    );
    let mut c = Capture::new(&sql, &[("people", people("people"))]).await;
    c.open().await;
    c.snapshot_done().await;
    c.clear();

    let table = Table { name: "other".into(), contract: people("other") };
    c.config.tables.push(table.clone());
    c.open_new().await;
    c.snapshot_done().await;
    assert_eq!(c.letters(), "rr", "the first table is not read again");
    assert_eq!(c.rows("other"), [person(1, "o"), person(2, "q")]);

    // It leaves, changes, and comes back.
    c.config.tables.pop();
    c.open_new().await;
    c.sql("DELETE FROM other WHERE id = 2; UPDATE other SET name = 'p'; INSERT INTO people VALUES (0, 'x')")
        .await;
    c.catch_up().await;
    assert_eq!(c.rows("other"), [person(1, "o"), person(2, "q")]);
    c.crash().await;
    c.catch_up().await;
    c.config.tables.push(table);
    c.open_new().await;
    c.snapshot_done().await;
    assert_eq!(c.rows("other"), [person(1, "p")], "what was deleted meanwhile is gone");
}

#[tokio::test]
async fn a_dropped_table_is_suspended_and_a_new_one_of_its_name_comes_in_whole() {
    let mut c = Capture::new(&thousand(), &[("people", people("people"))]).await;
    c.open().await;
    c.snapshot_done().await;

    c.sql(&format!("DROP TABLE people; {PEOPLE} INSERT INTO people VALUES (1, 'new')")).await;
    c.until("suspended", |c| c.checkpoint.notes.contains_key("suspended.public.people")).await;
    c.open_new().await;
    c.snapshot_done().await;
    assert_eq!(c.rows("people"), [person(1, "new")]);
}

#[tokio::test]
async fn i7_a_killed_server_comes_back_and_nothing_is_lost() {
    let mut server = Postgres::builder().fsync().start().await.unwrap();
    let mut c = Capture::at(&server.url(), "killed", &thousand(), &[("people", people("people"))]).await;
    c.config.chunk_rows = 100;
    c.open_new().await;
    c.until("some chunks", |c| c.rows("people").len() >= 300).await;
    c.sql("UPDATE people SET name = '新' WHERE id % 7 = 0").await;
    server.kill().await.unwrap();
    let error = loop {
        match c.source.next().await {
            // Handed out, never committed downstream.
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.class(), Class::Retry, "{error:?}");
    assert_eq!(c.source.open(&c.checkpoint).await.unwrap_err().class(), Class::Retry);
    server.restart().await.unwrap();
    c.client = hutong_testkit::launch::connect(&server.url()).await.unwrap();
    c.open().await;
    c.snapshot_done().await;
    c.catch_up().await;
    let equal = c.rows("people") == table(&c).await;
    assert!(equal, "the replica is the table");
}

#[tokio::test]
async fn a_locked_table_does_not_stop_the_others() {
    let sql = format!("{}; CREATE TABLE other (id int PRIMARY KEY, name text)", thousand());
    let mut c = Capture::new(&sql, &[("people", people("people")), ("other", people("other"))]).await;
    c.config.chunk_rows = 100;
    c.open_new().await;
    c.until("some chunks", |c| c.rows("people").len() >= 300).await;

    let locker = hutong_testkit::launch::connect(c.config.url.reveal()).await.unwrap();
    locker.batch_execute("BEGIN; LOCK TABLE people IN ACCESS EXCLUSIVE MODE").await.unwrap();
    c.sql("INSERT INTO other VALUES (1, 'o')").await;
    c.until("the other table goes on", |c| c.rows("other").len() == 1).await;
    locker.batch_execute("ROLLBACK").await.unwrap();
    c.snapshot_done().await;
    assert_eq!(c.rows("people").len(), 1000);
}

#[tokio::test]
async fn nothing_is_said_to_be_complete_while_a_snapshot_runs() {
    let mut c = Capture::new(&thousand(), &[("people", people("people"))]).await;
    // The snapshot waits for its end.
    let old = hutong_testkit::launch::connect(c.config.url.reveal()).await.unwrap();
    c.open().await;
    c.snapshot_done().await;
    c.until("complete", |c| c.batches.last().is_some_and(|b| b.behind.complete_to_us.is_some())).await;
    c.config.tables.push(Table { name: "other".into(), contract: people("other") });
    c.sql("CREATE TABLE other (id int PRIMARY KEY, name text); INSERT INTO other VALUES (1, 'o')").await;
    old.batch_execute("BEGIN; SELECT pg_current_xact_id()").await.unwrap();
    c.open_new().await;
    c.clear();

    c.sql("INSERT INTO people VALUES (0, 'x')").await;
    c.catch_up().await;
    assert_eq!(c.letters(), "c", "live changes go on, and the position with them");
    assert!(c.batches.iter().all(|b| b.behind.complete_to_us.is_none()));
    old.batch_execute("COMMIT").await.unwrap();
    c.until("complete", |c| c.batches.last().is_some_and(|b| b.behind.complete_to_us.is_some())).await;

    assert_eq!(c.rows("other"), [person(1, "o")]);
}

#[tokio::test]
async fn no_row_is_read_before_the_snapshot_may_begin() {
    let mut c = Capture::new(&thousand(), &[("people", people("people"))]).await;
    c.config.chunk_rows = 100;
    c.crash().await;
    c.until("the first chunk", |c| c.rows("people").len() >= 100).await;
    // A transaction that runs when the capture is opened again: the next chunk waits for its end.
    let old = hutong_testkit::launch::connect(c.config.url.reveal()).await.unwrap();
    old.batch_execute("BEGIN; SELECT pg_current_xact_id()").await.unwrap();
    let sessions =
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
                    AND application_name LIKE 'hutong%'";
    let sessions = async |c: &Capture| -> Vec<i32> {
        c.client.query(sessions, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
    };
    let before = sessions(&c).await;
    c.crash().await;
    // A session tells how often it has read a table when it ends at the latest; ours, which filled it, now.
    c.sql("SELECT pg_stat_force_next_flush()").await;
    let deadline = Instant::now() + Duration::from_secs(30);
    while sessions(&c).await.iter().any(|pid| before.contains(pid)) {
        assert!(Instant::now() < deadline, "the sessions before the crash end");
        let _ = tokio::time::timeout(Duration::from_millis(100), c.next()).await;
    }
    let scans =
        "SELECT (seq_scan + coalesce(idx_scan, 0))::int8 FROM pg_stat_user_tables WHERE relname = 'people'";
    let scans = async |c: &Capture| -> i64 { c.client.query_one(scans, &[]).await.unwrap().get(0) };
    let read = scans(&c).await;
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until {
        let _ = tokio::time::timeout(Duration::from_millis(100), c.next()).await;
    }
    assert_eq!(scans(&c).await, read, "nothing is read only to be thrown away");
    old.batch_execute("COMMIT").await.unwrap();
    c.snapshot_done().await;
    assert_eq!(c.rows("people").len(), 1000);
}
