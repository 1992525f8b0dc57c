//! The REST API, request by request.

use hutong_core::ErrorKind;
use serde_json::{Value as Json, json};

use super::*;
use crate::embedded::Registry;
use crate::embedded::api::Request;
use crate::{Checked, SchemaRegistry};

struct Client(Registry);

impl Client {
    async fn send(&self, method: &str, target: &str, body: Json) -> (u16, Json) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        let request = Request { method: method.into(), path: path.into(), query: query.into(), body };
        let response = self.0.answer(request).await;
        (response.status, serde_json::from_str(&response.body).unwrap())
    }

    /// Sends, and expects a body of status 200.
    async fn ok(&self, method: &str, target: &str, body: Json, expected: Json) {
        assert_eq!(self.send(method, target, body).await, (200, expected), "{method} {target}");
    }

    /// Sends, and expects an error code; its status is the first three digits.
    async fn code(&self, method: &str, target: &str, body: Json, code: u16) {
        let (status, answer) = self.send(method, target, body).await;
        assert_eq!(answer["error_code"], code, "{method} {target}: {answer}");
        assert_eq!(status.to_string(), code.to_string()[..3]);
        assert!(answer["message"].as_str().is_some_and(|m| !m.is_empty()));
    }
}

fn client() -> (TempDir, Client) {
    let (folder, bus) = bus();
    (folder, Client(Registry::new(bus)))
}

fn schema(text: &str) -> Json {
    json!({"schema": text})
}

