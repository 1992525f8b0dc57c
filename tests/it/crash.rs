//! The program is stopped and killed in the middle of its work, over and over: nothing is lost, nothing is doubled.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hutong_testkit::launch::{Database, Postgres, connect};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value as Json;
use tokio_postgres::Client;

use crate::installation::{Bus, Installation, seed, until};
use crate::replica::{Expected, Projection, Replica};

/// Ids of rows that are there before the capture begins.
const ROWS: i64 = 1_500;
/// Ids of the rows that come last: enough of them that every partition has some.
const LAST: i64 = 1_000_000_000;
const LAST_COUNT: i64 = 64;
/// What a capture logs when its snapshot is complete.
const DONE: &str = "snapshot done";

/// `audit` is what really happened to each key, told by the database and not by its log.
const TABLES: &str = "
    CREATE SEQUENCE versions;
    CREATE SEQUENCE after START 100000;
    CREATE SEQUENCE before INCREMENT -1;
    CREATE TABLE entry (id bigint PRIMARY KEY, version bigint NOT NULL, note text);
    INSERT INTO entry SELECT n, nextval('versions'), '初始' || n FROM generate_series(1, 1500) n;
    CREATE TABLE audit (seq bigserial, op text, id bigint, version bigint);
    CREATE FUNCTION audited() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF TG_OP = 'UPDATE' AND OLD.id = NEW.id THEN
            INSERT INTO audit (op, id, version) VALUES ('u', NEW.id, NEW.version);
            RETURN NULL;
        END IF;
        IF TG_OP IN ('UPDATE', 'DELETE') THEN INSERT INTO audit (op, id) VALUES ('d', OLD.id); END IF;
        IF TG_OP IN ('UPDATE', 'INSERT') THEN
            INSERT INTO audit (op, id, version) VALUES ('c', NEW.id, NEW.version);
        END IF;
        RETURN NULL; END $$;
    CREATE TRIGGER audited AFTER INSERT OR UPDATE OR DELETE ON entry FOR EACH ROW EXECUTE FUNCTION audited();";

fn configuration(source: &Database, share: &Database) -> String {
    let owner = &source.name;
    format!(
        r#"
[department.{owner}]
name = "市公安局"
[department.renshe]
name = "市人社局"

[store.source.postgres]
url = "{}"
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
tables = {{ "public.entry" = "entry" }}
chunk_rows = 8
watermark_interval = "1s"

[subscription.shared]
department = "renshe"
stream = "entry"
purpose = "核验"
columns = ["id", "version", "note"]
into = {{ store = "share", table = "share.entry" }}

[subscription.filed]
department = "renshe"
stream = "entry"
purpose = "核验"
columns = ["id", "version", "note"]
into = {{ store = "office", table = "entry" }}
"#,
        source.url, share.url
    )
}

/// Changes the table until it is told to stop.
async fn write(client: &Client, seed: u64, stop: &AtomicBool) {
    let mut rng = StdRng::seed_from_u64(seed);
    client.batch_execute("SET deadlock_timeout = '50ms'").await.unwrap();
    while !stop.load(Ordering::Relaxed) {
        let few = rng.random_range(1..6);
        let some = format!(
            "id IN (SELECT id FROM entry WHERE id >= {} ORDER BY id LIMIT {few} FOR UPDATE SKIP LOCKED)",
            rng.random_range(0..ROWS)
        );
        let statement = match rng.random_range(0..100) {
            // Long enough to be killed in the midst of it.
            0 => "INSERT INTO entry SELECT nextval('before'), nextval('versions'), '多' FROM generate_series(1, 1000)".into(),
            n => match n % 6 {
            0 => format!("INSERT INTO entry SELECT nextval('after'), nextval('versions'), '新' FROM generate_series(1, {few})"),
            1 => format!("INSERT INTO entry SELECT nextval('before'), nextval('versions'), '新' FROM generate_series(1, {few})"),
            2 => format!("DELETE FROM entry WHERE {some}"),
            3 => format!("UPDATE entry SET id = nextval('before'), version = nextval('versions') WHERE {some}"),
            _ => format!("UPDATE entry SET version = nextval('versions') WHERE {some}"),
            },
        };
        let end = if rng.random_bool(0.1) { "ROLLBACK" } else { "COMMIT" };
        client.batch_execute(&format!("BEGIN; {statement}; {end}")).await.unwrap();
        // An office's pace, so that the snapshot catches up with the rows that come after its place.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Returns the replica's rows and its highest version; zeros while it is not there.
async fn progress(share: &Client) -> (i64, i64) {
    match share.query_one("SELECT count(*), coalesce(max(version), 0) FROM share.entry", &[]).await {
        Ok(row) => (row.get(0), row.get(1)),
        Err(_) => (0, 0),
    }
}

/// Runs the program and ends it by force or by request, each time after it got further: first wherever it
/// is, then only while changes stream. Returns how many of the ends were in the midst of the snapshot.
async fn torment(installation: &Installation, share: &Client, rng: &mut StdRng, times: [usize; 2]) -> usize {
    let mut in_snapshot = 0;
    for time in 0..times[0] + times[1] {
        let mut run = installation.run();
        let before = progress(share).await;
        let after = until("the replica moves on", async || {
            assert!(run.runs(), "it ended by itself");
            let streams = time < times[0] || installation.logged(DONE);
            let now = progress(share).await;
            (streams && now != before).then_some(now)
        })
        .await;
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..200))).await;
        let by_force = time == 0 || time == times[0] || rng.random_bool(0.6);
        let place = if installation.logged(DONE) { "streaming" } else { "snapshot" };
        in_snapshot += usize::from(place == "snapshot");
        println!("{} in {place} at {after:?} rows and version", if by_force { "SIGKILL" } else { "SIGTERM" });
        if by_force { run.kill() } else { run.stop().await }
    }
    in_snapshot
}

