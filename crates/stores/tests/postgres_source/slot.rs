//! The slot of a capture: confirmed after commit, fenced, never pinned, and its loss is said.

use std::time::{Duration, Instant};

use crate::capture::{Capture, people, person};
use hutong_core::{Checkpoint, Class, ErrorKind, Secret, Source as _};
use hutong_stores::postgres::{self, Source};
use hutong_testkit::launch::Postgres;

const PEOPLE: &str = "CREATE TABLE people (id int PRIMARY KEY, name text);";

async fn confirmed(c: &Capture) -> i64 {
    let sql = "SELECT (confirmed_flush_lsn - '0/0')::int8 FROM pg_replication_slots WHERE slot_name = $1";
    c.client.query_one(sql, &[&format!("hutong_{}", c.config.capture)]).await.unwrap().get(0)
}

async fn flushed(c: &Capture) -> i64 {
    c.client.query_one("SELECT (pg_current_wal_flush_lsn() - '0/0')::int8", &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn an_idle_table_does_not_pin_the_log() {
    let mut c = Capture::new(PEOPLE, &[("people", people("people"))]).await;
    c.open().await;
    c.snapshot_done().await;
    c.sql("CREATE TABLE busy (n int); INSERT INTO busy SELECT generate_series(1, 10000)").await;
    let target = flushed(&c).await;

    let until = Instant::now() + Duration::from_secs(20);
    while confirmed(&c).await < target {
        assert!(Instant::now() < until, "the confirmed position moves");
        c.next().await;
    }
    assert!(c.batches.last().unwrap().behind.complete_to_us.is_some());
}

#[tokio::test]
async fn i1_nothing_is_confirmed_before_it_is_committed_downstream() {
    let mut c = Capture::new(PEOPLE, &[("people", people("people"))]).await;
    c.open().await;
    c.snapshot_done().await;
    c.catch_up().await;
    let before = flushed(&c).await;
    c.sql("INSERT INTO people VALUES (1, '甲')").await;

    // Read, but neither committed nor acknowledged.
    let batch = loop {
        let batch = c.source.next().await.unwrap().unwrap();
        if !batch.changes.is_empty() {
            break batch;
        }
    };
    assert_eq!(batch.changes.len(), 1);
    tokio::time::timeout(Duration::from_millis(2500), async { while c.source.next().await.is_ok() {} })
        .await
        .unwrap_err();
    assert!(confirmed(&c).await <= before);
    c.crash().await;
    c.catch_up().await;
    assert_eq!(c.rows("people"), [person(1, "甲")]);
}

#[tokio::test]
async fn a_new_owner_ends_the_backend_that_holds_the_slot() {
    let mut c = Capture::new(PEOPLE, &[("people", people("people"))]).await;
    c.open().await;
    c.snapshot_done().await;

    let mut second = Source::new(c.config.clone());
    second.open(&c.checkpoint).await.unwrap();
    c.sql("INSERT INTO people VALUES (1, '甲')").await;

    let error = loop {
        match c.source.next().await {
            Ok(_) => continue,
            Err(error) => break error,
        }
    };
    assert_eq!(error.class(), Class::Retry, "{error:?}");
    c.source = second;
    c.catch_up().await;
    assert_eq!(c.rows("people"), [person(1, "甲")]);
}

#[tokio::test]
async fn i1_an_installation_that_holds_nothing_takes_no_slot_from_one_that_does() {
    let mut c = Capture::new(PEOPLE, &[("people", people("people"))]).await;
    c.open().await;
    c.snapshot_done().await;
    c.catch_up().await;

    // A forgotten folder, a wrong volume: the same capture, and no checkpoint.
    let mut other = Source::new(c.config.clone());
    let error = other.open(&Checkpoint::default()).await.unwrap_err();
    assert_eq!((error.kind, error.class()), (ErrorKind::Config, Class::Halt), "{error:?}");
    let slot = format!("its slot hutong_{} is in use by backend ", c.config.capture);
    assert!(error.why().contains("another installation") && error.why().contains(&slot), "{error}");
    let command = format!("`hutong source remove {}`", c.config.capture);
    assert!(error.hint.unwrap().contains(&command));

    // The one that runs has noticed nothing.
    c.sql("INSERT INTO people VALUES (1, '甲')").await;
    c.catch_up().await;
    assert_eq!(c.rows("people"), [person(1, "甲")]);

    // Nor has one that goes on after a restart, before it commits anything more.
    c.crash().await;
    assert_eq!(other.open(&Checkpoint::default()).await.unwrap_err().kind, ErrorKind::Config);

    // A person who gives the position up is obeyed.
    let notes = postgres::anew(&c.checkpoint, &c.config.tables, "试").unwrap();
    other.open(&Checkpoint { notes, ..Checkpoint::default() }).await.unwrap();
    other.close().await.unwrap();
    // And a slot that nobody reads is anybody's.
    c.source.close().await.unwrap();
    other.open(&Checkpoint::default()).await.unwrap();
}

#[tokio::test]
async fn i7_an_owner_that_had_committed_nothing_is_ended_by_the_next_though_it_lives() {
    let mut c = Capture::new(PEOPLE, &[("people", people("people"))]).await;
    c.sql("INSERT INTO people VALUES (1, '甲')").await;
    c.open().await;
    // Handed out, and not committed; the sessions stay, as of a machine that is cut off.
    c.source.next().await.unwrap();

    let mut second = Source::new(c.config.clone());
    second.open(&Checkpoint::default()).await.unwrap();
    c.source = second;
    c.snapshot_done().await;
    assert_eq!(c.rows("people"), [person(1, "甲")]);
}

#[tokio::test]
async fn a_lost_slot_is_said() {
    let mut c = Capture::new(PEOPLE, &[("people", people("people"))]).await;
    c.open().await;
    c.snapshot_done().await;
    c.source.close().await.unwrap();

    postgres::remove(&c.config.url, &c.config.capture).await.unwrap();
    postgres::remove(&c.config.url, &c.config.capture).await.unwrap();
    let error = c.source.open(&c.checkpoint).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::PositionLost);
    assert!(error.hint.is_some());

    // Another system with the same names.
    let mut elsewhere = c.checkpoint.clone();
    elsewhere.notes.insert("system".into(), "1".into());
    elsewhere.positions.clear();
    let error = c.source.open(&elsewhere).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::PositionLost);
    assert!(error.to_string().contains("system 1"), "{error}");
}

