//! Values of every type, through the snapshot and through the stream, exactly or rejected by name.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::capture::{Capture, contract};
use crate::snapshot::{hold_commits, let_commits_go};
use hutong_core::{Contract, Field, Op, Secret, Type, Value};
use hutong_stores::postgres;
use hutong_testkit::launch::Postgres;
use rand::prelude::*;

/// Column type, a value as SQL, the contract's type, the value.
fn table() -> Vec<(&'static str, &'static str, Type, Value)> {
    let text = Type::Text { length: None };
    let texts = Type::Array(Box::new(text.clone()));
    let allowed = ["申报", "注销"].map(String::from).to_vec();
    let decimal = |text: &str| Value::Decimal(text.parse().unwrap());
    vec![
        ("boolean", "true", Type::Boolean, Value::Boolean(true)),
        ("smallint", "-32768", Type::Int16, Value::Integer(-32768)),
        ("integer", "2147483647", Type::Int, Value::Integer(2147483647)),
        ("bigint", "-9223372036854775808", Type::Long, Value::Integer(i64::MIN)),
        ("oid", "4294967295", Type::Long, Value::Integer(4294967295)),
        ("real", "0.1", Type::Float, Value::Float(0.1)),
        ("double precision", "'-Infinity'", Type::Double, Value::Double(f64::NEG_INFINITY)),
        ("double precision", "0.1::float8 + 0.2", Type::Double, Value::Double(0.1 + 0.2)),
        (
            "numeric(12,2)",
            "-1234567890.10",
            Type::Decimal { precision: 12, scale: 2 },
            decimal("-1234567890.10"),
        ),
        ("numeric", "1e-20", Type::Numeric, decimal("0.00000000000000000001")),
        ("numeric(3,-2)", "12345", Type::Numeric, decimal("12300")),
        ("text", "E'a\\nb''\"\\\\'", text.clone(), Value::text("a\nb'\"\\")),
        ("varchar(20)", "'姓名  '", Type::Text { length: Some(20) }, Value::text("姓名  ")),
        ("char(6)", "'ab'", Type::Text { length: Some(6) }, Value::text("ab")),
        ("\"char\"", "'x'", text.clone(), Value::text("x")),
        ("name", "'x'", text.clone(), Value::text("x")),
        ("bytea", "'\\x00ff'", Type::Bytes, Value::Bytes(bytes::Bytes::from_static(&[0, 255]))),
        ("date", "'1900-02-28'", Type::Date, Value::Date(-25509)),
        ("time", "'23:59:59.999999'", Type::Time, Value::Time(86_399_999_999)),
        ("timetz", "'01:02:03+08'", text.clone(), Value::text("01:02:03+08")),
        ("timestamp", "'1969-12-31 23:59:59.999999'", Type::Timestamp, Value::Timestamp(-1)),
        ("timestamptz", "'1970-01-01 08:00:01+08'", Type::TimestampTz, Value::TimestampTz(1_000_000)),
        ("interval", "'1 year 2 months -3 days 4.5 seconds'", Type::Interval, Value::text("P1Y2M-3DT4.5S")),
        ("json", "'{\"a\" : 1}'", Type::Json, Value::text("{\"a\" : 1}")),
        ("jsonb", "'{\"b\":1,\"a\":null}'", Type::Json, Value::text("{\"a\": null, \"b\": 1}")),
        (
            "uuid",
            "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'",
            Type::Uuid,
            Value::text("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        ),
        ("state", "'注销'", Type::Enum { allowed: allowed.clone() }, Value::text("注销")),
        ("amount", "12.5", Type::Decimal { precision: 6, scale: 2 }, decimal("12.50")),
        ("inet", "'10.0.0.1/8'", text.clone(), Value::text("10.0.0.1/8")),
        ("cidr", "'10.0.0.0/8'", text.clone(), Value::text("10.0.0.0/8")),
        ("macaddr", "'08:00:2b:01:02:03'", text.clone(), Value::text("08:00:2b:01:02:03")),
        ("xml", "'<a/>'", text.clone(), Value::text("<a/>")),
        ("bit(3)", "B'101'", text.clone(), Value::text("101")),
        ("int4range", "'[1,5)'", text.clone(), Value::text("[1,5)")),
        ("tstzrange", "NULL", text.clone(), Value::Null),
        ("point", "'(1,2)'", text.clone(), Value::text("(1,2)")),
        ("pair", "ROW(1, 'a b')", text.clone(), Value::text("(1,\"a b\")")),
        (
            "text[]",
            "ARRAY['a,b', NULL, '\"', 'NULL', '']",
            texts,
            Value::Array(vec![
                Value::text("a,b"),
                Value::Null,
                Value::text("\""),
                Value::text("NULL"),
                Value::text(""),
            ]),
        ),
        ("int[]", "'{}'", Type::Array(Box::new(Type::Int)), Value::Array(vec![])),
        (
            "numeric(4,1)[]",
            "ARRAY[1.5, 2]",
            Type::Array(Box::new(Type::Decimal { precision: 4, scale: 1 })),
            Value::Array(vec![decimal("1.5"), decimal("2.0")]),
        ),
        (
            "state[]",
            "ARRAY['申报']::state[]",
            Type::Array(Box::new(Type::Enum { allowed })),
            Value::Array(vec![Value::text("申报")]),
        ),
        (
            "timestamptz[]",
            "ARRAY['1970-01-01 00:00:01+00'::timestamptz]",
            Type::Array(Box::new(Type::TimestampTz)),
            Value::Array(vec![Value::TimestampTz(1_000_000)]),
        ),
    ]
}

#[tokio::test]
async fn i6_every_type_is_carried_exactly() {
    let database = Postgres::shared().await.unwrap();
    let table = table();
    let columns: Vec<_> = table.iter().enumerate().map(|(i, (ty, ..))| format!("v{i} {ty}")).collect();
    let values: Vec<_> = table.iter().map(|(_, sql, ..)| *sql).collect();
    let sql = format!(
        "CREATE TYPE state AS ENUM ('申报', '注销'); CREATE DOMAIN amount AS numeric(6,2) CHECK (value > 0); \
         CREATE TYPE pair AS (a int, b text); \
         CREATE TABLE wide (id int PRIMARY KEY, {}); COMMENT ON COLUMN wide.v0 IS '是否'; \
         ALTER DATABASE {} SET DateStyle = 'German'; ALTER DATABASE {} SET TimeZone = 'Asia/Shanghai'; \
         ALTER DATABASE {} SET IntervalStyle = 'postgres'; INSERT INTO wide VALUES (1, {})",
        columns.join(", "),
        database.name,
        database.name,
        database.name,
        values.join(", ")
    );
    hutong_testkit::launch::connect(&database.url).await.unwrap().batch_execute(&sql).await.unwrap();

    let url = Secret::new(&database.url);
    let drafted = postgres::draft(&url, "wide").await.unwrap();
    for (field, (name, _, ty, _)) in drafted.fields[1..].iter().zip(&table) {
        assert_eq!(field.ty, *ty, "{name}");
    }
    assert_eq!(Contract::parse(&drafted.to_avsc()).unwrap(), drafted);
    assert_eq!(drafted.fields[1].title(), "是否");
    let findings = postgres::compare(&url, "wide", &drafted).await.unwrap();
    assert!(findings.iter().all(|f| f.ok), "{findings:?}");

    let mut c = Capture::at(&database.url, &database.name, "SELECT 1", &[("wide", Arc::new(drafted))]).await;
    c.open().await;
    c.snapshot_done().await;
    c.sql(&format!("INSERT INTO wide VALUES (2, {})", values.join(", "))).await;
    c.catch_up().await;

    assert!(c.rejected().is_empty(), "{:?}", c.rejected());
    for row in c.rows("wide") {
        for ((name, _, _, expected), value) in table.iter().zip(&row[1..]) {
            assert_eq!(value, expected, "{name}");
        }
    }
    assert_eq!(c.rows("wide").len(), 2);
}

#[tokio::test]
async fn i6_what_cannot_be_carried_is_rejected_by_name() {
    let fields = vec![
        Field::new("id", Type::Int),
        Field::new("n", Type::Numeric),
        Field::new("d", Type::Date),
        Field::new("t", Type::TimestampTz),
        Field::new("a", Type::Array(Box::new(Type::Int))),
        Field::new("s", Type::Text { length: Some(2) }),
    ];
    let sql = "CREATE TABLE odd (id int PRIMARY KEY, n numeric, d date, t timestamptz, a int[], s text); \
               INSERT INTO odd (id, n) VALUES (1, 'NaN'), (2, 1)";
    let mut c = Capture::new(sql, &[("odd", contract("odd", 1, fields))]).await;
    c.open().await;
    c.snapshot_done().await;
    c.sql("INSERT INTO odd (id, d) VALUES (3, 'infinity'); INSERT INTO odd (id, d) VALUES (4, '0044-03-15 BC'); \
           INSERT INTO odd (id, t) VALUES (5, '-infinity'); INSERT INTO odd (id, a) VALUES (6, '{{1},{2}}'); \
           INSERT INTO odd (id, s) VALUES (7, '三个字'); UPDATE odd SET n = 'Infinity' WHERE id = 2; \
           DELETE FROM odd WHERE id = 1")
        .await;
    c.catch_up().await;

    let reasons: Vec<_> = c.rejected().iter().map(|r| r.reason.as_str()).collect();
    let columns: Vec<_> = reasons.iter().map(|r| &r[..11]).collect();
    assert_eq!(
        columns,
        [
            "column `n`:",
            "column `d`:",
            "column `d`:",
            "column `t`:",
            "column `a`:",
            "column `s`:",
            "column `n`:"
        ]
    );
    for (rejected, (id, op, refused)) in c.rejected().iter().zip([
        (1, "r", 1),
        (3, "c", 2),
        (4, "c", 2),
        (5, "c", 3),
        (6, "c", 4),
        (7, "c", 5),
        (2, "u", 1),
    ]) {
        let change = rejected.change.as_ref().unwrap();
        let row = change.after.as_ref().unwrap();
        assert_eq!((rejected.rule, change.op.letter()), ("not_carried", op));
        assert_eq!(row[0], Value::Integer(id), "I3: a person finds the row");
        let unknown: Vec<_> = (0..row.len()).filter(|field| row[*field].is_unknown()).collect();
        assert_eq!(unknown, [refused], "the rest of the row is told");
    }
    assert!(!reasons.join(" ").contains("三个字"), "a reason does not tell the value");
    assert_eq!(c.letters(), "rd");
}

#[tokio::test]
async fn i6_random_values_come_back_as_they_were() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let fields = vec![
        Field::new("id", Type::Int),
        Field::new("n", Type::Numeric),
        Field::new("f", Type::Double),
        Field::new("t", Type::TimestampTz),
        Field::new("s", Type::Text { length: None }),
        Field::new("b", Type::Bytes),
        Field::new("a", Type::Array(Box::new(Type::Text { length: None }))),
    ];
    let sql =
        "CREATE TABLE r (id int PRIMARY KEY, n numeric, f float8, t timestamptz, s text, b bytea, a text[])";
    let mut c = Capture::new(sql, &[("r", contract("r", 1, fields))]).await;
    let text = |random: &mut StdRng| -> String {
        let pool = ['a', '"', '\'', '\\', ',', '{', '}', ' ', '\n', '人', '𠮷', 'N', 'U', 'L'];
        (0..random.random_range(0..8)).map(|_| pool[random.random_range(0..pool.len())]).collect()
    };
    let mut expected = Vec::new();
    for id in 0..400i32 {
        let digits: String =
            (0..random.random_range(1..40)).map(|_| char::from(b'0' + random.random_range(0..10))).collect();
        let number = format!(
            "{}{}.{digits}",
            if random.random() { "-" } else { "" },
            random.random_range(0..999_999_999)
        );
        let float = loop {
            let float = f64::from_bits(random.random());
            if float.is_finite() {
                break float;
            }
        };
        let time: i64 = random.random_range(-62_135_596_800_000_000..253_402_300_800_000_000);
        let string = text(&mut random);
        let bytes: Vec<u8> = (0..random.random_range(0..20)).map(|_| random.random()).collect();
        let items: Vec<Option<String>> = (0..random.random_range(0..5))
            .map(|_| random.random_bool(0.8).then(|| text(&mut random)))
            .collect();
        let insert = "INSERT INTO r VALUES ($1, $2::text::numeric, $3, \
            'epoch'::timestamptz + ($4::int8 / 1000000) * interval '1 s' + ($4::int8 % 1000000) * interval '1 us', \
            $5, $6, $7)";
        c.client.execute(insert, &[&id, &number, &float, &time, &string, &bytes, &items]).await.unwrap();
        expected.push(vec![
            Value::Integer(id.into()),
            Value::Decimal(number.parse().unwrap()),
            Value::Double(float),
            Value::TimestampTz(time),
            Value::text(string),
            Value::Bytes(bytes.into()),
            Value::Array(items.into_iter().map(|item| item.map_or(Value::Null, Value::text)).collect()),
        ]);
        if id == 200 {
            c.open().await;
            c.snapshot_done().await;
        }
    }
    c.catch_up().await;
    let mut rows = c.rows("r");
    rows.sort_by_key(|row| match row[0] {
        Value::Integer(id) => id,
        _ => 0,
    });
    assert_eq!(rows.len(), expected.len());
    for (row, expected) in rows.iter().zip(&expected) {
        assert_eq!(row, expected);
    }
}

#[tokio::test]
async fn unchanged_large_values_are_complete() {
    let fields = |stream| {
        let text = || Type::Text { length: None };
        contract(
            stream,
            1,
            vec![Field::new("id", Type::Int), Field::new("n", Type::Int), Field::new("big", text())],
        )
    };
    let big = "(SELECT string_agg(md5(i::text), '') FROM generate_series(1, 500) i)";
    let columns = "(id int PRIMARY KEY, n int, big text)";
    let sql = format!(
        "CREATE TABLE d {columns}; CREATE TABLE f {columns}; ALTER TABLE f REPLICA IDENTITY FULL; \
         CREATE TABLE u {columns}; ALTER TABLE u ALTER id SET NOT NULL; CREATE UNIQUE INDEX u_key ON u (id); \
         ALTER TABLE u REPLICA IDENTITY USING INDEX u_key; \
         INSERT INTO d SELECT i, 0, {big} FROM generate_series(1, 3) i; INSERT INTO f SELECT * FROM d; \
         INSERT INTO u SELECT * FROM d"
    );
    let mut c = Capture::new(&sql, &[("d", fields("d")), ("f", fields("f")), ("u", fields("u"))]).await;
    c.open().await;
    c.snapshot_done().await;
    c.clear();

    for table in ["d", "f", "u"] {
        c.sql(&format!(
            "UPDATE {table} SET n = 1 WHERE id = 1; UPDATE {table} SET id = 9 WHERE id = 2; \
                        UPDATE {table} SET n = 2 WHERE id = 3"
        ))
        .await;
    }
    c.catch_up().await;

    let changes: Vec<_> = c.batches.iter().flat_map(|b| &b.changes).collect();
    assert_eq!(c.letters(), "udcuudcuudcu");
    for change in changes {
        if change.op != Op::Delete {
            let after = change.after.as_ref().unwrap();
            assert_eq!(after[2].as_text().map(str::len), Some(16_000), "{}", change.contract.stream);
        }
    }

    // A value that is gone again is not invented.
    c.clear();
    c.sql("BEGIN; UPDATE d SET n = 5 WHERE id = 1; DELETE FROM d WHERE id = 1; COMMIT").await;
    c.catch_up().await;
    let update = c.batches.iter().flat_map(|b| &b.changes).find(|c| c.op == Op::Update).unwrap();
    assert!(update.after.as_ref().unwrap()[2].is_unknown());
}

#[tokio::test]
async fn a_draft_gives_chinese_columns_wire_names() {
    let database = Postgres::shared().await.unwrap();
    let client = hutong_testkit::launch::connect(&database.url).await.unwrap();
    let sql = r#"CREATE TABLE "人口" ("身份 号码" char(18) PRIMARY KEY, c2 int, "姓名" varchar(50) NOT NULL, pay money,
        twice int GENERATED ALWAYS AS (c2 * 2) STORED, odd box[]);
        COMMENT ON TABLE "人口" IS '人口基础信息'; COMMENT ON COLUMN "人口"."姓名" IS '登记的姓名'"#;
    client.batch_execute(sql).await.unwrap();
    let url = Secret::new(&database.url);

    let mut contract = postgres::draft(&url, r#"public."人口""#).await.unwrap();

    let names: Vec<_> = contract.fields.iter().map(|f| (f.name.as_str(), f.column())).collect();
    assert_eq!(names, [("c1", "身份 号码"), ("c2", "c2"), ("c3", "姓名")]);
    assert_eq!(contract.key, [0]);
    assert_eq!((contract.title(), contract.fields[2].title()), ("人口基础信息", "登记的姓名"));
    assert!(!contract.fields[2].nullable && contract.fields[1].nullable);
    assert!(contract.doc.contains("pay, twice, odd"), "{}", contract.doc);
    assert_eq!(Contract::parse(&contract.to_avsc()).unwrap(), contract);

    let findings = postgres::compare(&url, "人口", &contract).await.unwrap();
    assert!(findings.iter().all(|f| f.ok));
    assert!(findings.iter().any(|f| f.what.contains("not sent") && f.what.contains("pay, twice, odd")), "I5");

    // Each difference is named.
    contract.fields[1].ty = Type::Date;
    contract.fields[2].column = Some("曾用名".into());
    contract.key = vec![1];
    for (name, ty) in [("pay", Type::Text { length: None }), ("twice", Type::Int)] {
        contract.fields.push(Field::new(name, ty));
    }
    let findings = postgres::compare(&url, "人口", &contract).await.unwrap();
    let bad: Vec<_> = findings.iter().filter(|f| !f.ok).map(|f| f.what.as_str()).collect();
    let told = [
        "`c2` of public.人口 is int4",
        "no column `曾用名`",
        "`pay`",
        "`twice`",
        "non-deferrable key (c2)",
        "replica identity",
    ];
    for (what, told) in bad.iter().zip(told) {
        assert!(what.contains(told), "{what}");
    }
    assert_eq!(bad.len(), told.len(), "{bad:?}");
}

/// A commit is flushed and streamed, but no other session sees it while its standby does not answer.
#[tokio::test]
async fn an_unchanged_large_value_is_not_read_from_before_its_transaction() {
    let text = Type::Text { length: None };
    let fields = vec![Field::new("id", Type::Int), Field::new("n", Type::Int), Field::new("big", text)];
    let big = |salt: &str| {
        format!("(SELECT string_agg(md5(i::text || '{salt}'), '') FROM generate_series(1, 500) i)")
    };
    let sql = format!(
        "CREATE TABLE d (id int PRIMARY KEY, n int, big text); INSERT INTO d VALUES (1, 0, {})",
        big("old")
    );
    let server = Postgres::start().await.unwrap();
    let mut c = Capture::at(&server.url(), "unseen", &sql, &[("d", contract("d", 1, fields))]).await;
    c.open().await;
    c.snapshot_done().await;
    c.clear();

    let held = hold_commits(&c, &server).await;
    let sql = format!(
        "BEGIN; UPDATE d SET big = {} WHERE id = 1; UPDATE d SET n = 1 WHERE id = 1; COMMIT",
        big("new")
    );
    let commit = held.batch_execute(&sql);
    let mut commit = std::pin::pin!(commit);
    let until = Instant::now() + Duration::from_millis(1500);
    while Instant::now() < until {
        tokio::select! {
            biased;
            _ = &mut commit => panic!("the commit waits for its standby"),
            _ = tokio::time::timeout(Duration::from_millis(200), c.next()) => {}
        }
    }
    let_commits_go(&c).await;
    commit.await.unwrap();
    c.catch_up().await;

    assert_eq!(c.letters(), "uu");
    let row = c.client.query_one("SELECT big FROM d", &[]).await.unwrap();
    let new: String = row.get(0);
    for change in c.batches.iter().flat_map(|b| &b.changes) {
        let told = change.after.as_ref().unwrap()[2].as_text().unwrap();
        assert!(told == new, "the value is of its transaction, and not older");
    }
}

#[tokio::test]
async fn a_large_transaction_of_what_cannot_be_carried_comes_in_bounded_batches() {
    let fields = vec![Field::new("id", Type::Int), Field::new("n", Type::Numeric)];
    let sql = "CREATE TABLE odd (id int PRIMARY KEY, n numeric)";
    let mut c = Capture::new(sql, &[("odd", contract("odd", 1, fields))]).await;
    c.config.limit.transaction_rows = 100;
    c.open_new().await;
    c.snapshot_done().await;
    c.sql("INSERT INTO odd SELECT i, CASE i WHEN 1 THEN 1 ELSE numeric 'NaN' END FROM generate_series(1, 1000) i")
        .await;
    c.catch_up().await;
    assert_eq!((c.letters().as_str(), c.rejected().len()), ("c", 999), "I3: each comes once");
    let largest = c.batches.iter().map(|b| b.changes.len() + b.rejected.len()).max();
    assert!(largest <= Some(101), "{largest:?}");
}
