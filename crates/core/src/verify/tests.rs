//! What a digest tells apart, what a comparison finds, and what two rounds do not name.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::contract::{Contract, Field, Sharing, Type};
use crate::value::Value;

fn contract(fields: Vec<Field>) -> Contract {
    Contract {
        stream: "s".into(),
        doc: String::new(),
        sharing: Sharing::Unconditional,
        fields,
        key: vec![0],
        catalogue: Default::default(),
    }
}

fn two() -> Contract {
    contract(vec![Field::new("id", Type::Long), Field::new("v", Type::Text { length: None })])
}

fn row(id: i64, text: &str) -> Vec<Value> {
    vec![Value::Integer(id), Value::text(text.to_owned())]
}

fn told(ask: &Ask, rows: &BTreeMap<i64, String>) -> Answer {
    let (contract, mut tally) = (two(), Tally::new(ask.clone(), Vec::new()));
    for (id, text) in rows {
        tally.add(&contract, &row(*id, text), || None);
    }
    tally.answer()
}

/// Compares as a person would ask for it: ranges, the rows of those that differ, then the keys.
fn compared(source: &BTreeMap<i64, String>, replica: &BTreeMap<i64, String>) -> BTreeMap<KeyDigest, Look> {
    let (there, here) = (told(&Ask::Ranges, source), told(&Ask::Ranges, replica));
    let ranges = Ask::Within(differing(&there.sums, &here.sums).into_keys().collect());
    let (there, here) = (told(&ranges, source), told(&ranges, replica));
    let keys = differing_keys(&there.digests, &here.digests);
    let asked = Ask::Keys(keys.clone());
    let (there, here) = (told(&asked, source), told(&asked, replica));
    keys.into_iter().map(|key| (key, seen(&there, &here, key, false))).collect()
}

fn key(id: i64) -> KeyDigest {
    KeyDigest::of(&two(), &row(id, "")).unwrap()
}

#[test]
fn i6_values_that_are_one_have_one_digest_and_others_have_others() {
    let decimal = |text: &str| Value::Decimal(text.parse().unwrap());
    let text = |text: &str| Value::text(text.to_owned());
    let list = |items: Vec<Value>| Value::Array(items);
    let texts = Type::Array(Box::new(Type::Text { length: None }));
    let same = [
        (Type::Numeric, decimal("1.0"), decimal("1.00")),
        (Type::Numeric, decimal("1e2"), decimal("100")),
        (Type::Double, Value::Double(f64::NAN), Value::Double(-f64::NAN)),
        (
            Type::Uuid,
            text("F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6"),
            text("f81d4fae-7dec-11d0-a765-00a0c91e6bf6"),
        ),
        (Type::Interval, text("P1Y2M3DT4H5M6.789012S"), text("P14M3DT245M6.789012S")),
        (Type::Interval, text("P-1DT-1M-0.000001S"), text("P-1DT-60.000001S")),
        (Type::Interval, text("P2W"), text("P14D")),
    ];
    let differ = [
        (Type::Numeric, decimal("1.0"), decimal("1.01")),
        (Type::Double, Value::Double(0.0), Value::Double(-0.0)),
        (Type::Text { length: None }, text(""), Value::Null),
        (Type::Text { length: None }, text("a "), text("a")),
        (Type::Json, text("{}"), text("{ }")),
        (Type::Interval, text("P1M"), text("P30D")),
        (Type::Interval, text("PT-0.5S"), text("PT0.5S")),
        (Type::Boolean, Value::Boolean(false), Value::Null),
        (texts.clone(), list(vec![text("a"), text("b")]), list(vec![text("ab"), text("")])),
        (texts.clone(), list(vec![Value::Null]), list(vec![text("")])),
        (texts, list(Vec::new()), list(vec![Value::Null])),
        (Type::Timestamp, Value::Timestamp(1), Value::Timestamp(2)),
    ];
    for (ty, a, b) in same {
        assert_eq!(field_digest(key(1), &ty, &a), field_digest(key(1), &ty, &b), "{a:?} {b:?}");
    }
    for (ty, a, b) in differ {
        assert_ne!(field_digest(key(1), &ty, &a), field_digest(key(1), &ty, &b), "{a:?} {b:?}");
    }
}

#[test]
fn one_value_in_two_rows_has_two_digests() {
    let digest = |id| field_digest(key(id), &Type::Text { length: None }, &Value::text("张三"));
    assert_ne!(digest(1), digest(2));
}

