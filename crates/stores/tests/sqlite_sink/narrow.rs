//! A grant that lets less through narrows the replica where the lane stands; every other one fills it anew.

use std::collections::BTreeMap;
use std::sync::Arc;

use hutong_core::grant::Content;
use hutong_core::ledger::receipt::begin;
use hutong_core::{Contract, Grant, Mask, Op, Permit, Secret, Sink as _, Value};
use hutong_stores::sqlite::{self, SinkConfig, receipts};

use super::{Lane, Office, lane, row, stands};

pub(crate) const WHOLE: &[&str] = &["id", "code", "note"];
pub(crate) const NARROW: &[&str] = &["id", "code"];

pub(crate) fn contract(office: &Office, columns: &[&str]) -> Arc<Contract> {
    let mut contract = Contract::clone(&office.contract);
    contract.fields.retain(|field| columns.contains(&field.name.as_str()));
    contract.shared()
}

pub(crate) fn content(office: &Office, columns: &[&str], masked: &[&str], mark: &str) -> Content {
    filtered(office, columns, masked, None, mark)
}

fn filtered(office: &Office, columns: &[&str], masked: &[&str], rows: Option<&str>, mark: &str) -> Content {
    let grant = Grant {
        subscription: "s".into(),
        stream: "people".into(),
        columns: columns.iter().map(ToString::to_string).collect(),
        rows: rows.map(str::to_owned),
        masks: masked.iter().map(|name| (name.to_string(), Mask::Name)).collect::<BTreeMap<_, _>>(),
        until: None,
        key: Secret::new("k"),
    };
    let permit = Permit::new(Arc::clone(&office.contract), &grant).unwrap();
    grant.content(permit, "people.v1 2", mark)
}

pub(crate) fn sink(
    office: &Office,
    partition: u32,
    content: Content,
    columns: &[&str],
    mark: &str,
) -> sqlite::Sink {
    sqlite::Sink::new(SinkConfig {
        contract: Some(contract(office, columns)),
        content: Some(content),
        number: Some(if mark == "wide" { 4 } else { 7 }),
        ..office.config(partition, mark)
    })
}

/// Fills two lanes under a grant of every column.
pub(crate) async fn filled(office: &Office, masked: &[&str]) {
    for partition in 0..2 {
        let wide = content(office, WHOLE, masked, "wide");
        let mut sink = sink(office, partition, wide, WHOLE, "wide");
        sink.open(&lane(partition)).await.unwrap();
        sink.prepare(&office.contract).await.unwrap();
        let id = i64::from(partition) * 10;
        let rows = [(Op::Read, row(id + 1, "a", Some("x"))), (Op::Insert, row(id + 2, "b", Some("y")))];
        Lane { office, sink, at: 0 }.commit(&rows).await.unwrap();
    }
}

const OWN: &str = "CREATE TABLE people (id INTEGER PRIMARY KEY, code TEXT, 备注 TEXT);
    INSERT INTO people VALUES (7, 'own', 'of the department')";

#[tokio::test]
async fn i5_columns_that_are_granted_no_more_are_emptied_where_the_lane_stands_and_leave_a_receipt() {
    for own in ["", OWN] {
        let office = Office::new(own);
        filled(&office, &[]).await;
        let narrow = || sink(&office, 0, content(&office, NARROW, &[], "narrow"), NARROW, "narrow");
        let here = narrow().open(&lane(0)).await.unwrap();
        assert_eq!(here.position("p").as_offset(), Some(2), "it goes on where it stands");
        let mut rows = vec![
            stands(1, "a", None),
            stands(2, "b", None),
            stands(11, "a", Some("x")),
            stands(12, "b", Some("y")),
        ];
        if !own.is_empty() {
            rows.insert(2, stands(7, "own", Some("of the department")));
        }
        assert_eq!(office.rows(), rows, "of its own rows alone");
        // Whoever was killed behind it finds nothing left to do (I7).
        let mut again = narrow();
        assert_eq!(again.open(&lane(0)).await.unwrap(), here);
        // The next change finds its row, and writes no more than is granted.
        again.prepare(&contract(&office, NARROW)).await.unwrap();
        let mut change = office.change(Op::Update, vec![Value::Integer(1), Value::text("z")], 2);
        change.contract = contract(&office, NARROW);
        let mut batch =
            Lane { office: &office, sink: narrow(), at: 2 }.batch(&[(Op::Delete, row(9, "", None))]);
        batch.changes = vec![change];
        again.commit(&batch).await.unwrap();
        rows[0] = stands(1, "z", None);
        assert_eq!(office.rows(), rows);

        let name = lane(0).to_string();
        let kept = receipts::since(&office.path(), &name, 0, 9).unwrap();
        let told: Vec<_> =
            kept.iter().map(|k| (k.proof.grant, k.proof.is_of_narrowing(), k.written, k.deleted)).collect();
        assert_eq!(told, [(4, false, 2, 0), (7, true, 2, 0), (7, false, 1, 0)]);
        let mut last = begin(&name);
        for kept in &kept {
            assert!(kept.proof.follows(&name, &last), "{kept:?}");
            last = kept.proof.head();
        }
    }
}

