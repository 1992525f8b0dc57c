//! Looks at SQLite files before anything runs, and reloads of their lanes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use hutong_core::{Act, Contract, ErrorKind, Kind, LaneId, Order, PipelineId, Sink as _, Verb};
use hutong_stores::Finding;
use hutong_stores::sqlite::{
    Captured, Sink, SinkConfig, Store, answers, install, probe, probe_target, steer,
};
use rusqlite::Connection;

fn contract() -> Arc<Contract> {
    Contract::parse(
        r#"{"type":"record","name":"people","sharing":"unconditional","key":["id"],"fields":[
            {"name":"id","type":"long"},{"name":"code","type":["null","string"]}]}"#,
    )
    .unwrap()
    .shared()
}

fn run(path: &Path, sql: &str) {
    Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

/// Asserts which findings are bad, by a part of each.
fn bad(findings: &[Finding], wanted: &[&str]) {
    let found: Vec<&Finding> = findings.iter().filter(|finding| !finding.ok).collect();
    assert_eq!(found.len(), wanted.len(), "{findings:#?}");
    for (finding, wanted) in found.iter().zip(wanted) {
        assert!(finding.what.contains(wanted) && finding.hint.is_some(), "{wanted}: {findings:#?}");
    }
}

#[test]
fn a_capture_needs_its_file_its_tables_and_its_triggers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("register.db");
    let tables = [Captured { name: "people".into(), contract: contract() }];
    let look = || probe(&path, "gongan", &tables);

    let findings = look();
    assert!(findings.len() == 1 && findings[0].what.contains("no such file"), "{findings:#?}");
    assert!(!path.exists(), "a look makes nothing");
    run(&path, "CREATE TABLE people (id INTEGER PRIMARY KEY, code TEXT)");
    bad(&look(), &["the file has no change log"]);
    install(&path, "gongan", &tables).unwrap();
    bad(&look(), &[]);
    run(&path, "ALTER TABLE people RENAME COLUMN code TO other");
    assert!(look().iter().any(|finding| !finding.ok && finding.what.contains("no column code")));
}

#[test]
fn a_store_needs_a_place_and_a_table_that_fits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("office.db");
    let look = || probe_target(&path, "people", &contract());

    bad(&probe_target(&folder.path().join("none/office.db"), "people", &contract()), &["is no folder"]);
    bad(&look(), &[]);
    assert!(!path.exists(), "a look makes nothing");
    run(&path, "CREATE TABLE people (id INTEGER, code INTEGER)");
    bad(&look(), &["column code is declared INTEGER", "are not unique"]);
    // A table that Hutong made grows.
    run(
        &path,
        "DROP TABLE people; CREATE TABLE people (id INTEGER PRIMARY KEY, hutong_lane TEXT, hutong_offset)",
    );
    bad(&look(), &[]);
    std::fs::write(&path, "no database at all, but long enough to have a header of its own").unwrap();
    assert!(look().iter().any(|finding| !finding.ok));
}

fn sink(store: &Arc<Store>, lane: &LaneId) -> Sink {
    Sink::new(SinkConfig {
        store: Arc::clone(store),
        lane: lane.clone(),
        table: "people".into(),
        grant: "g".into(),
        partitions: None,
        contract: None,
        content: None,
        number: None,
        quarantine_limit: 9,
    })
}

#[tokio::test]
async fn i7_a_store_may_be_missing_only_until_a_lane_has_opened_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("office.db");
    answers(&path).unwrap();
    assert!(!path.exists(), "a look makes nothing");
    let (store, lane) =
        (Arc::new(Store::new(&path)), LaneId::new(PipelineId::new(Kind::Replicate, "renshe"), 0));

    assert!(sink(&store, &lane).open(&lane).await.unwrap().is_empty());

    assert!(path.exists(), "the first opening makes it");
    answers(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let error = answers(&path).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("office.db is gone") && error.hint.is_some(), "{error}");
}

#[tokio::test]
async fn a_reloaded_lane_starts_anew_and_its_owner_is_fenced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("office.db");
    let pipeline = PipelineId::new(Kind::Replicate, "renshe");
    let act = Act { verb: Verb::Reload, at_us: 7, by: "李".into(), reason: String::new(), to_us: None };
    let order = Order { act, back: BTreeMap::new() };
    assert!(steer(&path, &pipeline, &order).unwrap().is_empty());
    let lane = LaneId::new(pipeline.clone(), 0);
    let store = Arc::new(Store::new(&path));
    let sink = || sink(&store, &lane);
    let mut old = sink();
    old.open(&lane).await.unwrap();
    old.prepare(&contract()).await.unwrap();
    run(
        &path,
        "INSERT INTO people VALUES (1, 'x', 'replicate.renshe.0', 0), (2, 'y', 'replicate.renshe_b.0', 0)",
    );

    let steered = steer(&path, &pipeline, &order).unwrap();
    assert_eq!((steered.len(), steered[0].lane.as_str()), (1, "replicate.renshe.0"));

    let error = old.commit(&hutong_core::Batch::default()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Fenced, "{error}");
    assert!(sink().open(&lane).await.unwrap().is_empty());
    let left: Vec<i64> = {
        let connection = Connection::open(&path).unwrap();
        let mut statement = connection.prepare("SELECT id FROM people").unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    assert_eq!(left, [2], "the rows of the lane are gone, and no others");
}
