//! What a store says of its lanes and tables, for status and for checks.
//!
//! Knows the schema `hutong` and one count; changes nothing.

use std::collections::BTreeMap;

use hutong_core::{Checkpoint, Error, ErrorKind, Result, Secret};
use tokio_postgres::types::Json;

use super::catalog::{self, LANE};
use super::quarantine;
use crate::postgres::connect;
use crate::postgres::error;
use crate::postgres::ident::TableName;

/// A lane as its store knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Stand {
    /// The lane's name.
    pub lane: String,
    /// The table that it writes.
    pub table: String,
    /// Where it stands.
    pub checkpoint: Checkpoint,
    /// How often it was taken over.
    pub epoch: i64,
    /// The digest of the grant.
    pub grant: String,
    /// When it committed last, as text.
    pub changed: String,
    /// How many changes of it wait in the quarantine.
    pub waiting: i64,
}

/// Returns the lanes of a store, by name; none when Hutong has never written into it.
pub async fn lanes(url: &Secret) -> Result<Vec<Stand>> {
    let session = connect::open(url, "status").await?;
    if !quarantine::there(&session).await? {
        return Ok(Vec::new());
    }
    let doing = || "read the lanes of the store".to_owned();
    let rows = session
        .query(
            r#"SELECT lane, table_name, "position", epoch, "grant", changed::text,
                      (SELECT count(*) FROM hutong.hutong_quarantine q WHERE q.lane = l.lane AND q.state = 'waiting')
                 FROM hutong.hutong_lane l ORDER BY lane"#,
            &[],
        )
        .await
        .map_err(|e| error::of(e, doing))?;
    rows.iter()
        .map(|row| {
            let Json(checkpoint) =
                row.try_get(2).map_err(|e| Error::caused(ErrorKind::Broken, doing(), e))?;
            Ok(Stand {
                lane: row.get(0),
                table: row.get(1),
                checkpoint,
                epoch: row.get(3),
                grant: row.get(4),
                changed: row.get(5),
                waiting: row.get(6),
            })
        })
        .collect()
}

/// Returns how many rows of a table (`schema.table`) each lane has written.
pub async fn rows_of(url: &Secret, table: &str) -> Result<BTreeMap<String, u64>> {
    let name = TableName::parse(table)?;
    let session = connect::open(url, "count").await?;
    let failed = |e| error::of(e, || format!("count the rows of {}", name.plain()));
    let Some(found) = catalog::read(&session, &name).await? else { return Ok(BTreeMap::new()) };
    let rows = if found.created_by_hutong() {
        session
            .query(&format!("SELECT {LANE}, count(*) FROM {name} WHERE {LANE} IS NOT NULL GROUP BY 1"), &[])
            .await
    } else {
        let sql = "SELECT lane, count(*) FROM hutong.hutong_row WHERE table_name = $1 GROUP BY 1";
        session.query(sql, &[&name.to_string()]).await
    };
    let rows = rows.map_err(failed)?;
    Ok(rows.iter().map(|row| (row.get(0), row.get::<_, i64>(1).unsigned_abs())).collect())
}

/// Returns how many rows a table (`schema.table`) has.
pub async fn count(url: &Secret, table: &str) -> Result<u64> {
    let name = TableName::parse(table)?;
    let session = connect::open(url, "count").await?;
    let row = session
        .query_one(&format!("SELECT count(*) FROM {name}"), &[])
        .await
        .map_err(|e| error::of(e, || format!("count {}", name.plain())))?;
    Ok(row.get::<_, i64>(0).unsigned_abs())
}
