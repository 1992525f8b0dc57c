//! Reads what a replica holds of one pipeline, together with where its lanes stand: in one database snapshot.

use std::collections::BTreeSet;

use hutong_core::{Contract, Error, ErrorKind, PipelineId, Result, Row, Secret, Type, Value};
use tokio_postgres::types::Json;

use super::binary::Kind;
use super::catalog::{self, LANE};
use super::quarantine;
use super::table::{self, Column, Plan};
use crate::holding::{HeldLane, Holding, Waits, others};
use crate::postgres::copied::{Copied, cells};
use crate::postgres::ident::{TableName, literal, quote};
use crate::postgres::pgoutput::Cell;
use crate::postgres::{connect, error, text};

/// Reads the rows of a pipeline, one by one, into `each`, when `ready` says of its lanes that they stand where they
/// must; otherwise only where they stand.
///
/// A value that the contract's type cannot be is a text or a number instead, which no granted value equals. Memory
/// holds one row: they come as the server sends them.
///
/// I3, I5: in a table that Hutong made, a row that no lane of this store has written is read with the others, but
/// nothing of it is taken as granted: of it only the key is known. In a department's own table such rows are counted.
pub async fn held(
    url: &Secret,
    name: &str,
    contract: &Contract,
    pipeline: &PipelineId,
    ready: impl Fn(&[HeldLane]) -> bool + Send,
    mut each: impl FnMut(&Row) + Send,
) -> Result<Holding> {
    let table = TableName::parse(name)?;
    let session = connect::open(url, "verify").await?;
    let doing = || format!("read what {} holds of {pipeline}", table.plain());
    let failed = |e| error::of(e, doing);
    let mut holding = Holding::default();
    if !quarantine::there(&session).await? {
        return Ok(holding);
    }
    session.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await.map_err(failed)?;
    let mine = format!("{pipeline}.");
    let sql = r#"SELECT lane, "grant", table_name, "position" FROM hutong.hutong_lane
                  WHERE starts_with(lane, $1) ORDER BY lane"#;
    for row in session.query(sql, &[&mine]).await.map_err(failed)? {
        let Json(checkpoint) = row.try_get(3).map_err(|e| Error::caused(ErrorKind::Broken, doing(), e))?;
        let (lane, grant, table) = (row.get(0), row.get(1), row.get(2));
        holding.lanes.push(HeldLane { lane, grant, table, checkpoint });
    }
    if !ready(&holding.lanes) {
        return Ok(holding);
    }
    let sql =
        "SELECT rule, change FROM hutong.hutong_quarantine WHERE state = 'waiting' AND starts_with(lane, $1)";
    for row in session.query(sql, &[&mine]).await.map_err(failed)? {
        let change: Option<Json<serde_json::Value>> = row.get(1);
        holding.waiting.push(Waits::read(row.get(0), change.as_ref().map(|Json(json)| json)));
    }
    holding.read = true;
    let Some(found) = catalog::read(&session, &table).await? else { return Ok(holding) };
    let plan = table::check(&table, contract, &found)?;
    if plan.own {
        let count = session.query_one(&foreign(&plan), &[]).await.map_err(failed)?;
        holding.foreign = count.get::<_, i64>(0).unsigned_abs();
    }
    let lanes = session.query("SELECT lane FROM hutong.hutong_lane", &[]).await.map_err(failed)?;
    let others = others(lanes.iter().map(|row| row.get::<_, String>(0)), &mine);
    let mut copied = Copied::start(&session, &select(&plan, &mine, &others)).await.map_err(failed)?;
    while let Some(line) = copied.line().await.map_err(failed)? {
        let found = cells(&line);
        let written = matches!(found.last(), Some(Cell::Text(truth)) if &truth[..] == b"t");
        let values = plan.columns.iter().zip(&contract.fields).zip(&found).enumerate();
        let row: Row = values
            .map(|(at, ((column, field), cell))| match written || plan.key.contains(&at) {
                true => value(&field.ty, &column.kind, cell),
                false => Value::Unknown,
            })
            .collect();
        each(&row);
    }
    Ok(holding)
}

/// Returns the fields that a replica does not keep as they were written, so that they cannot be compared, with why.
pub async fn uncertain(url: &Secret, name: &str, contract: &Contract) -> Result<Vec<(usize, String)>> {
    let table = TableName::parse(name)?;
    let session = connect::open(url, "verify").await?;
    let Some(found) = catalog::read(&session, &table).await? else { return Ok(Vec::new()) };
    let plan = table::check(&table, contract, &found)?;
    let columns = plan.columns.iter().zip(&contract.fields).enumerate();
    let why = |(at, (column, field)): (usize, (&Column, &hutong_core::Field))| {
        uncertain_as(&field.ty, &column.kind)
            .then(|| (at, format!("{} keeps its own form of a value", column.declared)))
    };
    Ok(columns.filter_map(why).collect())
}

