//! Looks once, with a session of its own, whether a subscription could write: every finding, not the first one.

use hutong_core::{Contract, Result, Secret};
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use super::catalog::{self, Table};
use super::{room, table};
use crate::Finding;
use crate::postgres::ident::TableName;
use crate::postgres::{connect, error};

/// Looks at server, privileges, Hutong's own tables and the table of a subscription (`schema.table`), which takes
/// rows of `contract`. Changes nothing.
pub async fn probe(url: &Secret, table: &str, contract: &Contract) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Err(error) = look(url, table, contract, &mut findings).await {
        findings.push(error.into());
    }
    findings
}

async fn look(url: &Secret, table: &str, contract: &Contract, findings: &mut Vec<Finding>) -> Result<()> {
    let name = TableName::parse(table)?;
    let session = connect::open(url, "check").await?;
    if ask(&session, "SELECT pg_is_in_recovery()", &[]).await? {
        findings.push(Finding::bad("the server is a standby", "subscribe into the primary"));
    }
    if !ask(&session, "SELECT has_database_privilege(current_database(), 'TEMPORARY')", &[]).await? {
        findings.push(Finding::bad(
            "the role may not make temporary tables, in which rows are staged",
            "GRANT TEMPORARY ON DATABASE to it",
        ));
    }
    findings.push(own(&session).await?);
    findings.extend(match catalog::read(&session, &name).await? {
        None => vec![creatable(&session, &name).await?],
        Some(there) => fitting(&session, &name, &there, contract).await?,
    });
    Ok(())
}

/// Looks at the schema `hutong`.
async fn own(session: &Client) -> Result<Finding> {
    if !ask(session, "SELECT to_regnamespace('hutong') IS NOT NULL", &[]).await? {
        let may = "SELECT has_database_privilege(current_database(), 'CREATE')";
        return Ok(match ask(session, may, &[]).await? {
            true => Finding::good("the schema hutong is not there yet; it is made when the first lane opens"),
            false => Finding::bad(
                "the schema hutong is not there, and the role may not create it",
                "GRANT CREATE ON DATABASE to the role, or CREATE SCHEMA hutong AUTHORIZATION the role",
            ),
        });
    }
    if !ask(session, "SELECT has_schema_privilege('hutong', 'USAGE')", &[]).await? {
        return Ok(Finding::bad(
            "the role may not use the schema hutong",
            "ALTER SCHEMA hutong OWNER TO the role",
        ));
    }
    if !ask(session, "SELECT to_regclass('hutong.hutong_receipt') IS NOT NULL", &[]).await? {
        let may = "SELECT has_schema_privilege('hutong', 'CREATE')";
        return Ok(match ask(session, may, &[]).await? {
            true => {
                Finding::good("the schema hutong is there; its tables are made when the first lane opens")
            }
            false => Finding::bad(
                "the role may not create tables in the schema hutong",
                "ALTER SCHEMA hutong OWNER TO the role",
            ),
        });
    }
    let may = "SELECT bool_and(has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT')
                  AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE'))
                 FROM pg_class c WHERE c.relnamespace = to_regnamespace('hutong') AND c.relkind = 'r'";
    Ok(match ask(session, may, &[]).await? {
        true => Finding::good("the schema hutong is there and usable"),
        false => Finding::bad(
            "the role may not read and write every table of the schema hutong",
            "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA hutong to it",
        ),
    })
}

/// Says whether the table, which is not there, could be made.
async fn creatable(session: &Client, name: &TableName) -> Result<Finding> {
    let plain = name.plain();
    let there = "SELECT to_regnamespace(quote_ident($1)) IS NOT NULL";
    if ask(session, there, &[&name.schema]).await? {
        let may = "SELECT has_schema_privilege($1, 'USAGE') AND has_schema_privilege($1, 'CREATE')";
        return Ok(match ask(session, may, &[&name.schema]).await? {
            true => Finding::good(format!("the table {plain} is not there yet; it is made for the contract")),
            false => Finding::bad(
                format!("the table {plain} is not there, and the role may not create it"),
                "GRANT USAGE, CREATE ON SCHEMA to the role, or create the table for it",
            ),
        });
    }
    let may = "SELECT has_database_privilege(current_database(), 'CREATE')";
    Ok(match ask(session, may, &[]).await? {
        true => Finding::good(format!("the table {plain} and its schema are not there yet; both are made")),
        false => Finding::bad(
            format!("the schema of {plain} is not there, and the role may not create it"),
            "GRANT CREATE ON DATABASE to the role, or CREATE SCHEMA … AUTHORIZATION the role",
        ),
    })
}

/// Compares the table, which is there, with the contract, as the sink will when it prepares.
async fn fitting(
    session: &Client,
    name: &TableName,
    there: &Table,
    contract: &Contract,
) -> Result<Vec<Finding>> {
    let plain = name.plain();
    let mut findings = Vec::new();
    let growing: Vec<&str> = room::growing(contract, there).map(|(field, _)| field.column()).collect();
    if !growing.is_empty() {
        let names = growing.join(", ");
        let owner = "SELECT pg_has_role(c.relowner, 'USAGE') FROM pg_class c
                       JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2";
        findings.push(match ask(session, owner, &[&name.schema, &name.table]).await? {
            true => Finding::good(format!("the table {plain} has no room for {names}, which is made")),
            false => Finding::bad(
                format!("the table {plain} has no room for {names}, and the role does not own it"),
                format!("ALTER TABLE {name} OWNER TO the role"),
            ),
        });
    } else {
        findings.push(match table::check(name, contract, there) {
            Ok(_) => Finding::good(format!("the table {plain} fits what is granted")),
            Err(error) => error.into(),
        });
    }
    let may = "SELECT has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
                  AND has_table_privilege(c.oid, 'INSERT') AND has_table_privilege(c.oid, 'UPDATE')
                  AND has_table_privilege(c.oid, 'DELETE')
                 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE n.nspname = $1 AND c.relname = $2";
    if !ask(session, may, &[&name.schema, &name.table]).await? {
        findings.push(Finding::bad(
            format!("the role may not read and write {plain}"),
            format!("GRANT USAGE on its schema and SELECT, INSERT, UPDATE, DELETE ON {name} to it"),
        ));
    }
    Ok(findings)
}

/// Asks the server one question.
async fn ask(session: &Client, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<bool> {
    let row = session
        .query_one(sql, values)
        .await
        .map_err(|e| error::of(e, || "look at the role's privileges".to_owned()))?;
    Ok(row.try_get::<_, Option<bool>>(0).ok().flatten().unwrap_or(false))
}
