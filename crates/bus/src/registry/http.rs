//! The client of a registry that speaks the Confluent REST API.
//!
//! Calls the API itself: the client library keeps neither the status nor the registry's reasons, and both
//! decide here whether a lane retries or halts. Source: Confluent Schema Registry API reference, v1.

use std::time::Duration;

use async_trait::async_trait;
use hutong_core::{Error, ErrorKind, Result, Secret};
use reqwest::{Client, Method, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::{Checked, REFUSED, SchemaRegistry, without_schema};

const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";
/// Answers are schema texts and short messages; nothing else is read to its end.
const ANSWER_LIMIT_BYTES: usize = 16 << 20;

/// What a person does about an answer that is none of the API's.
const NOT_A_REGISTRY: &str = "check the registry's address: no schema is so large";

/// How a registry is reached.
#[derive(Debug, Clone)]
pub struct RegistryConfig {
    /// Its addresses with path, tried in order: `http://registry:8081`.
    pub urls: Vec<String>,
    /// User and password, when it asks for them.
    pub basic: Option<(String, Secret)>,
    /// How long one request may take.
    pub timeout: Duration,
}

impl RegistryConfig {
    /// Describes a registry at one address, without credentials, with 10 seconds a request.
    pub fn new(url: impl Into<String>) -> Self {
        Self { urls: vec![url.into()], basic: None, timeout: Duration::from_secs(10) }
    }
}

/// A registry that speaks the Confluent REST API.
pub struct HttpRegistry {
    client: Client,
    urls: Vec<String>,
    basic: Option<(String, Secret)>,
}

/// A body that holds a schema.
#[derive(Debug, Deserialize)]
struct Text {
    schema: String,
}

/// The body of every error that the API documents.
#[derive(Debug, Default, Deserialize)]
struct Refusal {
    #[serde(default)]
    error_code: i64,
    #[serde(default)]
    message: String,
}

impl HttpRegistry {
    /// Makes the client; touches the network only when it is asked something.
    pub fn new(config: RegistryConfig) -> Result<Self> {
        let doing = "make the registry's client";
        if config.urls.is_empty() {
            return Err(Error::new(ErrorKind::Config, doing, "it has no address"));
        }
        let client = Client::builder()
            .timeout(config.timeout)
            .connect_timeout(config.timeout)
            .build()
            .map_err(|e| Error::caused(ErrorKind::Config, doing, e))?;
        let urls = config.urls.iter().map(|u| u.trim_end_matches('/').to_owned()).collect();
        Ok(Self { client, urls, basic: config.basic })
    }

    /// Sends a request to the first address that answers.
    async fn send(&self, doing: &str, method: Method, path: &str, body: Option<&Json>) -> Result<Response> {
        let mut last = None;
        for url in &self.urls {
            let mut request = self.client.request(method.clone(), format!("{url}{path}"));
            request = request.header("Accept", MEDIA_TYPE);
            if let Some((user, password)) = &self.basic {
                request = request.basic_auth(user, Some(password.reveal()));
            }
            if let Some(body) = body {
                request = request.header("Content-Type", MEDIA_TYPE).body(body.to_string());
            }
            match request.send().await {
                Ok(answer) if answer.status().is_server_error() => {
                    last = Some(refused(doing, answer).await);
                }
                Ok(answer) => return Ok(answer),
                // The address may hold a password; the error says enough without it.
                Err(error) => last = Some(Error::caused(ErrorKind::Unavailable, doing, error.without_url())),
            }
        }
        Err(last.unwrap_or_else(|| Error::new(ErrorKind::Config, doing, "the registry has no address")))
    }
}

#[async_trait]
impl SchemaRegistry for HttpRegistry {
    async fn register(&self, subject: &str, schema: &str) -> Result<u32> {
        #[derive(Deserialize)]
        struct Registered {
            id: u32,
        }
        let doing = format!("register the schema of {subject}");
        let path = format!("/subjects/{}/versions", escape(subject));
        let body = json!({"schemaType": "AVRO", "schema": schema});
        let answer = self.send(&doing, Method::POST, &path, Some(&body)).await?;
        if !answer.status().is_success() {
            return Err(refused(&doing, answer).await);
        }
        Ok(read::<Registered>(&doing, answer).await?.id)
    }

    async fn by_id(&self, id: u32) -> Result<Option<String>> {
        let doing = format!("fetch schema {id}");
        let answer = self.send(&doing, Method::GET, &format!("/schemas/ids/{id}"), None).await?;
        if answer.status() == StatusCode::NOT_FOUND {
            let refusal = refusal(answer).await;
            // 40403: no such schema. Anything else that is not found is a wrong address, not a wrong id.
            return match refusal.error_code {
                40403 => Ok(None),
                _ => Err(no_such_path(doing)),
            };
        }
        if !answer.status().is_success() {
            return Err(refused(&doing, answer).await);
        }
        // A schema of another type than Avro is found to be none when it is compiled.
        Ok(Some(read::<Text>(&doing, answer).await?.schema))
    }

    async fn version(&self, subject: &str, schema: &str) -> Result<Option<u32>> {
        #[derive(Deserialize)]
        struct Found {
            version: u32,
        }
        let doing = format!("look up the schema of {subject}");
        let path = format!("/subjects/{}", escape(subject));
        let body = json!({"schemaType": "AVRO", "schema": schema});
        let answer = self.send(&doing, Method::POST, &path, Some(&body)).await?;
        match answer.status() {
            // 40401, 40403: no such subject, or not this schema. Of another path nothing is known either.
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => Ok(Some(read::<Found>(&doing, answer).await?.version)),
            _ => Err(refused(&doing, answer).await),
        }
    }

    async fn set_compatibility(&self, subject: &str, level: &str) -> Result<()> {
        let doing = format!("set the compatibility of {subject} to {level}");
        let path = format!("/config/{}", escape(subject));
        let body = json!({"compatibility": level});
        let mut answer = self.send(&doing, Method::PUT, &path, Some(&body)).await?;
        if answer.status() == StatusCode::CONFLICT {
            // Somebody set it at the same time, and now there is one to replace: Apicurio says so where others wait.
            answer = self.send(&doing, Method::PUT, &path, Some(&body)).await?;
        }
        match answer.status() {
            status if status.is_success() => Ok(()),
            // I6: no word about a schema, which would suspend the stream.
            StatusCode::CONFLICT => {
                Err(Error::new(ErrorKind::Unavailable, doing, refusal(answer).await.message))
            }
            StatusCode::UNPROCESSABLE_ENTITY => {
                let error = Error::new(ErrorKind::Config, doing, refusal(answer).await.message);
                Err(error.hint("name a level that the registry knows in the stream's `compatibility`"))
            }
            _ => Err(refused(&doing, answer).await),
        }
    }

    async fn check(&self, subject: &str, schema: &str) -> Result<Checked> {
        #[derive(Deserialize)]
        struct Answer {
            is_compatible: bool,
            #[serde(default)]
            messages: Option<Vec<String>>,
        }
        let doing = format!("check the schema of {subject}");
        let path = format!("/compatibility/subjects/{}/versions?verbose=true", escape(subject));
        let body = json!({"schemaType": "AVRO", "schema": schema});
        let answer = self.send(&doing, Method::POST, &path, Some(&body)).await?;
        if answer.status() == StatusCode::NOT_FOUND {
            // 40401, 40402: no such subject or version yet: nothing to be incompatible with.
            return match refusal(answer).await.error_code {
                40401 | 40402 => Ok(Checked::default()),
                _ => Err(no_such_path(doing)),
            };
        }
        if !answer.status().is_success() {
            return Err(refused(&doing, answer).await);
        }
        let answer: Answer = read(&doing, answer).await?;
        if answer.is_compatible {
            return Ok(Checked::default());
        }
        let mut reasons = answer.messages.unwrap_or_default();
        if reasons.is_empty() {
            reasons.push("the registry does not say why".to_owned());
        }
        let doing = format!("fetch the latest schema of {subject}");
        let path = format!("/subjects/{}/versions/latest", escape(subject));
        let answer = self.send(&doing, Method::GET, &path, None).await?;
        let latest = match answer.status() {
            StatusCode::NOT_FOUND => None,
            status if status.is_success() => Some(read::<Text>(&doing, answer).await?.schema),
            _ => return Err(refused(&doing, answer).await),
        };
        Ok(Checked { reasons, latest })
    }
}

/// Reads an answer's body, which may not be longer than [`ANSWER_LIMIT_BYTES`].
async fn body(doing: &str, mut answer: Response) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        match answer.chunk().await {
            Ok(Some(chunk)) if bytes.len() + chunk.len() <= ANSWER_LIMIT_BYTES => {
                bytes.extend_from_slice(&chunk);
            }
            Ok(Some(_)) => {
                let why = format!("the answer has more than {ANSWER_LIMIT_BYTES} bytes");
                return Err(Error::new(ErrorKind::Unavailable, doing, why).hint(NOT_A_REGISTRY));
            }
            Ok(None) => return Ok(bytes),
            Err(error) => return Err(Error::caused(ErrorKind::Unavailable, doing, error.without_url())),
        }
    }
}

