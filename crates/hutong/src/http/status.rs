//! What the process says of itself: metrics, health, and the lanes.

use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use hutong_engine::{Board, LaneStatus, Metrics, State as LaneState, status::now_us};
use serde::{Deserialize, Serialize};

/// What the endpoints read.
#[derive(Debug, Clone)]
pub struct Watched {
    /// The lanes.
    pub board: Board,
    /// The counters.
    pub metrics: Metrics,
    /// How often a source says that it is complete, microseconds.
    pub interval_us: i64,
}

/// What `GET /status` answers.
#[derive(Debug, Serialize, Deserialize)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// The lanes, by name.
    pub lanes: Vec<LaneStatus>,
}

/// Returns the routes `/metrics`, `/livez`, `/readyz` and `/status`.
pub fn router(watched: Watched) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/status", get(status))
        .with_state(watched)
}

impl Watched {
    fn lanes(&self) -> Vec<LaneStatus> {
        self.board.status(now_us(), self.interval_us)
    }
}

async fn metrics(State(watched): State<Watched>) -> Response {
    match watched.metrics.scrape(&watched.lanes()) {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn status(State(watched): State<Watched>) -> Json<Status> {
    Json(Status { version: env!("CARGO_PKG_VERSION").to_owned(), lanes: watched.lanes() })
}

#[derive(Debug, Deserialize)]
struct Verbose {
    verbose: Option<String>,
}

/// Ready when every lane has opened once and at least one is not halted: one dead store of a subscriber
/// does not make the bus unready.
async fn ready(State(watched): State<Watched>, Query(query): Query<Verbose>) -> Response {
    let lanes = watched.lanes();
    let opening = lanes.iter().any(|l| l.state == LaneState::Opening);
    let all_halted = !lanes.is_empty() && lanes.iter().all(|l| l.state == LaneState::Halted);
    let code = if opening || all_halted { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let mut text = String::from(if code == StatusCode::OK { "ok\n" } else { "not ready\n" });
    if query.verbose.is_some() {
        for lane in &lanes {
            text.push_str(&format!("{} {}\n", lane.lane, lane.state.name()));
        }
    }
    (code, text).into_response()
}
