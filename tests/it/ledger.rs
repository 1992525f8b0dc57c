//! The ledger over the built program: nothing flows without the owner's word, and what was said can be proved.

use std::sync::Arc;

use hutong_bus::ledger::{Append, Found, Tail};
use hutong_bus::log::Log;
use hutong_bus::{embedded, kafka};
use hutong_core::ledger::{Act, Book, Charter, Digest, Entry, PrivateKey, Taken};
use hutong_testkit::launch::{Kafka, Postgres, connect};
use rusqlite::{Connection, OpenFlags};
use serde_json::Value as Json;
use tokio::sync::{Mutex, MutexGuard};
use tokio_postgres::Client;

use crate::cli::Ended;
use crate::cut::{cut, remembered};
use crate::installation::{Bus, Installation, until};

const CONTRACT: &str = r#"{"type":"record","name":"entry","title":"登记","key":["id"],
    "sharing":"conditional","condition":"用于履行法定职责","fields":[
    {"name":"id","type":"long","title":"编号"},
    {"name":"name","type":["null","string"],"title":"姓名","classification":"内部"},
    {"name":"phone","type":["null","string"],"title":"电话","classification":"敏感"}]}"#;

const CONFIGURATION: &str = r#"
[ledger]
governing = "shuju"
governing_key = "GOVERNING"
keys = { shuju = "shuju.key", gongan = "gongan.key", renshe = "renshe.key", minzheng = "minzheng.key" }

[department.shuju]
name = "数据局"
[department.gongan]
name = "公安局"
[department.renshe]
name = "人社局"
[department.minzheng]
name = "民政局"

[store.office.sqlite]
path = "office.db"
[store.renshe.STORE]

[stream.entry]
owner = "gongan"
contract = "entry.avsc"
partitions = 2

[capture.register]
from = "office"
tables = { entry = "entry" }
watermark_interval = "1s"

[subscription.pension]
department = "renshe"
stream = "entry"
purpose = "养老保险待遇资格核验"
legal_basis = "社会保险法 第七十四条"
until = 2099-12-31
columns = ["id", "name", "phone"]
into = { store = "renshe", table = "entry" }
"#;

pub(crate) type Row = (i64, Option<String>, Option<String>);
pub(crate) type Rows = Vec<Row>;

/// Where the replica is.
pub(crate) enum Share {
    Sqlite,
    /// The towns of all tests have one owner, so on the cluster that they share they have one topic: each at its turn.
    Postgres {
        client: Box<Client>,
        _turn: MutexGuard<'static, ()>,
    },
}

static TURN: Mutex<()> = Mutex::const_new(());

/// Departments with keys, a register of ten entries, and a ledger that everybody has joined and `entry` is offered in.
pub(crate) struct Town {
    pub(crate) installation: Installation,
    bus: Bus,
    share: Share,
    pub(crate) name: String,
}

impl Town {
    /// Over the embedded bus into SQLite.
    pub(crate) async fn embedded(name: &str) -> Self {
        let configuration =
            CONFIGURATION.replace("[store.renshe.STORE]", "[store.renshe.sqlite]\npath = \"renshe.db\"");
        Self::new(Bus::Embedded, Share::Sqlite, name, &configuration).await
    }

    /// Over Kafka into PostgreSQL.
    pub(crate) async fn kafka() -> Self {
        let turn = TURN.lock().await;
        let share = Postgres::shared().await.unwrap();
        let store = format!("[store.renshe.postgres]\nurl = \"{}\"", share.url);
        let configuration = CONFIGURATION.replace("[store.renshe.STORE]", &store);
        let client = Box::new(connect(&share.url).await.unwrap());
        Self::new(Bus::Kafka, Share::Postgres { client, _turn: turn }, &share.name, &configuration).await
    }

