//! Whether a reader's schema resolves every value of a writer's schema.

use std::collections::HashMap;
use std::fmt;

use serde_json::Value as Json;

use super::shape::{Field, Form, Id, Named, Shape, Shapes};

/// One reason why a schema cannot read data of another. The kinds and their meaning are those of Avro's
/// Java library, which other registries print.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// `NAME_MISMATCH`, `TYPE_MISMATCH`, `MISSING_UNION_BRANCH`, `MISSING_ENUM_SYMBOLS`,
    /// `FIXED_SIZE_MISMATCH`, `READER_FIELD_MISSING_DEFAULT_VALUE`, `DECIMAL_MISMATCH`.
    pub kind: &'static str,
    /// Where in the reader's schema, as a JSON pointer.
    pub path: String,
    /// What is wrong, with `{reader}` and `{writer}` for the two schemas.
    pub what: String,
    /// The name, symbol or type that it is about.
    pub about: String,
}

impl Problem {
    /// Says which schema is the reader and which is the writer.
    pub(super) fn between(mut self, reader: &str, writer: &str) -> Self {
        self.what = self.what.replace("{reader}", reader).replace("{writer}", writer);
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, what, about, .. } = self;
        write!(f, "{{errorType:'{kind}', description:'{what}', additionalInfo:'{about}'}}")
    }
}

/// Returns why data of `writer` cannot be read with `reader`; empty when all of it can.
pub(super) fn can_read(reader: &Json, writer: &Json) -> Vec<Problem> {
    let (Some((reader, r)), Some((writer, w))) = (Shapes::read(reader), Shapes::read(writer)) else {
        let what = "one of the two schemas is not a valid Avro schema".to_owned();
        return vec![Problem { kind: "TYPE_MISMATCH", path: "/".into(), what, about: String::new() }];
    };
    Resolution { reader: &reader, writer: &writer, known: HashMap::new() }.resolve(r, w, "")
}

struct Resolution<'a> {
    reader: &'a Shapes,
    writer: &'a Shapes,
    /// What was found for a pair of types; nothing while the pair is being looked at (a recursive type).
    known: HashMap<(Id, Id), Vec<Problem>>,
}

