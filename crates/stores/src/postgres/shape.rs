//! What a table was like when it was read: what was captured then stands for the table only while it is the same.
//!
//! Nothing in the stream tells that a table was dropped and made again, that a type was changed, which writes every
//! value anew, that a partition came or went with its rows, or that the contract has come to ask for a column that
//! was there all the time.

use std::collections::BTreeMap;

use hutong_core::Contract;
use serde::{Deserialize, Serialize};

use super::catalog::Live;
use super::pgoutput::Relation;

/// A table as far as its captured rows depend on it; part of the note of its snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shape {
    /// The table's number in the catalog.
    pub(crate) oid: u32,
    /// The key, in the order of its index.
    key: Vec<String>,
    /// The contract's columns.
    columns: BTreeMap<String, Typed>,
    /// A digest of its partitions and their files, of a partitioned table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    leaves: Option<String>,
}

/// A column's type, its modifier and its collation, by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Typed(u32, i32, u32);

impl Shape {
    /// Returns what a table is like now.
    pub(crate) fn of(contract: &Contract, live: &Live) -> Self {
        let names: Vec<&str> = contract.key_fields().map(|field| field.column()).collect();
        let columns = contract.fields.iter().filter_map(|field| live.column(field.column()));
        Self {
            oid: live.oid,
            key: live.key_of(&names).map(|key| key.columns.clone()).unwrap_or_default(),
            columns: columns
                .map(|column| (column.name.clone(), Typed(column.type_oid, column.typmod, column.collation)))
                .collect(),
            leaves: live.leaves.clone(),
        }
    }

    /// Returns why rows that were read of this are not those of a table with such partitions.
    pub(crate) fn outgrown_by_leaves(&self, leaves: Option<&String>) -> Option<String> {
        let others = leaves.is_some() && self.leaves.as_ref() != leaves;
        others.then(|| "a partition was added, removed, truncated or rewritten".to_owned())
    }

    /// Returns why rows that were read of this are not those of `now`.
    pub(crate) fn outgrown(&self, now: &Self) -> Option<String> {
        if self.oid != now.oid {
            return Some("another table has its name".to_owned());
        }
        if self.key != now.key {
            return Some(format!("its key is now ({})", now.key.join(", ")));
        }
        let column = now.columns.iter().find_map(|(name, typed)| match self.columns.get(name) {
            None => Some(format!("the column `{name}` is new in the contract")),
            Some(before) if before != typed => Some(format!("the type of the column `{name}` is another")),
            Some(_) => None,
        });
        column.or_else(|| self.outgrown_by_leaves(now.leaves.as_ref()))
    }

    /// Returns why the rows that were read of this are not those of a relation of the stream.
    pub(crate) fn outgrown_by(&self, relation: &Relation) -> Option<String> {
        if self.oid != relation.oid {
            return Some("another table has its name".to_owned());
        }
        relation.columns.iter().find_map(|column| {
            let Typed(type_oid, typmod, _) = self.columns.get(&column.name)?;
            ((*type_oid, *typmod) != (column.type_oid, column.typmod))
                .then(|| format!("the type of the column `{}` is another", column.name))
        })
    }
}
