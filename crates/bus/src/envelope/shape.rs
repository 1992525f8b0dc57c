//! A writer's schema as a flat list of shapes, with the attributes that Connect and Debezium put on them.
//!
//! `apache-avro` drops those attributes from everything but records, and they decide what a number means.
//! Source: Apache Avro 1.12 specification, "Schema Declaration" and "Names".

use std::collections::HashMap;

use serde_json::{Map, Value as Json};

use crate::binary::{Fault, Input};

/// How deep records may nest in each other, in schemas and in data.
const DEPTH_LIMIT: usize = 64;

/// The attribute of bytes that are a sealed value: the type of the value.
pub(super) const SEALED: &str = "hutong.sealed";

/// A shape's place in the list.
pub(super) type Id = usize;

/// What the bytes look like.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    Text,
    Fixed(usize),
    Symbols(Vec<String>),
    Array(Id),
    Map(Id),
    Union(Vec<Id>),
    Record(Vec<(String, Id)>),
}

/// One type of the schema.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) kind: Kind,
    attributes: Map<String, Json>,
}

impl Shape {
    /// Returns `connect.name`; empty when there is none.
    pub(super) fn connect(&self) -> &str {
        self.text("connect.name")
    }

    /// Returns `logicalType`; empty when there is none.
    pub(super) fn logical(&self) -> &str {
        self.text("logicalType")
    }

    /// Returns the type of what is sealed in it; `None` when nothing is.
    pub(super) fn sealed(&self) -> Option<&Json> {
        self.attributes.get(SEALED)
    }

    fn text(&self, name: &str) -> &str {
        self.attributes.get(name).and_then(Json::as_str).unwrap_or_default()
    }

    /// Returns a number that stands as an attribute, or as text in `connect.parameters`.
    pub(super) fn number(&self, name: &str, parameter: &str) -> Option<i64> {
        let parameters = self.attributes.get("connect.parameters");
        self.attributes
            .get(name)
            .and_then(Json::as_i64)
            .or_else(|| parameters?.get(parameter)?.as_str()?.parse().ok())
    }

    /// Says what it is, for people.
    pub(super) fn describe(&self) -> String {
        let base = match &self.kind {
            Kind::Null => "null",
            Kind::Boolean => "boolean",
            Kind::Int => "int",
            Kind::Long => "long",
            Kind::Float => "float",
            Kind::Double => "double",
            Kind::Bytes => "bytes",
            Kind::Text => "string",
            Kind::Fixed(_) => "fixed",
            Kind::Symbols(_) => "enum",
            Kind::Array(_) => "array",
            Kind::Map(_) => "map",
            Kind::Union(_) => "union",
            Kind::Record(_) => "record",
        };
        match (self.connect(), self.logical()) {
            ("", "") => base.to_owned(),
            ("", name) | (name, _) => format!("{base} {name}"),
        }
    }
}

/// A parsed schema.
#[derive(Debug)]
pub(super) struct Shapes {
    list: Vec<Shape>,
    pub(super) root: Id,
}

impl Shapes {
    /// Reads a schema's text; `Err` says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let json: Json = serde_json::from_str(text).map_err(|e| format!("it is not JSON: {e}"))?;
        let mut parser = Parser { list: Vec::new(), names: HashMap::new() };
        let root = parser.shape(&json, "", 0)?;
        Ok(Self { list: parser.list, root })
    }

    pub(super) fn get(&self, id: Id) -> &Shape {
        &self.list[id]
    }

    /// Returns a record's fields; `None` when the shape is none.
    pub(super) fn record(&self, id: Id) -> Option<&[(String, Id)]> {
        match &self.get(id).kind {
            Kind::Record(fields) => Some(fields),
            _ => None,
        }
    }

    /// Passes over a value that nobody wants.
    pub(super) fn skip(&self, input: &mut Input<'_>, id: Id) -> Result<(), Fault> {
        self.skip_at(input, id, 0)
    }

    fn skip_at(&self, input: &mut Input<'_>, id: Id, depth: usize) -> Result<(), Fault> {
        if depth > DEPTH_LIMIT {
            return Err("records nest too deep");
        }
        input.part()?;
        match &self.get(id).kind {
            Kind::Null => Ok(()),
            Kind::Boolean => input.boolean().map(drop),
            Kind::Int => input.int().map(drop),
            Kind::Long => input.long().map(drop),
            Kind::Float => input.float().map(drop),
            Kind::Double => input.double().map(drop),
            Kind::Bytes => input.slice().map(drop),
            Kind::Text => input.str().map(drop),
            Kind::Fixed(length) => input.pass(*length),
            Kind::Symbols(symbols) => {
                if input.index()? < symbols.len() {
                    Ok(())
                } else {
                    Err("an enumeration has no such symbol")
                }
            }
            Kind::Union(branches) => {
                let branch = *branches.get(input.index()?).ok_or("a union has no such branch")?;
                self.skip_at(input, branch, depth + 1)
            }
            Kind::Record(fields) => fields.iter().try_for_each(|(_, id)| self.skip_at(input, *id, depth + 1)),
            Kind::Array(item) => self.skip_blocks(input, depth, false, *item),
            Kind::Map(item) => self.skip_blocks(input, depth, true, *item),
        }
    }

    fn skip_blocks(&self, input: &mut Input<'_>, depth: usize, keyed: bool, item: Id) -> Result<(), Fault> {
        loop {
            let count = input.block()?;
            if count == 0 {
                return Ok(());
            }
            for _ in 0..count {
                if keyed {
                    input.str()?;
                }
                self.skip_at(input, item, depth + 1)?;
            }
        }
    }
}

