//! How the commits of lanes into topics ended: what a producer was answered.

use hutong_core::{Class, Kind, PipelineId, Result};
use prometheus::{IntCounterVec, Opts, Registry};

/// How a commit into topics ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Every record was acknowledged.
    Ok,
    /// It was not, or nobody knows: the lane opens again and writes what is missing.
    Retried,
    /// It will never be: the lane halts.
    Refused,
}

impl Outcome {
    /// All of them: every series is there from the start.
    const ALL: [Self; 3] = [Self::Ok, Self::Retried, Self::Refused];

    /// Returns what became of a commit.
    pub(crate) fn of<T>(commit: &Result<T>) -> Self {
        match commit {
            Ok(_) => Self::Ok,
            Err(error) => match error.class() {
                Class::Retry => Self::Retried,
                Class::Quarantine | Class::Halt => Self::Refused,
            },
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Retried => "retried",
            Self::Refused => "refused",
        }
    }
}

/// The counters of all pipelines that write topics.
#[derive(Debug)]
pub(crate) struct Produced(IntCounterVec);

impl Produced {
    pub(crate) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let help = "Transactions of a capture or a delivery into its topics, by how they ended: `ok`, `retried` (an \
                    outage, or nobody knows: the lane opens again and writes what is missing), `refused` (the lane \
                    halts). How long the answer took, `hutong_commit_seconds` tells.";
        let family = IntCounterVec::new(Opts::new("topic_commits_total", help), &["pipeline", "outcome"])?;
        registry.register(Box::new(family.clone()))?;
        Ok(Self(family))
    }

    /// Makes every series of a pipeline visible, at zero, if it writes topics.
    pub(crate) fn added(&self, pipeline: &PipelineId) {
        if into_topics(pipeline.kind) {
            for outcome in Outcome::ALL {
                self.0.with_label_values(&[pipeline.to_string().as_str(), outcome.name()]);
            }
        }
    }

    /// Counts a commit, if it was one into topics.
    pub(crate) fn ended(&self, pipeline: &PipelineId, outcome: Outcome) {
        if into_topics(pipeline.kind) {
            self.0.with_label_values(&[pipeline.to_string().as_str(), outcome.name()]).inc();
        }
    }
}

fn into_topics(kind: Kind) -> bool {
    match kind {
        Kind::Capture | Kind::Deliver => true,
        Kind::Replicate | Kind::Receipt => false,
    }
}

#[cfg(test)]
mod tests {
    use hutong_core::{Error, ErrorKind};

    use super::*;

    #[test]
    fn counts_commits_into_topics_by_their_ends_and_no_others() {
        let registry = Registry::new();
        let produced = Produced::new(&registry).unwrap();
        let kinds = [Kind::Capture, Kind::Deliver, Kind::Replicate];
        let pipelines = kinds.map(|kind| PipelineId::new(kind, "a"));
        pipelines.iter().for_each(|pipeline| produced.added(pipeline));
        let failed = |kind| Err::<(), _>(Error::new(kind, "commit", "why"));
        let commits = [
            Ok(()),
            Ok(()),
            failed(ErrorKind::Unavailable),
            failed(ErrorKind::Unknown),
            failed(ErrorKind::Broken),
            failed(ErrorKind::Denied),
            failed(ErrorKind::Fenced),
        ];
        for commit in &commits {
            pipelines.iter().for_each(|pipeline| produced.ended(pipeline, Outcome::of(commit)));
        }
        let counted =
            |pipeline: &str, outcome: &str| produced.0.with_label_values(&[pipeline, outcome]).get();
        for pipeline in ["capture.a", "deliver.a"] {
            let told = ["ok", "retried", "refused"].map(|outcome| counted(pipeline, outcome));
            assert_eq!(told, [2, 2, 3], "{pipeline}");
        }
        let series: usize = registry.gather().iter().map(|family| family.get_metric().len()).sum();
        assert_eq!(series, 6, "a store is no topic");
    }
}