    async fn new(bus: Bus, share: Share, name: &str, configuration: &str) -> Self {
        let installation = Installation::new(bus, name, configuration).await;
        installation.announce(&[
            "nothing flows",
            "the configuration asks for something else than is granted: the grant flows",
            "a record of the ledger counts for nothing",
            "the ledger stops the delivery to a department",
            "halted",
        ]);
        installation.write("entry.avsc", CONTRACT);
        let town = Self { installation, bus, share, name: format!("bus{name}") };
        let keys = town.installation.make_keys(["shuju", "gongan", "renshe", "minzheng"]);
        town.change(
            "CREATE TABLE entry (id INTEGER PRIMARY KEY, name TEXT, phone TEXT);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10)
             INSERT INTO entry SELECT i, '甲' || i, '990' || i FROM n;",
        );
        town.says(&["source", "install", "register"]);
        town.installation.found(&keys, "entry");
        town
    }

    #[track_caller]
    pub(crate) fn says(&self, arguments: &[&str]) -> String {
        self.installation.ask(arguments).expect(0)
    }

    pub(crate) fn asks(&self, arguments: &[&str]) -> Ended {
        self.installation.ask(arguments)
    }

    pub(crate) fn change(&self, sql: &str) {
        let db = Connection::open(self.installation.path("office.db")).unwrap();
        db.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
        db.execute_batch(sql).unwrap();
    }

    /// Returns the replica; empty while it is not there.
    pub(crate) async fn replica(&self) -> Rows {
        match &self.share {
            Share::Sqlite => {
                self.columns("id, name, phone").or_else(|| self.columns("id, name, NULL")).unwrap_or_default()
            }
            Share::Postgres { client, .. } => {
                // A column that was never granted is not there.
                for phone in ["phone", "NULL::text"] {
                    let sql = format!("SELECT id, name, {phone} FROM entry ORDER BY id");
                    if let Ok(rows) = client.query(&sql, &[]).await {
                        return rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
                    }
                }
                Rows::new()
            }
        }
    }

    fn columns(&self, columns: &str) -> Option<Rows> {
        let path = self.installation.path("renshe.db");
        let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
        db.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
        let mut query = db.prepare(&format!("SELECT {columns} FROM entry ORDER BY id")).ok()?;
        let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
        Some(rows.map(Result::unwrap).collect())
    }

    pub(crate) async fn reaches(&self, what: &str, rows: impl Fn(&Rows) -> bool) {
        until(what, async || rows(&self.replica().await).then_some(())).await;
    }

    /// Waits until every lane of the subscription says why nothing may flow.
    pub(crate) async fn held(&self, why: &str) {
        self.stands("held", why).await;
    }

    /// Waits until every lane of the subscription is in a state and says why.
    pub(crate) async fn stands(&self, state: &str, why: &str) {
        until(&format!("every lane is {state} and says: {why}"), async || {
            let lanes = self.lanes()?;
            let says = |lane: &Json| {
                lane["state"] == state && lane["error"].as_str().is_some_and(|text| text.contains(why))
            };
            (lanes.len() == 2 && lanes.iter().all(says)).then_some(())
        })
        .await;
    }

    pub(crate) fn lanes(&self) -> Option<Vec<Json>> {
        let lanes = self.installation.lanes()?;
        Some(lanes.into_iter().filter(|lane| lane["pipeline"] == "replicate.pension").collect())
    }

    /// Waits until the capture has committed everything that the register holds.
    pub(crate) async fn captured(&self) {
        let committed = || {
            let lanes = self.installation.lanes()?;
            let capture = lanes.iter().find(|lane| lane["pipeline"] == "capture.register")?.clone();
            capture["committed"].as_u64()
        };
        let before = committed().unwrap();
        self.change("UPDATE entry SET name = name || '+' WHERE id = 1");
        until("the capture goes on", async || committed().filter(|now| *now > before)).await;
    }

