//! Contracts drafted from SQLite tables, and compared with them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use hutong_core::{Contract, Type};
use hutong_stores::{Finding, sqlite};
use rusqlite::Connection;

fn office(sql: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("office.db");
    Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    (folder, path)
}

#[test]
fn a_draft_reads_as_a_contract_and_fits_its_table() {
    let (_folder, path) = office(
        "CREATE TABLE people (id VARCHAR(18) NOT NULL PRIMARY KEY, 姓名 TEXT NOT NULL, n INT2, born DATE, \
         paid DECIMAL TEXT(12, 2), seen TIMESTAMPTZ, photo BLOB, hutong_lane TEXT, hutong_offset)",
    );
    let contract = sqlite::draft(&path, "people").unwrap();
    assert_eq!(Contract::parse(&contract.to_avsc()).unwrap(), contract);
    let types: Vec<(String, Type)> = contract.fields.iter().map(|f| (f.name.clone(), f.ty.clone())).collect();
    assert_eq!(
        types,
        [
            ("id".into(), Type::Text { length: Some(18) }),
            ("field_2".into(), Type::Text { length: None }),
            ("n".into(), Type::Int16),
            ("born".into(), Type::Date),
            ("paid".into(), Type::Decimal { precision: 12, scale: 2 }),
            ("seen".into(), Type::TimestampTz),
            ("photo".into(), Type::Bytes),
        ]
    );
    assert_eq!(contract.fields[1].column(), "姓名");
    assert!(!contract.fields[1].nullable && contract.fields[2].nullable);
    let findings = sqlite::compare(&path, "people", &contract).unwrap();
    assert!(findings.iter().all(|f| f.ok), "{findings:?}");
}

#[test]
fn a_table_without_a_key_is_not_drafted() {
    let (_folder, path) = office("CREATE TABLE people (id TEXT UNIQUE)");
    assert!(sqlite::draft(&path, "people").unwrap_err().to_string().contains("no unique key"));
    assert!(sqlite::draft(&path, "nobody").unwrap_err().to_string().contains("no such table"));
}

#[test]
fn compare_says_what_differs() {
    let (_folder, path) = office(
        "CREATE TABLE people (id BIGINT PRIMARY KEY, paid DECIMAL(12,2), born DATE, extra TEXT); \
         INSERT INTO people VALUES (1, '1.5', 'yesterday', 'x')",
    );
    let contract = Contract::parse(
        r#"{"type":"record","name":"people","sharing":"unconditional","key":["id"],"fields":[{"name":"id","type":"long"},
        {"name":"paid","type":["null",{"type":"bytes","logicalType":"decimal","precision":12,"scale":2}]},
        {"name":"born","type":["null",{"type":"int","logicalType":"date"}]}]}"#,
    )
    .unwrap();
    let findings = sqlite::compare(&path, "people", &contract).unwrap();
    let says = |ok: bool, text: &str| {
        let found = |f: &Finding| f.ok == ok && f.what.contains(text);
        assert!(findings.iter().any(found), "{text}: {findings:?}");
    };
    says(true, "has the contract's columns");
    says(true, "column extra of table people is in no contract and stays");
    says(false, "column paid is declared DECIMAL(12,2)");
    says(
        false,
        "column born of table people: the contract says date, the table holds a TEXT that is not YYYY-MM-DD",
    );
    assert!(!sqlite::compare(&path, "nobody", &contract).unwrap()[0].ok);
}
