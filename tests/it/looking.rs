//! What whoever carries the pager looks at: the picture of what flows where, the screen, and that both tell what is true.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hutong_testkit::moved::put;
use rusqlite::Connection;
use serde_json::{Value as Json, json};

use crate::cli::{ended, hutong, python};
use crate::installation::{Bus, Installation, until};

const CONTRACT: &str = r#"{"type":"record","name":"entry","title":"登记信息","sharing":"unconditional","key":["id"],
    "fields":[{"name":"id","type":"long"},{"name":"note","type":["null","string"]}]}"#;

const CONFIGURATION: &str = r#"
[department.gongan]
name = "市公安局"
[department.renshe]
name = "市人力资源和社会保障局"
[department.weijian]
name = "卫健委 <&>"

[store.office.sqlite]
path = "office.db"
[store.renshe.sqlite]
path = "renshe.db"

[stream.entry]
owner = "gongan"
contract = "entry.avsc"
partitions = 2

[capture.gongan]
from = "office"
tables = { entry = "entry" }
watermark_interval = "1s"

[subscription.filed]
department = "renshe"
stream = "entry"
purpose = "核验"
columns = ["id", "note"]
rows = "id <= 100"
into = { store = "renshe", table = "entry" }

[subscription.counted]
department = "weijian"
stream = "entry"
purpose = "统计"
columns = ["id"]
into = { store = "renshe", table = "counted" }
"#;

async fn installed(name: &str) -> Installation {
    let installation = Installation::new(Bus::Embedded, name, CONFIGURATION).await;
    installation.write("entry.avsc", CONTRACT);
    let office = Connection::open(installation.path("office.db")).unwrap();
    let rows =
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400) SELECT i, '初' FROM n";
    office
        .execute_batch(&format!(
            "CREATE TABLE entry (id INTEGER PRIMARY KEY, note TEXT); INSERT INTO entry {rows}"
        ))
        .unwrap();
    installation.ask(&["source", "install", "gongan"]).expect(0);
    installation
}

/// Waits until both replicas are whole and every lane is well; returns what was applied, by pipeline.
async fn caught_up(installation: &Installation) -> BTreeMap<String, u64> {
    let rows = |table: &str| -> Option<i64> {
        let replica = Connection::open(installation.path("renshe.db")).ok()?;
        replica.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).ok()
    };
    let well =
        |lane: &Json| lane["state"] == "running" && lane["verdict"] == "ok" && lane["lag_changes"] == 0;
    until("everything is caught up", async || {
        let lanes = installation.lanes().filter(|lanes| lanes.len() == 5 && lanes.iter().all(well))?;
        let whole = rows("entry") == Some(100) && rows("counted") == Some(400);
        whole.then(|| {
            let mut applied = BTreeMap::new();
            for lane in lanes {
                let pipeline = lane["pipeline"].as_str().unwrap().to_owned();
                *applied.entry(pipeline).or_default() += lane["committed"].as_u64().unwrap();
            }
            applied
        })
    })
    .await
}

