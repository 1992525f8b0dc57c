//! Rows of SQL, row and outcome; and the problems that a person is told.

use proptest::prelude::*;

use super::*;
use crate::contract::{Field, Type};

fn contract() -> Contract {
    let text = r#"{"type":"record","name":"s","sharing":"unconditional","key":["id"],"fields":[{"name":"id","type":"string"}]}"#;
    let mut contract = Contract::parse(text).unwrap();
    let text = |length| Type::Text { length };
    contract.fields = vec![
        Field::new("id", text(Some(18))),
        Field { column: Some("姓名".into()), ..Field::new("xm", text(None)) },
        Field::new("age", Type::Int),
        Field::new("csrq", Type::Date),
        Field::new("fee", Type::Decimal { precision: 12, scale: 2 }),
        Field::new("gxsj", Type::Timestamp),
        Field::new("seen", Type::TimestampTz),
        Field::new("alive", Type::Boolean),
        Field::new("height", Type::Double),
        Field::new("photo", Type::Bytes),
        Field::new("state", Type::Enum { allowed: vec!["正常".into(), "注销".into()] }),
    ];
    contract
}

fn row() -> Vec<Value> {
    vec![
        Value::text("990101199003070015"),
        Value::text("张三"),
        Value::Integer(36),
        Value::Date(7370),
        Value::Decimal("9999.50".parse().unwrap()),
        Value::Timestamp(1_000_000),
        Value::TimestampTz(0),
        Value::Boolean(true),
        Value::Double(1.75),
        Value::Unknown,
        Value::Null,
    ]
}

#[test]
fn decides_rows() {
    use Truth::*;
    let rows = [
        ("xm = '张三'", True),
        ("\"姓名\" = '张三'", True),
        ("姓名 <> '张三'", False),
        ("XM = '张三'", True),
        ("id LIKE '9901%' AND age >= 18", True),
        ("id NOT LIKE '%5'", False),
        ("age < 36.5 AND age > 35.5 AND 36 = age", True),
        ("age = 36.5", False),
        ("age IN (1, 36, 99)", True),
        ("age NOT IN (1, 2.5)", True),
        ("age IN (2.5)", False),
        ("age BETWEEN -1 AND 36", True),
        ("age NOT BETWEEN 1 AND 40", False),
        ("csrq >= '1990-01-01' and csrq < DATE '1991-01-01'", True),
        ("fee > 9999.49 AND fee < 9999.51 AND fee = 9999.5", True),
        ("gxsj = TIMESTAMP '1970-01-01 00:00:01'", True),
        ("gxsj > '1970-01-01'", True),
        ("seen = '1970-01-01 08:00:00+08:00'", True),
        ("seen < TIMESTAMPTZ '1970-01-01 00:00:00.000001Z'", True),
        ("alive = TRUE", True),
        ("NOT (alive = FALSE)", True),
        ("height > 1.7 AND height <= 1.75", True),
        // NULL is three-valued.
        ("state = '正常'", Null),
        ("NOT (state = '正常')", Null),
        ("state IN ('正常', '注销')", Null),
        ("state = '正常' OR age = 36", True),
        ("state = '正常' AND age = 1", False),
        ("state IS NULL", True),
        ("state IS NOT NULL", False),
        ("age IS NULL", False),
        // The unknown decides nothing, unless the other side does.
        ("photo IS NULL", Unknown),
        ("photo IS NULL AND age = 1", False),
        ("photo IS NULL OR age = 36", True),
        ("NOT (photo IS NULL)", Unknown),
        ("photo IS NULL AND state = '正常'", Unknown),
        ("(age = 1 OR age = 36) AND (xm LIKE '张_' OR xm LIKE '李!_' ESCAPE '!')", True),
    ];
    for (sql, expected) in rows {
        let filter = Filter::compile(sql, &contract()).unwrap_or_else(|p| panic!("{sql}: {p:?}"));
        assert_eq!(filter.matches(&row()), expected, "{sql}");
    }
}

#[test]
fn i5_a_value_of_another_type_is_not_let_through() {
    for sql in ["age = 36", "age IN (36)", "age <> 1", "id LIKE '%'"] {
        let filter = Filter::compile(sql, &contract()).unwrap();
        assert_eq!(filter.matches(&vec![Value::Boolean(true); 11]), Truth::Unknown, "{sql}");
        assert_eq!(filter.matches(&[]), Truth::Unknown, "{sql}");
    }
}

