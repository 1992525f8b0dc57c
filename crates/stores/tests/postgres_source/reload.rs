//! Tables that are read anew: what was captured of them before goes, wherever the stream stands.

use crate::capture::{Capture, people, person};
use hutong_core::Source as _;

const PEOPLE: &str = "CREATE TABLE people (id int PRIMARY KEY, name text);";

#[tokio::test]
async fn a_suspended_table_comes_back_although_its_old_shape_is_still_in_the_log() {
    let sql = format!("{PEOPLE} INSERT INTO people VALUES (1, 'a')");
    let mut c = Capture::new(&sql, &[("people", people("people"))]).await;
    c.open().await;
    c.snapshot_done().await;
    c.sql("ALTER TABLE people RENAME name TO label; INSERT INTO people VALUES (2, 'b')").await;
    c.until("suspended", |c| c.checkpoint.notes.contains_key("suspended.public.people")).await;
    c.source.close().await.unwrap();
    c.sql("INSERT INTO people VALUES (3, 'c')").await;
    c.sql("ALTER TABLE people RENAME label TO name").await;

    c.open_new().await;
    c.until("back", |c| !c.checkpoint.notes.contains_key("suspended.public.people")).await;
    c.snapshot_done().await;
    c.sql("INSERT INTO people VALUES (4, 'd')").await;
    c.catch_up().await;

    assert!(!c.checkpoint.notes.contains_key("suspended.public.people"));
    assert_eq!(c.rows("people"), [person(1, "a"), person(2, "b"), person(3, "c"), person(4, "d")]);
}

#[tokio::test]
async fn what_a_suspended_table_did_before_its_return_does_not_follow_its_truncate() {
    let sql = format!("{PEOPLE} INSERT INTO people VALUES (1, 'a')");
    let mut c = Capture::new(&sql, &[("people", people("people"))]).await;
    c.open().await;
    c.snapshot_done().await;
    c.sql("ALTER TABLE people RENAME name TO label; INSERT INTO people VALUES (2, 'b')").await;
    c.until("suspended", |c| c.checkpoint.notes.contains_key("suspended.public.people")).await;
    c.source.close().await.unwrap();
    c.sql("ALTER TABLE people RENAME label TO name").await;
    c.sql("INSERT INTO people VALUES (3, 'c')").await;
    // Not a change of any row, for the log.
    c.sql(&format!("DROP TABLE people; {PEOPLE} INSERT INTO people VALUES (4, 'd')")).await;

    c.open_new().await;
    c.snapshot_done().await;
    c.catch_up().await;

    assert_eq!(c.rows("people"), [person(4, "d")]);
}
