//! The live table: repainted in place on a terminal, plain lines in a pipe.

use std::io::{IsTerminal, Write};

use hutong_engine::LaneStatus;

use crate::cmd::table;

/// Where the table is painted.
pub(super) struct Screen {
    terminal: bool,
    painted: usize,
}

/// One line of the table: the lanes of a pipeline together.
struct Summary {
    pipeline: String,
    state: &'static str,
    lag: f64,
    committed: u64,
    rate: f64,
    dropped: u64,
    quarantined: u64,
    error: Option<String>,
}

impl Screen {
    pub(super) fn new() -> Self {
        Self { terminal: std::io::stdout().is_terminal(), painted: 0 }
    }

    /// States whether it repaints in place, so that it may do so often.
    pub(super) fn live(&self) -> bool {
        self.terminal
    }

    /// Paints the lanes and one line about the register.
    pub(super) fn paint(&mut self, headline: &str, lanes: &[LaneStatus]) {
        let mut out = std::io::stdout().lock();
        let mut lines = vec![headline.to_owned()];
        if self.terminal {
            lines.extend(table::lines(&rows(lanes)));
        } else {
            lines[0] = format!("{headline} | {}", brief(lanes));
        }
        let mut text = String::new();
        if self.painted > 0 {
            text.push_str(&format!("\x1b[{}F\x1b[J", self.painted));
        }
        for line in &lines {
            text.push_str(line);
            text.push('\n');
        }
        if self.terminal {
            self.painted = lines.len();
        }
        // A reader that went away (a closed pipe) is no reason to stop the proof.
        drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
    }
}

fn summaries(lanes: &[LaneStatus]) -> Vec<Summary> {
    let mut list: Vec<Summary> = Vec::new();
    for lane in lanes {
        if list.last().is_none_or(|s| s.pipeline != lane.pipeline) {
            list.push(Summary {
                pipeline: lane.pipeline.clone(),
                state: lane.state.name(),
                lag: 0.0,
                committed: 0,
                rate: 0.0,
                dropped: 0,
                quarantined: 0,
                error: None,
            });
        }
        let Some(summary) = list.last_mut() else { continue };
        summary.lag = summary.lag.max(lane.lag_seconds);
        summary.committed += lane.committed;
        summary.rate += lane.rate;
        summary.dropped += lane.dropped.values().sum::<u64>();
        summary.quarantined += lane.quarantined;
        if lane.error.is_some() {
            summary.state = lane.state.name();
            summary.error.clone_from(&lane.error);
        }
    }
    list
}

fn rows(lanes: &[LaneStatus]) -> Vec<Vec<String>> {
    let head = ["pipeline", "state", "lag", "applied", "per second", "kept back", "quarantined", ""];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for s in summaries(lanes) {
        rows.push(vec![
            s.pipeline,
            s.state.to_owned(),
            table::seconds(s.lag),
            table::thousands(s.committed),
            format!("{:.0}", s.rate),
            table::thousands(s.dropped),
            s.quarantined.to_string(),
            s.error.unwrap_or_default(),
        ]);
    }
    rows
}

fn brief(lanes: &[LaneStatus]) -> String {
    let parts = summaries(lanes).into_iter().map(|s| {
        let (applied, lag) = (table::thousands(s.committed), table::seconds(s.lag));
        let error = s.error.map(|error| format!(" ({error})")).unwrap_or_default();
        format!("{} {}, {applied} applied, lag {lag}{error}", s.pipeline, s.state)
    });
    parts.collect::<Vec<_>>().join(" | ")
}
