//! What PostgreSQL's catalog says of a table: columns, keys, replica identity.
//!
//! Knows nothing of contracts; `fit.rs` compares the two.

use std::collections::HashMap;

use hutong_core::Result;
use tokio_postgres::{Client, Row};

use super::column::PgType;
use super::error;
use super::ident::TableName;

/// A column of a table that exists.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) ty: PgType,
    /// The numbers of its type, of the type's modifier and of the collation.
    pub(crate) type_oid: u32,
    pub(crate) typmod: i32,
    pub(crate) collation: u32,
    /// The type as SQL writes it, for casts.
    pub(crate) sql_type: String,
    pub(crate) not_null: bool,
    pub(crate) generated: Generated,
    pub(crate) comment: Option<String>,
}

/// Whether the server computes a column, and whether it keeps the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Generated {
    No,
    Stored,
    /// Computed when it is read; the log never holds it.
    Virtual,
}

/// A set of columns that identifies a row: unique, NOT NULL, not deferrable, not partial.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    /// The columns, in the order of the index.
    pub(crate) columns: Vec<String>,
    pub(crate) primary: bool,
}

/// What of an old row the server writes into its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Identity {
    /// Nothing.
    Nothing,
    /// These columns.
    Columns(Vec<String>),
    /// The whole row.
    Full,
}

/// A table that exists.
#[derive(Debug, Clone)]
pub(crate) struct Live {
    pub(crate) oid: u32,
    pub(crate) name: TableName,
    pub(crate) columns: Vec<Column>,
    pub(crate) keys: Vec<Key>,
    /// The identity of the table, and of its partitions when it has any: one each that differs.
    pub(crate) identities: Vec<Identity>,
    pub(crate) comment: Option<String>,
    /// An estimate of the number of rows; `None` before the first ANALYZE.
    pub(crate) estimate: Option<u64>,
    /// Whether it is an ordinary or a partitioned table that the log holds.
    pub(crate) table: bool,
    pub(crate) partitioned: bool,
    /// Whether the role may read every row of it.
    pub(crate) readable: bool,
    /// Whether the role may do what only the owner may, as to publish it.
    pub(crate) owned: bool,
    /// A digest of the partitions and their files, of a partitioned table.
    pub(crate) leaves: Option<String>,
    /// The number of the file that holds the rows, of any other table.
    pub(crate) file: Option<u32>,
}

impl Live {
    /// Returns the table for a FROM: without the tables that inherit from it, which are tables of their own.
    pub(crate) fn only(&self) -> String {
        if self.partitioned { self.name.to_string() } else { format!("ONLY {}", self.name) }
    }

    /// Returns why it is not captured when the role may not read it.
    pub(crate) fn unreadable(&self) -> Option<String> {
        (!self.readable)
            .then(|| format!("the role may not read {}, or not every row of it", self.name.plain()))
    }

    /// Returns a column by name.
    pub(crate) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Returns the key that consists of exactly these columns, in any order.
    pub(crate) fn key_of(&self, columns: &[&str]) -> Option<&Key> {
        self.keys.iter().find(|key| {
            key.columns.len() == columns.len() && columns.iter().all(|c| key.columns.iter().any(|k| k == c))
        })
    }
}

/// Resolved types by object identifier and modifier: a type's number never changes its meaning.
#[derive(Debug, Default)]
pub(crate) struct Types {
    known: HashMap<(u32, i32), Option<PgType>>,
}

struct TypeRow {
    typmod: i32,
    name: String,
    item: Option<u32>,
    labels: Option<Vec<String>>,
}

impl Types {
    /// Returns what a type is, domains resolved; `None` when it no longer exists.
    pub(crate) async fn resolve(&mut self, client: &Client, oid: u32, typmod: i32) -> Result<Option<PgType>> {
        if let Some(known) = self.known.get(&(oid, typmod)) {
            return Ok(known.clone());
        }
        let ty = match base(client, oid, typmod).await? {
            None => None,
            Some(row) => match row.item {
                None => Some(scalar(row)),
                Some(item) => base(client, item, row.typmod).await?.map(|item| {
                    PgType::Array(Box::new(match item.item {
                        // An array of a domain over an array.
                        Some(_) => PgType::Array(Box::new(scalar(item))),
                        None => scalar(item),
                    }))
                }),
            },
        };
        self.known.insert((oid, typmod), ty.clone());
        Ok(ty)
    }
}

