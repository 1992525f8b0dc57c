//! What nobody runs, and what is away: a lane without a process, a bus that does not answer, a disk that fills, a clock
//! that goes wrong.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::time::Duration;

use hutong_testkit::launch::{Kafka, Postgres, Registry, connect, free_port};
use rusqlite::Connection;
use tokio_postgres::Client;

use super::pager::{DISK, Pager};
use crate::crash::full_disk::Disk;
use crate::installation::{Bus, Installation, until};

const CONTRACT: &str = r#"{"type":"record","name":"entry","sharing":"unconditional","key":["id"],"fields":[
    {"name":"id","type":"long"},{"name":"note","type":["null","string"]}]}"#;

/// A register in SQLite, of which `STORE` holds a replica.
const CONFIGURATION: &str = r#"
LEDGER
[department.shuju]
name = "数据局"
[department.gongan]
name = "公安局"
[department.renshe]
name = "人社局"
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
[subscription.held]
department = "renshe"
stream = "entry"
purpose = "核验"
legal_basis = "示例法 第一条"
until = 2099-12-31
columns = ["id", "note"]
into = { store = "renshe", table = "entry" }
"#;

/// Three departments with keys of their own.
const LEDGER: &str = r#"
[ledger]
governing = "shuju"
governing_key = "GOVERNING"
keys = { shuju = "shuju.key", gongan = "gongan.key", renshe = "renshe.key" }
"#;

fn register(installation: &Installation) {
    installation.write("entry.avsc", CONTRACT);
    let office = Connection::open(installation.path("office.db")).unwrap();
    let rows = "CREATE TABLE entry (id INTEGER PRIMARY KEY, note TEXT); INSERT INTO entry VALUES (1, '初')";
    office.execute_batch(rows).unwrap();
    installation.ask(&["source", "install", "register"]).expect(0);
}

async fn at_rest(pager: &Pager) {
    until("nothing is behind, and nothing fires", async || {
        let behind = pager.value("max(hutong_lag_seconds)").await;
        (behind == Some(0.0) && pager.firing().await.is_empty()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lanes_that_nobody_runs_and_a_bus_with_its_ledger_that_is_away_are_alarms_that_fire_and_clear() {
    let (kafka, registry) = tokio::join!(Kafka::start(), Registry::shared());
    let mut kafka = kafka.unwrap();
    let (brokers, registry) = (kafka.bootstrap(), registry.unwrap().url());
    let bus = format!("[bus.kafka]\nbrokers = \"{brokers}\"\nregistry = \"{registry}\"\n");
    let rest = CONFIGURATION
        .replace("LEDGER", LEDGER)
        .replace("[store.renshe.STORE]", "[store.renshe.sqlite]\npath = \"renshe.db\"");
    let installation = Installation::over(&bus, "alarmsaway", &rest);
    // What is told of a bus that does not answer.
    installation.announce(&[
        "will open again",
        "the ledger cannot be reached: verified grants go on for so many seconds",
        "the group does not answer",
        "cannot take part yet",
        "receipts wait in the stores",
    ]);
    let keys = installation.make_keys(["shuju", "gongan", "renshe"]);
    register(&installation);
    installation.found(&keys, "entry");
    installation.ask(&["subscription", "request", "held"]).expect(0);

    // The topic is not there yet: its capture is another process's, which nobody has started.
    let subscriber = installation.run_only(&["replicate.held"]);
    let unreached =
        ("hutong_ledger_verified_timestamp_seconds > 60", "hutong_ledger_verified_timestamp_seconds > 8");
    let pager = Pager::of(&installation, &[unreached, DISK]).await;
    pager.fires(&["HutongLaneNowhere replicate.held"]).await;
    pager.says(&[("hutong_lanes_configured", 2.0), ("hutong_bus_up", 1.0)]).await;
    let text = fs::read_to_string(installation.path("hutong.toml")).unwrap();
    let text = text.replace(&installation.address(), &format!("127.0.0.1:{}", free_port()));
    installation.write("capture.toml", &text);
    let capture = installation.begin(&["-c", "capture.toml", "run", "--only", "capture.register"]);
    at_rest(&pager).await;

    // The bus does not answer, and the ledger is on it.
    kafka.kill().await.unwrap();
    pager.fires(&["HutongBusDown", "HutongLedgerUnreached"]).await;
    pager.says(&[("hutong_bus_up", 0.0), ("hutong_ledger_broken", 0.0)]).await;
    kafka.restart().await.unwrap();
    pager.clear().await;
    at_rest(&pager).await;
    pager.was_always_sane().await;
    capture.stop().await;
    subscriber.stop().await;
}

/// Lets the clock of a store that its sessions see go before the server's own by so many seconds.
async fn set_clock(client: &Client, seconds: u32) {
    let sql = format!(
        "CREATE OR REPLACE FUNCTION wrong.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS \
         'SELECT pg_catalog.clock_timestamp() + interval ''{seconds} s'''"
    );
    client.batch_execute(&sql).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_goes_wrong_and_a_disk_that_fills_are_alarms_that_fire_and_clear() {
    let share = Postgres::shared().await.unwrap();
    let client = connect(&share.url).await.unwrap();
    client.batch_execute("CREATE SCHEMA wrong").await.unwrap();
    set_clock(&client, 0).await;
    // Whoever asks for the time from now on is answered by that schema first.
    let path = format!("ALTER DATABASE \"{}\" SET search_path = wrong, pg_catalog, public", share.name);
    client.batch_execute(&path).await.unwrap();
    let rest = CONFIGURATION
        .replace("LEDGER", "")
        .replace("[store.renshe.STORE]", &format!("[store.renshe.postgres]\nurl = \"{}\"", share.url));
    let installation = Installation::new(Bus::Embedded, "alarmsdisk", &rest).await;
    // Where we may not mount one, there is no disk to fill but the machine's. It is large enough for six hours of the
    // bus's own heartbeats.
    let disk = Disk::mount(installation.path("bus"), 250);
    register(&installation);
    let run = installation.run();
    let instead: &[(&str, &str)] = if disk.is_some() { &[] } else { &[DISK] };
    let pager = Pager::of(&installation, instead).await;
    at_rest(&pager).await;

    set_clock(&client, 60).await;
    pager.fires(&["HutongClockSkew renshe"]).await;
    let skew = pager.value("hutong_store_clock_skew_seconds{store=\"renshe\"}").await.unwrap();
    assert!((59.0..61.0).contains(&skew), "{skew}");
    // It is shown, and added to no lag.
    pager.says(&[("max(hutong_lag_seconds)", 0.0)]).await;
    set_clock(&client, 0).await;
    pager.clear().await;

    if let Some(disk) = &disk {
        // Somebody else's file grows on the disk of the bus: half a mebibyte at a time.
        let filler = disk.folder().join("filler");
        let mut file = OpenOptions::new().create(true).append(true).open(&filler).unwrap();
        let fills = async {
            loop {
                file.write_all(&vec![1; 512 << 10]).unwrap();
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        };
        tokio::select! {
            () = fills => {}
            () = pager.fires(&["HutongDiskForecast"]) => {}
        }
        fs::remove_file(filler).unwrap();
        pager.clear().await;
    }
    at_rest(&pager).await;
    pager.was_always_sane().await;
    run.stop().await;
}
