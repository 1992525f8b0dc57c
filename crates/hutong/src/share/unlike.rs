//! What this process takes the lanes of its subscriptions to be, as text of which others see a digest only.
//!
//! Processes that carry subscriptions of the same names share their lanes. Where they differ in what such a name means, a
//! lane does what the process takes it for that was given it, and nobody decided which that is.

use std::fmt::Write as _;

use hutong_bus::holding::Others;
use hutong_bus::kafka::Idea;
use serde::{Deserialize, Serialize};

use crate::config::Plan;
use crate::config::plan::{StorePlan, StoreSystem, SubscriptionPlan, Target};
use crate::lang::Lang;
use crate::wire;

/// What status tells of processes that take the lanes of this one's group for something else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unlike {
    /// The group.
    pub group: String,
    /// How many processes they are.
    pub count: usize,
    /// Their addresses, as the brokers see them.
    pub hosts: Vec<String>,
    /// Whether what flows differs, or the tables that it goes to.
    pub flows: bool,
    /// Whether the addresses of stores differ.
    pub stores: bool,
}

impl Unlike {
    /// Says what is known of them.
    pub fn of(group: &str, others: Others) -> Self {
        let Others { hosts, count, flows, stores } = others;
        Self { group: group.to_owned(), count, hosts, flows, stores }
    }

    /// Says it in words.
    pub fn said(&self, lang: Lang) -> String {
        let Self { group, count, .. } = self;
        let hosts = self.hosts.join(", ");
        let what = match (self.flows, self.stores) {
            (true, true) => lang.pick(
                "columns, rows, masks, ends or tables, and the addresses of stores",
                "列、行条件、脱敏、截止日期或表，以及库的地址",
            ),
            (_, true) => lang.pick("the addresses of stores", "库的地址"),
            _ => lang.pick("columns, rows, masks, ends or tables", "列、行条件、脱敏、截止日期或表"),
        };
        lang.pick(
            format!(
                "{count} other processes carry the same subscriptions by another configuration (group {group}, at {hosts}): \
                 {what} differ. Each lane does what the process takes it for that runs it"
            ),
            format!("另有 {count} 个进程按另一份配置承担同名订阅（消费组 {group}，位于 {hosts}）：{what}不同。每条通道按运行它的进程的配置行事"),
        )
    }

    /// Says what to do about it.
    pub fn hint(lang: Lang) -> &'static str {
        lang.pick(
            "stop the processes of one of the two (SIGTERM): the others carry its lanes on at once; then give all the same \
             file and start them",
            "停止其中一方的进程（SIGTERM），其余进程随即接手其通道；然后让所有进程使用同一份配置再启动",
        )
    }
}

/// Returns what this process takes the lanes of these subscriptions to be.
pub(super) fn idea(plan: &Plan, subscriptions: &[&SubscriptionPlan]) -> Idea {
    let (mut flows, mut stores) = (Vec::new(), Vec::new());
    for subscription in subscriptions {
        let mut line = format!("{:?}", subscription.name);
        if plan.ledger.is_none() {
            // Under a ledger the file only asks: what flows, all processes read there.
            let mark = wire::mark(subscription).unwrap_or_else(|error| error.kind.name().into());
            let _ = write!(line, " {mark} {:?}", subscription.until);
        }
        match &subscription.into {
            Target::Table { store, table } => {
                let _ = write!(line, " into {:?} {table:?}", store.name);
                stores.push(format!("{:?} {:?}\n", store.name, address(store)));
            }
            Target::Topic => line.push_str(" into a topic"),
        }
        flows.push(format!("{line}\n"));
    }
    for lines in [&mut flows, &mut stores] {
        lines.sort();
        lines.dedup();
    }
    Idea::of(&flows.concat(), &stores.concat())
}

/// Returns where a store is, without who asks it.
fn address(store: &StorePlan) -> String {
    match &store.system {
        StoreSystem::Postgres { url, .. } => {
            let place = url.resolve().and_then(|url| hutong_stores::postgres::place(&url));
            place.unwrap_or_else(|error| error.kind.name().into())
        }
        StoreSystem::Sqlite { path } => {
            std::path::absolute(path).unwrap_or_else(|_| path.clone()).display().to_string()
        }
    }
}
