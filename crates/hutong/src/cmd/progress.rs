//! How far long snapshots have come: rows, rate and time left.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use hutong_core::Result;
use hutong_engine::{Board, LaneStatus, status::now_us};
use tokio_util::sync::CancellationToken;

use super::table;

/// Returns one line for each snapshot of the lane that goes on.
pub(super) fn lines(lane: &LaneStatus) -> Vec<String> {
    let running = lane.snapshots.iter().filter(|progress| !progress.done);
    running
        .map(|progress| {
            let mut line = format!("snapshot of {}: {}", progress.table, table::thousands(progress.rows));
            if let Some(estimate) = progress.estimate {
                line.push_str(&format!(" of about {}", table::thousands(estimate)));
            }
            line.push_str(" rows");
            if lane.rate >= 1.0 {
                line.push_str(&format!(", {} rows/s", table::thousands(lane.rate as u64)));
                if let Some(left) = progress.estimate.map(|all| all.saturating_sub(progress.rows)) {
                    line.push_str(&format!(", {} left", table::seconds(left as f64 / lane.rate)));
                }
            }
            line
        })
        .collect()
}

/// Tells the progress of snapshots until it is asked to stop: in place on a terminal, lines in a pipe.
pub(super) async fn tell(board: Board, token: CancellationToken) -> Result<()> {
    let terminal = std::io::stdout().is_terminal();
    let mut tick = tokio::time::interval(Duration::from_secs(if terminal { 1 } else { 10 }));
    // The first tick comes at once, when there is nothing to tell yet.
    tick.tick().await;
    let mut shown = false;
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = token.cancelled() => return Ok(()),
        }
        let lines: Vec<String> = board.status(now_us()).iter().flat_map(lines).collect();
        let mut out = std::io::stdout().lock();
        // A closed pipe is no reason to stop a pipeline.
        let told = match (terminal, lines.is_empty()) {
            (true, false) => write!(out, "\r\x1b[K{}", lines.join(" · ")),
            (true, true) if shown => writeln!(out, "\r\x1b[Ksnapshots are complete"),
            (false, false) => writeln!(out, "{}", lines.join("\n")),
            _ => Ok(()),
        };
        shown = !lines.is_empty();
        drop(told.and_then(|()| out.flush()));
    }
}
