//! Makes room for a contract: creates the table, lets one that Hutong created grow, checks a department's own.
//!
//! Knows tables and contracts, and whose rows a table holds; nothing of checkpoints.

use hutong_core::{Contract, Error, ErrorKind, Field, LaneId, Result};
use tokio_postgres::Client;

use super::catalog::{self, LANE, Table};
use super::column::{Catalog, fit, widens};
use super::gone;
use super::pool::UNHURRIED;
use super::table::{self, Plan};
use crate::postgres::error;
use crate::postgres::ident::{TableName, quote};
use crate::steered::NOBODYS;

/// Creates, extends or checks the table of a contract. Idempotent, and safe beside other lanes.
///
/// I3: what the opening of the lane has made sure of, for the contract `had`, is not made again without its rows.
/// I6: `Err(SchemaConflict)` names the column and both types rather than losing a digit.
pub(super) async fn prepare(
    client: &mut Client,
    name: &TableName,
    contract: &Contract,
    had: Option<&Contract>,
) -> Result<Plan> {
    let failed = |e| error::of(e, || doing(name, contract));
    let tx = client.transaction().await.map_err(failed)?;
    alone(tx.client(), name).await?;
    gone::check(tx.client(), name, had).await?;
    let plan = make(tx.client(), name, contract).await?;
    tx.commit().await.map_err(failed)?;
    Ok(plan)
}

fn doing(name: &TableName, contract: &Contract) -> String {
    format!("prepare {} for {}", name.plain(), contract.stream)
}

/// Keeps the other lanes out of every table of the schema until the transaction ends.
///
/// By schema and before anything is looked up: lanes of two tables may both find that their schema is missing,
/// and IF NOT EXISTS alone does not keep them apart.
pub(super) async fn alone(client: &Client, name: &TableName) -> Result<()> {
    client
        .execute("SELECT pg_advisory_xact_lock(hashtextextended('hutong ' || $1, 0))", &[&name.schema])
        .await
        .map_err(|e| error::of(e, || format!("wait for who prepares a table beside {}", name.plain())))?;
    Ok(())
}

/// Makes room in a transaction in which the lane is [`alone`].
pub(super) async fn make(client: &Client, name: &TableName, contract: &Contract) -> Result<Plan> {
    let failed = |e| error::of(e, || doing(name, contract));
    let mut table = match catalog::read(client, name).await? {
        Some(table) => table,
        None => {
            // Asked first, since IF NOT EXISTS wants the privilege to create also where the schema exists.
            let there = "SELECT to_regnamespace(quote_ident($1)) IS NOT NULL";
            if !client.query_one(there, &[&name.schema]).await.map_err(failed)?.get::<_, bool>(0) {
                let sql = format!("CREATE SCHEMA IF NOT EXISTS {}", quote(&name.schema));
                client.batch_execute(&sql).await.map_err(failed)?;
            }
            client.batch_execute(&table::create(name, contract)).await.map_err(failed)?;
            catalog::read(client, name).await?.ok_or_else(|| {
                let why = "the table is not there after it was created";
                Error::new(ErrorKind::Broken, doing(name, contract), why)
            })?
        }
    };
    let sql = growth(name, contract, &table);
    if !sql.is_empty() {
        // A wider column may be written anew, however many rows it has.
        let grown = client.batch_execute(&format!("{UNHURRIED}; {sql}")).await;
        // A view over the column stands in the way, or the role does not own the table.
        grown.map_err(|e| failed(e).hint(format!("once nothing is in the way, its owner runs: {sql}")))?;
        table = catalog::read(client, name).await?.unwrap_or(table);
    }
    table::check(name, contract, &table)
}

/// Returns the SQL that lets a table that Hutong created take the contract's rows, as far as no value becomes another.
fn growth(name: &TableName, contract: &Contract, table: &Table) -> String {
    let sql = growing(contract, table).map(|(field, there)| match there {
        None => table::grow(name, field),
        Some(there) => format!("ALTER TABLE {name} {};", table::retype(there, &field.ty)),
    });
    sql.collect()
}

