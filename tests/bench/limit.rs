//! What the servers do when nobody stands between them and the rows: the limits that our figures stand beside.

use std::pin::pin;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use hutong_testkit::launch::Kafka;
use pgwire_replication::client::{ReplicationClient, ReplicationEvent};
use pgwire_replication::{Lsn, ReplicationConfig};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use rusqlite::types::Value;
use tokio_postgres::Client;

use crate::population::{self, COLUMNS};

/// A record as it stands in the topic.
pub(crate) struct Record {
    pub(crate) partition: i32,
    pub(crate) offset: u64,
    pub(crate) key: Bytes,
    pub(crate) value: Bytes,
}

/// Reads the register by `COPY … TO` in binary form; returns the seconds and what came.
pub(crate) async fn copy_out(source: &Client) -> (f64, Vec<Bytes>) {
    let started = Instant::now();
    let sql = "COPY population_base TO STDOUT (FORMAT binary)";
    let mut rows = pin!(source.copy_out(sql).await.unwrap());
    let mut pieces = Vec::new();
    while let Some(piece) = rows.next().await {
        pieces.push(piece.unwrap());
    }
    (started.elapsed().as_secs_f64(), pieces)
}

/// Copies rows to a staging table and upserts them from there, in one transaction; returns the seconds.
pub(crate) async fn upsert(share: &mut Client, rows: &[Bytes]) -> f64 {
    share.batch_execute("CHECKPOINT").await.unwrap();
    let started = Instant::now();
    let tx = share.transaction().await.unwrap();
    tx.batch_execute(&population::table("pg_temp.staged").replace("PRIMARY KEY", "")).await.unwrap();
    let mut copy = Box::pin(tx.copy_in("COPY pg_temp.staged FROM STDIN (FORMAT binary)").await.unwrap());
    for piece in gathered(rows) {
        copy.send(piece).await.unwrap();
    }
    copy.as_mut().finish().await.unwrap();
    let columns = COLUMNS.join(", ");
    let set = COLUMNS[1..].iter().map(|c| format!("{c} = excluded.{c}")).collect::<Vec<_>>().join(", ");
    let sql = format!(
        "INSERT INTO hand ({columns}) SELECT {columns} FROM pg_temp.staged ON CONFLICT (gmsfhm) DO UPDATE SET {set}"
    );
    tx.batch_execute(&sql).await.unwrap();
    tx.batch_execute("DROP TABLE pg_temp.staged").await.unwrap();
    tx.commit().await.unwrap();
    started.elapsed().as_secs_f64()
}

/// The server sends a message a row; a hand-written loader would not send them back one by one.
fn gathered(rows: &[Bytes]) -> impl Iterator<Item = Bytes> + '_ {
    rows.chunks(200).map(|pieces| pieces.concat().into())
}

