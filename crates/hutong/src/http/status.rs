//! What the process says of itself: metrics, health, and the lanes.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use hutong_engine::{Board, LaneStatus, Metrics, PartStatus, status::now_us};
use serde::{Deserialize, Serialize};

use super::health::{self, Pulse};
use super::{group_lag, logging};
use crate::config::Plan;
use crate::share::{Roster, Share};

/// What the endpoints read.
#[derive(Debug, Clone)]
pub struct Watched {
    /// The lanes.
    pub board: Board,
    /// The counters, and what stands around the lanes.
    pub metrics: Metrics,
    /// When the runtime last ticked.
    pub pulse: Pulse,
    /// Whether `/metrics` also has Kafka Lag Exporter's names, and for which groups.
    pub group_lag: Option<GroupLag>,
    /// Which lanes other processes run.
    pub roster: Roster,
}

/// How Kafka Lag Exporter's names are told.
#[derive(Debug, Clone)]
pub struct GroupLag {
    /// What `cluster_name` says.
    pub cluster: String,
    /// The bus's name, which prefixes the groups.
    pub bus: String,
}

impl GroupLag {
    /// Returns what the configuration asks for.
    pub fn of(plan: &Plan) -> Option<Self> {
        let cluster = plan.http.kafka_lag_exporter.clone()?;
        Some(Self { cluster, bus: plan.bus.name.clone() })
    }
}

/// What `GET /status` answers.
#[derive(Debug, Serialize, Deserialize)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// The lanes, by name.
    pub lanes: Vec<LaneStatus>,
    /// The bus and the stores.
    #[serde(default)]
    pub parts: Vec<PartStatus>,
    /// What of it this process runs, where several share it.
    #[serde(default)]
    pub share: Option<Share>,
}

/// Returns the routes `/metrics`, `/livez`, `/readyz`, `/status` and `/log`.
pub fn router(watched: Watched) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/status", get(status))
        .route("/log", get(logging::show).put(logging::set))
        .with_state(watched)
}

impl Watched {
    /// Returns the lanes as they stand now.
    pub(super) fn lanes(&self) -> Vec<LaneStatus> {
        self.board.status(now_us())
    }
}

async fn metrics(State(watched): State<Watched>) -> Response {
    let lanes = watched.lanes();
    match watched.metrics.scrape(&lanes) {
        Ok(mut text) => {
            if let Some(GroupLag { cluster, bus }) = &watched.group_lag {
                text.push_str(&group_lag::text(&lanes, cluster, bus));
            }
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn status(State(watched): State<Watched>) -> Json<Status> {
    let (lanes, parts) = (watched.lanes(), watched.metrics.parts().status());
    let share = watched.roster.share();
    Json(Status { version: env!("CARGO_PKG_VERSION").to_owned(), lanes, parts, share })
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
        let watched =
            Watched { board, metrics, pulse: Pulse::default(), group_lag: None, roster: Roster::alone() };
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
            r#"hutong_lane_state{pipeline="replicate.a",state="opening"} 1"#,
            r#"hutong_lane_verdict{pipeline="replicate.a",verdict="stalled"} 0"#,
            r#"hutong_retries_total{kind="unavailable",pipeline="replicate.a"} 0"#,
            r#"hutong_last_applied_timestamp_seconds{pipeline="replicate.a"} 0"#,
            r#"hutong_lag_seconds{partition="3",pipeline="replicate.a"} "#,
        ] {
            assert!(text.contains(series), "{series} in\n{text}");
        }
        assert!(!text.contains("NaN"));
        assert_eq!(get("/livez").await, (200, "ok\n".into()));
        let (code, text) = get("/readyz?verbose").await;
        assert_eq!(
            (code, text.as_str()),
            (503, "[-]replicate.a.3 opening, ok\nnot ready\n"),
            "it has not opened yet"
        );
        let (_, text) = get("/status").await;
        assert_eq!(serde_json::from_str::<Status>(&text).unwrap().lanes[0].lane, "replicate.a.3");
        supervisor.token().cancel();
        supervisor.wait(std::time::Duration::from_secs(5)).await.unwrap();
    }
}