/// Returns the fields for which such a table makes room, each with the column that becomes wider.
pub(super) fn growing<'a>(
    contract: &'a Contract,
    table: &'a Table,
) -> impl Iterator<Item = (&'a Field, Option<&'a Catalog>)> {
    let fields = contract.fields.iter().filter(|_| table.created_by_hutong());
    fields.map(|field| (field, table.column(field.column()))).filter(|(field, there)| {
        there.is_none_or(|there| fit(&field.ty, there).is_none() && widens(there, &field.ty))
    })
}

/// Makes room for the first rows of a lane that starts anew, in a transaction in which it is [`alone`] and before
/// anything of its earlier rows is removed.
///
/// A table that Hutong created, that holds rows of this pipeline only and that does not fit is made anew. Any other
/// that does not fit is `Err(SchemaConflict)`, and nothing of the transaction may stay: the replica keeps what it has.
pub(super) async fn renew(
    client: &Client,
    name: &TableName,
    contract: &Contract,
    lane: &LaneId,
    grant: &str,
) -> Result<()> {
    let conflict = match make(client, name, contract).await {
        Err(error) if error.kind == ErrorKind::SchemaConflict => error,
        made => return made.map(drop),
    };
    let made_here = match catalog::read(client, name).await {
        Ok(found) => found.is_some_and(|table| table.created_by_hutong()),
        // A statement of Hutong's own has failed, or it is no table.
        Err(_) => false,
    };
    if !made_here || !only_of(client, name, lane, grant).await? {
        return Err(conflict);
    }
    let failed = |e| error::of(e, || format!("make {} anew for {}", name.plain(), contract.stream));
    let readers = client.query_one(GRANTS, &[&name.schema, &name.table]).await.map_err(failed)?;
    let dropped = client.batch_execute(&format!("DROP TABLE {name}")).await;
    dropped.map_err(|e| failed(e).hint(format!("drop what depends on {name}, which is then made anew")))?;
    // Whose rows went with it starts anew too, whatever grant it comes with.
    let sql = r#"UPDATE hutong.hutong_lane SET "grant" = $4
                  WHERE starts_with(lane, $1 || '.') AND lane <> $2 AND table_name = $3"#;
    let (pipeline, own) = (lane.pipeline.to_string(), lane.to_string());
    client.execute(sql, &[&pipeline, &own, &name.to_string(), &NOBODYS]).await.map_err(failed)?;
    tracing::info!(lane = %lane, table = %name.plain(), why = %conflict, "the table is made anew");
    make(client, name, contract).await?;
    client.batch_execute(readers.get(0)).await.map_err(failed)
}

/// The statements that give a table's privileges to whom it had given them.
const GRANTS: &str = "
    SELECT coalesce(string_agg(format('GRANT %s ON %I.%I TO %s%s;', a.privilege_type, n.nspname, c.relname,
               CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END,
               CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END), ''), '')
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(c.relacl) a
     WHERE n.nspname = $1 AND c.relname = $2 AND a.grantee <> c.relowner";

/// States whether a table that Hutong created holds nothing but what the lanes of a pipeline wrote under other grants.
async fn only_of(client: &Client, name: &TableName, lane: &LaneId, grant: &str) -> Result<bool> {
    let failed = |e| error::of(e, || format!("ask whose rows {} holds", name.plain()));
    client.batch_execute(&format!("LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE")).await.map_err(failed)?;
    let sql = format!(
        r#"SELECT NOT EXISTS (SELECT FROM {name} WHERE NOT starts_with({LANE}, $1 || '.'))
              AND NOT EXISTS (SELECT FROM hutong.hutong_lane WHERE table_name = $2 AND lane <> $3
                               AND (NOT starts_with(lane, $1 || '.') OR "grant" = $4))"#
    );
    let (pipeline, own) = (lane.pipeline.to_string(), lane.to_string());
    let row = client.query_one(&sql, &[&pipeline, &name.to_string(), &own, &grant]).await.map_err(failed)?;
    Ok(row.get(0))
}
