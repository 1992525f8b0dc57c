//! Rows on their way through a permit: from the contract that they came with, to the one that the subscriber sees.

use std::sync::Arc;

use crate::canonical;
use crate::contract::{Contract, Type};
use crate::mask::{Key, Mask};
use crate::value::{Row, Value};

/// How many contracts of one stream a permit remembers the way from.
const BRIDGE_LIMIT: usize = 8;

/// The way from other versions of a contract to the permit's own, by field name.
#[derive(Debug, Default)]
pub(super) struct Bridges {
    known: Vec<Bridge>,
}

/// From one contract: for each field of the permit's own, where it stands there.
#[derive(Debug)]
struct Bridge {
    /// Keeps the contract alive, so that its address names it.
    from: Arc<Contract>,
    fields: Vec<Origin>,
}

#[derive(Debug, Clone, Copy)]
enum Origin {
    Field(usize),
    /// The other contract does not have it.
    Absent,
    /// The other contract has it with a type that is read differently. I6: it is not converted.
    Other,
}

impl Bridges {
    /// Returns a row of `from` as a row of `to`; `absent` stands where `from` has no such field.
    pub(super) fn cross(
        &mut self,
        from: &Arc<Contract>,
        to: &Arc<Contract>,
        row: &[Value],
        absent: &Value,
    ) -> Row {
        let at = match self.known.iter().position(|bridge| Arc::ptr_eq(&bridge.from, from)) {
            Some(at) => at,
            None => {
                if self.known.len() == BRIDGE_LIMIT {
                    self.known.remove(0);
                }
                self.known.push(Bridge { from: Arc::clone(from), fields: survey(from, to) });
                self.known.len() - 1
            }
        };
        let value = |origin: &Origin| match origin {
            Origin::Field(i) => row.get(*i).cloned().unwrap_or(Value::Unknown),
            Origin::Absent => absent.clone(),
            Origin::Other => Value::Unknown,
        };
        self.known[at].fields.iter().map(value).collect()
    }
}

fn survey(from: &Contract, to: &Contract) -> Vec<Origin> {
    to.fields
        .iter()
        .map(|field| match from.index(&field.name) {
            None => Origin::Absent,
            Some(i) if alike(&from.fields[i].ty, &field.ty) => Origin::Field(i),
            Some(_) => Origin::Other,
        })
        .collect()
}

/// States whether values of both types look the same and mean the same.
fn alike(from: &Type, to: &Type) -> bool {
    let whole = |ty: &Type| matches!(ty, Type::Int16 | Type::Int | Type::Long);
    let number = |ty: &Type| matches!(ty, Type::Decimal { .. } | Type::Numeric);
    let text = |ty: &Type| matches!(ty, Type::Text { .. } | Type::Enum { .. });
    from == to || whole(from) && whole(to) || number(from) && number(to) || text(from) && text(to)
}

/// The columns that leave, each with its mask.
#[derive(Debug)]
pub(super) struct Projection {
    /// Where each column stands in the source's row, and its mask.
    pub(super) columns: Vec<(usize, Option<Mask>)>,
    /// The source's key, when the first column is the hidden key.
    pub(super) hidden: Option<Vec<usize>>,
    /// The subscription's own key.
    pub(super) key: Key,
    /// Whether every column is granted in clear, in the contract's order: the row is what the subscriber sees.
    pub(super) whole: bool,
}

impl Projection {
    /// Returns the row that the subscriber sees. A hidden key of an unknown key is unknown.
    pub(super) fn row(&self, mut row: Row) -> Row {
        if self.whole && row.len() == self.columns.len() {
            return row;
        }
        let mut projected = Row::with_capacity(self.columns.len() + 1);
        if let Some(key) = &self.hidden {
            projected.push(self.hide(key, &row));
        }
        // No column is granted twice, so each value is moved out.
        for (at, mask) in &self.columns {
            let value = row.get_mut(*at).map_or(Value::Unknown, std::mem::take);
            projected.push(match mask {
                None => value,
                Some(mask) => mask.apply(&value, &self.key),
            });
        }
        projected
    }

    fn hide(&self, key: &[usize], row: &[Value]) -> Value {
        let mut bytes = Vec::with_capacity(64);
        for at in key {
            match row.get(*at) {
                Some(value) if canonical::scalar(value, &mut bytes) => {}
                _ => return Value::Unknown,
            }
        }
        Value::Text(self.key.digest(&bytes))
    }
}
