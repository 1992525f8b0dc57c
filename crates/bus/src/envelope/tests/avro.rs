//! The hand-written encoder against `apache-avro`: same schema, same bytes, same values.

use std::sync::Arc;

use apache_avro::types::Value as Avro;
use bigdecimal::num_bigint::BigInt;
use hutong_core::{Row, Type, Value};
use proptest::prelude::*;

use super::super::{Encoder, instant, schemas};
use super::any_change;
use crate::{framing, oracle};

/// Returns what `apache-avro` should read for a value.
fn expected(ty: &Type, value: &Value) -> Avro {
    match (ty, value) {
        (_, Value::Boolean(b)) => Avro::Boolean(*b),
        (Type::Long, Value::Integer(n)) => Avro::Long(*n),
        (_, Value::Integer(n)) => Avro::Int(i32::try_from(*n).unwrap()),
        (_, Value::Float(n)) => Avro::Float(*n),
        (_, Value::Double(n)) => Avro::Double(*n),
        (Type::Decimal { scale, .. }, Value::Decimal(n)) => {
            let (number, _) = n.with_scale(i64::from(*scale)).into_bigint_and_exponent();
            Avro::Decimal(number.to_signed_bytes_be().into())
        }
        (_, Value::Decimal(n)) => {
            let (number, scale) = n.as_bigint_and_exponent();
            Avro::Record(vec![
                ("scale".into(), Avro::Int(i32::try_from(scale).unwrap())),
                ("value".into(), Avro::Bytes(number.to_signed_bytes_be())),
            ])
        }
        (_, Value::Text(t)) => Avro::String(t.to_string()),
        (_, Value::Bytes(b)) => Avro::Bytes(b.to_vec()),
        (_, Value::Date(n)) => Avro::Date(*n),
        (_, Value::Time(n)) => Avro::TimeMicros(*n),
        (_, Value::Timestamp(n)) => Avro::LocalTimestampMicros(*n),
        (_, Value::TimestampTz(n)) => {
            Avro::String(String::from_utf8(instant::text(*n).unwrap().to_vec()).unwrap())
        }
        (Type::Array(item), Value::Array(items)) => {
            Avro::Array(items.iter().map(|v| optional(item, v)).collect())
        }
        (_, Value::Null | Value::Unknown | Value::Array(_)) => unreachable!("no plain value"),
    }
}

fn optional(ty: &Type, value: &Value) -> Avro {
    match value {
        Value::Null | Value::Unknown => Avro::Union(0, Box::new(Avro::Null)),
        value => Avro::Union(1, Box::new(expected(ty, value))),
    }
}

fn expected_row(row: Option<&Row>) -> Avro {
    let Some(row) = row else { return Avro::Union(0, Box::new(Avro::Null)) };
    let contract = any_change::contract();
    let fields = contract.fields.iter().zip(row).enumerate().map(|(i, (field, value))| {
        let value = if contract.is_key(i) { expected(&field.ty, value) } else { optional(&field.ty, value) };
        (field.name.clone(), value)
    });
    some(Avro::Record(fields.collect()))
}

fn some(value: Avro) -> Avro {
    Avro::Union(1, Box::new(value))
}

/// Decimals compare by their digits: `apache-avro` pads them as it likes.
fn same(left: &Avro, right: &Avro) -> bool {
    match (left, right) {
        (Avro::Decimal(l), Avro::Decimal(r)) => {
            let number =
                |d: &apache_avro::Decimal| BigInt::from_signed_bytes_be(&Vec::<u8>::try_from(d).unwrap());
            number(l) == number(r)
        }
        (Avro::Union(i, l), Avro::Union(j, r)) => i == j && same(l, r),
        (Avro::Array(l), Avro::Array(r)) => l.len() == r.len() && l.iter().zip(r).all(|(l, r)| same(l, r)),
        (Avro::Record(l), Avro::Record(r)) => {
            l.len() == r.len() && l.iter().zip(r).all(|((n, l), (m, r))| n == m && same(l, r))
        }
        (left, right) => left == right,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn apache_avro_reads_what_we_write(change in any_change::change(&any_change::contract())) {
        let contract = any_change::contract();
        let texts = schemas(&contract, "a.all.v1");
        let encoded = Encoder::new(Arc::clone(&contract), 1, 2).encode(&change, 1_234_567).unwrap();

        let Avro::Record(fields) = oracle::read(&texts.value, &encoded.value[framing::HEAD..]) else { panic!("a record") };
        let field = |name: &str| &fields.iter().find(|(n, _)| n == name).unwrap().1;
        prop_assert!(same(field("before"), &expected_row(change.before.row())));
        prop_assert!(same(field("after"), &expected_row(change.after.as_ref())));
        prop_assert_eq!(field("op"), &Avro::String(change.op.letter().into()));
        prop_assert_eq!(field("ts_ms"), &some(Avro::Long(1_234)));
        prop_assert_eq!(field("ts_ns"), &some(Avro::Long(1_234_567_000)));
        let Avro::Record(source) = field("source") else { panic!("a record") };
        let fact = |name: &str| &source.iter().find(|(n, _)| n == name).unwrap().1;
        prop_assert_eq!(fact("ts_us"), &some(Avro::Long(change.origin.committed_us)));
        prop_assert_eq!(fact("position"), &Avro::String(change.source_position.to_string()));
        prop_assert_eq!(fact("last"), &Avro::Boolean(change.origin.last));

        if let Some(key) = encoded.key {
            let read = oracle::read(&texts.key, &key[framing::HEAD..]);
            let key = change.key().unwrap();
            let wanted: Vec<_> = contract.key_fields().zip(&key).map(|(f, v)| (f.name.clone(), expected(&f.ty, v))).collect();
            prop_assert!(same(&read, &Avro::Record(wanted)));
        }
    }
}