/// Reads a slot's stream up to a place and throws it away; returns the seconds and the changes.
pub(crate) async fn stream(port: u16, database: &str, slot: &str, publication: &str, to: u64) -> (f64, u64) {
    let config = ReplicationConfig::new("127.0.0.1", "postgres", "", database, slot, publication)
        .with_port(port)
        .with_buffer_size(1024)
        .with_start_lsn(Lsn(0));
    let started = Instant::now();
    let mut client = ReplicationClient::connect(config).await.unwrap();
    let mut changes = 0;
    while let Some(event) = client.recv().await.unwrap() {
        let at = match event {
            ReplicationEvent::XLogData { data, .. } => {
                changes += u64::from(matches!(data.first(), Some(b'I' | b'U' | b'D')));
                continue;
            }
            ReplicationEvent::Commit { end_lsn, .. } => end_lsn.as_u64(),
            ReplicationEvent::KeepAlive { wal_end, .. } => wal_end.as_u64(),
            _ => continue,
        };
        if at >= to {
            break;
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    client.shutdown().await.unwrap();
    (seconds, changes)
}

/// Reads a topic to its present end, committed records only; returns the seconds and the records.
pub(crate) fn consume(kafka: &Kafka, topic: &str) -> (f64, Vec<Record>) {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", kafka.bootstrap())
        .set("group.id", "bench")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .create()
        .unwrap();
    let started = Instant::now();
    let mut place = TopicPartitionList::new();
    for partition in 0..4 {
        place.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&place).unwrap();
    let (mut records, mut ended) = (Vec::new(), 0);
    while ended < 4 {
        match consumer.poll(Duration::from_secs(1)) {
            Some(Ok(message)) => records.push(Record {
                partition: message.partition(),
                offset: message.offset() as u64,
                key: Bytes::copy_from_slice(message.key().unwrap_or_default()),
                value: Bytes::copy_from_slice(message.payload().unwrap_or_default()),
            }),
            Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
            Some(Err(error)) => panic!("{error}"),
            None => {}
        }
    }
    (started.elapsed().as_secs_f64(), records)
}

/// Writes records to a topic of their own in transactions of 5,000; returns the seconds.
pub(crate) async fn produce(kafka: &Kafka, records: &[Record]) -> f64 {
    let admin: rdkafka::admin::AdminClient<_> =
        ClientConfig::new().set("bootstrap.servers", kafka.bootstrap()).create().unwrap();
    let topic = rdkafka::admin::NewTopic::new("raw", 4, rdkafka::admin::TopicReplication::Fixed(1));
    admin.create_topics([&topic], &rdkafka::admin::AdminOptions::new()).await.unwrap();
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", kafka.bootstrap())
        .set("transactional.id", "raw")
        .set("acks", "all")
        .set("linger.ms", "1")
        .set("compression.type", "lz4")
        .set("batch.size", "1048576")
        .create()
        .unwrap();
    let timeout = Duration::from_secs(60);
    producer.init_transactions(timeout).unwrap();
    let started = Instant::now();
    for batch in records.chunks(5_000) {
        producer.begin_transaction().unwrap();
        for record in batch {
            let mut wire = BaseRecord::to("raw")
                .partition(record.partition)
                .key(&record.key[..])
                .payload(&record.value[..]);
            while let Err((error, back)) = producer.send(wire) {
                assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::QueueFull));
                producer.poll(Duration::from_millis(5));
                wire = back;
            }
        }
        while producer.in_flight_count() > 0 {
            producer.poll(Duration::from_millis(1));
        }
        producer.commit_transaction(timeout).unwrap();
    }
    started.elapsed().as_secs_f64()
}

/// Writes the register into a SQLite file by one prepared statement in one transaction; returns the seconds.
pub(crate) async fn sqlite(source: &Client, file: &std::path::Path) -> f64 {
    let columns = COLUMNS.map(|c| format!("{c}::text")).join(", ");
    let rows = source.query(&format!("SELECT {columns} FROM population_base"), &[]).await.unwrap();
    let rows: Vec<Vec<Value>> = rows
        .iter()
        .map(|row| {
            (0..COLUMNS.len())
                .map(|i| row.get::<_, Option<String>>(i).map_or(Value::Null, Value::Text))
                .collect()
        })
        .collect();
    let db = rusqlite::Connection::open(file).unwrap();
    db.pragma_update(None, "journal_mode", "wal").unwrap();
    db.execute_batch(&format!(
        "CREATE TABLE people ({} TEXT PRIMARY KEY, {}) WITHOUT ROWID",
        COLUMNS[0],
        COLUMNS[1..].join(", ")
    ))
    .unwrap();
    let started = Instant::now();
    db.execute_batch("BEGIN").unwrap();
    let marks = COLUMNS.map(|_| "?").join(", ");
    let mut insert = db.prepare(&format!("INSERT OR REPLACE INTO people VALUES ({marks})")).unwrap();
    for row in &rows {
        insert.execute(rusqlite::params_from_iter(row)).unwrap();
    }
    db.execute_batch("COMMIT").unwrap();
    started.elapsed().as_secs_f64()
}
