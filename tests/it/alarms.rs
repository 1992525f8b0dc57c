//! A real Prometheus scrapes a running bus while faults are caused: their alerts fire, and clear; and what the metrics
//! say at each step is what is known to be true.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Instant;

use hutong_testkit::launch::{Postgres, Prometheus, connect};
use serde_json::Value as Json;

use crate::cli::{ended, root};
use crate::installation::{Bus, Installation, until};
use crate::register;
use crate::replica::{Expected, Projection, Replica};

#[test]
fn the_shipped_rules_are_sound_and_each_fires_and_clears_when_it_must() {
    let folder = root().join("deploy/prometheus");
    let rules = std::fs::read_to_string(folder.join("hutong.rules.yml")).unwrap();
    let tests = std::fs::read_to_string(folder.join("hutong.test.yml")).unwrap();
    for alert in rules.lines().filter_map(|line| line.trim_start().strip_prefix("- alert: ")) {
        assert!(tests.contains(alert), "{alert} has no test in hutong.test.yml");
    }
    for arguments in [&["check", "rules", "hutong.rules.yml"][..], &["test", "rules", "hutong.test.yml"]] {
        let mut promtool = Command::new("promtool");
        promtool.args(arguments).current_dir(&folder);
        ended(promtool).expect(0);
    }
}

/// Prometheus, as a person with a pager sees it.
struct Pager {
    prometheus: Prometheus,
}

impl Pager {
    async fn ask(&self, path: &str, query: &[(&str, &str)]) -> Json {
        let url = format!("{}/api/v1/{path}", self.prometheus.url());
        let answer = reqwest::get(reqwest::Url::parse_with_params(&url, query).unwrap()).await.unwrap();
        let answer: Json = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        assert_eq!(answer["status"], "success", "{answer}");
        answer["data"].clone()
    }

    /// Returns what fires: each alert with the pipeline or the store that it names.
    async fn firing(&self) -> BTreeSet<String> {
        let data = self.ask("alerts", &[]).await;
        let alerts = data["alerts"].as_array().unwrap();
        let name = |alert: &Json| {
            let label = |name: &str| alert["labels"][name].as_str().map(str::to_owned);
            let subject = label("pipeline").or(label("store")).unwrap_or_default();
            format!("{} {subject}", label("alertname").unwrap()).trim().to_owned()
        };
        alerts.iter().filter(|alert| alert["state"] == "firing").map(name).collect()
    }

    async fn fires(&self, alerts: &[&str]) {
        let what = format!("{alerts:?} fire");
        until(&what, async || {
            let firing = self.firing().await;
            alerts.iter().all(|alert| firing.contains(*alert)).then_some(())
        })
        .await;
    }

    async fn clear(&self) {
        until("no alert fires", async || self.firing().await.is_empty().then_some(())).await;
    }

    /// Returns the one value of a query now; `None` without any.
    async fn value(&self, query: &str) -> Option<f64> {
        let data = self.ask("query", &[("query", query)]).await;
        let found = data["result"].as_array().unwrap();
        assert!(found.len() < 2, "{query}: {found:?}");
        found.first().map(|found| found["value"][1].as_str().unwrap().parse().unwrap())
    }
}

async fn installation(source: &Postgres, share: &Postgres) -> Installation {
    let rest = format!(
        r#"
[limits]
quarantine = 3
[department.gongan]
name = "市公安局"
[department.renshe]
name = "市人社局"
[store.source.postgres]
url = "{}"
[store.share.postgres]
url = "{}"
[stream.population_base]
owner = "gongan"
contract = "population_base.avsc"
partitions = 2
[capture.gongan]
from = "source"
tables = {{ "public.population_base" = "population_base" }}
watermark_interval = "500ms"
[subscription.names]
department = "renshe"
stream = "population_base"
purpose = "核验"
legal_basis = "示例法 第一条"
until = 2099-12-31
columns = ["gmsfhm", "xm"]
freshness = "6s"
into = {{ store = "share", table = "people" }}
"#,
        source.url(),
        share.url()
    );
    let installation = Installation::new(Bus::Embedded, "alarms", &rest).await;
    installation.copy_contract("population_base");
    installation
}

