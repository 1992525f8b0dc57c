//! Between the configuration's words and the ledger's.

use std::collections::BTreeMap;
use std::sync::Arc;

use hutong_core::ledger::{Book, Request, State, Terms};
use hutong_core::mask::Mask;
use hutong_core::{Contract, Error, ErrorKind, Grant, Permit, Result, Secret};

use crate::config::Plan;
use crate::config::plan::{StreamPlan, SubscriptionPlan, Target};

/// What a request says of where a delivery goes: one word, as no store and its table are.
pub const INTO_TOPIC: &str = "topic";

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
        into: match &subscription.into {
            Target::Table { store, table } => format!("{} {table}", store.name),
            Target::Topic => INTO_TOPIC.into(),
        },
    }
}

/// Owner and stream to the contract, of the streams that a configuration knows.
pub type Contracts = BTreeMap<(String, String), Arc<Contract>>;

/// Returns the contracts of a configuration.
pub fn contracts(plan: &Plan) -> Contracts {
    let of = |stream: &Arc<StreamPlan>| {
        ((stream.owner.clone(), stream.name.clone()), Arc::clone(&stream.contract))
    };
    plan.streams.values().map(of).collect()
}

/// Says what these terms give away together with another grant of the same subscriber, of whichever stream; `None` when
/// nothing.
///
/// What was revoked without a recall, or has expired, counts: the subscriber still holds it.
pub fn linked(
    book: &Book,
    contracts: &Contracts,
    (department, subscription): (&str, &str),
    stream: (&str, &str),
    terms: &Terms,
) -> Result<Option<String>> {
    let contract = |(owner, stream): (&str, &str)| {
        contracts.get(&(owner.to_owned(), stream.to_owned())).map(Arc::as_ref)
    };
    for other in book.grants() {
        let theirs = (other.owner.as_str(), other.stream.as_str());
        let own = other.subscription == subscription && theirs == stream;
        let counts = !matches!(other.state, State::Replaced | State::Revoked { recall: true, .. });
        if other.department != department || own || !counts {
            continue;
        }
        let found = terms.together(&other.terms, [contract(stream), contract(theirs)], theirs == stream)?;
        if let Some(found) = found.first() {
            let (number, birth) = if found.of_these { (stream, theirs) } else { (theirs, stream) };
            return Ok(Some(format!(
                "together with `{}` of the same department, `{}` of {}.{} is masked by `id`, and `{}` of {}.{} gives \
                 the masked digits away",
                other.subscription, found.number, number.0, number.1, found.birth, birth.0, birth.1
            )));
        }
    }
    Ok(None)
}

/// Returns the subscription of the configuration that asks for what a department's request names.
pub fn configured<'a>(plan: &'a Plan, department: &str, request: &Request) -> Option<&'a SubscriptionPlan> {
    plan.subscriptions.iter().find(|own| {
        own.name == request.subscription
            && own.department == department
            && own.stream.name == request.stream
            && own.stream.owner == request.owner
    })
}

/// Compiles terms as a lane does, as far as the configuration knows the stream. `Err(Config)` when nothing could be
/// delivered under them: better before they are signed than in every lane afterwards.
pub fn compiled(plan: &Plan, department: &str, request: &Request, terms: &Terms) -> Result<()> {
    if let Some(own) = configured(plan, department, request) {
        under(own, terms)?;
    }
    let stream = plan.streams.get(&request.stream).filter(|stream| stream.owner == request.owner);
    let Some(stream) = stream else { return Ok(()) };
    step(stream, &request.subscription, terms).map(drop)
}

/// Returns the step that lets through what terms grant of a stream; `of`: the subscription that is told of. Masks alter what
/// is seen of a row and not whether it is held, so that no subscription's key is needed.
pub fn step(stream: &StreamPlan, of: &str, terms: &Terms) -> Result<Permit> {
    let grant = Grant {
        subscription: of.to_owned(),
        stream: stream.contract.stream.clone(),
        columns: terms.columns.clone(),
        rows: terms.condition(&stream.contract)?,
        masks: terms.masks()?,
        until: terms.until,
        key: Secret::new(""),
    };
    Permit::new(Arc::clone(&stream.contract), &grant).map_err(|problems| {
        let why = problems.iter().map(|problem| problem.message.clone()).collect::<Vec<_>>().join("; ");
        Error::new(ErrorKind::Config, format!("compile the grant of {of}"), why)
    })
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