/// Reads a picture as any XML parser does; fails on what does not stand alone.
fn picture(svg: &str) -> Json {
    let mut command = python("picture.py", &[]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(svg.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{svg}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn texts(picture: &Json) -> Vec<&str> {
    picture["texts"].as_array().unwrap().iter().filter_map(Json::as_str).collect()
}

#[tokio::test]
async fn the_graph_is_drawn_as_configured_and_with_what_flows() {
    let installation = installed("drawn").await;

    let still: Json = serde_json::from_str(&installation.ask(&["graph", "-o", "json"]).expect(0)).unwrap();
    assert_eq!((&still["live"], &still["streams"][0]["capture"]["pace"]), (&json!(false), &Json::Null));
    assert!(still["silent"].as_str().unwrap().contains("ask http://127.0.0.1:"), "{still}");
    let drawn = installation.ask(&["graph", "-o", "svg"]).expect(0);
    assert!(texts(&picture(&drawn)).contains(&"not run"), "{drawn}");

    let run = installation.run();
    let applied = caught_up(&installation).await;

    let told: Json = serde_json::from_str(&installation.ask(&["graph", "-o", "json"]).expect(0)).unwrap();
    assert_eq!(told["live"], true);
    let stream = &told["streams"][0];
    assert_eq!(
        (&stream["owner"], &stream["title"], &stream["columns"]),
        (&json!("gongan"), &json!("登记信息"), &json!(2))
    );
    assert_eq!(stream["capture"]["pace"]["word"], "ok");
    let grants: Vec<(&str, u64, &str)> = stream["grants"]
        .as_array()
        .unwrap()
        .iter()
        .map(|grant| {
            let pace = &grant["pace"];
            let name = grant["subscription"].as_str().unwrap();
            (name, pace["committed"].as_u64().unwrap(), pace["word"].as_str().unwrap())
        })
        .collect();
    let of = |name: &str| applied[&format!("replicate.{name}")];
    assert!(of("filed") >= 100 && of("counted") >= 400, "{applied:?}");
    assert_eq!(
        grants,
        [("filed", of("filed"), "ok"), ("counted", of("counted"), "ok")],
        "by department, and what status tells"
    );
    let answers: Vec<&Json> =
        told["stores"].as_array().unwrap().iter().map(|store| &store["answers"]).collect();
    assert_eq!(answers, [true, true]);

    let drawn = picture(&installation.ask(&["graph", "-o", "svg", "--lang", "zh"]).expect(0));
    let said = texts(&drawn);
    for text in
        ["互通：数据流向", "登记信息", "正常", "renshe · counted", "卫健委 <&>", "filed", "2/2 列 · 部分行"]
    {
        assert!(said.contains(&text), "{text} in {said:?}");
    }
    assert!(drawn["titles"].as_array().unwrap().contains(&json!("核验 · id <= 100")), "{drawn}");
    let text = installation.ask(&["graph", "--department", "weijian"]).expect(0);
    assert!(text.contains("-> 卫健委 <&>  counted  1/2 columns  renshe counted  ok"), "{text}");
    assert!(!text.contains("filed"), "another department's grant is not drawn: {text}");
    let unknown = installation.ask(&["graph", "--stream", "entri"]);
    assert_eq!(unknown.code, 4);
    assert!(unknown.err.contains("did you mean `entry`?"), "{}", unknown.err);
    run.stop().await;
}

/// Runs `hutong top` on a terminal of its own, and returns what it showed.
fn on_terminal(installation: &Installation, size: (u32, u32), steps: &Json, arguments: &[&str]) -> Json {
    let program = hutong(&installation.path("."), &[&["top"], arguments].concat());
    let (columns, lines, steps) = (size.0.to_string(), size.1.to_string(), steps.to_string());
    let mut command: Command = python("terminal.py", &[&columns, &lines, &steps]);
    command.arg(program.get_program()).args(program.get_args());
    command.current_dir(installation.path(".")).env_remove("HUTONG_CONFIG");
    let told: Json = serde_json::from_str(&ended(command).expect(0)).unwrap();
    assert_eq!(told["missed"], json!([]), "{told:#}");
    assert_eq!(told["overrun"], false, "no line is wider than the screen: {told:#}");
    let wanted = [("taken", true), ("modes_restored", true), ("alternate", false), ("cursor_hidden", false)];
    for (key, wanted) in wanted {
        assert_eq!(told[key], wanted, "{key}: the terminal is given back as it was: {told:#}");
    }
    told
}

fn screen(told: &Json, at: usize) -> Vec<String> {
    let lines = told["screens"][at].as_array().unwrap();
    lines.iter().map(|line| line.as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn the_screen_shows_what_is_true_obeys_keys_and_gives_the_terminal_back() {
    let installation = installed("screen").await;
    let nobody = installation.ask(&["top"]);
    assert_eq!((nobody.code, nobody.out.as_str()), (3, ""), "{}", nobody.err);

    let run = installation.run();
    let applied = caught_up(&installation).await;

    // By lane, then ordered by name, then the end; each step waits for what the one before has brought about.
    let steps = json!([["replicate.filed", "l"], ["replicate.filed.1", "\u{1b}[C"], ["lane▼", "q"]]);
    let told = on_terminal(&installation, (80, 24), &steps, &[]);
    assert_eq!(told["code"], 0, "{told:#}");
    let first = screen(&told, 0);
    assert!(first[0].contains("5 lanes: 5 ok"), "{first:#?}");
    let row = |screen: &[String], name: &str| -> Vec<String> {
        let line = screen.iter().find(|line| line.contains(name)).unwrap_or_else(|| panic!("{screen:#?}"));
        line.split_whitespace().map(str::to_owned).collect()
    };
    assert_eq!(row(&first, "replicate.filed")[..2], ["ok", "replicate.filed"]);
    assert_eq!(row(&first, "replicate.counted")[4..], ["s", "0", "0"], "nothing waits, nothing is set aside");
    assert!(first[23].starts_with("q quit"), "{first:#?}");
    let by_lane = screen(&told, 1);
    assert!(row(&by_lane, "replicate.counted.0")[0] == "ok", "{by_lane:#?}");

    // Wide, in Chinese, ended by a signal; then narrow, ended by Ctrl-C.
    let wide = on_terminal(
        &installation,
        (140, 30),
        &json!([["市人力资源和社会保障局", "SIGTERM"]]),
        &["--lang", "zh"],
    );
    assert_eq!(wide["code"], 0, "{wide:#}");
    let shown = screen(&wide, 0);
    assert!(shown[0].contains("5 条通道： 5 正常"), "{shown:#?}");
    assert!(
        shown.iter().any(|line| line.contains("replicate.counted") && line.contains("卫健委")),
        "{shown:#?}"
    );
    let narrow = on_terminal(&installation, (40, 10), &json!([["capture", "\u{3}"]]), &["--lang", "zh"]);
    assert_eq!(narrow["code"], 0, "{narrow:#}");

    // Where nobody looks at a terminal, one page and the end.
    let page = installation.ask(&["top"]).expect(0);
    assert!(!page.contains('\u{1b}') && page.contains("replicate.filed"), "{page}");
    let told: Json = serde_json::from_str(&installation.ask(&["top", "-o", "json"]).expect(0)).unwrap();
    let counted = told["pipelines"].as_array().unwrap().iter().find(|row| row["name"] == "replicate.counted");
    let counted = counted.unwrap_or_else(|| panic!("{told:#}"));
    let wanted = json!(applied["replicate.counted"]);
    assert_eq!(
        (&counted["committed"], &counted["lanes"], &counted["word"]),
        (&wanted, &json!(2), &json!("ok"))
    );
    run.stop().await;
}

#[tokio::test]
async fn a_lag_that_is_watched_outlives_a_restart() {
    let installation = installed("watched").await;
    let nobody = installation.ask(&["lag", "--watch"]);
    assert_eq!((nobody.code, nobody.out.as_str()), (3, ""), "{}", nobody.err);

    let run = installation.run();
    caught_up(&installation).await;
    let mut command = hutong(&installation.path("."), &["lag", "--watch"]);
    let mut watch = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut comes = |begin: &str| {
        lines.find(|line| line.starts_with(begin)).unwrap_or_else(|| panic!("it ended before `{begin}` came"))
    };
    comes("pipeline ");
    run.stop().await;
    let silent = comes("no answer at ");
    assert!(silent.contains(": failed to "), "{silent}");
    let run = installation.run();
    comes("pipeline ");
    comes("replicate.filed ");
    watch.kill().unwrap();
    watch.wait().unwrap();
    run.stop().await;
}

#[test]
fn the_locale_chooses_the_language_unless_it_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let explain = |locale: &str, arguments: &[&str]| {
        let mut command = hutong(folder.path(), &[&["explain", "position_lost"], arguments].concat());
        command.env("LC_ALL", locale);
        ended(command).expect(0)
    };
    assert!(explain("zh_CN.UTF-8", &[]).starts_with("含义。 源头已经没有"));
    assert!(explain("zh_CN.UTF-8", &["--lang", "en"]).starts_with("What it means. "));
    assert!(explain("C", &[]).starts_with("What it means. "));
    let chinese = explain("de_DE", &["--lang", "zh"]);
    assert!(chinese.contains("hutong subscription reload NAME --reason"), "{chinese}");
}

#[tokio::test]
async fn a_replica_is_no_younger_after_a_restart_while_its_store_is_away() {
    let installation = installed("older").await;
    installation.announce(&["will open again"]);
    let run = installation.run();
    let applied = caught_up(&installation).await;
    // A row that the snapshot has read and nobody is granted is kept away, and not applied.
    assert_eq!((applied["replicate.filed"], applied["replicate.counted"]), (100, 400));
    run.stop().await;
    let stopped = Instant::now();
    let (store, away) = (installation.path("renshe.db"), installation.path("away.db"));
    put(&store, &away);
    std::fs::create_dir(&store).unwrap();
    // So long nothing runs.
    tokio::time::sleep(Duration::from_secs(3)).await;

    let run = installation.run();
    let (known, lanes) = until("the lanes of the store are tried", async || {
        let known = stopped.elapsed().as_secs_f64();
        let mut lanes = installation.lanes()?;
        lanes.retain(|lane| lane["pipeline"] != "capture.gongan");
        (lanes.len() == 4 && lanes.iter().all(|lane| lane["state"] == "retrying")).then_some((known, lanes))
    })
    .await;
    for lane in &lanes {
        let lag = lane["lag_seconds"].as_f64().unwrap();
        assert!((known..known + 10.0).contains(&lag), "stopped for {known} s: {lane}");
    }

    std::fs::remove_dir(&store).unwrap();
    put(&away, &store);
    caught_up(&installation).await;
    run.stop().await;
}
