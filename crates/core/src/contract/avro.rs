//! A field's type as Avro text, read and written.
//!
//! Source: the Avro 1.12 specification ("Logical Types") and the names of Kafka Connect and Debezium
//! that mark what Avro has no logical type for.

use serde_json::{Map, Value as Json, json};

use super::Type;

const CONNECT_DATE: &str = "org.apache.kafka.connect.data.Date";
const CONNECT_DECIMAL: &str = "org.apache.kafka.connect.data.Decimal";
const ZONED_TIMESTAMP: &str = "io.debezium.time.ZonedTimestamp";
const MICRO_TIMESTAMP: &str = "io.debezium.time.MicroTimestamp";
const MICRO_TIME: &str = "io.debezium.time.MicroTime";
const INTERVAL: &str = "io.debezium.time.Interval";
const JSON_TEXT: &str = "io.debezium.data.Json";
const UUID: &str = "io.debezium.data.Uuid";
const ENUM: &str = "io.debezium.data.Enum";
const VARIABLE_DECIMAL: &str = "io.debezium.data.VariableScaleDecimal";

/// Reads the type of a field (without its null branch); `Err` says why it cannot be carried.
pub(super) fn read(json: &Json) -> Result<Type, String> {
    let empty = Map::new();
    let (base, object) = match json {
        Json::String(base) => (base.as_str(), &empty),
        Json::Object(object) => match object.get("type") {
            Some(Json::String(base)) => (base.as_str(), object),
            Some(inner @ Json::Object(_)) => return read(inner),
            _ => return Err("the type has no `type`".into()),
        },
        _ => return Err("a type is a name or an object; a union may only be [\"null\", T]".into()),
    };
    let text = |name: &str| object.get(name).and_then(Json::as_str).unwrap_or_default();
    let number = |name: &str| {
        object.get(name).map(|n| {
            n.as_u64()
                .and_then(|n| u32::try_from(n).ok())
                .ok_or_else(|| format!("`{name}` is not a whole number"))
        })
    };
    let (logical, connect) = (text("logicalType"), text("connect.name"));
    Ok(match (base, logical, connect) {
        ("boolean", "", _) => Type::Boolean,
        ("int", "date", _) => Type::Date,
        ("int", "", "io.debezium.time.Date") => Type::Date,
        ("int", "", "") if matches!(text("connect.type"), "int16" | "int8") => Type::Int16,
        ("int", "", "") => Type::Int,
        ("long", "time-micros", _) | ("long", "", MICRO_TIME) => Type::Time,
        ("long", "local-timestamp-micros", _) | ("long", "", MICRO_TIMESTAMP) => Type::Timestamp,
        ("long", "", "") => Type::Long,
        ("float", "", _) => Type::Float,
        ("double", "", _) => Type::Double,
        ("bytes", "decimal", _) => {
            let precision = number("precision").ok_or("a decimal needs `precision`")??;
            let scale = number("scale").unwrap_or(Ok(0))?;
            if precision == 0 || scale > precision {
                return Err(format!("decimal({precision},{scale}) has no room for its digits"));
            }
            Type::Decimal { precision, scale }
        }
        ("bytes", "", "") => Type::Bytes,
        ("string", "", ZONED_TIMESTAMP) => Type::TimestampTz,
        ("string", "", JSON_TEXT) => Type::Json,
        ("string", "", UUID) | ("string", "uuid", _) => Type::Uuid,
        ("string", "", INTERVAL) => Type::Interval,
        ("string", "", ENUM) => {
            let allowed = object
                .get("connect.parameters")
                .and_then(|p| p.get("allowed"))
                .and_then(Json::as_str)
                .ok_or("an enumeration needs `connect.parameters.allowed`")?;
            Type::Enum { allowed: allowed.split(',').map(str::to_owned).collect() }
        }
        ("string", "", "") => Type::Text { length: number("length").transpose()? },
        ("array", "", "") => {
            let items = object.get("items").ok_or("an array needs `items`")?;
            let (item, _) = nullable(items)?;
            match read(item)? {
                Type::Array(_) => return Err("an array of arrays cannot be carried".into()),
                item => Type::Array(Box::new(item)),
            }
        }
        ("record", "", VARIABLE_DECIMAL) => Type::Numeric,
        _ => return Err(format!("the type {json} cannot be carried")),
    })
}