fn uncertain_as(ty: &Type, kind: &Kind) -> bool {
    match (ty, kind) {
        (_, Kind::Jsonb) => true,
        // What an enumeration or a duration is, is known; an address or a range may have several texts.
        (Type::Enum { .. } | Type::Interval, Kind::ViaText) => false,
        (_, Kind::ViaText) => true,
        (Type::Array(item), Kind::Array(kind)) => uncertain_as(item, kind),
        _ => false,
    }
}

/// Returns the query of a pipeline's rows, each with whether a lane of it has written it: by their own column, or by the
/// side table of a department's own.
///
/// In a table that Hutong made, every row is the pipeline's that is no other's: who adds one by hand names any lane.
fn select(plan: &Plan, mine: &str, others: &BTreeSet<String>) -> String {
    let columns: Vec<String> = plan.columns.iter().map(|c| format!("t.{}", quote(&c.name))).collect();
    let (columns, table) = (columns.join(", "), &plan.table);
    if plan.own {
        return format!(
            "SELECT {columns}, true FROM {table} t JOIN hutong.hutong_row r ON {} WHERE r.table_name = {} AND starts_with(r.lane, {})",
            same(plan),
            literal(&table.to_string()),
            literal(mine)
        );
    }
    let begins = |with: &str| format!("starts_with(coalesce(t.{LANE}, ''), {})", literal(with));
    let mine = begins(mine);
    let others: String = others.iter().map(|other| format!(" AND NOT {}", begins(other))).collect();
    format!("SELECT {columns}, {mine} FROM {table} t WHERE {mine} OR (true{others})")
}

/// Returns the query of how many rows of a department's own table no lane has written.
fn foreign(plan: &Plan) -> String {
    let (table, same) = (&plan.table, same(plan));
    format!(
        "SELECT count(*) FROM {table} t
          WHERE NOT EXISTS (SELECT FROM hutong.hutong_row r WHERE r.table_name = {} AND {same})",
        literal(&table.to_string())
    )
}

/// Returns the condition that a row of the side table speaks of a row of a department's own.
fn same(plan: &Plan) -> String {
    let equal = |at: &usize| {
        let column = &plan.columns[*at];
        format!("t.{} = (r.key ->> {})::{}", quote(&column.name), literal(&column.name), column.declared)
    };
    plan.key.iter().map(equal).collect::<Vec<_>>().join(" AND ")
}

/// Reads a value back; what is not of the contract's type stays recognisable as that.
pub(super) fn value(ty: &Type, kind: &Kind, cell: &Cell) -> Value {
    let bytes = match cell {
        Cell::Null => return Value::Null,
        Cell::Unchanged => return Value::Unknown,
        Cell::Text(bytes) => bytes,
    };
    let whole = matches!(ty, Type::Int16 | Type::Int | Type::Long) && matches!(kind, Kind::Numeric { .. });
    if whole && let Ok(Value::Decimal(number)) = text::read(&Type::Numeric, false, bytes) {
        // 5.00 in a column of numbers is the 5 that was written; 5.50 is not.
        let plain = number.normalized().to_plain_string();
        return plain.parse().map_or(Value::Decimal(number), Value::Integer);
    }
    let padded = matches!(kind, Kind::Text { padded: true, .. });
    text::read(ty, padded, bytes).unwrap_or_else(|_| Value::Bytes(bytes.clone()))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn i6_what_is_not_of_the_contracts_type_is_never_taken_for_it() {
        let cell = |text: &'static str| Cell::Text(Bytes::from_static(text.as_bytes()));
        let numeric = Kind::Numeric { scale: Some(2) };
        assert_eq!(value(&Type::Int, &numeric, &cell("5.00")), Value::Integer(5));
        assert_eq!(value(&Type::Int, &numeric, &cell("5.50")), Value::Decimal("5.50".parse().unwrap()));
        let text = Kind::Text { limit: None, padded: false };
        let short = Type::Text { length: Some(1) };
        assert_eq!(value(&short, &text, &cell("ab")), Value::Bytes(Bytes::from_static(b"ab")));
        let padded = Kind::Text { limit: Some(4), padded: true };
        assert_eq!(value(&Type::Text { length: Some(4) }, &padded, &cell("ab  ")), Value::text("ab"));
    }

    #[test]
    fn a_column_with_a_form_of_its_own_is_named() {
        assert!(uncertain_as(&Type::Json, &Kind::Jsonb) && !uncertain_as(&Type::Json, &Kind::Json));
        assert!(uncertain_as(&Type::Text { length: None }, &Kind::ViaText));
        assert!(!uncertain_as(&Type::Interval, &Kind::ViaText));
        let (ty, kind) = (Type::Array(Box::new(Type::Json)), Kind::Array(Box::new(Kind::Jsonb)));
        assert!(uncertain_as(&ty, &kind));
    }
}
