//! Values go through real columns, declared as Hutong declares them.

use proptest::prelude::*;
use rusqlite::Connection;

use super::*;

const DAY_US: i64 = 86_400_000_000;
const YEARS: std::ops::Range<i64> = -719_528..2_932_897;

/// Stores a value in a column of its type and reads it back.
fn through(ty: &Type, value: &Value) -> Result<Value, String> {
    let db = Connection::open_in_memory().unwrap();
    db.execute_batch(&format!("CREATE TABLE t (v {})", declared(ty))).unwrap();
    db.execute("INSERT INTO t VALUES (?1)", [write(ty, value)?]).unwrap();
    let mut statement = db.prepare("SELECT v FROM t").unwrap();
    let mut rows = statement.query([]).unwrap();
    read(ty, rows.next().unwrap().unwrap().get_ref(0).unwrap())
}

fn decimal(digits: i64, scale: u32) -> Value {
    Value::Decimal(Decimal::new(digits.into(), scale.into()))
}

fn scalar() -> impl Strategy<Value = (Type, Value)> {
    // Texts that SQLite would take for numbers are the ones that go wrong.
    let text =
        prop_oneof!["[-+ ]?[0-9]{0,20}[.]?[0-9]{0,5}(e[0-9])?", "\\PC{0,20}", Just("张\u{0}三".to_owned())];
    let json = prop_oneof![Just("1.0"), Just("1"), Just("\"x\""), Just("{\"a\": [1, null]}"), Just("1e400")];
    prop_oneof![
        any::<bool>().prop_map(|b| (Type::Boolean, Value::Boolean(b))),
        any::<i16>().prop_map(|i| (Type::Int16, Value::Integer(i.into()))),
        any::<i32>().prop_map(|i| (Type::Int, Value::Integer(i.into()))),
        any::<i64>().prop_map(|i| (Type::Long, Value::Integer(i))),
        any::<f32>()
            .prop_filter("NaN and -0", |f| !f.is_nan() && f.to_bits() != (-0.0_f32).to_bits())
            .prop_map(|f| (Type::Float, Value::Float(f))),
        any::<f64>()
            .prop_filter("NaN and -0", |f| !f.is_nan() && f.to_bits() != (-0.0_f64).to_bits())
            .prop_map(|f| (Type::Double, Value::Double(f))),
        text.clone().prop_map(|t| (Type::Text { length: None }, Value::text(t))),
        text.prop_map(|t| (Type::Text { length: Some(40) }, Value::text(t))),
        (any::<i64>(), 0..9_u32)
            .prop_map(|(d, scale)| (Type::Decimal { precision: 19, scale }, decimal(d, scale))),
        (any::<i64>(), 0..30_u32).prop_map(|(d, scale)| (Type::Numeric, decimal(d, scale))),
        YEARS.prop_map(|d| (Type::Date, Value::Date(d as i32))),
        (0..=DAY_US).prop_map(|t| (Type::Time, Value::Time(t))),
        (YEARS, 0..DAY_US).prop_map(|(d, t)| (Type::Timestamp, Value::Timestamp(d * DAY_US + t))),
        (YEARS, 0..DAY_US).prop_map(|(d, t)| (Type::TimestampTz, Value::TimestampTz(d * DAY_US + t))),
        json.prop_map(|j| (Type::Json, Value::text(j))),
        any::<[u8; 16]>().prop_map(|b| {
            let hex: Vec<String> = b.iter().map(|b| format!("{b:02x}")).collect();
            let part = |r: std::ops::Range<usize>| hex[r].concat();
            let text = [part(0..4), part(4..6), part(6..8), part(8..10), part(10..16)].join("-");
            (Type::Uuid, Value::text(text))
        }),
        "P[1-9]D(T[1-9]H)?".prop_map(|t| (Type::Interval, Value::text(t))),
        "[0-9]{1,2}".prop_map(|t| (Type::Enum { allowed: vec!["x".into(), t.clone()] }, Value::text(t))),
        proptest::collection::vec(any::<u8>(), 0..20).prop_map(|b| (Type::Bytes, Value::Bytes(b.into()))),
    ]
}

