//! The schema registry's rules over its tables: subjects, versions, ids, compatibility.
//!
//! Knows nothing of HTTP; [`api`] gives it paths and bodies. The functions run inside a
//! transaction of the bus's file, and look before they write: after a [`Fault`] nothing is changed.

use std::sync::Arc;

use apache_avro::Schema;
use async_trait::async_trait;
use hutong_core::{Error, ErrorKind};
use rusqlite::{Connection, OptionalExtension, params};
use serde_json::Value as Json;

use super::api::{self, Request, Response};
use super::compatibility::{self, Level, TEXT_LIMIT_BYTES, excess, problems};
use super::error::Wrap;
use super::{Bus, canonical};
use crate::SchemaRegistry;
use crate::registry::{Checked, REFUSED, without_schema};

/// The registry of an embedded bus. Cheap to clone.
#[derive(Clone)]
pub struct Registry {
    bus: Arc<Bus>,
}

impl Registry {
    /// Returns the registry of a bus.
    pub fn new(bus: Arc<Bus>) -> Self {
        Self { bus }
    }

    /// Answers a request of the Confluent API. Every failure is a response: there is no `Err`.
    ///
    /// What a response says is durable when it is returned.
    pub async fn answer(&self, request: Request) -> Response {
        let answer = if request.method == "GET" || request.method == "HEAD" {
            self.bus.reads.run(move |db| Ok(api::answer(db, &request))).await
        } else {
            match self.bus.writes() {
                Ok(writer) => {
                    let undo = |answer: Response| {
                        Error::new(ErrorKind::Unavailable, "use the registry", answer.body)
                    };
                    writer
                        .run(move |db, _| match api::answer(db, &request) {
                            answer if answer.status >= 500 => Err(undo(answer)),
                            answer => Ok(answer),
                        })
                        .await
                }
                Err(e) => Err(e),
            }
        };
        answer.unwrap_or_else(|e| Response::fault(&Fault::store(&e)))
    }
}

#[async_trait]
impl SchemaRegistry for Registry {
    async fn register(&self, subject: &str, schema: &str) -> hutong_core::Result<u32> {
        let (name, schema) = (subject.to_owned(), schema.to_owned());
        let doing = format!("register a schema under {subject}");
        self.bus
            .writes()?
            .run(move |db, _| register(db, &name, &schema).map_err(|fault| fault.error(doing)))
            .await
    }

    async fn by_id(&self, id: u32) -> hutong_core::Result<Option<String>> {
        self.bus
            .reads
            .run(move |db| text(db, id).map_err(|fault| fault.error(format!("fetch schema {id}"))))
            .await
    }

    async fn version(&self, subject: &str, schema: &str) -> hutong_core::Result<Option<u32>> {
        let (name, schema) = (subject.to_owned(), schema.to_owned());
        let doing = format!("look up the schema of {subject}");
        let find = move |db: &Connection| match lookup(db, &name, &schema, false) {
            Ok(found) => Ok(Some(found.version)),
            Err(fault) if matches!(fault.code, 40401 | 40403) => Ok(None),
            Err(fault) => Err(fault.error(doing)),
        };
        self.bus.reads.run(find).await
    }

    async fn set_compatibility(&self, subject: &str, level: &str) -> hutong_core::Result<()> {
        let doing = format!("set the compatibility of {subject}");
        let Some(level) = Level::of(level) else {
            return Err(Error::new(
                ErrorKind::Config,
                doing,
                format!("there is no compatibility level {level}"),
            ));
        };
        let subject = subject.to_owned();
        self.bus
            .writes()?
            .run(move |db, _| set_level(db, &subject, level).map_err(|fault| fault.error(doing)))
            .await
    }

    async fn check(&self, subject: &str, schema: &str) -> hutong_core::Result<Checked> {
        let (name, schema) = (subject.to_owned(), schema.to_owned());
        let doing = format!("check a schema against {subject}");
        self.bus.reads.run(move |db| checked(db, &name, &schema).map_err(|fault| fault.error(doing))).await
    }
}

