//! Two ordinary clients drive both registries: the embedded bus's own and Apicurio.

use std::net::TcpStream;

use hutong_testkit::launch::{Registry, free_port};
use schema_registry_converter::async_impl::avro::{AvroDecoder, AvroEncoder};
use schema_registry_converter::async_impl::schema_registry::{
    SrSettings, get_all_subjects, get_all_versions, get_schema_by_id, get_schema_by_subject,
    get_schema_by_subject_and_version, is_compatible_schema, post_schema,
};
use schema_registry_converter::schema_registry_common::{SchemaType, SubjectNameStrategy, SuppliedSchema};
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use crate::cli::{self, Running, ended, hutong, python};

/// A running program whose bus is a folder, and the address of its registry.
struct Embedded {
    running: Running,
    url: String,
    _folder: TempDir,
}

fn embedded() -> Embedded {
    let folder = TempDir::new().unwrap();
    let address = format!("127.0.0.1:{}", free_port());
    let config = format!(
        "[bus.embedded]\nfolder = \"bus\"\nregistry = \"{address}\"\n\n[http]\naddress = \"127.0.0.1:0\"\n"
    );
    std::fs::write(folder.path().join("hutong.toml"), config).unwrap();
    let mut running = cli::start(hutong(folder.path(), &["run"]));
    running.until("the registry listens", || TcpStream::connect(&address).is_ok());
    Embedded { running, url: format!("http://{address}"), _folder: folder }
}

/// Registers, finds, refuses, encodes and decodes with the client library for Rust.
async fn drive_with_the_rust_client(url: &str) {
    let topic = "gongan.rust_client.v1";
    let settings = SrSettings::new(url.to_owned());
    let value = || SubjectNameStrategy::TopicNameStrategy(topic.into(), false);
    let subject = format!("{topic}-value");
    let schema = |fields: &[Json]| {
        let record = json!({"type": "record", "name": "R", "namespace": topic, "fields": fields});
        SuppliedSchema::new(Some(format!("{topic}.R")), SchemaType::Avro, record.to_string())
    };
    let name = json!({"name": "xm", "type": "string"});
    let born = json!({"name": "csrq", "type": ["null", {"type": "int", "logicalType": "date"}], "default": null});
    let count = json!({"name": "n", "type": "int"});
    let (first, grown) = (schema(&[name.clone()]), schema(&[name.clone(), born]));

    // An unknown subject is an error that no repetition cures.
    let unknown = get_schema_by_subject(&settings, &value()).await.unwrap_err();
    assert!(!unknown.retriable, "{unknown}");

    let posted = post_schema(&settings, subject.clone(), first.clone()).await.unwrap();
    assert_eq!(post_schema(&settings, subject.clone(), first.clone()).await.unwrap().id, posted.id);
    let json_of = |text: &str| serde_json::from_str::<Json>(text).unwrap();
    let by_id = get_schema_by_id(posted.id, &settings).await.unwrap();
    assert_eq!(json_of(&by_id.schema), json_of(&first.schema));
    assert_eq!(get_schema_by_subject(&settings, &value()).await.unwrap().id, posted.id);
    let by_version = get_schema_by_subject_and_version(&settings, &subject, Some(1)).await.unwrap();
    assert_eq!((by_version.id, by_version.version), (posted.id, Some(1)));
    assert!(get_all_subjects(&settings).await.unwrap().contains(&subject));

    set_compatibility(url, &subject, "FULL_TRANSITIVE").await;
    let misfit = schema(&[name, count]);
    assert!(!is_compatible_schema(&settings, subject.clone(), misfit.clone()).await.unwrap());
    let refused = post_schema(&settings, subject.clone(), misfit).await.unwrap_err();
    assert!(!refused.retriable, "{refused}");
    assert!(is_compatible_schema(&settings, subject.clone(), grown.clone()).await.unwrap());
    let second = post_schema(&settings, subject.clone(), grown).await.unwrap();
    assert_ne!(second.id, posted.id);
    assert_eq!(get_all_versions(&settings, subject.clone()).await.unwrap(), [1, 2]);

    #[derive(serde::Serialize, serde::Deserialize, Debug, PartialEq)]
    struct R {
        xm: String,
        csrq: Option<i32>,
    }
    let person = R { xm: "测试甲".into(), csrq: Some(7370) };
    let encoder = AvroEncoder::new(settings.clone());
    let bytes = encoder.encode_struct(&person, &value()).await.unwrap();
    assert_eq!(bytes[..5], [&[0], second.id.to_be_bytes().as_slice()].concat());
    let decoded = AvroDecoder::new(settings).decode(Some(&bytes)).await.unwrap();
    let text = format!("{:?}", decoded.value);
    assert!(text.contains("测试甲") && text.contains("Date(7370)"), "{text}");
}

/// The client library has no call for it.
async fn set_compatibility(url: &str, subject: &str, level: &str) {
    let request = reqwest::Client::new()
        .put(format!("{url}/config/{subject}"))
        .header("content-type", "application/vnd.schemaregistry.v1+json")
        .body(json!({"compatibility": level}).to_string());
    let answer = request.send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
}

#[tokio::test]
async fn the_rust_client_uses_the_embedded_registry() {
    let embedded = embedded();
    drive_with_the_rust_client(&embedded.url).await;
    embedded.running.stop().expect(0);
}

#[tokio::test]
async fn the_rust_client_uses_apicurio() {
    drive_with_the_rust_client(&Registry::shared().await.unwrap().url()).await;
}

#[test]
fn the_python_client_uses_the_embedded_registry() {
    let embedded = embedded();
    let out = ended(python("registry.py", &[&embedded.url, "confluent"])).expect(0);
    assert_eq!(out, "ok\n");
    embedded.running.stop().expect(0);
}

#[tokio::test]
async fn the_python_client_uses_apicurio() {
    let url = Registry::shared().await.unwrap().url();
    let out = ended(python("registry.py", &[&url, "apicurio"])).expect(0);
    assert_eq!(out, "ok\n");
}
