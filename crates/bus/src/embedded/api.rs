//! The Confluent Schema Registry's REST API as a function from request to response: no sockets here.
//!
//! Paths, bodies and error codes are those of the API's reference (docs.confluent.io, "Schema Registry API
//! Reference", 7.x). Only Avro, no references between schemas, mode always READWRITE.

use std::borrow::Cow;

use bytes::Bytes;
use percent_encoding::percent_decode_str;
use rusqlite::Connection;
use serde_json::{Value as Json, json};

use super::compatibility::Level;
use super::registry::{self, Fault, Version, Wanted};

/// The media type of every answer.
pub const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// A request, as it came.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// GET, POST, PUT, DELETE.
    pub method: String,
    /// The path, still percent-encoded: a subject's name may hold a slash.
    pub path: String,
    /// The query, still percent-encoded, without its question mark.
    pub query: String,
    /// The body.
    pub body: Bytes,
}

/// An answer: its status and its JSON body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The body, of [`MEDIA_TYPE`].
    pub body: String,
}

type Result<T, E = Fault> = std::result::Result<T, E>;

impl Response {
    /// Makes the answer that refuses.
    pub fn fault(fault: &Fault) -> Self {
        let status = if fault.code >= 1000 { fault.code / 100 } else { fault.code };
        Self {
            status: u16::try_from(status).unwrap_or(500),
            body: json!({"error_code": fault.code, "message": fault.message}).to_string(),
        }
    }
}

/// Answers a request from the registry's tables.
pub fn answer(db: &Connection, request: &Request) -> Response {
    match route(db, request) {
        Ok(body) => Response { status: 200, body: body.to_string() },
        Err(fault) => Response::fault(&fault),
    }
}