    pub(crate) async fn ends(&self) -> (Arc<dyn Log>, Arc<dyn Append>) {
        match self.bus {
            Bus::Embedded => {
                let options = embedded::Options { bus: self.name.clone(), ..Default::default() };
                let bus = embedded::Bus::open_beside(&self.installation.path("bus"), options).unwrap();
                (Arc::clone(&bus) as _, bus)
            }
            Bus::Kafka => {
                let brokers = Kafka::shared().await.unwrap().bootstrap();
                let config = kafka::Config { brokers, bus: self.name.clone(), ..kafka::Config::default() };
                let bus = kafka::Bus::new(config).unwrap();
                (Arc::clone(&bus) as _, bus)
            }
        }
    }

    pub(crate) fn key(&self, department: &str) -> PrivateKey {
        let text = std::fs::read_to_string(self.installation.path(&format!("{department}.key"))).unwrap();
        PrivateKey::parse(&text).unwrap()
    }

    pub(crate) fn charter(&self) -> Charter {
        let key = self.key("shuju").public();
        Charter { id: self.name.clone(), governing: "shuju".into(), key }
    }

    pub(crate) fn topic(&self) -> String {
        format!("{}.ledger", self.name)
    }

    /// Returns the records and the book of them, and how the one request in it is called.
    pub(crate) async fn read(&self) -> (Vec<Vec<u8>>, Book, Digest) {
        let (log, _) = self.ends().await;
        let Found::Records(records) = Tail::new(self.topic()).read(log.as_ref()).await.unwrap() else {
            panic!("nothing was cut");
        };
        let records: Vec<Vec<u8>> = records.into_iter().map(|record| record.unwrap().to_vec()).collect();
        let mut book = Book::new(self.charter());
        for record in &records {
            book.read(Some(record)).unwrap();
        }
        let request = book.requests().first().map(|(digest, _)| *digest).unwrap();
        (records, book, request)
    }

    /// Appends bytes that no command would write, and waits until the running process has read them.
    async fn appends(&self, record: Vec<u8>) {
        let (_, append) = self.ends().await;
        append.append(&self.topic(), record.into()).await.unwrap();
        let number = self.read().await.0.len();
        let told = format!("\"record\":{number},");
        until(&format!("the process says {told}"), async || self.installation.logged(&told).then_some(()))
            .await;
    }

    async fn signed(&self, department: &str, key: &PrivateKey, act: Act) -> Vec<u8> {
        let seen = self.read().await.1.head();
        Entry { department: department.into(), at_us: 1, seen, act }.sign(&self.charter(), key)
    }
}