fn scalar(row: TypeRow) -> PgType {
    match row.labels {
        Some(labels) => PgType::Enum { labels },
        None => PgType::Base { name: row.name, typmod: row.typmod },
    }
}

/// Follows domains to their base type.
async fn base(client: &Client, mut oid: u32, mut typmod: i32) -> Result<Option<TypeRow>> {
    const SQL: &str = "SELECT t.typname::text, t.typtype = 'd', t.typbasetype, t.typtypmod, \
          CASE WHEN e.typarray = t.oid THEN e.oid END, \
          CASE WHEN t.typtype = 'e' THEN array(SELECT enumlabel::text FROM pg_enum WHERE enumtypid = t.oid \
             ORDER BY enumsortorder) END \
        FROM pg_type t LEFT JOIN pg_type e ON e.oid = t.typelem WHERE t.oid = $1";
    loop {
        let row = client
            .query_opt(SQL, &[&oid])
            .await
            .map_err(|e| error::of(e, || format!("read what type {oid} is")))?;
        let Some(row) = row else { return Ok(None) };
        if row.get::<_, bool>(1) {
            // A domain's own modifier holds; a domain never has one from its column.
            typmod = row.get(3);
            oid = row.get(2);
            continue;
        }
        return Ok(Some(TypeRow { typmod, name: row.get(0), item: row.get(4), labels: row.get(5) }));
    }
}

/// Reads a table; `None` when there is none of this name.
pub(crate) async fn live(client: &Client, types: &mut Types, name: &TableName) -> Result<Option<Live>> {
    let doing = || format!("read the catalog entry of {}", name.plain());
    let table = client
        .query_opt(
            "SELECT c.oid, c.relkind IN ('r', 'p') AND c.relpersistence = 'p', c.reltuples::float8, \
               obj_description(c.oid, 'pg_class'), c.relkind = 'p', \
               has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') \
                 AND NOT row_security_active(c.oid), pg_has_role(c.relowner, 'USAGE'), c.relfilenode \
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2",
            &[&name.schema, &name.table],
        )
        .await
        .map_err(|e| error::of(e, doing))?;
    let Some(table) = table else { return Ok(None) };
    let oid: u32 = table.get(0);
    let tuples: f64 = table.get(2);

    let rows = client
        .query(
            "SELECT attname::text, atttypid, atttypmod, format_type(atttypid, atttypmod), attnotnull, \
               attgenerated::text, col_description(attrelid, attnum), attcollation \
             FROM pg_attribute WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
            &[&oid],
        )
        .await
        .map_err(|e| error::of(e, doing))?;
    let mut columns = Vec::with_capacity(rows.len());
    for row in rows {
        let ty = types.resolve(client, row.get(1), row.get(2)).await?;
        columns.push(Column {
            name: row.get(0),
            ty: ty.unwrap_or(PgType::Gone),
            type_oid: row.get(1),
            typmod: row.get(2),
            collation: row.get(7),
            sql_type: row.get(3),
            not_null: row.get(4),
            generated: match row.get(5) {
                "" => Generated::No,
                "s" => Generated::Stored,
                _ => Generated::Virtual,
            },
            comment: row.get(6),
        });
    }
    let keys = client.query(KEYS, &[&oid]).await.map_err(|e| error::of(e, doing))?;
    let keys = keys
        .iter()
        .filter(|row| row.get::<_, bool>(2))
        .map(|row| Key { columns: row.get(0), primary: row.get(1) })
        .collect();
    let partitioned = table.get(4);
    let leaves = if partitioned { leaves(client, &[oid]).await?.remove(&oid) } else { None };
    let identities = client.query(IDENTITIES, &[&oid]).await.map_err(|e| error::of(e, doing))?;
    Ok(Some(Live {
        oid,
        name: name.clone(),
        columns,
        keys,
        identities: identities.iter().map(identity).collect(),
        comment: table.get(3),
        estimate: (tuples >= 0.0).then_some(tuples as u64),
        table: table.get(1),
        partitioned,
        readable: table.get(5),
        owned: table.get(6),
        leaves,
        file: Some(table.get(7)).filter(|_| !partitioned),
    }))
}

