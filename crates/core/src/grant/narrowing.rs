//! What a grant that lets less through does to the rows that stand in a replica, each by itself.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Permit;
use crate::contract::Field;
use crate::filter::{Filter, Truth};
use crate::value::{Row, Value};

/// From the rows of one grant to those of a narrower one, where they stand.
#[derive(Debug, Clone)]
pub struct Narrowing {
    /// The replica's columns that are granted no more.
    pub gone: Vec<String>,
    /// Indexes of the stream's fields that are masked from now on.
    masked: Vec<usize>,
    /// What a row must fulfil that it need not have before; `None` when no row goes.
    filter: Option<Filter>,
    /// Indexes of the stream's fields that decide what becomes of a row, ascending.
    reads: BTreeSet<usize>,
    permit: Arc<Permit>,
}

/// What becomes of one row.
#[derive(Debug, Clone, PartialEq)]
pub enum Fate {
    /// It stays as it is.
    Stays,
    /// It is not granted any more.
    Goes,
    /// It stays with these values instead, one for each of [`Narrowing::masks`].
    Masked(Row),
    /// Nobody can tell: the replica has another value than the stream had.
    Untold,
}

impl Narrowing {
    pub(super) fn new(
        gone: Vec<String>,
        masked: Vec<usize>,
        filter: Option<Filter>,
        permit: Arc<Permit>,
    ) -> Self {
        let decides = filter.as_ref().map_or(&[][..], |filter| filter.columns());
        let reads = decides.iter().chain(&masked).copied().collect();
        Self { gone, masked, filter, reads, permit }
    }

    /// Returns the fields that decide what becomes of a row; none: no row has to be read.
    pub fn reads(&self) -> Vec<&Field> {
        self.reads.iter().map(|at| &self.permit.contract().fields[*at]).collect()
    }

    /// Returns the fields that are masked from now on.
    pub fn masks(&self) -> Vec<&Field> {
        self.masked.iter().map(|at| &self.permit.contract().fields[*at]).collect()
    }

    /// Decides about a row of the replica, of which the values of [`Narrowing::reads`] are given (I5).
    pub fn fate(&self, read: Row) -> Fate {
        let mut row = vec![Value::Unknown; self.permit.contract().fields.len()];
        for (at, value) in self.reads.iter().zip(read) {
            row[*at] = value;
        }
        if let Some(filter) = &self.filter {
            match filter.matches(&row) {
                Truth::True => {}
                Truth::Unknown => return Fate::Untold,
                Truth::False | Truth::Null => return Fate::Goes,
            }
        }
        let masked: Row = self.masked.iter().map(|at| self.permit.masked(*at, &row[*at])).collect();
        let same = self.masked.iter().zip(&masked).all(|(at, value)| row[*at] == *value);
        if same { Fate::Stays } else { Fate::Masked(masked) }
    }
}
