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
        self.board.status(now_us())
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

/// Ready when a lane has opened and is not halted: one dead store of a subscriber does not make the bus unready.
async fn ready(State(watched): State<Watched>, Query(query): Query<Verbose>) -> Response {
    let lanes = watched.lanes();
    let ready = lanes.is_empty() || lanes.iter().any(|l| l.opened && l.state != LaneState::Halted);
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut text = String::from(if code == StatusCode::OK { "ok\n" } else { "not ready\n" });
    if query.verbose.is_some() {
        for lane in &lanes {
            text.push_str(&format!("{} {}\n", lane.lane, lane.state.name()));
        }
    }
    (code, text).into_response()
}

#[cfg(test)]
mod tests {
    use hutong_core::{Kind, LaneId, PipelineId};
    use hutong_engine::Supervisor;

    use super::*;
    use crate::http::serve;

    #[tokio::test]
    async fn every_series_of_a_lane_is_there_before_anything_flows() {
        let (board, metrics) = (Board::new(), Metrics::new().unwrap());
        let id = LaneId::new(PipelineId::new(Kind::Replicate, "a"), 3);
        board.add(id.clone(), 5_000_000, now_us());
        metrics.lane_added(&id);
        let mut supervisor = Supervisor::new();
        let watched = Watched { board, metrics };
        let address =
            serve(&mut supervisor, "http", ([127, 0, 0, 1], 0).into(), router(watched)).await.unwrap();
        let get = |path: &'static str| async move {
            let answer = reqwest::get(format!("http://{address}{path}")).await.unwrap();
            (answer.status().as_u16(), answer.text().await.unwrap())
        };
        let (_, text) = get("/metrics").await;
        for series in [
            r#"hutong_changes_committed_total{pipeline="replicate.a"} 0"#,
            r#"hutong_changes_dropped_total{pipeline="replicate.a",rule="outside_grant"} 0"#,
            r#"hutong_changes_quarantined_total{pipeline="replicate.a"} 0"#,
            r#"hutong_lane_state{partition="3",pipeline="replicate.a",state="opening"} 1"#,
            r#"hutong_lag_seconds{partition="3",pipeline="replicate.a"} "#,
        ] {
            assert!(text.contains(series), "{series} in\n{text}");
        }
        assert!(!text.contains("NaN"));
        let readme = include_str!("../../../../README.md");
        for family in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()) {
            assert!(readme.contains(&format!("`{family}{{")), "the README's table lacks {family}");
        }
        assert_eq!(get("/livez").await, (200, "ok\n".into()));
        let (code, text) = get("/readyz?verbose").await;
        assert_eq!(
            (code, text.as_str()),
            (503, "not ready\nreplicate.a.3 opening\n"),
            "it has not opened yet"
        );
        let (_, text) = get("/status").await;
        assert_eq!(serde_json::from_str::<Status>(&text).unwrap().lanes[0].lane, "replicate.a.3");
        supervisor.token().cancel();
        supervisor.wait(std::time::Duration::from_secs(5)).await.unwrap();
    }
}