/// Splits `["null", T]` into T and whether null is allowed.
pub(super) fn nullable(json: &Json) -> Result<(&Json, bool), String> {
    let Json::Array(branches) = json else { return Ok((json, false)) };
    match branches.as_slice() {
        [null, other] | [other, null] if null == "null" && other != "null" => Ok((other, true)),
        _ => Err("a union may only be [\"null\", T]".into()),
    }
}

impl Type {
    /// Returns the Avro type as it stands on the wire, with the names that Connect and Debezium look for.
    ///
    /// `named` remembers which named records the schema already defines: Avro defines a name once.
    pub fn to_wire(&self, named: &mut Vec<&'static str>) -> Json {
        match self {
            Self::Boolean => json!("boolean"),
            Self::Int16 => json!({"type": "int", "connect.type": "int16"}),
            Self::Int => json!("int"),
            Self::Long => json!("long"),
            Self::Float => json!("float"),
            Self::Double => json!("double"),
            Self::Text { .. } => json!("string"),
            Self::Bytes => json!("bytes"),
            Self::Decimal { precision, scale } => json!({
                "type": "bytes", "scale": scale, "precision": precision, "connect.version": 1,
                "connect.parameters": {"scale": scale.to_string(), "connect.decimal.precision": precision.to_string()},
                "connect.name": CONNECT_DECIMAL, "logicalType": "decimal"
            }),
            Self::Numeric if named.contains(&VARIABLE_DECIMAL) => json!(VARIABLE_DECIMAL),
            Self::Numeric => {
                named.push(VARIABLE_DECIMAL);
                json!({
                    "type": "record", "name": "VariableScaleDecimal", "namespace": "io.debezium.data",
                    "fields": [{"name": "scale", "type": "int"}, {"name": "value", "type": "bytes"}],
                    "connect.version": 1, "connect.name": VARIABLE_DECIMAL
                })
            }
            Self::Date => {
                json!({"type": "int", "connect.version": 1, "connect.name": CONNECT_DATE, "logicalType": "date"})
            }
            Self::Time => {
                json!({"type": "long", "connect.version": 1, "connect.name": MICRO_TIME, "logicalType": "time-micros"})
            }
            Self::Timestamp => json!({
                "type": "long", "connect.version": 1, "connect.name": MICRO_TIMESTAMP, "logicalType": "local-timestamp-micros"
            }),
            Self::TimestampTz => {
                json!({"type": "string", "connect.version": 1, "connect.name": ZONED_TIMESTAMP})
            }
            Self::Json => json!({"type": "string", "connect.version": 1, "connect.name": JSON_TEXT}),
            Self::Uuid => json!({"type": "string", "connect.version": 1, "connect.name": UUID}),
            Self::Interval => json!({"type": "string", "connect.version": 1, "connect.name": INTERVAL}),
            Self::Enum { allowed } => json!({
                "type": "string", "connect.version": 1,
                "connect.parameters": {"allowed": allowed.join(",")}, "connect.name": ENUM
            }),
            Self::Array(item) => json!({"type": "array", "items": ["null", item.to_wire(named)]}),
        }
    }

    /// Returns the Avro type as a contract's file writes it: without what only readers of the wire need.
    pub fn to_contract(&self) -> Json {
        match self {
            Self::Text { length: Some(length) } => json!({"type": "string", "length": length}),
            Self::Array(item) => json!({"type": "array", "items": ["null", item.to_contract()]}),
            Self::Decimal { precision, scale } => {
                json!({"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale})
            }
            Self::Date => json!({"type": "int", "logicalType": "date"}),
            Self::Time => json!({"type": "long", "logicalType": "time-micros"}),
            Self::Timestamp => json!({"type": "long", "logicalType": "local-timestamp-micros"}),
            other => {
                let mut wire = other.to_wire(&mut Vec::new());
                if let (Json::Object(object), false) = (&mut wire, matches!(other, Self::Numeric)) {
                    object.shift_remove("connect.version");
                }
                wire
            }
        }
    }
}
