//! How many rows of a topic a grant lets through, counted by reading it: what a person sees before signing.

use std::collections::HashMap;
use std::sync::Arc;

use hutong_bus::log::checkpoint_topic;
use hutong_bus::{Limits, TopicSource, TopicSourceConfig};
use hutong_core::grant::Permit;
use hutong_core::{Checkpoint, Contract, Kind, Op, PipelineId, Position, Result, Row, Source, Step, Verdict};

use super::{Bus, permit};
use crate::config::Plan;
use crate::config::plan::SubscriptionPlan;

/// What was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// The rows that the topic holds.
    pub all: u64,
    /// Those that the grant lets through.
    pub permitted: u64,
}

/// Counts rows, from the base to the present ends; reads everything and holds every key in memory.
pub async fn count(plan: &Plan, granted: &SubscriptionPlan) -> Result<Counted> {
    let bus = Bus::look(&plan.bus)?;
    let stream = &granted.stream;
    let mut counted = Counted::default();
    let Some(extent) = bus.log().extent(&stream.topic()).await? else { return Ok(counted) };
    for (partition, (first, end)) in extent {
        if first == end {
            continue;
        }
        let capture = stream.capture.as_ref();
        let config = TopicSourceConfig {
            topic: stream.topic(),
            partition,
            contract: Arc::clone(&stream.contract),
            checkpoint_topic: capture
                .map(|name| checkpoint_topic(&plan.bus.name, &PipelineId::new(Kind::Capture, name))),
            pipeline: None,
            foreign_before_full: false,
            limits: Limits::default(),
        };
        let source = TopicSource::new(Arc::clone(bus.log()), Arc::clone(bus.registry()), config);
        let one = partition_rows(source, permit(granted)?, &stream.contract, end).await?;
        counted.all += one.all;
        counted.permitted += one.permitted;
    }
    Ok(counted)
}

async fn partition_rows(
    mut source: TopicSource,
    mut permit: Permit,
    contract: &Arc<Contract>,
    end: u64,
) -> Result<Counted> {
    let mut checkpoint = Checkpoint::default();
    source.open(&checkpoint).await?;
    // The key's text to whether the row passes.
    let mut rows: HashMap<String, bool> = HashMap::new();
    while checkpoint.positions.values().all(|position| *position < Position::offset(end)) {
        let Some(batch) = source.next().await? else { break };
        for change in batch.changes {
            let key = |row: &Row| {
                let parts: Vec<_> = contract.key.iter().filter_map(|at| row.get(*at)).collect();
                format!("{parts:?}")
            };
            let own = change.after.as_ref().or(change.before.row()).map(key);
            match (change.op, own) {
                (Op::Truncate, _) | (_, None) => rows.clear(),
                (Op::Delete, Some(key)) => drop(rows.remove(&key)),
                (_, Some(key)) => {
                    // Alone, so that a change which only says less than the one before it is not passed over.
                    let whole =
                        hutong_core::Change { before: hutong_core::Before::None, op: Op::Read, ..change };
                    let passes = matches!(permit.apply(whole), Verdict::Pass(out) if out.op != Op::Delete);
                    rows.insert(key, passes);
                }
            }
        }
        checkpoint.advance(&batch.delta)?;
    }
    source.close().await?;
    Ok(Counted { all: rows.len() as u64, permitted: rows.values().filter(|passes| **passes).count() as u64 })
}
