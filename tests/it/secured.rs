//! A cluster that asks who comes: SASL/SCRAM over TLS and the standard authorizer. A subscriber reads its delivery topic
//! and nothing else, nobody else reads it, and what was revoked is shut.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hutong_bus::kafka::{self, May, Right};
use hutong_bus::log::Incoming;
use hutong_bus::{Decoder, HttpRegistry, RegistryConfig};
use hutong_core::{Contract, Secret, Value};
use hutong_testkit::launch::{OPERATOR, Registry, SecuredKafka};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rusqlite::{Connection, OpenFlags};

use crate::installation::{Installation, PATIENCE, until};

const CONTRACT: &str = r#"{"type":"record","name":"entry","title":"登记","key":["id"],
    "sharing":"conditional","condition":"用于履行法定职责","fields":[
    {"name":"id","type":"long"},{"name":"name","type":["null","string"]},{"name":"phone","type":["null","string"]}]}"#;

/// What the pension office knows of the stream: the columns that are delivered to it.
const DELIVERED: &str = r#"{"type":"record","name":"entry","title":"登记","key":["id"],"sharing":"unconditional",
    "fields":[{"name":"id","type":"long"},{"name":"name","type":["null","string"]}]}"#;

const TOPIC: &str = "gongan.entry.to.pension.v1";

const TOWN: &str = r#"
[ledger]
governing = "shuju"
governing_key = "GOVERNING"
keys = { shuju = "shuju.key", gongan = "gongan.key", busoffice = "busoffice.key", weijian = "weijian.key" }
[department.shuju]
name = "数据局"
[department.gongan]
name = "公安局"
[department.busoffice]
name = "人社局"
principal = "User:renshe"
[department.weijian]
name = "卫健委"
principal = "User:weijian"
[store.office.sqlite]
path = "office.db"
[stream.entry]
owner = "gongan"
contract = "entry.avsc"
partitions = 2
[capture.register]
from = "office"
tables = { entry = "entry" }
watermark_interval = "1s"
[subscription.pension]
department = "busoffice"
stream = "entry"
purpose = "核验"
legal_basis = "示例法 第一条"
until = 2099-12-31
columns = ["id", "name"]
rows = "id < 100"
into = { topic = true }
[subscription.health]
department = "weijian"
stream = "entry"
purpose = "核验"
legal_basis = "示例法 第一条"
until = 2099-12-31
columns = ["id", "phone"]
into = { topic = true }
"#;

const HALF: &str = r#"
[department.gongan]
name = "公安局"
[department.busoffice]
name = "人社局"
[store.share.sqlite]
path = "share.db"
[stream.entry]
owner = "gongan"
contract = "entry.avsc"
partitions = 2
delivered = "pension"
[subscription.mine]
department = "busoffice"
stream = "entry"
purpose = "核验"
columns = ["id", "name"]
into = { store = "share", table = "people" }
"#;

/// A cluster with a town over it.
struct Given {
    kafka: SecuredKafka,
    town: Installation,
}

/// Returns the bus's table for a user.
fn bus(kafka: &SecuredKafka, registry: &str, user: &str) -> String {
    format!(
        "[bus.kafka]\nbrokers = \"{}\"\nregistry = \"{registry}\"\n[bus.kafka.security]\ntls = {{ ca_file = \"{}\" }}\n\
         sasl = {{ scram_sha_512 = {{ user = \"{user}\", password = {{ file = \"password\" }} }} }}\n",
        kafka.bootstrap(),
        kafka.authority().display()
    )
}

impl Given {
    async fn new() -> Self {
        let kafka = SecuredKafka::start(&["renshe", "weijian"]).await.unwrap();
        let registry = Registry::shared().await.unwrap().url();
        let town = Installation::over(&bus(&kafka, &registry, OPERATOR), "secured", TOWN);
        town.announce(&[
            "nothing flows",
            "the configuration asks for something else than is granted: the grant flows",
            "halted",
            "another process has taken it: gives way",
        ]);
        town.write("password", &SecuredKafka::password(OPERATOR));
        town.write("entry.avsc", CONTRACT);
        let given = Self { kafka, town };
        let keys = given.town.make_keys(["shuju", "gongan", "busoffice", "weijian"]);
        given.change(
            "CREATE TABLE entry (id INTEGER PRIMARY KEY, name TEXT, phone TEXT);
             INSERT INTO entry VALUES (1, '甲', '13900000001'), (2, '乙', '13900000002'), (990101, '丙', '13900000003')",
        );
        given.says(&["source", "install", "register"]);
        given.town.found(&keys, "entry");
        for subscription in ["pension", "health"] {
            given.says(&["subscription", "request", subscription]);
            given.says(&["subscription", "approve", subscription]);
        }
        given
    }

