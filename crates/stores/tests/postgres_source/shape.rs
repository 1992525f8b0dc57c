//! What a table and its contract were like is noted: a wider column costs nothing, a looser contract brings rows back.

use std::sync::Arc;

use hutong_core::contract::Check;
use hutong_core::{Contract, Field, Source as _, Type};

use crate::capture::{Capture, contract};

const NOTE: &str = "snapshot.public.goods";
const GOODS: &str = "CREATE TABLE goods (id int PRIMARY KEY, name varchar(4), price numeric(5,2)); \
                     INSERT INTO goods VALUES (1, 'a', 1.50)";
const WIDER: &str = "ALTER TABLE goods ALTER name TYPE varchar(9), ALTER price TYPE numeric(9,2)";

fn goods(name: Option<u32>) -> Arc<Contract> {
    let fields = vec![
        Field::new("id", Type::Int),
        Field::new("name", Type::Text { length: name }),
        Field::new("price", Type::Numeric),
    ];
    contract("goods", 1, fields)
}

async fn opened(sql: &str, contract: Arc<Contract>) -> Capture {
    let mut c = Capture::new(sql, &[("goods", contract)]).await;
    c.open().await;
    c.snapshot_done().await;
    c.catch_up().await;
    c.clear();
    c
}

async fn another(c: &mut Capture, id: i32) {
    c.sql(&format!("INSERT INTO goods (id, name) VALUES ({id}, 'longer')")).await;
    c.catch_up().await;
}

#[tokio::test]
async fn a_column_that_is_only_wider_is_not_read_anew() {
    for stopped in [true, false] {
        for wider in [WIDER, "ALTER TABLE goods ALTER name TYPE text, ALTER price TYPE numeric"] {
            let mut c = opened(GOODS, goods(None)).await;
            if stopped {
                c.source.close().await.unwrap();
                // What the stream still has to tell is of the narrower column.
                c.sql("INSERT INTO goods VALUES (2, 'b', 2.50)").await;
            }
            c.sql(wider).await;
            if stopped {
                c.open_new().await;
            }
            another(&mut c, 3).await;
            let letters = if stopped { "cc" } else { "c" };
            assert_eq!(c.letters(), letters, "{wider}, stopped: {stopped}");

            // The stream has told it, so that whatever writes the rows anew now does not count.
            c.source.close().await.unwrap();
            c.sql("VACUUM FULL goods").await;
            c.clear();
            c.open_new().await;
            another(&mut c, 4).await;
            assert_eq!(c.letters(), "c", "{wider}, stopped: {stopped}");
            c.end().await;
        }
    }
}

#[tokio::test]
async fn i3_a_column_whose_values_were_written_anew_is_read_anew_though_it_is_wider() {
    for stopped in [true, false] {
        let mut c = opened(GOODS, goods(None)).await;
        if stopped {
            c.source.close().await.unwrap();
        }
        c.sql("ALTER TABLE goods ALTER name TYPE varchar(9) USING upper(name)").await;
        if stopped {
            c.open_new().await;
        }
        c.sql("INSERT INTO goods VALUES (3, 'longer', 3)").await;
        c.until("read anew", |c| c.letters().contains('t')).await;
        c.snapshot_done().await;
        let names: Vec<_> = c.rows("goods").iter().map(|row| row[1].as_text().unwrap().to_owned()).collect();
        assert_eq!(names, ["A", "longer"], "stopped: {stopped}");
        c.end().await;
    }
}

#[tokio::test]
async fn i3_a_loosened_contract_brings_back_what_was_set_aside() {
    // The column had no more room than the contract, and then it got more.
    let mut c = opened(GOODS, goods(Some(4))).await;
    c.sql(WIDER).await;
    another(&mut c, 2).await;
    assert_eq!((c.rejected().len(), c.rows("goods").len()), (1, 1));
    c.source.close().await.unwrap();

    c.config.tables[0].contract = goods(Some(9));
    c.open_new().await;
    c.snapshot_done().await;

    assert_eq!((c.letters().contains('t'), c.rows("goods").len()), (true, 2));
    // And once only.
    c.clear();
    c.crash().await;
    another(&mut c, 3).await;
    assert_eq!(c.letters(), "c");
}

#[tokio::test]
async fn i3_what_a_contract_asks_is_compared_with_what_it_asked() {
    let base = || (*goods(None)).clone();
    let with = |change: fn(&mut Field)| {
        let mut contract = base();
        change(&mut contract.fields[1]);
        contract
    };
    let required = with(|f| f.nullable = false);
    let coded = with(|f| f.checks = vec![Check::Codes { allowed: vec!["a".into()] }]);
    let recoded = with(|f| f.checks = vec![Check::Codes { allowed: vec!["a".into(), "b".into()] }]);
    let described = with(|f| f.doc = "What it is called.".into());
    let labels = |labels: &[&str]| {
        let mut contract = base();
        let allowed = labels.iter().map(|label| (*label).to_owned()).collect();
        contract.fields[1].ty = Type::Enum { allowed };
        contract
    };
    for (before, after, anew) in [
        (required.clone(), base(), true),
        (coded.clone(), base(), true),
        (coded.clone(), recoded, true),
        (labels(&["a"]), labels(&["a", "b"]), true),
        // What is asked more holds from the next row on.
        (base(), required, false),
        (base(), coded, false),
        (base(), described, false),
    ] {
        let mut c = opened(GOODS, before.clone().shared()).await;
        let noted = c.checkpoint.notes[NOTE].clone();
        let says = format!("{:?} {:?}", before.fields[1], after.fields[1]);
        c.source.close().await.unwrap();
        c.config.tables[0].contract = after.shared();
        c.open_new().await;
        c.sql("INSERT INTO goods VALUES (2, 'a', 1)").await;
        c.until("the next row", |c| c.rows("goods").len() == 2).await;
        c.snapshot_done().await;
        assert_eq!(c.letters().contains('t'), anew, "{says}");

        if anew {
            // A note from before rules says nothing of them.
            let mut old: serde_json::Value = serde_json::from_str(&noted).unwrap();
            old["shape"].as_object_mut().unwrap().remove("rules").unwrap();
            c.checkpoint.notes.insert(NOTE.into(), old.to_string());
            c.clear();
            c.crash().await;
            c.sql("INSERT INTO goods VALUES (5, 'a', 1)").await;
            c.catch_up().await;
            assert_eq!(c.letters(), "c", "{says}");
        }
        c.end().await;
    }
}
