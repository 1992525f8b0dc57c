//! Finds what somebody has dropped of a replica, and has the lanes begin anew whose rows or values went with it.
//!
//! Knows the catalog and where lanes stand; which of them are struck is `crate::gone`'s to say.

use hutong_core::{Checkpoint, Contract, Error, ErrorKind, Field, Result};
use tokio_postgres::Client;
use tokio_postgres::types::Json;

use super::catalog;
use crate::gone::Gone;
use crate::postgres::error;
use crate::postgres::ident::TableName;
use crate::steered::NOBODYS;

/// Looks what a table lacks of a contract that Hutong would make by itself; without a contract nobody knows.
pub(super) async fn look(client: &Client, name: &TableName, contract: Option<&Contract>) -> Result<Gone> {
    let Some(contract) = contract else { return Ok(Gone::Nothing) };
    let Some(table) = catalog::read(client, name).await? else { return Ok(Gone::Table) };
    let fields = contract.fields.iter().filter(|_| table.created_by_hutong());
    let lacking = fields.map(Field::column).filter(|column| table.column(column).is_none());
    Ok(Gone::of(lacking.map(str::to_owned).collect()))
}

/// `Err(Unavailable)` when a table has lost what the opening of a lane has made sure of.
pub(super) async fn check(client: &Client, name: &TableName, had: Option<&Contract>) -> Result<()> {
    look(client, name, had).await?.refused(&name.plain())
}

/// Has the other lanes begin anew that have lost something, in the transaction that makes it again (I2, I3). Whoever runs
/// them is shut out and opens them again.
pub(super) async fn strike(client: &Client, table: &TableName, lane: &str, gone: &Gone) -> Result<()> {
    let failed = |e| error::of(e, || format!("have the other lanes of {} begin anew", table.plain()));
    let sql = r#"SELECT lane, "position", epoch, "grant" FROM hutong.hutong_lane
                  WHERE table_name = $1 AND lane <> $2 ORDER BY lane FOR UPDATE"#;
    let rows = client.query(sql, &[&table.to_string(), &lane]).await.map_err(failed)?;
    for row in rows {
        let (other, before, mark): (String, i64, String) = (row.get(0), row.get(2), row.get(3));
        let Json(mut checkpoint) = row
            .try_get::<_, Json<Checkpoint>>(1)
            .map_err(|e| Error::caused(ErrorKind::Broken, format!("read the checkpoint of {other}"), e))?;
        let Some(why) = gone.strikes(&checkpoint, &mark) else { continue };
        let epoch = checkpoint.turn(before);
        let sql =
            r#"UPDATE hutong.hutong_lane SET epoch = $2, "position" = $3, "grant" = $4 WHERE lane = $1"#;
        client.execute(sql, &[&other, &epoch, &Json(&checkpoint), &NOBODYS]).await.map_err(failed)?;
        tracing::warn!(lane = other, table = %table.plain(), why, "somebody has dropped it: it begins anew");
    }
    Ok(())
}
