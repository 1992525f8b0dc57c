//! A schema as resolution sees it: names are resolved, logical types but decimal are gone.

use std::collections::HashMap;

use serde_json::{Map, Value as Json};

/// An index into [`Shapes`].
pub(super) type Id = usize;

/// One type of a schema.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) form: Form,
    /// Precision and scale, when it is a decimal.
    pub(super) decimal: Option<(u64, u64)>,
}

/// The form of a type.
#[derive(Debug)]
pub(super) enum Form {
    Primitive(&'static str),
    Array(Id),
    Map(Id),
    Union(Vec<Id>),
    Record(Named, Vec<Field>),
    Enum(Named, Vec<String>, Option<String>),
    Fixed(Named, u64),
}

/// A type's full name and its aliases' full names.
#[derive(Debug, Clone)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) aliases: Vec<String>,
}

/// A record's field.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) aliases: Vec<String>,
    pub(super) defaulted: bool,
    pub(super) shape: Id,
}

/// All types of one schema. A type is built before what refers to it, except in a recursive schema.
#[derive(Debug, Default)]
pub(super) struct Shapes {
    all: Vec<Option<Shape>>,
    names: HashMap<String, Id>,
}

const PRIMITIVES: [&str; 8] = ["null", "boolean", "int", "long", "float", "double", "bytes", "string"];

impl Shapes {
    /// Reads a schema; `None` when it is not one.
    pub(super) fn read(schema: &Json) -> Option<(Self, Id)> {
        let mut shapes = Self::default();
        let root = shapes.build(schema, "")?;
        shapes.all.iter().all(Option::is_some).then_some((shapes, root))
    }

    /// Returns how many types have names.
    pub(super) fn named_count(&self) -> usize {
        self.names.len()
    }

    /// Returns a type.
    pub(super) fn shape(&self, id: Id) -> &Shape {
        self.all.get(id).and_then(Option::as_ref).expect("`read` has filled every place")
    }

    fn build(&mut self, schema: &Json, space: &str) -> Option<Id> {
        match schema {
            Json::String(name) => self.named(name, space),
            Json::Array(branches) => {
                let branches = branches.iter().map(|b| self.build(b, space)).collect::<Option<_>>()?;
                Some(self.add(Form::Union(branches), None))
            }
            Json::Object(object) => self.object(object, space),
            _ => None,
        }
    }

    fn named(&mut self, name: &str, space: &str) -> Option<Id> {
        if let Some(primitive) = PRIMITIVES.iter().find(|p| **p == name) {
            return Some(self.add(Form::Primitive(primitive), None));
        }
        self.names.get(&full(name, space)).or_else(|| self.names.get(name)).copied()
    }

    fn object(&mut self, object: &Map<String, Json>, space: &str) -> Option<Id> {
        let ty = match object.get("type")? {
            Json::String(ty) => ty.as_str(),
            nested => return self.build(nested, space),
        };
        let decimal = (object.get("logicalType").and_then(Json::as_str) == Some("decimal"))
            .then(|| {
                let scale = object.get("scale").and_then(Json::as_u64).unwrap_or(0);
                Some((object.get("precision")?.as_u64()?, scale))
            })
            .flatten();
        match ty {
            "array" => {
                let items = self.build(object.get("items")?, space)?;
                Some(self.add(Form::Array(items), None))
            }
            "map" => {
                let values = self.build(object.get("values")?, space)?;
                Some(self.add(Form::Map(values), None))
            }
            "record" | "error" => {
                let (named, space) = naming(object, space)?;
                let id = self.declare(&named);
                let fields = object.get("fields")?.as_array()?;
                let fields = fields.iter().map(|f| self.field(f, &space)).collect::<Option<_>>()?;
                self.fill(id, Form::Record(named, fields), None)
            }
            "enum" => {
                let (named, _) = naming(object, space)?;
                let id = self.declare(&named);
                let default = object.get("default").and_then(Json::as_str).map(str::to_owned);
                self.fill(id, Form::Enum(named, texts(object.get("symbols")), default), None)
            }
            "fixed" => {
                let (named, _) = naming(object, space)?;
                let id = self.declare(&named);
                self.fill(id, Form::Fixed(named, object.get("size")?.as_u64()?), decimal)
            }
            name => match PRIMITIVES.iter().find(|p| **p == name) {
                Some(primitive) => Some(self.add(Form::Primitive(primitive), decimal)),
                None => self.named(name, space),
            },
        }
    }

    fn field(&mut self, field: &Json, space: &str) -> Option<Field> {
        let object = field.as_object()?;
        Some(Field {
            name: object.get("name")?.as_str()?.to_owned(),
            aliases: texts(object.get("aliases")),
            defaulted: object.contains_key("default"),
            shape: self.build(object.get("type")?, space)?,
        })
    }

    fn add(&mut self, form: Form, decimal: Option<(u64, u64)>) -> Id {
        self.all.push(Some(Shape { form, decimal }));
        self.all.len() - 1
    }

    /// Takes a place for a named type, so that its own fields can refer to it.
    fn declare(&mut self, named: &Named) -> Id {
        self.all.push(None);
        let id = self.all.len() - 1;
        self.names.insert(named.name.clone(), id);
        id
    }

    fn fill(&mut self, id: Id, form: Form, decimal: Option<(u64, u64)>) -> Option<Id> {
        *self.all.get_mut(id)? = Some(Shape { form, decimal });
        Some(id)
    }
}

impl Named {
    /// Returns the name without its namespace, by which types are matched.
    pub(super) fn short(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or(&self.name)
    }
}

/// Returns the names of a type, and the namespace of what it encloses.
fn naming(object: &Map<String, Json>, space: &str) -> Option<(Named, String)> {
    let name = object.get("name")?.as_str()?;
    let space = object.get("namespace").and_then(Json::as_str).unwrap_or(space);
    let name = full(name, space);
    let space = name.rsplit_once('.').map_or("", |(space, _)| space).to_owned();
    let aliases = texts(object.get("aliases")).iter().map(|alias| full(alias, &space)).collect();
    Some((Named { name, aliases }, space))
}

fn full(name: &str, space: &str) -> String {
    if space.is_empty() || name.contains('.') { name.to_owned() } else { format!("{space}.{name}") }
}

fn texts(list: Option<&Json>) -> Vec<String> {
    let list = list.and_then(Json::as_array).into_iter().flatten();
    list.filter_map(Json::as_str).map(str::to_owned).collect()
}