#[tokio::test]
async fn a_name_that_another_database_of_the_server_has_taken_is_said() {
    let mut c = Capture::new(PEOPLE, &[("people", people("people"))]).await;
    c.open().await;
    let there = Postgres::shared().await.unwrap();
    let tables = [("people", people("people"))];
    let mut second = Capture::at(&there.url, &c.config.capture, PEOPLE, &tables).await;

    let error = second.source.open(&second.checkpoint).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Config, "{error:?}");
    let says = format!("the slot hutong_{0} exists in the database {0} of this server", c.config.capture);
    assert!(error.why().contains(&says), "{error}");
    assert!(error.hint.unwrap().contains("[capture.NAME]"));
    let findings = postgres::probe(&second.config).await;
    assert!(findings.iter().any(|f| !f.ok && f.what.contains(&says) && f.hint.is_some()), "{findings:?}");
    assert!(findings.iter().all(|f| !f.what.contains("does not exist yet")), "{findings:?}");

    // What is taken back here leaves the other one alone.
    postgres::remove(&second.config.url, &second.config.capture).await.unwrap();
    c.snapshot_done().await;
}

#[tokio::test]
async fn a_slot_that_moved_on_is_said() {
    let mut c = Capture::new(PEOPLE, &[("people", people("people"))]).await;
    c.open().await;
    c.snapshot_done().await;
    c.source.close().await.unwrap();
    c.sql("INSERT INTO people VALUES (1, '甲')").await;
    let name = format!("hutong_{}", c.config.capture);
    c.client.execute("SELECT pg_replication_slot_advance($1, pg_current_wal_lsn())", &[&name]).await.unwrap();

    let error = c.source.open(&c.checkpoint).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::PositionLost);
    assert!(error.to_string().contains("moved on"), "{error}");
}

#[tokio::test]
async fn a_table_without_identity_is_never_published() {
    let sql = format!(
        "{PEOPLE} CREATE TABLE bare (id int NOT NULL UNIQUE, name text); INSERT INTO bare VALUES (1, 'a'); \
         CREATE TABLE late (id int, name text, PRIMARY KEY (id) DEFERRABLE)"
    );
    let tables = [("people", people("people")), ("bare", people("bare")), ("late", people("late"))];
    let mut c = Capture::new(&sql, &tables).await;
    c.open().await;
    // The owner's own statement still works.
    c.sql("UPDATE bare SET name = 'b'; INSERT INTO people VALUES (1, '甲')").await;
    c.catch_up().await;
    assert_eq!(c.rows("people"), [person(1, "甲")]);
    assert!(c.checkpoint.notes["suspended.public.bare"].contains("replica identity"));
    assert!(c.checkpoint.notes["suspended.public.late"].contains("non-deferrable"));

    let findings = postgres::probe(&c.config).await;
    let bad: Vec<_> = findings.iter().filter(|f| !f.ok).map(|f| f.what.as_str()).collect();
    assert_eq!(bad.len(), 3, "{bad:?}");
    assert!(findings.iter().any(|f| f.ok && f.what.contains("wal_level is logical")));

    let error = Capture::new("CREATE TABLE b (id int)", &[("b", people("b"))])
        .await
        .source
        .open(&Default::default())
        .await;
    assert_eq!(error.unwrap_err().kind, ErrorKind::SchemaConflict);
}

