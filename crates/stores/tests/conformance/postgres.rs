//! PostgreSQL as a sink and as a source, over a real server.

use std::sync::Arc;
use std::time::Duration;

use hutong_core::{Batch, Checkpoint, Contract, ErrorKind, Row, Secret, Sink, Source, Type, Value};
use hutong_stores::postgres::sink::{self, SinkConfig};
use hutong_stores::postgres::{self, Limit, SourceConfig, Table};
use hutong_testkit::conformance::{
    BATCH_LIMIT, CHUNK_LIMIT, Fate, Features, Seen, SinkSite, SourceSite, Write, values,
};
use hutong_testkit::launch::{Postgres, connect};
use hutong_testkit::proxy::Proxy;
use tokio_postgres::Client;

/// A database that sinks write through a proxy.
struct Replica {
    url: Secret,
    proxy: Proxy,
    client: Client,
    contract: Arc<Contract>,
}

impl SinkSite for Replica {
    async fn fresh(contract: &Arc<Contract>) -> Self {
        let url = Postgres::shared().await.unwrap().url;
        let client = connect(&url).await.unwrap();
        client.batch_execute("SET IntervalStyle = iso_8601; SET TimeZone = 'UTC'").await.unwrap();
        let port = url.parse::<tokio_postgres::Config>().unwrap().get_ports()[0];
        let proxy = Proxy::start(port).await.unwrap();
        let url = Secret::new(url.replace(&format!(":{port}/"), &format!(":{}/", proxy.port())));
        Self { url, proxy, client, contract: Arc::clone(contract) }
    }

    fn sink(&self) -> Box<dyn Sink> {
        // Each with connections of its own, as if it were another program.
        let table = format!("share.{}", self.contract.stream);
        Box::new(sink::Sink::new(SinkConfig::new(self.url.clone(), &table, "g").unwrap()))
    }

    async fn seen(&self) -> Seen {
        let as_text = |ty: &Type| if matches!(ty, Type::Array(_)) { "text[]" } else { "text" };
        let fields = &self.contract.fields;
        let columns: Vec<_> =
            fields.iter().map(|field| format!("{}::{}", field.column(), as_text(&field.ty))).collect();
        let sql = format!("SELECT {} FROM share.{}", columns.join(", "), self.contract.stream);
        let found = |row: &tokio_postgres::Row| -> Row {
            let fields = fields.iter().enumerate();
            fields
                .map(|(at, field)| match &field.ty {
                    Type::Array(item) => {
                        let items: Option<Vec<Option<String>>> = row.get(at);
                        items.map_or(Value::Null, |items| {
                            Value::Array(items.iter().map(|text| value(item, text.as_deref())).collect())
                        })
                    }
                    ty => value(ty, row.get(at)),
                })
                .collect()
        };
        let rows = self.client.query(&sql, &[]).await.unwrap().iter().map(found).collect();
        let count = async |sql| self.client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) as u64;
        Seen {
            rows,
            taken: count("SELECT coalesce(sum(changes), 0)::int8 FROM hutong.hutong_receipt").await,
            quarantined: count("SELECT count(*) FROM hutong.hutong_quarantine").await,
        }
    }

    async fn commit_unheard(&self, sink: &mut dyn Sink, batch: &Batch) {
        self.proxy.lose_answer_to(b"COMMIT\0");
        let error = sink.commit(batch).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unknown, "{error}");
        assert!(self.proxy.lost());
    }

    fn fate(_: &Type, value: &Value) -> Fate {
        if holds(value) { Fate::Carried } else { Fate::Refused }
    }
}

/// A department's database with a table that a source reads.
struct Department {
    name: String,
    url: Secret,
    client: Client,
    contract: Arc<Contract>,
}

impl SourceSite for Department {
    const FEATURES: Features = Features { prunes: true, truncates: true, bounded: false, limited: true };

    async fn fresh(contract: &Arc<Contract>) -> Self {
        let database = Postgres::shared().await.unwrap();
        let client = connect(&database.url).await.unwrap();
        for field in &contract.fields {
            if let Type::Enum { allowed } = &field.ty {
                let labels: Vec<_> = allowed.iter().map(|label| quoted(label)).collect();
                let sql = format!("CREATE TYPE {} AS ENUM ({})", declared(&field.ty), labels.join(", "));
                client.batch_execute(&sql).await.unwrap();
            }
            if let Type::Array(item) = &field.ty
                && let Type::Enum { allowed } = &**item
            {
                let labels: Vec<_> = allowed.iter().map(|label| quoted(label)).collect();
                let sql = format!("CREATE TYPE {} AS ENUM ({})", declared(item), labels.join(", "));
                client.batch_execute(&sql).await.unwrap();
            }
        }
        let columns: Vec<_> =
            contract.fields.iter().map(|f| format!("{} {}", f.column(), declared(&f.ty))).collect();
        let sql = format!("CREATE TABLE {} ({}, PRIMARY KEY (id))", contract.stream, columns.join(", "));
        client.batch_execute(&sql).await.unwrap();
        Self { name: database.name, url: Secret::new(database.url), client, contract: Arc::clone(contract) }
    }

