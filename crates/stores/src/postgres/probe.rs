//! Looks once, with a session of its own, whether a capture could run: every finding, not the first one.

use hutong_core::{Contract, Result, Secret};
use tokio_postgres::Client;

use super::catalog::{self, Live, Types};
use super::column::Fit;
use super::ident::TableName;
use super::source::SourceConfig;
use super::{address, connect, error, fit, lost, owner, slot};
use crate::Finding;

/// Reads an address and touches nothing. `Err(Config)` says what is wrong with it and does not repeat it.
pub fn check_address(url: &Secret) -> Result<()> {
    address::parse(url).map(drop)
}

/// Returns the server's version, as it says it: `15.14`.
pub async fn version(url: &Secret) -> Result<String> {
    let session = connect::open(url, "check").await?;
    let row = session
        .query_one("SELECT split_part(current_setting('server_version'), ' ', 1)", &[])
        .await
        .map_err(|e| error::of(e, || "ask PostgreSQL for its version".to_owned()))?;
    Ok(row.get(0))
}

/// Looks at server, privileges, slot and tables of a capture. Changes nothing.
pub async fn probe(config: &SourceConfig) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Err(error) = look(config, &mut findings).await {
        findings.push(error.into());
    }
    let prefix =
        |finding: &mut Finding| finding.what = format!("capture {}: {}", config.capture, finding.what);
    findings.iter_mut().for_each(prefix);
    findings
}

async fn look(config: &SourceConfig, findings: &mut Vec<Finding>) -> Result<()> {
    let slot = slot::name(&config.capture)?;
    let names = config.names()?;
    let session = connect::open(&config.url, "check").await?;
    let version = server(&session, findings).await?;
    privileges(&session, &slot, &names, findings).await?;
    // One that cannot be read whole is a finding of its own, and not the last.
    match publication(&session, &slot, &names).await {
        Ok(finding) => findings.extend(finding),
        Err(error) => findings.push(error.into()),
    }
    let state = slot::state(&session, &slot).await?;
    findings.push(match &state {
        None => match owner::of_this_database(&session, &slot).await {
            Ok(()) => Finding::good(format!(
                "the slot {slot} does not exist yet; it is made when the capture opens"
            )),
            Err(error) => error.into(),
        },
        Some(state) if state.lost => Finding::bad(
            format!("{slot}: {}", lost::invalidated(state.reason.as_deref())),
            format!(
                "changes are lost: stop `hutong run`, then `hutong source reset {} --reason …` accepts it, then start it \
                 again: it takes a new base",
                config.capture
            ),
        ),
        Some(state) if state.plugin != "pgoutput" => Finding::bad(
            format!("the slot {slot} has the plugin {}", state.plugin),
            "another program uses this name: drop its slot or rename the capture",
        ),
        Some(state) => match state.holder {
            Some(pid) => Finding::good(format!("the slot {slot} is read by backend {pid}")),
            None => Finding::good(format!("the slot {slot} is there and free")),
        },
    });
    let mut types = Types::default();
    for (table, name) in config.tables.iter().zip(&names) {
        match catalog::live(&session, &mut types, name).await {
            Ok(Some(live)) => {
                findings.extend(against(&table.contract, &live, version));
                findings.extend(rights(&session, &slot, name).await?);
            }
            Ok(None) => findings.push(missing(name)),
            Err(error) => findings.push(error.into()),
        }
    }
    Ok(())
}

/// Compares a table with a contract.
pub async fn compare(url: &Secret, table: &str, contract: &Contract) -> Result<Vec<Finding>> {
    let name = TableName::parse(table)?;
    let session = connect::open(url, "contract check").await?;
    let version = server_version(&session).await?;
    match catalog::live(&session, &mut Types::default(), &name).await? {
        Some(live) => Ok(against(contract, &live, version)),
        None => Ok(vec![missing(&name)]),
    }
}

/// States whether a table, and each partition of it, logs the whole old row of a change (REPLICA IDENTITY FULL).
pub async fn logs_whole_rows(url: &Secret, table: &str) -> Result<bool> {
    let name = TableName::parse(table)?;
    let session = connect::open(url, "check").await?;
    let live = catalog::live(&session, &mut Types::default(), &name).await?;
    Ok(live.is_some_and(|live| live.identities.iter().all(|one| *one == catalog::Identity::Full)))
}

fn missing(name: &TableName) -> Finding {
    Finding::bad(
        format!("the table {} does not exist", name.plain()),
        "check the name, its case and its schema",
    )
}

