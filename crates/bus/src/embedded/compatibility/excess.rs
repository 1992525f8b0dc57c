//! How much a schema asks of whoever takes it apart.
//!
//! The library checks the default of a field by filling in the defaults of the records that it names, and of those
//! that these name: forty types of two fields each are 2^40 of them, and a chain of types is as deep as it is long. A
//! registry answers anybody, so it counts first.

use std::collections::HashMap;

use serde_json::Value as Json;

use super::shape::{Form, Id, Shapes};

/// The longest text of a schema, in bytes.
pub(in crate::embedded) const TEXT_LIMIT_BYTES: usize = 1 << 20;

/// How deep types may stand in each other, by name or in place.
pub(super) const DEPTH_LIMIT: usize = 64;

/// How many records the defaults of one field may fill in.
pub(super) const FILLED_LIMIT: u64 = 1_000;

/// Returns why a schema is beyond what is taken; `None` when it is not, or when it is no schema at all.
pub(in crate::embedded) fn excess(schema: &Json) -> Option<String> {
    let (shapes, root) = Shapes::read(schema)?;
    let mut measure = Measure { shapes: &shapes, known: HashMap::new(), recursive: false };
    let measured = measure.of(root, 0);
    let named = shapes.named_count();
    match measured {
        None => Some(format!("its types stand more than {DEPTH_LIMIT} deep in each other")),
        // Through a circle, a way may be as long as there are types.
        Some(_) if measure.recursive && named > DEPTH_LIMIT => Some(format!(
            "its types refer to each other in a circle, and it has {named} of them; at most {DEPTH_LIMIT} may"
        )),
        Some(_) if measure.known.values().flatten().any(|size| size.filled > FILLED_LIMIT) => {
            Some(format!("the defaults of a field fill in more than {FILLED_LIMIT} records"))
        }
        Some(_) => None,
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Size {
    depth: usize,
    /// How many records are filled in where a value is left to the defaults.
    filled: u64,
}

struct Measure<'a> {
    shapes: &'a Shapes,
    /// What is known of a type; nothing while it is being measured.
    known: HashMap<Id, Option<Size>>,
    recursive: bool,
}

impl Measure<'_> {
    /// Measures a type; `None` when it is too deep.
    fn of(&mut self, id: Id, above: usize) -> Option<Size> {
        if above > DEPTH_LIMIT {
            return None;
        }
        match self.known.get(&id) {
            Some(Some(size)) => return (above + size.depth <= DEPTH_LIMIT).then_some(*size),
            Some(None) => {
                self.recursive = true;
                return Some(Size::default());
            }
            None => {}
        }
        self.known.insert(id, None);
        let mut size = Size::default();
        let mut add = |inner: Size, fills: bool| {
            size.depth = size.depth.max(inner.depth + 1);
            size.filled = size.filled.saturating_add(if fills { inner.filled } else { 0 });
        };
        match &self.shapes.shape(id).form {
            Form::Primitive(_) | Form::Enum(..) | Form::Fixed(..) => {}
            Form::Array(item) | Form::Map(item) => add(self.of(*item, above + 1)?, true),
            Form::Union(branches) => {
                for branch in branches {
                    add(self.of(*branch, above + 1)?, true);
                }
            }
            Form::Record(_, fields) => {
                for field in fields {
                    add(self.of(field.shape, above + 1)?, field.defaulted);
                }
                size.filled = size.filled.saturating_add(1);
            }
        }
        self.known.insert(id, Some(size));
        Some(size)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Types that each have the next one twice; `default`: left to its defaults.
    fn doubling(levels: usize, default: bool) -> Json {
        let mut ty = json!("int");
        for level in (0..levels).rev() {
            let again = if level + 1 == levels { json!("int") } else { json!(format!("L{}", level + 1)) };
            let mut fields = json!([{"name": "a", "type": ty}, {"name": "b", "type": again}]);
            if default {
                let empty = if level + 1 == levels { json!(0) } else { json!({}) };
                (fields[0]["default"], fields[1]["default"]) = (empty.clone(), empty);
            }
            ty = json!({"type": "record", "name": format!("L{level}"), "fields": fields});
        }
        ty
    }

    /// A record of records, of which each names the one before, or all name the whole.
    fn chain(length: usize, circle: bool) -> Json {
        let fields = (0..length).map(|at| {
            let names = match at {
                _ if circle => json!(["null", "Top"]),
                0 => json!("int"),
                at => json!(format!("L{}", at - 1)),
            };
            let link =
                json!({"type": "record", "name": format!("L{at}"), "fields": [{"name": "x", "type": names}]});
            json!({"name": format!("f{at}"), "type": link})
        });
        json!({"type": "record", "name": "Top", "fields": fields.collect::<Vec<_>>()})
    }

    #[test]
    fn counts_before_the_library_does() {
        let node = json!({"type": "record", "name": "Node", "fields": [{"name": "next", "type": ["null", "Node"], "default": null}]});
        for (schema, says) in [
            (doubling(30, false), None),
            (doubling(9, true), None),
            (doubling(30, true), Some("fill in more")),
            (chain(60, false), None),
            (chain(5_000, false), Some("deep in each other")),
            (chain(30, true), None),
            (chain(70, true), Some("circle")),
            (node, None),
            (json!({"type": "record"}), None),
            (json!("int"), None),
        ] {
            match (excess(&schema), says) {
                (None, None) => {}
                (Some(why), Some(says)) => assert!(why.contains(says), "{why}"),
                (found, says) => panic!("{found:?} and not {says:?}"),
            }
        }
    }
}
