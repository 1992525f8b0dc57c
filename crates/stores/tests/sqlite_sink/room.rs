//! A replica is emptied only when its table takes what comes instead.

use std::sync::Arc;

use hutong_core::{Contract, ErrorKind, Kind, LaneId, Op, PipelineId, Sink as _};
use hutong_stores::sqlite::{self, SinkConfig};

use super::{Office, lane, row, stands};

/// The next generation: `code` is a number, and the key.
fn next_generation() -> Arc<Contract> {
    let text = r#"{"type":"record","name":"people","sharing":"unconditional","key":["code"],"fields":[
        {"name":"id","type":"long"},{"name":"code","type":"long"},
        {"name":"note","column":"备注","type":["null","string"]}]}"#;
    Contract::parse(text).unwrap().shared()
}

fn knowing(office: &Office, partition: u32) -> sqlite::Sink {
    sqlite::Sink::new(SinkConfig { contract: Some(next_generation()), ..office.config(partition, "g2") })
}

#[tokio::test]
async fn i3_a_departments_own_table_keeps_its_rows_until_it_takes_the_next_contract() {
    let office = Office::new("CREATE TABLE people (id INTEGER PRIMARY KEY, code TEXT, 备注 TEXT)");
    office.open(0).await.commit(&[(Op::Read, row(1, "a", None))]).await.unwrap();

    let error = knowing(&office, 0).open(&lane(0)).await.unwrap_err();

    assert_eq!(error.kind, ErrorKind::SchemaConflict, "{error}");
    assert!(error.why().contains("column code is declared TEXT"), "{error}");
    assert!(error.why().contains("code are the contract's key and are not unique"), "{error}");
    assert_eq!(office.rows(), [stands(1, "a", None)]);
    assert_eq!(sqlite::lanes(&office.path()).unwrap()[0].grant, "g");
}

#[tokio::test]
async fn i3_a_table_that_hutong_made_is_made_anew_for_the_next_generation() {
    let office = Office::new("");
    office.open(0).await.commit(&[(Op::Read, row(1, "a", None))]).await.unwrap();
    office.open(1).await.commit(&[(Op::Read, row(2, "b", None))]).await.unwrap();

    // A lane that the pipeline did not have before may be the first.
    for partition in [2, 0] {
        assert!(knowing(&office, partition).open(&lane(partition)).await.unwrap().is_empty());
    }

    assert!(office.rows().is_empty());
    // The other lane's rows are gone with the table: it starts anew whatever grant it comes with.
    assert!(office.sink(1, "g").open(&lane(1)).await.unwrap().is_empty());
}

#[tokio::test]
async fn i3_a_table_with_rows_of_another_pipeline_is_not_made_anew() {
    let office = Office::new("");
    office.open(0).await.commit(&[(Op::Read, row(1, "a", None))]).await.unwrap();
    let other = LaneId::new(PipelineId::new(Kind::Replicate, "other"), 0);
    let mut theirs = office.sink(0, "g");
    theirs.open(&other).await.unwrap();
    theirs.prepare(&office.contract).await.unwrap();
    let line =
        format!("INSERT INTO people (id, code, hutong_lane, hutong_offset) VALUES (2, 'b', '{other}', 1)");
    office.run(&line);

    let error = knowing(&office, 0).open(&lane(0)).await.unwrap_err();

    assert_eq!(error.kind, ErrorKind::SchemaConflict, "{error}");
    assert_eq!(office.rows(), [stands(1, "a", None), stands(2, "b", None)]);
}
