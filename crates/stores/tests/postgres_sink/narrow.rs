//! A grant that lets less through narrows the replica where the lane stands; every other one fills it anew.

use std::collections::BTreeMap;
use std::sync::Arc;

use hutong_core::grant::Content;
use hutong_core::ledger::receipt::begin;
use hutong_core::{Contract, Grant, Mask, Op, Permit, Secret, Sink as _, Value};
use hutong_stores::postgres::sink::{Receipts, Sink, SinkConfig};

use crate::given::{Store, TABLE, Topic, contract_of, lane, people, person};

/// What is granted: columns of `people`, one masked or none, and which rows.
pub(crate) struct Granted {
    pub(crate) columns: &'static [&'static str],
    pub(crate) masked: &'static [(&'static str, Mask)],
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
            rows: Some(self.rows.to_owned()).filter(|rows| !rows.is_empty()),
            masks: self
                .masked
                .iter()
                .map(|(name, mask)| (name.to_string(), *mask))
                .collect::<BTreeMap<_, _>>(),
            until: None,
            key: Secret::new("k"),
        };
        let permit = Permit::new(people(), &grant).unwrap();
        grant.content(permit, "people.v1 2", mark)
    }

    pub(crate) fn sink(&self, store: &Store, mark: &str, number: u64) -> Sink {
        let config = SinkConfig::shared(store.pool.clone(), TABLE, mark).unwrap();
        let (contract, content) = (Some(self.contract()), Some(self.content(mark)));
        Sink::new(SinkConfig { contract, content, number: Some(number), ..config })
    }
}

/// Fills two lanes under one grant, of the first columns of `people`; returns where they stand.
pub(crate) async fn filled(store: &Store, granted: &Granted) -> u64 {
    let contract = granted.contract();
    for partition in 0..2 {
        let mut sink = granted.sink(store, "wide", 4);
        sink.open(&lane(partition)).await.unwrap();
        sink.prepare(&contract).await.unwrap();
        let id = i64::from(partition) * 10;
        let (mut one, mut two) = (person(id + 1, "张三", 30), person(id + 2, "李四", 40));
        one.truncate(contract.fields.len());
        two.truncate(contract.fields.len());
        let rows = [(Op::Read, one), (Op::Insert, two)];
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
async fn i5_rows_and_values_that_are_granted_no_more_go_where_the_lane_stands_and_leave_a_receipt() {
    let less =
        Granted { columns: &["id", "name"], masked: &[("name", Mask::Name)], rows: "id < 9000 AND age > 35" };
    for own in ["", OWN] {
        let store = Store::fresh().await;
        store.run(own).await;
        let at = filled(&store, &Granted { rows: "id < 9000", ..WHOLE }).await;
        if own.is_empty() {
            // More than are looked at at a time.
            store
                .run(
                    "INSERT INTO share.people SELECT n, NULLIF('王五', repeat('王五', (n % 2)::int)), 30 + n % 10,
                     'replicate.renshe_people.0', 1 FROM generate_series(100, 5099) n",
                )
                .await;
        }
        let mut sink = less.sink(&store, "less", 7);
        assert_eq!(sink.open(&lane(0)).await.unwrap().position("0").as_offset(), Some(at));
        let few = "SELECT concat_ws('|', id, coalesce(name, '∅'), coalesce(age::text, '∅')) FROM share.people
                   WHERE id < 100 ORDER BY id";
        let mut expected = vec!["2|李*|∅", "11|张三|30", "12|李四|40"];
        if !own.is_empty() {
            expected.insert(1, "7|the department's own|70");
        }
        assert_eq!(store.rows(few).await, expected, "of its own rows alone");
        let many =
            "SELECT concat_ws('|', count(*), count(name), min(name), max(name), count(age)) FROM share.people
                    WHERE id >= 100";
        let expected = if own.is_empty() { "2000|1000|王*|王*|0" } else { "0|0|0" };
        assert_eq!(store.rows(many).await, [expected]);
        // The next change finds its row, and one that is not there any more.
        let contract = less.contract();
        sink.prepare(&contract).await.unwrap();
        let update = (Op::Update, vec![Value::Integer(2), Value::text("赵*")]);
        let insert = (Op::Insert, vec![Value::Integer(1), Value::text("张*")]);
        sink.commit(&Topic::from(&contract, at).batch([update, insert])).await.unwrap();
        assert_eq!(store.rows(few).await[..2], ["1|张*|∅", "2|赵*|∅"]);
        let kept = Receipts::new(store.url.clone()).since(&lane(0).to_string(), 0, 9).await.unwrap();
        let counts = if own.is_empty() { (2_001, 3_001) } else { (1, 1) };
        assert!(kept[1].proof.is_of_narrowing());
        assert_eq!((kept[1].written, kept[1].deleted), counts);
    }
}

#[tokio::test]
async fn i5_under_any_other_grant_the_lane_starts_anew() {
    let masked = Granted { masked: &[("name", Mask::Name)], ..WHOLE };
    let fewer = Granted { columns: &["id", "name"], ..WHOLE };
    let rows: [(&Granted, Granted); 5] = [
        (&Granted { rows: "id > 0", ..WHOLE }, Granted { rows: "id < 9000", ..WHOLE }),
        // A band is a text, and the column one of numbers.
        (&WHOLE, Granted { masked: &[("age", Mask::Amount)], ..WHOLE }),
        (&masked, Granted { masked: &[("name", Mask::Pseudonym)], ..WHOLE }),
        (&masked, Granted { columns: &["id", "name"], ..WHOLE }),
        // The replica does not have what decides.
        (&fewer, Granted { columns: &["id", "name"], rows: "age > 35", masked: &[] }),
    ];
    for (case, (before, after)) in rows.into_iter().enumerate() {
        let store = Store::fresh().await;
        filled(&store, before).await;
        assert!(after.sink(&store, "other", 7).open(&lane(0)).await.unwrap().is_empty(), "{case}");
        let left = store.rows("SELECT id::text FROM share.people ORDER BY id").await;
        assert_eq!(left, ["11", "12"], "{case}: the rows of the other lane");
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
    let less = Granted { columns: &["id", "name"], masked: &[("name", Mask::Name)], rows: "age > 35" };
    let cases = cases.into_iter().map(|(own, then)| (&narrow, own, then));
    let keeps = "CREATE FUNCTION keeps() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN NEW.name = OLD.name; RETURN NEW; END $$;
                 CREATE TRIGGER keeps BEFORE UPDATE ON share.people FOR EACH ROW EXECUTE FUNCTION keeps()";
    for (case, (granted, own, then)) in cases.chain([(&less, OWN, keeps), (&less, "", keeps)]).enumerate() {
        let store = Store::fresh().await;
        store.run(own).await;
        filled(&store, &WHOLE).await;
        store.run(then).await;
        assert!(granted.sink(&store, "narrow", 7).open(&lane(0)).await.unwrap().is_empty(), "{case}");
        let left = store.people().await;
        assert!(!left.iter().any(|row| row.starts_with("1|") || row.starts_with("2|")), "{case}: {left:?}");
        assert_eq!(store.quarantine().await, Vec::<String>::new(), "{case}");
    }
}
