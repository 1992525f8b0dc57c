//! What a table was like when it was read: what was captured then stands for the table only while it is the same.
//!
//! Nothing in the stream tells that a table was dropped and made again, that a type was changed, which writes every
//! value anew, that a partition came or went with its rows, or that the contract has come to ask for a column that
//! was there all the time, or to allow what it refused. A type that was only made wider leaves every value and the file
//! that holds them as they are.

use std::collections::BTreeMap;

use hutong_core::contract::Check;
use hutong_core::{Contract, Field, Type, hexadecimal};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::catalog::Live;
use super::column::{Fit, PgType};
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
    /// The file that holds its rows, of a table without partitions; of older notes nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<u32>,
    /// A digest of what the contract asks of a column by which a value may have been set aside.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    rules: BTreeMap<String, String>,
}

/// A column's type, its modifier and its collation, by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Typed(u32, i32, u32);

/// The numbers of types that become wider without a row being written.
const TEXT: u32 = 25;
const VARCHAR: u32 = 1043;
const NUMERIC: u32 = 1700;

impl Typed {
    /// States whether values of this type are the same in another one, which only has more room.
    fn widens_to(self, oid: u32, typmod: i32) -> bool {
        let places = |typmod: i32| (typmod - 4) & 0xffff;
        match (self.0, oid) {
            (VARCHAR, TEXT) => true,
            (VARCHAR, VARCHAR) => self.1 >= 0 && (typmod < 0 || typmod > self.1),
            (NUMERIC, NUMERIC) => {
                self.1 >= 0 && (typmod < 0 || (places(typmod) == places(self.1) && typmod > self.1))
            }
            _ => false,
        }
    }
}

/// Returns a digest of what a contract asks of a column by which a value may be set aside; `None`: it asks nothing
/// that a value of the column could break.
fn rule(field: &Field, key: bool, ty: &PgType) -> Option<String> {
    let mut rule = String::new();
    // Neither that NULL is allowed from now on nor another label shows in the stream, so the column vouches for neither.
    if !field.nullable && !key {
        rule.push_str("not null;");
    }
    if ty.fit(&field.ty) != Fit::Whole || matches!(field.ty, Type::Enum { .. } | Type::Array(_)) {
        rule.push_str(&field.ty.name());
    }
    for check in field.checks.iter().filter(|check| !matches!(check, Check::Pattern { .. })) {
        rule.push_str(&format!(";{}", serde_json::to_string(check).expect("a check is plain JSON")));
    }
    if rule.is_empty() {
        return None;
    }
    let digest = Sha256::digest(rule.as_bytes());
    Some(hexadecimal::text(&digest[..8]))
}

/// Returns the rules of a contract over columns as they are.
fn rules<'a>(contract: &'a Contract, ty: impl Fn(&str) -> Option<&'a PgType>) -> BTreeMap<String, String> {
    let fields = contract.fields.iter().enumerate();
    let rules = fields.filter_map(|(i, field)| {
        let rule = rule(field, contract.is_key(i), ty(field.column())?)?;
        Some((field.column().to_owned(), rule))
    });
    rules.collect()
}

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
            file: live.file,
            rules: rules(contract, |column| live.column(column).map(|column| &column.ty)),
        }
    }

    /// States whether the rows stand in the same files as those of `now`: none was written anew.
    fn in_files_of(&self, now: &Self) -> bool {
        match (self.file, now.file) {
            (Some(before), Some(now)) => before == now,
            (None, None) => self.leaves.is_some() && self.leaves == now.leaves,
            _ => false,
        }
    }

    /// Returns what is noted of a table that is like `now`, when what was read of this stands for it.
    ///
    /// The stream may still have to tell that a column is wider, and shows the narrower one until then.
    pub(crate) fn followed_by(self, now: Self) -> Self {
        if self.in_files_of(&now) { Self { columns: self.columns, ..now } } else { now }
    }

    /// Returns what is noted once the stream has told a relation of which some columns are only wider than those that
    /// were read, in the files in which the rows of `now` stand; `None`: there is another difference.
    pub(crate) fn widened<'a>(
        &self,
        contract: &'a Contract,
        relation: &Relation,
        types: &'a [(&str, PgType)],
        now: &Self,
    ) -> Option<Self> {
        if self.oid != relation.oid || !self.in_files_of(now) {
            return None;
        }
        let mut columns = self.columns.clone();
        for column in &relation.columns {
            let Some(typed) = columns.get_mut(&column.name) else { continue };
            if (typed.0, typed.1) != (column.type_oid, column.typmod)
                && !typed.widens_to(column.type_oid, column.typmod)
            {
                return None;
            }
            (typed.0, typed.1) = (column.type_oid, column.typmod);
        }
        let ty = |name: &str| types.iter().find(|(column, _)| *column == name).map(|(_, ty)| ty);
        Some(Self { columns, rules: rules(contract, ty), ..self.clone() })
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
            Some(before) if before == typed => None,
            Some(before)
                if before.2 == typed.2 && before.widens_to(typed.0, typed.1) && self.in_files_of(now) =>
            {
                None
            }
            Some(_) => Some(format!("the type of the column `{name}` is another")),
        });
        let column = column.or_else(|| self.outgrown_by_leaves(now.leaves.as_ref()));
        // What may have been set aside by what the contract no longer asks. What it asks more holds from the next row on.
        let loosened = || {
            let asked = |name: &String| now.columns.contains_key(name);
            let mut rules = self.rules.iter().filter(|(name, _)| asked(name));
            let (name, _) = rules.find(|(name, rule)| now.rules.get(*name) != Some(rule))?;
            Some(format!("the contract asks something else of the column `{name}`"))
        };
        column.or_else(loosened)
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
