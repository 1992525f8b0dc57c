//! Every type arrives exactly: written through the sink, read back as the text that PostgreSQL prints.

use hutong_core::{Decimal, Field, Op, Row, Sink as _, Type, Value};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use crate::given::{Store, TABLE, Topic, contract_of};

fn decimal(text: &str) -> Value {
    Value::Decimal(text.parse::<Decimal>().unwrap())
}

fn list(ty: Type) -> Type {
    Type::Array(Box::new(ty))
}

/// A type, the column that takes it in a department's own table, a value, and the text it must read back as.
fn cases() -> Vec<(Type, &'static str, Value, &'static str)> {
    let text = |length| Type::Text { length };
    let amount = Type::Decimal { precision: 12, scale: 2 };
    let state = Type::Enum { allowed: vec!["正常".into(), "死亡".into()] };
    let bytes = |bytes: &'static [u8]| Value::Bytes(bytes::Bytes::from_static(bytes));
    vec![
        (Type::Boolean, "boolean", Value::Boolean(true), "true"),
        (Type::Boolean, "boolean", Value::Boolean(false), "false"),
        (Type::Int16, "int4", Value::Integer(-32768), "-32768"),
        (Type::Int, "int8", Value::Integer(2147483647), "2147483647"),
        (Type::Long, "numeric(19)", Value::Integer(i64::MIN), "-9223372036854775808"),
        (Type::Float, "float8", Value::Float(0.5), "0.5"),
        (Type::Float, "real", Value::Float(0.1), "0.1"),
        (Type::Float, "real", Value::Float(f32::NEG_INFINITY), "-Infinity"),
        (Type::Double, "double precision", Value::Double(5e-324), "5e-324"),
        (Type::Double, "double precision", Value::Double(-0.0), "-0"),
        (Type::Double, "double precision", Value::Double(f64::NAN), "NaN"),
        (text(Some(18)), "char(18)", Value::text("990101199003070015"), "990101199003070015"),
        (text(Some(4)), "varchar(9)", Value::text("人口 \t"), "人口 \t"),
        (text(None), "text", Value::text("'\"\\N\n\r✓𠮷"), "'\"\\N\n\r✓𠮷"),
        (text(None), "text", Value::text(""), ""),
        (text(None), "inet", Value::text("10.0.0.1/8"), "10.0.0.1/8"),
        (text(None), "cidr", Value::text("2001:db8::/32"), "2001:db8::/32"),
        (text(None), "macaddr", Value::text("08:00:2b:01:02:03"), "08:00:2b:01:02:03"),
        (text(None), "int4range", Value::text("[1,5)"), "[1,5)"),
        (text(Some(20)), "share.code", Value::text("A1"), "A1"),
        (Type::Bytes, "bytea", bytes(&[0, 255, 10]), "\\x00ff0a"),
        (Type::Bytes, "bytea", bytes(&[]), "\\x"),
        (amount.clone(), "numeric(14,3)", decimal("-1234567890.12"), "-1234567890.120"),
        (amount.clone(), "numeric", decimal("0.05"), "0.05"),
        (amount, "numeric(12,2)", decimal("10000.00"), "10000.00"),
        (Type::Numeric, "numeric", decimal("0.000000000000000000012300"), "0.000000000000000000012300"),
        (Type::Numeric, "numeric", decimal("1e25"), "10000000000000000000000000"),
        (Type::Numeric, "numeric", decimal("0.00"), "0.00"),
        (Type::Numeric, "numeric", decimal("-99999999.99999999"), "-99999999.99999999"),
        (Type::Date, "date", Value::Date(0), "1970-01-01"),
        (Type::Date, "date", Value::Date(-719_163), "0001-12-31 BC"),
        (Type::Date, "share.day", Value::Date(7370), "1990-03-07"),
        (Type::Time, "time", Value::Time(86_399_999_999), "23:59:59.999999"),
        (Type::Time, "time", Value::Time(86_400_000_000), "24:00:00"),
        (Type::Timestamp, "timestamp", Value::Timestamp(1), "1970-01-01 00:00:00.000001"),
        (Type::Timestamp, "timestamp", Value::Timestamp(-1), "1969-12-31 23:59:59.999999"),
        (
            Type::TimestampTz,
            "timestamptz",
            Value::TimestampTz(1_600_000_000_000_001),
            "2020-09-13 12:26:40.000001+00",
        ),
        (Type::Json, "json", Value::text(r#"{"b": 1.0, "a":[ ],"b":2}"#), r#"{"b": 1.0, "a":[ ],"b":2}"#),
        (Type::Json, "jsonb", Value::text(r#"{"a": "人"}"#), r#"{"a": "人"}"#),
        (
            Type::Uuid,
            "uuid",
            Value::text("f81d4fae-7dec-11d0-a765-00a0c91e6bf6"),
            "f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
        ),
        (
            Type::Uuid,
            "text",
            Value::text("f81d4fae-7dec-11d0-a765-00a0c91e6bf6"),
            "f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
        ),
        (Type::Interval, "interval", Value::text("P1Y2M3DT4H5M6.789012S"), "P1Y2M3DT4H5M6.789012S"),
        (Type::Interval, "interval", Value::text("P-1DT-0.000001S"), "P-1DT-0.000001S"),
        (state.clone(), "share.state", Value::text("死亡"), "死亡"),
        (state.clone(), "varchar(2)", Value::text("正常"), "正常"),
        (
            list(Type::Int),
            "int4[]",
            Value::Array(vec![Value::Integer(1), Value::Null, Value::Integer(-3)]),
            "{1,NULL,-3}",
        ),
        (
            list(text(None)),
            "text[]",
            Value::Array(vec![Value::text("a,b"), Value::text("NULL"), Value::text("")]),
            "{\"a,b\",\"NULL\",\"\"}",
        ),
        (list(text(Some(5))), "varchar(5)[]", Value::Array(vec![Value::text("人口")]), "{人口}"),
        (list(Type::Double), "float8[]", Value::Array(vec![]), "{}"),
        (list(Type::Numeric), "numeric[]", Value::Array(vec![decimal("1.50"), decimal("-2")]), "{1.50,-2}"),
        (list(Type::Uuid), "uuid[]", Value::Array(vec![Value::Null]), "{NULL}"),
        (
            list(Type::TimestampTz),
            "timestamptz[]",
            Value::Array(vec![Value::TimestampTz(0)]),
            "{\"1970-01-01 00:00:00+00\"}",
        ),
        (
            list(text(None)),
            "inet[]",
            Value::Array(vec![Value::text("10.0.0.1"), Value::Null]),
            "{10.0.0.1,NULL}",
        ),
        (list(state), "share.state[]", Value::Array(vec![Value::text("正常")]), "{正常}"),
        (list(Type::Interval), "interval[]", Value::Array(vec![Value::text("PT1S")]), "{PT1S}"),
    ]
}

#[tokio::test]
async fn i6_every_type_arrives_exactly() {
    for created in [true, false] {
        let store = Store::fresh().await;
        store.run("SET intervalstyle = iso_8601; SET timezone = 'UTC'; CREATE SCHEMA share").await;
        store
            .run(
                "CREATE TYPE share.state AS ENUM ('正常', '死亡', '迁出');
                 CREATE DOMAIN share.code AS varchar(20) CHECK (value <> '');
                 CREATE DOMAIN share.day AS date",
            )
            .await;
        let cases = cases();
        let mut fields = vec![Field::new("id", Type::Long)];
        let mut columns = "id bigint PRIMARY KEY".to_owned();
        for (at, (ty, column, ..)) in cases.iter().enumerate() {
            fields.push(Field::new(format!("f{at}"), ty.clone()));
            columns.push_str(&format!(", f{at} {column}"));
        }
        if !created {
            store.run(&format!("CREATE TABLE {TABLE} ({columns})")).await;
        }
        let contract = contract_of(fields, vec![0]);
        let mut topic = Topic::new(&contract);
        let mut sink = store.opened(0, &contract).await;
        let values = |id, cell: fn(&Value) -> Value| -> Row {
            let cells = cases.iter().map(|(_, _, value, _)| cell(value));
            std::iter::once(Value::Integer(id)).chain(cells).collect()
        };
        // As an insert, as an update, and as a patch of an empty row.
        let null = |_: &Value| Value::Null;
        sink.commit(&topic.batch([
            (Op::Insert, values(1, Value::clone)),
            (Op::Insert, values(2, null)),
            (Op::Insert, values(3, null)),
            (Op::Insert, values(4, null)),
        ]))
        .await
        .unwrap();
        let mut half = values(3, Value::clone);
        half[1] = Value::Unknown;
        sink.commit(&topic.batch([(Op::Update, values(2, Value::clone)), (Op::Update, half)])).await.unwrap();

        assert!(
            store.quarantine().await.is_empty(),
            "{:?}",
            store.rows("SELECT reason FROM hutong.hutong_quarantine").await
        );
        for (at, (ty, column, _, expected)) in cases.iter().enumerate() {
            let cells = store.rows(&format!("SELECT f{at}::text FROM {TABLE} ORDER BY id")).await;
            let third = if at == 0 { "∅" } else { expected };
            // A created column keeps the scale of the contract, a wider one its own.
            let expected = if created {
                expected.replace("12.120", "12.12").replace("90.120", "90.12")
            } else {
                (*expected).to_owned()
            };
            let third = if at == 0 { third.to_owned() } else { expected.clone() };
            assert_eq!(cells, [expected.clone(), expected, third, "∅".into()], "{} in {column}", ty.name());
        }
    }
}

#[tokio::test]
async fn i6_numbers_of_every_size_arrive_exactly() {
    let store = Store::fresh().await;
    let contract = contract_of(vec![Field::new("id", Type::Long), Field::new("n", Type::Numeric)], vec![0]);
    let mut runner = TestRunner::deterministic();
    let number = ("-?[0-9]{1,40}", 0usize..30);
    let texts: Vec<String> = (0..2000)
        .map(|_| {
            let (digits, scale) = number.new_tree(&mut runner).unwrap().current();
            let (sign, digits) = digits.strip_prefix('-').map_or(("", digits.as_str()), |rest| ("-", rest));
            let digits = format!("{digits:0>width$}", width = scale + 1);
            let (whole, after) = digits.split_at(digits.len() - scale);
            if after.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{after}") }
        })
        .collect();
    let mut topic = Topic::new(&contract);
    let mut sink = store.opened(0, &contract).await;
    let rows =
        texts.iter().enumerate().map(|(id, text)| (Op::Read, vec![Value::Integer(id as i64), decimal(text)]));
    sink.commit(&topic.batch(rows)).await.unwrap();

    store.run("CREATE TABLE said (id bigint, n text)").await;
    for (id, text) in texts.iter().enumerate() {
        store.run(&format!("INSERT INTO said VALUES ({id}, '{text}')")).await;
    }
    let wrong = format!(
        "SELECT s.n, t.n::text FROM said s LEFT JOIN {TABLE} t USING (id) WHERE t.n::text IS DISTINCT FROM s.n::numeric::text"
    );
    assert!(store.rows(&wrong).await.is_empty(), "{:?}", store.rows(&wrong).await);
}
