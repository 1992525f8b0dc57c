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

use crate::cli::{ended, python};
use crate::installation::{Bus, Installation, Run, until};

/// Runs a program whose bus is a folder, and returns it with the address of its registry.
async fn embedded(name: &str) -> (Installation, Run, String) {
    let installation = Installation::new(Bus::Embedded, name, "").await;
    let address = format!("127.0.0.1:{}", free_port());
    let http = "[http]\naddress = \"127.0.0.1:0\"\n";
    let bus = format!("[bus.embedded]\nfolder = \"bus\"\nregistry = \"{address}\"\n");
    installation.write("hutong.toml", &format!("{bus}\n{http}"));
    let run = installation.run();
    until("the registry listens", async || TcpStream::connect(&address).ok()).await;
    (installation, run, format!("http://{address}"))
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
    let born =
        json!({"name": "csrq", "type": ["null", {"type": "int", "logicalType": "date"}], "default": null});
    let count = json!({"name": "n", "type": "int"});
    let (first, grown) = (schema(std::slice::from_ref(&name)), schema(&[name.clone(), born]));

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
    struct Resident {
        xm: String,
        csrq: Option<i32>,
    }
    let person = Resident { xm: "测试甲".into(), csrq: Some(7370) };
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
    let (_installation, run, url) = embedded("registry_rust").await;
    drive_with_the_rust_client(&url).await;
    run.stop().await;
}

#[tokio::test]
async fn the_rust_client_uses_apicurio() {
    drive_with_the_rust_client(&Registry::shared().await.unwrap().url()).await;
}

#[tokio::test]
async fn the_python_client_uses_the_embedded_registry() {
    let (_installation, run, url) = embedded("registry_python").await;
    assert_eq!(ended(python("registry.py", &[&url, "confluent"])).expect(0), "ok\n");
    run.stop().await;
}

#[tokio::test]
async fn the_python_client_uses_apicurio() {
    let url = Registry::shared().await.unwrap().url();
    assert_eq!(ended(python("registry.py", &[&url, "apicurio"])).expect(0), "ok\n");
}
