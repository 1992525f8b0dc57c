//! Sealed columns under a ledger: who is granted one opens it by a key of its own, and nobody else; over processes apart.

use std::fs;
use std::process::Command;

use hutong_bus::{kafka, keys};
use hutong_core::seal::{PrivateKey, PublicKey, ring};
use hutong_testkit::launch::{Database, Kafka, Postgres, connect, free_port};
use tokio_postgres::Client;

use crate::cli::ended;
use crate::installation::{Bus, Installation, Run, until};
use crate::replica::{Expected, Projection, Replica};

/// What is looked for: in two sealed columns, and in one that is not, by which the search is known to find something.
const PLANTED: [&str; 3] = ["Qx4Nc8Vb2w", "Zt6Rf1Hk9y", "Lg3Dp7Ms5e"];

const CONTRACT: &str = r#"{"type":"record","name":"entry","sharing":"conditional","condition":"用于履行法定职责",
    "seal":["personal"],"key":["id"],"fields":[{"name":"id","type":"long"},
    {"name":"name","type":["null","string"],"classification":"personal"},
    {"name":"phone","type":["null","string"],"classification":"personal"},{"name":"state","type":["null","string"]}]}"#;

/// Who subscribes, as what.
const HALVES: [(&str, &str); 2] = [("renshe", "pension"), ("minzheng", "relief")];

struct Town {
    owner: String,
    client: Client,
    installation: Installation,
    capture: String,
}

impl Town {
    /// An owner that governs, two departments that have asked for everything, and a configuration for each of the three.
    async fn new() -> Self {
        let source = Postgres::shared().await.unwrap();
        let client = connect(&source.url).await.unwrap();
        let owner = source.name.clone();
        let installation = Installation::new(Bus::Kafka, &owner, "").await;
        installation.announce(&["nothing flows"]);
        installation.write("entry.avsc", CONTRACT);
        let says = |arguments: &[&str]| installation.ask(arguments).expect(0).trim().to_owned();
        let signs = [owner.as_str(), "renshe", "minzheng"]
            .map(|department| says(&["ledger", "keygen", &format!("{department}.key")]));
        let seals = [owner.as_str(), "renshe", "minzheng"]
            .map(|department| says(&["ledger", "keygen", "--sealing", &format!("{department}.seal")]));
        let head = fs::read_to_string(installation.path("hutong.toml")).unwrap();
        let ledger = format!("[ledger]\ngoverning = \"{owner}\"\ngoverning_key = \"{}\"\n", signs[0]);
        let departments = format!(
            "[department.{owner}]\nname = \"公安局\"\n[department.renshe]\nname = \"人社局\"\n\
             [department.minzheng]\nname = \"民政局\"\n[stream.entry]\nowner = \"{owner}\"\n\
             contract = \"entry.avsc\"\npartitions = 2\n"
        );
        let all = HALVES.map(|(department, name)| subscription(department, name)).concat();
        let text = format!(
            "{head}{ledger}keys = {{ {owner} = \"{owner}.key\", renshe = \"renshe.key\", minzheng = \"minzheng.key\" }}\n\
             [sealing]\nkeys = {{ {owner} = \"{owner}.seal\" }}\n\
             public = {{ renshe = \"{}\", minzheng = \"{}\" }}\n{departments}{}{all}",
            seals[1],
            seals[2],
            capture(&owner, &source),
        );
        installation.write("hutong.toml", &text);
        for (department, name) in HALVES {
            let head = head.replace(&installation.address(), &format!("127.0.0.1:{}", free_port()));
            let sealing = format!(
                "[sealing]\nkeys = {{ {department} = \"{department}.seal\" }}\npublic = {{ {owner} = \"{}\" }}\n",
                seals[0]
            );
            let half =
                format!("{sealing}{departments}capture = \"{owner}\"\n{}", subscription(department, name));
            installation.write(&format!("{department}.toml"), &format!("{head}{ledger}{half}"));
            // The same without a ledger to hold it back: only keys do.
            installation.write(&format!("{department}-alone.toml"), &format!("{head}{half}"));
        }
        for file in ["hutong.toml", "renshe.toml", "minzheng.toml", "minzheng-alone.toml"] {
            let told = installation.ask(&["-c", file, "check"]);
            assert_eq!(told.code, 0, "{file}: {}{}", told.out, told.err);
        }
        let [name, phone, state] = PLANTED;
        let table = format!(
            "CREATE TABLE entry (id bigint PRIMARY KEY, name text, phone text, state text);
             ALTER TABLE entry REPLICA IDENTITY FULL;
             INSERT INTO entry SELECT n, '{name}' || n, '{phone}' || n, '{state}' FROM generate_series(1, 40) n"
        );
        client.batch_execute(&table).await.unwrap();
        says(&["ledger", "join", "renshe", &signs[1]]);
        says(&["ledger", "join", "minzheng", &signs[2]]);
        says(&["ledger", "offer", "entry"]);
        HALVES.iter().for_each(|(_, name)| drop(says(&["subscription", "request", name])));
        Self { capture: format!("capture.{owner}"), owner, client, installation }
    }