fn against(contract: &Contract, live: &Live, version: u32) -> Vec<Finding> {
    let name = live.name.plain();
    let mut findings: Vec<_> =
        fit::problems(contract, live, version).into_iter().map(|p| Finding::bad(p.what, p.hint)).collect();
    if findings.is_empty() {
        findings.push(Finding::good(format!("{name} fits the contract {}", contract.stream)));
    }
    for field in &contract.fields {
        let Some(column) = live.column(field.column()) else { continue };
        let (what, hint) = if column.ty.fit(&field.ty) == Fit::Checked {
            let what = format!(
                "the column `{}` of {name} ({}) may hold more than {}",
                column.name,
                column.ty.name(),
                field.ty.name()
            );
            (what, "a row whose value does not fit is quarantined")
        } else if !column.not_null && !field.nullable {
            let what = format!(
                "the column `{}` of {name} may be NULL, and the contract says it is not",
                column.name
            );
            (what, "ALTER COLUMN … SET NOT NULL, or make the field nullable")
        } else {
            continue;
        };
        findings.push(Finding { ok: true, what, hint: Some(hint.into()) });
    }
    let extra: Vec<_> = live
        .columns
        .iter()
        .filter(|column| contract.fields.iter().all(|field| field.column() != column.name))
        .map(|column| column.name.as_str())
        .collect();
    if !extra.is_empty() {
        // I5: a column that nobody named does not move.
        findings.push(Finding::good(format!(
            "not in the contract and not sent, of {name}: {}",
            extra.join(", ")
        )));
    }
    findings
}

async fn server_version(session: &Client) -> Result<u32> {
    let row = session
        .query_one("SELECT current_setting('server_version_num')::int4", &[])
        .await
        .map_err(|e| error::of(e, || "ask PostgreSQL for its version".to_owned()))?;
    Ok(row.get::<_, i32>(0) as u32)
}

async fn server(session: &Client, findings: &mut Vec<Finding>) -> Result<u32> {
    let version = server_version(session).await?;
    let row = session
        .query_one(
            "SELECT current_setting('wal_level'), current_setting('max_slot_wal_keep_size'), \
               current_setting('max_replication_slots')::int8 - (SELECT count(*) FROM pg_replication_slots), \
               current_setting('max_wal_senders')::int8 - (SELECT count(*) FROM pg_stat_replication), \
               pg_is_in_recovery()",
            &[],
        )
        .await
        .map_err(|e| error::of(e, || "read the server's settings".to_owned()))?;
    let (level, keep): (String, String) = (row.get(0), row.get(1));
    let (slots, senders): (i64, i64) = (row.get(2), row.get(3));
    findings.push(if version >= 140_000 {
        Finding::good(format!("PostgreSQL {}", version / 10_000))
    } else {
        Finding::bad(
            format!("the server is PostgreSQL {}", version / 10_000),
            "14 is the oldest that is supported",
        )
    });
    findings.push(if level == "logical" {
        Finding::good("wal_level is logical")
    } else {
        Finding::bad(
            format!("wal_level is {level}"),
            "ALTER SYSTEM SET wal_level = logical, then restart the server",
        )
    });
    findings.push(if keep == "-1" {
        Finding::bad(
            "max_slot_wal_keep_size is -1: a capture that stands still would fill the disk",
            "ALTER SYSTEM SET max_slot_wal_keep_size = '20GB' or what the disk can spare, then reload",
        )
    } else {
        Finding::good(format!("max_slot_wal_keep_size is {keep}"))
    });
    if slots <= 0 {
        findings.push(Finding::bad("every replication slot is taken", "raise max_replication_slots"));
    }
    if senders <= 0 {
        findings.push(Finding::bad("every WAL sender is taken", "raise max_wal_senders"));
    }
    if row.get::<_, bool>(4) {
        findings.push(Finding::bad("the server is a standby", "capture from the primary"));
    }
    Ok(version)
}

async fn privileges(
    session: &Client,
    slot: &str,
    names: &[TableName],
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let row = session
        .query_one(
            "SELECT r.rolname::text, r.rolreplication OR r.rolsuper, \
               has_database_privilege(current_database(), 'CREATE'), \
               EXISTS (SELECT FROM pg_publication WHERE pubname = $1) \
             FROM pg_roles r WHERE r.rolname = current_user",
            &[&slot],
        )
        .await
        .map_err(|e| error::of(e, || "read the role's privileges".to_owned()))?;
    let role: String = row.get(0);
    findings.push(if row.get(1) {
        Finding::good(format!("the role {role} may replicate"))
    } else {
        Finding::bad(format!("the role {role} may not replicate"), format!("ALTER ROLE {role} REPLICATION"))
    });
    if !row.get::<_, bool>(2) && !row.get::<_, bool>(3) {
        findings.push(Finding::bad(
            format!("the role {role} may not create the publication {slot}"),
            format!(
                "GRANT CREATE ON DATABASE to it, or who owns the tables runs: CREATE PUBLICATION {slot} FOR TABLE {} \
                 WITH (publish_via_partition_root = true)",
                only(names)
            ),
        ));
    }
    Ok(())
}

