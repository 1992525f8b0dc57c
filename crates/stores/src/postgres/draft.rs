//! Drafts a contract from a live table, for a person to review.

use hutong_core::contract::Sharing;
use hutong_core::{Contract, Error, ErrorKind, Field, Result, Secret};
use serde_json::{Map, json};

use super::catalog::{self, Generated, Live, Types};
use super::connect;
use super::ident::TableName;

/// Drafts the contract of a table: exact types, NOT NULL, comments as titles, ASCII wire names.
///
/// It is not shared: whoever reviews it decides that. A column that cannot be carried is left out, and the
/// contract's `doc` says so. `Err(SchemaConflict)` for a table without a key.
pub async fn draft(url: &Secret, table: &str) -> Result<Contract> {
    let name = TableName::parse(table)?;
    let session = connect::open(url, "contract draft").await?;
    let live = catalog::live(&session, &mut Types::default(), &name).await?;
    let doing = || format!("draft a contract of {}", name.plain());
    let live =
        live.ok_or_else(|| Error::new(ErrorKind::SchemaConflict, doing(), "the table does not exist"))?;
    of(&live).ok_or_else(|| {
        Error::new(ErrorKind::SchemaConflict, doing(), "it has no unique, NOT NULL, non-deferrable key")
            .hint("add a primary key: without a key no row can be found again")
    })
}

fn of(live: &Live) -> Option<Contract> {
    let key = live.keys.iter().find(|key| key.primary).or(live.keys.first())?;
    let mut fields: Vec<Field> = Vec::with_capacity(live.columns.len());
    let mut left_out = Vec::new();
    for (number, column) in live.columns.iter().enumerate() {
        let Some(ty) = column.ty.exact().filter(|_| column.generated == Generated::No) else {
            left_out.push(column.name.as_str());
            continue;
        };
        let mut field = Field::new(column.name.as_str(), ty);
        if !is_wire_name(&column.name) {
            field.name = free_name(live, number + 1);
            field.column = Some(column.name.clone());
        }
        field.nullable = !column.not_null;
        if let Some(comment) = &column.comment {
            field.doc.clone_from(comment);
            field.catalogue.insert("title".into(), json!(comment));
        } else if field.column.is_some() {
            field.catalogue.insert("title".into(), json!(column.name));
        }
        fields.push(field);
    }
    let index = |name: &String| fields.iter().position(|field| field.column() == name);
    let key = key.columns.iter().map(index).collect::<Option<Vec<_>>>()?;
    let mut catalogue = Map::new();
    catalogue.insert("title".into(), json!(live.comment.as_deref().unwrap_or(&live.name.table)));
    let mut doc = live.comment.clone().unwrap_or_else(|| format!("A row of {}.", live.name.plain()));
    if !left_out.is_empty() {
        doc.push_str(&format!(" Columns that cannot be carried: {}.", left_out.join(", ")));
    }
    let sharing = Sharing::Denied("a draft: nobody has decided yet".into());
    Some(Contract { stream: stream_name(&live.name.table), doc, sharing, fields, key, catalogue })
}

fn is_wire_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !name.starts_with("hutong_")
}

fn free_name(live: &Live, number: usize) -> String {
    let mut name = format!("c{number}");
    while live.column(&name).is_some() {
        name.push('_');
    }
    name
}

fn stream_name(table: &str) -> String {
    let lower = table.to_ascii_lowercase();
    let plain = lower.starts_with(|c: char| c.is_ascii_lowercase())
        && lower.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if plain { lower } else { "stream".to_owned() }
}
