//! A running bus is driven through what can happen to it; at each step its alerts fire and clear, and what the metrics
//! say is what is known to be true.

use std::cell::Cell;
use std::process::Command;
use std::time::{Duration, Instant};

use hutong_testkit::launch::{Postgres, connect};
use rusqlite::Connection;
use serde_json::Value as Json;
use tokio_postgres::Client;

use super::pager::{DISK, Pager};
use crate::cli::ended;
use crate::installation::{Bus, Installation, until};
use crate::register;
use crate::replica::{Expected, Projection, Replica};

/// Thresholds that nobody waits for in a test: a minute of silence, half of the history, ten gibibytes.
const INSTEAD: [(&str, &str); 5] = [
    DISK,
    ("hutong_quarantine_oldest_seconds > 24 * 3600", "hutong_quarantine_oldest_seconds > 3"),
    (
        r#"hutong_lag_seconds{pipeline=~"capture[.].+"}) > 60"#,
        r#"hutong_lag_seconds{pipeline=~"capture[.].+"}) > 8"#,
    ),
    ("(0.5 * hutong_retention_seconds)", "(0.998 * hutong_retention_seconds)"),
    (
        "hutong_source_retained_bytes > 10 * 1024 * 1024 * 1024",
        "hutong_source_retained_bytes > 50 * 1024 * 1024",
    ),
];

/// How many people the register holds.
const PEOPLE: usize = 200;

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
watermark_interval = "1s"
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
    let path = installation.path("hutong.toml");
    let text = std::fs::read_to_string(&path).unwrap().replacen("[bus]\n", "[bus]\nhistory = \"1h\"\n", 1);
    std::fs::write(&path, text).unwrap();
    installation
}

/// A row of the replica takes 50 ms.
const SLOWLY: &str = "CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM pg_sleep(0.05); RETURN NEW; END $$;
    CREATE TRIGGER slowly BEFORE INSERT OR UPDATE ON people FOR EACH ROW EXECUTE FUNCTION slowly()";

/// Renames people until it is told that it is enough: many at once, then a fifth more than the replica takes. Returns
/// how many rows it has changed.
async fn write(client: &Client, enough: &Cell<bool>) -> usize {
    let mut written = 0;
    let mut ticks = tokio::time::interval(Duration::from_millis(250));
    for round in 0_i64.. {
        if enough.get() {
            break;
        }
        let (skip, rows): (i64, i64) = if round == 0 { (0, 160) } else { (round * 12 % 180, 12) };
        let sql = "UPDATE population_base SET xm = '王' || chr(20000 + $1::bigint::int) WHERE gmsfhm IN \
                   (SELECT gmsfhm FROM population_base ORDER BY gmsfhm OFFSET $2 LIMIT $3)";
        written += client.execute(sql, &[&round, &skip, &rows]).await.unwrap();
        ticks.tick().await;
    }
    usize::try_from(written).unwrap()
}

/// Makes the source write so many megabytes of log, of which the capture carries nothing.
fn filled(megabytes: usize) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS filler (x text); ALTER TABLE filler ALTER x SET STORAGE EXTERNAL; \
         INSERT INTO filler SELECT repeat('x', 100000) FROM generate_series(1, {megabytes} * 10); TRUNCATE filler"
    )
}

/// An embedded bus into which nobody can write, until it is dropped.
struct Pinned {
    // Held only to be dropped.
    _lock: Connection,
}

