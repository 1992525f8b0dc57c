//! The table of a contract: whether one that is there takes its rows, and the SQL that makes one.
//!
//! Knows a table as the catalog describes it, and contracts; asks no server.

use hutong_core::{Contract, Error, ErrorKind, Field, Result, Type};

use super::binary::Kind;
use super::catalog::{LANE, OFFSET, Table};
use super::column::{Catalog, declared, fit, widens};
use crate::postgres::ident::{TableName, literal, quote};

/// How rows of a contract are written into a table.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// The table.
    pub(super) table: TableName,
    /// One column a field, in the contract's order.
    pub(super) columns: Vec<Column>,
    /// Indexes into `columns` of the key.
    pub(super) key: Vec<usize>,
    /// Whether the table is the department's own: then a side table keeps where its rows come from.
    pub(super) own: bool,
}

impl Plan {
    /// States whether a row is its key and nothing else, so that one that is there already stays as it is.
    pub(super) fn key_only(&self) -> bool {
        self.own && self.columns.len() == self.key.len()
    }
}

/// A column that takes a field.
#[derive(Debug, Clone)]
pub(super) struct Column {
    /// Its name, not quoted.
    pub(super) name: String,
    /// Its declared type.
    pub(super) declared: String,
    /// How its values travel.
    pub(super) kind: Kind,
}

/// Plans for a table as it is; `Err(SchemaConflict)` when it cannot take the contract's rows exactly. It names
/// everything that is in the way, and its hint is one statement for all of it.
pub(super) fn check(name: &TableName, contract: &Contract, table: &Table) -> Result<Plan> {
    let mut columns = Vec::with_capacity(contract.fields.len());
    let mut faults = Faults::default();
    for field in &contract.fields {
        let Some(there) = table.column(field.column()) else {
            faults.alter(
                format!("it has no column {}", field.column()),
                format!("ADD COLUMN {} {}", quote(field.column()), declared(&field.ty)),
            );
            continue;
        };
        if there.generated {
            let why = format!("column {} is written by the database only", there.name);
            faults.add(why, format!("leave the column {} out of the subscription", there.name));
            continue;
        }
        let Some(kind) = fit(&field.ty, there) else {
            faults.alter(
                format!(
                    "column {} is {}, which cannot hold every {} of the contract exactly",
                    there.name,
                    there.declared,
                    field.ty.name()
                ),
                retype(there, &field.ty),
            );
            continue;
        };
        columns.push(Column { name: there.name.clone(), declared: there.declared.clone(), kind });
    }
    let own = !table.created_by_hutong();
    let ours = |column: &str| !own && (column == LANE || column == OFFSET);
    for column in &table.columns {
        let taken = contract.fields.iter().any(|f| f.column() == column.name) || ours(&column.name);
        if column.required && !column.filled && !column.generated && !taken {
            let why = format!("column {} takes no NULL, has no default, and nothing fills it", column.name);
            faults.add(why, format!("subscribe to the column {}, or give it a default", column.name));
        }
    }
    match_key(contract, table, &mut faults);
    match faults.whys.is_empty() {
        true => Ok(Plan { table: name.clone(), columns, key: contract.key.clone(), own }),
        false => Err(faults.conflict(name, contract)),
    }
}

/// Returns the part of an ALTER TABLE that gives a column the type of a field.
pub(super) fn retype(there: &Catalog, ty: &Type) -> String {
    let (column, ty_there) = (quote(&there.name), declared(ty));
    // What PostgreSQL does not cast by itself needs to be told how; where it does, telling changes nothing.
    let using = if widens(there, ty) { String::new() } else { format!(" USING {column}::{ty_there}") };
    format!("ALTER COLUMN {column} TYPE {ty_there}{using}")
}

/// States whether the table finds a row by exactly the contract's key.
fn match_key(contract: &Contract, table: &Table, faults: &mut Faults) {
    let mut key: Vec<&str> = contract.key_fields().map(Field::column).collect();
    key.sort_unstable();
    // I6: two rows of the stream whose keys are one to the store would overwrite each other.
    let mut wide = |what: String| {
        faults.add(
            format!("{what}, which takes different keys for one"),
            "give the key a type and a collation that tell every key from another: text COLLATE \"C\"".into(),
        );
    };
    for there in key.iter().filter_map(|column| table.column(column)) {
        if let Some(folds) = there.folds() {
            wide(format!("the key column {} is {folds}", there.name));
        }
    }
    let mut found = false;
    for index in &table.keys {
        let mut there: Vec<&str> = index.columns.iter().map(String::as_str).collect();
        there.sort_unstable();
        if there != key {
            continue;
        }
        found = true;
        if let Some(folding) = &index.folding {
            wide(format!("a unique index on ({}) is collated by {folding}", key.join(", ")));
        }
    }
    if !found {
        let columns: Vec<String> = contract.key_fields().map(|f| quote(f.column())).collect();
        faults.alter(
            format!("it has no primary key or unique index on exactly ({})", key.join(", ")),
            format!("ADD UNIQUE ({})", columns.join(", ")),
        );
    }
}

/// What keeps a table from taking a contract's rows.
#[derive(Default)]
struct Faults {
    whys: Vec<String>,
    /// The parts of the ALTER TABLE that mends them.
    alters: Vec<String>,
    /// What else a person may do.
    words: Vec<String>,
}

impl Faults {
    fn alter(&mut self, why: String, alter: String) {
        self.whys.push(why);
        self.alters.push(alter);
    }

    fn add(&mut self, why: String, words: String) {
        self.whys.push(why);
        if !self.words.contains(&words) {
            self.words.push(words);
        }
    }

    fn conflict(mut self, name: &TableName, contract: &Contract) -> Error {
        if !self.alters.is_empty() {
            self.words.insert(0, format!("ALTER TABLE {name} {}", self.alters.join(", ")));
        }
        let doing = format!("fit {} into {}", contract.stream, name.plain());
        Error::new(ErrorKind::SchemaConflict, doing, self.whys.join("; ")).hint(self.words.join("; "))
    }
}

/// Returns the SQL that creates the table; its only constraint is the key.
pub(super) fn create(name: &TableName, contract: &Contract) -> String {
    let columns: String =
        contract.fields.iter().map(|f| format!("{} {}, ", quote(f.column()), declared(&f.ty))).collect();
    let key: Vec<String> = contract.key_fields().map(|f| quote(f.column())).collect();
    let mut sql = format!(
        "CREATE TABLE {name} ({columns}{LANE} text NOT NULL, {OFFSET} bigint, PRIMARY KEY ({}));",
        key.join(", ")
    );
    sql.push_str(&format!("COMMENT ON TABLE {name} IS {};", literal(contract.title())));
    sql.push_str(&format!("COMMENT ON COLUMN {name}.{LANE} IS 'the lane of Hutong that wrote the row';"));
    sql.push_str(&format!("COMMENT ON COLUMN {name}.{OFFSET} IS 'the offset of the change in its topic';"));
    for field in &contract.fields {
        sql.push_str(&comment(name, field));
    }
    sql
}

/// Returns the SQL that adds a column.
pub(super) fn grow(name: &TableName, field: &Field) -> String {
    format!("ALTER TABLE {name} ADD COLUMN {} {};", quote(field.column()), declared(&field.ty))
        + &comment(name, field)
}

fn comment(name: &TableName, field: &Field) -> String {
    format!("COMMENT ON COLUMN {name}.{} IS {};", quote(field.column()), literal(field.title()))
}
