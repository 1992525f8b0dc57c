//! The step that lets through what a grant names, and nothing else.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::rows::{Bridges, Projection};
use super::{Grant, HIDDEN_KEY};
use crate::change::{Before, Change, Op, Rejected};
use crate::contract::{Contract, Field, Sharing, Type};
use crate::filter::{Filter, Truth};
use crate::mask::{Key, Mask};
use crate::port::{Step, Verdict};
use crate::problem::{Problem, nearest};
use crate::value::{Row, Value};

const FILTERED: Verdict = Verdict::Drop { reason: "filtered" };

/// The permit step of one subscription: filters rows, projects columns, masks values (I5).
///
/// A row filter is a promise about the replica (DESIGN section 7): what comes out, applied in order, leaves the
/// replica with exactly the granted rows, whatever it held before of the same keys. So:
///
/// - A new row inside the filter passes as an upsert. If the old image is wholly known and was outside, it passes as an
///   insert, and the old image, which was never granted, is taken off.
/// - A new row outside of it (false or NULL) becomes a delete by key, but is dropped as `filtered` where the replica
///   cannot hold the key: the old image was outside as well, or it is an insert without an old image, since whatever had
///   the key before was deleted before. A snapshot's row outside of the filter is a delete: on a new base the
///   replica may hold it from before.
/// - An update within the filter whose wholly known old image projects to the same row is dropped as `outside_grant`.
/// - When the filter cannot be decided the change is rejected as `unknown_value`, without the row and without its
///   key: nobody knows that it is granted. Its position names it to those who may read the topic.
///
/// Into a store, a delete of a row that may not be there is executed and nobody learns of it. Into a topic it would be
/// read, and name a row outside of the grant: see [`Permit::told`].
#[derive(Debug)]
pub struct Permit {
    contract: Arc<Contract>,
    projected: Arc<Contract>,
    projection: Projection,
    filter: Option<Filter>,
    bridges: Bridges,
    told: bool,
}

