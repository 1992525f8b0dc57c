//! A suspension ends by itself when the table fits again, while the capture runs.

use hutong_testkit::launch::{Postgres, connect};

use crate::capture::{Capture, people, person};

const PEOPLE: &str = "CREATE TABLE people (id int PRIMARY KEY, name text);";
const NOTE: &str = "suspended.public.people";

async fn suspended(c: &mut Capture, says: &str) {
    c.until("suspended", |c| c.checkpoint.notes.contains_key(NOTE)).await;
    let why = &c.checkpoint.notes[NOTE];
    assert!(why.contains(says), "{why}");
}

/// Waits until the table is back and read, and sees that changes come and nothing is read twice.
async fn back(c: &mut Capture) {
    c.until("back", |c| !c.checkpoint.notes.contains_key(NOTE)).await;
    c.snapshot_done().await;
    c.clear();
    c.sql("INSERT INTO people VALUES (9, 'z')").await;
    c.catch_up().await;
    for _ in 0..3 {
        c.next().await;
    }
    assert_eq!(c.letters(), "c");
}

#[tokio::test]
async fn i3_a_table_that_fits_again_comes_back_while_the_capture_runs() {
    for (breaks, says, mends, expected) in [
        (
            "ALTER TABLE people RENAME name TO label; INSERT INTO people VALUES (2, 'b')",
            "`name` is missing",
            "ALTER TABLE people RENAME label TO name",
            &["a", "b", "z"][..],
        ),
        (
            "ALTER TABLE people ALTER name TYPE int USING 7; INSERT INTO people VALUES (2, 8)",
            "`name` is int4",
            "ALTER TABLE people ALTER name TYPE text",
            &["7", "8", "z"],
        ),
        ("DROP TABLE people", "no longer in the publication", PEOPLE, &["z"]),
        (
            "ALTER PUBLICATION <publication> DROP TABLE people; DELETE FROM people",
            "no longer in the publication",
            "SELECT 1",
            &["z"],
        ),
        (
            "ALTER TABLE people REPLICA IDENTITY NOTHING; INSERT INTO people VALUES (2, 'b')",
            "replica identity",
            "ALTER TABLE people REPLICA IDENTITY FULL",
            &["a", "b", "z"],
        ),
    ] {
        let sql = format!("{PEOPLE} INSERT INTO people VALUES (1, 'a')");
        let mut c = Capture::new(&sql, &[("people", people("people"))]).await;
        c.open().await;
        c.snapshot_done().await;

        c.sql(&breaks.replace("<publication>", &format!("hutong_{}", c.config.capture))).await;
        suspended(&mut c, says).await;
        c.sql(mends).await;

        back(&mut c).await;
        let names: Vec<_> = c.rows("people").iter().map(|row| row[1].as_text().unwrap().to_owned()).collect();
        assert_eq!(names, expected, "{breaks}");
        c.end().await;
    }
}

#[tokio::test]
async fn a_table_that_the_role_gets_later_is_taken_up_while_the_capture_runs() {
    let server = Postgres::start().await.unwrap();
    let admin = connect(&server.url()).await.unwrap();
    let sql = format!(
        "CREATE ROLE capturer LOGIN REPLICATION; GRANT CREATE ON DATABASE postgres TO capturer; \
         GRANT CREATE ON SCHEMA public TO capturer; {PEOPLE} INSERT INTO people VALUES (1, 'a')"
    );
    admin.batch_execute(&sql).await.unwrap();
    let url = format!("postgres://capturer@127.0.0.1:{}/postgres", server.port());
    let other = "CREATE TABLE other (id int PRIMARY KEY, name text)";
    let tables = [("other", people("other")), ("people", people("people"))];
    let mut c = Capture::at(&url, "later", other, &tables).await;
    c.open().await;
    suspended(&mut c, "may not read").await;

    admin.batch_execute("GRANT SELECT ON people TO capturer").await.unwrap();
    for _ in 0..3 {
        c.next().await;
    }
    assert!(c.checkpoint.notes.contains_key(NOTE), "it may be read, but not published");
    // Whose rows are hidden from it may not be captured either.
    let hidden = "ALTER TABLE people ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; \
                  ALTER TABLE people OWNER TO capturer";
    admin.batch_execute(hidden).await.unwrap();
    for _ in 0..3 {
        c.next().await;
    }
    assert!(c.checkpoint.notes.contains_key(NOTE) && c.letters().is_empty());

    admin.batch_execute("ALTER TABLE people DISABLE ROW LEVEL SECURITY").await.unwrap();
    back(&mut c).await;
    assert_eq!(c.rows("people"), [person(1, "a"), person(9, "z")]);
}
