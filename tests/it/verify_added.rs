//! `hutong verify` and rows that somebody has added to a replica by hand, in both stores.

use std::time::Duration;

use hutong_testkit::launch::{Postgres, connect};
use rusqlite::Connection;
use serde_json::{Value as Json, json};

use crate::cli::Ended;
use crate::installation::{Bus, Installation, until};
use crate::verify::office_and_stores;

const CONTRACT: &str = r#"{"type":"record","name":"entry","sharing":"unconditional","key":["id"],"fields":[
    {"name":"id","type":"long"},{"name":"note","type":["null","string"]}]}"#;

fn subscription(name: &str, store: &str, table: &str) -> String {
    format!(
        "[subscription.{name}]\ndepartment = \"renshe\"\nstream = \"entry\"\npurpose = \"核验\"\n\
         columns = [\"id\", \"note\"]\ninto = {{ store = \"{store}\", table = \"{table}\" }}\n"
    )
}

/// Verifies, and returns the answer with how it ended.
fn verified(installation: &Installation, subscription: &str, more: &[&str]) -> (Json, Ended) {
    let mut arguments = vec!["verify", subscription, "-o", "json"];
    arguments.extend(more);
    let ended = installation.ask(&arguments);
    let answer = serde_json::from_str(&ended.out);
    (answer.unwrap_or_else(|e| panic!("{e}\n{}\n{}", ended.out, ended.err)), ended)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_i5_rows_that_somebody_added_are_named_and_removed_and_a_departments_own_are_counted() {
    let share = Postgres::shared().await.unwrap();
    let owner = &share.name;
    let mut configuration = office_and_stores(owner, &share.url);
    for (name, store, table) in [
        ("shared", "share", "share.entry"),
        ("own_shared", "share", "own_entry"),
        ("copied", "copy", "entry"),
        ("own_copied", "copy", "own_entry"),
    ] {
        configuration.push_str(&subscription(name, store, table));
    }
    let installation = Installation::new(Bus::Embedded, owner, &configuration).await;
    installation.write("entry.avsc", CONTRACT);
    let office = Connection::open(installation.path("office.db")).unwrap();
    office
        .execute_batch(
            "PRAGMA journal_mode = WAL;
             CREATE TABLE entry (id INTEGER PRIMARY KEY, note TEXT);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50)
             INSERT INTO entry SELECT i, '备注' || i FROM n",
        )
        .unwrap();
    let replica = connect(&share.url).await.unwrap();
    let copy = Connection::open(installation.path("copy.db")).unwrap();
    copy.busy_timeout(Duration::from_secs(10)).unwrap();
    // The department's own tables have rows of its own.
    let own = "CREATE TABLE own_entry (id bigint PRIMARY KEY, note text); INSERT INTO own_entry VALUES (7001, '本局')";
    replica.batch_execute(own).await.unwrap();
    copy.execute_batch(own).unwrap();
    installation.ask(&["check"]).expect(0);
    installation.ask(&["source", "install", owner]).expect(0);
    let run = installation.run();
    until("every entry is everywhere", async || {
        let sql = "SELECT (SELECT count(*) FROM share.entry) + (SELECT count(*) FROM own_entry)";
        let there: i64 = replica.query_one(sql, &[]).await.ok()?.get(0);
        let sql = "SELECT (SELECT count(*) FROM entry) + (SELECT count(*) FROM own_entry)";
        let here: i64 = copy.query_row(sql, [], |row| row.get(0)).ok()?;
        (there == 101 && here == 101).then_some(())
    })
    .await;

    // Somebody adds rows, and names what lane he likes; 9001 is another pipeline's.
    let adds = |table: &str, other: &str| {
        format!(
            "INSERT INTO {table} (id, note, hutong_lane, hutong_offset)
                VALUES (9000, '添', 'manual', 0), (9001, '别', 'replicate.{other}.0', 0);
             UPDATE {table} SET hutong_lane = '' WHERE id = 8;
             INSERT INTO own_entry VALUES (7002, '添')"
        )
    };
    replica.batch_execute(&adds("share.entry", "own_shared")).await.unwrap();
    copy.execute_batch(&adds("entry", "own_copied")).unwrap();

    for subscription in ["own_shared", "own_copied"] {
        let (answer, ended) = verified(&installation, subscription, &[]);
        let counts = (&answer["source_rows"], &answer["replica_rows"], &answer["foreign_rows"]);
        assert_eq!(counts, (&json!(50), &json!(50), &json!(2)), "{subscription}: {answer:#}");
        assert_eq!((ended.code, &answer["equal"]), (0, &json!(true)), "{answer:#}\n{}", ended.err);
        let told = installation.ask(&["verify", subscription]);
        assert!(told.out.contains("2 rows of the table are not Hutong's"), "{}{}", told.out, told.err);
    }
    for subscription in ["shared", "copied"] {
        let (answer, _) = verified(&installation, subscription, &[]);
        let differing = answer["differing"].as_array().unwrap();
        let mut found: Vec<(i64, &str)> = differing
            .iter()
            .map(|item| (item["key"]["id"].as_i64().unwrap(), item["difference"].as_str().unwrap()))
            .collect();
        found.sort_unstable();
        // Also the row that looks right: a recall, which goes by the lane, would leave it.
        assert_eq!(found, [(8, "altered"), (9000, "surplus")], "{subscription}: {answer:#}");
        assert_eq!(answer["foreign_rows"], json!(0), "{answer:#}");
    }
    // What is sent again for the one, the other reads too.
    let (answer, ended) = verified(&installation, "shared", &["--repair"]);
    assert_eq!((ended.code, &answer["mended"]), (0, &json!(2)), "{answer:#}\n{}", ended.err);
    let (answer, ended) = verified(&installation, "copied", &["--repair"]);
    assert_eq!(ended.code, 0, "{answer:#}\n{}", ended.err);

    let sql = |table: &str| {
        format!(
            "SELECT id, hutong_lane FROM {table} WHERE id = 8 OR id > 9 AND note IN ('添', '别') ORDER BY id"
        )
    };
    let there: Vec<(i64, String)> = replica
        .query(&sql("share.entry"), &[])
        .await
        .unwrap()
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    let mut here = copy.prepare(&sql("entry")).unwrap();
    let here: Vec<(i64, String)> =
        here.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect();
    for (rows, name, other) in [(there, "shared", "own_shared"), (here, "copied", "own_copied")] {
        let begins = |at: usize, lane: &str| rows[at].1.starts_with(&format!("replicate.{lane}."));
        assert_eq!(rows.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [8, 9001], "{rows:?}");
        assert!(begins(0, name) && begins(1, other), "{rows:?}");
    }
    run.stop().await;
}
