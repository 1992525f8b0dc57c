//! A row that the subscriber's own table refuses waits in its quarantine until the cause is mended.

use hutong_testkit::launch::{Postgres, connect};
use serde_json::Value as Json;

use crate::installation::{Bus, Installation, until};
use crate::register;
use crate::replica::{Expected, Projection, Replica};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_a_refused_row_waits_while_others_flow_and_is_replayed_when_its_cause_is_mended() {
    let (source, share) = (Postgres::shared().await.unwrap(), Postgres::shared().await.unwrap());
    let (client, replica) = (connect(&source.url).await.unwrap(), connect(&share.url).await.unwrap());
    register::create_people(&client, 40).await;
    // The subscriber's own table, with a rule of its own.
    replica
        .batch_execute(
            "CREATE TABLE people (gmsfhm text PRIMARY KEY, name varchar(50) GENERATED ALWAYS AS (xm) STORED,
             xm varchar(50) CONSTRAINT short CHECK (length(xm) < 4), seen timestamptz DEFAULT now())",
        )
        .await
        .unwrap();
    let configuration = format!(
        r#"
[department.{owner}]
name = "市公安局"
[department.renshe]
name = "市人社局"
[store.source.postgres]
url = "{}"
[store.share.postgres]
url = "{}"
[stream.population_base]
owner = "{owner}"
contract = "population_base.avsc"
[capture.{owner}]
from = "source"
tables = {{ "public.population_base" = "population_base" }}
watermark_interval = "1s"
[subscription.names]
department = "renshe"
stream = "population_base"
purpose = "核验"
legal_basis = "示例法 第一条"
until = 2099-12-31
columns = ["gmsfhm", "xm"]
into = {{ store = "share", table = "people" }}
"#,
        source.url,
        share.url,
        owner = source.name
    );
    let installation = Installation::new(Bus::Embedded, &source.name, &configuration).await;
    installation.announce(&["quarantined"]);
    installation.copy_contract("population_base");
    let run = installation.run();
    let columns = || ["gmsfhm", "xm"].iter().map(|c| Expected::same(c)).collect();
    let short = Projection { from: "population_base WHERE length(xm) < 4".into(), columns: columns() };
    let whole = Projection { from: "population_base".into(), columns: columns() };
    let people = Replica::Postgres(&replica, "people");
    let waiting = || -> Vec<Json> {
        let list = installation.ask(&["quarantine", "list", "names", "-o", "json"]).expect(0);
        let items: Vec<Json> = serde_json::from_str(&list).unwrap();
        items.into_iter().filter(|item| item["state"] == "waiting").collect()
    };

    // Of the snapshot, and of what streams.
    assert_eq!(short.reached(&client, &people).await, 30);
    client.batch_execute("INSERT INTO population_base SELECT (jsonb_populate_record(p, jsonb_build_object('gmsfhm', citizen(30001), 'xm', '五个字的名'))).* FROM population_base p LIMIT 1").await.unwrap();
    client.batch_execute("UPDATE population_base SET xm = '王五' WHERE gmsfhm = citizen(0)").await.unwrap();
    short.reached(&client, &people).await;
    let items = until("ten rows of the snapshot and one that came later wait", async || {
        let items = waiting();
        (items.len() == 11).then_some(items)
    })
    .await;
    for item in &items {
        assert!(
            item["reason"].as_str().unwrap().contains("short"),
            "the reason names the constraint: {item}"
        );
        let names: Vec<&String> = item["change"]["after"].as_object().unwrap().keys().collect();
        assert_eq!(names, ["gmsfhm", "xm"], "I5: it holds the permitted columns only");
    }
    let list = installation.ask(&["quarantine", "list", "names"]).expect(0);
    assert!(list.contains("short") && !list.contains("990101"), "a list shows no value:\n{list}");

    // Of all pipelines, without a name.
    let all = installation.ask(&["quarantine", "list"]).expect(0);
    assert_eq!(all.lines().filter(|line| line.starts_with("names ")).count(), 11, "{all}");
    assert!(all.contains("short") && !all.contains("990101"), "a list shows no value:\n{all}");
    let all = installation.ask(&["quarantine", "list", "-o", "json"]).expect(0);
    let all: Vec<Json> = serde_json::from_str(&all).unwrap();
    assert_eq!(all.iter().filter(|item| item["pipeline"] == "names").count(), 11, "{all:#?}");

    // Nothing is mended yet.
    let first = items[0]["id"].to_string();
    let refused = installation.ask(&["quarantine", "replay", "names", &first]);
    assert_eq!(refused.code, 9, "{}{}", refused.out, refused.err);
    assert_eq!(waiting().len(), 11);

    // A later change that fits makes its item superfluous, a deletion too.
    let person = items[0]["change"]["after"]["gmsfhm"].as_str().unwrap();
    client
        .batch_execute(&format!("UPDATE population_base SET xm = '赵六' WHERE gmsfhm = '{person}'"))
        .await
        .unwrap();
    let other = items[1]["change"]["after"]["gmsfhm"].as_str().unwrap();
    client.batch_execute(&format!("DELETE FROM population_base WHERE gmsfhm = '{other}'")).await.unwrap();
    short.reached(&client, &people).await;
    until("two items are superseded", async || (waiting().len() == 9).then_some(())).await;

    // Status and metrics tell how many wait, also after people have settled them.
    let counted = || -> Option<u64> {
        let lanes = installation.lanes()?;
        let counts = lanes.iter().filter(|lane| lane["pipeline"] == "replicate.names");
        counts.map(|lane| lane["waiting"].as_u64()).sum()
    };
    until("status tells that nine wait", async || counted().filter(|count| *count == 9)).await;
    let status = installation.ask(&["status"]).expect(0);
    let told = "replicate.names: 9 changes wait in the quarantine, the oldest since ";
    let to_do = "\n  what to do: `hutong quarantine list names`";
    assert!(status.contains(told) && status.contains(to_do), "{status}");
    replica.batch_execute("ALTER TABLE people DROP CONSTRAINT short").await.unwrap();
    installation.ask(&["quarantine", "replay", "names"]).expect(0);
    whole.reached(&client, &people).await;
    assert!(waiting().is_empty());
    until("status tells that none waits", async || counted().filter(|count| *count == 0)).await;
    run.stop().await;
}