#[test]
fn says_what_is_wrong_and_where() {
    let rows = [
        ("csqr = '1990-01-01'", "no column `csqr`", "csqr", "did you mean `csrq`?"),
        ("csrq > 1990", "a date and is compared with a number", "1990", "DATE '"),
        ("age = '36'", "an int and is compared with a text", "'36'", "without quotes"),
        ("xm = 5", "a text and is compared with a number", "5", "write '5'"),
        ("age LIKE '3%'", "LIKE compares texts", "age", ""),
        ("height = 1.75", "never exactly equal", "1.75", "BETWEEN"),
        ("csrq = '1990-02-30'", "not exactly a date", "'1990-02-30'", "DATE '"),
        ("seen > TIMESTAMP '1990-01-01 00:00:00'", "needs its offset", "", "+08:00"),
        ("photo = 'x'", "cannot compare it", "'x'", "IS NULL"),
        ("state = '注消'", "never holds", "'注消'", "did you mean '注销'?"),
        ("state > '正常'", "no order", "'正常'", "IN"),
        ("alive", "alone is no condition", "alive", "= TRUE"),
        ("TRUE", "alone is no condition", "TRUE", ""),
        ("xm = NULL", "never true", "", "IS NULL"),
        ("age IN (1, NULL)", "NOT IN", "NULL", ""),
        ("xm = id", "columns with each other", "xm = id", ""),
        ("1 = 1", "compares no column", "1 = 1", ""),
        ("csrq > now()", "the function `now`", "now", "may not depend on when"),
        ("csrq > current_date", "current_date", "", "may not depend on when"),
        ("age + 1 > 2", "the operator `+`", "age + 1", "a row filter knows"),
        ("age IN (SELECT 1)", "a subquery", "", "a row filter knows"),
        ("age > (SELECT 1)", "a subquery", "", ""),
        ("EXISTS (SELECT 1)", "a subquery", "", ""),
        ("xm ILIKE 'a'", "ILIKE", "", ""),
        ("xm ~ 'a'", "the operator `~`", "", ""),
        ("s.xm = 'a'", "a name with a point", "s.xm", ""),
        ("age::text = '1'", "a cast", "", ""),
        ("lower(xm) = 'a'", "the function `lower`", "", ""),
        ("age = 1e3", "plain digits", "1e3", "write it out"),
        ("xm LIKE 'a\\_'", "backslash", "'a\\_'", "ESCAPE"),
        ("xm = 'a' xm", "ends before `xm`", "xm", ""),
        ("xm = 'a'; DROP TABLE s", "ends before `;`", ";", ""),
        ("xm =", "not a condition", "", ""),
        ("xm = 'a", "nterminated string", "'", ""),
        ("", "is empty", "", "leave it out"),
        ("xm = E'a'", "not allowed", "", ""),
    ];
    for (sql, says, at, hint) in rows {
        let problems = Filter::compile(sql, &contract()).unwrap_err();
        let [problem] = &problems[..] else { panic!("{sql}: {problems:?}") };
        assert!(problem.message.contains(says), "{sql}: {problem:?}");
        assert!(problem.hint.as_deref().unwrap_or_default().contains(hint), "{sql}: {problem:?}");
        if !at.is_empty() {
            assert_eq!(problem.span.clone().map(|span| &sql[span]), Some(at), "{sql}: {problem:?}");
        }
    }
}

#[test]
fn tells_all_problems_at_once_with_their_places() {
    let sql = "姓名 = 5\n  AND age = '1' OR nmae = 'x' AND csrq BETWEEN 1 AND 2";
    let problems = Filter::compile(sql, &contract()).unwrap_err();
    let places: Vec<_> = problems.iter().map(|p| &sql[p.span.clone().unwrap()]).collect();
    assert_eq!(places, ["5", "'1'", "nmae", "1", "2"]);
}

#[test]
fn a_long_or_deep_condition_is_refused_or_decided_but_never_exhausts_the_stack() {
    let contract = contract();
    let long = |count: usize| vec!["age = 1"; count].join(" OR ");
    assert_eq!(Filter::compile(&long(1000), &contract).unwrap().matches(&row()), Truth::False);
    assert!(Filter::compile(&long(1002), &contract).is_err());
    assert!(Filter::compile(&format!("{}age = 1{}", "(".repeat(5000), ")".repeat(5000)), &contract).is_err());
    assert!(Filter::compile(&format!("{} age = 1", "NOT ".repeat(5000)), &contract).is_err());
    assert!(Filter::compile(&format!("{} age = 1", "- ".repeat(5000)), &contract).is_err());
    let (open, close) = (format!("{}(", "INTERVAL ".repeat(10)).repeat(100), ")".repeat(100));
    assert!(Filter::compile(&format!("{open}age = 1{close}"), &contract).is_err());
    let (open, close) = ("NOT (".repeat(10), ")".repeat(10));
    assert_eq!(
        Filter::compile(&format!("{open}age = 36{close}"), &contract).unwrap().matches(&row()),
        Truth::True
    );
}