fn route(db: &Connection, request: &Request) -> Result<Json> {
    let path = request
        .path
        .split('/')
        .filter(|part| !part.is_empty())
        .map(|part| percent_decode_str(part).decode_utf8())
        .collect::<std::result::Result<Vec<Cow<'_, str>>, _>>()
        .map_err(|_| Fault::new(404, "HTTP 404 Not Found"))?;
    let path: Vec<&str> = path.iter().map(AsRef::as_ref).collect();
    let method = if request.method == "HEAD" { "GET" } else { request.method.as_str() };
    let flag = |name| flag(&request.query, name);
    let deleted = flag("deleted");
    match (method, path.as_slice()) {
        ("GET", []) => Ok(json!({})),
        ("GET", ["subjects"]) => {
            let prefix = parameter(&request.query, "subjectPrefix").unwrap_or_default();
            let only = flag("deletedOnly");
            let subjects = registry::subjects(db, !only, deleted || only)?;
            Ok(subjects.into_iter().filter(|s| s.starts_with(&prefix)).collect())
        }
        ("POST", ["subjects", subject]) => {
            let version = registry::lookup(db, subject, &schema(request)?, deleted)?;
            described(db, &version)
        }
        ("DELETE", ["subjects", subject]) => {
            Ok(json!(registry::delete_subject(db, subject, flag("permanent"))?))
        }
        ("GET", ["subjects", subject, "versions"]) => versions(db, subject, deleted, flag("deletedOnly")),
        ("POST", ["subjects", subject, "versions"]) => {
            Ok(json!({"id": registry::register(db, subject, &schema(request)?)?}))
        }
        ("GET", ["subjects", subject, "versions", version]) => {
            described(db, &registry::find(db, subject, wanted(version)?, deleted)?)
        }
        ("DELETE", ["subjects", subject, "versions", version]) => {
            Ok(json!(registry::delete_version(db, subject, wanted(version)?, flag("permanent"))?))
        }
        ("GET", ["subjects", subject, "versions", version, "schema"]) => {
            raw(&registry::text_of(db, &registry::find(db, subject, wanted(version)?, deleted)?)?)
        }
        ("GET", ["subjects", subject, "versions", version, "referencedby"]) => {
            registry::find(db, subject, wanted(version)?, deleted)?;
            Ok(json!([]))
        }
        ("GET", ["schemas", "types"]) => Ok(json!(["AVRO"])),
        ("GET", ["schemas", "ids", id]) => Ok(json!({"schema": by_id(db, id)?.1})),
        ("GET", ["schemas", "ids", id, "schema"]) => raw(&by_id(db, id)?.1),
        ("GET", ["schemas", "ids", id, "versions"]) => {
            let rows = rows_of(db, id, deleted)?;
            Ok(rows.iter().map(|v| json!({"subject": v.subject, "version": v.version})).collect())
        }
        ("GET", ["schemas", "ids", id, "subjects"]) => {
            let mut subjects: Vec<String> =
                rows_of(db, id, deleted)?.into_iter().map(|v| v.subject).collect();
            subjects.dedup();
            Ok(json!(subjects))
        }
        ("POST", ["compatibility", "subjects", subject, "versions"]) => {
            compatible(registry::conflicts(db, subject, &schema(request)?, None)?, flag("verbose"))
        }
        ("POST", ["compatibility", "subjects", subject, "versions", version]) => {
            let (wanted, schema) = (wanted(version)?, schema(request)?);
            let conflicts = match registry::find(db, subject, wanted, false) {
                Ok(version) => registry::conflicts(db, subject, &schema, Some(&version))?,
                // Nothing to be compatible with; the schema must be one all the same.
                Err(Fault { code: 40401, .. }) if wanted == Wanted::Latest => {
                    registry::conflicts(db, subject, &schema, None)?
                }
                Err(fault) => return Err(fault),
            };
            compatible(conflicts, flag("verbose"))
        }
        ("GET", ["config"]) => Ok(json!({"compatibilityLevel": registry::global(db)?.name()})),
        ("PUT", ["config"]) => set_level(db, "", request),
        ("DELETE", ["config"]) => {
            let level = registry::global(db)?;
            registry::forget_level(db, "")?;
            Ok(json!({"compatibilityLevel": level.name()}))
        }
        ("GET", ["config", subject]) => match registry::level(db, subject)? {
            Some(level) => Ok(json!({"compatibilityLevel": level.name()})),
            None if flag("defaultToGlobal") => {
                Ok(json!({"compatibilityLevel": registry::global(db)?.name()}))
            }
            None => Err(Fault::new(
                40408,
                format!("Subject '{subject}' does not have subject-level compatibility configured"),
            )),
        },
        ("PUT", ["config", subject]) => set_level(db, subject, request),
        ("DELETE", ["config", subject]) => {
            let level = registry::level(db, subject)?.ok_or_else(|| Fault::subject(subject))?;
            registry::forget_level(db, subject)?;
            Ok(json!({"compatibilityLevel": level.name()}))
        }
        ("GET", ["mode"]) => Ok(json!({"mode": "READWRITE"})),
        ("GET", ["mode", _]) if flag("defaultToGlobal") => Ok(json!({"mode": "READWRITE"})),
        ("GET", ["mode", subject]) => {
            Err(Fault::new(40409, format!("Subject '{subject}' does not have subject-level mode configured")))
        }
        (_, [] | ["subjects" | "schemas" | "compatibility" | "config" | "mode", ..]) if known(&path) => {
            Err(Fault::new(405, "HTTP 405 Method Not Allowed"))
        }
        _ => Err(Fault::new(404, "HTTP 404 Not Found")),
    }
}

/// States whether some method is answered at a path.
fn known(path: &[&str]) -> bool {
    matches!(
        path,
        [] | ["subjects", ..]
            | ["config" | "mode"]
            | ["config" | "mode", _]
            | ["schemas", "types"]
            | ["schemas", "ids", _, ..]
            | ["compatibility", "subjects", _, "versions", ..]
    )
}