impl Pinned {
    fn new(installation: &Installation) -> Self {
        let db = Connection::open(installation.path("bus/bus.sqlite")).unwrap();
        db.busy_timeout(Duration::from_secs(20)).unwrap();
        db.execute_batch("BEGIN IMMEDIATE").unwrap();
        Self { _lock: db }
    }
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
    let limited = Postgres::builder().setting("max_slot_wal_keep_size", "128MB");
    let (source, share) = tokio::join!(limited.start(), Postgres::builder().start());
    let (mut source, mut share) = (source.unwrap(), share.unwrap());
    let client = connect(&source.url()).await.unwrap();
    register::create_people(&client, PEOPLE).await;
    client.batch_execute("UPDATE population_base SET xm = '王五'").await.unwrap();
    let replica = connect(&share.url()).await.unwrap();
    let table = "CREATE TABLE people (gmsfhm text PRIMARY KEY, xm varchar(50) CONSTRAINT short CHECK (length(xm) < 4))";
    replica.batch_execute(table).await.unwrap();
    let installation = installation(&source, &share).await;
    // The last: a table that is read anew is suspended until its truncate.
    installation.announce(&["will open again", "quarantined", "halted", "table suspended"]);
    let address = installation.address();
    let run = installation.run();
    let pager = Pager::of(&installation, &INSTEAD).await;
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
        ("sum(hutong_changes_committed_total{pipeline=\"replicate.names\"})", PEOPLE as f64),
        ("hutong_freshness_target_seconds", 6.0),
        ("hutong_retention_headroom_seconds", 3_600.0),
        ("hutong_retention_seconds", 3_600.0),
        ("sum(hutong_store_up)", 2.0),
        ("hutong_bus_up", 1.0),
        ("sum(hutong_lane_verdict{verdict=\"ok\"})", 3.0),
        ("sum(hutong_lane_state{state=\"running\"})", 3.0),
        ("hutong_source_lost", 0.0),
        ("hutong_changes_captured_total{operation=\"read\"}", PEOPLE as f64),
        ("hutong_changes_captured_total{operation=\"update\"}", 0.0),
        ("hutong_snapshot_done", 1.0),
        ("hutong_snapshot_rows", PEOPLE as f64),
        ("sum(hutong_topic_end)", PEOPLE as f64),
        ("hutong_schemas_refused", 0.0),
        ("hutong_policy_errors_total", 0.0),
        ("sum(hutong_quarantine_waiting)", 0.0),
    ];
    pager.says(&truths).await;
    let scrape = reqwest::get(format!("http://{address}/metrics")).await.unwrap().text().await.unwrap();
    installation.write("scrape.txt", &scrape);
    let mut lint = Command::new("sh");
    lint.args(["-c", "promtool check metrics < \"$1\"", "sh"]).arg(installation.path("scrape.txt"));
    ended(lint).expect(0);
    assert!(
        pager.value("max(hutong_store_clock_skew_seconds)").await.unwrap() < 1.0,
        "one machine, one clock"
    );

    // Idle: minutes are ten watermarks here. The path is proved all the time, and nothing grows old.
    pager.comes("count_over_time(hutong_bus_up[1m])", |looks| looks > 10.0).await;
    pager
        .says(&[
            ("max(quantile_over_time(0.5, hutong_lag_seconds[5s]))", 0.0),
            ("sum(hutong_lag_changes)", 0.0),
        ])
        .await;

    // The source is faster than the sink: a row takes 50 ms in each of two lanes, and more come.
    replica.batch_execute(SLOWLY).await.unwrap();
    let told = Cell::new(false);
    let fires = async {
        pager.fires(&["HutongLaneSlow replicate.names"]).await;
        told.set(true);
    };
    let ((), written) = tokio::join!(fires, write(&client, &told));
    let passed =
        pager.value("sum(hutong_changes_committed_total{pipeline=\"replicate.names\"})").await.unwrap();
    assert!(passed > PEOPLE as f64, "{passed}: it moves");
    let bytes_only = pager.value("max(hutong_lag_changes{pipeline=\"capture.gongan\"})").await;
    assert_eq!(bytes_only, None, "a source that knows bytes only says nothing of changes");
    replica.batch_execute("DROP TRIGGER slowly ON people").await.unwrap();
    whole().reached(&client, &Replica::Postgres(&replica, "people")).await;
    pager.clear().await;
    pager.comes("hutong_changes_captured_total{operation=\"update\"}", |count| count == written as f64).await;
    pager.comes("sum(hutong_topic_end)", |end| end == (PEOPLE + written) as f64).await;
    pager.says(&[("max(hutong_lag_seconds)", 0.0), ("sum(hutong_lag_changes)", 0.0)]).await;
    let counted = async |what: &str, stage: &str| {
        pager.value(&format!("hutong_latency_seconds_{what}{{stage=\"{stage}\"}}")).await.unwrap()
    };
    let before =
        (counted("sum", "whole").await, counted("count", "whole").await, counted("count", "capture").await);

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
    // How many changes wait grows with what comes, though nobody reads it.
    let waits = "sum(hutong_lag_changes{pipeline=\"replicate.names\"})";
    pager.comes(waits, |waits| waits == 1.0).await;
    client.batch_execute("UPDATE population_base SET xm = '周七' WHERE gmsfhm = citizen(0)").await.unwrap();
    pager.comes(waits, |waits| waits == 2.0).await;
    let said = installation.ask(&["status"]).expect(3);
    assert!(
        said.contains("store share has not answered for") && said.contains("the subscription promises 6.0 s"),
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
    let late = installation.ask(&["lag", "-o", "json"]);
    let rows: Vec<Json> = serde_json::from_str(&late.out).unwrap();
    let names = rows.iter().find(|row| row["pipeline"] == "replicate.names").unwrap();
    assert_eq!(
        (late.code, &names["lag_changes"], &names["verdict"]),
        (1, &2.into(), &"stopped".into()),
        "{names}"
    );
    let found: Vec<Json> = serde_json::from_str(&installation.ask(&["doctor", "-o", "json"]).out).unwrap();
    let wrong = |one: &&Json| one["ok"] == false && one["what"].as_str().unwrap().contains("store share");
    assert!(found.iter().any(|one| wrong(&one)) && found.iter().any(|one| one["ok"] == true), "{found:#?}");
    share.restart().await.unwrap();
    pager.clear().await;
    // The update was on its way for as long as the store was away; a lane waits up to 30 s before it opens again.
    let whole_way = counted("sum", "whole").await - before.0;
    let longest = 2.0 * away.elapsed().as_secs_f64();
    assert!((lag - 6.0..longest).contains(&whole_way), "{whole_way} s of both");
    assert_eq!(counted("count", "whole").await - before.1, 2.0);
    assert_eq!(counted("count", "capture").await - before.2, 2.0);
    assert!(
        counted("sum", "bus").await >= 0.0
            && counted("count", "bus").await == counted("count", "apply").await
    );

    // The source is away: its replicas are fresh no more, although nothing waits for them.
    source.kill().await.unwrap();
    pager
        .fires(&[
            "HutongStoreDown source",
            "HutongLaneStopped capture.gongan",
            "HutongCaptureSilent capture.gongan",
            "HutongLaneStalled replicate.names",
            "HutongFreshnessMissed replicate.names",
        ])
        .await;
    source.restart().await.unwrap();
    pager.clear().await;

    let client = connect(&source.url()).await.unwrap();

    // Retention is about to pass: the subscription stands, and what it has not read grows old.
    installation.ask(&["subscription", "pause", "names", "--reason", "库要维护"]).expect(0);
    pager
        .fires(&["HutongRetentionHeadroomLow replicate.names", "HutongFreshnessMissed replicate.names"])
        .await;
    let history = "hutong_retention_headroom_seconds + on (pipeline) max by (pipeline) (hutong_lag_seconds)";
    let history = pager.value(history).await.unwrap();
    assert!((history - 3_600.0).abs() < 0.01, "what is left and what is unread are all of it: {history}");
    pager
        .says(&[
            ("sum(hutong_lane_state{state=\"paused\"})", 2.0),
            ("sum(hutong_lane_verdict{verdict=\"paused\"})", 2.0),
            ("hutong_lag_seconds{pipeline=\"capture.gongan\"}", 0.0),
        ])
        .await;
    installation.ask(&["subscription", "resume", "names"]).expect(0);
    pager.clear().await;

    // The slot is pinned: the bus takes nothing, and the source keeps its log.
    let pinned = Pinned::new(&installation);
    client.batch_execute(&filled(90)).await.unwrap();
    let kept = "SELECT (pg_current_wal_lsn() - restart_lsn)::float8 FROM pg_replication_slots";
    let kept: f64 = client.query_one(kept, &[]).await.unwrap().get(0);
    assert!(kept > 90e6, "{kept} bytes");
    pager.comes("hutong_source_retained_bytes", |bytes| (bytes - kept).abs() < 8e6).await;
    pager.fires(&["HutongSourceLogKept gongan", "HutongSourceLogForecast gongan"]).await;
    pager.says(&[("hutong_source_lost", 0.0), ("sum(hutong_store_up)", 2.0)]).await;
    drop(pinned);
    // A slot moves where the server has noted who is at work: with a checkpoint, else every 15 s.
    pager.comes("hutong_lag_seconds{pipeline=\"capture.gongan\"}", |lag| lag == 0.0).await;
    client.batch_execute("CHECKPOINT").await.unwrap();
    pager.clear().await;

    // One row is refused, then too many.
    client.batch_execute(&refused(0)).await.unwrap();
    pager.fires(&["HutongQuarantineGrew replicate.names"]).await;
    pager
        .says(&[
            ("sum(hutong_quarantine_waiting)", 1.0),
            ("hutong_changes_quarantined_total{pipeline=\"replicate.names\"}", 1.0),
            ("hutong_policy_errors_total", 0.0),
        ])
        .await;
    // It waits for too long; then the owner mends the row, and a later whole change settles what waits.
    pager.fires(&["HutongQuarantineWaits replicate.names"]).await;
    let mended = "UPDATE population_base SET xm = '三字名' WHERE gmsfhm = citizen(30000)";
    assert_eq!(client.execute(mended, &[]).await.unwrap(), 1);
    pager.comes("sum(hutong_quarantine_waiting)", |waiting| waiting == 0.0).await;
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
    installation.ask(&["quarantine", "replay", "names"]).expect(0);
    pager.clear().await;
    let whole = Projection { from: "population_base".into(), ..whole() };
    whole.reached(&client, &Replica::Postgres(&replica, "people")).await;

    // The source has thrown away what was not read: a person accepts the loss, and the tables are read anew.
    let pinned = Pinned::new(&installation);
    client.batch_execute(&filled(200)).await.unwrap();
    client.batch_execute("CHECKPOINT").await.unwrap();
    pager.fires(&["HutongSourceLogLost gongan"]).await;
    drop(pinned);
    pager.fires(&["HutongLaneHalted capture.gongan"]).await;
    run.stop().await;
    installation.ask(&["source", "reset", "gongan", "--reason", "复制槽失效"]).expect(0);
    let run = installation.run();
    pager.clear().await;
    whole.reached(&client, &Replica::Postgres(&replica, "people")).await;

    // Whatever happened: no metric was ever NaN or negative, and no value of a row stands in the log, though databases
    // quote the rows that they refuse.
    pager.was_always_sane().await;
    let key: String = client.query_one("SELECT citizen(30000)", &[]).await.unwrap().get(0);
    for value in ["王五", "赵六", "周七", "五个字的名", "三字名", &key] {
        assert!(!installation.logged(value), "{value} is logged");
    }
    run.stop().await;
}