async fn read<T: for<'de> Deserialize<'de>>(doing: &str, answer: Response) -> Result<T> {
    let bytes = body(doing, answer).await?;
    serde_json::from_slice(&bytes)
        .map_err(|e| Error::new(ErrorKind::Unavailable, doing, format!("the answer is not the API's: {e}")))
}

async fn refusal(answer: Response) -> Refusal {
    match body("read the registry's refusal", answer).await {
        Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
        Err(_) => Refusal::default(),
    }
}

/// Makes the error of an address that is not a registry's.
fn no_such_path(doing: String) -> Error {
    Error::new(ErrorKind::Config, doing, "the registry has no such path")
        .hint("check the registry's address and path")
}

/// Makes the error of an answer that is no success.
async fn refused(doing: &str, answer: Response) -> Error {
    let status = answer.status();
    let why = without_schema(&refusal(answer).await.message);
    let why = if why.is_empty() { format!("the registry answers {status}") } else { why };
    let kind = match status {
        StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY => ErrorKind::SchemaConflict,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ErrorKind::Denied,
        StatusCode::NOT_FOUND => ErrorKind::Config,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => ErrorKind::Unavailable,
        status if status.is_server_error() => ErrorKind::Unavailable,
        _ => ErrorKind::Broken,
    };
    let error = Error::new(kind, doing, why);
    match kind {
        ErrorKind::SchemaConflict => error.hint(REFUSED),
        ErrorKind::Denied => error.hint("give the registry's user the right to do this"),
        ErrorKind::Config => error.hint("check the registry's address and path"),
        _ => error,
    }
}