impl Permit {
    /// Makes the step of a grant; `Err` holds everything in the grant that the contract does not bear.
    ///
    /// The span of a problem in the row filter is its place in the filter's text; other problems have none.
    pub fn new(contract: Arc<Contract>, grant: &Grant) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        if contract.stream != grant.stream {
            let message =
                format!("the grant is for `{}`, and the contract of `{}`", grant.stream, contract.stream);
            problems.push(Problem::new(message));
        }
        if let Sharing::Denied(law) = &contract.sharing {
            problems.push(Problem::new(format!("`{}` is not shared: {law}", contract.stream)));
        }
        let columns = columns(&contract, grant, &mut problems);
        let filter = grant.rows.as_deref().and_then(|sql| match Filter::compile(sql, &contract) {
            Ok(filter) => Some(filter),
            Err(found) => {
                problems.extend(found);
                None
            }
        });
        problems.extend(super::linkage(&contract, grant));
        if !problems.is_empty() {
            return Err(problems);
        }
        let clear = |key: &usize| columns.iter().any(|(at, mask)| at == key && mask.is_none());
        let hidden = (!contract.key.iter().all(clear)).then(|| contract.key.clone());
        let whole = columns.len() == contract.fields.len()
            && columns.iter().enumerate().all(|(i, (at, mask))| i == *at && mask.is_none());
        let projection = Projection { columns, hidden, key: Key::new(&grant.key), whole };
        let projected = project(&contract, &projection).shared();
        Ok(Self { contract, projected, projection, filter, bridges: Bridges::default(), told: false })
    }

    /// Makes it a step whose output the subscriber reads himself: it lets no delete of a row through that he may never
    /// have been told of (I5).
    ///
    /// A snapshot's row outside of the filter is dropped as `filtered`, for a new base stands behind a truncate. A
    /// change that needs the old image to know whether the row was granted, and has none, is rejected as
    /// `unknown_value`, without the row and without its key.
    pub fn told(mut self) -> Self {
        self.told = true;
        self
    }

    /// Returns the contract of what comes out: the granted columns in the grant's order, behind [`HIDDEN_KEY`] when
    /// the key is not granted in clear.
    pub fn projection(&self) -> Arc<Contract> {
        Arc::clone(&self.projected)
    }

    /// Returns the projected keys of which a change speaks, of the new row and of the old one; whether they are granted
    /// is not asked.
    pub fn keys(&mut self, change: &Change) -> Vec<Row> {
        let mut keys = Vec::new();
        for row in change.after.iter().chain(change.before.row()) {
            let mut lone = Change { before: Before::None, after: Some(row.clone()), ..change.clone() };
            self.adopt(&mut lone);
            keys.extend(lone.after.map(|row| self.projected.key_of(&self.key(&row))));
        }
        keys
    }

    /// Returns the contract of what comes in.
    pub(super) fn contract(&self) -> &Contract {
        &self.contract
    }

    /// Returns the index of the field whose mask a replica's column takes where it stands: its type stays what it is.
    pub(super) fn masks_in_place(&self, column: &str) -> Option<usize> {
        let granted = |(at, _): &&(usize, Option<Mask>)| self.contract.fields[*at].column() == column;
        let (at, mask) = self.projection.columns.iter().find(granted)?;
        let ty = &self.contract.fields[*at].ty;
        mask.is_some_and(|mask| mask.output(ty) == *ty).then_some(*at)
    }

    /// Returns a field's value as the subscriber sees it.
    pub(super) fn masked(&self, at: usize, value: &Value) -> Value {
        match self.projection.columns.iter().find(|(field, _)| *field == at) {
            Some((_, Some(mask))) => mask.apply(value, &self.projection.key),
            Some((_, None)) => value.clone(),
            None => Value::Null,
        }
    }

    /// Returns the compiled row filter.
    pub fn filter(&self) -> Option<&Filter> {
        self.filter.as_ref()
    }

    fn truth(&self, row: &[Value]) -> Truth {
        self.filter.as_ref().map_or(Truth::True, |filter| filter.matches(row))
    }

    /// Brings a change to the permit's own version of the contract.
    fn adopt(&mut self, change: &mut Change) {
        if Arc::ptr_eq(&change.contract, &self.contract) {
            return;
        }
        // A new row lacks what its contract did not have yet; of an old one nobody has told it.
        let absent = if change.op == Op::Update { Value::Unknown } else { Value::Null };
        let from = Arc::clone(&change.contract);
        let mut cross = |row: &mut Row, absent: &Value| {
            *row = self.bridges.cross(&from, &self.contract, row, absent);
        };
        if let Some(row) = &mut change.after {
            cross(row, &absent);
        }
        match &mut change.before {
            Before::None => {}
            Before::Key(row) | Before::Full(row) => cross(row, &Value::Unknown),
        }
        change.contract = Arc::clone(&self.contract);
    }

    /// Decides about a read, an insert or an update.
    fn upsert(&self, mut change: Change, mut after: Row) -> Verdict {
        if let Before::Full(old) = &change.before {
            // What the source did not tell of the new row has not changed.
            for (new, old) in after.iter_mut().zip(old) {
                if new.is_unknown() {
                    *new = old.clone();
                }
            }
        }
        let old = change.before.row().map(|row| self.truth(row));
        let truth = self.truth(&after);
        if truth == Truth::Unknown {
            return self.undecided(change, &after);
        }
        if truth.is_outside() {
            let gone = old.is_some_and(Truth::is_outside)
                || change.op == Op::Insert && change.before == Before::None;
            if gone || self.told && change.op == Op::Read {
                return FILTERED;
            }
            return match old {
                _ if !self.told => self.delete(change, &after),
                Some(Truth::True) => self.delete(change, &after),
                // An update keeps its key: by that alone the row was outside before as well.
                _ if change.op == Op::Update && self.by_key() => FILTERED,
                _ => self.untold(change),
            };
        }
        let projected = self.projection.row(after);
        change.before = match (change.before, old) {
            (Before::Full(row), Some(Truth::True)) => {
                let before = self.projection.row(row);
                if change.op == Op::Update && before == projected {
                    return Verdict::Drop { reason: "outside_grant" };
                }
                Before::Full(before)
            }
            // I5: the old image of a row that was outside, or perhaps was, stays here.
            (Before::Full(_) | Before::Key(_), Some(truth)) if truth.is_outside() => {
                change.op = if change.op == Op::Update { Op::Insert } else { change.op };
                Before::None
            }
            (Before::Full(row) | Before::Key(row), _) => Before::Key(self.key(&row)),
            (Before::None, _) => Before::None,
        };
        let whole = self.projected.key.iter().all(|key| !projected[*key].is_unknown());
        change.contract = self.projection();
        change.after = Some(projected);
        if whole { Verdict::Pass(change) } else { self.reject(change, "the key is unknown".into(), true) }
    }

    /// States whether it cannot tell without the old row whether a row that is outside of the filter was granted.
    pub fn needs_old_row(&self) -> bool {
        !self.by_key()
    }

    /// States whether the filter looks at nothing but the key.
    fn by_key(&self) -> bool {
        let mut columns = self.filter.iter().flat_map(Filter::columns);
        columns.all(|at| self.contract.key.contains(at))
    }

    /// Sets a change aside of which nobody can tell whether the subscriber holds its row.
    fn untold(&self, change: Change) -> Verdict {
        let reason = "the old row is not whole, so nobody can tell whether it was granted: its source must log whole \
                      old rows (in PostgreSQL, REPLICA IDENTITY FULL)";
        self.reject(change, reason.into(), false)
    }

    /// Turns a change into the delete of a row's key.
    fn delete(&self, mut change: Change, row: &[Value]) -> Verdict {
        let before = self.key(row);
        if self.projected.key.iter().any(|key| before[*key].is_unknown()) {
            return self.reject(change, "the key of the row that left is unknown".into(), false);
        }
        change.op = Op::Delete;
        change.contract = self.projection();
        change.before = Before::Key(before);
        change.after = None;
        Verdict::Pass(change)
    }

    /// Returns the projected row of which only the key is known.
    fn key(&self, row: &[Value]) -> Row {
        // Only of the key something is told, so nothing else is copied, or masked.
        let mut projected = self.projection.row(self.contract.key_row(&self.contract.key_of(row)));
        self.projected.keep_key(&mut projected);
        projected
    }

    fn undecided(&self, change: Change, row: &[Value]) -> Verdict {
        let columns = self.filter.as_ref().map_or(&[][..], Filter::columns);
        let unknown: Vec<&str> = columns
            .iter()
            .filter(|at| row.get(**at).is_none_or(Value::is_unknown))
            .map(|at| self.contract.fields[*at].name.as_str())
            .collect();
        let reason = match unknown.is_empty() {
            true => "the row filter meets a value of another type than the contract's".into(),
            false => format!("the row filter needs the value of {}, which is unknown", unknown.join(", ")),
        };
        self.reject(change, reason, false)
    }

    /// Sets a change aside. `granted`: it was projected already, and may be shown.
    fn reject(&self, change: Change, reason: String, granted: bool) -> Verdict {
        Verdict::Reject(Rejected {
            rule: "unknown_value",
            reason,
            position: change.position,
            stream: self.contract.stream.clone(),
            change: granted.then(|| Box::new(change)),
            record: None,
        })
    }
}

