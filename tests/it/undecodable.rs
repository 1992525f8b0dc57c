//! A record that nobody can read waits, can be looked at, and is read again when its cause is mended.

use std::sync::Arc;

use hutong_bus::embedded::{Bus as Folder, Options, Registry};
use hutong_bus::envelope::{Encoder, schemas};
use hutong_bus::log::{Log, Outgoing, TopicSpec, Trim};
use hutong_bus::{SchemaRegistry, framing};
use hutong_core::{
    Before, Change, Contract, Field, Kind, LaneId, Op, Origin, PipelineId, Place, Position, Type, Value,
};
use hutong_testkit::launch::{Postgres, connect};
use rusqlite::Connection;
use serde_json::Value as Json;

use crate::installation::{Bus, Installation, until};

const TOPIC: &str = "strange.entry.v1";

const CONTRACT: &str = r#"{"type":"record","name":"entry","sharing":"unconditional","key":["id"],"fields":[
    {"name":"id","type":"long"},{"name":"note","type":["null","string"]}]}"#;

fn change(contract: &Arc<Contract>, op: Op, id: i64, note: &str) -> Change {
    let mut row = vec![Value::Integer(id), Value::text(note)];
    row.resize(contract.fields.len(), Value::Null);
    let (before, after) = match op {
        Op::Delete => (Before::Key(contract.key_row(&row[..1])), None),
        _ => (Before::None, Some(row)),
    };
    let place = Arc::new(Place { connector: "postgresql".into(), ..Place::default() });
    let origin = Origin { place, committed_us: 1, xid: None, lsn: None, transaction: None, last: true };
    let at = Position::wal(0, 1, 0, 0);
    Change { contract: Arc::clone(contract), op, before, after, position: at, source_position: at, origin }
}

/// The topic of another program, which has begun to write by a schema that it has not registered.
struct Stranger {
    contract: Arc<Contract>,
    wider: Arc<Contract>,
}

impl Stranger {
    fn new() -> Self {
        let contract = Contract::parse(CONTRACT).unwrap();
        let mut wider = contract.clone();
        wider.fields.push(Field::new("remark", Type::Text { length: None }));
        Self { contract: contract.shared(), wider: wider.shared() }
    }

    fn open(installation: &Installation) -> (Arc<Folder>, Registry) {
        let bus = Folder::open(&installation.path("bus"), Options::default()).unwrap();
        let registry = Registry::new(Arc::clone(&bus));
        (bus, registry)
    }

    /// Writes five changes; the second is by a schema whose id comes next in the registry. Returns that id.
    async fn write(&self, installation: &Installation) -> u32 {
        let (bus, registry) = Self::open(installation);
        bus.ensure(&TopicSpec { name: TOPIC.into(), partitions: 1, compacted: false }).await.unwrap();
        let texts = schemas(&self.contract, TOPIC);
        let key = registry.register(&format!("{TOPIC}-key"), &texts.key).await.unwrap();
        let value = registry.register(&format!("{TOPIC}-value"), &texts.value).await.unwrap();
        let mut known = Encoder::new(Arc::clone(&self.contract), key, value);
        let mut unknown = Encoder::new(Arc::clone(&self.wider), key, value + 1);
        let steps = [
            (Op::Insert, 1, "甲"),
            (Op::Insert, 2, "乙"),
            (Op::Update, 1, "丙"),
            (Op::Insert, 3, "丁"),
            (Op::Delete, 3, ""),
        ];
        let records = steps.into_iter().map(|(op, id, note)| {
            let encoded = match id {
                2 => unknown.encode(&change(&self.wider, op, id, note), 1),
                _ => known.encode(&change(&self.contract, op, id, note), 1),
            };
            let encoded = encoded.unwrap();
            Outgoing {
                topic: TOPIC.into(),
                partition: 0,
                key: encoded.key,
                value: Some(encoded.value),
                headers: Vec::new(),
            }
        });
        let records = records.collect();
        let lane = LaneId::new(PipelineId::new(Kind::Capture, "stranger"), 0);
        let mut writer = bus.writer(&lane).await.unwrap();
        writer.open().await.unwrap();
        writer.commit(records, framing::head(value).to_vec().into()).await.unwrap();
        value + 1
    }

    async fn register(&self, installation: &Installation, id: u32) {
        let (_bus, registry) = Self::open(installation);
        let text = schemas(&self.wider, TOPIC).value;
        assert_eq!(registry.register(&format!("{TOPIC}-value"), &text).await.unwrap(), id);
    }
}

