//! What was seen at one look: each pipeline and each lane as a row, and what stands around them.

use std::collections::BTreeMap;

use hutong_core::Error;
use hutong_engine::PartStatus;
use serde::Serialize;

use crate::cmd::pace::{self, Pace, Word};
use crate::config::Plan;
use crate::http::status::Status;
use crate::moment;

/// What was seen at one look.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Look {
    /// When, in the bus's zone.
    pub(super) at: String,
    /// The program's version.
    pub(super) version: String,
    /// Why nothing newer is known.
    pub(super) silent: Option<String>,
    /// One row a pipeline.
    pub(super) pipelines: Vec<Row>,
    /// One row a lane.
    pub(super) lanes: Vec<Row>,
    /// The bus and the stores.
    pub(super) parts: Vec<PartStatus>,
    #[serde(skip)]
    pub(super) zone: jiff::tz::TimeZone,
}

/// A pipeline or a lane.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Row {
    /// The streams that it reads or writes.
    pub(super) stream: String,
    /// The department that gets it; of a capture the one that owns it.
    pub(super) department: String,
    /// How it goes.
    #[serde(flatten)]
    pub(super) pace: Pace,
}

impl Look {
    /// Returns what a process answered.
    pub(super) fn of(plan: &Plan, status: Status, now_us: i64) -> Self {
        let known = known(plan);
        let row = |pipeline: &str, pace: Pace| {
            let (stream, department) = known.get(pipeline).cloned().unwrap_or_default();
            Row { stream, department, pace }
        };
        let lanes = status.lanes.iter().map(|lane| row(&lane.pipeline, Pace::of(lane))).collect();
        let pipelines = pace::pipelines(&status.lanes).into_iter().map(|(name, pace)| row(&name, pace));
        Self {
            at: moment::text(now_us, &plan.bus.zone),
            version: status.version,
            silent: None,
            pipelines: pipelines.collect(),
            lanes,
            parts: status.parts,
            zone: plan.bus.zone.clone(),
        }
    }

    /// Notes that the process did not answer.
    pub(super) fn silent(&mut self, error: &Error, now_us: i64) {
        self.silent = Some(error.to_string());
        self.at = moment::text(now_us, &self.zone);
    }

    /// Returns how many lanes have each word, from worst to well.
    pub(super) fn words(&self) -> Vec<(Word, usize)> {
        let mut words: BTreeMap<Word, usize> = BTreeMap::new();
        self.lanes.iter().for_each(|row| *words.entry(row.pace.word).or_default() += 1);
        words.into_iter().rev().collect()
    }
}

/// Returns stream and department of each pipeline.
fn known(plan: &Plan) -> BTreeMap<String, (String, String)> {
    let name = |department: &String| plan.departments.get(department).unwrap_or(department).clone();
    let captures = plan.captures.iter().map(|capture| {
        let streams: Vec<&str> = capture.tables.iter().map(|(_, stream)| stream.name.as_str()).collect();
        let owner = capture.tables.first().map(|(_, stream)| name(&stream.owner)).unwrap_or_default();
        (capture.pipeline().to_string(), (streams.join(" "), owner))
    });
    let subscriptions = plan
        .subscriptions
        .iter()
        .map(|s| (s.pipeline().to_string(), (s.stream.name.clone(), name(&s.department))));
    captures.chain(subscriptions).collect()
}