#[test]
fn writes_sql_that_no_collation_can_change() {
    let rows = [
        (
            "xm > 'it''s'",
            r#"CAST("姓名" AS text) COLLATE "C" > 'it''s'"#,
            r#""姓名" COLLATE BINARY > 'it''s'"#,
        ),
        (
            "xm LIKE '张%'",
            r#"CAST("姓名" AS text) COLLATE "C" LIKE '张%' ESCAPE '\'"#,
            r#""姓名" COLLATE BINARY GLOB '张*'"#,
        ),
        ("csrq = '1990-03-07'", r#""csrq" = DATE '1990-03-07'"#, r#""csrq" COLLATE BINARY = '1990-03-07'"#),
        (
            "gxsj < '1990-03-07 08:00'",
            r#""gxsj" < TIMESTAMP '1990-03-07 08:00:00.000000'"#,
            r#""gxsj" COLLATE BINARY < '1990-03-07 08:00:00.000000'"#,
        ),
        ("NOT age IN (2, 1)", r#"(NOT "age" IN (1, 2))"#, r#"(NOT "age" IN (1, 2))"#),
        (
            "alive = TRUE AND age IS NULL",
            r#"("alive" = TRUE AND "age" IS NULL)"#,
            r#"("alive" = 1 AND "age" IS NULL)"#,
        ),
    ];
    for (sql, postgres, sqlite) in rows {
        let filter = Filter::compile(sql, &contract()).unwrap();
        assert_eq!(filter.to_sql(Dialect::Postgres).unwrap(), postgres);
        assert_eq!(filter.to_sql(Dialect::Sqlite).unwrap(), sqlite);
    }
    assert!(Filter::compile("fee > 1", &contract()).unwrap().to_sql(Dialect::Sqlite).is_err());
}

#[test]
fn tells_the_columns_that_it_looks_at() {
    let filter = Filter::compile("csrq IS NULL OR (xm = 'a' AND csrq > '1990-01-01')", &contract()).unwrap();
    assert_eq!(filter.columns(), [1, 3]);
}

proptest! {
    #[test]
    fn never_panics_on_odd_text(sql in "\\PC{0,60}") {
        let _ = Filter::compile(&sql, &contract());
    }

    #[test]
    fn never_panics_on_odd_conditions(words in proptest::collection::vec(
        proptest::sample::select(vec!["xm", "age", "=", "<", "(", ")", "AND", "OR", "NOT", "IN", "BETWEEN", "LIKE", "'张'", "1", "-",
            "IS", "NULL", ",", "DATE", "'1990-01-01'", "ESCAPE", "'!'", "\n", "csrq", "TRUE"]), 0..12)) {
        if let Err(problems) = Filter::compile(&words.join(" "), &contract()) {
            prop_assert!(!problems.is_empty());
        }
    }

    #[test]
    fn i6_integers_compare_with_decimals_as_decimals_do(value in -30i64..30, tenths in -300i64..300, operator in 0usize..6) {
        let operator = ["=", "<>", "<", "<=", ">", ">="][operator];
        let number = format!("{}{}.{}", if tenths < 0 { "-" } else { "" }, tenths.abs() / 10, tenths.abs() % 10);
        let decide = |column: &str| Filter::compile(&format!("{column} {operator} {number}"), &contract()).unwrap();
        let mut row = row();
        row[2] = Value::Integer(value);
        row[4] = Value::Decimal(value.into());
        prop_assert_eq!(decide("age").matches(&row), decide("fee").matches(&row));
        let expected = Comparison::holds(match operator {
            "=" => Comparison::Equal, "<>" => Comparison::NotEqual, "<" => Comparison::Less,
            "<=" => Comparison::LessOrEqual, ">" => Comparison::Greater, _ => Comparison::GreaterOrEqual,
        }, (value * 10).cmp(&tenths));
        prop_assert_eq!(decide("age").matches(&row), Truth::from(expected));
    }
}