impl Resolution<'_> {
    fn resolve(&mut self, r: Id, w: Id, path: &str) -> Vec<Problem> {
        if let Some(known) = self.known.get(&(r, w)) {
            // Said in full where the pair was met first; all of it each time would double with every level.
            return known.iter().take(1).cloned().collect();
        }
        self.known.insert((r, w), Vec::new());
        let problems = self.pair(r, w, path);
        self.known.insert((r, w), problems.clone());
        problems
    }

    fn pair(&mut self, r: Id, w: Id, path: &str) -> Vec<Problem> {
        let (reader, writer) = (self.reader.shape(r), self.writer.shape(w));
        match (&reader.form, &writer.form) {
            // Every branch that may have been written must be readable.
            (_, Form::Union(branches)) => branches
                .iter()
                .flat_map(|branch| {
                    let problems = self.resolve(r, *branch, path);
                    let union = matches!(reader.form, Form::Union(_));
                    if union && !problems.is_empty() { self.missing_branch(*branch, path) } else { problems }
                })
                .collect(),
            (Form::Union(branches), _) => {
                if branches.iter().any(|branch| self.resolve(*branch, w, path).is_empty()) {
                    Vec::new()
                } else {
                    self.missing_branch(w, path)
                }
            }
            (Form::Array(r), Form::Array(w)) => self.resolve(*r, *w, &format!("{path}/items")),
            (Form::Map(r), Form::Map(w)) => self.resolve(*r, *w, &format!("{path}/values")),
            (Form::Record(r, r_fields), Form::Record(w, w_fields)) => {
                let mut problems = names(r, w, path);
                problems.extend(self.fields(r_fields, w_fields, path));
                problems
            }
            (Form::Enum(r, r_symbols, default), Form::Enum(w, w_symbols, _)) => {
                let mut problems = names(r, w, path);
                let missing: Vec<&str> =
                    w_symbols.iter().filter(|s| !r_symbols.contains(s)).map(String::as_str).collect();
                if default.is_none() && !missing.is_empty() {
                    let what = format!(
                        "The {{reader}} schema is missing enum symbols '{missing:?}' at path '{path}/symbols' in the {{writer}} schema"
                    );
                    problems.push(problem("MISSING_ENUM_SYMBOLS", path, what, format!("{missing:?}")));
                }
                problems
            }
            (Form::Fixed(r, r_size), Form::Fixed(w, w_size)) => {
                let mut problems = names(r, w, path);
                if r_size != w_size {
                    let what = format!(
                        "The size of FIXED type field at path '{path}/size' in the {{reader}} schema does not match with the {{writer}} schema"
                    );
                    problems.push(problem(
                        "FIXED_SIZE_MISMATCH",
                        path,
                        what,
                        format!("expected: {w_size}, found: {r_size}"),
                    ));
                }
                problems.extend(decimals(reader, writer, path));
                problems
            }
            (Form::Primitive(r), Form::Primitive(w)) if promotes(w, r) => decimals(reader, writer, path),
            _ => {
                let what = format!(
                    "The type (path '{path}/') of a field in the {{reader}} schema does not match with the {{writer}} schema"
                );
                let about = format!(
                    "reader type: {} not compatible with writer type: {}",
                    word(reader),
                    word(writer)
                );
                vec![problem("TYPE_MISMATCH", path, what, about)]
            }
        }
    }

    fn fields(&mut self, readers: &[Field], writers: &[Field], path: &str) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (i, field) in readers.iter().enumerate() {
            let path = format!("{path}/fields/{i}");
            let written = std::iter::once(&field.name)
                .chain(&field.aliases)
                .find_map(|name| writers.iter().find(|w| w.name == *name));
            match written {
                Some(written) => {
                    problems.extend(self.resolve(field.shape, written.shape, &format!("{path}/type")));
                }
                None if field.defaulted => {}
                None => {
                    let what = format!(
                        "The field '{}' at path '{path}' in the {{reader}} schema has no default value and is missing in the {{writer}} schema",
                        field.name
                    );
                    problems.push(problem(
                        "READER_FIELD_MISSING_DEFAULT_VALUE",
                        &path,
                        what,
                        field.name.clone(),
                    ));
                }
            }
        }
        problems
    }

    fn missing_branch(&self, w: Id, path: &str) -> Vec<Problem> {
        let about = format!("reader union lacking writer type: {}", word(self.writer.shape(w)));
        let what = format!(
            "The {{reader}} schema is missing a type inside a union field at path '{path}/' in the {{writer}} schema"
        );
        vec![problem("MISSING_UNION_BRANCH", path, what, about)]
    }
}

fn problem(kind: &'static str, path: &str, what: String, about: String) -> Problem {
    Problem { kind, path: path.to_owned(), what, about }
}

/// Types match by the name without the namespace, or by an alias of the reader.
fn names(reader: &Named, writer: &Named, path: &str) -> Vec<Problem> {
    if reader.short() == writer.short() || reader.aliases.contains(&writer.name) {
        return Vec::new();
    }
    let what = format!("The name of the schema has changed (path '{path}/name')");
    vec![problem("NAME_MISMATCH", path, what, format!("expected: {}", writer.name))]
}

/// Decimals match when precision and scale do (specification, "Decimal"). I6: Avro's Java library leaves
/// this out, and a reader would then read a number with its point in another place.
fn decimals(reader: &Shape, writer: &Shape, path: &str) -> Vec<Problem> {
    match (reader.decimal, writer.decimal) {
        (Some(r), Some(w)) if r != w => {
            let what = format!(
                "The decimal at path '{path}/' has another precision or scale in the {{reader}} schema than in the {{writer}} schema"
            );
            vec![problem("DECIMAL_MISMATCH", path, what, format!("expected: {w:?}, found: {r:?}"))]
        }
        _ => Vec::new(),
    }
}

fn promotes(writer: &str, reader: &str) -> bool {
    writer == reader
        || matches!(
            (writer, reader),
            ("int", "long" | "float" | "double")
                | ("long", "float" | "double")
                | ("float", "double")
                | ("string", "bytes")
                | ("bytes", "string")
        )
}

fn word(shape: &Shape) -> String {
    match &shape.form {
        Form::Primitive(name) => name.to_uppercase(),
        Form::Array(_) => "ARRAY".into(),
        Form::Map(_) => "MAP".into(),
        Form::Union(_) => "UNION".into(),
        Form::Record(named, _) => format!("RECORD {}", named.name),
        Form::Enum(named, ..) => format!("ENUM {}", named.name),
        Form::Fixed(named, _) => format!("FIXED {}", named.name),
    }
}
