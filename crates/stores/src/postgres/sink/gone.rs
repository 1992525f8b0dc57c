//! Finds what somebody has dropped of a replica, and has the lanes begin anew whose rows or values went with it.
//!
//! Knows the catalog and where lanes stand; which of them are struck is `crate::gone`'s to say.

use hutong_core::{Checkpoint, Contract, Field, Result};
use tokio_postgres::Client;
use tokio_postgres::types::Json;

use super::{catalog, room};
use crate::gone::{self, Gone};
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

/// Has every lane begin anew whose table is not there any more, in a transaction of its own: what an opening then cannot do
/// must not undo it (I3).
///
/// `Err(SchemaConflict)` when it was a department's own, of which the side table tells.
pub(super) async fn begin(client: &mut Client, table: &TableName, contract: Option<&Contract>) -> Result<()> {
    if look(client, table, contract).await? != Gone::Table {
        return Ok(());
    }
    let failed = |e| error::of(e, || format!("have the lanes of {} begin anew", table.plain()));
    let tx = client.transaction().await.map_err(failed)?;
    room::alone(tx.client(), table).await?;
    // Another lane may have made it meanwhile.
    if look(tx.client(), table, contract).await? != Gone::Table {
        return Ok(());
    }
    strike(tx.client(), table, "", &Gone::Table).await?;
    let sql = "SELECT EXISTS (SELECT FROM hutong.hutong_row WHERE table_name = $1)";
    let own: bool = tx.query_one(sql, &[&table.to_string()]).await.map_err(failed)?.get(0);
    tx.commit().await.map_err(failed)?;
    if own { Err(gone::own(&table.plain())) } else { Ok(()) }
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
        // One that cannot be read is its own lane's fault to tell, and keeps no other from its rows.
        let Ok(Json(mut checkpoint)) = row.try_get::<_, Json<Checkpoint>>(1) else {
            tracing::warn!(lane = other, table = %table.plain(), "its checkpoint cannot be read: it is left");
            continue;
        };
        let Some(why) = gone.strikes(&checkpoint, &mark) else { continue };
        let epoch = checkpoint.turn(before);
        let sql =
            r#"UPDATE hutong.hutong_lane SET epoch = $2, "position" = $3, "grant" = $4 WHERE lane = $1"#;
        client.execute(sql, &[&other, &epoch, &Json(&checkpoint), &NOBODYS]).await.map_err(failed)?;
        tracing::warn!(lane = other, table = %table.plain(), why, "somebody has dropped it: it begins anew");
    }
    Ok(())
}
