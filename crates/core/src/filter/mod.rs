//! Row filters: SQL conditions over the fields of a contract, compiled once (DESIGN section 9).
//!
//! A filter knows `=`, `<>`, `<`, `<=`, `>`, `>=`, `IN`, `BETWEEN`, `LIKE`, `IS NULL`, `AND`, `OR`, `NOT` and
//! parentheses; a column stands by its wire name or by its name in the table. Text compares bytewise, numbers
//! compare exactly, NULL is three-valued. It knows nothing of time: a replica may not depend on when it was
//! filtered.

mod compile;
mod like;
mod literal;
mod place;
mod sql;

use std::collections::BTreeSet;
use std::ops::Not;

use crate::contract::Contract;
use crate::problem::Problem;
use crate::value::Value;

use like::Pattern;
use literal::{Comparison, Literal};

pub use sql::Dialect;

/// What a condition says of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truth {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// SQL's NULL: the row does not match, and neither does it match the negation.
    Null,
    /// It cannot be told, for a value that decides it is [`Value::Unknown`].
    Unknown,
}

impl Truth {
    /// States whether the row is certainly outside of the filter.
    pub fn is_outside(self) -> bool {
        matches!(self, Self::False | Self::Null)
    }

    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::False, _) | (_, Self::False) => Self::False,
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            (Self::Null, _) | (_, Self::Null) => Self::Null,
            (Self::True, Self::True) => Self::True,
        }
    }
}

impl Not for Truth {
    type Output = Self;

    fn not(self) -> Self {
        match self {
            Self::True => Self::False,
            Self::False => Self::True,
            other => other,
        }
    }
}

impl From<bool> for Truth {
    fn from(truth: bool) -> Self {
        if truth { Self::True } else { Self::False }
    }
}

/// A compiled row filter. It reads rows of the contract that it was compiled with.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    root: Node,
    names: Vec<Name>,
    columns: Vec<usize>,
}

/// A column's names, to write SQL.
#[derive(Debug, Clone, PartialEq)]
struct Name {
    column: String,
    ty: crate::contract::Type,
}

/// A compiled condition; columns are indexes into the row.
#[derive(Debug, Clone, PartialEq)]
enum Node {
    And(Vec<Node>),
    Or(Vec<Node>),
    Not(Box<Node>),
    Compare {
        column: usize,
        comparison: Comparison,
        literal: Literal,
    },
    /// The items are sorted.
    In {
        column: usize,
        items: Vec<Literal>,
    },
    Like {
        column: usize,
        pattern: Pattern,
    },
    IsNull {
        column: usize,
    },
    /// The same for every value that is not NULL.
    Always {
        column: usize,
        truth: bool,
    },
}

impl Filter {
    /// Compiles a condition against a contract; `Err` holds every problem, with its place in the text.
    pub fn compile(sql: &str, contract: &Contract) -> Result<Self, Vec<Problem>> {
        let (root, columns) = compile::compile(sql, contract)?;
        let names = contract
            .fields
            .iter()
            .map(|f| Name { column: f.column().to_owned(), ty: f.ty.clone() })
            .collect();
        Ok(Self { root, names, columns })
    }

    /// Returns what the condition says of a row.
    ///
    /// A value that is missing from the row or not of the contract's type counts as unknown (I5: it is not let through).
    pub fn matches(&self, row: &[Value]) -> Truth {
        self.root.matches(row)
    }

    /// Returns the indexes of the fields that the condition looks at, ascending.
    pub fn columns(&self) -> &[usize] {
        &self.columns
    }

    /// Returns the conditions that a row must all fulfil, in words of their own: a filter that has all of another's, and
    /// more, lets no row through that the other does not.
    pub fn conditions(&self) -> BTreeSet<String> {
        let mut conditions = BTreeSet::new();
        self.root.conjuncts(&mut |node| {
            conditions.insert(sql::condition(self, node));
        });
        conditions
    }

    /// Returns what it asks for beyond conditions of which `met` says that a row fulfils them.
    pub fn beyond(&self, met: impl Fn(&str) -> bool) -> Self {
        let (mut nodes, mut columns) = (Vec::new(), BTreeSet::new());
        self.root.conjuncts(&mut |node| {
            if !met(&sql::condition(self, node)) {
                node.looks_at(&mut columns);
                nodes.push(node.clone());
            }
        });
        Self { root: Node::And(nodes), names: self.names.clone(), columns: columns.into_iter().collect() }
    }

    /// Returns the condition as SQL over the table's columns, which the dialect's database decides as
    /// [`Filter::matches`] does; `Err` when the database has no exact way to.
    pub fn to_sql(&self, dialect: Dialect) -> Result<String, Problem> {
        sql::write(self, dialect)
    }
}

impl Node {
    fn conjuncts<'a>(&'a self, each: &mut impl FnMut(&'a Self)) {
        match self {
            Self::And(nodes) => nodes.iter().for_each(|node| node.conjuncts(each)),
            other => each(other),
        }
    }

    fn looks_at(&self, columns: &mut BTreeSet<usize>) {
        match self {
            Self::And(nodes) | Self::Or(nodes) => nodes.iter().for_each(|node| node.looks_at(columns)),
            Self::Not(node) => node.looks_at(columns),
            Self::Compare { column, .. }
            | Self::In { column, .. }
            | Self::Like { column, .. }
            | Self::IsNull { column }
            | Self::Always { column, .. } => {
                columns.insert(*column);
            }
        }
    }

    fn matches(&self, row: &[Value]) -> Truth {
        match self {
            Self::And(nodes) => all(nodes.iter().map(|node| node.matches(row))),
            // De Morgan holds in this logic too.
            Self::Or(nodes) => !all(nodes.iter().map(|node| !node.matches(row))),
            Self::Not(node) => !node.matches(row),
            Self::Compare { column, comparison, literal } => {
                known(row, *column, |value| literal.order(value).map(|order| comparison.holds(order)))
            }
            Self::In { column, items } => known(row, *column, |value| {
                // A value of another type is unknown, not absent.
                let first = items.first()?;
                first.order(value)?;
                Some(
                    items
                        .binary_search_by(|item| {
                            item.order(value).map_or(std::cmp::Ordering::Less, |o| o.reverse())
                        })
                        .is_ok(),
                )
            }),
            Self::Like { column, pattern } => {
                known(row, *column, |value| value.as_text().map(|text| pattern.matches(text)))
            }
            Self::IsNull { column } => match row.get(*column) {
                None | Some(Value::Unknown) => Truth::Unknown,
                Some(value) => value.is_null().into(),
            },
            Self::Always { column, truth } => known(row, *column, |_| Some(*truth)),
        }
    }
}

/// Ends at the first falsehood, since nothing can change it.
fn all(truths: impl Iterator<Item = Truth>) -> Truth {
    let mut result = Truth::True;
    for truth in truths {
        result = result.and(truth);
        if result == Truth::False {
            break;
        }
    }
    result
}

fn known(row: &[Value], column: usize, decide: impl FnOnce(&Value) -> Option<bool>) -> Truth {
    match row.get(column) {
        None | Some(Value::Unknown) => Truth::Unknown,
        Some(Value::Null) => Truth::Null,
        Some(value) => decide(value).map_or(Truth::Unknown, Truth::from),
    }
}

#[cfg(test)]
mod tests;