    #[track_caller]
    fn says(&self, arguments: &[&str]) -> String {
        self.town.ask(arguments).expect(0)
    }

    fn change(&self, sql: &str) {
        let db = Connection::open(self.town.path("office.db")).unwrap();
        db.busy_timeout(Duration::from_secs(10)).unwrap();
        db.execute_batch(sql).unwrap();
    }

    /// Returns the settings of a plain client; `None`: one without a name, through the door that asks for none.
    fn client(&self, user: Option<&str>) -> ClientConfig {
        let mut config = ClientConfig::new();
        let Some(user) = user else {
            config.set("bootstrap.servers", self.kafka.open_bootstrap());
            return config;
        };
        config
            .set("bootstrap.servers", self.kafka.bootstrap())
            .set("security.protocol", "sasl_ssl")
            .set("sasl.mechanism", "SCRAM-SHA-512")
            .set("sasl.username", user)
            .set("sasl.password", SecuredKafka::password(user))
            .set("ssl.ca.location", self.kafka.authority().to_str().unwrap());
        config
    }

    fn consumer(&self, user: Option<&str>, group: &str, topic: &str) -> BaseConsumer {
        let mut config = self.client(user);
        config
            .set("group.id", group)
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", "read_committed");
        let consumer: BaseConsumer = config.create().unwrap();
        consumer.subscribe(&[topic]).unwrap();
        consumer
    }

    /// Reads a topic until it has told `count` records and then nothing for a while; or why it must not.
    fn reads(
        &self,
        user: Option<&str>,
        group: &str,
        topic: &str,
        count: usize,
    ) -> Result<Vec<Incoming>, Code> {
        let consumer = self.consumer(user, group, topic);
        let (deadline, mut found) = (Instant::now() + PATIENCE, Vec::new());
        loop {
            match consumer.poll(Duration::from_millis(500)) {
                Some(Ok(message)) => found.push(Incoming {
                    offset: message.offset() as u64,
                    written_us: 0,
                    key: message.key().map(<[u8]>::to_vec).map(Into::into),
                    value: message.payload().map(<[u8]>::to_vec).map(Into::into),
                    headers: Vec::new(),
                }),
                // It is allowed before it is there.
                Some(Err(KafkaError::MessageConsumption(Code::UnknownTopicOrPartition))) => {}
                Some(Err(KafkaError::MessageConsumption(code))) => return Err(code),
                Some(Err(other)) => panic!("{other}"),
                None if found.len() >= count => return Ok(found),
                None => {}
            }
            assert!(Instant::now() < deadline, "{user:?} read {} of {count} records of {topic}", found.len());
        }
    }

    #[track_caller]
    fn refused(&self, user: Option<&str>, group: &str, topic: &str) -> Code {
        self.reads(user, group, topic, usize::MAX).expect_err(&format!("{user:?} reads {topic}"))
    }

    fn operator(&self) -> Arc<kafka::Bus> {
        let settings = [
            ("security.protocol", "sasl_ssl".to_owned()),
            ("sasl.mechanism", "SCRAM-SHA-512".to_owned()),
            ("sasl.username", OPERATOR.to_owned()),
            ("sasl.password", SecuredKafka::password(OPERATOR)),
            ("ssl.ca.location", self.kafka.authority().display().to_string()),
        ];
        let security =
            settings.into_iter().map(|(name, value)| (name.to_owned(), Secret::new(value))).collect();
        kafka::Bus::new(kafka::Config {
            brokers: self.kafka.bootstrap(),
            bus: "busoperator".into(),
            security,
            replication: None,
        })
        .unwrap()
    }

    async fn rights(&self, user: &str) -> Vec<May> {
        let rights = self.operator().rights(&format!("User:{user}")).await.unwrap();
        let mut may: Vec<May> = rights.into_iter().map(|right| right.may).collect();
        may.sort();
        may
    }

