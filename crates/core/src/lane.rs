//! Names of pipelines and lanes.

use std::fmt;

/// What a pipeline does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A department's store into topics.
    Capture,
    /// A topic into a subscriber's store.
    Replicate,
    /// A topic into a subscriber's delivery topic.
    Deliver,
    /// The receipts of a department's streams, out of the subscribers' stores, into its receipt topic.
    Receipt,
}

impl Kind {
    /// Returns the first part of a pipeline's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Capture => "capture",
            Self::Replicate => "replicate",
            Self::Deliver => "deliver",
            Self::Receipt => "receipt",
        }
    }
}

/// A pipeline: `<kind>.<name>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PipelineId {
    /// What it does.
    pub kind: Kind,
    /// The capture's or the subscription's name.
    pub name: String,
}

impl PipelineId {
    /// Names a pipeline.
    pub fn new(kind: Kind, name: impl Into<String>) -> Self {
        Self { kind, name: name.into() }
    }

    /// Returns the partition of a lane of this pipeline by the lane's name; `None` for a lane of another.
    pub fn partition(&self, lane: &str) -> Option<u32> {
        lane.strip_prefix(&self.to_string())?.strip_prefix('.')?.parse().ok()
    }
}

impl fmt::Display for PipelineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.kind.name(), self.name)
    }
}

/// One partition of one pipeline: `<pipeline>.<partition>`, the unit of work, of fencing and of checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneId {
    /// The pipeline.
    pub pipeline: PipelineId,
    /// The partition; 0 for a capture.
    pub partition: u32,
}

impl LaneId {
    /// Names a lane.
    pub fn new(pipeline: PipelineId, partition: u32) -> Self {
        Self { pipeline, partition }
    }
}

impl fmt::Display for LaneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.pipeline, self.partition)
    }
}
