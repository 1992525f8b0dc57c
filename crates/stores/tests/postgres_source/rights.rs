//! What the capture's role may not do with one table is no reason to stop the others.

use crate::capture::{Capture, people, person};
use hutong_core::{ErrorKind, Source as _};
use hutong_testkit::launch::{Postgres, connect};

/// A server with a role that may replicate, and an administrator's session on it.
async fn server() -> (Postgres, tokio_postgres::Client, String) {
    let server = Postgres::start().await.unwrap();
    let admin = connect(&server.url()).await.unwrap();
    let sql = "CREATE ROLE capturer LOGIN REPLICATION; GRANT CREATE ON DATABASE postgres TO capturer; \
               GRANT CREATE ON SCHEMA public TO capturer; \
               CREATE TABLE foreign_one (id int PRIMARY KEY, name text); INSERT INTO foreign_one VALUES (1, 'f')";
    admin.batch_execute(sql).await.unwrap();
    let url = format!("postgres://capturer@127.0.0.1:{}/postgres", server.port());
    (server, admin, url)
}

#[tokio::test]
async fn a_table_that_the_role_may_not_publish_is_suspended_by_name() {
    let (_server, admin, url) = server().await;
    admin.batch_execute("GRANT SELECT ON foreign_one TO capturer").await.unwrap();
    let tables = [("people", people("people")), ("foreign_one", people("foreign_one"))];
    let mut c =
        Capture::at(&url, "rights", "CREATE TABLE people (id int PRIMARY KEY, name text)", &tables).await;
    c.open().await;
    c.sql("INSERT INTO people VALUES (1, 'a')").await;
    c.catch_up().await;
    assert_eq!((c.rows("people"), c.rows("foreign_one")), (vec![person(1, "a")], vec![]));
    let why = &c.checkpoint.notes["suspended.public.foreign_one"];
    assert!(why.contains("must be owner of table foreign_one"), "{why}");
    assert!(!c.checkpoint.notes.contains_key("snapshot.public.foreign_one"));

    admin.batch_execute("ALTER TABLE foreign_one OWNER TO capturer").await.unwrap();
    c.crash().await;
    c.snapshot_done().await;
    assert_eq!(c.rows("foreign_one"), [person(1, "f")]);

    // When no table is left, it is said at once.
    let mut c = Capture::at(&url, "none", "SELECT 1", &[("other", people("other"))]).await;
    admin
        .batch_execute(
            "CREATE TABLE other (id int PRIMARY KEY, name text); GRANT SELECT ON other TO capturer",
        )
        .await
        .unwrap();
    let error = c.source.open(&c.checkpoint).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Denied, "{error:?}");
}

#[tokio::test]
async fn a_table_that_the_role_may_no_longer_read_is_suspended_by_name() {
    let (_server, _admin, url) = server().await;
    let sql = "CREATE TABLE people (id int PRIMARY KEY, name text); CREATE TABLE other (id int PRIMARY KEY, name text); \
               INSERT INTO people SELECT i, 'x' FROM generate_series(1, 1000) i";
    let mut c =
        Capture::at(&url, "rights", sql, &[("people", people("people")), ("other", people("other"))]).await;
    c.config.chunk_rows = 100;
    c.open_new().await;
    c.until("the first chunk", |c| c.rows("people").len() >= 100).await;
    c.sql("REVOKE SELECT ON people FROM capturer").await;
    c.until("suspended", |c| c.checkpoint.notes.contains_key("suspended.public.people")).await;
    c.sql("INSERT INTO other VALUES (1, 'o')").await;
    c.catch_up().await;
    assert_eq!(c.rows("other"), [person(1, "o")]);

    // What was read of it stays while it cannot be read again.
    c.crash().await;
    c.sql("INSERT INTO other VALUES (2, 'p')").await;
    c.catch_up().await;
    let why = &c.checkpoint.notes["suspended.public.people"];
    assert!(why.contains("may not read"), "{why}");
    assert!(c.rows("people").len() >= 100 && !c.letters().contains('t'));

    c.sql("GRANT SELECT ON people TO capturer").await;
    c.crash().await;
    c.snapshot_done().await;
    assert_eq!(c.rows("people").len(), 1000);
}