/// Escapes a subject for use as one segment of a path.
fn escape(subject: &str) -> String {
    subject.bytes().fold(String::new(), |mut text, b| {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' => text.push(b as char),
            _ => text.push_str(&format!("%{b:02X}")),
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::sync::{Arc, Mutex};

    use hutong_testkit::hostile;

    use super::*;

    /// Returns a registry that answers everything with status 404 and an error code.
    fn answering(code: i64) -> HttpRegistry {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let mut connection = connection.unwrap();
                // The head of a request comes at once, and its body is of no interest.
                let _ = connection.read(&mut [0; 4096]).unwrap();
                let body = json!({"error_code": code, "message": "not found"}).to_string();
                let head = "HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length:";
                write!(connection, "{head} {}\r\n\r\n{body}", body.len()).unwrap();
            }
        });
        HttpRegistry::new(RegistryConfig::new(url)).unwrap()
    }

    /// Returns a registry that answers everything with what `write` sends, and then ends the connection.
    fn sending(write: impl Fn(&mut std::net::TcpStream) + Send + 'static) -> HttpRegistry {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let mut connection = connection.unwrap();
                let _ = connection.read(&mut [0; 4096]);
                write(&mut connection);
            }
        });
        HttpRegistry::new(RegistryConfig::new(url)).unwrap()
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn a_hostile_answer_without_an_end_is_given_up_at_the_limit() {
        let head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
        let endless = sending(|connection| {
            let piece = [b' '; 1 << 16];
            if connection.write_all(head).is_ok() {
                while connection.write_all(&piece).is_ok() {}
            }
        });
        let runtime = runtime();
        let mut told = None;
        // What was read, and what grows of it.
        hostile::within(4 * ANSWER_LIMIT_BYTES, || told = Some(runtime.block_on(endless.by_id(7))));
        let error = told.unwrap().unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable, "it is an outage, and no word about a schema");
        assert!(error.to_string().contains("more than 16777216 bytes") && error.hint.is_some(), "{error}");
    }

    #[test]
    fn i3_a_hostile_answer_is_an_outage_or_what_it_says() {
        let answer = Arc::new(Mutex::new(Vec::new()));
        let answers = Arc::clone(&answer);
        let registry = sending(move |connection| {
            let _ = connection.write_all(&answers.lock().unwrap());
        });
        let whole = |status: &str, body: Json| {
            let body = body.to_string();
            format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
                .into_bytes()
        };
        let valid = [
            whole("200 OK", json!({"schema": "\"int\"", "id": 7})),
            whole("200 OK", json!({"is_compatible": false, "messages": ["a reason"]})),
            whole("404 Not Found", json!({"error_code": 40403, "message": "Schema not found"})),
            whole("409 Conflict", json!({"error_code": 409, "message": "incompatible, {oldSchema: …"})),
            whole("503 Unavailable", json!("later")),
        ];
        let runtime = runtime();
        hostile::feed("i3_a_hostile_answer_is_an_outage_or_what_it_says", 200, &valid, |bytes| {
            *answer.lock().unwrap() = bytes.to_vec();
            let text = String::from_utf8_lossy(bytes).into_owned();
            runtime.block_on(async {
                if let Ok(None) = registry.by_id(7).await {
                    assert!(text.contains("40403"), "only its own word says that a schema is absent: {text}");
                }
                let _ = registry.register("s", "\"int\"").await;
                let _ = registry.check("s", "\"int\"").await;
            });
        });
    }

    #[tokio::test]
    async fn i6_a_level_that_another_sets_at_the_same_time_is_no_word_about_a_schema() {
        let answering = |status: &'static str, times: usize| {
            let left = AtomicUsize::new(times);
            sending(move |connection| {
                let refuses = left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok();
                let status = if refuses { status } else { "200 OK" };
                let body = json!({"error_code": 409, "message": "exists already"}).to_string();
                let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length:");
                let _ = write!(connection, "{head} {}\r\n\r\n{body}", body.len());
            })
        };
        answering("409 Conflict", 1).set_compatibility("s", "FULL").await.unwrap();
        let error = answering("409 Conflict", 2).set_compatibility("s", "FULL").await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
        let error = answering("422 Unprocessable Entity", 1).set_compatibility("s", "ODD").await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Config, "{error}");
    }

    #[tokio::test]
    async fn i3_only_the_registrys_own_word_says_that_a_schema_is_absent() {
        assert_eq!(answering(40403).by_id(7).await.unwrap(), None);
        // 404 is what a registry's server says of a path that it does not have.
        for code in [404, 40401, 0] {
            assert_eq!(answering(code).by_id(7).await.unwrap_err().kind, ErrorKind::Config, "{code}");
        }
        for code in [40401, 40402] {
            assert_eq!(answering(code).check("s", "\"int\"").await.unwrap(), Checked::default());
        }
        let error = answering(404).check("s", "\"int\"").await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Config);
        assert!(error.hint.is_some_and(|hint| hint.contains("address")));
    }
}
