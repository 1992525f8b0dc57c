//! Writes a contract's Avro text, as a person reviews it.

use serde_json::{Map, Value as Json, json};

use super::{Contract, Field, Sharing};

/// Returns the Avro text of a contract, indented, with a line break at its end.
pub(super) fn avsc(contract: &Contract) -> String {
    let mut record = Map::new();
    record.insert("type".into(), json!("record"));
    record.insert("name".into(), json!(contract.stream));
    record.insert("doc".into(), json!(contract.doc));
    for (name, value) in &contract.catalogue {
        record.insert(name.clone(), value.clone());
    }
    match &contract.sharing {
        Sharing::Unconditional => {
            record.insert("sharing".into(), json!("unconditional"));
        }
        Sharing::Conditional(condition) => {
            record.insert("sharing".into(), json!("conditional"));
            record.insert("condition".into(), json!(condition));
        }
        Sharing::Denied(law) => {
            record.insert("sharing".into(), json!("none"));
            record.insert("sharing_law".into(), json!(law));
        }
    }
    record.insert("key".into(), contract.key_fields().map(|f| json!(f.name)).collect());
    // What its classification asks for need not be said again.
    let asked = |f: &Field| {
        let names = contract.catalogue.get("seal").and_then(Json::as_array);
        names.is_some_and(|names| names.iter().any(|name| name.as_str() == Some(f.classification())))
    };
    record.insert("fields".into(), contract.fields.iter().map(|f| field(f, f.sealed && !asked(f))).collect());
    let mut text = serde_json::to_string_pretty(&Json::Object(record)).expect("a JSON value prints");
    text.push('\n');
    text
}

fn field(field: &Field, sealed: bool) -> Json {
    let mut object = Map::new();
    object.insert("name".into(), json!(field.name));
    let ty = field.ty.to_contract();
    if field.nullable {
        object.insert("type".into(), json!(["null", ty]));
        object.insert("default".into(), Json::Null);
    } else {
        object.insert("type".into(), ty);
    }
    object.insert("doc".into(), json!(field.doc));
    if let Some(column) = &field.column {
        object.insert("column".into(), json!(column));
    }
    for (name, value) in &field.catalogue {
        object.insert(name.clone(), value.clone());
    }
    if let Some(mask) = &field.mask {
        object.insert("mask".into(), json!(mask));
    }
    if sealed {
        object.insert("sealed".into(), json!(true));
    }
    if !field.checks.is_empty() {
        object.insert("checks".into(), serde_json::to_value(&field.checks).expect("checks are plain JSON"));
    }
    Json::Object(object)
}
