//! A register's table changes its shape, one way after the other, and its replicas go on.
//!
//! What a person does each time: ALTER the table, draft its contract again, grant what is new, run.

use hutong_testkit::launch::{Database, Postgres, connect};
use serde_json::Value as Json;
use tokio_postgres::Client;

use crate::installation::{Bus, Installation, Run, until};
use crate::replica::{Expected, Projection, Replica};

const TABLE: &str = "CREATE TABLE entry (id bigint PRIMARY KEY, name varchar(10) NOT NULL, note text);
    INSERT INTO entry SELECT n, '姓名' || n, '注' FROM generate_series(1, 200) n;
    CREATE TABLE other (id bigint PRIMARY KEY, note text);
    INSERT INTO other VALUES (1, '旁')";

/// A register and its replicas in PostgreSQL and in SQLite.
struct Register {
    source: Database,
    share: Database,
    client: Client,
    replica: Client,
    installation: Installation,
    columns: Vec<&'static str>,
    generation: u32,
    late: bool,
}

impl Register {
    async fn new(bus: Bus) -> Self {
        let (source, share) = (Postgres::shared().await.unwrap(), Postgres::shared().await.unwrap());
        let (client, replica) = (connect(&source.url).await.unwrap(), connect(&share.url).await.unwrap());
        client.batch_execute(TABLE).await.unwrap();
        let installation = Installation::over(&bus.table().await, &source.name, "");
        installation.announce(&["table suspended", "stream suspended", "quarantined", "halted"]);
        installation.draft_contract(&source.url, "public.other", "other");
        let columns = vec!["id", "name", "note"];
        let register =
            Self { source, share, client, replica, installation, columns, generation: 1, late: false };
        let text = std::fs::read_to_string(register.installation.path("hutong.toml")).unwrap();
        register.installation.write("bus.toml", &text);
        register.configure();
        register
    }

    /// Drafts the contract of the table as it is now, and grants every column.
    fn configure(&self) {
        self.installation.draft_contract(&self.source.url, "public.entry", "entry");
        let owner = &self.source.name;
        let columns: Vec<String> = self.columns.iter().map(|column| format!("{column:?}")).collect();
        let subscription = |name: &str, store: &str, table: &str| {
            format!(
                "[subscription.{name}]\ndepartment = \"renshe\"\nstream = \"entry\"\npurpose = \"核验\"\n\
                 columns = [{}]\ninto = {{ store = \"{store}\", table = \"{table}\" }}\n",
                columns.join(", ")
            )
        };
        let late = if self.late { subscription("late", "share", "share.late") } else { String::new() };
        let text = format!(
            r#"{bus}
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
generation = {}
[stream.other]
owner = "{owner}"
contract = "other.avsc"
[capture.{owner}]
from = "source"
tables = {{ "public.entry" = "entry", "public.other" = "other" }}
watermark_interval = "1s"
{}{}{late}"#,
            self.source.url,
            self.share.url,
            self.generation,
            subscription("shared", "share", "share.entry"),
            subscription("filed", "office", "entry"),
            bus = std::fs::read_to_string(self.installation.path("bus.toml")).unwrap(),
        );
        self.installation.write("hutong.toml", &text);
    }

    async fn sql(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap();
    }

    /// Waits until the replicas hold what the register does, column by column.
    async fn equal(&self) {
        let columns = self.columns.iter().map(|column| Expected::same(column)).collect();
        let projection = Projection { from: "entry".into(), columns };
        projection.reached(&self.client, &Replica::Postgres(&self.replica, "share.entry")).await;
        let office = self.installation.path("office.db");
        projection.reached(&self.client, &Replica::Sqlite(&office, "entry")).await;
        if self.late {
            projection.reached(&self.client, &Replica::Postgres(&self.replica, "share.late")).await;
        }
    }

    /// Waits until an entry of the status says something; returns its lane.
    async fn lane(&self, lane: &str, what: &str, says: impl Fn(&Json) -> bool) -> Json {
        until(what, async || {
            self.installation.lanes()?.into_iter().find(|found| found["lane"] == lane && says(found))
        })
        .await
    }

    /// Lets the register go on with its other table, and sees that this is carried.
    async fn the_other_table_flows(&self, id: i64) {
        self.sql(&format!("INSERT INTO other VALUES ({id}, '又')")).await;
        self.installation.tap("other", |changes| changes.iter().any(|c| c["after"]["id"] == id)).await;
    }

    /// Nothing of the replicas waits in quarantine. What the capture set aside before the contract grew is told there.
    fn nothing_waits(&self) {
        for pipeline in ["shared", "filed"] {
            let list = self.installation.ask(&["quarantine", "list", pipeline, "-o", "json"]).expect(0);
            let waiting: Vec<Json> = serde_json::from_str(&list).unwrap();
            assert_eq!(waiting.iter().filter(|item| item["state"] == "waiting").count(), 0, "{list}");
        }
    }
}

