//! One row on its way through one grant.

use std::collections::BTreeMap;
use std::sync::Arc;

use hutong_core::grant::HIDDEN_KEY;
use hutong_core::{
    Before, Change, Contract, Error, ErrorKind, Op, Origin, Place, Position, Result, Row, Step as _, Value,
    Verdict,
};
use hutong_stores::keep::{change_json, written_value};
use serde_json::{Map, Value as Json};

use crate::config::plan::SubscriptionPlan;
use crate::wire;

/// What a subscriber gets of a row.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Seen {
    /// These columns.
    Row(Map<String, Json>),
    /// The row is deleted from the replica, where it is.
    Deleted,
    /// Nothing, by a rule.
    Nothing(&'static str),
    /// It is set aside.
    Aside(String),
}

/// Reads a row that a person has written: what is not named is NULL.
pub(super) fn row(contract: &Contract, written: &BTreeMap<String, Json>) -> Result<Row> {
    let config =
        |why: String| Error::new(ErrorKind::Config, format!("read a row of {}", contract.stream), why);
    if let Some(name) = written.keys().find(|name| contract.field(name).is_none()) {
        let near = hutong_core::nearest(name, contract.fields.iter().map(|field| field.name.as_str()));
        let problem = config(format!("there is no column `{name}`"));
        return Err(match near {
            Some(near) => problem.hint(format!("did you mean `{near}`?")),
            None => problem,
        });
    }
    let value = |field: &hutong_core::Field| match written.get(&field.name) {
        None if contract.key_fields().any(|key| key.name == field.name) => {
            Err(config(format!("the key column `{}` is not named", field.name)))
        }
        None => Ok(Value::Null),
        Some(json) => written_value(&field.ty, json).ok_or_else(|| {
            config(format!("`{json}` is no value of `{}`, which is of type {}", field.name, field.ty.name()))
        }),
    };
    contract.fields.iter().map(value).collect()
}

/// Lets a row through a grant: a new one, or with `before` a changed one whose old image is whole.
pub(super) fn through(subscription: &SubscriptionPlan, before: Option<Row>, after: Row) -> Result<Seen> {
    let mut permit = wire::permit(subscription)?;
    let change = Change {
        contract: Arc::clone(&subscription.stream.contract),
        op: if before.is_some() { Op::Update } else { Op::Insert },
        before: before.map_or(Before::None, Before::Full),
        after: Some(after),
        position: Position::START,
        source_position: Position::START,
        origin: Origin {
            place: Arc::new(Place::default()),
            committed_us: 0,
            xid: None,
            lsn: None,
            transaction: None,
            last: true,
        },
    };
    Ok(match permit.apply(change) {
        Verdict::Pass(passed) if passed.op == Op::Delete => Seen::Deleted,
        Verdict::Pass(passed) => match change_json(&passed)["after"].take() {
            // It stands for the key, and is no column of the stream.
            Json::Object(mut row) => {
                row.shift_remove(HIDDEN_KEY);
                Seen::Row(row)
            }
            _ => Seen::Deleted,
        },
        Verdict::Drop { reason } => Seen::Nothing(reason),
        Verdict::Reject(rejected) => Seen::Aside(rejected.reason),
    })
}
