//! A grant that only names fewer columns empties them where the lane stands; every other one fills the replica anew.

use std::collections::BTreeMap;
use std::sync::Arc;

use hutong_core::grant::Content;
use hutong_core::ledger::receipt::begin;
use hutong_core::{Contract, Grant, Mask, Op, Secret, Sink as _, Value};
use hutong_stores::postgres::sink::{Receipts, Sink, SinkConfig};

use crate::given::{Store, TABLE, Topic, contract_of, lane, people, person};

/// What is granted: columns of `people`, one masked or none, and which rows.
pub(crate) struct Granted {
    pub(crate) columns: &'static [&'static str],
    pub(crate) masked: &'static [&'static str],
    pub(crate) rows: &'static str,
}

pub(crate) const WHOLE: Granted = Granted { columns: &["id", "name", "age"], masked: &[], rows: "" };

impl Granted {
    pub(crate) fn contract(&self) -> Arc<Contract> {
        let fields = people().fields.clone().into_iter().filter(|f| self.columns.contains(&f.name.as_str()));
        contract_of(fields.collect(), vec![0])
    }

    fn content(&self, mark: &str) -> Content {
        let grant = Grant {
            subscription: "s".into(),
            stream: "people".into(),
            columns: self.columns.iter().map(ToString::to_string).collect(),
            rows: Some(self.rows.to_owned()),
            masks: self.masked.iter().map(|name| (name.to_string(), Mask::Year)).collect::<BTreeMap<_, _>>(),
            until: None,
            key: Secret::new("k"),
        };
        grant.content(&self.contract(), "people.v1 2", mark)
    }

    pub(crate) fn sink(&self, store: &Store, mark: &str, number: u64) -> Sink {
        let config = SinkConfig::shared(store.pool.clone(), TABLE, mark).unwrap();
        let (contract, content) = (Some(self.contract()), Some(self.content(mark)));
        Sink::new(SinkConfig { contract, content, number: Some(number), ..config })
    }
}

/// Fills two lanes under one grant, as far as it goes of `people`; returns where they stand.
pub(crate) async fn filled(store: &Store, granted: &Granted) -> u64 {
    let contract = people();
    for partition in 0..2 {
        let mut sink = granted.sink(store, "wide", 4);
        sink.open(&lane(partition)).await.unwrap();
        sink.prepare(&contract).await.unwrap();
        let id = i64::from(partition) * 10;
        let rows = [(Op::Read, person(id + 1, "张三", 30)), (Op::Insert, person(id + 2, "李四", 40))];
        sink.commit(&Topic::new(&contract).batch(rows)).await.unwrap();
    }
    2
}

const OWN: &str =
    "CREATE SCHEMA share; CREATE TABLE share.people (id bigint PRIMARY KEY, name text, age bigint);
    INSERT INTO share.people VALUES (7, 'the department''s own', 70)";

#[tokio::test]
async fn i5_columns_that_are_granted_no_more_are_emptied_where_the_lane_stands_and_leave_a_receipt() {
    for own in ["", OWN] {
        let store = Store::fresh().await;
        store.run(own).await;
        let at = filled(&store, &WHOLE).await;
        let narrow = Granted { columns: &["id", "name"], ..WHOLE };
        let mut sink = narrow.sink(&store, "narrow", 7);
        let here = sink.open(&lane(0)).await.unwrap();
        assert_eq!(here.position("0").as_offset(), Some(at), "it goes on where it stands");
        let mut people = vec!["1|张三|∅", "2|李四|∅", "11|张三|30", "12|李四|40"];
        if !own.is_empty() {
            people.insert(2, "7|the department's own|70");
        }
        assert_eq!(store.people().await, people, "of its own rows alone");
        // Whoever was killed behind it finds nothing left to do (I7).
        drop(sink);
        let mut sink = narrow.sink(&store, "narrow", 7);
        assert_eq!(sink.open(&lane(0)).await.unwrap(), here);
        // The next change finds its row, and writes no more than is granted.
        let contract = narrow.contract();
        sink.prepare(&contract).await.unwrap();
        let change = (Op::Update, vec![Value::Integer(1), Value::text("王五")]);
        sink.commit(&Topic::from(&contract, at).batch([change])).await.unwrap();
        people[0] = "1|王五|∅";
        assert_eq!(store.people().await, people);

        let name = lane(0).to_string();
        let kept = Receipts::new(store.url.clone()).since(&name, 0, 9).await.unwrap();
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
async fn i5_under_any_other_grant_the_lane_starts_anew() {
    let masked = Granted { masked: &["age"], ..WHOLE };
    let rows: [(&Granted, Granted); 3] = [
        (&WHOLE, Granted { columns: &["id", "name"], rows: "id > 1", masked: &[] }),
        (&WHOLE, Granted { columns: &["id", "age"], masked: &["age"], ..WHOLE }),
        (&masked, Granted { columns: &["id", "age"], ..WHOLE }),
    ];
    for (case, (before, after)) in rows.into_iter().enumerate() {
        let store = Store::fresh().await;
        filled(&store, before).await;
        assert!(after.sink(&store, "other", 7).open(&lane(0)).await.unwrap().is_empty(), "{case}");
        assert_eq!(store.people().await.len(), 2, "{case}: the rows of the other lane");
    }
}

#[tokio::test]
async fn i5_what_cannot_be_emptied_is_removed_and_filled_anew() {
    let narrow = Granted { columns: &["id", "name"], ..WHOLE };
    let waits = "INSERT INTO hutong.hutong_quarantine (lane, stream, rule, reason, position, change)
                 VALUES ('replicate.renshe_people.0', 'people', 'refused', 'why', '0', '{}')";
    let cases = [
        ("", waits),
        ("", "ALTER TABLE share.people ALTER COLUMN age SET DEFAULT 0, ALTER COLUMN age SET NOT NULL"),
        ("", "ALTER TABLE share.people ADD CONSTRAINT known CHECK (age IS NOT NULL)"),
        (
            OWN,
            "CREATE FUNCTION wants() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 IF NEW.age IS NULL THEN RAISE 'an age is wanted' USING ERRCODE = 'check_violation'; END IF;
                 RETURN NULL; END $$;
             CREATE CONSTRAINT TRIGGER wants AFTER UPDATE ON share.people DEFERRABLE INITIALLY DEFERRED
                 FOR EACH ROW EXECUTE FUNCTION wants()",
        ),
        (
            OWN,
            "CREATE FUNCTION keeps() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN NEW.age = OLD.age; RETURN NEW; END $$;
             CREATE TRIGGER keeps BEFORE UPDATE ON share.people FOR EACH ROW EXECUTE FUNCTION keeps()",
        ),
    ];
    for (case, (own, then)) in cases.into_iter().enumerate() {
        let store = Store::fresh().await;
        store.run(own).await;
        filled(&store, &WHOLE).await;
        store.run(then).await;
        assert!(narrow.sink(&store, "narrow", 7).open(&lane(0)).await.unwrap().is_empty(), "{case}");
        let left = store.people().await;
        assert!(!left.iter().any(|row| row.starts_with("1|") || row.starts_with("2|")), "{case}: {left:?}");
        assert_eq!(store.quarantine().await, Vec::<String>::new(), "{case}");
    }
}
