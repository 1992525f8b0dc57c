//! Spans of real lanes, over the embedded bus, as a collector receives them over HTTP.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Mutex;

use axum::routing::post;
use axum::{Json, Router, extract::State};
use hutong_engine::{Board, Metrics};
use opentelemetry_otlp::{Protocol, WithExportConfig as _};
use rusqlite::Connection;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::layer::SubscriberExt as _;

use super::*;
use crate::wire::{self, Wire};

/// A value of a row, which no span may tell.
const PLANTED: &str = "Vb6Nq2Zk8w";

const CONTRACT: &str = r#"{"type":"record","name":"entry","sharing":"unconditional","key":["id"],"fields":[
    {"name":"id","type":"long"},{"name":"note","type":["null","string"]}]}"#;

const CONFIGURATION: &str = r#"
[bus]
name = "traced"
[bus.embedded]
folder = "FOLDER/bus"
[department.gongan]
name = "公安局"
[department.renshe]
name = "人社局"
[store.office.sqlite]
path = "FOLDER/office.db"
[store.renshe.sqlite]
path = "FOLDER/renshe.db"
[stream.entry]
owner = "gongan"
contract = "FOLDER/entry.avsc"
partitions = 1
[capture.register]
from = "office"
tables = { entry = "entry" }
watermark_interval = "500ms"
[subscription.held]
department = "renshe"
stream = "entry"
purpose = "核验"
columns = ["id", "note"]
into = { store = "renshe", table = "entry" }
"#;

type Received = Arc<Mutex<Vec<Value>>>;

/// Starts a collector in a thread of its own; returns where it is, and what it has received.
fn collector() -> (SocketAddr, Received) {
    let received = Received::default();
    let held = Arc::clone(&received);
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            tell.send(listener.local_addr().unwrap()).unwrap();
            let take = async |State(held): State<Received>, Json(body): Json<Value>| {
                held.lock().unwrap().push(body);
                Json(serde_json::json!({}))
            };
            let routes = Router::new().route("/v1/traces", post(take)).with_state(held);
            axum::serve(listener, routes).await.unwrap();
        });
    });
    (told.recv().unwrap(), received)
}

/// One row goes from a register to a replica; returns when the replica has it.
async fn goes(folder: &Path) {
    let plan = crate::config::load(&folder.join("hutong.toml")).unwrap().plan;
    wire::install(&plan.captures[0]).await.unwrap();
    let wire = Wire::connect(&plan, Board::new(), Metrics::new().unwrap()).unwrap();
    let capture = wire.capture(&plan.captures[0]).unwrap();
    let replicate = wire.replicate_one(&plan.subscriptions[0], 0).unwrap();
    let token = CancellationToken::new();
    let arrives = async {
        let replica = folder.join("renshe.db");
        loop {
            let there = Connection::open(&replica).unwrap();
            let note = there.query_row("SELECT note FROM entry", [], |row| row.get::<_, String>(0));
            if note.is_ok_and(|note| note == PLANTED) {
                break token.cancel();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let (captured, replicated, ()) =
        tokio::join!(capture.run(token.clone()), replicate.run(token.clone()), arrives);
    captured.unwrap();
    replicated.unwrap();
}

fn attribute<'a>(span: &'a Value, name: &str) -> &'a Value {
    let all = span["attributes"].as_array().unwrap();
    all.iter().find(|one| one["key"] == name).map_or(&Value::Null, |one| &one["value"])
}

#[test]
fn the_way_of_a_change_is_sent_from_its_commit_at_the_source_to_its_replica() {
    let folder = tempfile::tempdir().unwrap();
    let configuration = CONFIGURATION.replace("FOLDER", folder.path().to_str().unwrap());
    std::fs::write(folder.path().join("hutong.toml"), configuration).unwrap();
    std::fs::write(folder.path().join("entry.avsc"), CONTRACT).unwrap();
    let office = Connection::open(folder.path().join("office.db")).unwrap();
    office.execute_batch("CREATE TABLE entry (id INTEGER PRIMARY KEY, note TEXT)").unwrap();
    office.execute("INSERT INTO entry VALUES (1, ?1)", [PLANTED]).unwrap();
    let (address, received) = collector();
    let exporter = SpanExporter::builder()
        .with_http()
        .with_endpoint(format!("http://{address}/v1/traces"))
        .with_protocol(Protocol::HttpJson)
        .build()
        .unwrap();
    let export = Export::over(exporter);

    let subscriber = tracing_subscriber::registry().with(export.clone().layer());
    tracing::subscriber::with_default(subscriber, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(goes(folder.path()));
    });
    export.processor.shutdown_with_timeout(LAST).unwrap();

    let received = received.lock().unwrap();
    let text = serde_json::to_string(&*received).unwrap();
    assert!(!text.contains(PLANTED), "a span tells a value of a row");
    let mut spans: HashMap<&str, Vec<&Value>> = HashMap::new();
    for body in received.iter() {
        for scope in body["resourceSpans"][0]["scopeSpans"].as_array().unwrap() {
            for span in scope["spans"].as_array().unwrap() {
                spans.entry(span["name"].as_str().unwrap()).or_default().push(span);
            }
        }
    }
    let (capture, replicate) = (spans["capture"][0], spans["replicate"][0]);
    assert_eq!(attribute(capture, "hutong.lane")["stringValue"], "capture.register.0");
    assert_eq!(attribute(capture, "hutong.changes")["intValue"], "1");
    assert_eq!(attribute(replicate, "hutong.stream")["stringValue"], "entry");
    let committed: u64 =
        attribute(capture, "hutong.committed_us")["intValue"].as_str().unwrap().parse().unwrap();
    let at = |span: &Value, name: &str| span[name].as_str().unwrap().parse::<u64>().unwrap();
    assert!(at(capture, "startTimeUnixNano") <= committed * 1_000, "{capture}");
    assert!(at(capture, "startTimeUnixNano") <= at(replicate, "startTimeUnixNano"));
    assert!(at(replicate, "endTimeUnixNano") >= at(capture, "endTimeUnixNano"));
    assert_eq!(capture["parentSpanId"].as_str().unwrap_or_default(), "", "a trace begins here: {capture}");
    assert_eq!(replicate["parentSpanId"], capture["spanId"]);
    // Each commit is a part of its batch, and what a topic costs a part of that.
    let inside = |name: &str, around: &Value| {
        let parts = spans[name].iter();
        let part = parts.copied().find(|part| part["parentSpanId"] == around["spanId"]);
        part.unwrap_or_else(|| panic!("{name} in {around}"))
    };
    inside("commit", replicate);
    let commit = inside("commit", capture);
    for part in [inside("encode", commit), inside("write", commit), commit, replicate] {
        assert_eq!(part["traceId"], capture["traceId"]);
    }
}
