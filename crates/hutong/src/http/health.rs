//! Liveness and readiness, for whoever restarts processes and whoever sends them work.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use hutong_core::Result;
use hutong_engine::status::now_us;
use hutong_engine::{LaneStatus, PartStatus, State as LaneState};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::status::Watched;

/// How often the runtime shows that it ticks, and how long it may not before the process counts as dead.
const TICK: Duration = Duration::from_secs(1);
const DEAD_US: i64 = 15_000_000;

/// When the runtime last ticked. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Pulse(Arc<AtomicI64>);

impl Default for Pulse {
    fn default() -> Self {
        Self(Arc::new(AtomicI64::new(now_us())))
    }
}

impl Pulse {
    /// Ticks until it is asked to stop.
    pub async fn beat(self, token: CancellationToken) -> Result<()> {
        let mut ticks = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                _ = ticks.tick() => self.0.store(now_us(), Ordering::Relaxed),
                () = token.cancelled() => return Ok(()),
            }
        }
    }

    fn silent_us(&self) -> i64 {
        now_us().saturating_sub(self.0.load(Ordering::Relaxed))
    }
}

/// `/livez`: whether the runtime ticks. Where it does not, a restart helps; nothing else is asked.
pub(super) async fn live(State(watched): State<Watched>) -> Response {
    let silent_us = watched.pulse.silent_us();
    if silent_us < DEAD_US {
        return "ok\n".into_response();
    }
    let why = format!("the runtime has not ticked for {} s\n", silent_us / 1_000_000);
    (StatusCode::SERVICE_UNAVAILABLE, why).into_response()
}

/// What may be asked of `/readyz`.
#[derive(Debug, Deserialize)]
pub(super) struct Verbose {
    verbose: Option<String>,
}

/// `/readyz`: whether it can move anything; `?verbose` tells the state of each part.
pub(super) async fn ready(State(watched): State<Watched>, Query(query): Query<Verbose>) -> Response {
    let (lanes, parts) = (watched.lanes(), watched.metrics.parts().status());
    let joined = watched.roster.is_joined();
    let ready = is_ready(&lanes, &parts, joined);
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut text = String::new();
    if query.verbose.is_some() {
        parts.iter().for_each(|part| text.push_str(&of_part(part)));
        if watched.roster.is_shared() {
            let word = if joined { "is known" } else { "is not known yet" };
            text.push_str(&format!("[{}]share of the lanes {word}\n", mark(joined)));
        }
        lanes.iter().for_each(|lane| text.push_str(&of_lane(lane)));
    }
    text.push_str(if ready { "ok\n" } else { "not ready\n" });
    (code, text).into_response()
}

/// Ready when the bus answers and a lane has opened and is not halted: one dead store of a subscriber does not make the
/// bus unready, and a process that could do nothing for anybody is not ready. One that has no lane because others run
/// them all stands by, and is.
fn is_ready(lanes: &[LaneStatus], parts: &[PartStatus], joined: bool) -> bool {
    let bus = parts.iter().find(|part| part.name == "bus").is_none_or(|bus| bus.answers != Some(false));
    let stands_by = lanes.is_empty() && joined;
    bus && (stands_by || lanes.iter().any(|lane| lane.opened && lane.state != LaneState::Halted))
}

/// `[+]` or `[-]`, the name, and what it does: the form that Kubernetes' own components have.
fn of_part(part: &PartStatus) -> String {
    let word = match part.answers {
        Some(true) => "answers",
        Some(false) => "does not answer",
        None => "not asked yet",
    };
    // Why, only status tells: an error may name addresses, and who asks for health may be anybody.
    format!("[{}]{} {word}\n", mark(part.answers == Some(true)), part.name)
}

fn of_lane(lane: &LaneStatus) -> String {
    // Who is paused or held does what was asked of it.
    let well = matches!(lane.state, LaneState::Running | LaneState::Paused | LaneState::Held);
    format!("[{}]{} {}, {}\n", mark(well), lane.lane, lane.state.name(), lane.verdict.name())
}

fn mark(well: bool) -> char {
    if well { '+' } else { '-' }
}

#[cfg(test)]
mod tests {
    use hutong_core::{Error, ErrorKind, Kind, LaneId, PipelineId};
    use hutong_engine::{Board, Metrics};

    use crate::share::Roster;

    use super::*;

    async fn answer(response: Response) -> (u16, String) {
        let code = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (code, String::from_utf8(body.to_vec()).unwrap())
    }

    fn watched() -> Watched {
        Watched {
            board: Board::new(),
            metrics: Metrics::new().unwrap(),
            pulse: Pulse::default(),
            group_lag: None,
            roster: Roster::alone(),
        }
    }

    #[tokio::test]
    async fn a_runtime_that_does_not_tick_is_not_alive() {
        let watched = watched();
        assert_eq!(answer(live(State(watched.clone())).await).await, (200, "ok\n".into()));
        watched.pulse.0.store(now_us() - 20_000_000, Ordering::Relaxed);
        let (code, why) = answer(live(State(watched)).await).await;
        assert_eq!((code, why.as_str()), (503, "the runtime has not ticked for 20 s\n"));
    }

    #[tokio::test]
    async fn a_dead_store_leaves_it_ready_and_a_dead_bus_does_not() {
        let watched = watched();
        let ask = async || {
            let query = Query(Verbose { verbose: Some(String::new()) });
            answer(ready(State(watched.clone()), query).await).await
        };
        let parts = watched.metrics.parts();
        let away = Error::new(ErrorKind::Unavailable, "connect to 10.0.0.7", "refused");
        parts.bus(None, 0);
        parts.store("renshe", Some(&away), 0);
        assert_eq!(ask().await, (200, "[+]bus answers\n[-]store renshe does not answer\nok\n".into()));
        let halted = watched.board.add(LaneId::new(PipelineId::new(Kind::Replicate, "a"), 0), 0, 0);
        halted.halted(&away, 0);
        let (code, text) = ask().await;
        assert_eq!(code, 503, "a process whose every lane has halted does nothing: {text}");
        assert!(text.contains("[-]replicate.a.0 halted, stopped\n") && !text.contains("10.0.0.7"), "{text}");
        parts.bus(Some(&away), 0);
        assert!(ask().await.1.starts_with("[-]bus does not answer\n"));
    }
}
