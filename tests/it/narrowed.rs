//! A contract that breaks its readers stops one stream by name; the others go on, and it comes back whole.

use std::path::Path;

use hutong_testkit::launch::{Postgres, connect};
use rusqlite::Connection;
use serde_json::{Value as Json, json};
use tokio_postgres::Client;

use crate::installation::{Bus, Installation, until};

/// A register with two tables, in a system of its own.
enum Register {
    Postgres(Client),
    Sqlite(Connection),
}

impl Register {
    async fn execute(&self, sql: &str) {
        match self {
            Self::Postgres(client) => client.batch_execute(sql).await.unwrap(),
            Self::Sqlite(connection) => connection.execute_batch(sql).unwrap(),
        }
    }
}

fn configuration(owner: &str, source: &str, schema: &str) -> String {
    let part = |stream: &str| {
        format!(
            "[stream.{stream}]\nowner = \"{owner}\"\ncontract = \"{stream}.avsc\"\npartitions = 2\n\
             [subscription.{stream}_held]\ndepartment = \"renshe\"\nstream = \"{stream}\"\npurpose = \"核验\"\n\
             columns = [\"id\", \"note\"]\ninto = {{ store = \"office\", table = \"{stream}\" }}\n"
        )
    };
    format!(
        "[department.{owner}]\nname = \"市公安局\"\n[department.renshe]\nname = \"市人社局\"\n[store.source]\n{source}\n\
         [store.office.sqlite]\npath = \"office.db\"\n{}{}\
         [capture.{owner}]\nfrom = \"source\"\n\
         tables = {{ \"{schema}entry\" = \"entry\", \"{schema}other\" = \"other\" }}\nwatermark_interval = \"1s\"\n",
        part("entry"),
        part("other")
    )
}

fn contract(stream: &str, length: u32) -> String {
    json!({"type": "record", "name": stream, "sharing": "unconditional", "key": ["id"], "fields": [
        {"name": "id", "type": "long"}, {"name": "note", "type": ["null", {"type": "string", "length": length}]}]})
    .to_string()
}

/// Returns the rows of a replica, as text.
fn rows(office: &Path, table: &str) -> Option<String> {
    let connection = Connection::open(office).unwrap();
    let sql =
        format!("SELECT group_concat(id || ' ' || note, ', ') FROM (SELECT * FROM {table} ORDER BY id)");
    connection.query_row(&sql, [], |row| row.get::<_, Option<String>>(0)).ok()?
}

async fn reached(installation: &Installation, table: &str, wanted: &str) {
    let office = installation.path("office.db");
    let what = format!("{table} is {wanted}, not {:?}", rows(&office, table));
    until(&what, async || rows(&office, table).filter(|rows| rows == wanted)).await;
}

/// Waits until the capture says that a stream is suspended, and returns why.
async fn suspended(installation: &Installation, owner: &str) -> String {
    let told = |lanes: Vec<Json>| {
        let lane = lanes.into_iter().find(|lane| lane["lane"] == format!("capture.{owner}.0"))?;
        let first = lane["suspended"].as_array()?.first()?.clone();
        (lane["state"] == "running" && first["table"] == "entry")
            .then(|| first["reason"].as_str().unwrap().to_owned())
    };
    until("the stream is suspended", async || installation.lanes().and_then(told)).await
}

async fn narrowed_and_back(register: Register, installation: Installation, owner: &str) {
    installation.announce(&["stream suspended", "table suspended"]);
    for stream in ["entry", "other"] {
        installation.write(&format!("{stream}.avsc"), &contract(stream, 50));
    }
    if matches!(register, Register::Sqlite(_)) {
        installation.ask(&["source", "install", owner]).expect(0);
    }
    let run = installation.run();
    reached(&installation, "entry", "1 甲, 2 乙").await;
    reached(&installation, "other", "1 丙").await;
    run.stop().await;

    installation.write("entry.avsc", &contract("entry", 10));
    let run = installation.run();
    let reason = suspended(&installation, owner).await;
    for part in [
        "note: text(50) becomes text(10)",
        "would break: entry_held.",
        "`generation = 2` under [stream.entry]",
    ] {
        assert!(reason.contains(part), "{part} in {reason}");
    }
    register.execute("DELETE FROM entry WHERE id = 1; INSERT INTO entry VALUES (3, '丁')").await;
    register.execute("INSERT INTO other VALUES (2, '戊')").await;
    reached(&installation, "other", "1 丙, 2 戊").await;
    assert_eq!(rows(&installation.path("office.db"), "entry").as_deref(), Some("1 甲, 2 乙"));
    run.stop().await;

    // Taken back: what was dropped is made good.
    installation.write("entry.avsc", &contract("entry", 50));
    let run = installation.run();
    reached(&installation, "entry", "2 乙, 3 丁").await;
    register.execute("INSERT INTO entry VALUES (4, '己')").await;
    reached(&installation, "entry", "2 乙, 3 丁, 4 己").await;
    run.stop().await;

    // Narrowed again, and now by the way forward that the refusal names.
    installation.write("entry.avsc", &contract("entry", 10));
    let run = installation.run();
    suspended(&installation, owner).await;
    register.execute("DELETE FROM entry WHERE id = 2").await;
    register.execute("INSERT INTO other VALUES (3, '庚')").await;
    reached(&installation, "other", "1 丙, 2 戊, 3 庚").await;
    run.stop().await;
    let file = installation.path("hutong.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("[stream.entry]", "[stream.entry]\ngeneration = 2")).unwrap();
    let run = installation.run();
    reached(&installation, "entry", "3 丁, 4 己").await;
    register.execute("INSERT INTO entry VALUES (5, '辛')").await;
    reached(&installation, "entry", "3 丁, 4 己, 5 辛").await;
    let lanes = installation.lanes().unwrap();
    assert!(lanes.iter().all(|lane| lane["suspended"] == json!([])), "{lanes:#?}");
    run.stop().await;
}

const ROWS: &str = "INSERT INTO entry VALUES (1, '甲'), (2, '乙'); INSERT INTO other VALUES (1, '丙')";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_a_narrowed_contract_suspends_its_stream_of_a_postgresql_register_and_it_comes_back_whole() {
    let source = Postgres::shared().await.unwrap();
    let client = connect(&source.url).await.unwrap();
    let tables =
        ["entry", "other"].map(|t| format!("CREATE TABLE {t} (id bigint PRIMARY KEY, note varchar(50));"));
    client.batch_execute(&tables.concat()).await.unwrap();
    client.batch_execute(ROWS).await.unwrap();
    let store = format!("postgres = {{ url = \"{}\" }}", source.url);
    let configuration = configuration(&source.name, &store, "public.");
    let installation = Installation::new(Bus::Embedded, &source.name, &configuration).await;
    narrowed_and_back(Register::Postgres(client), installation, &source.name).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_a_narrowed_contract_suspends_its_stream_of_a_sqlite_register_and_it_comes_back_whole() {
    let owner = "narrowed";
    let configuration = configuration(owner, "sqlite = { path = \"register.db\" }", "");
    let installation = Installation::new(Bus::Embedded, owner, &configuration).await;
    let connection = Connection::open(installation.path("register.db")).unwrap();
    let tables = ["entry", "other"].map(|t| format!("CREATE TABLE {t} (id INTEGER PRIMARY KEY, note TEXT);"));
    connection.execute_batch(&tables.concat()).unwrap();
    connection.execute_batch(ROWS).unwrap();
    narrowed_and_back(Register::Sqlite(connection), installation, owner).await;
}
