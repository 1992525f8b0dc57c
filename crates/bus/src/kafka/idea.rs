//! What the members of a group take its lanes to be: each tells two digests of it, and sees those of the others.
//!
//! Told as the client's id, which a group's coordinator shows with each member: so nothing is written anywhere, who is
//! gone is not told any more, and Kafka's own tools show it too. Knows nothing of what is digested.

use std::collections::BTreeSet;

use hutong_core::hexadecimal;
use rdkafka::groups::GroupList;
use sha2::{Digest, Sha256};

use crate::holding::Others;

/// What a client's id begins with that tells an idea.
const BEGIN: &str = "hutong-";

/// How many hexadecimal digits of each digest are told.
const DIGITS: usize = 8;

/// What a process takes the lanes of a group to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idea {
    flows: String,
    stores: String,
}

impl Idea {
    /// Makes the idea of what flows, and of which stores it goes to; neither text is told.
    pub fn of(flows: &str, stores: &str) -> Self {
        let short = |text: &str| {
            let digest = hexadecimal::text(&Sha256::digest(text));
            digest.get(..DIGITS).unwrap_or(&digest).to_owned()
        };
        Self { flows: short(flows), stores: short(stores) }
    }

    /// Returns the client's id that tells it.
    pub(super) fn told(&self) -> String {
        format!("{BEGIN}{}-{}", self.flows, self.stores)
    }

    /// Reads what another member tells; `None` of one that tells nothing, such as an older program.
    fn read(id: &str) -> Option<Self> {
        let (flows, stores) = id.strip_prefix(BEGIN)?.split_once('-')?;
        let digest = |text: &str| text.len() == DIGITS && text.bytes().all(|b| b.is_ascii_hexdigit());
        let all = digest(flows) && digest(stores);
        all.then(|| Self { flows: flows.to_owned(), stores: stores.to_owned() })
    }

    /// Finds the members of a group that have another idea; `None` when there are none.
    pub(super) fn differs(&self, groups: &GroupList) -> Option<Others> {
        let members = groups.groups().iter().flat_map(|group| group.members());
        self.among(members.map(|member| (member.client_id(), member.client_host())))
    }

    fn among<'a>(&self, members: impl Iterator<Item = (&'a str, &'a str)>) -> Option<Others> {
        let mut others = Others::default();
        let mut hosts = BTreeSet::new();
        for (id, host) in members {
            let Some(idea) = Self::read(id).filter(|idea| idea != self) else { continue };
            others.flows |= idea.flows != self.flows;
            others.stores |= idea.stores != self.stores;
            others.count += 1;
            hosts.insert(host.trim_start_matches('/').to_owned());
        }
        others.hosts = hosts.into_iter().collect();
        (others.count > 0).then_some(others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_another_idea_is_found_and_what_differs() {
        let own = Idea::of("columns a b", "db-1");
        let (same, wider, moved) = (
            Idea::of("columns a b", "db-1"),
            Idea::of("columns a b c", "db-1"),
            Idea::of("columns a b", "db-2"),
        );
        let ids = |ideas: &[&Idea]| ideas.iter().map(|idea| idea.told()).collect::<Vec<_>>();
        let among = |ids: &[String]| {
            let found = own.among(ids.iter().map(|id| (id.as_str(), "/10.0.0.7")));
            found.map(|others| (others.count, others.flows, others.stores))
        };
        assert_eq!(among(&ids(&[&own, &same])), None);
        assert_eq!(among(&ids(&[&own, &wider])), Some((1, true, false)));
        assert_eq!(among(&ids(&[&own, &moved])), Some((1, false, true)));
        assert_eq!(among(&ids(&[&own, &moved, &wider, &wider])), Some((3, true, true)));
        let others = own.among([(&*wider.told(), "/10.0.0.7"), (&*moved.told(), "/10.0.0.7")].into_iter());
        assert_eq!(others.unwrap().hosts, ["10.0.0.7"]);
        // An older program, and what somebody else calls a client.
        assert_eq!(among(&["hutong", "hutong-", "hutong-a-b", "rdkafka", ""].map(str::to_owned)), None);
        assert!(!own.told().contains("db-1") && !own.told().contains("columns"));
    }
}
