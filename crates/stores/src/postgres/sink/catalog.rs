//! Reads what PostgreSQL's catalog says of a table.
//!
//! Knows system tables; nothing of contracts.

use hutong_core::{Error, ErrorKind, Result};
use tokio_postgres::Client;

use super::column::{Base, Catalog};
use crate::postgres::error;
use crate::postgres::ident::TableName;

/// A table as it stands.
#[derive(Debug, Clone)]
pub(super) struct Table {
    /// Its columns, in order.
    pub(super) columns: Vec<Catalog>,
    /// The indexes by which `ON CONFLICT` can find a row.
    pub(super) keys: Vec<Index>,
}

/// A unique index.
#[derive(Debug, Clone)]
pub(super) struct Index {
    /// Its columns.
    pub(super) columns: Vec<String>,
    /// A collation of it that takes different texts for one.
    pub(super) folding: Option<String>,
}

impl Table {
    /// Returns a column by its name.
    pub(super) fn column(&self, name: &str) -> Option<&Catalog> {
        self.columns.iter().find(|c| c.name == name)
    }

    /// States whether Hutong created it: its rows say which lane they come from.
    pub(super) fn created_by_hutong(&self) -> bool {
        self.column(LANE).is_some() && self.column(OFFSET).is_some()
    }
}

/// The column that names the lane of a row, in tables that Hutong created.
pub(super) const LANE: &str = "hutong_lane";
/// The column that names the offset of the change that a row comes from.
pub(super) const OFFSET: &str = "hutong_offset";

const COLUMNS: &str = "
    WITH RECURSIVE base AS (
        SELECT a.attnum, a.atttypid AS typ, a.atttypmod AS modifier, a.attnotnull AS required
          FROM pg_attribute a WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
        UNION ALL
        SELECT b.attnum, t.typbasetype, CASE WHEN b.modifier >= 0 THEN b.modifier ELSE t.typtypmod END,
               b.required OR t.typnotnull
          FROM base b JOIN pg_type t ON t.oid = b.typ WHERE t.typtype = 'd')
    SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), b.modifier, b.required,
           a.atthasdef OR a.attidentity <> '' AS filled, a.attgenerated <> '' OR a.attidentity = 'a' AS generated,
           t.typcategory = 'A' AND t.typelem <> 0 AS is_array,
           coalesce(i.typname, t.typname)::text, coalesce(i.oid, t.oid) < 16384 AS builtin,
           coalesce(i.typcategory, t.typcategory)::text,
           ARRAY(SELECT e.enumlabel::text FROM pg_enum e WHERE e.enumtypid = coalesce(i.oid, t.oid)),
           (SELECT c.collname::text FROM pg_collation c WHERE c.oid = a.attcollation AND NOT c.collisdeterministic)
      FROM base b JOIN pg_attribute a ON a.attrelid = $1 AND a.attnum = b.attnum
      JOIN pg_type t ON t.oid = b.typ AND t.typtype <> 'd'
      LEFT JOIN pg_type i ON i.oid = t.typelem AND t.typcategory = 'A'
     ORDER BY a.attnum";

const KEYS: &str = "
    SELECT ARRAY(SELECT a.attname::text FROM pg_attribute a
                  WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey[0:i.indnkeyatts - 1])),
           (SELECT min(c.collname::text) FROM pg_collation c
             WHERE c.oid = ANY (i.indcollation) AND NOT c.collisdeterministic)
      FROM pg_index i
     WHERE i.indrelid = $1 AND i.indisunique AND i.indimmediate AND i.indisvalid
       AND i.indpred IS NULL AND i.indexprs IS NULL";

/// Reads a table; `None` when it does not exist, `Err(SchemaConflict)` when it is not a table.
pub(super) async fn read(client: &Client, name: &TableName) -> Result<Option<Table>> {
    let doing = || format!("read the catalog of {}", name.plain());
    let found = client
        .query_opt(
            "SELECT c.oid, c.relkind::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
              WHERE n.nspname = $1 AND c.relname = $2",
            &[&name.schema, &name.table],
        )
        .await
        .map_err(|e| error::of(e, doing))?;
    let Some(found) = found else { return Ok(None) };
    let (oid, kind): (u32, String) = (found.get(0), found.get(1));
    if !matches!(kind.as_str(), "r" | "p") {
        return Err(Error::new(ErrorKind::SchemaConflict, doing(), "it is not a table")
            .hint("name a table: views, foreign tables and sequences cannot take a replica"));
    }
    let columns = client.query(COLUMNS, &[&oid]).await.map_err(|e| error::of(e, doing))?;
    let keys = client.query(KEYS, &[&oid]).await.map_err(|e| error::of(e, doing))?;
    Ok(Some(Table {
        columns: columns
            .iter()
            .map(|row| Catalog {
                name: row.get(0),
                declared: row.get(1),
                modifier: row.get(2),
                required: row.get(3),
                filled: row.get(4),
                generated: row.get(5),
                base: Base {
                    array: row.get(6),
                    name: row.get(7),
                    builtin: row.get(8),
                    category: row.get::<_, String>(9).chars().next().unwrap_or('U'),
                },
                labels: row.get(10),
                folding: row.get(11),
            })
            .collect(),
        keys: keys.iter().map(|row| Index { columns: row.get(0), folding: row.get(1) }).collect(),
    }))
}