async fn survives(bus: Bus, times: [usize; 2]) {
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed);
    let (source, share) = (Postgres::shared().await.unwrap(), Postgres::shared().await.unwrap());
    let client = connect(&source.url).await.unwrap();
    client.batch_execute(TABLES).await.unwrap();
    let installation = Installation::new(bus, &source.name, &configuration(&source, &share)).await;
    installation.draft_contract(&source.url, "public.entry", "entry");
    let replica = connect(&share.url).await.unwrap();

    // Once a row has arrived the capture has a checkpoint, so what is audited from here on is told by the slot.
    let run = installation.run();
    until("the first rows arrive", async || (progress(&replica).await.0 > 0).then_some(())).await;
    run.kill();
    let in_snapshot = usize::from(!installation.logged(DONE));
    let stop = AtomicBool::new(false);
    let (one, two) = (connect(&source.url).await.unwrap(), connect(&source.url).await.unwrap());
    tokio::join!(write(&one, seed, &stop), write(&two, !seed, &stop), async {
        let in_snapshot = in_snapshot + torment(&installation, &replica, &mut rng, times).await;
        assert!(in_snapshot > 0, "one of the ends is in the midst of the snapshot");
        stop.store(true, Ordering::Relaxed);
    });
    let last = format!(
        "INSERT INTO entry SELECT {LAST} + n, nextval('versions'), '末' FROM generate_series(1, {LAST_COUNT}) n"
    );
    client.batch_execute(&last).await.unwrap();
    let run = installation.run();

    let columns = || ["id", "version", "note"].iter().map(|c| Expected::same(c)).collect();
    let projection = Projection { from: "entry".into(), columns: columns() };
    projection.reached(&client, &Replica::Postgres(&replica, "share.entry")).await;
    projection.reached(&client, &Replica::Sqlite(&installation.path("office.db"), "entry")).await;
    let changes = installation.tap("entry", |changes| {
        changes.iter().filter(|change| change["after"]["id"].as_i64() > Some(LAST)).count()
            == LAST_COUNT as usize
    });
    each_change_stands_once(&client, &changes.await).await;
    run.stop().await;
}

/// Asserts that the topic tells of each key just what the audit does, in its order.
async fn each_change_stands_once(source: &Client, changes: &[Json]) {
    let mut told: BTreeMap<i64, Vec<&Json>> = BTreeMap::new();
    for change in changes {
        let id = change["after"]["id"].as_i64().or(change["before"]["id"].as_i64()).unwrap();
        told.entry(id).or_default().push(change);
    }
    let mut happened: BTreeMap<i64, Vec<(String, Option<i64>)>> = BTreeMap::new();
    for row in source.query("SELECT id, op, version FROM audit ORDER BY seq", &[]).await.unwrap() {
        happened.entry(row.get(0)).or_default().push((row.get(1), row.get(2)));
    }
    assert!(happened.values().map(Vec::len).sum::<usize>() > 100, "too little happened to prove anything");
    for (id, told) in &told {
        let story: Vec<String> = told
            .iter()
            .map(|change| {
                format!("{} {} {}", change["op"], change["after"]["version"], change["source_position"])
            })
            .collect();
        let position = |change: &Json| change["source_position"].as_str().unwrap().to_owned();
        for pair in told.windows(2) {
            assert!(
                position(pair[0]) < position(pair[1]),
                "I4: the changes of {id} are in order, once: {story:#?}"
            );
        }
        let reads = told.iter().filter(|change| change["op"] == "r").count();
        assert!(reads <= 1, "I2: the row {id} is read once: {story:#?}");
        let streamed: Vec<(String, Option<i64>)> = told
            .iter()
            .filter(|change| change["op"] != "r")
            .map(|change| (change["op"].as_str().unwrap().to_owned(), change["after"]["version"].as_i64()))
            .collect();
        let happened = happened.remove(id).unwrap_or_default();
        assert_eq!(streamed, happened, "I2: the topic tells of {id} what happened to it: {story:#?}");
    }
    assert!(happened.is_empty(), "I3: these changes are not in the topic: {happened:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_i2_i7_kills_cost_nothing_over_a_folder() {
    survives(Bus::Embedded, [4, 5]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_i2_i7_kills_cost_nothing_over_kafka() {
    survives(Bus::Kafka, [3, 4]).await;
}