    async fn may(&self, user: &str, wanted: &[May]) {
        until(&format!("{user} may do {wanted:?}"), async || {
            (self.rights(user).await == wanted).then_some(())
        })
        .await;
    }
}

fn reading(topic: &str, groups: &str) -> [May; 3] {
    let topic = || topic.to_owned();
    [May::ReadTopic(topic()), May::DescribeTopic(topic()), May::ReadGroups(groups.into())]
}

/// Returns what the records say: key to name, `-` where the row has gone.
async fn people(records: &[Incoming]) -> BTreeMap<i64, String> {
    let url = Registry::shared().await.unwrap().url();
    let registry = Arc::new(HttpRegistry::new(RegistryConfig::new(&url)).unwrap());
    let mut decoder = Decoder::new(registry, Contract::parse(DELIVERED).unwrap().shared());
    let mut people = BTreeMap::new();
    for record in records {
        let change = decoder.decode_one(record).await.unwrap().unwrap();
        let row = change.after.as_ref().or(change.before.row()).unwrap();
        let Value::Integer(id) = row[0] else { panic!("{row:?}") };
        let name = change.after.as_ref().map_or("-", |row| row[1].as_text().unwrap());
        people.insert(id, name.to_owned());
    }
    people
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_a_subscriber_reads_its_delivery_topic_and_nothing_else_and_nobody_else_reads_it() {
    let given = Given::new().await;
    let run = given.town.run();
    given.may("renshe", &reading(TOPIC, "busoffice.")).await;
    given.may("weijian", &reading("gongan.entry.to.health.v1", "weijian.")).await;

    // A plain client of the department reads what is granted: two of three people, two of three columns.
    let records = given.reads(Some("renshe"), "busoffice.reader", TOPIC, 2).unwrap();
    assert_eq!(people(&records).await, [(1, "甲".into()), (2, "乙".into())].into());
    let bytes = |record: &Incoming| {
        [record.key.clone(), record.value.clone()].into_iter().flatten().collect::<Vec<_>>()
    };
    for bytes in records.iter().flat_map(bytes) {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(!text.contains("139000") && !text.contains('丙'), "{text}");
    }
    given.change("UPDATE entry SET name = '丁' WHERE id = 1; DELETE FROM entry WHERE id = 2");
    let records = given.reads(Some("renshe"), "busoffice.again", TOPIC, 4).unwrap();
    assert_eq!(people(&records).await, [(1, "丁".into()), (2, "-".into())].into());

    // Nothing else of the bus.
    let others = [
        "gongan.entry.v1",
        "gongan.entry.to.health.v1",
        "bussecured.ledger",
        "bussecured.checkpoint.capture.register",
        "bussecured.checkpoint.deliver.pension",
    ];
    for topic in others {
        assert_eq!(
            given.refused(Some("renshe"), "busoffice.reader", topic),
            Code::TopicAuthorizationFailed,
            "{topic}"
        );
    }
    // Nobody else this topic, and no group of others.
    for (user, group) in [(Some("weijian"), "weijian.reader"), (None, "busoffice.reader")] {
        let code = given.refused(user, group, TOPIC);
        assert!(
            [Code::TopicAuthorizationFailed, Code::GroupAuthorizationFailed].contains(&code),
            "{user:?} {code:?}"
        );
    }
    assert_eq!(given.refused(Some("renshe"), "weijian.reader", TOPIC), Code::GroupAuthorizationFailed);
    let producer: BaseProducer = given.client(Some("renshe")).create().unwrap();
    let written = producer.send(BaseRecord::<[u8], [u8]>::to(TOPIC).key(b"k").payload(b"v"));
    written.map_err(|(error, _)| error).unwrap();
    let _ = producer.flush(Duration::from_secs(10));
    assert_eq!(
        given.reads(Some("renshe"), "busoffice.still", TOPIC, 4).unwrap().len(),
        4,
        "it may not write"
    );

    // Without the word of a user nobody comes through that door at all.
    let mut nameless = given.client(Some("renshe"));
    nameless.set("sasl.password", "guessed");
    let consumer: BaseConsumer = nameless.set("group.id", "busoffice.x").create().unwrap();
    assert!(consumer.fetch_metadata(Some(TOPIC), Duration::from_secs(5)).is_err());

    // What a person has given by hand is told, and is not taken away in secret.
    given.says(&["check", "--probe"]);
    let extra = Right { principal: "User:renshe".into(), may: May::ReadTopic("gongan.entry.v1".into()) };
    given.operator().give(vec![extra.clone()]).await.unwrap();
    let probed = given.town.ask(&["check", "--probe"]);
    assert!(probed.out.contains("gongan.entry.v1") && probed.code != 0, "{} {}", probed.out, probed.err);
    given.operator().take_away(vec![extra]).await.unwrap();

    // Revoked: shut, though the topic is there.
    given.says(&["subscription", "suspend", "pension", "--reason", "核查"]);
    given.may("renshe", &[]).await;
    assert!(given.reads(Some("renshe"), "busoffice.reader", TOPIC, usize::MAX).is_err());
    given.says(&["subscription", "resume", "pension"]);
    given.may("renshe", &reading(TOPIC, "busoffice.")).await;
    assert_eq!(given.reads(Some("renshe"), "busoffice.third", TOPIC, 4).unwrap().len(), 4);

    // Another grant is another topic, and only that.
    given.says(&["subscription", "narrow", "pension", "--rows", "id = 1"]);
    given.may("renshe", &reading("gongan.entry.to.pension.v2", "busoffice.")).await;

    given.says(&["subscription", "revoke", "pension", "--reason", "收回", "--recall"]);
    given.may("renshe", &[]).await;
    until("the topics are gone", async || {
        let operator = given.client(Some(OPERATOR)).set("group.id", "x").create::<BaseConsumer>().unwrap();
        let metadata = operator.fetch_metadata(None, Duration::from_secs(10)).ok()?;
        metadata.topics().iter().all(|topic| !topic.name().contains(".to.pension.")).then_some(())
    })
    .await;
    given.may("weijian", &reading("gongan.entry.to.health.v1", "weijian.")).await;
    run.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_over_tls_ends_when_its_work_is_done_and_by_no_signal() {
    let given = Given::new().await;
    // Its reader may still hold a connection when it ends.
    for _ in 0..40 {
        given.says(&["subscription", "list"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_a_departments_own_half_fills_its_store_with_no_right_on_the_change_topic() {
    let given = Given::new().await;
    let run = given.town.run();
    given.may("renshe", &reading(TOPIC, "busoffice.")).await;
    let registry = Registry::shared().await.unwrap().url();
    let half = Installation::over(&bus(&given.kafka, &registry, "renshe"), "office", HALF);
    half.announce(&["halted"]);
    half.write("password", &SecuredKafka::password("renshe"));
    half.write("entry.avsc", DELIVERED);
    half.ask(&["check"]).expect(0);
    let own = half.run();
    let people = || {
        let path = half.path("share.db");
        let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
        db.busy_timeout(Duration::from_secs(10)).unwrap();
        let sql = "SELECT group_concat(id || ' ' || name) FROM (SELECT * FROM people ORDER BY id)";
        db.query_row(sql, [], |row| row.get::<_, Option<String>>(0)).ok()?
    };
    until("the people of the grant", async || people().filter(|told| told == "1 甲,2 乙")).await;
    given.change(
        "DELETE FROM entry WHERE id = 2; INSERT INTO entry VALUES (3, '戊', NULL), (990102, '己', NULL)",
    );
    until("what came since", async || people().filter(|told| told == "1 甲,3 戊")).await;

    given.says(&["subscription", "suspend", "pension", "--reason", "核查"]);
    given.may("renshe", &[]).await;
    // The group takes them away, too: not because another process has them.
    until("its lanes are taken away", async || (half.times_logged("gives back") > 0).then_some(())).await;
    until("its lanes say that they may not read", async || {
        let status = half.status()?;
        let lanes = status["lanes"].as_array()?;
        let denied = |lane: &serde_json::Value| lane["state"] == "halted" && lane["kind"] == "denied";
        let elsewhere = status["share"]["elsewhere"].as_array()?.len();
        (elsewhere == 0 && lanes.len() == 2 && lanes.iter().all(denied)).then_some(())
    })
    .await;
    assert_eq!(people().as_deref(), Some("1 甲,3 戊"), "what it holds stays");

    given.change("UPDATE entry SET name = '庚' WHERE id = 3");
    given.says(&["subscription", "resume", "pension"]);
    until("what came meanwhile", async || people().filter(|told| told == "1 甲,3 庚")).await;
    own.stop().await;
    run.stop().await;
}
