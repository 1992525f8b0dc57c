//! Makes room for a contract: creates the table, lets one that Hutong created grow, checks a department's own.
//!
//! Knows tables and contracts; nothing of rows, lanes or checkpoints.

use hutong_core::{Contract, Error, ErrorKind, Field, Result};
use tokio_postgres::Client;

use super::binary::Kind;
use super::catalog::{self, LANE, OFFSET, Table};
use super::column::{declared, fit};
use crate::postgres::error;
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

/// Creates, extends or checks the table of a contract. Idempotent, and safe beside other lanes.
///
/// I6: `Err(SchemaConflict)` names the column and both types rather than losing a digit.
pub(super) async fn prepare(client: &mut Client, name: &TableName, contract: &Contract) -> Result<Plan> {
    let doing = || format!("prepare {} for {}", name.plain(), contract.stream);
    let failed = |e| error::of(e, doing);
    let tx = client.transaction().await.map_err(failed)?;
    // By schema and before anything is looked up: lanes of two tables may both find that their schema is missing,
    // and IF NOT EXISTS alone does not keep them apart.
    tx.execute("SELECT pg_advisory_xact_lock(hashtextextended('hutong ' || $1, 0))", &[&name.schema])
        .await
        .map_err(failed)?;
    let table = match catalog::read(tx.client(), name).await? {
        Some(table) => table,
        None => {
            // Asked first, since IF NOT EXISTS wants the privilege to create also where the schema exists.
            let there = "SELECT to_regnamespace(quote_ident($1)) IS NOT NULL";
            if !tx.query_one(there, &[&name.schema]).await.map_err(failed)?.get::<_, bool>(0) {
                let sql = format!("CREATE SCHEMA IF NOT EXISTS {}", quote(&name.schema));
                tx.batch_execute(&sql).await.map_err(failed)?;
            }
            tx.batch_execute(&create(name, contract)).await.map_err(failed)?;
            catalog::read(tx.client(), name).await?.ok_or_else(|| {
                Error::new(ErrorKind::Broken, doing(), "the table is not there after it was created")
            })?
        }
    };
    let missing: Vec<&Field> =
        contract.fields.iter().filter(|f| table.column(f.column()).is_none()).collect();
    let table = match missing.first() {
        None => table,
        Some(_) if table.created_by_hutong() => {
            let sql: String = missing.iter().map(|f| grow(name, f)).collect();
            tx.batch_execute(&sql).await.map_err(failed)?;
            catalog::read(tx.client(), name).await?.unwrap_or(table)
        }
        Some(field) => {
            return Err(conflict(name, contract, format!("it has no column {}", field.column())).hint(
                format!(
                    "add it: ALTER TABLE {name} ADD COLUMN {} {}",
                    quote(field.column()),
                    declared(&field.ty)
                ),
            ));
        }
    };
    let plan = check(name, contract, &table)?;
    tx.commit().await.map_err(failed)?;
    Ok(plan)
}

/// Plans for a table as it is; `Err(SchemaConflict)` when it cannot take the contract's rows exactly.
pub(super) fn check(name: &TableName, contract: &Contract, table: &Table) -> Result<Plan> {
    let mut columns = Vec::with_capacity(contract.fields.len());
    for field in &contract.fields {
        let there = table
            .column(field.column())
            .ok_or_else(|| conflict(name, contract, format!("it has no column {}", field.column())))?;
        if there.generated {
            let why = format!("column {} is written by the database only", there.name);
            return Err(conflict(name, contract, why).hint("leave the column out of the subscription"));
        }
        let kind = fit(&field.ty, there).ok_or_else(|| {
            let why = format!(
                "column {} is {}, which cannot hold every {} of the contract exactly",
                there.name,
                there.declared,
                field.ty.name()
            );
            conflict(name, contract, why).hint(format!(
                "widen it: ALTER TABLE {name} ALTER COLUMN {} TYPE {}",
                quote(&there.name),
                declared(&field.ty)
            ))
        })?;
        columns.push(Column { name: there.name.clone(), declared: there.declared.clone(), kind });
    }
    let own = !table.created_by_hutong();
    let ours = |column: &str| !own && (column == LANE || column == OFFSET);
    for column in &table.columns {
        let taken = columns.iter().any(|c| c.name == column.name) || ours(&column.name);
        if column.required && !column.filled && !column.generated && !taken {
            let why = format!("column {} takes no NULL, has no default, and nothing fills it", column.name);
            return Err(conflict(name, contract, why).hint("subscribe to the column, or give it a default"));
        }
    }
    let mut key: Vec<&str> = contract.key_fields().map(Field::column).collect();
    key.sort_unstable();
    // I6: two rows of the stream whose keys are one to the store would overwrite each other.
    let wide = |what: String| {
        let why = format!("{what}, which takes different keys for one");
        conflict(name, contract, why)
            .hint("give the key a type and a collation that tell every key from another: text COLLATE \"C\"")
    };
    for there in key.iter().filter_map(|column| table.column(column)) {
        if let Some(folds) = there.folds() {
            return Err(wide(format!("the key column {} is {folds}", there.name)));
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
            return Err(wide(format!("a unique index on ({}) is collated by {folding}", key.join(", "))));
        }
    }
    if !found {
        let why = format!("it has no primary key or unique index on exactly ({})", key.join(", "));
        return Err(conflict(name, contract, why).hint("a row is found again by the contract's key"));
    }
    Ok(Plan { table: name.clone(), columns, key: contract.key.clone(), own })
}

fn conflict(name: &TableName, contract: &Contract, why: String) -> Error {
    Error::new(ErrorKind::SchemaConflict, format!("fit {} into {}", contract.stream, name.plain()), why)
}

/// Returns the SQL that creates the table; its only constraint is the key.
fn create(name: &TableName, contract: &Contract) -> String {
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

fn grow(name: &TableName, field: &Field) -> String {
    format!("ALTER TABLE {name} ADD COLUMN {} {};", quote(field.column()), declared(&field.ty))
        + &comment(name, field)
}

fn comment(name: &TableName, field: &Field) -> String {
    format!("COMMENT ON COLUMN {name}.{} IS {};", quote(field.column()), literal(field.title()))
}
