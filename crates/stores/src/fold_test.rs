//! Tests of folding: what is folded equals what is applied one by one.

use std::collections::BTreeMap;
use std::sync::Arc;

use hutong_core::change::Place;
use hutong_core::contract::Sharing;
use hutong_core::{Before, Change, Contract, Decimal, Field, Op, Origin, Position, Row, Type, Value};
use proptest::prelude::*;

use super::{End, Key, fold};

fn contract() -> Arc<Contract> {
    let fields = vec![Field::new("id", Type::Long), Field::new("a", Type::Long), Field::new("b", Type::Long)];
    Contract {
        stream: "s".into(),
        doc: String::new(),
        sharing: Sharing::Unconditional,
        fields,
        key: vec![0],
        catalogue: serde_json::Map::new(),
    }
    .shared()
}

fn change(contract: &Arc<Contract>, op: Op, row: Row, at: u64) -> Change {
    let (before, after) = match op {
        Op::Delete => (Before::Key(row), None),
        Op::Truncate => (Before::None, None),
        _ => (Before::None, Some(row)),
    };
    Change {
        contract: Arc::clone(contract),
        op,
        before,
        after,
        position: Position::offset(at),
        source_position: Position::offset(at),
        origin: Origin {
            place: Arc::new(Place::default()),
            committed_us: 0,
            xid: None,
            lsn: None,
            transaction: None,
            last: true,
        },
    }
}

type Model = BTreeMap<i64, Row>;

fn id(row: &[Value]) -> i64 {
    match row[0] {
        Value::Integer(n) => n,
        _ => unreachable!("the tests' keys are integers"),
    }
}

/// The apply rule, for one row; returns whether it was rejected.
fn apply(model: &mut Model, end: End, row: &[Value]) -> bool {
    match (end, model.get_mut(&id(row))) {
        (End::Delete, _) => {
            model.remove(&id(row));
        }
        (End::Put, _) => {
            model.insert(id(row), row.to_vec());
        }
        (End::Patch, None) => return true,
        (End::Patch, Some(there)) => {
            for (old, new) in there.iter_mut().zip(row) {
                if !new.is_unknown() {
                    *old = new.clone();
                }
            }
        }
    }
    false
}

fn one_by_one(model: &mut Model, changes: &[Change]) {
    for change in changes {
        let end = match change.op {
            Op::Truncate => {
                model.clear();
                continue;
            }
            Op::Delete => End::Delete,
            _ if change.after.as_ref().unwrap().iter().any(Value::is_unknown) => End::Patch,
            _ => End::Put,
        };
        apply(model, end, change.after.as_ref().or(change.before.row()).unwrap());
    }
}

fn folded(model: &mut Model, changes: &[Change]) {
    let folded = fold(changes);
    if folded.truncate {
        model.clear();
    }
    for part in &folded.parts {
        for keyed in &part.keys {
            apply(model, keyed.end, keyed.row(changes));
        }
    }
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![2 => (0i64..5).prop_map(Value::Integer), 1 => Just(Value::Unknown), 1 => Just(Value::Null)]
}

fn step() -> impl Strategy<Value = (u8, i64, Value, Value)> {
    (0u8..20, 0i64..4, value(), value())
}

proptest! {
    #[test]
    fn i4_what_is_folded_equals_what_is_applied_one_by_one(
        there in proptest::collection::btree_map(0i64..4, (0i64..5, 0i64..5), 0..4),
        steps in proptest::collection::vec(step(), 0..24),
    ) {
        let contract = contract();
        let changes: Vec<Change> = steps.into_iter().enumerate().map(|(at, (kind, key, a, b))| {
            let op = match kind {
                0 => Op::Truncate,
                1..=5 => Op::Delete,
                6..=10 => Op::Insert,
                _ => Op::Update,
            };
            change(&contract, op, vec![Value::Integer(key), a, b], at as u64)
        }).collect();
        let start: Model = there.into_iter()
            .map(|(k, (a, b))| (k, vec![Value::Integer(k), Value::Integer(a), Value::Integer(b)]))
            .collect();
        let (mut left, mut right) = (start.clone(), start);
        one_by_one(&mut left, &changes);
        folded(&mut right, &changes);
        prop_assert_eq!(left, right);
    }
}

#[test]
fn i3_a_patch_after_a_delete_is_rejected_and_a_put_knows_every_value() {
    let contract = contract();
    let int = Value::Integer;
    let changes = [
        change(&contract, Op::Insert, vec![int(1), int(1), int(1)], 0),
        change(&contract, Op::Update, vec![int(1), Value::Unknown, int(2)], 1),
        change(&contract, Op::Delete, vec![int(2), Value::Unknown, Value::Unknown], 2),
        change(&contract, Op::Update, vec![int(2), Value::Unknown, int(2)], 3),
        change(&contract, Op::Update, vec![Value::Null, int(1), int(2)], 4),
        // Settled by a later complete change of its key.
        change(&contract, Op::Delete, vec![int(3), Value::Unknown, Value::Unknown], 5),
        change(&contract, Op::Update, vec![int(3), Value::Unknown, int(2)], 6),
        change(&contract, Op::Delete, vec![int(3), Value::Unknown, Value::Unknown], 7),
    ];
    let folded = fold(&changes);
    let keys = &folded.parts[0].keys;
    assert_eq!(keys[0].end, End::Put);
    assert_eq!(keys[0].row(&changes), [int(1), int(1), int(2)]);
    assert_eq!((keys[1].end, keys[1].last), (End::Delete, 2));
    let rules: Vec<_> = folded.rejected.iter().map(|r| (r.rule, r.position)).collect();
    assert_eq!(rules, [("unknown_value", Position::offset(3)), ("unknown_key", Position::offset(4))]);
    assert_eq!(folded.parts[0].of_key(&changes, &keys[0].key).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn keys_are_equal_when_a_database_says_so() {
    let mut contract = (*contract()).clone();
    contract.key = vec![0, 1];
    let key = |a: Value, b: Value| Key::of(&contract, &[a, b, Value::Null]);
    let decimal = |text: &str| Value::Decimal(text.parse::<Decimal>().unwrap());
    assert_eq!(key(decimal("1.0"), Value::Double(0.0)), key(decimal("1.00"), Value::Double(-0.0)));
    assert_ne!(key(Value::text("ab"), Value::text("c")), key(Value::text("a"), Value::text("bc")));
    assert_eq!(key(Value::Null, Value::text("c")), None);
    assert_eq!(key(Value::Unknown, Value::text("c")), None);
}