/// Returns the schema's text in a request's body.
fn schema(request: &Request) -> Result<String> {
    let invalid = |why: &str| Fault::new(42201, format!("Invalid schema: {why}"));
    let body: Json = serde_json::from_slice(&request.body)
        .map_err(|e| Fault::new(400, format!("the body is not JSON: {e}")))?;
    let empty = |name: &str| match body.get(name) {
        None | Some(Json::Null) => true,
        Some(Json::Array(list)) => list.is_empty(),
        Some(Json::Object(object)) => object.is_empty(),
        Some(_) => false,
    };
    match body.get("schemaType") {
        None | Some(Json::Null) => {}
        Some(Json::String(ty)) if ty == "AVRO" || ty.is_empty() => {}
        Some(other) => return Err(invalid(&format!("schemaType {other} is not known here, only AVRO"))),
    }
    // Accepted and dropped would be a lie.
    for name in ["references", "metadata", "ruleSet"] {
        if !empty(name) {
            return Err(invalid(&format!("{name} are not known here")));
        }
    }
    match body.get("schema").and_then(Json::as_str) {
        Some(text) if !text.trim().is_empty() => Ok(text.to_owned()),
        _ => Err(invalid("it is empty")),
    }
}

fn set_level(db: &Connection, subject: &str, request: &Request) -> Result<Json> {
    let body: Json = serde_json::from_slice(&request.body).unwrap_or_default();
    let level = body.get("compatibility").and_then(Json::as_str).and_then(Level::of).ok_or_else(|| {
        let why = "Invalid compatibility level. Valid values are none, backward, forward, full, \
                   backward_transitive, forward_transitive, and full_transitive";
        Fault::new(42203, why)
    })?;
    registry::set_level(db, subject, level)?;
    Ok(json!({"compatibility": level.name()}))
}

fn compatible(conflicts: Vec<String>, verbose: bool) -> Result<Json> {
    let mut body = json!({"is_compatible": conflicts.is_empty()});
    if verbose && let Json::Object(body) = &mut body {
        body.insert("messages".into(), json!(conflicts));
    }
    Ok(body)
}

fn versions(db: &Connection, subject: &str, deleted: bool, only: bool) -> Result<Json> {
    let mut rows = registry::rows(db, subject)?;
    rows.retain(|v| if v.deleted { deleted || only } else { !only });
    if rows.is_empty() {
        return Err(Fault::subject(subject));
    }
    Ok(rows.iter().map(|v| v.version).collect())
}

fn described(db: &Connection, version: &Version) -> Result<Json> {
    let schema = registry::text_of(db, version)?;
    Ok(json!({"subject": version.subject, "version": version.version, "id": version.id, "schema": schema}))
}

fn raw(text: &str) -> Result<Json> {
    serde_json::from_str(text).map_err(|e| Fault::new(50001, format!("a stored schema is not JSON: {e}")))
}

fn by_id(db: &Connection, id: &str) -> Result<(u32, String)> {
    let number = id.parse().map_err(|_| Fault::new(404, "HTTP 404 Not Found"))?;
    let text =
        registry::text(db, number)?.ok_or_else(|| Fault::new(40403, format!("Schema {id} not found")))?;
    Ok((number, text))
}

fn rows_of(db: &Connection, id: &str, deleted: bool) -> Result<Vec<Version>> {
    let mut rows = registry::rows_of_id(db, by_id(db, id)?.0)?;
    rows.retain(|v| deleted || !v.deleted);
    Ok(rows)
}

fn wanted(version: &str) -> Result<Wanted> {
    match version {
        "latest" | "-1" => Ok(Wanted::Latest),
        number => match number.parse::<u32>() {
            Ok(n) if (1..=i32::MAX as u32).contains(&n) => Ok(Wanted::Number(n)),
            _ => Err(Fault::new(
                42202,
                format!(
                    "The specified version '{version}' is not a valid version id. Allowed values are between [1, 2^31-1] and the string \"latest\""
                ),
            )),
        },
    }
}

fn parameter(query: &str, wish: &str) -> Option<String> {
    query.split('&').find_map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = value.replace('+', " ");
        (name == wish).then(|| percent_decode_str(&value).decode_utf8_lossy().into_owned())
    })
}

fn flag(query: &str, name: &str) -> bool {
    parameter(query, name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
}