pub(crate) fn ten(rows: &Rows) -> bool {
    rows.len() == 10
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_nothing_flows_without_the_owners_word_and_what_flows_is_what_it_said_over_a_folder() {
    flows_as_it_is_said(Town::embedded("ledgerwords").await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_nothing_flows_without_the_owners_word_and_what_flows_is_what_it_said_over_kafka() {
    flows_as_it_is_said(Town::kafka().await).await;
}

async fn flows_as_it_is_said(town: Town) {
    let run = town.installation.run();
    town.held("the ledger holds no request of it").await;
    town.says(&["subscription", "request", "pension"]);
    town.held("waits for the answer of `gongan`").await;

    // Forged, by the wrong department, and rubbish.
    let (_, _, request) = town.read().await;
    let approval = || Act::Approved { request, narrower: None };
    let forged = town.signed("gongan", &PrivateKey::new([9; 32]), approval()).await;
    town.appends(forged).await;
    let wrong = town.signed("minzheng", &town.key("minzheng"), approval()).await;
    town.appends(wrong).await;
    town.appends(b"rubbish".to_vec()).await;
    town.captured().await;
    town.held("waits for the answer of `gongan`").await;
    assert_eq!(town.replica().await, Rows::new());

    // The grant is narrower than the configuration asks.
    let granted = town.says(&["subscription", "approve", "pension", "--without", "phone"]);
    assert!(granted.contains("姓名") && granted.contains("内部") && !granted.contains("敏感"), "{granted}");
    town.reaches("ten rows", ten).await;
    assert!(town.replica().await.iter().all(|(_, name, phone)| name.is_some() && phone.is_none()));

    town.says(&["subscription", "suspend", "pension", "--reason", "核查"]);
    town.held("`gongan` has suspended its grant: 核查").await;
    let before = town.replica().await;
    town.change("INSERT INTO entry VALUES (11, '乙', '99011')");
    town.captured().await;
    town.held("核查").await;
    assert_eq!(town.replica().await, before, "a suspension holds");
    // An operator pauses it, too: the one is never taken back for the other.
    town.says(&["subscription", "pause", "pension", "--reason", "维护"]);
    let which = town.installation.ask(&["subscription", "resume", "pension"]);
    assert!(
        which.code == 4 && which.err.contains("--pause") && which.err.contains("--grant"),
        "{}",
        which.err
    );
    town.says(&["subscription", "resume", "pension", "--grant"]);
    until("it is granted again, and paused", async || {
        let lanes = town.installation.lanes()?;
        lanes.iter().any(|lane| lane["pause"]["reason"] == "维护" && lane["state"] == "paused").then_some(())
    })
    .await;
    assert_eq!(town.replica().await, before, "a pause holds");
    town.says(&["subscription", "resume", "pension"]);
    town.reaches("what came meanwhile", |rows| rows.len() == 11).await;

    let counted = town.says(&["subscription", "widen", "pension", "--count"]);
    assert!(counted.contains("11 of 11") && counted.contains("+phone"), "{counted}");
    town.reaches("the widened column", |rows| rows.len() == 11 && rows.iter().all(|row| row.2.is_some()))
        .await;

    town.says(&["subscription", "narrow", "pension", "--rows", "id > 5"]);
    town.reaches("the rows that are left", |rows| rows.len() == 6 && rows.iter().all(|row| row.0 > 5)).await;

    town.says(&["subscription", "revoke", "pension", "--reason", "收回", "--recall"]);
    town.reaches("nothing", Vec::is_empty).await;
    town.held("`gongan` has revoked its grant: 收回; the rows of the replica are deleted").await;

    // The old approval is void.
    let (records, _, _) = town.read().await;
    let mut book = Book::new(town.charter());
    let approval = records.into_iter().find(|record| {
        let taken = book.read(Some(record)).unwrap();
        matches!(&taken, Taken::Entry { entry, .. } if matches!(entry.act, Act::Approved { .. }))
    });
    town.appends(approval.unwrap()).await;
    town.captured().await;
    town.held("收回").await;
    assert_eq!(town.replica().await, Rows::new());

    // Whoever starts again reads the same words.
    run.stop().await;
    let run = town.installation.run();
    town.held("收回").await;
    town.says(&["subscription", "request", "pension"]);
    town.says(&["subscription", "approve", "pension"]);
    town.reaches("a new grant", |rows| rows.len() == 11).await;
    run.stop().await;

    // Rubbish, forgery and replay are told, and are no reason to stop.
    let verified = town.asks(&["ledger", "verify"]);
    assert!(verified.out.contains("the first bad entry is record 6: signature"), "{}", verified.out);
    assert!(verified.expect(9).contains("1 malformed, 1 replay, 1 signature, 1 wrong_department"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_a_ledger_that_was_tampered_with_stops_delivery() {
    let town = Town::embedded("ledgertampered").await;
    town.says(&["subscription", "request", "pension"]);
    town.says(&["subscription", "approve", "pension"]);
    let run = town.installation.run();
    town.reaches("ten rows", ten).await;
    town.says(&["subscription", "narrow", "pension", "--rows", "id > 5"]);
    town.reaches("the rows that are left", |rows| rows.len() == 5).await;
    // What the lanes remember commits with their rows.
    let book = remembered(&town, 1).await;
    run.stop().await;
    let export = town.installation.path("whole.ledger").display().to_string();
    town.says(&["ledger", "export", &export]);
    let verified = town.says(&["ledger", "verify", "--file", &export]);
    assert!(verified.contains("every record counts"), "{verified}");

    // Somebody cuts the narrowing off.
    cut(&town);
    let run = town.installation.run();
    town.stands("halted", "the history was cut").await;
    town.change("INSERT INTO entry VALUES (12, '丙', '99012')");
    town.captured().await;
    town.stands("halted", "the history was cut").await;
    // Not the wider grant that the shorter history would tell of.
    assert!(town.replica().await.iter().all(|row| row.0 > 5 && row.0 < 12), "{:?}", town.replica().await);
    run.stop().await;
    let head = book.head().to_string();
    let verified = town.asks(&["ledger", "verify", "--head", &head]).expect(1);
    assert!(verified.contains("FAIL the history was cut: --head"), "{verified}");

    // A file with a record less, or with a changed one, is found offline, without the configuration.
    let text = std::fs::read_to_string(&export).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let key = town.key("shuju").public().to_string();
    let verify = |lines: Vec<&str>| {
        town.installation.write("other.ledger", &(lines.join("\n") + "\n"));
        let other = ["-c", "nowhere.toml", "ledger", "verify", "--file", "other.ledger", "--key", &key];
        town.asks(&other)
    };
    assert!(verify(lines.clone()).expect(0).contains("every record counts"));
    let mut dropped = lines.clone();
    dropped.remove(2);
    let dropped = verify(dropped).expect(1);
    assert!(dropped.contains("the first bad entry is record 2: contradiction"), "{dropped}");
    let mut forged = lines.clone();
    let changed = forged[6].replace('0', "1");
    forged[6] = &changed;
    let forged = verify(forged).expect(1);
    assert!(forged.contains("the first bad entry is record 6"), "{forged}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i7_a_recall_is_finished_by_whoever_runs_next() {
    let town = Town::embedded("ledgerkilled").await;
    town.says(&["subscription", "request", "pension"]);
    town.says(&["subscription", "approve", "pension"]);
    let run = town.installation.run();
    town.reaches("ten rows", ten).await;
    town.says(&["subscription", "revoke", "pension", "--reason", "收回", "--recall"]);
    // Before, in the middle or behind: what stands then is the same.
    run.kill();
    let run = town.installation.run();
    town.reaches("nothing", Vec::is_empty).await;
    town.held("the rows of the replica are deleted").await;
    // Everything comes again under a new grant, from the base.
    town.says(&["subscription", "request", "pension"]);
    town.says(&["subscription", "approve", "pension"]);
    town.reaches("ten rows again", ten).await;
    run.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_over_kafka_nothing_flows_without_approval_and_a_recall_empties_the_replica() {
    let town = Town::kafka().await;
    let run = town.installation.run();
    town.says(&["subscription", "request", "pension"]);
    town.held("waits for the answer of `gongan`").await;
    town.appends(b"rubbish".to_vec()).await;
    town.captured().await;
    assert_eq!(town.replica().await, Rows::new());
    town.says(&["subscription", "approve", "pension"]);
    town.reaches("ten rows", ten).await;

    // After its last day nothing more.
    town.says(&["subscription", "narrow", "pension", "--until", "2020-01-01"]);
    town.stands("halted", "the last day of its grant is over").await;
    let before = town.replica().await;
    town.captured().await;
    town.stands("halted", "the last day of its grant is over").await;
    assert_eq!(town.replica().await, before);
    town.says(&["subscription", "widen", "pension", "--until", "2099-12-31"]);
    town.reaches("what came meanwhile", |rows| rows.len() == 10 && *rows != before).await;

    town.says(&["subscription", "revoke", "pension", "--reason", "收回", "--recall"]);
    town.reaches("nothing", Vec::is_empty).await;
    town.held("收回").await;
    run.stop().await;
    let show = town.says(&["ledger", "show"]);
    assert!(show.contains("counts for nothing: malformed"), "{show}");
}
