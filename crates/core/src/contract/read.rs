//! Reads a contract from its Avro text.

use serde_json::{Map, Value as Json};

use super::{Contract, Field, Sharing, avro};
use crate::{Error, ErrorKind, Result};

/// The most fields of a contract: no table of PostgreSQL (1,600) or SQLite (2,000) has more columns.
pub(super) const FIELD_LIMIT: usize = 2_000;

/// Reads a contract from its Avro text; `Err` names the field and what is wrong with it.
pub fn parse(text: &str) -> Result<Contract> {
    let json: Json = serde_json::from_str(text).map_err(|e| wrong(format!("it is not JSON: {e}")))?;
    let Json::Object(mut record) = json else { return Err(wrong("it is not a JSON object".into())) };
    let stream = take_text(&mut record, "name").ok_or_else(|| wrong("it has no `name`".into()))?;
    if !is_name(&stream) {
        return Err(wrong(format!("the name `{stream}` is not of the form [a-z][a-z0-9_]*")));
    }
    if record.remove("type") != Some(Json::from("record")) {
        return Err(wrong("its `type` is not `record`".into()));
    }
    record.remove("namespace");
    let doc = take_text(&mut record, "doc").unwrap_or_default();
    let sharing = sharing(&mut record).map_err(wrong)?;
    let seal = seal(&record).map_err(wrong)?;
    let mut fields = match record.remove("fields") {
        Some(Json::Array(fields)) if fields.len() > FIELD_LIMIT => {
            let why = format!("it has {} fields, at most {FIELD_LIMIT} are carried", fields.len());
            return Err(wrong(why).hint("share the table as several streams, each with the key"));
        }
        Some(Json::Array(fields)) => {
            fields.into_iter().map(|f| field(f).map_err(wrong)).collect::<Result<Vec<_>>>()?
        }
        _ => return Err(wrong("it has no `fields`".into())),
    };
    for field in &mut fields {
        field.sealed |= seal.iter().any(|classification| field.classification() == classification);
    }
    for (i, field) in fields.iter().enumerate() {
        if fields[..i].iter().any(|f| f.name == field.name) {
            return Err(wrong(format!("field `{}` stands twice", field.name)));
        }
        if fields[..i].iter().any(|f| f.column() == field.column()) {
            return Err(wrong(format!("column `{}` stands twice", field.column())));
        }
    }
    let key = key(&mut record, &fields).map_err(wrong)?;
    Ok(Contract { stream, doc, sharing, fields, key, catalogue: record })
}

fn wrong(why: String) -> Error {
    Error::new(ErrorKind::Config, "read the contract", why)
}

/// States whether a stream's or a field's name is plain ASCII: it stands in topic and subject names.
fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

fn take_text(object: &mut Map<String, Json>, name: &str) -> Option<String> {
    object.shift_remove(name).and_then(|v| v.as_str().map(str::to_owned))
}

fn sharing(record: &mut Map<String, Json>) -> Result<Sharing, String> {
    let kind =
        take_text(record, "sharing").ok_or("it has no `sharing` (unconditional, conditional, none)")?;
    let condition = take_text(record, "condition");
    let law = take_text(record, "sharing_law");
    match kind.as_str() {
        "unconditional" => Ok(Sharing::Unconditional),
        "conditional" => Ok(Sharing::Conditional(condition.ok_or("conditional sharing needs `condition`")?)),
        "none" => Ok(Sharing::Denied(law.ok_or("a stream that is not shared needs `sharing_law`")?)),
        other => Err(format!("sharing `{other}` is none of unconditional, conditional, none")),
    }
}

/// Returns the classifications whose fields are sealed. What is not understood is an error, and nothing goes in clear.
fn seal(record: &Map<String, Json>) -> Result<Vec<String>, String> {
    match record.get("seal") {
        None => Ok(Vec::new()),
        Some(Json::Array(names)) if names.iter().all(Json::is_string) => {
            Ok(names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect())
        }
        Some(_) => Err("its `seal` is not a list of classifications".into()),
    }
}