    fn source(&self) -> Box<dyn Source> {
        let contract = Arc::clone(&self.contract);
        let tables = vec![Table { name: contract.stream.clone(), contract }];
        Box::new(postgres::Source::new(SourceConfig {
            chunk_rows: CHUNK_LIMIT,
            limit: Limit { rows: BATCH_LIMIT / 4, transaction_rows: BATCH_LIMIT, ..Limit::default() },
            watermark_interval: Duration::from_millis(50),
            ..SourceConfig::new(self.url.clone(), &self.name, tables)
        }))
    }

    async fn write(&self, writes: &[Write]) {
        let Contract { stream, fields, .. } = &*self.contract;
        let columns: Vec<&str> = fields.iter().map(|field| field.column()).collect();
        let set: Vec<_> = columns[1..].iter().map(|c| format!("{c} = excluded.{c}")).collect();
        let (columns, set) = (columns.join(", "), set.join(", "));
        let row = |row: &Row| -> String {
            let values = fields.iter().zip(row).map(|(field, value)| literal(&field.ty, value));
            values.collect::<Vec<_>>().join(", ")
        };
        let statements = writes.iter().map(|write| match write {
            Write::Put(put) => format!(
                "INSERT INTO {stream} ({columns}) VALUES ({}) ON CONFLICT (id) DO UPDATE SET {set};",
                row(put)
            ),
            Write::Delete(key) => format!("DELETE FROM {stream} WHERE id = {};", row(key)),
            Write::Rekey { from, to } => {
                format!("UPDATE {stream} SET ({columns}) = ROW({}) WHERE id = {};", row(to), row(from))
            }
            Write::Truncate => format!("TRUNCATE {stream};"),
        });
        let sql = format!("BEGIN; {} COMMIT", statements.collect::<String>());
        self.client.batch_execute(&sql).await.unwrap();
    }

    async fn forgotten(&self, upto: &Checkpoint) {
        let (_, lsn, ..) = upto.position("wal").as_wal().unwrap();
        let sql = "SELECT (confirmed_flush_lsn - '0/0')::int8 FROM pg_replication_slots WHERE slot_name = $1";
        let slot = format!("hutong_{}", self.name);
        while (self.client.query_one(sql, &[&slot]).await.unwrap().get::<_, i64>(0) as u64) < lsn {}
    }

    fn fate(_: &Type, value: &Value) -> Fate {
        match value {
            _ if !holds(value) => Fate::Impossible,
            // Years outside 1 to 9999 are PostgreSQL's own, see column.rs.
            Value::Date(_) | Value::Timestamp(_) | Value::TimestampTz(_) => {
                let text = values::text(value);
                if text.ends_with(" BC") || text.find('-') != Some(4) { Fate::Refused } else { Fate::Carried }
            }
            _ => Fate::Carried,
        }
    }
}

/// States whether PostgreSQL holds a value: its texts have no character 0.
fn holds(value: &Value) -> bool {
    value.as_text().is_none_or(|text| !text.contains('\0'))
}

fn value(ty: &Type, text: Option<&str>) -> Value {
    text.map_or(Value::Null, |text| values::parse(ty, text))
}

fn declared(ty: &Type) -> String {
    match ty {
        Type::Boolean => "boolean".into(),
        Type::Int16 => "smallint".into(),
        Type::Int => "integer".into(),
        Type::Long => "bigint".into(),
        Type::Float => "real".into(),
        Type::Double => "double precision".into(),
        Type::Text { length: Some(length) } => format!("varchar({length})"),
        Type::Text { length: None } => "text".into(),
        Type::Bytes => "bytea".into(),
        Type::Decimal { precision, scale } => format!("numeric({precision},{scale})"),
        Type::Numeric => "numeric".into(),
        Type::Date => "date".into(),
        Type::Time => "time".into(),
        Type::Timestamp => "timestamp".into(),
        Type::TimestampTz => "timestamptz".into(),
        Type::Json => "json".into(),
        Type::Uuid => "uuid".into(),
        Type::Interval => "interval".into(),
        Type::Enum { allowed } => format!("one_of_{}", allowed.len()),
        Type::Array(item) => format!("{}[]", declared(item)),
    }
}

fn literal(ty: &Type, value: &Value) -> String {
    match (ty, value) {
        (_, Value::Null) => "NULL".into(),
        (Type::Array(item), Value::Array(items)) => {
            let items: Vec<_> = items.iter().map(|value| literal(item, value)).collect();
            format!("ARRAY[{}]::{}", items.join(", "), declared(ty))
        }
        _ => format!("{}::{}", quoted(&values::text(value)), declared(ty)),
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

mod sink_of_postgres {
    use super::Replica;
    hutong_testkit::sink_conformance!(Replica);
}

mod source_of_postgres {
    use super::Department;
    hutong_testkit::source_conformance!(Department);
}
