//! Whether a table fits its contract, and how its columns are read.

use hutong_core::{Contract, Row, Value};

use super::catalog::{Generated, Identity, Live};
use super::column::{Fit, PgType};
use super::pgoutput::Cell;
use super::text;

/// A row, or a key, of which a value cannot be carried exactly (I6).
#[derive(Debug, Clone)]
pub(crate) struct Uncarried {
    /// Why, of the first such value, without the value.
    pub(crate) why: String,
    /// What can be carried; every other value is unknown.
    pub(crate) rest: Row,
}

/// How the rows of a table are read as rows of a contract: for each field the index of its column.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plan {
    columns: Vec<(usize, bool)>,
}

impl Plan {
    /// Makes the plan for columns as they come; `Err` says why the table no longer fits.
    pub(crate) fn new<'a>(
        contract: &Contract,
        columns: impl Iterator<Item = (&'a str, &'a PgType)>,
    ) -> Result<Self, String> {
        let columns: Vec<_> = columns.collect();
        let mut plan = Vec::with_capacity(contract.fields.len());
        for field in &contract.fields {
            let found = columns.iter().enumerate().find(|(_, (name, _))| *name == field.column());
            let Some((index, (_, ty))) = found else {
                return Err(format!("the column `{}` is missing", field.column()));
            };
            if ty.fit(&field.ty) == Fit::Not {
                return Err(format!(
                    "the column `{}` is {}, and the contract says {}",
                    field.column(),
                    ty.name(),
                    field.ty.name()
                ));
            }
            plan.push((index, ty.padded()));
        }
        Ok(Self { columns: plan })
    }

    /// Reads a whole row; an unchanged value becomes [`Value::Unknown`]. `Err` names the column.
    pub(crate) fn row(&self, contract: &Contract, cells: &[Cell]) -> Result<Row, Uncarried> {
        self.values(contract, cells, 0..self.columns.len())
    }

    /// Reads the key's values, in key order. `Err` names the column.
    pub(crate) fn key(&self, contract: &Contract, cells: &[Cell]) -> Result<Row, Uncarried> {
        self.values(contract, cells, contract.key.iter().copied())
    }

    /// Returns the key as the server's bytes, by which rows of one stream are told apart.
    pub(crate) fn key_text(&self, contract: &Contract, cells: &[Cell]) -> Vec<Cell> {
        contract.key.iter().map(|field| self.cell(cells, *field).clone()).collect()
    }

    fn cell<'a>(&self, cells: &'a [Cell], field: usize) -> &'a Cell {
        let cell = self.columns.get(field).and_then(|(index, _)| cells.get(*index));
        cell.unwrap_or(&Cell::Unchanged)
    }

    fn values(
        &self,
        contract: &Contract,
        cells: &[Cell],
        fields: impl Iterator<Item = usize>,
    ) -> Result<Row, Uncarried> {
        let mut first = None;
        let rest = fields.map(|field| {
            self.value(contract, cells, field).unwrap_or_else(|why| {
                first.get_or_insert(why);
                Value::Unknown
            })
        });
        let rest: Row = rest.collect();
        match first {
            None => Ok(rest),
            Some(why) => Err(Uncarried { why, rest }),
        }
    }

    fn value(&self, contract: &Contract, cells: &[Cell], field: usize) -> Result<Value, String> {
        let padded = self.columns.get(field).is_some_and(|(_, padded)| *padded);
        match self.cell(cells, field) {
            Cell::Null => Ok(Value::Null),
            Cell::Unchanged => Ok(Value::Unknown),
            Cell::Text(bytes) => {
                let field = &contract.fields[field];
                text::read(&field.ty, padded, bytes)
                    .map_err(|why| format!("column `{}`: {why}", field.column()))
            }
        }
    }
}

/// A finding about a table against its contract: what is wrong, and what a person may do.
pub(crate) struct Problem {
    /// What is wrong.
    pub(crate) what: String,
    /// What a person may do.
    pub(crate) hint: String,
}

/// Returns why the log does not hold a column that the server computes.
fn unlogged(generated: Generated, server_version: u32) -> Option<&'static str> {
    match generated {
        Generated::No => None,
        Generated::Stored if server_version >= 180_000 => None,
        Generated::Stored => Some("generated, which is not in the log before PostgreSQL 18"),
        Generated::Virtual => Some("generated when it is read, so it is never in the log"),
    }
}

/// Returns what is wrong in one line.
pub(crate) fn told(problems: &[Problem]) -> String {
    problems.iter().map(|p| p.what.as_str()).collect::<Vec<_>>().join("; ")
}

/// Returns why a table may not be captured: every reason, in the order of how much it matters.
pub(crate) fn problems(contract: &Contract, live: &Live, server_version: u32) -> Vec<Problem> {
    let name = live.name.plain();
    let mut problems = Vec::new();
    let mut problem = |what: String, hint: String| problems.push(Problem { what, hint });
    if !live.table {
        problem(
            format!("{name} is not a table that the log holds"),
            "capture an ordinary, logged table".into(),
        );
        return problems;
    }
    for field in &contract.fields {
        let column = field.column();
        match live.column(column) {
            None => problem(
                format!("{name} has no column `{column}`"),
                format!("add it, or take the field `{}` out of the contract", field.name),
            ),
            Some(live) if live.ty.exact().is_none() => problem(
                format!("the column `{column}` of {name} is {}, which cannot be carried", live.ty.name()),
                "change its type, or take it out of the contract".into(),
            ),
            Some(live) if live.ty.fit(&field.ty) == Fit::Not => problem(
                format!(
                    "the column `{column}` of {name} is {}, and the contract says {}",
                    live.ty.name(),
                    field.ty.name()
                ),
                "change the contract's type to what `hutong contract draft` writes".into(),
            ),
            Some(live) => {
                if let Some(why) = unlogged(live.generated, server_version) {
                    problem(
                        format!("the column `{column}` of {name} is {why}"),
                        "take it out of the contract".into(),
                    );
                }
            }
        }
    }
    let key: Vec<&str> = contract.key_fields().map(|field| field.column()).collect();
    if live.key_of(&key).is_none() {
        problem(
            format!("{name} has no unique, NOT NULL, non-deferrable key ({})", key.join(", ")),
            "add a primary key, or change the contract's key".into(),
        );
    }
    for identity in &live.identities {
        match identity {
            Identity::Full => {}
            Identity::Columns(columns) if key.iter().all(|k| columns.iter().any(|c| c == k)) => {}
            Identity::Columns(columns) => problem(
                format!(
                    "the replica identity of {name} ({}) does not hold the contract's key",
                    columns.join(", ")
                ),
                format!("ALTER TABLE {} REPLICA IDENTITY FULL, or USING INDEX the key's index", live.name),
            ),
            Identity::Nothing => problem(
                format!("the replica identity of {name} (or of a partition of it) is nothing"),
                format!("ALTER TABLE {} REPLICA IDENTITY DEFAULT with a primary key, or FULL", live.name),
            ),
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i3_a_generated_column_is_captured_only_where_the_log_holds_it() {
        for (generated, version, captured) in [
            (Generated::No, 140_000, true),
            (Generated::Stored, 150_000, false),
            (Generated::Stored, 170_006, false),
            (Generated::Stored, 180_000, true),
            (Generated::Virtual, 180_000, false),
        ] {
            assert_eq!(unlogged(generated, version).is_none(), captured, "{generated:?} {version}");
        }
    }
}
