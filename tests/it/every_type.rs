//! A table with a column of every type that PostgreSQL can tell, and the texts that its replicas must hold.

/// How SQLite keeps a value, so that the two sides can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// A text or an integer, compared as a text.
    Text,
    /// A binary number.
    Real,
    /// A JSON document, compared by its meaning.
    Json,
}

/// A column: its name, its type, values worth carrying, and the SQL of the text that SQLite keeps (`$` is the column).
pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) ty: &'static str,
    pub(crate) values: &'static [&'static str],
    pub(crate) sqlite: &'static str,
    pub(crate) kept: Kept,
}

impl Column {
    /// Returns the SQL of the text of what a replica in PostgreSQL keeps.
    pub(crate) fn postgres(&self) -> String {
        let sql = match self.name {
            // inet's cast to text adds the length of the network.
            "ip" => WRITTEN,
            // Trailing blanks of char are padding.
            "a_c" => "$::text[]::text",
            _ => TEXT,
        };
        sql.replace('$', self.name)
    }
}

const fn column(
    name: &'static str,
    ty: &'static str,
    values: &'static [&'static str],
    kept: Kept,
    sqlite: &'static str,
) -> Column {
    Column { name, ty, values, sqlite, kept }
}

const TIME: &str =
    "to_char($, 'HH24:MI:SS') || CASE WHEN to_char($, 'US') = '000000' THEN '' ELSE to_char($, '.US') END";
const TIMESTAMP: &str = "to_char($, 'YYYY-MM-DD HH24:MI:SS') || CASE WHEN to_char($, 'US') = '000000' THEN '' ELSE to_char($, '.US') END";
const TIMESTAMPTZ: &str = "to_char($, 'YYYY-MM-DD HH24:MI:SS') || CASE WHEN to_char($, 'US') = '000000' THEN '' ELSE to_char($, '.US') END || 'Z'";
const TEXT: &str = "$::text";
/// The text as it is written, where the cast to text says more.
pub(crate) const WRITTEN: &str = "to_json($) #>> '{}'";
/// An array whose items are texts in JSON.
const TEXTS: &str = "to_json($::text[])::text";
/// An array whose items are JSON's own.
const ITEMS: &str = "to_json($)::text";

/// What the table's types need.
pub(crate) const TYPES: &str = "
    CREATE TYPE state AS ENUM ('正常', '死亡', 'it''s \"moved\", {away}');
    CREATE DOMAIN amount AS numeric(6,3) CHECK (VALUE > -500);
    CREATE DOMAIN label AS varchar(20);
    CREATE TYPE pair AS (n int, t text);";

