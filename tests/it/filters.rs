//! Row filters against two databases: what `Filter::matches` says of a row is what PostgreSQL says of the written
//! condition, and what PostgreSQL and SQLite say of `Filter::to_sql`.

use hutong_core::contract::{Field, Type};
use hutong_core::filter::{Dialect, Filter};
use hutong_core::{Contract, Truth, Value};
use hutong_testkit::launch::{Postgres, connect};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rusqlite::Connection;

use crate::installation::seed;

const ROWS: usize = 150;
const FILTERS: usize = 300;

/// Texts that databases and people take for something else, without quotes in need of doubling.
const TEXTS: [&str; 19] = [
    "",
    "a",
    "A",
    "ab",
    "aB",
    "张",
    "张三",
    "a%",
    "a_",
    "a*",
    "a?",
    "[",
    "a\\",
    "é",
    " a",
    "a ",
    "a\nb",
    "\u{e000}",
    "\u{10ffff}",
];
const PATTERNS: [&str; 16] =
    ["%", "_", "a%", "%a", "a!%", "a!_", "a*", "a?%", "[%", "张_", "%三", "A_", "!!", "", "_%_", "%\\"];
const NUMBERS: [&str; 10] = [
    "-2",
    "-1.5",
    "0",
    "0.5",
    "1",
    "1.0",
    "2",
    "9007199254740993",
    "9223372036854775807",
    "99999999999999999999",
];
const DATES: [&str; 4] = ["1969-12-31", "1970-01-01", "1970-01-02", "2026-02-28"];
const DECIMALS: [&str; 5] = ["0.1", "0.50", "-0.3", "0", "99999999.99"];
/// Of these, no double is equal to the last three. PostgreSQL rounds such a literal to a double first, a filter
/// compares exactly: there, only `to_sql` must agree.
const DOUBLES: [&str; 5] = ["0", "0.5", "0.1", "-0.3", "100000000000000000000001"];
const COMPARISONS: [&str; 6] = ["=", "<>", "<", "<=", ">", ">="];

/// Two names, each in either case.
const UUIDS: [&str; 4] = [
    "0d6cbd20-2ae2-4b0b-9a51-9e4a7e0f7f5a",
    "0D6CBD20-2AE2-4B0B-9A51-9E4A7E0F7F5A",
    "0d6cbd20-2ae2-4b0b-9a51-9e4a7e0f7f5b",
    "0D6cbd20-2ae2-4B0B-9a51-9e4a7e0f7f5B",
];

/// Microseconds of a day, and their texts.
const TIMES: [(i64, &str); 3] =
    [(0, "00:00:00.000000"), (43_200_000_000, "12:00:00.000000"), (86_399_999_999, "23:59:59.999999")];
/// Microseconds since 1970, and their texts.
const MOMENTS: [(i64, &str); 4] = [
    (500_000, "1970-01-01 00:00:00.500000"),
    (-500_000, "1969-12-31 23:59:59.500000"),
    (500_001, "1970-01-01 00:00:00.500001"),
    (0, "1970-01-01 00:00:00.000000"),
];

/// The table in each dialect: `n` is not asked of SQLite, which cannot compare decimals.
const POSTGRES: &str = r#"CREATE TABLE r (id int PRIMARY KEY, t text COLLATE "C", i bigint, d date, b boolean,
    f double precision, n numeric(10,2), m time, ts timestamp, z timestamptz, u uuid, v text)"#;
const SQLITE: &str = "CREATE TABLE r (id INTEGER PRIMARY KEY, t TEXT, i BIGINT, d DATE, b BOOLEAN, f DOUBLE,
    n DECIMAL TEXT(10,2), m TIME, ts TIMESTAMP, z TIMESTAMPTZ, u UUID TEXT, v UUID TEXT)";

