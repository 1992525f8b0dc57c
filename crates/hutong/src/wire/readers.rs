//! Who reads a stream, and which of its fields: whom a changed contract would break.

use hutong_bus::succession::Reader;
use hutong_core::Filter;

use crate::config::Plan;
use crate::config::plan::{StreamPlan, SubscriptionPlan};

/// Returns the subscriptions to a stream, each with the fields that its columns and its rows use.
pub fn of(plan: &Plan, stream: &StreamPlan) -> Vec<Reader> {
    let of_stream = plan.subscriptions.iter().filter(|s| s.stream.name == stream.name);
    of_stream.map(|s| Reader { subscription: s.name.clone(), fields: fields(s) }).collect()
}

fn fields(subscription: &SubscriptionPlan) -> Vec<String> {
    let contract = &subscription.stream.contract;
    let filter = subscription.rows.as_deref().and_then(|sql| Filter::compile(sql, contract).ok());
    let in_rows = filter.iter().flat_map(Filter::columns).map(|i| contract.fields[*i].name.clone());
    subscription.columns.iter().cloned().chain(in_rows).collect()
}
