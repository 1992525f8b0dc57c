//! The embedded bus's schema registry on a port: HTTP here, the rules in `hutong_bus::embedded::api`.

use axum::Router;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hutong_bus::embedded::Registry;
use hutong_bus::embedded::api::{self, MEDIA_TYPE, Request};
use hutong_bus::embedded::registry::Fault;

/// The largest body of a request, in bytes: a schema's text twice over, for JSON in JSON escapes every quote.
pub const BODY_LIMIT_BYTES: usize = 2 << 20;

/// Returns the routes of the Confluent API over a registry. A body beyond [`BODY_LIMIT_BYTES`] is refused with 413.
pub fn router(registry: Registry) -> Router {
    Router::new().fallback(answer).layer(DefaultBodyLimit::max(BODY_LIMIT_BYTES)).with_state(registry)
}

async fn answer(
    State(registry): State<Registry>,
    method: Method,
    uri: Uri,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(refused) => {
            let status = refused.status();
            let message = match status {
                StatusCode::PAYLOAD_TOO_LARGE => {
                    format!("the body has more than {BODY_LIMIT_BYTES} bytes: register a smaller schema")
                }
                _ => format!("the body did not arrive: {}", refused.body_text()),
            };
            return sent(&api::Response::fault(&Fault { code: status.as_u16().into(), message }));
        }
    };
    let request = Request {
        method: method.as_str().to_owned(),
        path: uri.path().to_owned(),
        query: uri.query().unwrap_or_default().to_owned(),
        body,
    };
    sent(&registry.answer(request).await)
}

fn sent(answer: &api::Response) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, [(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE))], answer.body.clone())
        .into_response()
}

#[cfg(test)]
mod tests {
    use hutong_bus::embedded::{Bus, Options};
    use reqwest::Client;
    use schema_registry_converter::async_impl::avro::{AvroDecoder, AvroEncoder};
    use schema_registry_converter::async_impl::schema_registry::{
        SrSettings, get_all_subjects, get_all_versions, get_schema_by_id, get_schema_by_subject,
        is_compatible_schema, post_schema,
    };
    use schema_registry_converter::schema_registry_common::{
        SchemaType, SubjectNameStrategy, SuppliedSchema,
    };
    use serde_json::{Value as Json, json};
    use tempfile::TempDir;
    use tokio::net::TcpListener;
    use tokio::task::JoinSet;

    use super::*;

    /// Serves a new registry on a port of this machine and returns its address.
    async fn serve() -> (TempDir, JoinSet<()>, String) {
        let folder = TempDir::new().unwrap();
        let registry = Registry::new(Bus::open(folder.path(), Options::default()).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, router(registry)).await.unwrap() });
        (folder, server, url)
    }

    fn supplied(fields: &str) -> SuppliedSchema {
        let record =
            format!(r#"{{"type":"record","name":"R","namespace":"gongan.s.v1","fields":[{fields}]}}"#);
        SuppliedSchema::new(None, SchemaType::Avro, record)
    }

    const A: &str = r#"{"name":"xm","type":"string"}"#;

    fn topic() -> SubjectNameStrategy {
        SubjectNameStrategy::TopicNameStrategy("gongan.s.v1".into(), false)
    }

    #[tokio::test]
    async fn an_ordinary_client_registers_encodes_and_decodes() {
        let (_folder, _server, url) = serve().await;
        let settings = SrSettings::new(url);
        let subject = "gongan.s.v1-value".to_owned();

        let posted = post_schema(&settings, subject.clone(), supplied(A)).await.unwrap();

        assert_eq!(get_schema_by_id(posted.id, &settings).await.unwrap().schema, supplied(A).schema);
        assert_eq!(get_schema_by_subject(&settings, &topic()).await.unwrap().id, posted.id);
        assert_eq!(get_all_subjects(&settings).await.unwrap(), std::slice::from_ref(&subject));
        assert_eq!(get_all_versions(&settings, subject.clone()).await.unwrap(), [1]);
        let bad = supplied(r#"{"name":"n","type":"int"}"#);
        assert!(!is_compatible_schema(&settings, subject.clone(), bad.clone()).await.unwrap());
        assert!(post_schema(&settings, subject, bad).await.is_err());

        let encoder = AvroEncoder::new(settings.clone());
        let bytes = encoder.encode(vec![("xm", "测试甲".into())], topic()).await.unwrap();
        assert_eq!(bytes[..5], [&[0], posted.id.to_be_bytes().as_slice()].concat());
        let decoded = AvroDecoder::new(settings).decode(Some(&bytes)).await.unwrap();
        assert!(format!("{:?}", decoded.value).contains("测试甲"));
    }

    #[tokio::test]
    async fn the_path_stays_encoded_and_answers_have_the_media_type() {
        let (_folder, _server, url) = serve().await;
        let client = Client::new();
        let target = format!("{url}/subjects/a%2Fb%20c/versions");
        let body = json!({"schema": "\"int\""}).to_string();

        let posted = client.post(&target).header("content-type", MEDIA_TYPE).body(body).send().await.unwrap();

        assert_eq!(posted.headers()["content-type"], MEDIA_TYPE);
        assert_eq!(posted.json::<Json>().await.unwrap(), json!({"id": 1}));
        let subjects = client.get(format!("{url}/subjects?deleted=true")).send().await.unwrap();
        assert_eq!(subjects.json::<Json>().await.unwrap(), json!(["a/b c"]));
        let missing = client.get(format!("{url}/subjects/none/versions/latest")).send().await.unwrap();
        assert_eq!(missing.status(), 404);
        assert_eq!(missing.json::<Json>().await.unwrap()["error_code"], 40401);
    }
}