fn record(fields: &str) -> Json {
    schema(&format!(r#"{{"type":"record","name":"R","fields":[{fields}]}}"#))
}

const A: &str = r#"{"name":"a","type":"int"}"#;
const AB: &str = r#"{"name":"a","type":"int"},{"name":"b","type":["null","int"],"default":null}"#;
const ABC: &str = r#"{"name":"a","type":"int"},{"name":"c","type":"int"}"#;
const NULL: Json = Json::Null;

#[tokio::test]
async fn versions_and_ids() {
    let (_folder, c) = client();
    c.ok("GET", "/", NULL, json!({})).await;
    c.ok("GET", "/subjects", NULL, json!([])).await;
    c.ok("GET", "/schemas/types", NULL, json!(["AVRO"])).await;
    c.ok("POST", "/subjects/s-value/versions", record(A), json!({"id": 1})).await;
    c.ok("POST", "/subjects/s-value/versions?normalize=true", record(AB), json!({"id": 2})).await;
    // The same schema: the same id, no new version; also in another subject, and with other blanks.
    c.ok("POST", "/subjects/s-value/versions", record(A), json!({"id": 1})).await;
    let spaced = record(A)["schema"].as_str().unwrap().replace(',', " , ");
    c.ok("POST", "/subjects/other/versions", schema(&spaced), json!({"id": 1})).await;
    c.ok(
        "POST",
        "/subjects/other/versions",
        json!({"schema": record(A)["schema"], "schemaType": "AVRO", "references": []}),
        json!({"id": 1}),
    )
    .await;
    c.ok("GET", "/subjects", NULL, json!(["other", "s-value"])).await;
    c.ok("GET", "/subjects?subjectPrefix=s-", NULL, json!(["s-value"])).await;
    c.ok("GET", "/subjects/s-value/versions", NULL, json!([1, 2])).await;

    let text = record(AB)["schema"].clone();
    let second = json!({"subject": "s-value", "version": 2, "id": 2, "schema": text});
    for version in ["2", "latest", "-1"] {
        c.ok("GET", &format!("/subjects/s-value/versions/{version}"), NULL, second.clone()).await;
    }
    c.ok("POST", "/subjects/s-value", record(AB), second).await;
    let raw: Json = serde_json::from_str(text.as_str().unwrap()).unwrap();
    c.ok("GET", "/subjects/s-value/versions/2/schema", NULL, raw.clone()).await;
    c.ok("GET", "/subjects/s-value/versions/2/referencedby", NULL, json!([])).await;
    c.ok("GET", "/schemas/ids/2", NULL, json!({"schema": text})).await;
    c.ok("GET", "/schemas/ids/2/schema", NULL, raw).await;
    c.ok("GET", "/schemas/ids/1/subjects", NULL, json!(["other", "s-value"])).await;
    let both = json!([{"subject": "other", "version": 1}, {"subject": "s-value", "version": 1}]);
    c.ok("GET", "/schemas/ids/1/versions", NULL, both).await;

    c.code("GET", "/subjects/none/versions", NULL, 40401).await;
    c.code("GET", "/subjects/none/versions/latest", NULL, 40401).await;
    c.code("GET", "/subjects/s-value/versions/3", NULL, 40402).await;
    c.code("GET", "/subjects/s-value/versions/three", NULL, 42202).await;
    c.code("GET", "/subjects/s-value/versions/0", NULL, 42202).await;
    c.code("GET", "/schemas/ids/9", NULL, 40403).await;
    c.code("GET", "/schemas/ids/9/versions", NULL, 40403).await;
    c.code("GET", "/schemas/ids/x", NULL, 404).await;
    c.code("POST", "/subjects/none", record(A), 40401).await;
    c.code("POST", "/subjects/other", record(AB), 40403).await;
    c.code("GET", "/nothing", NULL, 404).await;
    c.code("PATCH", "/subjects", NULL, 405).await;
}

#[tokio::test]
async fn what_is_no_avro_schema_is_refused() {
    let (_folder, c) = client();
    for body in [
        schema("{"),
        schema("string"),
        schema(r#"{"type":"record","name":"R"}"#),
        schema(r#""unknown""#),
        schema(r#"{"type":"record","name":"R","fields":[{"name":"a","type":"Nowhere"}]}"#),
        schema(""),
        json!({}),
        json!({"schema": "{}", "schemaType": "JSON"}),
        json!({"schema": "\"int\"", "references": [{"name": "r", "subject": "s", "version": 1}]}),
        json!({"schema": "\"int\"", "ruleSet": {"domainRules": []}}),
    ] {
        c.code("POST", "/subjects/s/versions", body, 42201).await;
    }
    c.code("POST", "/subjects/s/versions", NULL, 400).await;
    c.ok("GET", "/subjects", NULL, json!([])).await;
    c.ok("POST", "/subjects/s/versions", schema("\"int\""), json!({"id": 1})).await;
    c.ok("POST", "/subjects/s/versions", schema("{\"type\": \"int\"}"), json!({"id": 1})).await;
}

#[tokio::test]
async fn compatibility_is_checked_at_the_subjects_level() {
    let (_folder, c) = client();
    let yes = json!({"is_compatible": true});
    c.ok("GET", "/config", NULL, json!({"compatibilityLevel": "BACKWARD"})).await;
    c.ok("POST", "/compatibility/subjects/s/versions/latest", record(A), yes.clone()).await;
    c.ok("POST", "/compatibility/subjects/s/versions", record(A), yes.clone()).await;
    c.code("POST", "/compatibility/subjects/s/versions/1", record(A), 40401).await;
    c.ok("POST", "/subjects/s/versions", record(A), json!({"id": 1})).await;
    c.code("POST", "/subjects/s/versions", record(ABC), 409).await;
    c.ok("POST", "/compatibility/subjects/s/versions/latest", record(AB), yes.clone()).await;
    c.ok("POST", "/compatibility/subjects/s/versions/1", record(ABC), json!({"is_compatible": false})).await;
    let (status, verbose) =
        c.send("POST", "/compatibility/subjects/s/versions?verbose=true", record(ABC)).await;
    assert_eq!((status, &verbose["is_compatible"]), (200, &json!(false)));
    let messages = verbose["messages"].to_string();
    assert!(
        messages.contains("READER_FIELD_MISSING_DEFAULT_VALUE") && messages.contains("oldSchemaVersion: 1"),
        "{messages}"
    );
    c.code("POST", "/compatibility/subjects/s/versions/7", record(A), 40402).await;
    c.code("POST", "/compatibility/subjects/s/versions/x", record(A), 42202).await;
    c.code("POST", "/compatibility/subjects/s/versions/1", schema("{"), 42201).await;

    c.code("GET", "/config/s", NULL, 40408).await;
    c.ok("GET", "/config/s?defaultToGlobal=true", NULL, json!({"compatibilityLevel": "BACKWARD"})).await;
    c.code("PUT", "/config/s", json!({"compatibility": "SIDEWAYS"}), 42203).await;
    c.ok("PUT", "/config/s", json!({"compatibility": "FORWARD"}), json!({"compatibility": "FORWARD"})).await;
    c.ok("GET", "/config/s", NULL, json!({"compatibilityLevel": "FORWARD"})).await;
    c.ok("POST", "/subjects/s/versions", record(ABC), json!({"id": 2})).await;
    // Transitive looks at every version, the others at the last one.
    let no = r#"{"name":"a","type":["null","int"],"default":null},{"name":"c","type":"int"}"#;
    c.ok("PUT", "/config/s", json!({"compatibility": "BACKWARD"}), json!({"compatibility": "BACKWARD"}))
        .await;
    c.ok("POST", "/compatibility/subjects/s/versions", record(no), yes.clone()).await;
    c.ok(
        "PUT",
        "/config/s",
        json!({"compatibility": "backward_transitive"}),
        json!({"compatibility": "BACKWARD_TRANSITIVE"}),
    )
    .await;
    c.ok("POST", "/compatibility/subjects/s/versions", record(no), json!({"is_compatible": false})).await;
    c.ok("POST", "/compatibility/subjects/s/versions/2", record(no), yes).await;

    c.ok("DELETE", "/config/s", NULL, json!({"compatibilityLevel": "BACKWARD_TRANSITIVE"})).await;
    c.code("DELETE", "/config/s", NULL, 40401).await;
    c.ok("PUT", "/config", json!({"compatibility": "NONE"}), json!({"compatibility": "NONE"})).await;
    c.ok("POST", "/subjects/s/versions", schema("\"string\""), json!({"id": 3})).await;
    c.ok("DELETE", "/config", NULL, json!({"compatibilityLevel": "NONE"})).await;
    c.ok("GET", "/config", NULL, json!({"compatibilityLevel": "BACKWARD"})).await;
    c.ok("GET", "/mode", NULL, json!({"mode": "READWRITE"})).await;
    c.code("GET", "/mode/s", NULL, 40409).await;
}

#[tokio::test]
async fn deletion_is_soft_first_and_then_permanent() {
    let (_folder, c) = client();
    for (fields, id) in [(A, 1), (AB, 2)] {
        c.ok("POST", "/subjects/s/versions", record(fields), json!({"id": id})).await;
    }
    c.code("DELETE", "/subjects/s/versions/2?permanent=true", NULL, 40407).await;
    c.ok("DELETE", "/subjects/s/versions/latest", NULL, json!(2)).await;
    c.code("DELETE", "/subjects/s/versions/2", NULL, 40406).await;
    c.ok("GET", "/subjects/s/versions", NULL, json!([1])).await;
    c.ok("GET", "/subjects/s/versions?deleted=true", NULL, json!([1, 2])).await;
    c.ok("GET", "/subjects/s/versions?deletedOnly=true", NULL, json!([2])).await;
    c.code("GET", "/subjects/s/versions/2", NULL, 40402).await;
    assert_eq!(c.send("GET", "/subjects/s/versions/2?deleted=true", NULL).await.1["id"], 2);
    c.code("POST", "/subjects/s", record(AB), 40403).await;
    assert_eq!(c.send("POST", "/subjects/s?deleted=true", record(AB)).await.1["version"], 2);
    // Records in the log carry the id: it is served as long as any version has it.
    c.ok("GET", "/schemas/ids/2", NULL, json!({"schema": record(AB)["schema"]})).await;
    c.ok("GET", "/schemas/ids/2/versions", NULL, json!([])).await;
    // Registered again: the same id, a new version.
    c.ok("POST", "/subjects/s/versions", record(AB), json!({"id": 2})).await;
    c.ok("GET", "/subjects/s/versions", NULL, json!([1, 3])).await;
    c.ok("DELETE", "/subjects/s/versions/2?permanent=true", NULL, json!(2)).await;
    c.ok("GET", "/subjects/s/versions?deleted=true", NULL, json!([1, 3])).await;

    c.ok("PUT", "/config/s", json!({"compatibility": "FULL"}), json!({"compatibility": "FULL"})).await;
    c.code("DELETE", "/subjects/none", NULL, 40401).await;
    c.code("DELETE", "/subjects/s?permanent=true", NULL, 40405).await;
    c.ok("DELETE", "/subjects/s", NULL, json!([1, 3])).await;
    c.code("DELETE", "/subjects/s", NULL, 40404).await;
    c.code("GET", "/config/s", NULL, 40408).await;
    c.code("GET", "/subjects/s/versions", NULL, 40401).await;
    c.ok("GET", "/subjects", NULL, json!([])).await;
    c.ok("GET", "/subjects?deleted=true", NULL, json!(["s"])).await;
    c.ok("DELETE", "/subjects/s?permanent=true", NULL, json!([1, 3])).await;
    c.ok("GET", "/subjects?deleted=true", NULL, json!([])).await;
    c.code("GET", "/schemas/ids/2", NULL, 40403).await;
    c.ok("POST", "/subjects/t/versions", schema("\"int\""), json!({"id": 3})).await;
    c.ok("POST", "/subjects/s/versions", record(AB), json!({"id": 2})).await;
}

#[tokio::test]
async fn subjects_may_have_any_name() {
    let (_folder, c) = client();
    for (encoded, name) in
        [("a%2Fb%20c", "a/b c"), ("%E4%BA%BA%E5%8F%A3-value", "人口-value"), ("versions", "versions")]
    {
        let (status, _) = c.send("POST", &format!("/subjects/{encoded}/versions"), schema("\"int\"")).await;
        assert_eq!(status, 200);
        let (_, answer) = c.send("GET", &format!("/subjects/{encoded}/versions/1"), NULL).await;
        assert_eq!(answer["subject"], name);
    }
    c.code("GET", "/subjects/%FF/versions", NULL, 404).await;
}

#[tokio::test]
async fn ids_outlast_the_process_and_a_read_only_folder_serves_them() {
    let (folder, c) = client();
    c.ok("POST", "/subjects/s/versions", schema("\"int\""), json!({"id": 1})).await;
    drop(c);
    let c = Client(Registry::new(Bus::open_read_only(folder.path(), Options::default()).unwrap()));
    c.ok("GET", "/schemas/ids/1", NULL, json!({"schema": "\"int\""})).await;
    c.code("POST", "/subjects/s/versions", schema("\"long\""), 50001).await;
}

#[tokio::test]
async fn inside_the_process_it_is_a_schema_registry() {
    let (_folder, c) = client();
    let text = |body: Json| body["schema"].as_str().unwrap().to_owned();
    let registry: &dyn SchemaRegistry = &c.0;
    registry.set_compatibility("s-value", "FULL_TRANSITIVE").await.unwrap();
    assert_eq!(registry.check("s-value", &text(record(A))).await.unwrap(), Checked::default());
    assert_eq!(registry.register("s-value", &text(record(A))).await.unwrap(), 1);
    assert_eq!(registry.register("s-value", &text(record(A))).await.unwrap(), 1);
    assert_eq!(registry.by_id(1).await.unwrap().unwrap(), text(record(A)));
    assert_eq!(registry.by_id(2).await.unwrap(), None);

    let why = registry.check("s-value", &text(record(ABC))).await.unwrap();
    assert!(why.reasons[0].contains("field 'c'"), "{why:?}");
    for (schema, kind) in [(text(record(ABC)), ErrorKind::SchemaConflict), ("{".into(), ErrorKind::Malformed)]
    {
        assert_eq!(registry.register("s-value", &schema).await.unwrap_err().kind, kind);
    }
    let error = registry.register("s-value", &text(record(ABC))).await.unwrap_err();
    assert!(error.hint.is_some() && error.to_string().contains("field 'c'"), "{error:?}");
    assert!(!error.to_string().contains("oldSchema:"), "{error}");
    let error = registry.set_compatibility("s-value", "SIDEWAYS").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Config);
}
