//! Marks the lanes of a pipeline, so that their next owners begin anew at the base.
//!
//! Knows `hutong_lane`; the rows are removed by whoever opens the lane (see `lane.rs`).

use hutong_core::{PipelineId, Result, Secret};

use super::quarantine;
use super::room::NOBODYS;
use crate::postgres::{connect, error};

/// Fences the owners of a pipeline's lanes and gives the lanes a grant that nobody has, in one transaction.
///
/// Returns the lanes; none when the pipeline has never written here. Until a lane is opened its rows stay.
pub async fn reload(url: &Secret, pipeline: &PipelineId) -> Result<Vec<String>> {
    let session = connect::open(url, "reload").await?;
    if !quarantine::there(&session).await? {
        return Ok(Vec::new());
    }
    let rows = session
        .query(
            r#"UPDATE hutong.hutong_lane SET epoch = epoch + 1, "grant" = $2
                WHERE starts_with(lane, $1 || '.') RETURNING lane"#,
            &[&pipeline.to_string(), &NOBODYS],
        )
        .await
        .map_err(|e| error::of(e, || format!("reload {pipeline}")))?;
    let mut lanes: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    lanes.sort();
    Ok(lanes)
}
