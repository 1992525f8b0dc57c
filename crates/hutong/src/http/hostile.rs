//! Hostile requests to what the process answers over HTTP: each gets an answer or an end, and the next one is answered.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use axum::Router;
use hutong_bus::embedded::{Bus, Options, Registry};
use hutong_engine::{Board, Metrics};
use hutong_testkit::hostile;
use serde_json::Value as Json;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::health::Pulse;
use super::registry::{self, BODY_LIMIT_BYTES};
use super::status::{self, Watched};
use crate::share::Roster;

/// Serves routes on a port of this machine for as long as the runtime lives.
fn serve(runtime: &Runtime, server: &mut JoinSet<()>, routes: Router) -> SocketAddr {
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        server.spawn(async move { axum::serve(listener, routes).await.unwrap() });
        address
    })
}

/// What a process shows whose pulse beats, so that it is alive however long it is asked.
fn watched(runtime: &Runtime, server: &mut JoinSet<()>) -> Watched {
    let pulse = Pulse::default();
    let beat = pulse.clone().beat(CancellationToken::new());
    server.spawn_on(async { beat.await.unwrap() }, runtime.handle());
    Watched {
        board: Board::new(),
        metrics: Metrics::new().unwrap(),
        pulse,
        group_lag: None,
        roster: Roster::alone(),
    }
}

/// Sends bytes and returns what comes back until the other side ends. What waits for more than there is, is told that
/// nothing more comes; a whole request is waited for, for a server gives up one whose sender has gone.
fn sent(address: SocketAddr, bytes: &[u8], whole: bool) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    // It may end before it has read everything.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    if !whole {
        stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let _ = stream.read_to_end(&mut answer);
        let _ = stream.shutdown(std::net::Shutdown::Write);
    }
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}"),
    }
    answer
}

fn request(head: &str, body: &str) -> Vec<u8> {
    format!("{head} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        .into()
}

#[test]
fn a_damaged_request_is_answered_or_ended_and_the_next_one_is_served() {
    let runtime = Runtime::new().unwrap();
    let mut server = JoinSet::new();
    let folder = TempDir::new().unwrap();
    let own = Registry::new(Bus::open(folder.path(), Options::default()).unwrap());
    let watched = watched(&runtime, &mut server);
    let addresses = [
        serve(&runtime, &mut server, status::router(watched)),
        serve(&runtime, &mut server, registry::router(own)),
    ];
    let schema = r#"{"schema":"{\"type\":\"record\",\"name\":\"R\",\"fields\":[]}","schemaType":"AVRO"}"#;
    let valid = [
        request("GET /readyz?verbose=%E4%BA%BA&verbose&x[]=1", ""),
        request("GET /livez", ""),
        request("GET /metrics?name=a%00", ""),
        request("GET /status", ""),
        request("GET /subjects/a%2Fb/versions/latest?deleted=true", ""),
        request("POST /subjects/s-value/versions?normalize=true", schema),
        request("PUT /config/s-value", r#"{"compatibility":"FULL"}"#),
    ];
    hostile::feed(
        "a_damaged_request_is_answered_or_ended_and_the_next_one_is_served",
        200,
        &valid,
        |bytes| {
            for address in addresses {
                let answer = sent(address, bytes, false);
                // A request of version 1.0 is answered in it.
                let told = String::from_utf8_lossy(&answer);
                let status = told.strip_prefix("HTTP/1.1 ").or(told.strip_prefix("HTTP/1.0 "));
                assert!(status.is_some_and(|status| !status.starts_with('5')) || told.is_empty(), "{told}");
            }
        },
    );
    for (address, path) in addresses.into_iter().zip(["/livez", "/subjects"]) {
        let answer = sent(address, &request(&format!("GET {path}"), ""), true);
        assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"), "{path} is served all the same");
    }
}

#[test]
fn a_body_beyond_the_limit_is_refused_with_what_to_do() {
    let runtime = Runtime::new().unwrap();
    let mut server = JoinSet::new();
    let folder = TempDir::new().unwrap();
    let own = Registry::new(Bus::open(folder.path(), Options::default()).unwrap());
    let address = serve(&runtime, &mut server, registry::router(own));
    let post = |bytes: usize| {
        let answer = runtime.block_on(async {
            let client = reqwest::Client::new();
            let body = format!("\"{}\"", "x".repeat(bytes - 2));
            client.post(format!("http://{address}/subjects/s/versions")).body(body).send().await.unwrap()
        });
        let status = answer.status().as_u16();
        (status, runtime.block_on(answer.json::<Json>()).unwrap())
    };
    let (status, body) = post(BODY_LIMIT_BYTES + 1);
    assert_eq!((status, body["error_code"].as_u64()), (413, Some(413)));
    assert!(body["message"].as_str().unwrap().contains("smaller schema"), "{body}");
    // What just fits is read, and is no schema.
    assert_eq!(post(BODY_LIMIT_BYTES).0, 422);
}
