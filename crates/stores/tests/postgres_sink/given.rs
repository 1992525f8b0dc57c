//! What the tests start from: a fresh database, one stream, and batches of its changes.

use std::sync::Arc;

use hutong_core::change::Place;
use hutong_core::contract::Sharing;
use hutong_core::{
    Batch, Before, Change, Contract, Delta, Error, Field, Kind, LaneId, Op, Origin, PipelineId, Position,
    Result, Row, Secret, Sink as _, Type, Value,
};
use hutong_stores::postgres::sink::{Pool, Sink, SinkConfig};
use hutong_testkit::launch::{Postgres, connect};
use tokio_postgres::Client;

pub(crate) const TABLE: &str = "share.people";

/// A fresh database with a client for looking and a pool for sinks.
pub(crate) struct Store {
    pub(crate) url: Secret,
    pub(crate) client: Client,
    pub(crate) pool: Pool,
}

impl Store {
    pub(crate) async fn fresh() -> Self {
        let database = Postgres::shared().await.unwrap();
        Self::of(database.url).await
    }

    /// The database of a server of one's own.
    pub(crate) async fn of(url: String) -> Self {
        let client = connect(&url).await.unwrap();
        let url = Secret::new(url);
        Self { pool: Pool::new(url.clone(), 4), url, client }
    }

    pub(crate) fn sink(&self, grant: &str) -> Sink {
        Sink::new(SinkConfig::shared(self.pool.clone(), TABLE, grant).unwrap())
    }

    /// A sink that is open on a lane and prepared for a contract.
    pub(crate) async fn opened(&self, partition: u32, contract: &Contract) -> Sink {
        let mut sink = self.sink("g1");
        sink.open(&lane(partition)).await.unwrap();
        sink.prepare(contract).await.unwrap();
        sink
    }

    /// Runs a query of text columns; its rows as `a|b|∅`.
    pub(crate) async fn rows(&self, sql: &str) -> Vec<String> {
        let rows = self.client.query(sql, &[]).await.unwrap();
        rows.iter()
            .map(|row| {
                let cell = |at| row.get::<_, Option<String>>(at).unwrap_or_else(|| "∅".into());
                (0..row.len()).map(cell).collect::<Vec<_>>().join("|")
            })
            .collect()
    }

    pub(crate) async fn people(&self) -> Vec<String> {
        self.rows(&format!("SELECT id::text, name, age::text FROM {TABLE} t ORDER BY t.id")).await
    }

    pub(crate) async fn quarantine(&self) -> Vec<String> {
        self.rows("SELECT key, rule, state FROM hutong.hutong_quarantine ORDER BY id").await
    }

    pub(crate) async fn run(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap();
    }
}

pub(crate) fn lane(partition: u32) -> LaneId {
    LaneId::new(PipelineId::new(Kind::Replicate, "renshe_people"), partition)
}

pub(crate) fn contract_of(fields: Vec<Field>, key: Vec<usize>) -> Arc<Contract> {
    Contract {
        stream: "people".into(),
        doc: "people who cannot exist".into(),
        sharing: Sharing::Unconditional,
        fields,
        key,
        catalogue: serde_json::from_str(r#"{"title": "人口基础信息"}"#).unwrap(),
    }
    .shared()
}

/// `id` is the key; `name` and `age` may be null.
pub(crate) fn people() -> Arc<Contract> {
    let text = Type::Text { length: Some(20) };
    contract_of(
        vec![Field::new("id", Type::Long), Field::new("name", text), Field::new("age", Type::Int)],
        vec![0],
    )
}

pub(crate) fn person(id: i64, name: &str, age: i64) -> Row {
    vec![Value::Integer(id), Value::text(name), Value::Integer(age)]
}

pub(crate) fn key_only(id: i64) -> Row {
    vec![Value::Integer(id), Value::Unknown, Value::Unknown]
}

/// Makes changes one offset after the other, and batches of them.
pub(crate) struct Topic {
    pub(crate) contract: Arc<Contract>,
    next: u64,
    committed: u64,
}

impl Topic {
    pub(crate) fn new(contract: &Arc<Contract>) -> Self {
        Self { contract: Arc::clone(contract), next: 0, committed: 0 }
    }

    /// Goes on at an offset, where a batch has ended.
    pub(crate) fn from(contract: &Arc<Contract>, at: u64) -> Self {
        Self { contract: Arc::clone(contract), next: at, committed: at }
    }

    pub(crate) fn change(&mut self, op: Op, row: Row) -> Change {
        let (before, after) = match op {
            Op::Delete => (Before::Key(row), None),
            Op::Truncate => (Before::None, None),
            _ => (Before::None, Some(row)),
        };
        let position = Position::offset(self.next);
        self.next += 1;
        let origin = Origin {
            place: Arc::new(Place::default()),
            committed_us: 0,
            xid: None,
            lsn: None,
            transaction: None,
            last: true,
        };
        Change {
            contract: Arc::clone(&self.contract),
            op,
            before,
            after,
            position,
            source_position: position,
            origin,
        }
    }

    /// The next batch, from where the last one ended.
    pub(crate) fn batch(&mut self, changes: impl IntoIterator<Item = (Op, Row)>) -> Batch {
        let changes = changes.into_iter().map(|(op, row)| self.change(op, row)).collect();
        let delta = Delta::range("0", start(self.committed), start(self.next));
        self.committed = self.next;
        Batch { changes, delta, ..Batch::default() }
    }
}

fn start(offset: u64) -> Position {
    if offset == 0 { Position::START } else { Position::offset(offset) }
}

/// Opens and commits as the engine does: again after each error that asks for it.
pub(crate) async fn persist(sink: &mut Sink, partition: u32, batch: &Batch) -> Result<u32, Error> {
    let mut attempts = 0;
    loop {
        match sink.commit(batch).await {
            Ok(_) => return Ok(attempts),
            Err(problem) if problem.class() == hutong_core::Class::Retry && attempts < 20 => {
                attempts += 1;
                sink.open(&lane(partition)).await?;
                for change in &batch.changes {
                    sink.prepare(&change.contract).await?;
                }
            }
            Err(problem) => return Err(problem),
        }
    }
}