fn contract() -> Contract {
    let text = r#"{"type": "record", "name": "s", "sharing": "unconditional", "key": ["id"],
        "fields": [{"name": "id", "type": "int"}]}"#;
    let mut contract = Contract::parse(text).unwrap();
    let types = [
        ("t", Type::Text { length: None }),
        ("i", Type::Long),
        ("d", Type::Date),
        ("b", Type::Boolean),
        ("f", Type::Double),
        ("n", Type::Decimal { precision: 10, scale: 2 }),
        ("m", Type::Time),
        ("ts", Type::Timestamp),
        ("z", Type::TimestampTz),
        ("u", Type::Uuid),
        // In a text column, where a database by itself would tell the cases apart.
        ("v", Type::Uuid),
    ];
    contract.fields.extend(types.map(|(name, ty)| Field::new(name, ty)));
    contract
}

/// Makes a value with its text as SQL; one in eight is NULL.
fn cell(random: &mut StdRng, column: usize) -> (Value, String) {
    if random.random_ratio(1, 8) {
        return (Value::Null, "NULL".into());
    }
    let quoted = |text: &str| format!("'{text}'");
    match column {
        0 => {
            let text = TEXTS.choose(random).unwrap();
            (Value::text(*text), quoted(text))
        }
        1 => {
            let number =
                *[-2, -1, 0, 1, 2, 9_007_199_254_740_993, i64::MAX, i64::MIN + 1].choose(random).unwrap();
            (Value::Integer(number), number.to_string())
        }
        2 => {
            let at = random.random_range(0..DATES.len());
            (Value::Date([-1, 0, 1, 20_512][at]), quoted(DATES[at]))
        }
        3 => {
            let truth = random.random_bool(0.5);
            (Value::Boolean(truth), truth.to_string())
        }
        4 => {
            let number = *[0.1, 0.5, -0.3, 0.0, 0.099_999, 1e23, 1e300].choose(random).unwrap();
            (Value::Double(number), format!("{number:e}"))
        }
        5 => {
            let text = *["0.10", "0.50", "-0.30", "0.09", "99999999.99"].choose(random).unwrap();
            (Value::Decimal(text.parse().unwrap()), text.into())
        }
        6 => {
            let (micros, text) = *TIMES.choose(random).unwrap();
            (Value::Time(micros), quoted(text))
        }
        7 => {
            let (micros, text) = *MOMENTS.choose(random).unwrap();
            (Value::Timestamp(micros), quoted(text))
        }
        8 => {
            let (micros, text) = *MOMENTS.choose(random).unwrap();
            (Value::TimestampTz(micros), quoted(&format!("{text}Z")))
        }
        _ => {
            let text = UUIDS.choose(random).unwrap();
            (Value::text(*text), quoted(text))
        }
    }
}

