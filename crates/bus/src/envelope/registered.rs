//! The contract that an envelope's schema was made of, as far as the wire tells it.

use hutong_core::{Contract, Error, ErrorKind, Result};
use serde_json::{Map, Value as Json, json};

use super::shape::SEALED;

/// Reads the row's fields and the key out of the schema of an envelope.
///
/// What only the contract's file says is not in it: lengths of texts, NOT NULL, checks, the catalogue. So two
/// contracts are compared as two schemas. `Err(Malformed)`: Hutong did not make the schema.
pub fn contract_of(envelope: &str, stream: &str) -> Result<Contract> {
    let malformed = |why: &str| Error::new(ErrorKind::Malformed, format!("read the schema of {stream}"), why);
    let json: Json = serde_json::from_str(envelope).map_err(|_| malformed("it is not JSON"))?;
    let mut named = Map::new();
    remember(&json, "", &mut named);
    let before = json["fields"].as_array().and_then(|fields| fields.iter().find(|f| f["name"] == "before"));
    let row = before.and_then(|before| before["type"].as_array()?.iter().find(|branch| branch.is_object()));
    let fields = row.and_then(|row| row["fields"].as_array()).ok_or_else(|| malformed("it has no row"))?;
    let (mut key, mut written) = (Vec::new(), Vec::new());
    for field in fields {
        // On the wire, all fields but the key's may be null.
        if !field["type"].is_array() {
            key.push(field["name"].clone());
        }
        written.push(match sealed(&field["type"]) {
            Some(ty) => json!({"name": field["name"], "type": ty, "sealed": true}),
            None => json!({"name": field["name"], "type": whole(&field["type"], &named)}),
        });
    }
    let record =
        json!({"type": "record", "name": stream, "sharing": "unconditional", "key": key, "fields": written});
    Contract::parse(&record.to_string())
        .map_err(|e| Error::caused(ErrorKind::Malformed, format!("read the schema of {stream}"), e))
}

/// Returns the type of a sealed field: that of its values.
fn sealed(json: &Json) -> Option<Json> {
    match json {
        Json::Array(branches) => branches.iter().find_map(sealed).map(|ty| json!(["null", ty])),
        other => other.get(SEALED).cloned(),
    }
}

/// Remembers every named type: Avro defines one once and then names it.
fn remember(json: &Json, namespace: &str, named: &mut Map<String, Json>) {
    match json {
        Json::Array(parts) => parts.iter().for_each(|part| remember(part, namespace, named)),
        Json::Object(object) => {
            let namespace = object.get("namespace").and_then(Json::as_str).unwrap_or(namespace);
            if let ("record", Some(name)) = (json["type"].as_str().unwrap_or_default(), json["name"].as_str())
            {
                named.insert(format!("{namespace}.{name}"), json.clone());
                named.insert(name.to_owned(), json.clone());
            }
            ["type", "items", "fields"].iter().filter_map(|part| object.get(*part)).for_each(|part| {
                remember(part, namespace, named);
            });
        }
        _ => {}
    }
}

/// Puts the type itself in the place of a name.
fn whole(json: &Json, named: &Map<String, Json>) -> Json {
    match json {
        Json::String(name) => named.get(name).cloned().unwrap_or_else(|| json.clone()),
        Json::Array(branches) => branches.iter().map(|branch| whole(branch, named)).collect(),
        Json::Object(object) if object.contains_key("items") => {
            let mut object = object.clone();
            object["items"] = whole(&json["items"], named);
            Json::Object(object)
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use hutong_core::contract::diff;

    use super::*;
    use crate::envelope::schemas;

    #[test]
    fn a_contract_of_every_type_is_found_again() {
        let text = r#"{"type":"record","name":"s","sharing":"unconditional","key":["id","day"],"fields":[
            {"name":"id","type":"long"},{"name":"day","type":{"type":"int","logicalType":"date"}},
            {"name":"a","type":["null",{"type":"record","name":"VariableScaleDecimal","namespace":"io.debezium.data",
              "fields":[{"name":"scale","type":"int"},{"name":"value","type":"bytes"}],
              "connect.name":"io.debezium.data.VariableScaleDecimal"}]},
            {"name":"n","type":["null",{"type":"bytes","logicalType":"decimal","precision":8,"scale":2}]},
            {"name":"t","type":["null","string"]}]}"#;
        let mut contract = Contract::parse(text).unwrap();
        let mut again = contract.fields[2].clone();
        again.name = "b".into();
        contract.fields.push(again);
        let mut list = contract.fields[2].clone();
        (list.name, list.ty) = ("c".into(), hutong_core::Type::Array(Box::new(list.ty)));
        contract.fields.push(list);
        contract.fields[0].sealed = true;
        contract.fields[2].sealed = true;

        let found = contract_of(&schemas(&contract, "gongan.s.v1").value, "s").unwrap();

        assert_eq!(found.key, contract.key);
        assert_eq!(diff(&contract, &found), []);
    }

    #[test]
    fn another_schema_is_refused() {
        for text in ["", "\"string\"", "{}", r#"{"type":"record","name":"E","fields":[]}"#] {
            assert_eq!(contract_of(text, "s").unwrap_err().kind, ErrorKind::Malformed, "{text}");
        }
    }
}
