//! Sink and source over a real Kafka and a real registry.

#![expect(clippy::unwrap_used, reason = "a helper of a test panics as the test does")]

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use hutong_bus::kafka::{Bus, Config};
use hutong_bus::log::{Log, checkpoint_topic};
use hutong_bus::{
    HttpRegistry, Limits, RegistryConfig, SchemaRegistry, TopicSink, TopicSinkConfig, TopicSource,
    TopicSourceConfig, TopicStream,
};
use hutong_core::{
    Batch, Before, Behind, Change, Checkpoint, Contract, Delta, ErrorKind, Field, Kind, LaneId, Op, Origin,
    PipelineId, Place, Position, Sink, Source, Type, Value,
};
use hutong_testkit::launch::{Kafka, Registry};

const PARTITIONS: u32 = 3;

/// One stream on the shared cluster, under names of its own.
struct Office {
    name: String,
    log: Arc<Bus>,
    registry: Arc<HttpRegistry>,
    contract: Arc<Contract>,
    compatibility: Option<&'static str>,
}

impl Office {
    async fn new(name: &str) -> Self {
        let (kafka, registry) = tokio::join!(Kafka::shared(), Registry::shared());
        let config = Config {
            brokers: kafka.unwrap().bootstrap(),
            bus: name.into(),
            security: Vec::new(),
            replication: None,
        };
        let contract = Contract::parse(
            r#"{"type":"record","name":"person","sharing":"unconditional","key":["id"],"fields":[
                {"name":"id","type":"long"},{"name":"name","type":["null","string"]}]}"#,
        );
        Self {
            name: name.into(),
            log: Bus::new(config).unwrap(),
            registry: Arc::new(HttpRegistry::new(RegistryConfig::new(registry.unwrap().url())).unwrap()),
            contract: contract.unwrap().shared(),
            compatibility: None,
        }
    }

    fn topic(&self) -> String {
        format!("{}.person.v1", self.name)
    }

    fn lane(&self) -> LaneId {
        LaneId::new(PipelineId::new(Kind::Capture, &self.name), 0)
    }

    fn sink(&self) -> TopicSink {
        let stream = TopicStream {
            contract: Arc::clone(&self.contract),
            topic: self.topic(),
            partitions: PARTITIONS,
            partition: None,
            compatibility: self.compatibility.map(str::to_owned),
            readers: Vec::new(),
            anew: Default::default(),
        };
        let config = TopicSinkConfig {
            bus: self.name.clone(),
            streams: vec![stream],
            history: Duration::from_secs(30 * 86_400),
        };
        let (log, registry) = (Arc::clone(&self.log), Arc::clone(&self.registry));
        TopicSink::new(log, registry, config)
    }

    fn source(&self, partition: u32, registry: Arc<dyn SchemaRegistry>) -> TopicSource {
        let config = TopicSourceConfig {
            topic: self.topic(),
            partition,
            contract: Arc::clone(&self.contract),
            checkpoint_topic: Some(checkpoint_topic(&self.name, &self.lane().pipeline)),
            pipeline: Some(PipelineId::new(Kind::Replicate, &self.name)),
            foreign_before_full: false,
            limits: Limits { watermark_interval: Duration::ZERO, ..Limits::default() },
        };
        TopicSource::new(Arc::<Bus>::clone(&self.log), registry, config)
    }

    fn change(&self, step: u64, id: i64) -> Change {
        Change {
            contract: Arc::clone(&self.contract),
            op: Op::Insert,
            before: Before::None,
            after: Some(vec![Value::Integer(id), Value::text("甲")]),
            position: Position::wal(0, step, 0, 0),
            source_position: Position::wal(0, step, 0, 0),
            origin: Origin {
                place: Arc::new(Place { connector: "postgresql".into(), ..Place::default() }),
                committed_us: step as i64,
                xid: None,
                lsn: Some(step),
                transaction: None,
                last: true,
            },
        }
    }

    fn batch(&self, from: u64, to: u64, ids: std::ops::Range<i64>) -> Batch {
        let place = |step| if step == 0 { Position::START } else { Position::wal(0, step, 0, 0) };
        Batch {
            changes: ids.map(|id| self.change(to, id)).collect(),
            delta: Delta::range("wal", place(from), place(to)),
            behind: Behind { count: None, bytes: None, complete_to_us: Some(to as i64) },
            ..Batch::default()
        }
    }
}