impl Step for Permit {
    fn name(&self) -> &'static str {
        "permit"
    }

    fn apply(&mut self, mut change: Change) -> Verdict {
        self.adopt(&mut change);
        match (change.op, change.after.take()) {
            (Op::Truncate, _) => {
                change.contract = self.projection();
                change.before = Before::None;
                Verdict::Pass(change)
            }
            (Op::Delete, _) => match std::mem::replace(&mut change.before, Before::None) {
                Before::None => self.reject(change, "the key of the deleted row is unknown".into(), false),
                Before::Key(row) | Before::Full(row) if self.truth(&row).is_outside() => {
                    // The replica cannot hold it. I5: nor may it learn of it.
                    drop(row);
                    FILTERED
                }
                Before::Full(row) if self.truth(&row) == Truth::True => match self.delete(change, &row) {
                    Verdict::Pass(change) => {
                        Verdict::Pass(Change { before: Before::Full(self.projection.row(row)), ..change })
                    }
                    other => other,
                },
                Before::Key(row) | Before::Full(row) => match self.truth(&row) {
                    Truth::Unknown if self.told => self.untold(change),
                    _ => self.delete(change, &row),
                },
            },
            (Op::Read | Op::Insert | Op::Update, Some(after)) => self.upsert(change, after),
            (Op::Read | Op::Insert | Op::Update, None) => {
                self.reject(change, "the new row is unknown".into(), false)
            }
        }
    }
}

