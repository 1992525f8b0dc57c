//! A look says beforehand what a sink would find, and changes nothing.

use hutong_core::{Contract, Field, Secret, Type};
use hutong_stores::Finding;
use hutong_stores::postgres::sink::probe;

use crate::given::{Store, TABLE, contract_of, people};

/// Asserts which findings are bad, by a part of each.
fn bad(findings: &[Finding], wanted: &[&str]) {
    let found: Vec<&Finding> = findings.iter().filter(|finding| !finding.ok).collect();
    assert_eq!(found.len(), wanted.len(), "{findings:#?}");
    for (finding, wanted) in found.iter().zip(wanted) {
        assert!(finding.what.contains(wanted) && finding.hint.is_some(), "{wanted}: {findings:#?}");
    }
}

#[tokio::test]
async fn a_probe_finds_what_a_sink_would_and_makes_nothing() {
    let store = Store::fresh().await;
    let contract = people();
    let look = async |contract: &Contract| probe(&store.url, TABLE, contract).await;

    bad(&look(&contract).await, &[]);
    let made = "SELECT nspname::text FROM pg_namespace WHERE nspname IN ('hutong', 'share')";
    assert!(store.rows(made).await.is_empty(), "a look makes nothing");
    store.opened(0, &contract).await;
    bad(&look(&contract).await, &[]);

    // A table that Hutong made grows; a column of another type does not hold what is granted.
    let text = |length| Type::Text { length: Some(length) };
    let id = || Field::new("id", Type::Long);
    let wider = contract_of(vec![id(), Field::new("name", text(20)), Field::new("phone", text(11))], vec![0]);
    let findings = look(&wider).await;
    bad(&findings, &[]);
    assert!(findings.iter().any(|f| f.what.contains("has no room for phone")), "{findings:#?}");
    let longer = contract_of(vec![id(), Field::new("age", Type::Long)], vec![0]);
    bad(&look(&longer).await, &[]);
    let other = contract_of(vec![id(), Field::new("age", Type::Date)], vec![0]);
    bad(&look(&other).await, &["column age"]);

    // The department's own table, without a key.
    store.run("DROP TABLE share.people; CREATE TABLE share.people (id bigint, name text, age int)").await;
    bad(&look(&contract).await, &["no primary key"]);
}

#[tokio::test]
async fn a_probe_names_the_missing_rights() {
    let store = Store::fresh().await;
    let name = store.rows("SELECT current_database()::text").await.remove(0);
    store
        .run(&format!(
            "CREATE ROLE {name}_reader LOGIN; REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC; CREATE SCHEMA share"
        ))
        .await;
    let (_, place) = store.url.reveal().rsplit_once('@').unwrap();
    let url = Secret::new(format!("postgres://{name}_reader@{place}"));
    let contract = people();

    let findings = probe(&url, TABLE, &contract).await;
    bad(&findings, &["temporary tables", "the schema hutong is not there", "share.people is not there"]);
    store.opened(0, &contract).await;
    let findings = probe(&url, TABLE, &contract).await;
    bad(
        &findings,
        &["temporary tables", "may not use the schema hutong", "may not read and write share.people"],
    );

    let nobody = Secret::new(format!("postgres://{name}_nobody@{place}"));
    assert!(probe(&nobody, TABLE, &contract).await.iter().any(|finding| !finding.ok));
}