/// Inserts a person whose name the subscriber's table refuses.
fn refused(n: usize) -> String {
    format!(
        "INSERT INTO population_base SELECT (jsonb_populate_record(p, jsonb_build_object('gmsfhm', citizen({}), \
         'xm', '五个字的名'))).* FROM population_base p LIMIT 1",
        30_000 + n
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_are_alarms_that_fire_and_clear_and_metrics_are_true() {
    let (source, share) = tokio::join!(Postgres::builder().start(), Postgres::builder().start());
    let (mut source, mut share) = (source.unwrap(), share.unwrap());
    let client = connect(&source.url()).await.unwrap();
    register::create_people(&client, 40).await;
    client.batch_execute("UPDATE population_base SET xm = '王五'").await.unwrap();
    let replica = connect(&share.url()).await.unwrap();
    let table = "CREATE TABLE people (gmsfhm text PRIMARY KEY, xm varchar(50) CONSTRAINT short CHECK (length(xm) < 4))";
    replica.batch_execute(table).await.unwrap();
    let installation = installation(&source, &share).await;
    installation.announce(&["will open again", "quarantined", "halted"]);
    let address = installation.address();
    let rules = installation.ask(&["metrics", "rules", "--for", "1s", "--over", "8s"]).expect(0);
    let run = installation.run();
    let pager = Pager { prometheus: Prometheus::start(&address, &rules).await.unwrap() };
    let whole = || Projection {
        from: "population_base WHERE length(xm) < 4".into(),
        columns: ["gmsfhm", "xm"].iter().map(|c| Expected::same(c)).collect(),
    };

    // Caught up, and then idle.
    whole().reached(&client, &Replica::Postgres(&replica, "people")).await;
    until("nothing is behind", async || {
        let behind = pager.value("max(hutong_lag_seconds)").await;
        (behind == Some(0.0) && pager.firing().await.is_empty()).then_some(())
    })
    .await;
    let truths = [
        ("sum(hutong_changes_committed_total{pipeline=\"replicate.names\"})", 40.0),
        ("hutong_freshness_target_seconds", 6.0),
        ("hutong_retention_headroom_seconds", 30.0 * 86_400.0),
        ("hutong_retention_seconds", 30.0 * 86_400.0),
        ("sum(hutong_store_up)", 2.0),
        ("hutong_bus_up", 1.0),
        ("sum(hutong_lane_verdict{verdict=\"ok\"})", 3.0),
        ("sum(hutong_lane_state{state=\"running\"})", 3.0),
        ("hutong_source_lost", 0.0),
    ];
    for (query, truth) in truths {
        assert_eq!(pager.value(query).await, Some(truth), "{query}");
    }
    let scrape = reqwest::get(format!("http://{address}/metrics")).await.unwrap().text().await.unwrap();
    installation.write("scrape.txt", &scrape);
    let mut lint = Command::new("sh");
    lint.args(["-c", "promtool check metrics < \"$1\"", "sh"]).arg(installation.path("scrape.txt"));
    ended(lint).expect(0);
    assert!(
        pager.value("max(hutong_store_clock_skew_seconds)").await.unwrap() < 1.0,
        "one machine, one clock"
    );

    // The subscriber's store is away: its own lanes wait, and nobody else's.
    let (away, killed) = (Instant::now(), std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64());
    share.kill().await.unwrap();
    client.batch_execute("UPDATE population_base SET xm = '赵六' WHERE gmsfhm = citizen(0)").await.unwrap();
    pager
        .fires(&[
            "HutongStoreDown share",
            "HutongFreshnessMissed replicate.names",
            "HutongLaneStopped replicate.names",
        ])
        .await;
    // By the clock of the scrape that saw it.
    let scraped =
        pager.ask("query", &[("query", "hutong_lag_seconds{pipeline=\"replicate.names\"}[1m]")]).await;
    let last = |lane: &Json| lane["values"].as_array().unwrap().last().unwrap().clone();
    let lanes: Vec<Json> = scraped["result"].as_array().unwrap().iter().map(last).collect();
    let behind = |of: &Json| of[1].as_str().unwrap().parse::<f64>().unwrap();
    let worst = lanes.iter().max_by(|a, b| behind(a).total_cmp(&behind(b))).unwrap();
    let (lag, known) = (behind(worst), worst[0].as_f64().unwrap() - killed);
    assert!((known - 2.0..known + 6.0).contains(&lag), "{lag} s behind, away for {known} s");
    assert_eq!(pager.value("hutong_lag_seconds{pipeline=\"capture.gongan\"}").await, Some(0.0));
    let said = installation.ask(&["status"]).expect(0);
    assert!(
        said.contains("store share does not answer for") && said.contains("its subscription promises 6.0 s"),
        "{said}"
    );
    let ready = reqwest::get(format!("http://{address}/readyz?verbose")).await.unwrap();
    assert_eq!(ready.status(), 200, "one dead store of a subscriber does not make the bus unready");
    let ready = ready.text().await.unwrap();
    assert!(ready.contains("[-]store share") && ready.contains("[+]capture.gongan.0 running, ok"), "{ready}");
    let doctor = installation.ask(&["doctor"]);
    assert_eq!(doctor.code, 1, "{}", doctor.out);
    assert!(
        doctor.out.contains("FAIL store share") && doctor.out.contains("ok   store source: PostgreSQL"),
        "{}",
        doctor.out
    );
    let late = installation.ask(&["lag"]);
    assert!(late.code == 1 && late.out.contains("stopped: it could not open for"), "{}", late.out);
    share.restart().await.unwrap();
    pager.clear().await;
    // The update was on its way for as long as the store was away; a lane waits up to 30 s before it opens again.
    let whole_way = pager.value("hutong_latency_seconds_sum{stage=\"whole\"}").await.unwrap();
    assert!((lag - 6.0..away.elapsed().as_secs_f64()).contains(&whole_way), "{whole_way} s");
    assert_eq!(pager.value("hutong_latency_seconds_count{stage=\"whole\"}").await, Some(1.0));
    assert_eq!(pager.value("hutong_latency_seconds_count{stage=\"capture\"}").await, Some(1.0));

    // The source is away: its replicas are fresh no more, although nothing waits for them.
    source.kill().await.unwrap();
    pager
        .fires(&[
            "HutongStoreDown source",
            "HutongLaneStopped capture.gongan",
            "HutongLaneStalled replicate.names",
            "HutongFreshnessMissed replicate.names",
        ])
        .await;
    source.restart().await.unwrap();
    pager.clear().await;

    // One row is refused, then too many.
    let client = connect(&source.url()).await.unwrap();
    client.batch_execute(&refused(0)).await.unwrap();
    pager.fires(&["HutongQuarantineGrew replicate.names"]).await;
    pager.clear().await;
    // One at a time: a lane decides by what is committed.
    for n in 1..9 {
        client.batch_execute(&refused(n)).await.unwrap();
    }
    pager.fires(&["HutongLaneHalted replicate.names"]).await;
    let status = installation.ask(&["status", "-o", "json"]);
    assert_eq!(status.code, 1, "{}", status.out);
    let status: Json = serde_json::from_str(&status.out).unwrap();
    let halted = status["lanes"].as_array().unwrap().iter().find(|lane| lane["state"] == "halted").unwrap();
    assert_eq!((&halted["kind"], &halted["verdict"]), (&"broken".into(), &"stopped".into()), "{halted}");
    let replica = connect(&share.url()).await.unwrap();
    replica.batch_execute("ALTER TABLE people DROP CONSTRAINT short").await.unwrap();
    run.kill();
    pager.fires(&["HutongGone"]).await;
    let run = installation.run();
    pager.clear().await;
    installation.ask(&["quarantine", "replay", "names"]).expect(0);
    let whole = Projection { from: "population_base".into(), ..whole() };
    whole.reached(&client, &Replica::Postgres(&replica, "people")).await;

    // Whatever happened: no metric was ever NaN or negative.
    let all = pager.ask("query", &[("query", "{__name__=~\"hutong_.+\"}[15m]")]).await;
    let series = all["result"].as_array().unwrap();
    assert!(series.len() > 100, "{} series", series.len());
    for one in series {
        for sample in one["values"].as_array().unwrap() {
            let value: f64 = sample[1].as_str().unwrap().parse().unwrap();
            assert!(value >= 0.0, "{value} of {}", one["metric"]);
        }
    }
    run.stop().await;
}
