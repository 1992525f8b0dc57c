//! Several programs with the same configuration over one Kafka, each in a folder of its own, and what must hold of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use hutong_testkit::launch::{Database, connect};
use serde_json::Value as Json;

use super::story::{each_change_stands_once, is_told};
use super::workload::Workload;
use crate::installation::{Installation, Run, until};
use crate::replica::{Expected, Projection, Replica};

const PARTITIONS: usize = 4;
const COLUMNS: [&str; 3] = ["id", "version", "note"];
/// The subscriptions; each has a table of its name.
const SUBSCRIPTIONS: [&str; 2] = ["shared", "filed"];

/// Programs that share one configuration.
pub(super) struct Fleet {
    /// The department that owns the register, by which the capture is called.
    pub(super) owner: String,
    /// The source.
    pub(super) url: String,
    share: String,
    members: Vec<Installation>,
    runs: Vec<Option<Run>>,
}

impl Fleet {
    /// Makes one folder for each table `[bus.…]`, over a register that is there.
    pub(super) fn new(buses: &[String], source: &Database, share: &Database) -> Self {
        let configuration = configuration(&source.name, source, share);
        let member = |bus: &String| {
            let member = Installation::over(bus, &source.name, &configuration);
            member.announce(&[
                "will open again",
                "table suspended",
                "the group does not answer",
                "cannot take part yet",
                "another process has taken it: gives way",
            ]);
            member.draft_contract(&source.url, "public.entry", "entry");
            member
        };
        let members: Vec<Installation> = buses.iter().map(member).collect();
        let runs = members.iter().map(|_| None).collect();
        Self { owner: source.name.clone(), url: source.url.clone(), share: share.url.clone(), members, runs }
    }

    /// Returns the name of the capture.
    pub(super) fn capture(&self) -> String {
        format!("capture.{}", self.owner)
    }

    /// Returns every lane of the configuration.
    fn lanes(&self) -> BTreeSet<String> {
        let of = |name: &str| (0..PARTITIONS).map(|p| format!("replicate.{name}.{p}")).collect::<Vec<_>>();
        let capture = format!("{}.0", self.capture());
        SUBSCRIPTIONS.iter().flat_map(|name| of(name)).chain([capture]).collect()
    }

    /// Waits until the first rows are in the replicas: from here on the slot tells what happens.
    pub(super) async fn streams(&mut self) {
        until("the first rows arrive", async || {
            self.all_run();
            (self.passed(0).await > 0).then_some(())
        })
        .await;
    }

    /// Starts a member.
    pub(super) fn start(&mut self, at: usize) {
        self.runs[at] = Some(self.members[at].run());
    }

    /// Starts a member for some pipelines only.
    pub(super) fn start_only(&mut self, at: usize, pipelines: &[&str]) {
        self.runs[at] = Some(self.members[at].run_only(pipelines));
    }

    /// Takes a member's run out, to end it.
    pub(super) fn take(&mut self, at: usize) -> Run {
        self.runs[at].take().expect("it runs")
    }

    /// Returns a member's run.
    pub(super) fn of(&self, at: usize) -> &Run {
        self.runs[at].as_ref().expect("it runs")
    }

    /// Asserts that no member has ended by itself.
    fn all_run(&mut self) {
        for (at, run) in self.runs.iter_mut().enumerate() {
            assert!(run.as_mut().is_none_or(Run::runs), "member {at} ended by itself");
        }
    }

    /// Waits until each lane runs in just one of these members, is known to the others as being elsewhere, and nobody has much more than another; returns
    /// who runs which.
    pub(super) async fn shared_by(&mut self, members: &[usize]) -> BTreeMap<String, usize> {
        let lanes = self.lanes();
        let owners = until(&format!("each lane runs in one of {members:?}"), async || {
            self.all_run();
            let mut owners = BTreeMap::new();
            for at in members {
                let status = self.members[*at].status()?;
                let elsewhere: BTreeSet<&str> =
                    status["share"]["elsewhere"].as_array()?.iter().filter_map(Json::as_str).collect();
                for lane in status["lanes"].as_array()? {
                    let name = lane["lane"].as_str()?;
                    let alone = owners.insert(name.to_owned(), *at).is_none();
                    if lane["state"] != "running" || !alone || elsewhere.contains(name) {
                        return None;
                    }
                }
                if elsewhere.len() + status["lanes"].as_array()?.len() != lanes.len() {
                    return None;
                }
            }
            let all = owners.keys().cloned().collect::<BTreeSet<_>>() == lanes;
            (all && are_even(&owners, members)).then_some(owners)
        })
        .await;
        for partition in 0..PARTITIONS {
            let of = |name: &&str| owners[&format!("replicate.{name}.{partition}")];
            let by: BTreeSet<usize> = SUBSCRIPTIONS.iter().map(of).collect();
            assert_eq!(by.len(), 1, "one reads a partition for all its subscriptions: {owners:?}");
        }
        owners
    }