fn subscription(name: &str, store: &str, table: &str) -> String {
    format!(
        "[subscription.{name}]\ndepartment = \"renshe\"\nstream = \"entry\"\npurpose = \"核验\"\n\
         columns = [\"id\", \"note\"]\ninto = {{ store = \"{store}\", table = \"{table}\" }}\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_a_record_by_an_unknown_schema_is_seen_and_read_again_when_the_schema_is_there() {
    let share = Postgres::shared().await.unwrap();
    let replica = connect(&share.url).await.unwrap();
    let configuration = format!(
        "[department.strange]\nname = \"外来\"\n[department.renshe]\nname = \"市人社局\"\n\
         [store.share.postgres]\nurl = \"{}\"\n[store.office.sqlite]\npath = \"office.db\"\n\
         [stream.entry]\nowner = \"strange\"\ncontract = \"entry.avsc\"\npartitions = 1\n{}{}",
        share.url,
        subscription("shared", "share", "public.entry"),
        subscription("filed", "office", "entry"),
    );
    let installation = Installation::new(Bus::Embedded, "undecodable", &configuration).await;
    installation.announce(&["quarantined"]);
    installation.write("entry.avsc", CONTRACT);
    std::fs::create_dir_all(installation.path("bus")).unwrap();
    let stranger = Stranger::new();
    let id = stranger.write(&installation).await;
    let shared = async || {
        let sql = "SELECT string_agg(id || ' ' || note, ', ' ORDER BY id) FROM entry";
        replica.query_one(sql, &[]).await.ok()?.get::<_, Option<String>>(0)
    };
    let filed = || {
        let sql = "SELECT group_concat(id || ' ' || note, ', ') FROM (SELECT * FROM entry ORDER BY id)";
        let connection = Connection::open(installation.path("office.db")).ok()?;
        connection.query_row(sql, [], |row| row.get::<_, Option<String>>(0)).ok()?
    };
    let reached = async |wanted: &str| {
        until(&format!("the replicas are {wanted}"), async || {
            (shared().await? == wanted && filed()? == wanted).then_some(())
        })
        .await;
    };
    let items = |name: &str| -> Vec<Json> {
        let list = installation.ask(&["quarantine", "list", name, "-o", "json"]).expect(0);
        serde_json::from_str(&list).unwrap()
    };
    let run = installation.run();
    reached("1 丙").await;
    run.stop().await;

    for name in ["shared", "filed"] {
        let items = items(name);
        assert_eq!((items.len(), &items[0]["rule"]), (1, &"unknown_schema".into()), "{items:?}");
        let place = format!("{}/{}", items[0]["record"]["partition"], items[0]["record"]["offset"]);
        let shown = installation.ask(&["tap", "entry", "--at", &place, "--raw", "-o", "json"]).expect(0);
        let shown: Json = serde_json::from_str(&shown).unwrap();
        assert_eq!(
            (&shown["digest"], &shown["schema_id"]),
            (&items[0]["record"]["digest"], &id.into()),
            "{shown}"
        );
        let hex = shown["value"]["hex"].as_str().unwrap();
        let note: String = "乙".bytes().map(|b| format!("{b:02x}")).collect();
        assert!(hex.starts_with(&format!("00{id:08x}")) && hex.contains(&note), "{hex}");
        // Who finds it is told the command, wherever he looks.
        let command = "hutong tap entry --at 0/1 --raw";
        assert_eq!(
            (&items[0]["bytes"]["command"], &items[0]["bytes"]["held"]),
            (&command.into(), &true.into())
        );
        let item = items[0]["id"].to_string();
        let list = installation.ask(&["quarantine", "list", name]).expect(0);
        assert!(list.contains(&format!("bytes of {item}: {command}")), "{list}");
        let one: Json =
            serde_json::from_str(&installation.ask(&["quarantine", "show", name, &item]).expect(0)).unwrap();
        assert!(one["bytes"]["said"].as_str().unwrap().contains("until a later base"), "{one}");
        let refused = installation.ask(&["quarantine", "replay", name]);
        assert_eq!(refused.code, 9, "{}{}", refused.out, refused.err);
        for part in ["still cannot be read", "hutong tap entry --at 0/1 --raw"] {
            assert!(refused.out.contains(part), "{part} in {}", refused.out);
        }
    }
    let text = installation.ask(&["tap", "entry", "--at", "0/1", "--raw"]).expect(0);
    assert!(
        text.contains("strange.entry.v1/0 at offset 1, schema") && text.contains("  00000000  00 "),
        "{text}"
    );
    let gone = installation.ask(&["tap", "entry", "--at", "0/99", "--raw"]);
    assert!(gone.code == 9 && gone.err.contains("the partition holds offsets 0 to 4"), "{}", gone.err);

    stranger.register(&installation, id).await;
    for name in ["shared", "filed"] {
        let said = installation.ask(&["quarantine", "replay", name]).expect(0);
        assert!(
            said.contains("goes back to its record, which settles what it set aside from there on (1)"),
            "{said}"
        );
        assert_eq!(items(name)[0]["state"], "replayed");
    }
    let run = installation.run();
    reached("1 丙, 2 乙").await;
    run.stop().await;
    for name in ["shared", "filed"] {
        assert_eq!(items(name).len(), 1, "nothing more was set aside");
    }
    // What the topic does not keep, nobody has: that is said, and what can be done.
    let (bus, _) = Stranger::open(&installation);
    bus.trim(TOPIC, 0, 2, i64::MAX).await.unwrap();
    drop(bus);
    let bytes = items("shared")[0]["bytes"].clone();
    assert_eq!((&bytes["held"], &bytes["command"]), (&false.into(), &Json::Null), "{bytes}");
    for part in ["they are gone: strange.entry.v1/0 at offset 1", "hutong verify shared --repair"] {
        assert!(bytes["said"].as_str().unwrap().contains(part), "{part} in {bytes}");
    }
}