proptest! {
    #[test]
    fn i6_every_value_comes_back_as_it_was((ty, value) in scalar()) {
        prop_assert_eq!(through(&ty, &value), Ok(value.clone()));
        let list = Type::Array(Box::new(ty));
        let array = Value::Array(vec![value, Value::Null]);
        prop_assert_eq!(through(&list, &array), Ok(array));
    }

    #[test]
    fn i6_whatever_a_column_holds_is_exact_or_refused((ty, _) in scalar(), (other, value) in scalar()) {
        // A stored value of any other type is read as the type or refused, and never panics.
        let stored = write(&other, &value).unwrap();
        if let Ok(back) = read(&ty, (&stored).into()) {
            let again = write(&ty, &back).unwrap();
            prop_assert_eq!(read(&ty, (&again).into()), Ok(back));
        }
    }
}

#[test]
fn null_nan_and_negative_zero_are_what_they_are() {
    assert_eq!(through(&Type::Long, &Value::Null), Ok(Value::Null));
    assert!(write(&Type::Double, &Value::Double(f64::NAN)).is_err());
    assert!(write(&Type::Double, &Value::Double(-0.0)).is_err(), "a column of type REAL makes it 0");
    assert!(write(&Type::Float, &Value::Float(-0.0)).is_err());
    assert!(write(&Type::Long, &Value::Unknown).is_err(), "never NULL");
}

#[test]
fn i6_says_what_cannot_be_carried() {
    let rows = [
        (Type::Boolean, Stored::Integer(2), "neither 0 nor 1"),
        (Type::Int16, Stored::Integer(40_000), "out of its range"),
        (Type::Long, Stored::Text("1".into()), "a TEXT"),
        (Type::Long, Stored::Real(1.0), "a REAL"),
        (Type::Double, Stored::Integer(i64::MAX), "an INTEGER"),
        (Type::Float, Stored::Real(0.1), "32 bits do not hold"),
        (
            Type::Decimal { precision: 4, scale: 2 },
            Stored::Text("1.234".into()),
            "more digits after the point",
        ),
        (Type::Decimal { precision: 4, scale: 2 }, Stored::Text("123.45".into()), "more digits"),
        (Type::Decimal { precision: 4, scale: 2 }, Stored::Real(1.5), "declare the column TEXT"),
        (Type::Decimal { precision: 4, scale: 2 }, Stored::Text("1e9".into()), "no number"),
        (Type::Numeric, Stored::Text("NaN".into()), "no number"),
        (
            Type::Text { length: Some(2) },
            Stored::Text("虚省样".into()),
            "3 characters, the contract allows 2",
        ),
        (Type::Text { length: None }, Stored::Integer(1), "an INTEGER"),
        (Type::Date, Stored::Text("2026-13-01".into()), "not YYYY-MM-DD"),
        (Type::TimestampTz, Stored::Text("2026-01-01 00:00:00".into()), "with Z or an offset"),
        (Type::Json, Stored::Text("{".into()), "no JSON"),
        (Type::Uuid, Stored::Text("x".into()), "no UUID"),
        (Type::Enum { allowed: vec!["a".into()] }, Stored::Text("b".into()), "not allowed"),
        (Type::Array(Box::new(Type::Long)), Stored::Text("[1.5]".into()), "something else"),
        (Type::Bytes, Stored::Text("00".into()), "a TEXT"),
    ];
    for (ty, stored, says) in rows {
        let why = read(&ty, (&stored).into()).unwrap_err();
        assert!(why.contains(says), "{}: {why}", ty.name());
    }
    assert_eq!(read(&Type::Decimal { precision: 4, scale: 2 }, ValueRef::Integer(7)), Ok(decimal(700, 2)));
    assert_eq!(read(&Type::Double, ValueRef::Integer(7)), Ok(Value::Double(7.0)));
}