fn checked(db: &Connection, subject: &str, schema: &str) -> Result<Checked> {
    let reasons = conflicts(db, subject, schema, None)?;
    let latest = match reasons.is_empty() {
        true => None,
        false => Some(text_of(db, &find(db, subject, Wanted::Latest, false)?)?),
    };
    Ok(Checked { reasons, latest })
}

/// A refusal, with the API's error code and message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The API's code; its first three digits are the HTTP status.
    pub code: u32,
    /// The message.
    pub message: String,
}

/// One version of a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) subject: String,
    pub(super) version: u32,
    pub(super) id: u32,
    pub(super) deleted: bool,
}

/// A version as a request names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Latest,
    Number(u32),
}

type Result<T, E = Fault> = std::result::Result<T, E>;

impl Fault {
    /// Makes a refusal.
    pub(super) fn new(code: u32, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// Makes the answer to a request that the file could not serve.
    pub(super) fn store(error: &Error) -> Self {
        Self::new(50001, format!("Error in the backend data store: {error}"))
    }

    /// Makes the error of a call inside the process.
    fn error(self, doing: String) -> Error {
        let kind = match self.code {
            409 => ErrorKind::SchemaConflict,
            42201 => ErrorKind::Malformed,
            _ => ErrorKind::Unavailable,
        };
        let error = Error::new(kind, doing, without_schema(&self.message));
        match kind {
            ErrorKind::SchemaConflict => error.hint(REFUSED),
            _ => error,
        }
    }

    pub(super) fn subject(subject: &str) -> Self {
        Self::new(40401, format!("Subject '{subject}' not found."))
    }

    pub(super) fn version(version: u32) -> Self {
        Self::new(40402, format!("Version {version} not found."))
    }

    /// Makes the answer for a schema that is not there.
    pub(super) fn schema() -> Self {
        Self::new(40403, "Schema not found")
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::store(&error)
    }
}

/// Checks a schema's text and returns its canonical form, as text and as JSON.
pub(super) fn valid(text: &str) -> Result<(String, Json)> {
    let invalid = |why: String| Fault::new(42201, format!("Invalid schema: {why}"));
    if text.len() > TEXT_LIMIT_BYTES {
        return Err(invalid(format!("it has {} bytes, at most {TEXT_LIMIT_BYTES} are taken", text.len())));
    }
    let json: Json = serde_json::from_str(text).map_err(|e| invalid(e.to_string()))?;
    if let Some(why) = excess(&json) {
        return Err(invalid(why));
    }
    Schema::parse(&json).map_err(|e| invalid(e.to_string()))?;
    Ok((canonical::text(&json), json))
}

/// Returns all versions of a subject, oldest first, soft-deleted ones included.
pub(super) fn rows(db: &Connection, subject: &str) -> Result<Vec<Version>> {
    list(db, "SELECT * FROM subject_version WHERE subject = ? ORDER BY version", &subject)
}

/// Returns all versions of all subjects that have a schema, soft-deleted ones included.
pub(super) fn rows_of_id(db: &Connection, id: u32) -> Result<Vec<Version>> {
    list(db, "SELECT * FROM subject_version WHERE id = ? ORDER BY subject, version", &id)
}

fn list(db: &Connection, sql: &str, wish: &dyn rusqlite::ToSql) -> Result<Vec<Version>> {
    let doing = "read versions";
    let mut query = db.prepare_cached(sql).doing(doing)?;
    let rows = query
        .query_map([wish], |r| {
            Ok(Version { subject: r.get(0)?, version: r.get(1)?, id: r.get(2)?, deleted: r.get(3)? })
        })
        .doing(doing)?;
    Ok(rows.collect::<rusqlite::Result<_>>().doing(doing)?)
}

/// Returns the subjects that have a version, in order; those of which all are soft-deleted when asked for.
pub(super) fn subjects(db: &Connection, live: bool, deleted: bool) -> Result<Vec<String>> {
    let doing = "read subjects";
    let mut query = db
        .prepare_cached("SELECT subject, min(deleted) FROM subject_version GROUP BY subject ORDER BY subject")
        .doing(doing)?;
    let rows = query.query_map([], |r| Ok((r.get(0)?, r.get(1)?))).doing(doing)?;
    let rows: Vec<(String, bool)> = rows.collect::<rusqlite::Result<_>>().doing(doing)?;
    Ok(rows.into_iter().filter(|(_, gone)| if *gone { deleted } else { live }).map(|(s, _)| s).collect())
}

/// Finds a version of a subject.
pub(super) fn find(db: &Connection, subject: &str, wanted: Wanted, deleted: bool) -> Result<Version> {
    let mut rows = rows(db, subject)?;
    rows.retain(|v| deleted || !v.deleted);
    if rows.is_empty() {
        return Err(Fault::subject(subject));
    }
    match wanted {
        Wanted::Latest => rows.pop().ok_or_else(|| Fault::subject(subject)),
        Wanted::Number(n) => rows.into_iter().find(|v| v.version == n).ok_or_else(|| Fault::version(n)),
    }
}

/// Returns the text of a schema that a version has; `None` when none has it.
pub(super) fn text(db: &Connection, id: u32) -> Result<Option<String>> {
    let doing = "read a schema";
    let sql =
        "SELECT text FROM schema WHERE id = ?1 AND EXISTS (SELECT 1 FROM subject_version WHERE id = ?1)";
    let mut query = db.prepare_cached(sql).doing(doing)?;
    Ok(query.query_row([id], |r| r.get(0)).optional().doing(doing)?)
}

/// Returns the text of a version.
pub(super) fn text_of(db: &Connection, version: &Version) -> Result<String> {
    text(db, version.id)?.ok_or_else(Fault::schema)
}

/// Finds the version of a subject that has a schema.
pub(super) fn lookup(db: &Connection, subject: &str, schema: &str, deleted: bool) -> Result<Version> {
    let mut rows = rows(db, subject)?;
    rows.retain(|v| deleted || !v.deleted);
    if rows.is_empty() {
        return Err(Fault::subject(subject));
    }
    let (canonical, _) = valid(schema)?;
    let id = id_of(db, &canonical)?;
    rows.into_iter().rev().find(|v| Some(v.id) == id).ok_or_else(Fault::schema)
}

fn id_of(db: &Connection, canonical: &str) -> Result<Option<u32>> {
    let doing = "find a schema";
    let mut query = db.prepare_cached("SELECT id FROM schema WHERE text = ?").doing(doing)?;
    Ok(query.query_row([canonical], |r| r.get(0)).optional().doing(doing)?)
}

/// Registers a schema under a subject and returns its id. The same text has the same id in all subjects,
/// and an id never gets another text, also after a permanent deletion: records in the log carry ids.
pub(super) fn register(db: &Connection, subject: &str, schema: &str) -> Result<u32> {
    let (canonical, _) = valid(schema)?;
    let known = rows(db, subject)?;
    let id = id_of(db, &canonical)?;
    if let Some(same) = known.iter().find(|v| !v.deleted && Some(v.id) == id) {
        return Ok(same.id);
    }
    let messages = conflicts(db, subject, schema, None)?;
    if !messages.is_empty() {
        let details = messages.join(", ");
        let why = format!(
            "Schema being registered is incompatible with an earlier schema for subject \"{subject}\", details: [{details}]"
        );
        return Err(Fault::new(409, why));
    }
    let doing = "register a schema";
    let id = match id {
        Some(id) => id,
        None => db
            .query_row("INSERT INTO schema (text) VALUES (?) RETURNING id", [&canonical], |r| r.get(0))
            .doing(doing)?,
    };
    let version = known.last().map_or(1, |v| v.version + 1);
    db.execute("INSERT INTO subject_version VALUES (?, ?, ?, FALSE)", params![subject, version, id])
        .doing(doing)?;
    Ok(id)
}

/// Returns why a schema may not follow the versions of a subject; empty when it may. `against` names the
/// one version to look at instead of those that the level names.
pub(super) fn conflicts(
    db: &Connection,
    subject: &str,
    schema: &str,
    against: Option<&Version>,
) -> Result<Vec<String>> {
    let (_, new) = valid(schema)?;
    let level = match level(db, subject)? {
        Some(level) => level,
        None => global(db)?,
    };
    let mut earlier = match against {
        Some(version) => vec![version.clone()],
        None => rows(db, subject)?,
    };
    earlier.retain(|v| !v.deleted || against.is_some());
    if !level.transitive() && earlier.len() > 1 {
        earlier.drain(..earlier.len() - 1);
    }
    let mut messages = Vec::new();
    for version in earlier.iter().rev() {
        let text = text_of(db, version)?;
        let (_, old) = valid(&text)?;
        let problems = problems(level, &new, &old);
        if !problems.is_empty() {
            messages.extend(compatibility::messages(level, version.version, &text, &problems));
        }
    }
    Ok(messages)
}

/// Deletes a subject's versions, softly or for good, and returns their numbers.
pub(super) fn delete_subject(db: &Connection, subject: &str, permanent: bool) -> Result<Vec<u32>> {
    let rows = rows(db, subject)?;
    if rows.is_empty() {
        return Err(Fault::subject(subject));
    }
    let doing = "delete a subject";
    if permanent {
        if rows.iter().any(|v| !v.deleted) {
            let why = format!("Subject '{subject}' was not deleted first before being permanently deleted");
            return Err(Fault::new(40405, why));
        }
        db.execute("DELETE FROM subject_version WHERE subject = ?", [subject]).doing(doing)?;
        return Ok(rows.iter().map(|v| v.version).collect());
    }
    let live: Vec<u32> = rows.iter().filter(|v| !v.deleted).map(|v| v.version).collect();
    if live.is_empty() {
        let why = format!("Subject '{subject}' was soft deleted.Set permanent=true to delete permanently");
        return Err(Fault::new(40404, why));
    }
    db.execute("UPDATE subject_version SET deleted = TRUE WHERE subject = ?", [subject]).doing(doing)?;
    forget_level(db, subject)?;
    Ok(live)
}

/// Deletes a version, softly or for good, and returns its number.
pub(super) fn delete_version(db: &Connection, subject: &str, wanted: Wanted, permanent: bool) -> Result<u32> {
    // "latest" is never a deleted one.
    let version = find(db, subject, wanted, wanted != Wanted::Latest)?;
    let Version { version: number, deleted, .. } = version;
    let doing = "delete a version";
    match (permanent, deleted) {
        (true, false) => Err(Fault::new(
            40407,
            format!(
                "Subject '{subject}' Version {number} was not deleted first before being permanently deleted"
            ),
        )),
        (false, true) => Err(Fault::new(
            40406,
            format!(
                "Subject '{subject}' Version {number} was soft deleted.Set permanent=true to delete permanently"
            ),
        )),
        (true, true) => {
            db.execute(
                "DELETE FROM subject_version WHERE subject = ? AND version = ?",
                params![subject, number],
            )
            .doing(doing)?;
            Ok(number)
        }
        (false, false) => {
            let sql = "UPDATE subject_version SET deleted = TRUE WHERE subject = ? AND version = ?";
            db.execute(sql, params![subject, number]).doing(doing)?;
            Ok(number)
        }
    }
}

/// Returns the level of all subjects that have none of their own.
pub(super) fn global(db: &Connection) -> Result<Level> {
    Ok(level(db, "")?.unwrap_or(Level::Backward))
}

/// Returns a subject's own level; the empty name stands for the global one.
pub(super) fn level(db: &Connection, subject: &str) -> Result<Option<Level>> {
    let doing = "read a compatibility level";
    let mut query = db.prepare_cached("SELECT level FROM compatibility WHERE subject = ?").doing(doing)?;
    let name: Option<String> = query.query_row([subject], |r| r.get(0)).optional().doing(doing)?;
    match name {
        None => Ok(None),
        Some(name) => Level::of(&name).map(Some).ok_or_else(|| {
            Fault::new(50001, format!("the file holds an unknown compatibility level: {name}"))
        }),
    }
}

/// Sets a level.
pub(super) fn set_level(db: &Connection, subject: &str, level: Level) -> Result<()> {
    db.execute("INSERT OR REPLACE INTO compatibility VALUES (?, ?)", [subject, level.name()])
        .doing("set a compatibility level")?;
    Ok(())
}

/// Removes a level.
pub(super) fn forget_level(db: &Connection, subject: &str) -> Result<()> {
    db.execute("DELETE FROM compatibility WHERE subject = ?", [subject])
        .doing("remove a compatibility level")?;
    Ok(())
}
