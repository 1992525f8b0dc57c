//! How far the lanes had come before this process, kept in the folder of an embedded bus.
//!
//! What a replica has reached stands in its store. While that is away, nobody could say after a restart how old the replica
//! is, and it would count as young. Only shown, never decided by.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hutong_core::Result;
use hutong_engine::{Board, Supervisor, supervisor::OnError};
use serde::{Deserialize, Serialize};
use tracing::debug;

use super::watch::{tick, ticks};
use crate::config::Plan;
use crate::config::plan::BusSystem;

/// How often it is written.
const EVERY: Duration = Duration::from_secs(5);

/// The form of the file.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Kept {
    version: u32,
    /// Lane to the time, microseconds since 1970 UTC, up to which it had passed everything.
    lanes: BTreeMap<String, i64>,
}

/// Returns the board of a process: with what the one before it knew.
pub fn board(plan: &Plan) -> Board {
    let kept = file(plan).and_then(|path| std::fs::read(path).ok());
    let kept = kept.and_then(|text| serde_json::from_slice::<Kept>(&text).ok());
    Board::after(kept.filter(|kept| kept.version == VERSION).map(|kept| kept.lanes).unwrap_or_default())
}

/// Writes what the board knows, until the process is asked to stop, and once more then.
pub fn keep(supervisor: &mut Supervisor, plan: &Plan, board: Board) {
    let Some(path) = file(plan) else { return };
    let token = supervisor.token();
    supervisor.spawn("how far the lanes are", OnError::Continue, async move {
        let mut ticks = ticks(EVERY);
        while tick(&mut ticks, &token).await {
            write(&path, &board);
        }
        write(&path, &board);
        Result::Ok(())
    });
}

/// Returns the file; on Kafka there is no folder, and nothing is kept.
fn file(plan: &Plan) -> Option<PathBuf> {
    match &plan.bus.system {
        BusSystem::Embedded(embedded) => Some(embedded.folder.join("lanes.json")),
        BusSystem::Kafka(_) => None,
    }
}

fn write(path: &Path, board: &Board) {
    let kept = Kept { version: VERSION, lanes: board.passed() };
    let next = path.with_extension("json.next");
    let text = serde_json::to_vec(&kept).map_err(std::io::Error::from);
    // Who reads finds the whole of one or of the other.
    let written =
        text.and_then(|text| std::fs::write(&next, text)).and_then(|()| std::fs::rename(&next, path));
    if let Err(error) = written {
        debug!(%error, "how far the lanes are is not kept");
    }
}
