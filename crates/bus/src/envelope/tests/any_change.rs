//! Random changes of a contract that has every type.

use std::sync::Arc;

use bytes::Bytes;
use hutong_core::{
    Before, Change, Contract, Decimal, Field, Op, Origin, Place, Position, Row, Transaction, Type, Value,
};
use proptest::prelude::*;

use bigdecimal::num_bigint::BigInt;

/// A contract with every type, each alone and as an array; the key is a number and a text.
pub(super) fn contract() -> Arc<Contract> {
    let scalars = [
        Type::Boolean,
        Type::Int16,
        Type::Int,
        Type::Long,
        Type::Float,
        Type::Double,
        Type::Text { length: None },
        Type::Bytes,
        Type::Decimal { precision: 38, scale: 6 },
        Type::Numeric,
        Type::Date,
        Type::Time,
        Type::Timestamp,
        Type::TimestampTz,
        Type::Json,
        Type::Uuid,
        Type::Interval,
        Type::Enum { allowed: vec!["new".into(), "登记".into()] },
    ];
    let mut text = Contract::parse(
        r#"{"type":"record","name":"all","doc":"Every type.","sharing":"unconditional","key":["code","id"],"fields":[
            {"name":"id","type":"long"},
            {"name":"code","type":{"type":"string","length":40},"doc":"A code."}]}"#,
    )
    .unwrap();
    for (i, ty) in scalars.into_iter().enumerate() {
        text.fields.push(Field::new(format!("f{i}"), ty.clone()));
        text.fields.push(Field::new(format!("a{i}"), Type::Array(Box::new(ty))));
    }
    text.shared()
}

/// Any value of a type, neither NULL nor unknown.
pub(super) fn value(ty: &Type) -> BoxedStrategy<Value> {
    let text = |pattern: &'static str| pattern.prop_map(|t: String| Value::text(t)).boxed();
    match ty {
        Type::Boolean => any::<bool>().prop_map(Value::Boolean).boxed(),
        Type::Int16 => any::<i16>().prop_map(|n| Value::Integer(n.into())).boxed(),
        Type::Int => any::<i32>().prop_map(|n| Value::Integer(n.into())).boxed(),
        Type::Long => any::<i64>().prop_map(Value::Integer).boxed(),
        Type::Float => any::<f32>().prop_map(Value::Float).boxed(),
        Type::Double => any::<f64>().prop_map(Value::Double).boxed(),
        Type::Text { .. } => text(".{0,40}"),
        Type::Bytes => {
            proptest::collection::vec(any::<u8>(), 0..40).prop_map(|b| Value::Bytes(Bytes::from(b))).boxed()
        }
        Type::Decimal { precision, scale } => {
            let (limit, scale) = (10_i128.pow(*precision), i64::from(*scale));
            let number = prop_oneof![-(limit - 1)..limit, -70_000_i128..70_000];
            number.prop_map(move |n| Value::Decimal(Decimal::new(BigInt::from(n), scale))).boxed()
        }
        Type::Numeric => (any::<i128>(), 0..40_u32, -20_i64..40)
            .prop_map(|(n, shift, scale)| Value::Decimal(Decimal::new(BigInt::from(n) << shift, scale)))
            .boxed(),
        Type::Date => any::<i32>().prop_map(Value::Date).boxed(),
        Type::Time => (0..=86_400_000_000_i64).prop_map(Value::Time).boxed(),
        Type::Timestamp => any::<i64>().prop_map(Value::Timestamp).boxed(),
        Type::TimestampTz => {
            (-62_135_596_800_000_000..=253_402_300_799_999_999_i64).prop_map(Value::TimestampTz).boxed()
        }
        Type::Json => text(r#"\{"a":"[a-z登记]{0,10}"\}"#),
        Type::Uuid => text("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"),
        Type::Interval => text("P[0-9]{1,3}DT[0-9]{1,5}S"),
        Type::Enum { allowed } => proptest::sample::select(allowed.clone()).prop_map(Value::text).boxed(),
        Type::Array(item) => {
            let item = prop_oneof![1 => Just(Value::Null), 4 => value(item)];
            proptest::collection::vec(item, 0..4).prop_map(Value::Array).boxed()
        }
    }
}

fn row(contract: &Contract, holes: bool) -> BoxedStrategy<Row> {
    let fields: Vec<BoxedStrategy<Value>> = contract
        .fields
        .iter()
        .enumerate()
        .map(|(i, field)| match contract.is_key(i) {
            true => value(&field.ty),
            false if holes => prop_oneof![
                1 => Just(Value::Null), 1 => Just(Value::Unknown), 4 => value(&field.ty)
            ]
            .boxed(),
            false => prop_oneof![1 => Just(Value::Null), 4 => value(&field.ty)].boxed(),
        })
        .collect();
    fields.boxed()
}

/// Any change of the contract.
pub(super) fn change(contract: &Arc<Contract>) -> BoxedStrategy<Change> {
    let keyed = Arc::clone(contract);
    let before = prop_oneof![
        Just(Before::None),
        row(contract, false).prop_map(move |row| Before::Key(keyed.key_row(&keyed.key_of(&row)))),
        row(contract, false).prop_map(Before::Full),
    ];
    let op =
        prop_oneof![Just(Op::Read), Just(Op::Insert), Just(Op::Update), Just(Op::Delete), Just(Op::Truncate)];
    let origin = (
        any::<i64>(),
        any::<Option<u64>>(),
        any::<Option<u64>>(),
        any::<Option<(u32, u32)>>(),
        any::<bool>(),
    );
    let place = (any::<u64>(), any::<u32>(), 0..2_u8);
    let contract = Arc::clone(contract);
    (op, before, row(&contract, true), row(&contract, false), origin, place)
        .prop_map(move |(op, before, holes, whole, (us, xid, lsn, order, last), (commit, index, part))| {
            let (before, after) = match op {
                Op::Read | Op::Insert => (Before::None, Some(whole)),
                Op::Update => (before, Some(holes)),
                Op::Delete if before == Before::None => (Before::Full(whole), None),
                Op::Delete => (before, None),
                Op::Truncate => (Before::None, None),
            };
            let transaction = order.map(|(order, stream_order)| Transaction {
                id: "8:77".into(),
                order: order.into(),
                stream_order: stream_order.into(),
            });
            Change {
                contract: Arc::clone(&contract),
                op,
                before,
                after,
                position: Position::offset(9),
                source_position: Position::wal(1, commit, index, part),
                origin: Origin {
                    place: Arc::new(Place {
                        connector: "postgresql".into(),
                        name: "gongan".into(),
                        db: "gongan".into(),
                        schema: "public".into(),
                        table: "全部".into(),
                    }),
                    committed_us: us,
                    xid,
                    lsn,
                    transaction,
                    last,
                },
            }
        })
        .boxed()
}
