//! Hostile requests to the registry's API: each is answered, with JSON, without a panic and without harm.

use hutong_testkit::hostile;
use rusqlite::Connection;
use serde_json::{Value as Json, json};

use super::super::api::{Request, Response, answer};
use super::super::folder;
use super::*;

const SCHEMA: &str = r#"{"type":"record","name":"R","namespace":"gongan.s.v1","aliases":["Q"],"fields":[
    {"name":"a","type":"int","default":7},{"name":"b","type":["null",{"type":"array","items":"string"}],"default":null},
    {"name":"c","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}},
    {"name":"d","type":{"type":"enum","name":"E","symbols":["X","Y"],"default":"X"}},
    {"name":"e","type":{"type":"fixed","name":"F","size":16}},{"name":"f","type":{"type":"map","values":"gongan.s.v1.R"}},
    {"name":"g","type":["null","R"],"default":null}]}"#;

/// A request as one text, so that it can be damaged anywhere: its method, its target and its body, a line each.
fn requests() -> Vec<String> {
    let schema = json!({"schema": SCHEMA, "schemaType": "AVRO", "references": []}).to_string();
    let lines = [
        ("GET", "/subjects?subjectPrefix=s&deleted=true&deletedOnly=true", ""),
        ("POST", "/subjects/s-value/versions?normalize=true", &schema),
        ("POST", "/subjects/s-value", &schema),
        ("POST", "/compatibility/subjects/s-value/versions/latest?verbose=true", &schema),
        ("POST", "/compatibility/subjects/s-value/versions", &schema),
        ("GET", "/subjects/s-value/versions/-1/schema", ""),
        ("GET", "/subjects/a%2Fb%20c/versions/2147483647/referencedby", ""),
        ("GET", "/schemas/ids/1/versions?deleted=true", ""),
        ("GET", "/schemas/ids/4294967295/schema", ""),
        ("PUT", "/config/s-value", r#"{"compatibility":"FULL_TRANSITIVE"}"#),
        ("PUT", "/config", r#"{"compatibility":"none"}"#),
        ("GET", "/config/s-value?defaultToGlobal=true", ""),
        ("DELETE", "/subjects/s-value/versions/1?permanent=true", ""),
        ("DELETE", "/subjects/s-value", ""),
        ("DELETE", "/config/s-value", ""),
        ("HEAD", "/mode/s-value", ""),
    ];
    lines.map(|(method, target, body)| format!("{method}\n{target}\n{body}")).to_vec()
}

fn asked(text: &str) -> Request {
    let (method, rest) = text.split_once('\n').unwrap_or((text, ""));
    let (target, body) = rest.split_once('\n').unwrap_or((rest, ""));
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let body = Bytes::copy_from_slice(body.as_bytes());
    Request { method: method.into(), path: path.into(), query: query.into(), body }
}

/// Asserts that an answer is one, and returns its body.
fn sound(response: &Response) -> Json {
    assert!(matches!(response.status, 200 | 400..=499), "{response:?}");
    let body: Json = serde_json::from_str(&response.body).unwrap();
    if response.status != 200 {
        assert!(
            body["error_code"].is_u64() && body["message"].as_str().is_some_and(|m| !m.is_empty()),
            "{body}"
        );
    }
    body
}

fn tables() -> (TempDir, Connection) {
    let folder = TempDir::new().unwrap();
    let db = folder::open_to_write(folder.path()).unwrap();
    db.execute_batch("PRAGMA synchronous = OFF").unwrap();
    (folder, db)
}

#[test]
fn a_damaged_request_is_answered_and_ids_keep_their_texts() {
    let (_folder, db) = tables();
    let requests = requests();
    let valid: Vec<&str> = requests.iter().map(String::as_str).collect();
    let mut first = None;
    hostile::feed_texts("a_damaged_request_is_answered_and_ids_keep_their_texts", 600, &valid, |text| {
        sound(&answer(&db, &asked(text)));
        // Whatever was registered and deleted meanwhile, an id never gets another text.
        let kept: Option<String> =
            db.query_row("SELECT text FROM schema WHERE id = 1", [], |row| row.get(0)).ok();
        assert!(first.is_none() || kept == first);
        first = kept;
    });
}

#[test]
fn a_schema_of_every_excess_is_answered() {
    let (_folder, db) = tables();
    let post = |text: &str| {
        let body = json!({"schema": text}).to_string().into();
        let path = "/subjects/s/versions".into();
        answer(&db, &Request { method: "POST".into(), path, query: String::new(), body })
    };
    let nested = |open: &str, close: &str, depth: usize| {
        format!("{}\"int\"{}", open.repeat(depth), close.repeat(depth))
    };
    let wide: Vec<Json> = (0..5_000).map(|i| json!({"name": format!("f{i}"), "type": "int"})).collect();
    let wide = json!({"type": "record", "name": "W", "fields": wide}).to_string();
    let mut doubling = json!("null");
    for level in (0..40).rev() {
        let again = if level == 39 { json!("null") } else { json!(format!("L{}", level + 1)) };
        doubling = json!({"type": "record", "name": format!("L{level}"), "fields": [
            {"name": "a", "type": doubling}, {"name": "b", "type": again}]});
    }
    let rows = [
        (nested("[", "]", 50_000), false),
        (nested(r#"{"type":"array","items":"#, "}", 50_000), false),
        (nested(r#"{"type":"array","items":"#, "}", 60), true),
        (format!(r#"{{"type":"record","name":"{}","fields":[]}}"#, "n".repeat(1 << 19)), true),
        (format!(r#"{{"type":"record","name":"{}","fields":[]}}"#, "n".repeat(1 << 20)), false),
        (r#"{"type":"fixed","name":"F","size":18446744073709551615}"#.into(), true),
        (r#"{"type":"record","name":"R","fields":[{"name":"r","type":"R"}]}"#.into(), true),
        // A record that holds itself by default has no end.
        (r#"{"type":"record","name":"R","fields":[{"name":"r","type":"R","default":{}}]}"#.into(), false),
        (
            r#"{"type":"record","name":"R","fields":[{"name":"r","type":["R","null"],"default":{}}]}"#.into(),
            false,
        ),
        (wide, true),
        (doubling.to_string(), true),
        (r#"{"type":"int","logicalType":"unheard-of"}"#.into(), true),
        (r#"{"type":"bytes","logicalType":"decimal","precision":-1,"scale":99999999999}"#.into(), true),
    ];
    // Each against nothing, and then the whole API once more over what has stayed.
    for (text, taken) in rows {
        db.execute_batch("DELETE FROM subject_version").unwrap();
        let response = post(&text);
        let body = sound(&response);
        let told: String = text.chars().take(80).collect();
        assert_eq!(
            response.status == 200,
            taken,
            "{told}: {}",
            body.to_string().chars().take(300).collect::<String>()
        );
        sound(&post(SCHEMA));
        requests().iter().for_each(|text| drop(sound(&answer(&db, &asked(text)))));
    }
}
