//! What was lost is accepted by a person and begins anew: a capture at a new base, a replica at the base.

use std::path::Path;

use hutong_testkit::launch::{Database, Postgres, connect};
use rusqlite::Connection;
use serde_json::Value as Json;
use tokio_postgres::Client;

use crate::installation::{Bus, Installation, until};
use crate::replica::{Expected, Projection, Replica};

const TABLE: &str = "CREATE TABLE entry (id bigint PRIMARY KEY, version bigint NOT NULL, note text);
    INSERT INTO entry SELECT n, 1, '初始' || n FROM generate_series(1, 300) n;";

/// What nobody tells the bus of: it happens while the slot is gone.
const UNSEEN: &str = "DELETE FROM entry WHERE id % 3 = 0;
    UPDATE entry SET id = id + 10000, version = 2 WHERE id % 7 = 0;
    UPDATE entry SET version = 2 WHERE id % 5 = 0;
    INSERT INTO entry SELECT n, 2, '新' || n FROM generate_series(1001, 1050) n";

const CONTRACT: &str = r#"{"type":"record","name":"entry","sharing":"unconditional","key":["id"],"fields":[
    {"name":"id","type":"long"},{"name":"version","type":"long"},{"name":"note","type":["null","string"]}]}"#;

fn configuration(owner: &str, source: &str, table: &str, share: &Database) -> String {
    format!(
        r#"
[department.{owner}]
name = "市公安局"
[department.renshe]
name = "市人社局"
[store.source]
{source}
[store.share.postgres]
url = "{}"
[store.office.sqlite]
path = "office.db"
[stream.entry]
owner = "{owner}"
contract = "entry.avsc"
partitions = 2
[capture.{owner}]
from = "source"
tables = {{ "{table}" = "entry" }}
chunk_rows = 50
watermark_interval = "1s"
{}{}"#,
        share.url,
        subscription("shared", "share", "share.entry"),
        subscription("filed", "office", "entry"),
    )
}

fn subscription(name: &str, store: &str, table: &str) -> String {
    format!(
        r#"
[subscription.{name}]
department = "renshe"
stream = "entry"
purpose = "核验"
columns = ["id", "version", "note"]
into = {{ store = "{store}", table = "{table}" }}
"#
    )
}

/// A register in PostgreSQL with a replica in PostgreSQL and one in SQLite.
struct Register {
    source: Database,
    client: Client,
    replica: Client,
    installation: Installation,
}

impl Register {
    async fn new() -> Self {
        let (source, share) = (Postgres::shared().await.unwrap(), Postgres::shared().await.unwrap());
        let (client, replica) = (connect(&source.url).await.unwrap(), connect(&share.url).await.unwrap());
        client.batch_execute(TABLE).await.unwrap();
        let store = format!("postgres = {{ url = \"{}\" }}", source.url);
        let configuration = configuration(&source.name, &store, "public.entry", &share);
        let installation = Installation::new(Bus::Embedded, &source.name, &configuration).await;
        // What a person has read anew is no suspension, and nothing of that is a warning.
        installation.announce(&["halted"]);
        installation.write("entry.avsc", CONTRACT);
        Self { source, client, replica, installation }
    }

    /// Waits until both replicas hold what the register does.
    async fn equal(&self) {
        self.reached(&Replica::Postgres(&self.replica, "share.entry")).await;
        self.reached(&Replica::Sqlite(&self.installation.path("office.db"), "entry")).await;
    }

    async fn reached(&self, replica: &Replica<'_>) {
        let columns = ["id", "version", "note"].iter().map(|c| Expected::same(c)).collect();
        Projection { from: "entry".into(), columns }.reached(&self.client, replica).await;
    }
}