/// Every column but the key.
pub(crate) const COLUMNS: &[Column] = &[
    column("b", "boolean", &["true", "false"], Kept::Text, "$::int::text"),
    column("i2", "smallint", &["-32768", "32767", "0"], Kept::Text, TEXT),
    column("i4", "integer", &["-2147483648", "2147483647"], Kept::Text, TEXT),
    column("i8", "bigint", &["-9223372036854775808", "9223372036854775807"], Kept::Text, TEXT),
    column("o", "oid", &["0", "4294967295"], Kept::Text, TEXT),
    column("f4", "real", &["0.1", "-Infinity", "3.4028235e38", "1e-45"], Kept::Real, "$::float8::text"),
    column(
        "f8",
        "double precision",
        &["0.1", "5e-324", "1.7976931348623157e308", "Infinity"],
        Kept::Real,
        TEXT,
    ),
    column("money_like", "numeric(12,2)", &["-9999999999.99", "0.10", "0"], Kept::Text, TEXT),
    column(
        "n",
        "numeric",
        &["1.500", "123456789012345678901234567890.123456789", "-0.0000001", "1e30"],
        Kept::Text,
        TEXT,
    ),
    column(
        "n_tiny",
        "numeric(40,30)",
        &["0.000000000000000000000000000001", "-1234567890.5"],
        Kept::Text,
        TEXT,
    ),
    column("t", "text", &["", "人口基础信息", "a\tb\r\n\"'\\,{}", "𠀀🀄", "NULL", "\\N"], Kept::Text, TEXT),
    column("nm", "name", &["a_name", "名"], Kept::Text, TEXT),
    column("v", "varchar(6)", &["六个字的文本", " x ", ""], Kept::Text, TEXT),
    column("c", "char(6)", &["99", "990101", ""], Kept::Text, TEXT),
    column("by", "bytea", &["\\x", "\\x00ff5c27"], Kept::Text, TEXT),
    column("da", "date", &["0001-01-01", "9999-12-31", "1970-01-01", "2024-02-29"], Kept::Text, TEXT),
    column("ti", "time", &["00:00:00", "23:59:59.999999", "24:00:00", "12:00:00.5"], Kept::Text, TIME),
    column(
        "ts",
        "timestamp",
        &["0001-01-01 00:00:00", "9999-12-31 23:59:59.999999", "1969-12-31 23:59:59.9"],
        Kept::Text,
        TIMESTAMP,
    ),
    column(
        "tz",
        "timestamptz",
        &["0001-01-01 00:00:00+00", "9999-12-31 23:59:59.999999+00", "2026-01-01 08:00:00.000001+08"],
        Kept::Text,
        TIMESTAMPTZ,
    ),
    column("ttz", "timetz", &["12:34:56.789+08", "00:00:00-15:59"], Kept::Text, TEXT),
    column(
        "iv",
        "interval",
        &["1 year 2 mons -3 days 04:05:06.789", "-1 day", "0", "178000000 years"],
        Kept::Text,
        TEXT,
    ),
    column(
        "js",
        "json",
        &["{\"b\": 1,  \"a\":[null, 1.50]}", "null", "\"文\"", "12345678901234567890.10"],
        Kept::Text,
        TEXT,
    ),
    column("jb", "jsonb", &["{\"b\": 1, \"a\":[null, 1.50]}", "[]", "1e2"], Kept::Text, TEXT),
    column(
        "u",
        "uuid",
        &["00000000-0000-0000-0000-000000000000", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"],
        Kept::Text,
        TEXT,
    ),
    column("e", "state", &["正常", "死亡", "it's \"moved\", {away}"], Kept::Text, TEXT),
    column("dn", "amount", &["-499.999", "999.5"], Kept::Text, TEXT),
    column("dt", "label", &["标签", ""], Kept::Text, TEXT),
    column("ip", "inet", &["10.0.0.1/8", "2001:db8::1", "192.168.0.1"], Kept::Text, WRITTEN),
    column("net", "cidr", &["10.0.0.0/8", "2001:db8::/32"], Kept::Text, TEXT),
    column("mac", "macaddr", &["08:00:2b:01:02:03"], Kept::Text, TEXT),
    column("x", "xml", &["<a>人</a>"], Kept::Text, TEXT),
    column("bits", "bit(5)", &["10101", "00000"], Kept::Text, TEXT),
    column("varbits", "varbit", &["1", ""], Kept::Text, TEXT),
    column("span", "int4range", &["[1,5)", "empty", "(,3)"], Kept::Text, TEXT),
    column("pt", "point", &["(1.5,-2)"], Kept::Text, TEXT),
    column("search", "tsvector", &["'a':1 'b':2"], Kept::Text, TEXT),
    column("co", "pair", &["(1,\"a b\")", "(,)"], Kept::Text, TEXT),
    column("a_b", "boolean[]", &["{t,f,NULL}", "{}"], Kept::Json, ITEMS),
    column("a_i", "integer[]", &["{1,-2147483648,NULL}", "{}"], Kept::Json, ITEMS),
    column("a_l", "bigint[]", &["{9223372036854775807}"], Kept::Json, ITEMS),
    column("a_f", "double precision[]", &["{0.1,5e-324,NULL}"], Kept::Json, ITEMS),
    column("a_d", "numeric(6,2)[]", &["{1.10,NULL,-9999.99}"], Kept::Json, TEXTS),
    column("a_t", "text[]", &["{\"a,b\",\"\\\"\\\\\",NULL,\"NULL\",文,\"\"}", "{}"], Kept::Json, TEXTS),
    column("a_c", "char(3)[]", &["{a,bbb}"], Kept::Json, TEXTS),
    column("a_e", "state[]", &["{正常,NULL}"], Kept::Json, TEXTS),
    column("a_u", "uuid[]", &["{00000000-0000-0000-0000-000000000001}"], Kept::Json, TEXTS),
    column("a_da", "date[]", &["{0001-01-01,NULL,9999-12-31}"], Kept::Json, TEXTS),
    column(
        "a_tz",
        "timestamptz[]",
        &["{\"2026-01-01 08:00:00+08\",NULL}"],
        Kept::Json,
        "(SELECT json_agg(to_char(i, 'YYYY-MM-DD HH24:MI:SS') || 'Z') FROM unnest($) i)::text",
    ),
    column("a_iv", "interval[]", &["{\"1 day\",-00:00:01}"], Kept::Json, TEXTS),
    column(
        "a_by",
        "bytea[]",
        &["{\"\\\\x00ff\",NULL}"],
        Kept::Json,
        "(SELECT json_agg(encode(i, 'hex')) FROM unnest($) i)::text",
    ),
    column("a_js", "json[]", &["{\"{\\\"a\\\": 1}\"}"], Kept::Json, TEXTS),
    column("a_ip", "inet[]", &["{10.0.0.1,NULL}"], Kept::Json, ITEMS),
];

/// Returns the SQL that creates the table.
pub(crate) fn table() -> String {
    let columns: String = COLUMNS.iter().map(|c| format!(", {} {}", c.name, c.ty)).collect();
    format!("{TYPES} CREATE TABLE every_type (id bigint PRIMARY KEY{columns});")
}

/// Returns the literal of a column's n-th value; every seventh is NULL.
fn literal(column: &Column, n: usize) -> String {
    if n % 7 == 6 {
        return "NULL".into();
    }
    let value = column.values[n % column.values.len()].replace('\'', "''");
    format!("'{value}'::{}", column.ty)
}

/// Returns the SQL that inserts a row with the n-th values.
pub(crate) fn insert(id: usize, n: usize) -> String {
    let values: String =
        COLUMNS.iter().enumerate().map(|(i, c)| format!(", {}", literal(c, n + i))).collect();
    format!("INSERT INTO every_type VALUES ({id}{values}) ON CONFLICT DO NOTHING")
}

/// Returns the SQL that changes three columns of a row.
pub(crate) fn update(id: usize, n: usize) -> String {
    let set = [n, n + 17, n + 31].map(|at| {
        let column = &COLUMNS[at % COLUMNS.len()];
        format!("{} = {}", column.name, literal(column, n))
    });
    format!("UPDATE every_type SET {} WHERE id = {id}", set.join(", "))
}
