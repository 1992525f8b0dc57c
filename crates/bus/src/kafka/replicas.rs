//! How many replicas a topic has: as many as the cluster allows, also while some of its brokers are away.
//!
//! A cluster tells of the brokers that are there only. But wherever a topic has replicas, they name the others too, so
//! that a topic which is made while a broker is down is not made with one replica for good.

use std::collections::BTreeSet;

use hutong_core::{Error, ErrorKind};
use rdkafka::admin::{AdminOptions, ResourceSpecifier};
use rdkafka::metadata::Metadata;

use super::client::{Client, TIMEOUT};

/// How many replicas a topic has where there are brokers enough (DESIGN section 9).
const REPLICAS: usize = 3;

/// The brokers of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Brokers {
    /// How many are there now.
    pub(super) there: usize,
    /// How many there are, with those that are away and hold a replica of something.
    pub(super) known: usize,
    /// One of those that are there.
    any: Option<i32>,
    /// How many replicas a topic is to have, where somebody has said so.
    wish: Option<usize>,
}

impl Brokers {
    /// Counts what a cluster tells.
    pub(super) fn of(metadata: &Metadata, wish: Option<usize>) -> Self {
        let there = metadata.brokers().iter().map(|broker| broker.id());
        let topics = metadata.topics().iter().flat_map(|topic| topic.partitions());
        Self::counted(there, topics.flat_map(|partition| partition.replicas().iter().copied()), wish)
    }

    fn counted(
        there: impl Iterator<Item = i32>,
        replicas: impl Iterator<Item = i32>,
        wish: Option<usize>,
    ) -> Self {
        let there: BTreeSet<i32> = there.collect();
        let any = there.first().copied();
        let known: BTreeSet<i32> = there.iter().copied().chain(replicas).filter(|id| *id >= 0).collect();
        Self { there: there.len(), known: known.len(), any, wish }
    }

    /// Returns how many replicas a topic has here.
    pub(super) fn replication(&self) -> usize {
        self.wish.unwrap_or(if self.known >= REPLICAS { REPLICAS } else { 1 })
    }

    /// Returns how many replicas a topic gets that is made now: also as many as the cluster gives one of which nobody says
    /// how many, unless somebody has.
    pub(super) async fn given(&self, client: &Client) -> usize {
        match self.wish {
            Some(wish) => wish,
            None => self.replication().max(by_default(client, self).await),
        }
    }

    /// Returns why a topic has so many replicas here.
    pub(super) fn why(&self) -> String {
        match self.wish {
            Some(_) => "as [bus.kafka] says".into(),
            None => format!("as a cluster of {} brokers allows", self.known),
        }
    }

    /// Says that a topic cannot be made yet.
    pub(super) fn too_few(&self, doing: String, replication: usize) -> Error {
        let why = format!(
            "it is to have {replication} replicas, and of {} brokers {} are there",
            self.known.max(replication),
            self.there
        );
        Error::new(ErrorKind::Unavailable, doing, why)
            .hint(match self.wish {
                Some(_) => "`replication` of [bus.kafka] asks for so many: it is made when enough brokers are there; start them, or \
                            ask for fewer, which could be lost with fewer disks",
                None => "it is made when enough brokers are there: start them; with fewer replicas it could be lost with one disk",
            })
    }
}

/// Returns how many replicas the cluster gives a topic of which nobody says how many; 1 where it does not tell.
async fn by_default(client: &Client, brokers: &Brokers) -> usize {
    let Some(any) = brokers.any else { return 1 };
    let options = AdminOptions::new().request_timeout(Some(TIMEOUT));
    let described = client.admin().describe_configs(&[ResourceSpecifier::Broker(any)], &options).await;
    let told = described
        .ok()
        .into_iter()
        .flatten()
        .flatten()
        .find_map(|broker| broker.get("default.replication.factor")?.value.as_deref()?.parse().ok());
    // Who may not ask goes by the brokers alone.
    told.unwrap_or(1)
}

/// Returns of each topic that `ours` names how many replicas it has, where that is fewer than it could have.
pub(super) fn thin(
    metadata: &Metadata,
    wish: Option<usize>,
    ours: impl Fn(&str) -> bool,
) -> Vec<(String, usize)> {
    let replication = Brokers::of(metadata, wish).replication();
    let topics = metadata.topics().iter().filter(|topic| ours(topic.name()));
    let fewest = topics.filter_map(|topic| {
        let replicas = topic.partitions().iter().map(|partition| partition.replicas().len()).min()?;
        Some((topic.name().to_owned(), replicas))
    });
    fewest.filter(|(_, replicas)| *replicas < replication).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_that_are_away_count_by_the_replicas_that_they_hold() {
        for (there, replicas, known, replication) in [
            (&[1][..], &[][..], 1, 1),
            (&[1, 2], &[1, 2], 2, 1),
            (&[1, 2, 3], &[], 3, 3),
            // Of three two are away.
            (&[2], &[1, 2, 3], 3, 3),
            (&[2, 4], &[1, 2, 3, 3], 4, 3),
            // A replica on no broker.
            (&[1, 2], &[-1, 2], 2, 1),
        ] {
            let brokers = Brokers::counted(there.iter().copied(), replicas.iter().copied(), None);
            assert_eq!((brokers.there, brokers.known), (there.len(), known), "{there:?} {replicas:?}");
            assert_eq!(brokers.replication(), replication, "{there:?} {replicas:?}");
            let wish = Brokers { wish: Some(2), ..brokers };
            assert_eq!(wish.replication(), 2, "what somebody asks for is not less, and not more");
        }
    }

    #[test]
    fn who_waits_for_brokers_is_told_how_many() {
        for (others, wish) in [(&[8, 9][..], None), (&[], Some(3))] {
            let brokers = Brokers::counted([7].into_iter(), others.iter().copied(), wish);
            let error = brokers.too_few("create topic t".into(), 3);
            assert_eq!(error.kind, ErrorKind::Unavailable, "it waits, and does not halt");
            assert!(error.to_string().contains("3 replicas, and of 3 brokers 1 are there"), "{error}");
            let hint = error.hint.unwrap();
            assert_eq!(hint.contains("`replication` of [bus.kafka]"), wish.is_some(), "{hint}");
        }
    }
}
