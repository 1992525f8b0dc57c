//! What a grant means while rows change: a filter is a promise about the replica, a mask hides, silence is kept.

use hutong_testkit::launch::{Database, Postgres, connect};
use serde_json::Value as Json;
use tokio_postgres::Client;

use crate::installation::{Bus, Installation, until};
use crate::register;
use crate::replica::{Expected, Projection, Replica};

fn configuration(source: &Database, share: &Database, rows: &str) -> String {
    let owner = &source.name;
    format!(
        r#"
[department.{owner}]
name = "市公安局"
[department.renshe]
name = "市人社局"
[department.jiaoyu]
name = "市教育局"

[store.source.postgres]
url = "{}"
[store.share.postgres]
url = "{}"
[store.office.sqlite]
path = "office.db"

[stream.population_base]
owner = "{owner}"
contract = "population_base.avsc"
partitions = 2

[capture.{owner}]
from = "source"
tables = {{ "public.population_base" = "population_base" }}
watermark_interval = "1s"

[subscription.living]
department = "renshe"
stream = "population_base"
purpose = "养老保险待遇资格核验"
legal_basis = "社会保险法 第七十四条"
until = 2099-12-31
columns = ["gmsfhm", "rkzt", "lxdh", "csrq"]
rows = "{rows}"
into = {{ store = "share", table = "share.living" }}

[subscription.young]
department = "jiaoyu"
stream = "population_base"
purpose = "学籍核验"
legal_basis = "教育法（示例）"
until = 2099-12-31
columns = ["gmsfhm", "xm", "csrq"]
rows = "csrq >= DATE '1950-02-01' AND rkzt IN ('正常', '失踪')"
mask = {{ xm = "name" }}
into = {{ store = "office", table = "young" }}
"#,
        source.url, share.url
    )
}

const PHONE: &str = "CASE WHEN lxdh IS NOT NULL THEN left(lxdh, 3) || '****' || right(lxdh, 4) END";
const NAME: &str = "CASE xm WHEN '欧阳无名' THEN '欧阳*' ELSE left(xm, 1) || '*' END";

struct Town {
    installation: Installation,
    source: Client,
    share: Client,
}

impl Town {
    async fn reached(&self, rows: &str) {
        let mut living: Vec<Expected> =
            ["gmsfhm", "rkzt", "csrq"].iter().map(|c| Expected::same(c)).collect();
        living.push(Expected::of("lxdh", PHONE));
        let living = Projection { from: format!("population_base WHERE {rows}"), columns: living };
        living.reached(&self.source, &Replica::Postgres(&self.share, "share.living")).await;
        let young =
            ["gmsfhm", "csrq"].iter().map(|c| Expected::same(c)).chain([Expected::of("xm", NAME)]).collect();
        let young = Projection {
            from: "population_base WHERE csrq >= date '1950-02-01' AND rkzt IN ('正常', '失踪')".into(),
            columns: young,
        };
        young.reached(&self.source, &Replica::Sqlite(&self.installation.path("office.db"), "young")).await;
    }

    /// Returns where the row of the n-th person comes from.
    async fn offset(&self, n: usize) -> i64 {
        let person: String =
            self.source.query_one(&format!("SELECT citizen({n})"), &[]).await.unwrap().get(0);
        let row = self
            .share
            .query_one("SELECT hutong_offset FROM share.living WHERE gmsfhm = $1", &[&person])
            .await;
        row.unwrap().get(0)
    }

    async fn change(&self, set: &str, n: usize) {
        let sql = format!("UPDATE population_base SET {set} WHERE gmsfhm = citizen({n})");
        assert_eq!(self.source.execute(&sql, &[]).await.unwrap(), 1, "{sql}");
    }

