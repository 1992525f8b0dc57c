//! The schemas that Hutong registers for a topic: `Key` and `Envelope`, from the contract.
//!
//! The order of Debezium 2.7 and later (WIRE section 4). Every field of `Value` that is not in the key is
//! `["null", T]`, whatever the table says, so that a contract can grow; NOT NULL is the contract's, and the
//! encoder enforces it.

use hutong_core::grant::HIDDEN_KEY;
use hutong_core::{Contract, Field};
use serde_json::{Value as Json, json};

use super::shape::SEALED;

/// The texts of a topic's schemas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schemas {
    /// The key's schema. It carries no documentation: a word changed there would change every key's bytes.
    pub key: String,
    /// The envelope's schema.
    pub value: String,
}

/// Returns the schemas of a contract's rows in a topic, whose name is their Avro namespace.
pub fn schemas(contract: &Contract, topic: &str) -> Schemas {
    Schemas { key: key(contract, topic).to_string(), value: envelope(contract, topic).to_string() }
}

fn key(contract: &Contract, topic: &str) -> Json {
    let mut named = Vec::new();
    let fields: Vec<Json> = match contract.seals_key() {
        true => vec![json!({"name": HIDDEN_KEY, "type": "bytes"})],
        false => {
            contract.key_fields().map(|f| json!({"name": f.name, "type": f.ty.to_wire(&mut named)})).collect()
        }
    };
    json!({
        "type": "record", "name": "Key", "namespace": topic, "fields": fields,
        "connect.name": format!("{topic}.Key")
    })
}

fn envelope(contract: &Contract, topic: &str) -> Json {
    let optional_long = |name: &str| json!({"name": name, "type": ["null", "long"], "default": null});
    json!({
        "type": "record", "name": "Envelope", "namespace": topic,
        "fields": [
            {"name": "before", "type": ["null", row(contract, topic)], "default": null},
            {"name": "after", "type": ["null", "Value"], "default": null},
            {"name": "source", "type": source()},
            {"name": "transaction", "type": ["null", block()], "default": null},
            {"name": "op", "type": "string"},
            optional_long("ts_ms"), optional_long("ts_us"), optional_long("ts_ns")
        ],
        "connect.version": 2, "connect.name": format!("{topic}.Envelope")
    })
}

fn row(contract: &Contract, topic: &str) -> Json {
    let mut named = Vec::new();
    let fields: Vec<Json> = contract
        .fields
        .iter()
        .enumerate()
        .map(|(i, field)| {
            let ty = match field.sealed {
                // Whole, for it is read by itself.
                true => json!({"type": "bytes", SEALED: field.ty.to_wire(&mut Vec::new())}),
                false => field.ty.to_wire(&mut named),
            };
            if contract.is_key(i) {
                documented(field, json!({"name": field.name, "type": ty}))
            } else {
                documented(field, json!({"name": field.name, "type": ["null", ty], "default": null}))
            }
        })
        .collect();
    let mut row = json!({"type": "record", "name": "Value", "fields": fields});
    if !contract.doc.is_empty() {
        row["doc"] = json!(contract.doc);
    }
    row["connect.name"] = json!(format!("{topic}.Value"));
    row
}

fn documented(field: &Field, mut json: Json) -> Json {
    if !field.doc.is_empty() {
        json["doc"] = json!(field.doc);
    }
    json
}

/// Debezium's source block of PostgreSQL, and four fields of Hutong's own with defaults behind it.
fn source() -> Json {
    let optional = |name: &str, ty: &str| json!({"name": name, "type": ["null", ty], "default": null});
    let text = |name: &str| json!({"name": name, "type": "string"});
    json!({
        "type": "record", "name": "Source", "namespace": "io.debezium.connector.postgresql",
        "fields": [
            text("version"), text("connector"), text("name"),
            {"name": "ts_ms", "type": "long"},
            {"name": "snapshot", "type": [{
                "type": "string", "connect.version": 1,
                "connect.parameters": {
                    "allowed": "true,first,first_in_data_collection,last_in_data_collection,last,false,incremental"
                },
                "connect.default": "false", "connect.name": "io.debezium.data.Enum"
            }, "null"], "default": "false"},
            text("db"),
            optional("sequence", "string"), optional("ts_us", "long"), optional("ts_ns", "long"),
            text("schema"), text("table"),
            optional("txId", "long"), optional("lsn", "long"), optional("xmin", "long"),
            {"name": "position", "type": {"type": "string", "connect.default": ""}, "default": ""},
            {"name": "before", "type": {"type": "string", "connect.default": ""}, "default": ""},
            {"name": "unchanged", "type": {"type": "array", "items": "string"}, "default": []},
            {"name": "last", "type": {"type": "boolean", "connect.default": false}, "default": false}
        ],
        "connect.version": 1, "connect.name": "io.debezium.connector.postgresql.Source"
    })
}

fn block() -> Json {
    json!({
        "type": "record", "name": "block", "namespace": "event",
        "fields": [
            {"name": "id", "type": "string"},
            {"name": "total_order", "type": "long"},
            {"name": "data_collection_order", "type": "long"}
        ],
        "connect.version": 1, "connect.name": "event.block"
    })
}