/// Reads a partition until it is caught up and known to be complete to a time; returns the ids of what came.
async fn read_to(source: &mut TopicSource, checkpoint: &mut Checkpoint, us: i64) -> Vec<i64> {
    let mut ids = Vec::new();
    loop {
        let next = tokio::time::timeout(Duration::from_secs(30), source.next()).await;
        let batch = next.expect("a batch in time").unwrap().unwrap();
        assert!(batch.rejected.is_empty(), "{:?}", batch.rejected);
        checkpoint.advance(&batch.delta).unwrap();
        source.ack(checkpoint).await.unwrap();
        ids.extend(batch.changes.iter().map(|c| match c.after.as_ref().unwrap()[0] {
            Value::Integer(id) => id,
            ref other => panic!("{other:?}"),
        }));
        if batch.behind.complete_to_us >= Some(us) && batch.behind.count == Some(0) {
            return ids;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_i2_changes_arrive_once_and_every_lane_learns_that_it_is_complete() {
    let office = Office::new("arrive").await;
    let mut sink = office.sink();
    assert!(sink.open(&office.lane()).await.unwrap().is_empty());
    sink.commit(&office.batch(0, 10, 0..500)).await.unwrap();
    sink.commit(&office.batch(10, 20, 500..600)).await.unwrap();
    // Another owner: it finds the checkpoint, and the ends behind the records of the first.
    let mut second = office.sink();
    let found = second.open(&office.lane()).await.unwrap();
    assert_eq!(found.position("wal"), Position::wal(0, 20, 0, 0));
    assert_eq!(sink.commit(&office.batch(20, 25, 0..1)).await.unwrap_err().kind, ErrorKind::Fenced);
    second.commit(&office.batch(20, 30, 0..0)).await.unwrap();

    let mut ids = Vec::new();
    let mut checkpoints = Vec::new();
    for p in 0..PARTITIONS {
        let mut source = office.source(p, Arc::<HttpRegistry>::clone(&office.registry));
        let mut checkpoint = Checkpoint::default();
        source.open(&checkpoint).await.unwrap();
        ids.extend(read_to(&mut source, &mut checkpoint, 30).await);
        checkpoints.push(checkpoint);
    }
    ids.sort_unstable();
    assert_eq!(ids, (0..600).collect::<Vec<_>>());

    // From where they stand, they get only what is new.
    second.commit(&office.batch(30, 40, 600..650)).await.unwrap();
    second.commit(&office.batch(40, 50, 0..0)).await.unwrap();
    let mut ids = Vec::new();
    for (p, mut checkpoint) in (0..).zip(checkpoints) {
        let mut source = office.source(p, Arc::<HttpRegistry>::clone(&office.registry));
        source.open(&checkpoint).await.unwrap();
        ids.extend(read_to(&mut source, &mut checkpoint, 50).await);
    }
    ids.sort_unstable();
    assert_eq!(ids, (600..650).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_registry_never_makes_a_record_unreadable() {
    let office = Office::new("outage").await;
    let mut sink = office.sink();
    sink.open(&office.lane()).await.unwrap();
    sink.commit(&office.batch(0, 10, 0..50)).await.unwrap();
    let away = RegistryConfig::new(format!("http://127.0.0.1:{}", hutong_testkit::launch::free_port()));
    let mut source = office.source(0, Arc::new(HttpRegistry::new(away).unwrap()));
    source.open(&Checkpoint::default()).await.unwrap();
    assert_eq!(source.next().await.unwrap_err().kind, ErrorKind::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_registry_says_what_is_wrong_by_name() {
    let office = Office::new("names").await;
    let registry = &office.registry;
    let old = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"long"}]}"#;
    let new = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"string"}]}"#;
    assert!(registry.check("names-value", old).await.unwrap().reasons.is_empty());
    let id = registry.register("names-value", old).await.unwrap();
    assert_eq!(registry.register("names-value", old).await.unwrap(), id);
    registry.set_compatibility("names-value", "FULL_TRANSITIVE").await.unwrap();
    let checked = registry.check("names-value", new).await.unwrap();
    assert!(!checked.reasons.is_empty() && checked.latest.is_some(), "{checked:?}");
    assert_eq!(registry.register("names-value", new).await.unwrap_err().kind, ErrorKind::SchemaConflict);
    assert_eq!(registry.register("names-value", "{").await.unwrap_err().kind, ErrorKind::SchemaConflict);
    let text = registry.by_id(id).await.unwrap().unwrap();
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&text).unwrap(),
        serde_json::from_str::<serde_json::Value>(old).unwrap()
    );
    assert_eq!(registry.by_id(987_654).await.unwrap(), None);
    // A wrong path is no answer about a schema or a subject.
    let below = Registry::shared().await.unwrap().url();
    let below = HttpRegistry::new(RegistryConfig::new(format!("{below}/nowhere"))).unwrap();
    assert_eq!(below.by_id(id).await.unwrap_err().kind, ErrorKind::Config);
    assert_eq!(below.check("names-value", old).await.unwrap_err().kind, ErrorKind::Config);
    let kafka = Kafka::shared().await.unwrap().bootstrap();
    let wrong = HttpRegistry::new(RegistryConfig::new(format!("http://{kafka}"))).unwrap();
    assert_eq!(wrong.by_id(1).await.unwrap_err().kind, ErrorKind::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_looser_level_is_set_before_the_schema_that_needs_it() {
    let mut office = Office::new("looser").await;
    office.sink().open(&office.lane()).await.unwrap();
    let mut other = (*office.contract).clone();
    other.fields[1].ty = Type::Long;
    office.contract = other.shared();
    let suspended = office.sink().open(&office.lane()).await.unwrap().suspended();
    assert!(suspended[0].reason.contains("becomes long"), "{suspended:?}");

    office.compatibility = Some("NONE");
    assert_eq!(office.sink().open(&office.lane()).await.unwrap().suspended(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn i6_lanes_that_set_the_same_level_at_the_same_time_all_go_on() {
    let office = Office::new("at-once").await;
    for at in 0..10 {
        let subject = format!("{}.{at}-value", office.name);
        office.registry.register(&subject, "\"int\"").await.unwrap();
        let all = (0..8).map(|_| office.registry.set_compatibility(&subject, "FULL_TRANSITIVE"));
        try_join_all(all).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i3_a_record_that_kafka_does_not_take_is_set_aside_and_the_capture_goes_on() {
    let office = Office::new("large").await;
    let mut sink = office.sink();
    sink.open(&office.lane()).await.unwrap();
    // Random letters, so that compression saves nothing: one a little too large, one that just fits.
    let text = |length: usize| {
        let mut state = 88_172_645_463_325_252_u64;
        let letters = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            char::from(b'0' + (state % 64) as u8)
        });
        Value::text(letters.take(length).collect::<String>())
    };
    let mut batch = office.batch(0, 10, 0..2);
    batch.changes[0].after = Some(vec![Value::Integer(0), text((16 << 20) - 2_000)]);
    batch.changes[1].after = Some(vec![Value::Integer(1), text((16 << 20) - 6_000)]);

    assert_eq!(sink.commit(&batch).await.unwrap().count(), 1);
    sink.commit(&office.batch(10, 20, 0..0)).await.unwrap();

    let mut ids = Vec::new();
    for p in 0..PARTITIONS {
        let mut source = office.source(p, Arc::<HttpRegistry>::clone(&office.registry));
        let mut checkpoint = Checkpoint::default();
        source.open(&checkpoint).await.unwrap();
        ids.extend(read_to(&mut source, &mut checkpoint, 20).await);
    }
    assert_eq!(ids, [1]);
    let (_, end) = office.log.extent("large.person.quarantine").await.unwrap().unwrap()[&0];
    assert!(end > 0, "the large one is kept there by its key");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contract_grows_and_one_that_breaks_readers_is_refused() {
    let office = Office::new("grow").await;
    let mut sink = office.sink();
    sink.open(&office.lane()).await.unwrap();
    let mut wider = (*office.contract).clone();
    wider.fields.push(Field::new("note", Type::Numeric));
    sink.prepare(&wider).await.unwrap();
    wider.fields[2].ty = Type::Long;
    let error = sink.prepare(&wider).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::SchemaConflict, "{error}");
}