#[test]
fn i4_keys_that_a_database_takes_as_one_are_one() {
    let double = contract(vec![Field::new("id", Type::Double)]);
    let of = |n: f64| KeyDigest::of(&double, &[Value::Double(n)]);
    assert_eq!(of(0.0), of(-0.0));
    assert_eq!(KeyDigest::of(&double, &[Value::Null]), None);
    assert_eq!(KeyDigest::of(&double, &[Value::Unknown]), None);
}

#[test]
fn a_row_that_stands_twice_does_not_leave_a_range_as_it_was() {
    let (contract, mut tally) = (two(), Tally::new(Ask::Ranges, Vec::new()));
    tally.add(&contract, &row(1, "a"), || None);
    tally.add(&contract, &row(1, "a"), || None);
    let twice = tally.answer().sums;
    assert_eq!(differing(&twice, &Sums::new()).into_values().sum::<u64>(), 2);
}

#[test]
fn a_column_that_is_not_compared_differs_in_nothing() {
    let contract = two();
    let sums = |text: &str| {
        let mut tally = Tally::new(Ask::Ranges, vec![1]);
        tally.add(&contract, &row(1, text), || None);
        tally.answer().sums
    };
    assert_eq!(sums("a"), sums("b"));
}

#[test]
fn a_key_that_waits_is_not_said_to_differ() {
    let (mut there, here) = (Answer::default(), Answer::default());
    let aside = Aside { rule: "check".into(), at_replica: false };
    let detail = Detail { fields: vec![1], key: Vec::new(), source_key: None };
    there.asides.insert(key(1), aside.clone());
    there.details.insert(key(1), detail.clone());
    assert_eq!(seen(&there, &here, key(1), false), Look::Waits(aside));
    there.asides.clear();
    assert_eq!(seen(&there, &here, key(1), false), Look::Differs(Difference::Missing));
    assert_eq!(seen(&there, &here, key(1), true), Look::Moving);
    assert_eq!(seen(&there, &here, key(2), true), Look::Equal);
}

proptest! {
    #[test]
    fn exactly_the_keys_that_differ_are_found(
        rows in proptest::collection::btree_map(0i64..500, "[a-c]{0,2}", 0..200),
        planted in proptest::collection::btree_map(0i64..500, proptest::option::of("[a-c]{0,2}"), 0..20),
    ) {
        let mut replica = rows.clone();
        for (id, text) in planted {
            match text {
                Some(text) => replica.insert(id, text),
                None => replica.remove(&id),
            };
        }
        let ids: BTreeSet<i64> = rows.keys().chain(replica.keys()).copied().collect();
        let expected = ids.into_iter().filter(|id| rows.get(id) != replica.get(id)).map(|id| {
            let difference = match (rows.get(&id), replica.get(&id)) {
                (Some(_), None) => Difference::Missing,
                (None, _) => Difference::Surplus,
                _ => Difference::Altered(vec![1]),
            };
            (key(id), Look::Differs(difference))
        });
        prop_assert_eq!(compared(&rows, &replica), expected.collect());
    }

    /// A key is named when it differed in two looks in which it did not move, with no look between at which it was
    /// equal; whatever moves all the time is never named.
    #[test]
    fn a_key_is_named_after_two_looks_and_a_moving_one_never(looks in proptest::collection::vec(0..3u8, 0..8)) {
        let mut suspects = Suspects::default();
        let (mut differed, mut moved) = (0, 0);
        for look in &looks {
            let change = match look {
                0 => Look::Equal,
                1 => Look::Differs(Difference::Missing),
                _ => Look::Moving,
            };
            match look {
                0 => (differed, moved) = (0, 0),
                1 => differed += 1,
                _ => moved += 1,
            }
            suspects.note(key(1), change);
        }
        prop_assert_eq!(suspects.open().count(), usize::from(differed == 1 || differed == 0 && moved > 0));
        let outcome = suspects.outcomes().remove(&key(1));
        prop_assert_eq!(outcome == Some(Outcome::Differs(Difference::Missing)), differed >= 2);
        prop_assert_eq!(outcome.is_none(), differed == 0 && moved == 0);
    }

    #[test]
    fn any_text_is_digested_as_a_duration(text in "\\PC{0,20}") {
        let _ = field_digest(key(1), &Type::Interval, &Value::text(text));
    }
}