    #[track_caller]
    fn says(&self, arguments: &[&str]) {
        self.installation.ask(arguments).expect(0);
    }

    fn captures(&self) -> Run {
        self.installation.run_only(&[&self.capture])
    }

    fn half(&self, file: &str) -> Run {
        self.installation.begin(&["-c", file, "run"])
    }

    /// Waits until a replica holds these columns of the register, as it is.
    async fn reaches(&self, name: &str, columns: &[&str]) {
        let columns = columns.iter().map(|name| Expected::same(name)).collect();
        let file = self.installation.path(&format!("{name}.db"));
        let projection = Projection { from: "entry".into(), columns };
        projection.reached(&self.client, &Replica::Sqlite(&file, "entry")).await;
    }

    /// Changes every row, so that each is written once more.
    async fn writes(&self, word: &str) {
        let sql = format!("UPDATE entry SET name = '{word}' || id, phone = '{word}' || phone");
        self.client.batch_execute(&sql).await.unwrap();
    }

    async fn logs(&self, text: &str) {
        until(&format!("it is logged: {text}"), async || self.installation.logged(text).then_some(())).await;
    }

    fn holds(&self, replica: &str, text: &str) -> bool {
        // What a killed process has committed stands beside the file.
        ["db", "db-wal"].iter().any(|end| {
            let held = fs::read(self.installation.path(&format!("{replica}.{end}"))).unwrap_or_default();
            held.windows(text.len()).any(|part| part == text.as_bytes())
        })
    }

    /// Returns how many epochs the sealed columns open in by the key of a department, under its grant.
    async fn epochs(&self, department: &str, grant: &str) -> String {
        let config = kafka::Config {
            brokers: Kafka::shared().await.unwrap().bootstrap(),
            bus: format!("bus{}", self.owner),
            ..kafka::Config::default()
        };
        let bus = kafka::Bus::new(config).unwrap();
        let topic = keys::topic(&format!("bus{}", self.owner), &self.owner);
        let records = keys::read(bus.as_ref(), &topic).await.unwrap();
        let key = |department: &str| {
            let text = fs::read_to_string(self.installation.path(&format!("{department}.seal"))).unwrap();
            PrivateKey::parse(&text).unwrap()
        };
        let by: PublicKey = hutong_core::seal::Custody::public(&key(&self.owner));
        let (topic, fields) = (format!("{}.entry.v1", self.owner), ["name".to_owned(), "phone".to_owned()]);
        let opener = ring::opener(&topic, &records, &key(department), &by, Some(grant), &fields).unwrap();
        format!("{opener:?}").split(", ").nth(1).unwrap().to_owned()
    }