fn field(json: Json) -> Result<Field, String> {
    let Json::Object(mut object) = json else { return Err("a field is not an object".into()) };
    let name = take_text(&mut object, "name").ok_or("a field has no `name`")?;
    let ascii = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !ascii {
        return Err(format!(
            "field `{name}`: a wire name is ASCII letters, digits and _; put the table's name into `column`"
        ));
    }
    if name.starts_with("hutong_") {
        return Err(format!("field `{name}`: names that begin with hutong_ are Hutong's own"));
    }
    let at = |why: String| format!("field `{name}`: {why}");
    let written = object.shift_remove("type").ok_or_else(|| at("it has no `type`".into()))?;
    let (inner, nullable) = avro::nullable(&written).map_err(at)?;
    let ty = avro::read(inner).map_err(at)?;
    object.shift_remove("default");
    let checks = match object.shift_remove("checks") {
        Some(checks) => serde_json::from_value(checks).map_err(|e| at(format!("its `checks`: {e}")))?,
        None => Vec::new(),
    };
    let sealed = match object.shift_remove("sealed") {
        None => false,
        Some(Json::Bool(true)) => true,
        Some(_) => return Err(at("`sealed` may only be true; leave it out otherwise".into())),
    };
    Ok(Field {
        sealed,
        column: take_text(&mut object, "column"),
        ty,
        nullable,
        doc: take_text(&mut object, "doc").unwrap_or_default(),
        mask: take_text(&mut object, "mask"),
        checks,
        catalogue: object,
        name,
    })
}

fn key(record: &mut Map<String, Json>, fields: &[Field]) -> Result<Vec<usize>, String> {
    let Some(Json::Array(names)) = record.shift_remove("key") else {
        return Err("it has no `key`: a list of field names".into());
    };
    let mut key = Vec::new();
    for name in &names {
        let at = fields
            .iter()
            .position(|f| Some(f.name.as_str()) == name.as_str())
            .ok_or_else(|| format!("the key names {name}, which is no field"))?;
        if fields[at].nullable {
            return Err(format!("field `{}` is in the key, so it may not be nullable", fields[at].name));
        }
        if key.contains(&at) {
            return Err(format!("the key names {name} twice"));
        }
        key.push(at);
    }
    if key.is_empty() {
        return Err("its `key` is empty: without a key no row can be found again".into());
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_sealed_by_its_own_word_or_by_its_classification() {
        let text = r#"{"type":"record","name":"s","sharing":"unconditional","seal":["personal"],"key":["id"],"fields":[
            {"name":"id","type":"long"},{"name":"a","type":"string","sealed":true},
            {"name":"b","type":"string","classification":"personal"},
            {"name":"c","type":"string","classification":"public"}]}"#;
        let contract = parse(text).unwrap();
        assert_eq!(contract.sealed().map(|f| f.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert!(!contract.seals_key());
        assert_eq!(parse(&contract.to_avsc()).unwrap(), contract);
        assert!(parse(&text.replace("\"long\"}", "\"long\",\"sealed\":true}")).unwrap().seals_key());
    }

    #[test]
    fn says_what_is_wrong() {
        let ok = r#"{"type":"record","name":"s","sharing":"unconditional","key":["id"],"fields":[{"name":"id","type":"long"},{"name":"v","type":["null","string"]}]}"#;
        assert_eq!(parse(ok).unwrap().key, vec![0]);
        let rows = [
            ("{", "not JSON"),
            (&ok.replace("\"s\"", "\"S\""), "not of the form"),
            (&ok.replace("[\"id\"]", "[]"), "is empty"),
            (&ok.replace("[\"id\"]", "[\"v\"]"), "may not be nullable"),
            (&ok.replace("[\"id\"]", "[\"w\"]"), "no field"),
            (&ok.replace("\"v\"", "\"id\""), "stands twice"),
            (&ok.replace("\"v\"", "\"姓名\""), "ASCII"),
            (&ok.replace("\"string\"", "\"map\""), "cannot be carried"),
            (&ok.replace("unconditional", "none"), "sharing_law"),
            (&ok.replace("\"v\",", "\"v\",\"sealed\":\"yes\","), "`sealed` may only be true"),
            (&ok.replace("\"key\"", "\"seal\":\"personal\",\"key\""), "`seal` is not a list"),
        ];
        for (text, says) in rows {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