/// One way to change the table: the statement, the columns to grant after it, and changes that use it.
const COMPATIBLE: [(&str, &str, &[&str], &str); 8] = [
    (
        "a column",
        "ALTER TABLE entry ADD COLUMN age smallint",
        &["id", "name", "note", "age"],
        "UPDATE entry SET age = 30 WHERE id % 2 = 0",
    ),
    (
        "a column with a default",
        "ALTER TABLE entry ADD COLUMN town text DEFAULT '城关'",
        &["id", "name", "note", "age", "town"],
        "INSERT INTO entry VALUES (1001, '新', NULL, 1)",
    ),
    (
        "a wider text",
        "ALTER TABLE entry ALTER name TYPE varchar(40)",
        &["id", "name", "note", "age", "town"],
        "UPDATE entry SET name = repeat('长', 40) WHERE id = 3",
    ),
    (
        "a text without a limit",
        "ALTER TABLE entry ALTER name TYPE text",
        &["id", "name", "note", "age", "town"],
        "UPDATE entry SET name = repeat('长', 400) WHERE id = 4",
    ),
    (
        "a wider number",
        "ALTER TABLE entry ALTER age TYPE integer",
        &["id", "name", "note", "age", "town"],
        "UPDATE entry SET age = 100000 WHERE id = 5",
    ),
    (
        "a column that may be null",
        "ALTER TABLE entry ALTER name DROP NOT NULL",
        &["id", "name", "note", "age", "town"],
        "UPDATE entry SET name = NULL WHERE id = 6",
    ),
    (
        "a column that goes",
        "ALTER TABLE entry DROP COLUMN note",
        &["id", "name", "age", "town"],
        "UPDATE entry SET town = '南关' WHERE id = 7",
    ),
    (
        "a column under another name, and another order",
        "ALTER TABLE entry RENAME COLUMN town TO city; ALTER TABLE entry ADD COLUMN x int; ALTER TABLE entry DROP x",
        &["id", "city", "name", "age"],
        "UPDATE entry SET city = '北关' WHERE id = 8",
    ),
];

async fn compatible(bus: Bus) {
    let mut register = Register::new(bus).await;
    let mut run = register.installation.run();
    register.equal().await;
    for (step, (what, alter, columns, change)) in COMPATIBLE.into_iter().enumerate() {
        println!("{what}");
        // While it runs, and changes: what the contract does not name yet stays, what it misses suspends the table.
        register.sql(&format!("UPDATE entry SET name = '前' WHERE id = {}", 20 + step)).await;
        register.sql(alter).await;
        register.sql(change).await;
        register.sql("DELETE FROM entry WHERE id = (SELECT max(id) FROM entry WHERE id < 1000)").await;
        register.the_other_table_flows(100 + step as i64).await;
        stop(run).await;
        register.columns = columns.to_vec();
        register.configure();
        register.installation.ask(&["check"]).expect(0);
        run = register.installation.run();
        register.equal().await;
        register.sql(&format!("UPDATE entry SET name = '后' WHERE id = {}", 30 + step)).await;
        register.equal().await;
    }
    // Old messages are read again, by who comes late, in the shape of today.
    stop(run).await;
    register.late = true;
    register.configure();
    run = register.installation.run();
    register.equal().await;
    register.nothing_waits();
    stop(run).await;
}

async fn stop(run: Run) {
    run.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_i6_a_table_that_changes_in_ways_that_readers_take_flows_on_over_a_folder() {
    compatible(Bus::Embedded).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_i6_a_table_that_changes_in_ways_that_readers_take_flows_on_over_kafka() {
    compatible(Bus::Kafka).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_i6_a_table_that_breaks_its_readers_goes_on_in_the_next_generation() {
    let mut register = Register::new(Bus::Embedded).await;
    let owner = register.source.name.clone();
    let mut run = register.installation.run();
    register.equal().await;
    for (what, alter, columns) in [
        (
            "another type",
            "ALTER TABLE entry ADD COLUMN code text DEFAULT '0'; ALTER TABLE entry ALTER note TYPE bigint USING length(note)",
            &["id", "name", "note", "code"],
        ),
        (
            "another key",
            "UPDATE entry SET code = 'k' || id; ALTER TABLE entry DROP CONSTRAINT entry_pkey; ALTER TABLE entry ADD PRIMARY KEY (code)",
            &["code", "id", "name", "note"],
        ),
    ] {
        println!("{what}");
        register.sql(alter).await;
        register.sql("UPDATE entry SET name = '前' WHERE id = 20").await;
        // The department's other tables go on, whatever this one has become.
        register.the_other_table_flows(100 + i64::from(register.generation)).await;
        stop(run).await;
        register.columns = columns.to_vec();
        register.configure();

        // Nothing of the new shape is written into the old topic, and the person is told what to do.
        run = register.installation.run();
        let next = format!("generation = {}", register.generation + 1);
        let told = |lane: &Json| lane.to_string().contains(&next);
        register.lane(&format!("capture.{owner}.0"), "the next generation is asked for", told).await;
        register.the_other_table_flows(300 + i64::from(register.generation)).await;
        stop(run).await;
        register.generation += 1;
        register.configure();

        run = register.installation.run();
        register.equal().await;
        register
            .sql("UPDATE entry SET name = '后' WHERE id % 3 = 0; DELETE FROM entry WHERE id % 7 = 0")
            .await;
        register.equal().await;
        register.the_other_table_flows(200 + i64::from(register.generation)).await;
    }
    register.nothing_waits();
    stop(run).await;
}
