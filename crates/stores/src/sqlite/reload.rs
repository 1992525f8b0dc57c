//! Marks the lanes of a pipeline, so that their next owners begin anew at the base.
//!
//! Knows `hutong_lane`; the rows are removed by whoever opens the lane (see `lane.rs`).

use std::path::Path;

use hutong_core::{PipelineId, Result};
use rusqlite::params;

use super::error::Context;
use super::room::NOBODYS;
use super::{connect, lane};

/// Fences the owners of a pipeline's lanes and gives the lanes a grant that nobody has, in one transaction.
///
/// Returns the lanes; none when the pipeline has never written here. Until a lane is opened its rows stay.
pub fn reload(path: &Path, pipeline: &PipelineId) -> Result<Vec<String>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let connection = connect::existing(path)?;
    let doing = || format!("reload {pipeline}");
    if !lane::written(&connection).doing(doing)? {
        return Ok(Vec::new());
    }
    let sql = "UPDATE hutong_lane SET epoch = epoch + 1, \"grant\" = ?2 \
               WHERE substr(lane, 1, length(?1)) = ?1 RETURNING lane";
    let mut statement = connection.prepare(sql).doing(doing)?;
    let lanes = statement.query_map(params![format!("{pipeline}."), NOBODYS], |row| row.get(0));
    let mut lanes = lanes.and_then(Iterator::collect::<rusqlite::Result<Vec<String>>>).doing(doing)?;
    lanes.sort();
    Ok(lanes)
}
