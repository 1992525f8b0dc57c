//! Cases of Confluent's page "Schema Evolution and Compatibility" and of Avro's "Schema Resolution".

use super::*;

/// Whether `new` may follow `old`: backward, forward.
fn allowed(new: &str, old: &str) -> (bool, bool) {
    let json = |text: &str| {
        let json: serde_json::Value = serde_json::from_str(text).unwrap();
        apache_avro::Schema::parse(&json).unwrap();
        json
    };
    let (new, old) = (json(new), json(old));
    let may = |level| problems(level, &new, &old).is_empty();
    let (backward, forward) = (may(Level::Backward), may(Level::Forward));
    assert_eq!(may(Level::Full), backward && forward);
    assert!(may(Level::None));
    (backward, forward)
}

fn record(fields: &str) -> String {
    format!(r#"{{"type":"record","name":"R","namespace":"gongan.s.v1","fields":[{fields}]}}"#)
}

const A: &str = r#"{"name":"a","type":"int"}"#;

#[test]
fn fields_come_and_go() {
    let with = |field: &str| record(&format!("{A},{field}"));
    let rows = [
        // Add an optional field; add a field without default; and both removed again.
        (with(r#"{"name":"b","type":["null","int"],"default":null}"#), record(A), (true, true)),
        (with(r#"{"name":"b","type":"int"}"#), record(A), (false, true)),
        (record(A), with(r#"{"name":"b","type":["null","int"],"default":null}"#), (true, true)),
        (record(A), with(r#"{"name":"b","type":"int"}"#), (true, false)),
        // A type is widened, narrowed, made nullable.
        (record(r#"{"name":"a","type":"long"}"#), record(A), (true, false)),
        (record(A), record(r#"{"name":"a","type":"long"}"#), (false, true)),
        (record(r#"{"name":"a","type":["null","int"]}"#), record(A), (true, false)),
        (record(r#"{"name":"a","type":"string"}"#), record(A), (false, false)),
        // Renamed; renamed with an alias.
        (record(r#"{"name":"z","type":"int"}"#), record(A), (false, false)),
        (record(r#"{"name":"z","type":"int","aliases":["a"]}"#), record(A), (true, false)),
        // Order, documentation and properties do not matter.
        (
            record(&format!(r#"{{"name":"b","type":"int"}},{A}"#)),
            with(r#"{"name":"b","type":"int","doc":"d","x":1}"#),
            (true, true),
        ),
    ];
    for (new, old, expected) in rows {
        assert_eq!(allowed(&new, &old), expected, "{new}\n{old}");
    }
}

#[test]
fn types_resolve_as_the_specification_says() {
    let rows = [
        (r#""double""#, r#""float""#, (true, false)),
        (r#""float""#, r#""long""#, (true, false)),
        (r#""string""#, r#""bytes""#, (true, true)),
        (r#""int""#, r#""boolean""#, (false, false)),
        (r#""int""#, r#""null""#, (false, false)),
        // Logical types are their base type, but for decimals.
        (r#"{"type":"int","logicalType":"date"}"#, r#""int""#, (true, true)),
        (
            r#"{"type":"long","logicalType":"timestamp-micros"}"#,
            r#"{"type":"long","logicalType":"timestamp-millis"}"#,
            (true, true),
        ),
        (r#"{"type":"string","logicalType":"uuid"}"#, r#""string""#, (true, true)),
        (
            r#"{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}"#,
            r#"{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}"#,
            (true, true),
        ),
        (
            r#"{"type":"bytes","logicalType":"decimal","precision":9,"scale":3}"#,
            r#"{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}"#,
            (false, false),
        ),
        // Arrays and maps.
        (r#"{"type":"array","items":"long"}"#, r#"{"type":"array","items":"int"}"#, (true, false)),
        (r#"{"type":"map","values":"long"}"#, r#"{"type":"map","values":"int"}"#, (true, false)),
        (r#"{"type":"map","values":"int"}"#, r#"{"type":"array","items":"int"}"#, (false, false)),
        // Unions: all that may have been written must be readable.
        (r#"["null","int","string"]"#, r#"["null","int"]"#, (true, false)),
        (r#"["null","long"]"#, r#"["int"]"#, (true, false)),
        (r#""int""#, r#"["null","int"]"#, (false, true)),
        (r#""double""#, r#"["int","float"]"#, (true, false)),
        (r#"["string","null"]"#, r#"["null","string"]"#, (true, true)),
        // Enumerations.
        (
            r#"{"type":"enum","name":"E","symbols":["A","B"]}"#,
            r#"{"type":"enum","name":"E","symbols":["A"]}"#,
            (true, false),
        ),
        (
            r#"{"type":"enum","name":"E","symbols":["A"],"default":"A"}"#,
            r#"{"type":"enum","name":"E","symbols":["A","B"]}"#,
            (true, true),
        ),
        (
            r#"{"type":"enum","name":"F","symbols":["A"]}"#,
            r#"{"type":"enum","name":"E","symbols":["A"]}"#,
            (false, false),
        ),
        // Fixed.
        (
            r#"{"type":"fixed","name":"F","size":4}"#,
            r#"{"type":"fixed","name":"F","size":8}"#,
            (false, false),
        ),
        // Names: the namespace does not matter, an alias helps the reader.
        (
            r#"{"type":"fixed","name":"a.F","size":4}"#,
            r#"{"type":"fixed","name":"b.F","size":4}"#,
            (true, true),
        ),
        (
            r#"{"type":"fixed","name":"G","size":4,"aliases":["F"]}"#,
            r#"{"type":"fixed","name":"F","size":4}"#,
            (true, false),
        ),
    ];
    for (new, old, expected) in rows {
        assert_eq!(allowed(new, old), expected, "{new}\n{old}");
    }
}

#[test]
fn references_to_named_types_are_followed() {
    let envelope = |row: &str, before: bool| {
        let row = format!(r#"{{"type":"record","name":"Value","fields":[{row}]}}"#);
        let (first, after) =
            (format!(r#"{{"name":"before","type":["null",{row}],"default":null}},"#), "\"Value\"");
        if before {
            record(&format!(r#"{first}{{"name":"after","type":["null",{after}],"default":null}}"#))
        } else {
            record(&format!(r#"{{"name":"after","type":["null",{row}],"default":null}}"#))
        }
    };
    let wide = r#"{"name":"a","type":"int"},{"name":"b","type":"int"}"#;
    // One schema defines the type where the other refers to it.
    assert_eq!(allowed(&envelope(A, true), &envelope(A, false)), (true, true));
    assert_eq!(allowed(&envelope(wide, true), &envelope(A, false)), (false, true));
    assert_eq!(allowed(&envelope(wide, true), &envelope(A, true)), (false, true));

    let tree = |leaf: &str| {
        record(&format!(
            r#"{{"name":"leaf","type":"{leaf}"}},{{"name":"next","type":["null","R"],"default":null}}"#
        ))
    };
    assert_eq!(allowed(&tree("int"), &tree("int")), (true, true));
    assert_eq!(allowed(&tree("long"), &tree("int")), (true, false));
}

#[test]
fn a_problem_names_the_field_and_the_side() {
    let new = serde_json::from_str(&record(&format!(r#"{A},{{"name":"b","type":"int"}}"#))).unwrap();
    let old = serde_json::from_str(&record(A)).unwrap();
    let found = problems(Level::FullTransitive, &new, &old);
    assert_eq!(
        found.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "{errorType:'READER_FIELD_MISSING_DEFAULT_VALUE', description:'The field 'b' at path '/fields/1' in the \
          new schema has no default value and is missing in the old schema', additionalInfo:'b'}"
        ]
    );
}

#[test]
fn levels_have_the_names_of_the_api() {
    for name in [
        "NONE",
        "BACKWARD",
        "BACKWARD_TRANSITIVE",
        "FORWARD",
        "FORWARD_TRANSITIVE",
        "FULL",
        "FULL_TRANSITIVE",
    ] {
        assert_eq!(Level::of(name).unwrap().name(), name);
        assert_eq!(Level::of(&name.to_lowercase()).unwrap().name(), name);
    }
    assert_eq!(Level::of("SIDEWAYS"), None);
}

#[test]
fn types_that_are_used_again_and_again_cost_no_more() {
    let deep = |leaf: &str| {
        let mut row = format!(r#"{{"type":"record","name":"R0","fields":[{{"name":"a","type":"{leaf}"}}]}}"#);
        for n in 1..40 {
            let fields = format!(r#"{{"name":"a","type":{row}}},{{"name":"b","type":"R{}"}}"#, n - 1);
            row = format!(r#"{{"type":"record","name":"R{n}","fields":[{fields}]}}"#);
        }
        row
    };
    assert_eq!(allowed(&deep("string"), &deep("int")), (false, false));
    assert_eq!(allowed(&deep("long"), &deep("int")), (true, false));
}
