//! SQLite as a sink and as a source, over real files.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use hutong_core::{Batch, Contract, Row, Sink, Source, Type, Value};
use hutong_stores::sqlite::{self, Captured, Limits, SinkConfig, SourceConfig, Store};
use hutong_testkit::conformance::{
    BATCH_LIMIT, CHUNK_LIMIT, Fate, Features, Seen, SinkSite, SourceSite, Write, lane, values,
};
use rusqlite::types::{Value as Stored, ValueRef};
use rusqlite::{Connection, params_from_iter};
use serde_json::Value as Json;
use tempfile::TempDir;

/// A file with one table.
struct Office {
    folder: TempDir,
    contract: Arc<Contract>,
}

impl Office {
    fn new(contract: &Arc<Contract>) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), contract: Arc::clone(contract) }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("office.db")
    }

    fn db(&self) -> Connection {
        let db = Connection::open(self.path()).unwrap();
        db.busy_timeout(Duration::from_secs(10)).unwrap();
        db
    }

    fn count(&self, sql: &str) -> u64 {
        self.db().query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap() as u64
    }

    fn taken(&self) -> u64 {
        self.count("SELECT coalesce(sum(changes), 0) FROM hutong_receipt")
    }
}

/// A file that sinks write.
struct Replica(Office);

impl SinkSite for Replica {
    async fn fresh(contract: &Arc<Contract>) -> Self {
        Self(Office::new(contract))
    }

    fn sink(&self) -> Box<dyn Sink> {
        Box::new(sqlite::Sink::new(SinkConfig {
            // Each with a writer of its own, as if it were another program.
            store: Arc::new(Store::new(self.0.path())),
            lane: lane(),
            table: self.0.contract.stream.clone(),
            grant: "g".into(),
            partitions: None,
            number: None,
            quarantine_limit: 1_000,
            contract: None,
            content: None,
        }))
    }

    async fn seen(&self) -> Seen {
        let Self(office) = self;
        let db = office.db();
        let columns: Vec<&str> = office.contract.fields.iter().map(|field| field.column()).collect();
        let sql = format!("SELECT {} FROM {}", columns.join(", "), office.contract.stream);
        let mut statement = db.prepare(&sql).unwrap();
        let row = |row: &rusqlite::Row<'_>| -> rusqlite::Result<Row> {
            let fields = office.contract.fields.iter().enumerate();
            fields.map(|(at, field)| Ok(found(&field.ty, row.get_ref(at)?))).collect()
        };
        let rows = statement.query_map([], row).unwrap().collect::<Result<_, _>>().unwrap();
        let quarantined = office.count("SELECT count(*) FROM hutong_quarantine");
        Seen { rows, taken: office.taken(), quarantined }
    }

    async fn commit_unheard(&self, sink: &mut dyn Sink, batch: &Batch) {
        let before = self.0.taken();
        // The writer has its work, and nobody is there any more when it answers.
        assert!(sink.commit(batch).now_or_never().is_none(), "the writer takes its time");
        while self.0.taken() == before {
            tokio::task::yield_now().await;
        }
    }

    fn fate(ty: &Type, value: &Value) -> Fate {
        if holds(ty, value) { Fate::Carried } else { Fate::Refused }
    }
}

/// A department's file with a table that a source reads.
struct Department(Office);

impl Department {
    fn captured(&self) -> Vec<Captured> {
        let contract = Arc::clone(&self.0.contract);
        vec![Captured { name: contract.stream.clone(), contract }]
    }
}

impl SourceSite for Department {
    const FEATURES: Features = Features { prunes: true, truncates: false, bounded: false, limited: true };

    async fn fresh(contract: &Arc<Contract>) -> Self {
        let department = Self(Office::new(contract));
        let columns: Vec<_> =
            contract.fields.iter().map(|f| format!("{} {}", f.column(), declared(&f.ty))).collect();
        let sql = format!(
            "PRAGMA journal_mode = WAL; CREATE TABLE {} ({}, PRIMARY KEY (id))",
            contract.stream,
            columns.join(", ")
        );
        department.0.db().execute_batch(&sql).unwrap();
        sqlite::install(&department.0.path(), "office", &department.captured()).unwrap();
        department
    }