fn leaf(random: &mut StdRng) -> String {
    let comparison = *COMPARISONS.choose(random).unwrap();
    let order = *COMPARISONS[2..].choose(random).unwrap();
    let mut one = |list: &[&'static str]| *list.choose(random).unwrap();
    let (text, other) = (one(&TEXTS), one(&TEXTS));
    let (number, more) = (one(&NUMBERS), one(&NUMBERS));
    let uuid = one(&UUIDS);
    match random.random_range(0..16) {
        0 | 1 => format!("t {comparison} '{text}'"),
        2 => format!("t LIKE '{}' ESCAPE '!'", PATTERNS.choose(random).unwrap()),
        3 => format!("t NOT IN ('{text}', '{other}')"),
        4 => format!("i {comparison} {number}"),
        5 => format!("i BETWEEN {number} AND {more}"),
        6 => format!("i IN ({number}, {more})"),
        7 => format!("d {comparison} DATE '{}'", DATES.choose(random).unwrap()),
        8 => {
            (*["b = TRUE", "b <> TRUE", "i IS NULL", "t IS NOT NULL", "b IN (TRUE)"].choose(random).unwrap())
                .into()
        }
        9 => format!("f {order} {}", DOUBLES.choose(random).unwrap()),
        10 => format!("n {comparison} {}", DECIMALS.choose(random).unwrap()),
        11 => format!("m {comparison} TIME '{}'", TIMES.choose(random).unwrap().1),
        12 => format!("ts {comparison} TIMESTAMP '{}'", MOMENTS.choose(random).unwrap().1),
        14 => format!("u {} '{uuid}'", ["=", "<>"][usize::from(comparison == "=")]),
        15 => format!("v IN ('{uuid}', '{}')", UUIDS[0]),
        _ => format!("z {comparison} TIMESTAMPTZ '{}Z'", MOMENTS.choose(random).unwrap().1),
    }
}

fn condition(random: &mut StdRng, depth: u32) -> String {
    match random.random_range(0..if depth == 0 { 1 } else { 5 }) {
        0 | 1 => leaf(random),
        2 => format!("({} AND {})", condition(random, depth - 1), condition(random, depth - 1)),
        3 => format!("({} OR {})", condition(random, depth - 1), condition(random, depth - 1)),
        _ => format!("NOT ({})", condition(random, depth - 1)),
    }
}

/// States whether PostgreSQL takes every literal of a written condition for what it is.
fn exact(written: &str) -> bool {
    let rounded =
        |comparison: &&str| DOUBLES[2..].iter().any(|n| written.contains(&format!("f {comparison} {n}")));
    // A text column knows nothing of UUIDs: there, too, only `to_sql` must agree.
    !COMPARISONS.iter().any(rounded) && !written.contains("v IN")
}

fn truth(held: Option<bool>) -> Truth {
    held.map_or(Truth::Null, Truth::from)
}

#[tokio::test]
async fn i5_a_filter_decides_as_postgresql_and_sqlite_do() {
    let mut random = StdRng::seed_from_u64(seed());
    let (contract, mut rows) = (contract(), Vec::new());
    let mut inserts = String::new();
    for id in 0..ROWS {
        let (mut row, mut sql) = (vec![Value::Integer(id as i64)], id.to_string());
        for column in 0..contract.fields.len() - 1 {
            let (value, text) = cell(&mut random, column);
            row.push(value);
            sql.push_str(&format!(", {text}"));
        }
        rows.push(row);
        inserts.push_str(&format!("INSERT INTO r VALUES ({sql});\n"));
    }
    let postgres = connect(&Postgres::shared().await.unwrap().url).await.unwrap();
    postgres
        .batch_execute(&format!("SET TimeZone = 'UTC'; {POSTGRES}; BEGIN; {inserts} COMMIT"))
        .await
        .unwrap();
    let sqlite = Connection::open_in_memory().unwrap();
    sqlite.execute_batch(&format!("{SQLITE}; {inserts}")).unwrap();

    let mut refused = 0;
    for _ in 0..FILTERS {
        let written = condition(&mut random, 3);
        let filter =
            Filter::compile(&written, &contract).unwrap_or_else(|problems| panic!("{written}: {problems:?}"));
        let ours: Vec<Truth> = rows.iter().map(|row| filter.matches(row)).collect();
        let ask = async |condition: &str| -> Vec<Truth> {
            let query = format!("SELECT ({condition})::boolean FROM r ORDER BY id");
            let answer =
                postgres.query(&query, &[]).await.unwrap_or_else(|error| panic!("{query}: {error:?}"));
            answer.iter().map(|row| truth(row.get(0))).collect()
        };
        if exact(&written) {
            assert_same(&written, "PostgreSQL", &written, &ours, &ask(&written).await, &rows);
        }
        let sql = filter.to_sql(Dialect::Postgres).unwrap();
        assert_same(&written, "PostgreSQL", &sql, &ours, &ask(&sql).await, &rows);
        let Ok(sql) = filter.to_sql(Dialect::Sqlite) else {
            assert!(written.contains("n "), "SQLite compares all but decimals: {written}");
            refused += 1;
            continue;
        };
        let mut statement = sqlite.prepare(&format!("SELECT ({sql}) FROM r ORDER BY id")).unwrap();
        let answer = statement.query_map([], |row| Ok(truth(row.get(0)?))).unwrap();
        let held = answer.collect::<Result<Vec<_>, _>>().unwrap();
        assert_same(&written, "SQLite", &sql, &ours, &held, &rows);
    }
    assert!(refused < FILTERS / 2, "most filters are asked of SQLite too");
}

#[track_caller]
fn assert_same(
    written: &str,
    system: &str,
    asked: &str,
    ours: &[Truth],
    theirs: &[Truth],
    rows: &[Vec<Value>],
) {
    assert_eq!(ours.len(), theirs.len());
    for (at, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        assert_eq!(ours, theirs, "{written}\n{system} was asked: {asked}\nof the row {:?}", rows[at]);
    }
}