    /// Returns how many lanes each member runs.
    pub(super) fn running(&self) -> Vec<usize> {
        let count = |member: &Installation| {
            let lanes = member.lanes().unwrap_or_default();
            lanes.iter().filter(|lane| lane["state"] == "running").count()
        };
        self.members.iter().map(count).collect()
    }

    /// Returns who captures.
    pub(super) fn capturing(&self, owners: &BTreeMap<String, usize>) -> usize {
        owners[&format!("{}.0", self.capture())]
    }

    /// Waits until every lane has applied a change that was committed after this call; returns how long that took.
    pub(super) async fn moves_on(&mut self, what: &str) -> Duration {
        let began = Instant::now();
        let now = Workload::now(&connect(&self.url).await.unwrap()).await;
        until(&format!("every lane moves on after this: {what}"), async || {
            self.all_run();
            (self.passed(now).await == PARTITIONS * SUBSCRIPTIONS.len()).then_some(())
        })
        .await;
        let took = began.elapsed();
        println!("{what}: every lane has applied a later change after {took:?}");
        took
    }

    /// Returns how many lanes have applied a later version.
    async fn passed(&self, version: i64) -> usize {
        let Ok(share) = connect(&self.share).await else { return 0 };
        let mut passed = 0;
        for name in SUBSCRIPTIONS {
            let sql = format!("SELECT count(DISTINCT hutong_lane) FROM share.{name} WHERE version > $1");
            let Ok(row) = share.query_one(&sql, &[&version]).await else { return 0 };
            passed += usize::try_from(row.get::<_, i64>(0)).unwrap();
        }
        passed
    }

    /// Writes the rows that come last, and asserts that everything has arrived, once, whoever carried it.
    pub(super) async fn ends_well(&self) {
        let source = connect(&self.url).await.unwrap();
        Workload::end(&source).await;
        let share = connect(&self.share).await.unwrap();
        for name in SUBSCRIPTIONS {
            let columns = COLUMNS.iter().map(|column| Expected::same(column)).collect();
            let projection = Projection { from: "entry".into(), columns };
            projection.reached(&source, &Replica::Postgres(&share, &format!("share.{name}"))).await;
        }
        let changes = self.members[0].tap("entry", is_told).await;
        each_change_stands_once(&source, &changes, PARTITIONS, false).await;
        for pipeline in SUBSCRIPTIONS.into_iter().chain([self.capture().as_str()]) {
            let list = self.members[0].ask(&["quarantine", "list", pipeline, "-o", "json"]).expect(0);
            let items: Vec<Json> = serde_json::from_str(&list).unwrap();
            assert_eq!(items, Vec::<Json>::new(), "nothing of {pipeline} is quarantined");
        }
    }

    /// Stops those that run.
    pub(super) async fn stop(&mut self) {
        for run in self.runs.iter_mut().filter_map(Option::take) {
            run.stop().await;
        }
    }
}

/// States whether nobody has many more lanes of a subscription than another.
fn are_even(owners: &BTreeMap<String, usize>, members: &[usize]) -> bool {
    let mut counts: BTreeMap<usize, usize> = members.iter().map(|at| (*at, 0)).collect();
    for (_, at) in owners.iter().filter(|(lane, _)| lane.starts_with("replicate.shared.")) {
        *counts.entry(*at).or_default() += 1;
    }
    let (least, most) = (counts.values().min().unwrap(), counts.values().max().unwrap());
    most - least <= 1
}

fn configuration(owner: &str, source: &Database, share: &Database) -> String {
    let subscription = |name: &str| {
        format!(
            r#"
[subscription.{name}]
department = "renshe"
stream = "entry"
purpose = "核验"
columns = ["id", "version", "note"]
into = {{ store = "share", table = "share.{name}" }}
"#
        )
    };
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

[stream.entry]
owner = "{owner}"
contract = "entry.avsc"
partitions = {PARTITIONS}

[capture.{owner}]
from = "source"
tables = {{ "public.entry" = "entry" }}
chunk_rows = 100
watermark_interval = "1s"
{}"#,
        source.url,
        share.url,
        SUBSCRIPTIONS.map(subscription).concat()
    )
}