    /// Asserts that no file of the brokers holds a sealed value, and that one holds a value that is not sealed.
    async fn hides(&self) {
        let folder = Kafka::shared().await.unwrap().folder().to_owned();
        let found = PLANTED.map(|planted| {
            let mut grep = Command::new("grep");
            grep.args(["-rlasF", "--exclude=*index", planted]).arg(&folder);
            ended(grep).out
        });
        assert!(found[0].is_empty() && found[1].is_empty(), "{found:?}");
        assert!(!found[2].is_empty(), "the search finds what is not sealed");
    }
}

fn capture(owner: &str, source: &Database) -> String {
    format!(
        "[store.source.postgres]\nurl = \"{}\"\n[capture.{owner}]\nfrom = \"source\"\n\
         tables = {{ \"public.entry\" = \"entry\" }}\nwatermark_interval = \"500ms\"\n",
        source.url
    )
}

fn subscription(department: &str, name: &str) -> String {
    format!(
        "[store.{name}.sqlite]\npath = \"{name}.db\"\n[subscription.{name}]\ndepartment = \"{department}\"\n\
         stream = \"entry\"\npurpose = \"核验\"\nlegal_basis = \"社会保险法（示例）\"\nuntil = 2099-12-31\n\
         columns = [\"id\", \"name\", \"phone\", \"state\"]\ninto = {{ store = \"{name}\", table = \"entry\" }}\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_a_sealed_column_opens_for_whom_the_ledger_grants_it_and_nothing_later_for_whom_it_does_no_more() {
    let town = Town::new().await;
    let capturing = town.captures();
    town.logs("an epoch of the sealing key begins").await;

    // Granted while the bus runs: the one with its sealed columns, the other without.
    town.says(&["subscription", "approve", "pension"]);
    town.says(&["subscription", "approve", "relief", "--without", "name", "--without", "phone"]);
    town.installation.announce(&[
        "the configuration asks for something else than is granted: the grant flows",
        "the ledger cannot be reached: verified grants go on for so many seconds",
    ]);
    let (pension, relief) = (town.half("renshe.toml"), town.half("minzheng.toml"));
    town.reaches("pension", &["id", "name", "phone", "state"]).await;
    town.reaches("relief", &["id", "state"]).await;
    assert_eq!(town.epochs("renshe", "pension").await, "1 epochs)");
    for grant in ["relief", "pension"] {
        assert_eq!(town.epochs("minzheng", grant).await, "0 epochs)", "{grant}");
    }
    relief.kill();
    // Its own process, whatever its configuration says, has no key.
    let alone = town.half("minzheng-alone.toml");
    town.logs("is sealed under epoch 1, whose key is not wrapped for this reader").await;
    alone.kill();
    assert!(!town.holds("relief", PLANTED[0]) && !town.holds("relief", PLANTED[1]));

    // Revoked: what is written from then on is sealed by another key.
    town.says(&["subscription", "revoke", "pension", "--reason", "收回"]);
    town.logs("\"epoch\":2").await;
    pension.kill();
    town.writes("Afterwards1").await;
    let alone = town.half("renshe-alone.toml");
    town.logs("is sealed under epoch 2, whose key is not wrapped for this reader").await;
    alone.kill();
    assert!(town.holds("pension", PLANTED[0]) && !town.holds("pension", "Afterwards1"));
    assert_eq!(town.epochs("renshe", "pension").await, "1 epochs)");

    // Granted again, and narrowed while the capture is dead: it begins with what the ledger says. I7.
    town.says(&["subscription", "request", "pension"]);
    town.says(&["subscription", "approve", "pension"]);
    let pension = town.half("renshe.toml");
    town.reaches("pension", &["id", "name", "phone", "state"]).await;
    capturing.kill();
    town.says(&["subscription", "narrow", "pension", "--without", "phone"]);
    town.writes("Afterwards2").await;
    let capturing = town.captures();
    town.logs("\"epoch\":3").await;
    town.reaches("pension", &["id", "name", "state"]).await;
    pension.kill();
    capturing.stop().await;
    town.hides().await;
    let log = fs::read_to_string(town.installation.path("hutong.log")).unwrap();
    assert!(PLANTED.iter().all(|planted| !log.contains(planted)) && !log.contains("Afterwards"));
}