#[tokio::test]
async fn a_slot_beyond_the_servers_limit_is_lost() {
    let server = Postgres::builder().setting("max_slot_wal_keep_size", "1MB").start().await.unwrap();
    let mut c = Capture::at(&server.url(), "slow", PEOPLE, &[("people", people("people"))]).await;
    c.open().await;
    c.snapshot_done().await;
    c.source.close().await.unwrap();
    for _ in 0..6 {
        c.sql(
            "INSERT INTO people SELECT i, repeat('x', 500) FROM generate_series(1, 5000) i; TRUNCATE people",
        )
        .await;
        c.sql("SELECT pg_switch_wal()").await;
    }
    c.sql("CHECKPOINT").await;

    let error = c.source.open(&c.checkpoint).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::PositionLost, "{error:?}");
    let findings = postgres::probe(&c.config).await;
    assert!(findings.iter().any(|f| !f.ok && f.what.contains("invalidated the slot")), "{findings:?}");
}

#[tokio::test]
async fn a_role_needs_no_more_than_replication_and_its_own_tables() {
    let server = Postgres::builder().password("admin").start().await.unwrap();
    let admin = hutong_testkit::launch::connect(&server.url()).await.unwrap();
    admin
        .batch_execute(
            "CREATE ROLE capturer LOGIN REPLICATION PASSWORD 'p@ss/word'; CREATE ROLE reader LOGIN PASSWORD 'p@ss/word'; \
             GRANT CREATE ON DATABASE postgres TO capturer; GRANT CREATE ON SCHEMA public TO capturer",
        )
        .await
        .unwrap();
    let url = |role: &str| format!("postgres://{role}:p%40ss%2Fword@127.0.0.1:{}/postgres", server.port());
    let mut c = Capture::at(&url("capturer"), "modest", PEOPLE, &[("people", people("people"))]).await;
    let findings = postgres::probe(&c.config).await;
    assert!(findings.iter().all(|f| f.ok), "{findings:?}");

    c.open().await;
    c.snapshot_done().await;
    c.crash().await;
    c.sql("INSERT INTO people VALUES (1, '甲')").await;
    c.catch_up().await;
    assert_eq!(c.rows("people"), [person(1, "甲")]);

    // One who may do nothing is told everything at once, and no password.
    c.config.url = Secret::new(url("reader"));
    let findings = postgres::probe(&c.config).await;
    let bad: Vec<_> = findings.iter().filter(|f| !f.ok).map(|f| f.what.as_str()).collect();
    assert!(bad.iter().any(|what| what.contains("may not replicate")), "{bad:?}");
    assert!(bad.iter().any(|what| what.contains("may not read public.people")), "{bad:?}");
    c.config.url = Secret::new(url("reader").replace("word@", "wrong@"));
    let findings = postgres::probe(&c.config).await;
    assert!(findings.iter().all(|f| !f.ok && !f.what.contains("p%40ss")), "{findings:?}");
    let error = Source::new(c.config.clone()).open(&c.checkpoint).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Denied, "{error:?}");
}

#[tokio::test]
async fn a_publication_that_somebody_drops_or_filters_is_said() {
    let mut c = Capture::new(PEOPLE, &[("people", people("people"))]).await;
    c.open().await;
    c.snapshot_done().await;
    c.source.close().await.unwrap();
    let name = format!("hutong_{}", c.config.capture);
    c.sql(&format!("DROP PUBLICATION {name}; INSERT INTO people VALUES (1, '甲')")).await;

    c.open().await;
    let error = loop {
        match c.source.next().await {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind, ErrorKind::PositionLost, "{error:?}");

    // From the beginning it goes, whatever is left of the slot.
    c.checkpoint = Default::default();
    c.open_new().await;
    c.snapshot_done().await;
    assert_eq!(c.rows("people"), [person(1, "甲")]);

    c.sql(&format!("ALTER PUBLICATION {name} SET TABLE people WHERE (id > 5)")).await;
    let error = loop {
        match c.source.next().await {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!((error.kind, error.hint.is_some()), (ErrorKind::Config, true), "{error:?}");
}