#[tokio::test]
async fn i5_rows_and_values_that_are_granted_no_more_go_where_the_lane_stands_and_leave_a_receipt() {
    for own in ["", OWN] {
        let office = Office::new(own);
        filled(&office, &[]).await;
        office.run("UPDATE people SET code = '欧阳明' WHERE id = 2");
        if own.is_empty() {
            // More than are looked at at a time.
            office.run(
                "WITH RECURSIVE n(n) AS (SELECT 100 UNION ALL SELECT n + 1 FROM n WHERE n < 5099)
                 INSERT INTO people SELECT n, iif(n % 2, NULL, '王五'), iif(n % 10 > 5, 'y', 'x'),
                 'replicate.office.0', 1 FROM n",
            );
        }
        let less = || filtered(&office, NARROW, &["code"], Some("note <> 'x'"), "less");
        let mut sink = sink(&office, 0, less(), NARROW, "less");
        assert_eq!(sink.open(&lane(0)).await.unwrap().position("p").as_offset(), Some(2));
        let mut rows = vec![stands(2, "欧阳*", None), stands(11, "a", Some("x")), stands(12, "b", Some("y"))];
        if !own.is_empty() {
            rows.insert(1, stands(7, "own", Some("of the department")));
        }
        let found = office.db();
        let few = |sql: &str| found.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap();
        let many = few(
            "SELECT count(*) || '|' || count(code) || '|' || coalesce(min(code) || max(code), '') || '|' || count(备注)
             FROM people WHERE id >= 100",
        );
        assert_eq!(many, if own.is_empty() { "2000|1000|王*王*|0" } else { "0|0||0" });
        office.run("DELETE FROM people WHERE id >= 100");
        assert_eq!(office.rows(), rows, "of its own rows alone");
        let noted = "SELECT count(*) || '' FROM hutong_row WHERE lane = 'replicate.office.0'";
        assert_eq!(few(noted), if own.is_empty() { "0" } else { "1" });
        let kept = receipts::since(&office.path(), &lane(0).to_string(), 0, 9).unwrap();
        let counts = if own.is_empty() { (2_001, 3_001) } else { (1, 1) };
        assert!(kept[1].proof.is_of_narrowing());
        assert_eq!((kept[1].written, kept[1].deleted), counts);
    }
}

#[tokio::test]
async fn i5_under_any_other_grant_the_lane_starts_anew() {
    // What was masked before, what is granted and masked now, and which rows.
    type Now = (&'static [&'static str], &'static [&'static str], Option<&'static str>);
    let rows: [(&[&str], Now); 3] = [
        (&["code"], (NARROW, &[], None)),
        (&["code"], (WHOLE, &["code"], Some("code = 'a'"))),
        (&["note"], (WHOLE, &[], None)),
    ];
    for (case, (masked, (columns, now, rows))) in rows.into_iter().enumerate() {
        let office = Office::new("");
        filled(&office, masked).await;
        let other = filtered(&office, columns, now, rows, "other");
        let here = sink(&office, 0, other, columns, "other").open(&lane(0)).await.unwrap();
        assert!(here.is_empty(), "{case}");
        assert_eq!(office.rows().len(), 2, "{case}: the rows of the other lane");
    }
}

#[tokio::test]
async fn i5_what_cannot_be_emptied_is_removed_and_filled_anew() {
    let strict = "CREATE TABLE people (id INTEGER PRIMARY KEY, code TEXT, 备注 TEXT DEFAULT '' NOT NULL)";
    let skips = "CREATE TRIGGER keeps BEFORE UPDATE ON people BEGIN SELECT raise(IGNORE); END";
    let waits = "INSERT INTO hutong_quarantine (lane, stream, rule, reason, position, change, first_seen_us)
                 VALUES ('replicate.office.0', 'people', 'refused', 'why', '0', '{}', 0)";
    for (setup, then) in [("", waits), (strict, ""), ("", skips), (OWN, skips)] {
        let office = Office::new(setup);
        filled(&office, &[]).await;
        office.run(then);
        let narrow = filtered(&office, NARROW, &["code"], Some("id <> 1"), "narrow");
        let here = sink(&office, 0, narrow, NARROW, "narrow").open(&lane(0)).await.unwrap();
        assert!(here.is_empty(), "{setup} {then}");
        let left: Vec<i64> = office.rows().into_iter().map(|row| row.0).filter(|id| *id != 7).collect();
        assert_eq!(left, [11, 12], "{setup} {then}");
        assert!(office.items().is_empty(), "{setup} {then}");
    }
}
