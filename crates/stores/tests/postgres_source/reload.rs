//! Tables that are read anew: what was captured of them before goes, wherever the stream stands.

use crate::capture::{Capture, contract, people, person};
use hutong_core::{Field, Source as _, Type};

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

fn names(c: &Capture) -> Vec<String> {
    c.rows("people").iter().map(|row| row[1].as_text().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn i3_what_the_stream_does_not_tell_while_a_capture_is_stopped_is_read_anew() {
    for (sql, expected) in [
        (
            "DROP TABLE people; CREATE TABLE people (id int PRIMARY KEY, name text); INSERT INTO people VALUES (1, 'c')",
            &["c"][..],
        ),
        ("ALTER TABLE people ALTER name TYPE varchar(9) USING upper(name)", &["A", "B"]),
        (
            "ALTER TABLE people ALTER id TYPE bigint; ALTER TABLE people ALTER id TYPE int; \
          ALTER TABLE people ALTER name TYPE text COLLATE \"C\" USING upper(name)",
            &["A", "B"],
        ),
        ("ALTER PUBLICATION <publication> DROP TABLE people; DELETE FROM people WHERE id = 1", &["b"]),
        ("ALTER PUBLICATION <publication> SET (publish = 'insert'); DELETE FROM people WHERE id = 1", &["b"]),
    ] {
        let made = format!("{PEOPLE} INSERT INTO people VALUES (1, 'a'), (2, 'b')");
        let mut c = Capture::new(&made, &[("people", people("people"))]).await;
        c.open().await;
        c.snapshot_done().await;
        c.source.close().await.unwrap();
        c.sql(&sql.replace("<publication>", &format!("hutong_{}", c.config.capture))).await;

        c.open_new().await;
        c.snapshot_done().await;
        c.catch_up().await;

        assert_eq!(names(&c), expected, "{sql}");
        // And once only.
        c.clear();
        c.crash().await;
        c.sql("INSERT INTO people VALUES (9, 'z')").await;
        c.catch_up().await;
        assert_eq!(c.letters(), "c", "{sql}");
        c.end().await;
    }
}

#[tokio::test]
async fn i3_a_partition_that_comes_goes_or_is_emptied_is_found_out() {
    const PARTED: &str = "CREATE TABLE people (id int PRIMARY KEY, name text) PARTITION BY RANGE (id); \
         CREATE TABLE people_0 PARTITION OF people FOR VALUES FROM (0) TO (10); \
         CREATE TABLE deeper PARTITION OF people FOR VALUES FROM (10) TO (30) PARTITION BY RANGE (id); \
         CREATE TABLE people_1 PARTITION OF deeper FOR VALUES FROM (10) TO (20); \
         CREATE TABLE people_3 (id int PRIMARY KEY, name text); INSERT INTO people_3 VALUES (31, 'd'); \
         INSERT INTO people VALUES (1, 'a'), (11, 'b')";
    for (sql, expected) in [
        ("TRUNCATE people_1", &["a"][..]),
        ("ALTER TABLE people DETACH PARTITION people_0", &["b"]),
        ("DROP TABLE people_1", &["a"]),
        ("ALTER TABLE people ATTACH PARTITION people_3 FOR VALUES FROM (30) TO (40)", &["a", "b", "d"]),
    ] {
        for stopped in [false, true] {
            let mut c = Capture::new(PARTED, &[("people", people("people"))]).await;
            c.open().await;
            c.snapshot_done().await;
            if stopped {
                c.source.close().await.unwrap();
            }
            c.sql(sql).await;
            if stopped {
                c.open_new().await;
            }
            c.until("read anew", |c| c.letters().contains('t')).await;
            c.snapshot_done().await;
            assert_eq!(names(&c), expected, "{sql}");

            // Once only, and changes still come.
            c.clear();
            let id = if expected == ["b"] { 12 } else { 2 };
            c.sql(&format!("INSERT INTO people VALUES ({id}, 'e')")).await;
            c.catch_up().await;
            assert_eq!(c.letters(), "c", "{sql}");
            c.end().await;
        }
    }
}

#[tokio::test]
async fn a_contract_that_grew_fills_the_rows_that_are_there() {
    let sql = "CREATE TABLE people (id int PRIMARY KEY, name text); INSERT INTO people VALUES (1, 'a')";
    let only_id = contract("people", 1, vec![Field::new("id", Type::Int)]);
    let mut c = Capture::new(sql, &[("people", only_id)]).await;
    c.open().await;
    c.snapshot_done().await;
    c.source.close().await.unwrap();

    c.config.tables[0].contract = people("people");
    c.open_new().await;
    c.snapshot_done().await;

    assert_eq!(c.rows("people"), [person(1, "a")]);
}

#[tokio::test]
async fn a_note_from_before_shapes_is_filled_in_and_nothing_is_read_anew() {
    let mut c = Capture::new(
        &format!("{PEOPLE} INSERT INTO people VALUES (1, 'a')"),
        &[("people", people("people"))],
    )
    .await;
    c.open().await;
    c.snapshot_done().await;
    let name = "snapshot.public.people";
    let noted = c.checkpoint.notes[name].clone();
    let mut old: serde_json::Value = serde_json::from_str(&noted).unwrap();
    old.as_object_mut().unwrap().remove("shape").unwrap();
    c.checkpoint.notes.insert(name.into(), old.to_string());
    c.clear();

    c.crash().await;
    c.sql("INSERT INTO people VALUES (2, 'b')").await;
    c.catch_up().await;

    assert_eq!((c.letters().as_str(), c.checkpoint.notes[name].as_str()), ("c", noted.as_str()));
}

#[tokio::test]
async fn a_replica_identity_without_the_key_suspends_the_table() {
    let sql = "CREATE TABLE people (id int PRIMARY KEY, name text NOT NULL); CREATE UNIQUE INDEX by_name ON people (name); \
               CREATE TABLE other (id int PRIMARY KEY, name text); INSERT INTO people VALUES (1, 'a')";
    let mut c = Capture::new(sql, &[("people", people("people")), ("other", people("other"))]).await;
    c.open().await;
    c.snapshot_done().await;

    c.sql("ALTER TABLE people REPLICA IDENTITY USING INDEX by_name").await;
    c.sql("UPDATE people SET id = 2; INSERT INTO other VALUES (1, 'o')").await;
    c.until("the other table goes on", |c| c.rows("other").len() == 1).await;
    c.catch_up().await;
    let why = &c.checkpoint.notes["suspended.public.people"];
    assert!(why.contains("replica identity"), "{why}");
    assert_eq!(c.rows("people"), [person(1, "a")], "it is not said of an unknown row");

    c.sql("ALTER TABLE people REPLICA IDENTITY DEFAULT").await;
    c.crash().await;
    c.snapshot_done().await;
    assert_eq!(c.rows("people"), [person(2, "a")]);
}

#[tokio::test]
async fn i3_values_written_anew_by_another_type_are_read_anew_while_the_capture_runs() {
    let sql = format!("{PEOPLE} INSERT INTO people VALUES (1, 'a'), (2, 'b')");
    let mut c = Capture::new(&sql, &[("people", people("people"))]).await;
    c.open().await;
    c.snapshot_done().await;

    c.sql("ALTER TABLE people ALTER name TYPE varchar(9) USING upper(name)").await;
    c.sql("INSERT INTO people VALUES (3, 'c')").await;
    c.until("read anew", |c| c.letters().contains('t')).await;
    c.snapshot_done().await;

    assert_eq!(names(&c), ["A", "B", "c"]);
}

#[tokio::test]
async fn i3_a_publication_that_is_made_to_hand_out_less_is_mended_and_its_tables_read_anew() {
    let sql = format!("{PEOPLE} INSERT INTO people VALUES (1, 'a'), (2, 'b')");
    let mut c = Capture::new(&sql, &[("people", people("people"))]).await;
    c.open().await;
    c.snapshot_done().await;

    let publication = format!("hutong_{}", c.config.capture);
    c.sql(&format!(
        "ALTER PUBLICATION {publication} SET (publish = 'insert'); DELETE FROM people WHERE id = 1"
    ))
    .await;
    c.until("read anew", |c| c.letters().contains('t')).await;
    c.snapshot_done().await;
    c.sql("DELETE FROM people WHERE id = 2").await;
    c.catch_up().await;

    assert_eq!(names(&c), [""; 0]);
}

#[tokio::test]
async fn a_resume_key_that_no_longer_fits_reads_the_table_anew() {
    let fields = vec![Field::new("id", Type::Long), Field::new("name", Type::Text { length: None })];
    let sql = "CREATE TABLE people (id bigint PRIMARY KEY, name text); \
               INSERT INTO people SELECT 3000000000 + i, 'x' FROM generate_series(1, 300) i";
    let mut c = Capture::new(sql, &[("people", contract("people", 1, fields))]).await;
    c.config.chunk_rows = 100;
    c.open_new().await;
    c.until("the first chunk", |c| c.rows("people").len() >= 100).await;

    c.sql(
        "DELETE FROM people; ALTER TABLE people ALTER id TYPE int; INSERT INTO people VALUES (1, 'a'), (2, 'b')",
    )
    .await;
    c.until("read anew", |c| c.letters().contains('t')).await;
    c.snapshot_done().await;
    c.catch_up().await;

    assert_eq!(c.rows("people"), [person(1, "a"), person(2, "b")]);
}
