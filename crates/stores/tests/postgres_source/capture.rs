//! A capture of a real PostgreSQL under test, and the replica that its changes make.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hutong_core::{
    Batch, Checkpoint, Contract, Field, Op, Position, Rejected, Secret, Source as _, Type, Value,
};
use hutong_stores::postgres::{Source, SourceConfig, Table};
use hutong_testkit::launch::Postgres;
use tokio_postgres::Client;

/// How long anything may take that a test waits for.
const DEADLINE: Duration = Duration::from_secs(30);

/// Makes a contract; the first `key` fields are the key.
pub(crate) fn contract(stream: &str, key: usize, fields: Vec<Field>) -> Arc<Contract> {
    let sharing = hutong_core::contract::Sharing::Unconditional;
    let key = (0..key).collect();
    Contract {
        stream: stream.into(),
        doc: "A row of a test.".into(),
        sharing,
        fields,
        key,
        catalogue: Default::default(),
    }
    .shared()
}

/// The contract of a table `id int primary key, name text`.
pub(crate) fn people(stream: &str) -> Arc<Contract> {
    contract(stream, 1, vec![Field::new("id", Type::Int), Field::new("name", Type::Text { length: None })])
}

/// A capture with everything that it has handed out.
pub(crate) struct Capture {
    pub(crate) client: Client,
    pub(crate) config: SourceConfig,
    pub(crate) source: Source,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) batches: Vec<Batch>,
    /// Stream to key to row.
    pub(crate) replica: BTreeMap<String, BTreeMap<String, Vec<Value>>>,
    last: Position,
}

impl Capture {
    /// Prepares a fresh database with `sql`, and a capture of `tables` that is not open yet.
    pub(crate) async fn new(sql: &str, tables: &[(&str, Arc<Contract>)]) -> Self {
        let database = Postgres::shared().await.unwrap();
        Self::at(&database.url, &database.name, sql, tables).await
    }

    pub(crate) async fn at(url: &str, name: &str, sql: &str, tables: &[(&str, Arc<Contract>)]) -> Self {
        let client = hutong_testkit::launch::connect(url).await.unwrap();
        client.batch_execute(sql).await.unwrap();
        let tables = tables
            .iter()
            .map(|(name, contract)| Table { name: (*name).into(), contract: Arc::clone(contract) })
            .collect();
        let mut config = SourceConfig::new(Secret::new(url), name, tables);
        config.watermark_interval = Duration::from_millis(200);
        Self {
            client,
            source: Source::new(config.clone()),
            config,
            checkpoint: Checkpoint::default(),
            batches: Vec::new(),
            replica: BTreeMap::new(),
            last: Position::START,
        }
    }

    pub(crate) async fn open(&mut self) {
        self.source.open(&self.checkpoint).await.unwrap();
    }

    /// Opens a source of the configuration as it is now.
    pub(crate) async fn open_new(&mut self) {
        self.crash().await;
    }

    /// Throws the source away, as a crash does, and opens another one at the checkpoint.
    pub(crate) async fn crash(&mut self) {
        self.source = Source::new(self.config.clone());
        self.open().await;
    }

    pub(crate) async fn sql(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap();
    }

    /// Takes the next batch as a sink would: applies it, moves the checkpoint, and says so.
    pub(crate) async fn next(&mut self) -> &Batch {
        let batch = tokio::time::timeout(DEADLINE, self.source.next()).await.expect("a batch in time");
        let batch = batch.unwrap().unwrap();
        for change in &batch.changes {
            assert!(change.position >= self.last, "I4: positions go forward");
            self.last = change.position;
            let rows = self.replica.entry(change.contract.stream.clone()).or_default();
            let key = change.key().map(|key| format!("{key:?}"));
            match change.op {
                Op::Truncate => rows.clear(),
                Op::Delete => drop(rows.remove(&key.unwrap())),
                Op::Read | Op::Insert | Op::Update => {
                    let mut after = change.after.clone().unwrap();
                    if let Some(old) = rows.get(key.as_ref().unwrap()) {
                        for (value, old) in after.iter_mut().zip(old) {
                            if value.is_unknown() {
                                *value = old.clone();
                            }
                        }
                    }
                    assert!(!after.iter().any(Value::is_unknown), "a row is complete: {:?}", change.op);
                    rows.insert(key.unwrap(), after);
                }
            }
        }
        self.checkpoint.advance(&batch.delta).unwrap();
        self.source.ack(&self.checkpoint).await.unwrap();
        self.batches.push(batch);
        self.batches.last().unwrap()
    }

    /// Takes batches until `done` says so of everything so far.
    pub(crate) async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !done(self) {
            assert!(Instant::now() < deadline, "not in time: {what}");
            self.next().await;
        }
    }

    /// Takes batches until every snapshot is done.
    pub(crate) async fn snapshot_done(&mut self) {
        // What opening has changed in the notes comes with the first batch.
        self.next().await;
        let tables = self.config.tables.len();
        self.until("snapshot done", |c| {
            let done =
                |(n, t): &(&String, &String)| n.starts_with("snapshot.") && t.contains("\"done\":true");
            c.checkpoint.notes.iter().filter(done).count() == tables
        })
        .await;
    }

    /// Commits a last row into the table `mark` (id int, captured) and takes batches until it has come.
    pub(crate) async fn catch_up(&mut self) {
        let lsn = "SELECT (pg_current_wal_lsn() - '0/0')::int8";
        let lsn: i64 = self.client.query_one(lsn, &[]).await.unwrap().get(0);
        self.until("caught up", |c| {
            let (_, at, index, _) = c.checkpoint.position("wal").as_wal().unwrap_or_default();
            index == 0 && at >= lsn as u64
        })
        .await;
    }

    pub(crate) fn rows(&self, stream: &str) -> Vec<Vec<Value>> {
        self.replica.get(stream).map(|rows| rows.values().cloned().collect()).unwrap_or_default()
    }

    /// The operations of everything handed out, as Debezium's letters.
    pub(crate) fn letters(&self) -> String {
        self.batches.iter().flat_map(|b| &b.changes).map(|c| c.op.letter()).collect()
    }

    pub(crate) fn rejected(&self) -> Vec<&Rejected> {
        self.batches.iter().flat_map(|b| &b.rejected).collect()
    }

    /// Frees the slot, of which the shared server has not many.
    pub(crate) async fn end(mut self) {
        self.source.close().await.unwrap();
        hutong_stores::postgres::remove(&self.config.url, &self.config.capture).await.unwrap();
    }

    /// Forgets the batches so far.
    pub(crate) fn clear(&mut self) {
        self.batches.clear();
    }
}

/// A row of `people`.
pub(crate) fn person(id: i64, name: &str) -> Vec<Value> {
    vec![Value::Integer(id), Value::text(name)]
}