struct Parser {
    list: Vec<Shape>,
    names: HashMap<String, Id>,
}

impl Parser {
    fn add(&mut self, kind: Kind, attributes: Map<String, Json>) -> Id {
        self.list.push(Shape { kind, attributes });
        self.list.len() - 1
    }

    fn shape(&mut self, json: &Json, namespace: &str, depth: usize) -> Result<Id, String> {
        if depth > DEPTH_LIMIT {
            return Err("its types nest too deep".into());
        }
        match json {
            Json::String(name) => self.named(name, namespace, Map::new()),
            Json::Array(branches) => {
                let ids =
                    branches.iter().map(|b| self.shape(b, namespace, depth + 1)).collect::<Result<_, _>>()?;
                Ok(self.add(Kind::Union(ids), Map::new()))
            }
            Json::Object(object) => self.object(object, namespace, depth),
            _ => Err("a type is neither a name, an object nor a union".into()),
        }
    }

    fn object(&mut self, object: &Map<String, Json>, namespace: &str, depth: usize) -> Result<Id, String> {
        let inner = |name: &str| object.get(name).ok_or_else(|| format!("a type has no `{name}`"));
        let attributes = || {
            let structural = ["fields", "items", "values", "symbols", "type"];
            object
                .iter()
                .filter(|(k, _)| !structural.contains(&k.as_str()))
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect()
        };
        let ty = inner("type")?;
        let Some(ty) = ty.as_str() else { return self.shape(ty, namespace, depth + 1) };
        match ty {
            "record" | "error" => {
                let id = self.add(Kind::Null, attributes());
                let own = self.declare(object, namespace, id)?;
                let fields = inner("fields")?.as_array().ok_or("`fields` is not a list")?;
                let fields = fields
                    .iter()
                    .map(|field| {
                        let name = field.get("name").and_then(Json::as_str).ok_or("a field has no `name`")?;
                        let ty = field.get("type").ok_or_else(|| format!("field `{name}` has no `type`"))?;
                        Ok((name.to_owned(), self.shape(ty, &own, depth + 1)?))
                    })
                    .collect::<Result<_, String>>()?;
                self.list[id].kind = Kind::Record(fields);
                Ok(id)
            }
            "enum" => {
                let symbols = inner("symbols")?.as_array().ok_or("`symbols` is not a list")?;
                let symbols = symbols.iter().filter_map(|s| s.as_str().map(str::to_owned)).collect();
                let id = self.add(Kind::Symbols(symbols), attributes());
                self.declare(object, namespace, id).map(|_| id)
            }
            "fixed" => {
                let size = inner("size")?.as_u64().and_then(|n| usize::try_from(n).ok());
                let id = self.add(Kind::Fixed(size.ok_or("`size` is not a whole number")?), attributes());
                self.declare(object, namespace, id).map(|_| id)
            }
            "array" => {
                let item = self.shape(inner("items")?, namespace, depth + 1)?;
                Ok(self.add(Kind::Array(item), attributes()))
            }
            "map" => {
                let item = self.shape(inner("values")?, namespace, depth + 1)?;
                Ok(self.add(Kind::Map(item), attributes()))
            }
            name => self.named(name, namespace, attributes()),
        }
    }

    /// Remembers a named type, and returns the namespace that holds inside of it.
    fn declare(&mut self, object: &Map<String, Json>, namespace: &str, id: Id) -> Result<String, String> {
        let name = object.get("name").and_then(Json::as_str).ok_or("a named type has no `name`")?;
        let given = object.get("namespace").and_then(Json::as_str).unwrap_or(namespace);
        let namespace = name.rsplit_once('.').map_or(given, |(namespace, _)| namespace).to_owned();
        let full = full_name(name, &namespace);
        if self.names.insert(full.clone(), id).is_some() {
            return Err(format!("it defines `{full}` twice"));
        }
        Ok(namespace)
    }

    fn named(&mut self, name: &str, namespace: &str, attributes: Map<String, Json>) -> Result<Id, String> {
        let kind = match name {
            "null" => Kind::Null,
            "boolean" => Kind::Boolean,
            "int" => Kind::Int,
            "long" => Kind::Long,
            "float" => Kind::Float,
            "double" => Kind::Double,
            "bytes" => Kind::Bytes,
            "string" => Kind::Text,
            _ => {
                let full = full_name(name, namespace);
                let found = self.names.get(&full).or_else(|| self.names.get(name));
                return found
                    .copied()
                    .ok_or_else(|| format!("it names the type `{full}`, which it does not define"));
            }
        };
        Ok(self.add(kind, attributes))
    }
}

fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}
