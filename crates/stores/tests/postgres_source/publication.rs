//! A publication that a person makes: what the probe says of it, and that a capture needs no more.

use hutong_core::Secret;
use hutong_stores::{Finding, postgres};
use hutong_testkit::launch::Postgres;

use crate::capture::{Capture, people, person};

/// Returns what is wrong with the publication, and what to do about it.
async fn wrong(c: &Capture) -> Option<(String, String)> {
    let findings = postgres::probe(&c.config).await;
    let bad = |f: Finding| (!f.ok && f.what.contains("publication")).then(|| (f.what, f.hint.unwrap()));
    findings.into_iter().find_map(bad)
}

#[tokio::test]
async fn a_role_that_owns_nothing_captures_with_a_publication_that_a_person_makes() {
    let server = Postgres::builder().start().await.unwrap();
    let sql = "CREATE TABLE people (id int PRIMARY KEY, name text) PARTITION BY RANGE (id); \
               CREATE TABLE people_1 PARTITION OF people FOR VALUES FROM (0) TO (1000); \
               CREATE TABLE other (id int PRIMARY KEY); \
               CREATE ROLE guest LOGIN REPLICATION; GRANT SELECT ON people TO guest";
    let mut c = Capture::at(&server.url(), "hand", sql, &[("people", people("people"))]).await;
    let url = server.url().replacen("://postgres", "://guest", 1);
    assert_ne!(url, server.url());
    c.config.url = Secret::new(url);

    // The hint is a statement that can be run as it stands.
    let (what, hint) = wrong(&c).await.unwrap();
    assert!(what.contains("may not create the publication hutong_hand"), "{what}");
    c.sql(&hint[hint.find("CREATE PUBLICATION").unwrap()..]).await;
    assert_eq!(wrong(&c).await, None);

    let rows = [
        ("SET (publish_via_partition_root = false)", "does not publish every change"),
        ("SET (publish = 'insert')", "does not publish every change"),
        ("ADD TABLE other", "holds public.other, which is not captured"),
        ("SET TABLE other", "lacks public.people"),
    ];
    for (change, says) in rows {
        c.sql(&format!("ALTER PUBLICATION hutong_hand {change}")).await;
        let (what, hint) = wrong(&c).await.unwrap();
        assert!(what.contains(says) && what.ends_with("the role does not own it"), "{what}");
        c.sql(&hint[hint.find("ALTER PUBLICATION").unwrap()..]).await;
        assert_eq!(wrong(&c).await, None, "after {hint}");
    }

    c.open_new().await;
    c.sql("INSERT INTO people VALUES (1, '甲'); UPDATE people SET name = '乙'").await;
    c.catch_up().await;
    assert_eq!(c.rows("people"), [person(1, "乙")]);

    c.sql("DROP PUBLICATION hutong_hand; CREATE PUBLICATION hutong_hand FOR ALL TABLES").await;
    assert!(wrong(&c).await.unwrap().0.contains("FOR ALL TABLES"));
}
