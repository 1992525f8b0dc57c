//! The mark that Debezium puts in place of a large value that did not change.
//!
//! Source: `UnchangedToastedPlaceholder.java` of debezium-connector-postgres, WIRE section 8. Hutong's own
//! envelopes name such fields in `source.unchanged` instead.

use hutong_core::{Row, Value};

const MARK: &str = "__debezium_unavailable_value";
/// hstore becomes a JSON map of the mark to itself.
const HSTORE_MARK: &str = r#"{"__debezium_unavailable_value":"__debezium_unavailable_value"}"#;

/// Turns every value that is only the mark into [`Value::Unknown`].
pub(super) fn find(row: &mut Row) {
    for value in row {
        if is_mark(value) {
            *value = Value::Unknown;
        }
    }
}

fn is_mark(value: &Value) -> bool {
    match value {
        Value::Text(text) => *text == MARK || *text == HSTORE_MARK,
        Value::Bytes(bytes) => bytes.as_ref() == MARK.as_bytes(),
        Value::Array(items) => match items.as_slice() {
            [Value::Text(text)] => *text == MARK,
            [Value::Bytes(bytes)] => bytes.as_ref() == MARK.as_bytes(),
            // An array of numbers holds the mark's bytes, one a number.
            numbers => {
                numbers.len() == MARK.len()
                    && numbers
                        .iter()
                        .zip(MARK.bytes())
                        .all(|(item, byte)| matches!(item, Value::Integer(n) if *n == i64::from(byte)))
            }
        },
        _ => false,
    }
}