    fn waits_nothing(&self) {
        for subscription in ["living", "young"] {
            let list = self.installation.ask(&["quarantine", "list", subscription, "-o", "json"]).expect(0);
            assert_eq!(list.trim(), "[]", "{subscription}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_rows_leave_and_enter_a_filter_masked_and_a_narrowed_grant_leaves_nothing_behind() {
    let (source, share) = (Postgres::shared().await.unwrap(), Postgres::shared().await.unwrap());
    let wide = "rkzt <> '注销'";
    let installation =
        Installation::new(Bus::Embedded, &source.name, &configuration(&source, &share, wide)).await;
    installation.copy_contract("population_base");
    let town = Town {
        installation,
        source: connect(&source.url).await.unwrap(),
        share: connect(&share.url).await.unwrap(),
    };
    register::create_people(&town.source, 60).await;
    let run = town.installation.run();
    town.reached(wide).await;

    // Out of both filters, and back; then within, and by a new birth date out of one.
    for set in [
        "rkzt = '注销'",
        "rkzt = '失踪', lxdh = '13912345678'",
        "rkzt = '正常'",
        "csrq = '1950-01-02'",
        "csrq = '1960-01-01'",
    ] {
        town.change(set, 33).await;
        town.reached(wide).await;
    }
    // Deleted outside and inside of the filter; a key that changes while it leaves.
    town.change("rkzt = '注销'", 39).await;
    town.source
        .batch_execute("DELETE FROM population_base WHERE gmsfhm IN (citizen(39), citizen(45))")
        .await
        .unwrap();
    town.change("gmsfhm = citizen(40051), rkzt = '注销'", 51).await;
    town.change("gmsfhm = citizen(40057)", 57).await;
    town.reached(wide).await;

    // What is not granted is not told: the row still comes from the change before.
    let before = town.offset(33).await;
    town.change("jzdz = '无省无市新址'", 33).await;
    town.change("secret_note = 'x'", 33).await;
    town.change("rkzt = '死亡'", 63).await;
    town.reached(wide).await;
    assert_eq!(town.offset(33).await, before, "a change outside the grant is not delivered");
    // A step that writes no rows is committed, and so counted, a moment later.
    until("I3: both are dropped by a named rule", async || {
        let lanes = town.installation.lanes()?;
        let dropped = lanes.iter().filter_map(|lane| lane["dropped"]["outside_grant"].as_u64());
        (dropped.sum::<u64>() >= 2).then_some(())
    })
    .await;
    town.waits_nothing();
    run.stop().await;

    // A narrower grant: the rows that it does not name are gone, the others are there.
    let narrow = "rkzt = '正常' AND csrq < DATE '1950-05-01'";
    let text = std::fs::read_to_string(town.installation.path("hutong.toml")).unwrap();
    town.installation.write("hutong.toml", &text.replace(wide, narrow));
    let run = town.installation.run();
    town.reached(narrow).await;
    town.waits_nothing();
    run.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_tap_as_a_department_shows_what_it_may_hold_and_no_more() {
    let (source, share) = (Postgres::shared().await.unwrap(), Postgres::shared().await.unwrap());
    let rows = "rkzt <> '注销'";
    let installation =
        Installation::new(Bus::Embedded, &source.name, &configuration(&source, &share, rows)).await;
    installation.copy_contract("population_base");
    let client = connect(&source.url).await.unwrap();
    register::create_people(&client, 30).await;
    let run = installation.run();
    until("the topic is there", async || {
        (installation.ask(&["tap", "population_base", "--from-start", "--limit", "1"]).code == 0)
            .then_some(())
    })
    .await;

    let arguments =
        ["tap", "population_base", "--as", "renshe", "--from-start", "-o", "json", "--limit", "15"];
    let shown = installation.ask(&arguments).expect(0);

    let changes: Vec<Json> = shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(changes.len(), 15, "half of them are cancelled");
    for change in &changes {
        let after = change["after"].as_object().unwrap_or_else(|| panic!("{change}"));
        let names: Vec<&str> = after.keys().map(String::as_str).collect();
        assert_eq!(names, ["gmsfhm", "rkzt", "lxdh", "csrq"]);
        assert_ne!(after["rkzt"], "注销");
        assert!(after["lxdh"].is_null() || after["lxdh"].as_str().unwrap().contains("****"), "{change}");
    }
    let stranger =
        installation.ask(&["tap", "population_base", "--as", &source.name, "--from-start", "--limit", "1"]);
    assert_eq!(stranger.code, 5, "{}", stranger.err);
    run.stop().await;
}
