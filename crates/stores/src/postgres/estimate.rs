//! About how many rows a table has, as the server's statistics say: nothing is counted.

use hutong_core::{Result, Secret};

use super::ident::TableName;
use super::{connect, error};

/// Returns about how many rows a table has, its partitions included; `None` before anybody has analysed it, or when there
/// is none of this name.
pub async fn estimate(url: &Secret, table: &str) -> Result<Option<u64>> {
    let table = TableName::parse(table)?;
    let session = connect::open(url, "estimate").await?;
    // Of a partitioned table the server counts the leaves.
    let sql = "SELECT sum(c.reltuples)::float8, min(c.reltuples)::float8
                 FROM pg_class t JOIN pg_namespace n ON n.oid = t.relnamespace,
                      pg_partition_tree(t.oid) l JOIN pg_class c ON c.oid = l.relid
                WHERE n.nspname = $1 AND t.relname = $2 AND l.isleaf";
    let row = session
        .query_one(sql, &[&table.schema, &table.table])
        .await
        .map_err(|e| error::of(e, || format!("ask how many rows {} has", table.plain())))?;
    let (all, least): (Option<f64>, Option<f64>) = (row.get(0), row.get(1));
    Ok(all.filter(|_| least.is_some_and(|least| least >= 0.0)).map(|all| all as u64))
}