/// Returns `ONLY a, ONLY b`: partitions and children are not published by themselves.
fn only(names: &[TableName]) -> String {
    names.iter().map(|name| format!("ONLY {name}")).collect::<Vec<_>>().join(", ")
}

/// Looks at the publication: a role that does not own it cannot make it what it must be. `None`: there is none.
async fn publication(session: &Client, name: &str, wanted: &[TableName]) -> Result<Option<Finding>> {
    let row = session
        .query_opt(
            "SELECT pg_has_role(pubowner, 'USAGE'), puballtables, \
               pubviaroot AND pubinsert AND pubupdate AND pubdelete AND pubtruncate, pg_get_userbyid(pubowner)::text \
             FROM pg_publication WHERE pubname = $1",
            &[&name],
        )
        .await
        .map_err(|e| error::of(e, || format!("read the publication {name}")))?;
    let Some(row) = row else { return Ok(None) };
    let (own, all, flags, owner): (bool, bool, bool, String) =
        (row.get(0), row.get(1), row.get(2), row.get(3));
    if all {
        let what = format!("the publication {name} is FOR ALL TABLES, also those that are not captured");
        return Ok(Some(Finding::bad(
            what,
            format!("DROP PUBLICATION {name}; it is made for the tables alone"),
        )));
    }
    let Some(held) = slot::published(session, name).await? else { return Ok(None) };
    let mut wrong = Vec::new();
    if !flags {
        wrong.push("does not publish every change by the partitions' root".to_owned());
    }
    let missing = wanted.iter().filter(|table| !held.tables.contains(*table));
    wrong.extend(missing.map(|table| format!("lacks {}", table.plain())));
    let surplus = held.tables.iter().filter(|table| !wanted.contains(table));
    wrong.extend(surplus.map(|table| format!("holds {}, which is not captured", table.plain())));
    Ok(Some(if wrong.is_empty() {
        Finding::good(format!("the publication {name} is as it must be"))
    } else if own {
        Finding::good(format!(
            "the publication {name} is the role's own; it is brought up to date when the capture opens"
        ))
    } else {
        let what = format!("the publication {name} {}, and the role does not own it", wrong.join(", "));
        let hint = format!(
            "{owner} runs: ALTER PUBLICATION {name} SET TABLE {}; ALTER PUBLICATION {name} SET \
             (publish_via_partition_root = true, publish = 'insert, update, delete, truncate')",
            only(wanted)
        );
        Finding::bad(what, hint)
    }))
}

async fn rights(session: &Client, slot: &str, name: &TableName) -> Result<Option<Finding>> {
    let row = session
        .query_one(
            "SELECT has_table_privilege(c.oid, 'SELECT'), pg_has_role(c.relowner, 'USAGE'), \
               row_security_active(c.oid), \
               EXISTS (SELECT FROM pg_publication p JOIN pg_publication_rel r ON r.prpubid = p.oid \
                       WHERE p.pubname = $3 AND r.prrelid = c.oid) \
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2",
            &[&name.schema, &name.table, &slot],
        )
        .await
        .map_err(|e| error::of(e, || format!("read the privileges on {}", name.plain())))?;
    let (select, owner, published): (bool, bool, bool) = (row.get(0), row.get(1), row.get(3));
    Ok(if row.get(2) {
        Some(Finding::bad(
            format!("row security hides rows of {} from the role", name.plain()),
            "ALTER ROLE … BYPASSRLS, or capture as the table's owner",
        ))
    } else if !select {
        Some(Finding::bad(
            format!("the role may not read {}", name.plain()),
            format!("GRANT SELECT ON {name} to it"),
        ))
    } else if !owner && !published {
        Some(Finding::bad(
            format!("the role does not own {} and may not publish it", name.plain()),
            format!(
                "its owner runs: ALTER PUBLICATION {slot} ADD TABLE {name}; or makes the role a member of its own"
            ),
        ))
    } else {
        None
    })
}