/// Finds the granted columns, and tells of those that cannot be granted so.
fn columns(contract: &Contract, grant: &Grant, problems: &mut Vec<Problem>) -> Vec<(usize, Option<Mask>)> {
    let mut found = BTreeSet::new();
    let mut columns = Vec::new();
    if grant.columns.is_empty() {
        let hint = "name the columns that the purpose needs";
        problems.push(Problem::new("the grant names no column, so nothing may leave").hint(hint));
    }
    for name in &grant.columns {
        let Some(at) = contract.index(name) else {
            let problem = Problem::new(format!("there is no column `{name}` in `{}`", contract.stream));
            problems.push(match nearest(name, contract.fields.iter().map(|f| f.name.as_str())) {
                Some(near) => problem.hint(format!("did you mean `{near}`?")),
                None => problem,
            });
            continue;
        };
        if !found.insert(at) {
            problems.push(Problem::new(format!("column `{name}` is granted twice")));
            continue;
        }
        let mask = grant.masks.get(name).copied();
        let ty = &contract.fields[at].ty;
        if let Some(mask) = mask.filter(|mask| !mask.accepts(ty)) {
            problems.push(Problem::new(format!(
                "the mask `{mask}` does not fit column `{name}`, which is of type {}",
                ty.name()
            )));
        }
        columns.push((at, mask));
    }
    for name in grant.masks.keys().filter(|name| !grant.columns.contains(name)) {
        problems.push(Problem::new(format!("there is a mask on `{name}`, which is not granted")));
    }
    columns
}

/// Builds the contract of what comes out.
fn project(contract: &Contract, projection: &Projection) -> Contract {
    let mut fields = Vec::with_capacity(projection.columns.len() + 1);
    if projection.hidden.is_some() {
        let doc = "Stands for the key, which is not granted in clear.".to_owned();
        fields.push(Field {
            nullable: false,
            doc,
            ..Field::new(HIDDEN_KEY, Type::Text { length: Some(64) })
        });
    }
    for (at, mask) in &projection.columns {
        // What comes out was opened.
        let field = Field { sealed: false, ..contract.fields[*at].clone() };
        fields.push(match mask {
            None => field,
            // A masked value no longer satisfies the checks of the clear one.
            Some(mask) => Field { ty: mask.output(&field.ty), mask: None, checks: Vec::new(), ..field },
        });
    }
    let key = match projection.hidden {
        Some(_) => vec![0],
        None => {
            let place = |key: &usize| projection.columns.iter().position(|(at, _)| at == key);
            contract.key.iter().map(|key| place(key).expect("every key column is granted in clear")).collect()
        }
    };
    Contract { fields, key, ..contract.clone() }
}
