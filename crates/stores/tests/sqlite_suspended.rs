//! A table that no longer fits neither stops its capture nor loses a row.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use hutong_core::{Batch, Checkpoint, Contract, Op, Source as _, Value};
use hutong_stores::sqlite::{self, Captured, SourceConfig};
use rusqlite::Connection;

const TABLES: &str = "CREATE TABLE one (id INTEGER PRIMARY KEY, code TEXT); CREATE TABLE two (id INTEGER PRIMARY KEY, code TEXT)";

fn captured(table: &str) -> Captured {
    let contract = format!(
        r#"{{"type":"record","name":"{table}","sharing":"unconditional","key":["id"],"fields":[
        {{"name":"id","type":"long"}},{{"name":"code","type":["null","string"]}}]}}"#
    );
    Captured { name: table.into(), contract: Contract::parse(&contract).unwrap().shared() }
}

/// Returns what a batch says: table, operation and key.
fn said(batch: &Batch) -> Vec<(String, Op, Option<i64>)> {
    let key = |v: Option<Vec<Value>>| match v.as_deref() {
        Some([Value::Integer(id)]) => Some(*id),
        _ => None,
    };
    batch.changes.iter().map(|c| (c.contract.stream.clone(), c.op, key(c.key()))).collect()
}

#[tokio::test]
async fn i3_a_suspended_table_is_read_again_and_the_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("office.db");
    let db = Connection::open(&path).unwrap();
    db.execute_batch(&format!("PRAGMA journal_mode = WAL; {TABLES}; INSERT INTO one VALUES (1, 'x'), (2, 'y'); INSERT INTO two VALUES (6, 'v')")).unwrap();
    let tables = vec![captured("one"), captured("two")];
    sqlite::install(&path, "office", &tables).unwrap();
    let mut config = SourceConfig::new(&path, "office", tables.clone());
    config.poll_interval = Duration::from_millis(5);
    let mut source = sqlite::Source::new(config.clone());
    let mut at = Checkpoint::default();
    source.open(&at).await.unwrap();
    let mut next = async |source: &mut sqlite::Source, until: (&str, Op, Option<i64>)| {
        let (mut heard, mut dropped) = (Vec::<(String, Op, Option<i64>)>::new(), 0_u64);
        while !heard.iter().any(|(table, op, id)| until == (table.as_str(), *op, *id)) {
            let batch = source.next().await.unwrap().unwrap();
            at.advance(&batch.delta).unwrap();
            source.ack(&at).await.unwrap();
            dropped += batch.dropped.get("suspended").copied().unwrap_or(0);
            heard.extend(said(&batch));
        }
        (heard, dropped, at.clone())
    };
    next(&mut source, ("two", Op::Read, Some(6))).await;

    // A change that the log still holds, then a table that was rebuilt without triggers.
    db.execute_batch(
        "BEGIN; INSERT INTO one VALUES (3, 'z'); ALTER TABLE one RENAME TO old; CREATE TABLE one (id INTEGER PRIMARY KEY, \
         code TEXT); INSERT INTO one SELECT * FROM old WHERE id <> 1; DROP TABLE old; INSERT INTO two VALUES (7, 'w'); COMMIT",
    )
    .unwrap();
    let (heard, dropped, stand) = next(&mut source, ("two", Op::Insert, Some(7))).await;
    assert_eq!((heard, dropped), (vec![("two".into(), Op::Insert, Some(7))], 1));

    // A restart changes nothing; an installation ends it while the source runs.
    let mut source = sqlite::Source::new(config);
    source.open(&stand).await.unwrap();
    db.execute_batch("INSERT INTO two VALUES (8, 'w')").unwrap();
    next(&mut source, ("two", Op::Insert, Some(8))).await;
    sqlite::install(&path, "office", &tables).unwrap();
    let (heard, _, _) = next(&mut source, ("one", Op::Read, Some(3))).await;
    let one = |op, id| ("one".to_owned(), op, id);
    assert_eq!(heard, [one(Op::Truncate, None), one(Op::Read, Some(2)), one(Op::Read, Some(3))]);
}

#[tokio::test]
async fn a_contract_that_grows_before_its_installation_suspends_its_own_table_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("office.db");
    let db = Connection::open(&path).unwrap();
    db.execute_batch(&format!("PRAGMA journal_mode = WAL; {TABLES}; ALTER TABLE two ADD COLUMN more TEXT"))
        .unwrap();
    let mut tables = vec![captured("one"), captured("two")];
    sqlite::install(&path, "office", &tables).unwrap();
    let grown = r#"{"type":"record","name":"two","sharing":"unconditional","key":["id"],"fields":[
        {"name":"id","type":"long"},{"name":"code","type":["null","string"]},{"name":"more","type":["null","string"]}]}"#;
    tables[1].contract = Contract::parse(grown).unwrap().shared();

    let mut source = sqlite::Source::new(SourceConfig::new(&path, "office", tables));
    source.open(&Checkpoint::default()).await.unwrap();
    db.execute_batch("INSERT INTO one VALUES (1, 'x')").unwrap();
    let batch = source.next().await.unwrap().unwrap();

    let one = |op| ("one".to_owned(), op, Some(1));
    assert_eq!(said(&batch), [one(Op::Insert), one(Op::Read)]);
}