    fn source(&self) -> Box<dyn Source> {
        Box::new(sqlite::Source::new(SourceConfig {
            poll_interval: Duration::from_millis(5),
            watermark_interval: Duration::from_millis(20),
            limit: Limits { changes: BATCH_LIMIT, chunk: CHUNK_LIMIT, ..Limits::default() },
            ..SourceConfig::new(self.0.path(), "office", self.captured())
        }))
    }

    async fn write(&self, writes: &[Write]) {
        let Contract { stream, fields, .. } = &*self.0.contract;
        let columns: Vec<&str> = fields.iter().map(|field| field.column()).collect();
        let places = vec!["?"; columns.len()].join(", ");
        let set: Vec<_> = columns.iter().map(|c| format!("{c} = excluded.{c}")).collect();
        let put = format!(
            "INSERT INTO {stream} ({}) VALUES ({places}) ON CONFLICT (id) DO UPDATE SET {}",
            columns.join(", "),
            set[1..].join(", ")
        );
        let rekey = format!("UPDATE {stream} SET ({}) = ({places}) WHERE id = ?", columns.join(", "));
        let stored = |row: &Row| -> Vec<Stored> {
            fields.iter().zip(row).map(|(field, value)| stored(&field.ty, value)).collect()
        };
        let mut db = self.0.db();
        let tx = db.transaction().unwrap();
        for write in writes {
            let (sql, values) = match write {
                Write::Put(row) => (put.as_str(), stored(row)),
                Write::Delete(key) => (&*format!("DELETE FROM {stream} WHERE id = ?"), stored(key)),
                Write::Rekey { from, to } => (rekey.as_str(), [stored(to), stored(from)].concat()),
                Write::Truncate => panic!("SQLite knows no TRUNCATE"),
            };
            assert_eq!(tx.prepare_cached(sql).unwrap().execute(params_from_iter(values)).unwrap(), 1);
        }
        tx.commit().unwrap();
    }

    fn fate(ty: &Type, value: &Value) -> Fate {
        if holds(ty, value) { Fate::Carried } else { Fate::Impossible }
    }
}

/// States whether SQLite holds a value: it has neither NaN nor -0, and writes years from 0 to 9999.
fn holds(_: &Type, value: &Value) -> bool {
    match value {
        Value::Float(number) => !number.is_nan() && number.to_bits() != (-0.0_f32).to_bits(),
        Value::Double(number) => !number.is_nan() && number.to_bits() != (-0.0_f64).to_bits(),
        Value::Date(_) | Value::Timestamp(_) | Value::TimestampTz(_) => {
            let text = values::text(value);
            (text.starts_with("0001-") || !text.ends_with(" BC")) && text.find('-') == Some(4)
        }
        _ => true,
    }
}

/// Returns how the table of values.rs says that a type is declared.
fn declared(ty: &Type) -> &'static str {
    match ty {
        Type::Boolean => "BOOLEAN",
        Type::Int16 => "INT2",
        Type::Int => "INT4",
        Type::Long => "BIGINT",
        Type::Float => "FLOAT4",
        Type::Double => "DOUBLE",
        Type::Bytes => "BLOB",
        Type::Date => "DATE",
        Type::Time => "TIME",
        Type::Timestamp => "TIMESTAMP",
        Type::TimestampTz => "TIMESTAMPTZ",
        _ => "TEXT",
    }
}

