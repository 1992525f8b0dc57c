//! The one text of a schema: two texts that say the same, word for word, become equal.
//!
//! As Avro's Java library prints a schema, and so as other registries compare them: no blanks, the known
//! attributes first and in one order, `{"type":"int"}` as `"int"`. Documentation, defaults, aliases and
//! custom properties stay: schemas that differ in them are different schemas.

use serde_json::{Map, Value as Json};

/// The attributes that come first, in their order; aliases come last.
const ORDER: [&str; 10] =
    ["type", "name", "namespace", "doc", "fields", "symbols", "items", "values", "size", "default"];

const FIELD_ORDER: [&str; 5] = ["name", "type", "doc", "default", "order"];

/// Returns the canonical text of a schema.
pub(super) fn text(schema: &Json) -> String {
    canonical(schema).to_string()
}

fn canonical(schema: &Json) -> Json {
    match schema {
        Json::Array(branches) => branches.iter().map(canonical).collect(),
        Json::Object(object) => match object.get("type") {
            Some(ty @ Json::String(_)) if object.len() == 1 => ty.clone(),
            // A schema may stand in another object's `type`.
            Some(ty @ (Json::Object(_) | Json::Array(_))) if object.len() == 1 => canonical(ty),
            _ => Json::Object(ordered(object, &ORDER, |name, value| match name {
                "type" | "items" | "values" => canonical(value),
                "fields" => value.as_array().map_or_else(|| value.clone(), |f| f.iter().map(field).collect()),
                _ => value.clone(),
            })),
        },
        other => other.clone(),
    }
}

fn field(field: &Json) -> Json {
    let Json::Object(object) = field else { return field.clone() };
    Json::Object(ordered(object, &FIELD_ORDER, |name, value| match name {
        "type" => canonical(value),
        _ => value.clone(),
    }))
}

fn ordered(
    object: &Map<String, Json>,
    order: &[&str],
    value: impl Fn(&str, &Json) -> Json,
) -> Map<String, Json> {
    let known = order.iter().filter_map(|name| object.get_key_value(*name));
    let others = object.iter().filter(|(name, _)| !order.contains(&name.as_str()) && *name != "aliases");
    let aliases = object.get_key_value("aliases");
    known.chain(others).chain(aliases).map(|(name, v)| (name.clone(), value(name, v))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_say_the_same_are_equal() {
        let rows = [
            (r#" { "type" : "int" } "#, r#""int""#),
            (r#"["null", {"type":"string"}]"#, r#"["null","string"]"#),
            (
                r#"{"name":"R","type":"record","x":1,"aliases":["Q"],"fields":[{"type":{"type":"long"},"name":"a","k":2,"default":0}]}"#,
                r#"{"type":"record","name":"R","fields":[{"name":"a","type":"long","default":0,"k":2}],"x":1,"aliases":["Q"]}"#,
            ),
            (r#"{"logicalType":"date","type":"int"}"#, r#"{"type":"int","logicalType":"date"}"#),
        ];
        for (given, expected) in rows {
            assert_eq!(text(&serde_json::from_str(given).unwrap()), expected);
            assert_eq!(text(&serde_json::from_str(expected).unwrap()), expected);
        }
    }
}