/// Returns a digest of the partitions of each of some tables, and of the files that hold their rows.
///
/// A partition that comes, goes or is truncated leaves no trace in a stream that tells rows as their table's.
pub(crate) async fn leaves(client: &Client, tables: &[u32]) -> Result<HashMap<u32, String>> {
    const SQL: &str = "WITH RECURSIVE tree AS (SELECT r AS root, r AS relid FROM unnest($1::oid[]) r UNION ALL \
            SELECT tree.root, i.inhrelid FROM tree JOIN pg_partitioned_table p ON p.partrelid = tree.relid \
              JOIN pg_inherits i ON i.inhparent = tree.relid AND NOT i.inhdetachpending) \
        SELECT tree.root, left(encode(sha256(coalesce( \
            string_agg(c.oid || ':' || c.relfilenode, ',' ORDER BY c.oid), '')::bytea), 'hex'), 16) \
        FROM tree LEFT JOIN pg_class c ON c.oid = tree.relid AND c.relkind <> 'p' GROUP BY tree.root";
    let rows = client.query(SQL, &[&tables]).await;
    let rows = rows.map_err(|e| error::of(e, || "read the partitions of tables".to_owned()))?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

const KEYS: &str = "SELECT array_agg(a.attname::text ORDER BY k.n), i.indisprimary, bool_and(a.attnotnull) \
    FROM pg_index i CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, n) \
      JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum \
    WHERE i.indrelid = $1 AND i.indisunique AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL \
      AND i.indexprs IS NULL AND k.n <= i.indnkeyatts \
    GROUP BY i.indexrelid, i.indisprimary ORDER BY i.indisprimary DESC, i.indexrelid";

// The leaves decide, since an UPDATE of a partition is refused or logged by the partition's own identity. They are
// walked here, and not by `pg_partition_tree`, which waits for a lock on each.
const IDENTITIES: &str = "WITH RECURSIVE tree AS (SELECT $1::oid AS relid UNION ALL \
        SELECT i.inhrelid FROM tree JOIN pg_partitioned_table p ON p.partrelid = tree.relid \
          JOIN pg_inherits i ON i.inhparent = tree.relid) \
    SELECT DISTINCT c.relreplident = 'f', \
      CASE c.relreplident WHEN 'd' THEN cols.primary_key WHEN 'i' THEN cols.chosen END \
    FROM (SELECT relid FROM tree WHERE NOT EXISTS (SELECT FROM pg_partitioned_table WHERE partrelid = relid)) t \
      JOIN pg_class c ON c.oid = t.relid \
      CROSS JOIN LATERAL (SELECT \
        (SELECT array_agg(a.attname::text ORDER BY a.attname) FROM pg_index i JOIN pg_attribute a \
           ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) \
         WHERE i.indrelid = c.oid AND i.indisprimary AND i.indimmediate AND i.indisvalid) AS primary_key, \
        (SELECT array_agg(a.attname::text ORDER BY a.attname) FROM pg_index i JOIN pg_attribute a \
           ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) \
         WHERE i.indrelid = c.oid AND i.indisreplident AND i.indisvalid) AS chosen) cols";

fn identity(row: &Row) -> Identity {
    match (row.get::<_, bool>(0), row.get::<_, Option<Vec<String>>>(1)) {
        (true, _) => Identity::Full,
        (false, Some(columns)) => Identity::Columns(columns),
        (false, None) => Identity::Nothing,
    }
}
