//! Between the configuration's words and the ledger's.

use std::sync::Arc;

use hutong_core::ledger::{Book, Request, State, Terms};
use hutong_core::mask::Mask;
use hutong_core::{Error, ErrorKind, Result};

use crate::config::plan::{StreamPlan, SubscriptionPlan};

/// Returns the request that a subscription of the configuration is.
pub fn asked(subscription: &SubscriptionPlan) -> Request {
    let masks = subscription.masks.iter().map(|(column, mask)| (column.clone(), mask.to_string()));
    Request {
        subscription: subscription.name.clone(),
        owner: subscription.stream.owner.clone(),
        stream: subscription.stream.name.clone(),
        purpose: subscription.purpose.clone(),
        legal_basis: subscription.legal_basis.clone(),
        terms: Terms {
            columns: subscription.columns.clone(),
            rows: subscription.rows.iter().map(|rows| rows.trim().to_owned()).collect(),
            masks: masks.collect(),
            until: subscription.until,
        },
        into: format!("{} {}", subscription.store.name, subscription.table),
    }
}

/// Says what these terms give away together with another grant of the same subscriber; `None` when nothing.
///
/// What was revoked without a recall, or has expired, counts: the subscriber still holds it.
pub fn linked(
    book: &Book,
    subscription: (&str, &str),
    stream: &StreamPlan,
    terms: &Terms,
) -> Result<Option<String>> {
    for other in book.grants() {
        let own = (other.department.as_str(), other.subscription.as_str()) == subscription;
        let same = other.department == subscription.0
            && (&other.owner, &other.stream) == (&stream.owner, &stream.name);
        let counts = !matches!(other.state, State::Replaced | State::Revoked { recall: true, .. });
        if own || !same || !counts {
            continue;
        }
        if let Some(problem) = terms.together(&other.terms, &stream.contract)?.first() {
            let why =
                format!("together with `{}` of the same department, {}", other.subscription, problem.message);
            return Ok(Some(why));
        }
    }
    Ok(None)
}

/// Returns the subscription as it is granted. I5: what flows is what the ledger says, whatever the configuration asks.
pub fn under(subscription: &SubscriptionPlan, terms: &Terms) -> Result<SubscriptionPlan> {
    let contract = Arc::clone(&subscription.stream.contract);
    let plan = SubscriptionPlan {
        columns: terms.columns.clone(),
        rows: terms.condition(&contract)?,
        masks: terms.masks()?,
        until: terms.until,
        ..subscription.clone()
    };
    let clear = |column: &String| plan.columns.contains(column) && !plan.masks.contains_key(column);
    let hidden = contract.key_fields().any(|field| !clear(&field.name));
    if plan.key.is_none() && (hidden || plan.masks.values().any(|mask| *mask == Mask::Pseudonym)) {
        let why = "what is granted needs the subscription's `key`, and the configuration has none";
        return Err(Error::new(ErrorKind::Config, format!("deliver to {}", plan.name), why)
            .hint("openssl rand -hex 32 > FILE, then key = { file = \"FILE\" }"));
    }
    Ok(plan)
}
