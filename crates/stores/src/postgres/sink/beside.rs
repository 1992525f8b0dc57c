//! The table that a lane fills while the rows that it has written before are served, and how it takes their place.
//!
//! Knows the two tables of a lane; nothing of batches, nor of when the lane has come far enough
//! (`hutong_core::beside`).

use hutong_core::{Checkpoint, Class, Contract, Error, ErrorKind, Result};
use sha2::{Digest, Sha256};
use tokio_postgres::Client;

use super::catalog::{self, LANE, Table};
use super::column::Catalog;
use super::pool::{HURRIED, UNHURRIED};
use super::{gone, room};
use crate::postgres::error;
use crate::postgres::ident::{TableName, quote};

/// What ends the filling beside: the table that is served, and the contracts of what was filled.
pub(super) struct Put<'a> {
    pub(super) table: &'a TableName,
    /// What the opening of the lane has made sure of in that table.
    pub(super) had: Option<&'a Contract>,
    pub(super) contracts: Vec<&'a Contract>,
}

/// Returns the table that a lane fills beside the one that is served, in Hutong's own schema.
pub(super) fn table(lane: &str) -> TableName {
    // A name of PostgreSQL has 63 bytes, and is cut without a word.
    let digest = hutong_core::hexadecimal::text(&Sha256::digest(lane.as_bytes()));
    TableName { schema: "hutong".into(), table: format!("beside_{}", &digest[..32]) }
}

/// Returns the table that a lane writes that stands here.
pub(super) fn written(lane: &str, served: &TableName, checkpoint: &Checkpoint) -> TableName {
    if checkpoint.serves() { table(lane) } else { served.clone() }
}

/// States whether a table has rows of a lane that can be served while it is filled anew: not of a department's own, which
/// takes no second one beside it, nor where the role may make no table.
pub(super) async fn can(client: &Client, served: &TableName, lane: &str) -> Result<bool> {
    let Some(found) = catalog::read(client, served).await? else { return Ok(false) };
    if !found.created_by_hutong() {
        return Ok(false);
    }
    let sql = format!(
        "SELECT has_schema_privilege('hutong', 'CREATE') AND EXISTS (SELECT FROM {served} WHERE {LANE} = $1)"
    );
    let row = client.query_one(&sql, &[&lane]).await;
    Ok(row.map_err(|e| error::of(e, || format!("look for rows of {lane} in {}", served.plain())))?.get(0))
}

/// Removes what a lane has filled beside.
pub(super) async fn remove(client: &Client, lane: &str) -> Result<()> {
    let sql = format!("DROP TABLE IF EXISTS {}", table(lane));
    client.batch_execute(&sql).await.map_err(|e| error::of(e, || format!("remove what {lane} fills beside")))
}

/// Puts what a lane has filled in the place of what it serves, in the transaction of the commit that has come so far (I2):
/// who reads the table sees the one or the other.
///
/// `Err(Refused)` and others that no waiting cures: the table does not take all of it at once.
pub(super) async fn put(client: &Client, lane: &str, to: &Put<'_>) -> Result<()> {
    let (served, filled) = (to.table, table(lane));
    let failed = |e| error::of(e, || doing(lane, served));
    room::alone(client, served).await?;
    // I3: made again here, the table would lack what the other lanes have written.
    gone::check(client, served, to.had).await?;
    client.batch_execute(UNHURRIED).await.map_err(failed)?;
    for contract in &to.contracts {
        room::make(client, served, contract).await?;
    }
    let sql = format!("DELETE FROM {served} WHERE {LANE} = $1");
    client.execute(&sql, &[&lane]).await.map_err(failed)?;
    // Without a single row there was no contract to make it for.
    if let Some(from) = catalog::read(client, &filled).await? {
        let there = catalog::read(client, served).await?;
        let columns = common(&from, there.as_ref());
        // I6: as it stands, without a cast that could cut or round.
        if let Some(column) = there.as_ref().and_then(|there| unlike(&from, there)) {
            let why = format!("its column {column} is of a type into which values would be cast");
            return Err(Error::new(ErrorKind::Refused, doing(lane, served), why));
        }
        let sql = format!("INSERT INTO {served} ({columns}) SELECT {columns} FROM {filled}");
        let written = client.execute(&sql, &[]).await.map_err(failed)?;
        let all = client.query_one(&format!("SELECT count(*) FROM {filled}"), &[]).await.map_err(failed)?;
        if written.cast_signed() != all.get::<_, i64>(0) {
            return Err(Error::new(
                ErrorKind::Refused,
                doing(lane, served),
                "a trigger of the table skips rows",
            ));
        }
        remove(client, lane).await?;
    }
    // What waits for the commit decides now, when it can still be told from a row of the batch.
    let decide = format!("SET CONSTRAINTS ALL IMMEDIATE; {HURRIED}");
    client.batch_execute(&decide).await.map_err(failed)
}

fn doing(lane: &str, served: &TableName) -> String {
    format!("put what {lane} has filled anew in its place in {}", served.plain())
}

/// Returns the columns that both have: one that is granted no more stays empty.
fn common(from: &Table, there: Option<&Table>) -> String {
    let has = |name: &str| there.and_then(|there| there.column(name)).is_some_and(|column| !column.generated);
    let names = from.columns.iter().filter(|column| has(&column.name)).map(|column| quote(&column.name));
    names.collect::<Vec<_>>().join(", ")
}

/// Returns a column that is of another type in the one table than in the other, and not merely a wider one: that the
/// other has room for each value has been looked at.
fn unlike<'a>(from: &'a Table, there: &Table) -> Option<&'a str> {
    let alike = |from: &Catalog, there: &Catalog| {
        let names = (from.base.name.as_str(), there.base.name.as_str());
        let wider = matches!(names, ("int2", "int4" | "int8") | ("int4", "int8") | ("varchar", "text"));
        let kind = |column: &Catalog| (column.base.builtin, column.base.array);
        kind(from) == kind(there) && (names.0 == names.1 || wider)
    };
    let other = |column: &&Catalog| there.column(&column.name).is_some_and(|there| !alike(column, there));
    from.columns.iter().find(other).map(|column| column.name.as_str())
}

/// States whether waiting cures what has kept it from its place.
pub(super) fn passes(problem: &Error) -> bool {
    problem.class() == Class::Retry
}

/// Notes that a lane starts anew in its place when it opens next: its table does not take all of it at once, and of row
/// by row it can be told what it refuses.
///
/// Returns the error that says so.
pub(super) async fn give_up(
    client: &Client,
    lane: &str,
    epoch: i64,
    served: &TableName,
    problem: &Error,
) -> Error {
    // Without what its rows were granted as, nothing of them is served on.
    let sql = r#"UPDATE hutong.hutong_lane SET "grant" = $3, "position" = "position" #- $4::text[]
                  WHERE lane = $1 AND epoch = $2"#;
    let note = ["notes", hutong_core::grant::NOTE];
    match client.execute(sql, &[&lane, &epoch, &crate::steered::NOBODYS, &&note[..]]).await {
        Err(e) => error::of(e, || doing(lane, served)),
        Ok(0) => Error::new(ErrorKind::Fenced, doing(lane, served), "another owner has taken the lane over"),
        Ok(_) => Error::new(ErrorKind::Unavailable, doing(lane, served), problem.why())
            .hint("it is filled anew row by row instead, and the replica shows a part until then"),
    }
}