/// Returns what a department stores for a value, by the same table.
fn stored(ty: &Type, value: &Value) -> Stored {
    match value {
        Value::Null => Stored::Null,
        Value::Boolean(truth) => Stored::Integer((*truth).into()),
        Value::Integer(number) => Stored::Integer(*number),
        Value::Float(number) => Stored::Real((*number).into()),
        Value::Double(number) => Stored::Real(*number),
        Value::Bytes(bytes) => Stored::Blob(bytes.to_vec()),
        Value::Array(items) => {
            let Type::Array(item) = ty else { panic!("an array in a {}", ty.name()) };
            Stored::Text(items.iter().map(|value| listed(item, value)).collect::<Json>().to_string())
        }
        value => Stored::Text(written(value)),
    }
}

/// Returns what a department writes for an item of an array.
fn listed(ty: &Type, value: &Value) -> Json {
    match (ty, value) {
        (_, Value::Null) => Json::Null,
        (_, Value::Boolean(truth)) => (*truth).into(),
        (_, Value::Integer(number)) => (*number).into(),
        (_, Value::Float(number)) if number.is_finite() => f64::from(*number).into(),
        (_, Value::Double(number)) if number.is_finite() => (*number).into(),
        (_, Value::Bytes(_)) => values::text(value).replacen("\\x", "", 1).into(),
        (_, value) => written(value).into(),
    }
}

/// Returns the text of a value: SQLite counts the year before the year 1 as 0, and writes UTC as `Z`.
fn written(value: &Value) -> String {
    let text = values::text(value);
    match value {
        Value::Date(_) | Value::Timestamp(_) | Value::TimestampTz(_) => {
            let text = text.replace("+00", "Z");
            match text.strip_suffix(" BC") {
                Some(text) => text.replacen("0001-", "0000-", 1),
                None => text,
            }
        }
        _ => text,
    }
}

/// Returns the value that a file holds.
fn found(ty: &Type, stored: ValueRef<'_>) -> Value {
    match (ty, stored) {
        (_, ValueRef::Null) => Value::Null,
        (Type::Boolean, ValueRef::Integer(number)) => Value::Boolean(number == 1),
        (Type::Int16 | Type::Int | Type::Long, ValueRef::Integer(number)) => Value::Integer(number),
        (Type::Float, ValueRef::Real(number)) => Value::Float(number as f32),
        (Type::Double, ValueRef::Real(number)) => Value::Double(number),
        (Type::Bytes, ValueRef::Blob(bytes)) => Value::Bytes(bytes.to_vec().into()),
        (Type::Array(item), ValueRef::Text(text)) => {
            let items: Vec<Json> = serde_json::from_slice(text).unwrap();
            Value::Array(items.iter().map(|json| item_of(item, json)).collect())
        }
        (_, ValueRef::Text(text)) => read(ty, std::str::from_utf8(text).unwrap()),
        (_, other) => panic!("a {} is stored as {other:?}", ty.name()),
    }
}

fn item_of(ty: &Type, json: &Json) -> Value {
    match (ty, json) {
        (_, Json::Null) => Value::Null,
        (Type::Boolean, Json::Bool(truth)) => Value::Boolean(*truth),
        (Type::Int16 | Type::Int | Type::Long, Json::Number(number)) => {
            Value::Integer(number.as_i64().unwrap())
        }
        (Type::Float, Json::Number(number)) => Value::Float(number.as_f64().unwrap() as f32),
        (Type::Double, Json::Number(number)) => Value::Double(number.as_f64().unwrap()),
        (Type::Bytes, Json::String(digits)) => values::parse(ty, &format!("\\x{digits}")),
        (_, Json::String(text)) => read(ty, text),
        _ => panic!("an item of {} is stored as {json}", ty.name()),
    }
}

fn read(ty: &Type, text: &str) -> Value {
    match ty {
        Type::TimestampTz => values::parse(ty, text.strip_suffix('Z').unwrap()),
        _ => values::parse(ty, text),
    }
}

mod sink {
    use super::Replica;
    hutong_testkit::sink_conformance!(Replica);
}

mod source {
    use super::Department;
    hutong_testkit::source_conformance!(Department);
}