/// Waits until a lane has halted, and returns it.
async fn halted(installation: &Installation, lane: &str) -> Json {
    until(&format!("{lane} halts"), async || {
        let lanes = installation.lanes()?;
        lanes.into_iter().find(|found| found["lane"] == lane && found["state"] == "halted")
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_a_dropped_slot_halts_the_capture_and_a_reset_makes_the_replicas_equal_again() {
    let register = Register::new().await;
    let (installation, owner) = (&register.installation, register.source.name.clone());
    let run = installation.run();
    register.equal().await;
    let refused = installation.ask(&["source", "reset", &owner, "--reason", "试"]);
    assert_eq!(refused.code, 8, "a capture that runs is not reset: {}{}", refused.out, refused.err);
    let refused = installation.ask(&["source", "remove", &owner]);
    assert_eq!(refused.code, 8, "nor is it removed: {}{}", refused.out, refused.err);
    run.stop().await;
    register
        .client
        .batch_execute(&format!("SELECT pg_drop_replication_slot('hutong_{owner}')"))
        .await
        .unwrap();
    register.client.batch_execute(UNSEEN).await.unwrap();

    let run = installation.run();
    let lane = halted(installation, &format!("capture.{owner}.0")).await;
    assert!(lane["error"].as_str().unwrap().contains("the slot is gone"), "{lane}");
    let command = format!("hutong source reset {owner} --reason");
    assert!(lane["hint"].as_str().unwrap().contains(&command), "{lane}");
    // One process owns the folder, also when its capture has halted.
    let refused = installation.ask(&["source", "reset", &owner, "--reason", "试"]);
    assert!(refused.code != 0 && refused.err.contains("stop process"), "{}{}", refused.out, refused.err);
    run.stop().await;
    assert_eq!(
        installation.ask(&["source", "reset", &owner]).code,
        2,
        "nobody accepts a loss without a reason"
    );
    let bytes = || std::fs::read(installation.path("bus/bus.sqlite")).unwrap();
    let before = bytes();
    let would = installation.ask(&["source", "reset", &owner, "--reason", "试", "--dry-run"]).expect(0);
    for part in [
        "nothing is changed",
        "would begin anew",
        "would be given up",
        ".entry.v1/1: the new base would begin",
    ] {
        assert!(would.contains(part), "{part} in\n{would}");
    }
    let reload = ["source", "reload", &owner, "public.entry", "--reason", "试", "--dry-run"];
    let would = installation.ask(&reload).expect(0);
    assert!(would.contains("public.entry would be read again, behind a truncate"), "{would}");
    assert!(bytes() == before, "a dry run changes no byte of the bus");
    let said = installation.ask(&["source", "reset", &owner, "--reason", "复制槽被误删"]).expect(0);
    assert!(
        said.contains("复制槽被误删") && said.contains(&format!("{owner}.entry.v1/1: the new base")),
        "{said}"
    );

    // Each loss can be read again, also after the next.
    installation.ask(&["source", "reset", &owner, "--reason", "再试一次"]).expect(0);
    let losses: Json =
        serde_json::from_str(&installation.ask(&["source", "losses", &owner, "-o", "json"]).expect(0))
            .unwrap();
    assert_eq!((&losses[0]["reason"], &losses[1]["reason"]), (&"复制槽被误删".into(), &"再试一次".into()));
    assert!(losses[0]["positions"]["wal"].is_string(), "{losses}");
    let said = installation.ask(&["source", "losses", &owner]).expect(0);
    assert!(said.contains("复制槽被误删") && said.contains("wal after"), "{said}");

    // One more replica, which knows nothing of what was before.
    let file = installation.path("hutong.toml");
    let late = std::fs::read_to_string(&file).unwrap() + &subscription("late", "share", "share.late");
    std::fs::write(file, late).unwrap();
    let run = installation.run();
    register.equal().await;
    register.reached(&Replica::Postgres(&register.replica, "share.late")).await;
    register.client.batch_execute("UPDATE entry SET note = '后来' WHERE id % 2 = 0").await.unwrap();
    register.equal().await;
    run.stop().await;

    // It is over: the next run goes on where this one stopped.
    let run = installation.run();
    let lanes = until("every lane runs", async || {
        let lanes = installation.lanes()?;
        lanes.iter().all(|lane| lane["state"] == "running" && lane["lag_seconds"] == 0.0).then_some(lanes)
    })
    .await;
    let committed: u64 = lanes.iter().map(|lane| lane["committed"].as_u64().unwrap()).sum();
    assert_eq!(committed, 0, "I2: nothing is applied twice: {lanes:#?}");
    let capture = lanes.iter().find(|lane| lane["lane"] == format!("capture.{owner}.0")).unwrap();
    assert_eq!(capture["last_loss"]["reason"], "再试一次", "{capture}");
    run.stop().await;
}

/// Copies the folder of a bus that nobody runs.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_a_bus_that_is_set_back_and_written_on_before_its_lanes_open_halts_them_until_a_reload() {
    let register = Register::new().await;
    let (installation, owner) = (&register.installation, register.source.name.clone());
    let run = installation.run();
    register.equal().await;
    run.stop().await;
    let (bus, older) = (installation.path("bus"), installation.path("older"));
    copy(&bus, &older);
    let run = installation.run();
    register.client.batch_execute("UPDATE entry SET version = 2 WHERE id % 9 = 0").await.unwrap();
    register.equal().await;
    run.stop().await;

    std::fs::rename(&bus, installation.path("newer")).unwrap();
    std::fs::rename(&older, &bus).unwrap();
    register.client.batch_execute("DELETE FROM entry WHERE id % 2 = 1").await.unwrap();
    installation.ask(&["source", "reset", &owner, "--reason", "总线恢复自备份"]).expect(0);
    // The capture is first: the topics are longer than what the lanes have read, and not what they have read.
    let run = installation.run_only(&[&format!("capture.{owner}")]);
    let base = |changes: &[Json]| changes.iter().filter(|change| change["op"] == "r").count() > 300;
    installation.tap("entry", base).await;
    run.stop().await;

    let run = installation.run();
    for name in ["shared", "filed"] {
        let error = halted(installation, &format!("replicate.{name}.0")).await["error"].clone();
        assert!(error.as_str().unwrap().contains("set back to an older state"), "{error}");
        installation.ask(&["subscription", "reload", name, "--reason", "总线恢复自备份"]).expect(0);
    }
    run.stop().await;
    let run = installation.run();
    register.equal().await;
    run.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_another_generation_waits_for_a_reload_of_its_table_and_the_other_tables_go_on() {
    let register = Register::new().await;
    let (installation, owner) = (&register.installation, register.source.name.clone());
    let card = "CREATE TABLE card (id bigint PRIMARY KEY, version bigint NOT NULL, note text);
        INSERT INTO card SELECT n, 1, '卡' FROM generate_series(1, 30) n";
    register.client.batch_execute(card).await.unwrap();
    installation.write("card.avsc", &CONTRACT.replace("\"entry\"", "\"card\""));
    let file = installation.path("hutong.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let table = "\"public.entry\" = \"entry\"";
    let stream = format!("[stream.card]\nowner = \"{owner}\"\ncontract = \"card.avsc\"\n[capture.");
    let text =
        text.replace(table, &format!("{table}, \"public.card\" = \"card\"")).replace("[capture.", &stream);
    std::fs::write(&file, &text).unwrap();
    let unread = installation.ask(&["source", "reload", &owner, "public.entry", "--reason", "试"]);
    assert!(unread.code == 4 && unread.err.contains("not read any table yet"), "{}", unread.err);
    let run = installation.run();
    register.equal().await;
    run.stop().await;
    let reload =
        |table: &str| installation.ask(&["source", "reload", &owner, table, "--reason", "分区数改变"]);
    let unknown = reload("public.nobody");
    assert!(unknown.code == 4 && unknown.err.contains("public.card, public.entry"), "{}", unknown.err);
    // More lanes, and then fewer: the rows of a lane that is no more go as well.
    for (partitions, generation, unseen, seen) in
        [(3, 2, UNSEEN, "id % 2 = 0"), (1, 3, "DELETE FROM entry WHERE id % 4 = 1", "id % 4 = 3")]
    {
        register.client.batch_execute(unseen).await.unwrap();
        let changed = format!("partitions = {partitions}\ngeneration = {generation}");
        std::fs::write(&file, text.replace("partitions = 2", &changed)).unwrap();

        let run = installation.run();
        let lane = halted(installation, &format!("capture.{owner}.0")).await;
        let command = format!("hutong source reload {owner} TABLE --reason");
        assert!(lane["hint"].as_str().unwrap().contains(&command), "{lane}");
        run.stop().await;
        let said = reload("public.entry").expect(0);
        assert!(said.contains(&format!("{owner}.entry.v{} ends here", generation - 1)), "{said}");

        let run = installation.run();
        register.equal().await;
        register.client.batch_execute(&format!("DELETE FROM entry WHERE {seen}")).await.unwrap();
        register.equal().await;
        run.stop().await;
    }
    // The same generation: behind a truncate, with whatever somebody has changed downstream.
    reload("public.entry").expect(0);
    register.client.batch_execute("INSERT INTO card VALUES (31, 2, '新')").await.unwrap();
    let run = installation.run();
    register.equal().await;
    let cards = installation.tap("card", |changes| changes.iter().any(|c| c["after"]["id"] == 31)).await;
    let told: Vec<_> = cards.iter().map(|change| change["op"].as_str().unwrap()).collect();
    let read_once = told.iter().filter(|op| **op == "r").count();
    assert_eq!((read_once, told.len()), (30, 31), "the other table was read once: {told:?}");
    let entries =
        installation.tap("entry", |changes| changes.iter().filter(|c| c["op"] == "t").count() == 2).await;
    assert!(entries.iter().any(|change| change["op"] == "r"), "it was read again behind a truncate");
    run.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_a_restored_file_halts_the_capture_and_a_reset_makes_the_replicas_equal_again() {
    let share = Postgres::shared().await.unwrap();
    let owner = share.name.clone();
    let configuration = configuration(&owner, "sqlite = { path = \"register.db\" }", "entry", &share);
    let installation = Installation::new(Bus::Embedded, &owner, &configuration).await;
    installation.announce(&["halted"]);
    installation.write("entry.avsc", CONTRACT);
    let (register, office) = (installation.path("register.db"), installation.path("office.db"));
    Connection::open(&register)
        .unwrap()
        .execute_batch(
            "CREATE TABLE entry (id INTEGER PRIMARY KEY, version INTEGER NOT NULL, note TEXT);
             WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < 200)
             INSERT INTO entry SELECT id, 1, '初始' || id FROM n;",
        )
        .unwrap();
    let failed = installation.ask(&["check", "--probe"]).expect(4);
    let hint = format!("hutong source install {owner}");
    assert!(failed.contains(&hint), "{failed}");
    installation.ask(&["source", "install", &owner]).expect(0);
    installation.ask(&["check", "--probe"]).expect(0);
    let run = installation.run();
    same(&register, &office).await;
    run.stop().await;
    let copy = installation.path("copy.db");
    std::fs::copy(&register, &copy).unwrap();
    let run = installation.run();
    let change = "DELETE FROM entry WHERE id % 3 = 0; UPDATE entry SET version = 2 WHERE id % 5 = 0";
    Connection::open(&register).unwrap().execute_batch(change).unwrap();
    same(&register, &office).await;
    run.stop().await;
    std::fs::copy(&copy, &register).unwrap();
    Connection::open(&register).unwrap().execute_batch("DELETE FROM entry WHERE id < 20").unwrap();

    let run = installation.run();
    let lane = halted(&installation, &format!("capture.{owner}.0")).await;
    let command = format!("hutong source reset {owner} --reason");
    assert!(lane["hint"].as_str().unwrap().contains(&command), "{lane}");
    run.stop().await;
    installation.ask(&["source", "reset", &owner, "--reason", "恢复了备份"]).expect(0);
    let run = installation.run();
    same(&register, &office).await;
    Connection::open(&register).unwrap().execute_batch("UPDATE entry SET note = '后来'").unwrap();
    same(&register, &office).await;
    run.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_mends_replicas_that_somebody_has_changed_by_hand() {
    let register = Register::new().await;
    let installation = &register.installation;
    let nothing = installation.ask(&["subscription", "reload", "shared"]).expect(0);
    assert!(nothing.contains("nothing yet"), "{nothing}");
    let run = installation.run();
    register.equal().await;
    let harm = "UPDATE entry SET note = '改' WHERE id % 4 = 0; DELETE FROM entry WHERE id % 9 = 0";
    register.replica.batch_execute(&harm.replace("entry", "share.entry")).await.unwrap();
    Connection::open(installation.path("office.db")).unwrap().execute_batch(harm).unwrap();

    // Beside the process that runs it: its lanes begin anew by themselves, and those of the other subscription do not.
    let said = installation.ask(&["subscription", "reload", "shared"]).expect(0);
    assert!(said.contains("2 lanes") && said.contains("without a restart"), "{said}");
    register.reached(&Replica::Postgres(&register.replica, "share.entry")).await;
    let harmed = "SELECT count(*) FROM entry WHERE note = '改'";
    let office = Connection::open(installation.path("office.db")).unwrap();
    let harmed: i64 = office.query_row(harmed, [], |row| row.get(0)).unwrap();
    assert!(harmed > 0, "nobody has reloaded the other one");
    run.stop().await;
    installation.ask(&["subscription", "reload", "filed"]).expect(0);
    let unknown = installation.ask(&["subscription", "reload", "nobody"]);
    assert!(unknown.code == 4 && unknown.err.contains("filed, shared"), "{}", unknown.err);

    let run = installation.run();
    register.equal().await;
    run.stop().await;
}

/// Waits until two files hold the same rows.
async fn same(register: &Path, office: &Path) {
    until("the replica is equal", async || (rows(office).ok()? == rows(register).unwrap()).then_some(()))
        .await;
}

fn rows(file: &Path) -> rusqlite::Result<Vec<(i64, i64, Option<String>)>> {
    let connection = Connection::open(file)?;
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    let mut statement = connection.prepare("SELECT id, version, note FROM entry ORDER BY id")?;
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect()
}
