//! A register with a replica in PostgreSQL and one in SQLite, and what must hold of them at the end.

use std::fs;
use std::time::Instant;

use hutong_testkit::launch::connect;
use serde_json::Value as Json;
use tokio_postgres::Client;

use super::story::{each_change_stands_once, is_told};
use super::workload::Workload;
use crate::installation::{Installation, Run, until};
use crate::replica::{Expected, Projection, Replica};

const PARTITIONS: usize = 2;
/// The SQLite replica, in a folder of its own: a disk of its own may be mounted there.
const OFFICE: &str = "office/office.db";
const COLUMNS: [&str; 3] = ["id", "version", "note"];

/// Where the databases are: for the test, and for the program, which may come another way.
pub(super) struct Place {
    /// The test's own way.
    pub(super) direct: String,
    /// The program's way.
    pub(super) reached: String,
}

impl Place {
    /// A database that both reach in the same way.
    pub(super) fn plain(url: &str) -> Self {
        Self { direct: url.into(), reached: url.into() }
    }
}

/// An installation over a register.
pub(super) struct Register {
    /// The department that owns it.
    pub(super) owner: String,
    /// The source, by the test's own way.
    pub(super) url: String,
    /// The subscriber's PostgreSQL, by the test's own way.
    share: String,
    pub(super) installation: Installation,
    /// Columns that the contract has got meanwhile.
    grown: Vec<&'static str>,
}

impl Register {
    /// Makes an installation over a register that is there; `bus` is its table `[bus.…]`.
    pub(super) fn new(bus: &str, owner: &str, source: &Place, share: &Place) -> Self {
        let installation = Installation::over(bus, owner, &configuration(owner, source, share));
        installation.announce(&[
            "will open again",
            "table suspended",
            "the group does not answer",
            "cannot take part yet",
        ]);
        fs::create_dir(installation.path("office")).unwrap();
        installation.draft_contract(&source.direct, "public.entry", "entry");
        Self {
            owner: owner.into(),
            url: source.direct.clone(),
            share: share.direct.clone(),
            installation,
            grown: Vec::new(),
        }
    }

    /// Opens a session of the source.
    pub(super) async fn source(&self) -> Client {
        connect(&self.url).await.unwrap()
    }

    /// Returns the replica's rows and its highest version; zeros while it is not there.
    pub(super) async fn progress(&self) -> (i64, i64) {
        let Ok(share) = connect(&self.share).await else { return (0, 0) };
        match share.query_one("SELECT count(*), coalesce(max(version), 0) FROM share.entry", &[]).await {
            Ok(row) => (row.get(0), row.get(1)),
            Err(_) => (0, 0),
        }
    }

    /// Waits until the first rows are in the replica: from here on the slot tells what happens.
    pub(super) async fn streams(&self) {
        until("the first rows arrive", async || (self.progress().await.0 > 0).then_some(())).await;
    }

    /// Makes an outage, and asserts that the program goes on by itself when it is over (I7).
    pub(super) async fn goes_on(&self, run: &mut Run, what: &str, outage: impl AsyncFnOnce()) {
        let begun = Instant::now();
        outage().await;
        let over = Instant::now();
        let now = Workload::now(&self.source().await).await;
        until(&format!("the replica moves on after this: {what}"), async || {
            assert!(run.runs(), "it ended by itself: {what}");
            (self.progress().await.1 > now).then_some(())
        })
        .await;
        println!("{what}: for {:?}, and went on after {:?}", over - begun, over.elapsed());
    }

    /// Lets the next run read the table in larger pieces.
    pub(super) fn hurry(&self) {
        let text = fs::read_to_string(self.installation.path("hutong.toml")).unwrap();
        self.installation.write("hutong.toml", &text.replace("chunk_rows = 8", "chunk_rows = 100"));
    }

    /// Adds a column to the contract and to what the office is granted; the next run reads it.
    pub(super) fn grow(&mut self, column: &'static str) {
        let path = self.installation.path("entry.avsc");
        let mut contract: Json = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        let field = serde_json::json!({"name": column, "type": ["null", "string"]});
        contract["fields"].as_array_mut().unwrap().push(field);
        self.installation.write("entry.avsc", &contract.to_string());
        let text = fs::read_to_string(self.installation.path("hutong.toml")).unwrap();
        let (before, filed) = text.split_once("[subscription.filed]").unwrap();
        let filed = filed.replace("\"note\"]", &format!("\"note\", \"{column}\"]"));
        self.installation.write("hutong.toml", &format!("{before}[subscription.filed]{filed}"));
        self.grown.push(column);
    }

    /// Writes the rows that come last, and asserts that everything has arrived, once. The program runs.
    pub(super) async fn ends_well(&self) {
        let source = self.source().await;
        Workload::end(&source).await;
        let share = connect(&self.share).await.unwrap();
        let projection = |columns: &[&str]| Projection {
            from: "entry".into(),
            columns: columns.iter().map(|column| Expected::same(column)).collect(),
        };
        projection(&COLUMNS).reached(&source, &Replica::Postgres(&share, "share.entry")).await;
        let filed: Vec<&str> = COLUMNS.into_iter().chain(self.grown.iter().copied()).collect();
        let office = self.installation.path(OFFICE);
        projection(&filed).reached(&source, &Replica::Sqlite(&office, "entry")).await;

        let changes = self.installation.tap("entry", is_told).await;
        each_change_stands_once(&source, &changes, PARTITIONS, !self.grown.is_empty()).await;
        let known: Vec<&str> = filed;
        for row in changes.iter().filter_map(|change| change["after"].as_object()) {
            let stranger = row.keys().find(|column| !known.contains(&column.as_str()));
            assert_eq!(stranger, None, "I5: a column that the contract does not name stays");
        }
        for pipeline in ["shared", "filed", &format!("capture.{}", self.owner)] {
            let list = self.installation.ask(&["quarantine", "list", pipeline, "-o", "json"]).expect(0);
            let mut items: Vec<Json> = serde_json::from_str(&list).unwrap();
            // I6: an update from before the contract grew does not tell the new column. Of a row that the snapshot
            // had not come to it waits, in a replica that is filled anew with that column, until the row is told.
            if pipeline == "filed" && !self.grown.is_empty() {
                let by_design = ["unknown_value", "behind"];
                items.retain(|item| {
                    item["state"] != "superseded" || !by_design.contains(&item["rule"].as_str().unwrap())
                });
            }
            assert_eq!(items, Vec::<Json>::new(), "nothing of {pipeline} is quarantined");
        }
    }
}

fn configuration(owner: &str, source: &Place, share: &Place) -> String {
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
path = "office/office.db"

[stream.entry]
owner = "{owner}"
contract = "entry.avsc"
partitions = {PARTITIONS}

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
        source.reached, share.reached
    )
}
