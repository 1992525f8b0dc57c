//! Who may read a delivery topic on a cluster that asks who comes: the subscriber's principal, and nobody else.

use std::sync::Arc;

use hutong_core::Result;
use tracing::info;

use crate::kafka::{Bus, May, Right};

/// The one who reads the delivery topics of a department.
#[derive(Clone)]
pub struct Subscriber {
    /// The cluster.
    pub cluster: Arc<Bus>,
    /// Who it is for the cluster, such as `User:renshe`.
    pub principal: String,
    /// The department: its groups are those whose names begin with it and a dot.
    pub department: String,
}

impl Subscriber {
    /// Returns the right to use the department's own groups. No department's name begins another's with its dot.
    pub fn groups(&self) -> May {
        May::ReadGroups(format!("{}.", self.department))
    }

    /// Returns what the principal may do with a delivery topic.
    pub fn reads(topic: &str) -> [May; 2] {
        [May::ReadTopic(topic.to_owned()), May::DescribeTopic(topic.to_owned())]
    }

    /// Lets the principal read a topic, and use its groups.
    pub(super) async fn admit(&self, topic: &str) -> Result<()> {
        let _alone = self.cluster.alone().await;
        let may = Self::reads(topic).into_iter().chain([self.groups()]);
        self.cluster.give(may.map(|may| self.right(may)).collect()).await?;
        info!(principal = self.principal, topic, "may read");
        Ok(())
    }

    /// Takes away the right to read topics; with the last one goes the right to use groups.
    pub(super) async fn dismiss(&self, over: impl Fn(&str) -> bool) -> Result<()> {
        let _alone = self.cluster.alone().await;
        let rights = self.cluster.rights(&self.principal).await?;
        let topic = |may: &May| match may {
            May::ReadTopic(topic) | May::DescribeTopic(topic) => Some(topic.clone()),
            May::ReadGroups(_) | May::Other(_) => None,
        };
        let (mut gone, left): (Vec<Right>, Vec<Right>) =
            rights.into_iter().partition(|right| topic(&right.may).is_some_and(|topic| over(&topic)));
        if gone.is_empty() {
            return Ok(());
        }
        let groups = self.right(self.groups());
        let was_last = left.iter().all(|right| topic(&right.may).is_none()) && left.contains(&groups);
        if was_last {
            gone.push(groups.clone());
        }
        self.cluster.take_away(gone).await?;
        info!(principal = self.principal, "may no longer read what is over");
        // Another process may have let it read another topic meanwhile.
        let rights = self.cluster.rights(&self.principal).await?;
        if was_last && rights.iter().any(|right| topic(&right.may).is_some()) {
            self.cluster.give(vec![groups]).await?;
        }
        Ok(())
    }

    fn right(&self, may: May) -> Right {
        Right { principal: self.principal.clone(), may }
    }
}
