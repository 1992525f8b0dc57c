//! The differences between two versions of a contract, and what each does to those who read the stream.

use super::{Check, Contract, Field, Type};

/// One difference between two contracts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The wire name of the field; `None` when it is about the whole stream.
    pub field: Option<String>,
    /// What differs and what that means, in words.
    pub what: String,
    /// Whether it needs the next generation of the topic.
    ///
    /// So it does when compatibility FULL_TRANSITIVE refuses it (of fields that may be null on the wire, which are all
    /// but the key's, it allows only to add and to remove), and when the registry would let it pass but rows of both
    /// versions can no longer stand in one replica.
    pub breaking: bool,
}

/// Returns what `new` changes of `old`: the stream first, then the fields in their order.
pub fn diff(old: &Contract, new: &Contract) -> Vec<Difference> {
    let mut differences = Vec::new();
    let mut tell = |field: Option<&Field>, what: String, breaking: bool| {
        differences.push(Difference { field: field.map(|f| f.name.clone()), what, breaking });
    };
    if old.stream != new.stream {
        tell(None, format!("the stream `{}` becomes `{}`: another topic", old.stream, new.stream), true);
    }
    if old.sharing != new.sharing {
        tell(None, "the sharing type or its condition changes: grants must be approved again".into(), false);
    }
    let key =
        |contract: &Contract| contract.key_fields().map(|f| f.name.as_str()).collect::<Vec<_>>().join(", ");
    let (old_key, new_key) = (key(old), key(new));
    if old_key != new_key {
        tell(None, format!("the key ({old_key}) becomes ({new_key}): rows move to other partitions"), true);
    }
    let common = |from: &Contract, other: &Contract| -> Vec<String> {
        from.fields.iter().filter(|f| other.index(&f.name).is_some()).map(|f| f.name.clone()).collect()
    };
    if common(old, new) != common(new, old) {
        tell(None, "the fields stand in another order: readers find them by name".into(), false);
    }
    for field in old.fields.iter().filter(|f| new.index(&f.name).is_none()) {
        tell(
            Some(field),
            "is removed: it stays as it is in replicas, and grants may no longer name it".into(),
            false,
        );
    }
    for field in &new.fields {
        let Some(before) = old.field(&field.name) else {
            tell(
                Some(field),
                format!("is added, {}: nobody gets it until a grant names it", shape(field)),
                false,
            );
            continue;
        };
        if before.sealed != field.sealed {
            let becomes = if field.sealed { "is sealed now" } else { "is not sealed any more" };
            let what = format!("{becomes}: what stands in the topic could not be read by it");
            tell(Some(field), what, true);
        }
        if before.ty != field.ty {
            // A key's fields are not nullable on the wire, but the same rules of resolution hold.
            let (effect, breaking) = retyped(&before.ty, &field.ty);
            tell(
                Some(field),
                format!("{} becomes {}: {effect}", before.ty.name(), field.ty.name()),
                breaking,
            );
        }
        match (before.nullable, field.nullable) {
            (false, true) => tell(
                Some(field),
                "may be NULL now: the wire allowed it before, subscribers may not".into(),
                false,
            ),
            (true, false) => {
                tell(Some(field), "may no longer be NULL: older rows of the topic may be".into(), false);
            }
            _ => {}
        }
        if before.column() != field.column() {
            let what = format!("comes from column `{}` instead of `{}`", field.column(), before.column());
            tell(Some(field), what, false);
        }
        if before.mask != field.mask {
            let name = |mask: &Option<String>| mask.clone().unwrap_or_else(|| "none".into());
            let what = format!("the default mask {} becomes {}", name(&before.mask), name(&field.mask));
            tell(Some(field), what, false);
        }
        if checks(before) != checks(field) {
            tell(Some(field), "its quality checks change: they hold from the next row on".into(), false);
        }
        if before.classification() != field.classification() {
            let what = format!(
                "the classification {:?} becomes {:?}",
                before.classification(),
                field.classification()
            );
            tell(Some(field), what, false);
        }
    }
    differences
}

fn shape(field: &Field) -> String {
    format!("{}{}", field.ty.name(), if field.nullable { "" } else { " NOT NULL" })
}

fn checks(field: &Field) -> &[Check] {
    &field.checks
}

/// Returns what another type means, and whether it breaks.
fn retyped(old: &Type, new: &Type) -> (&'static str, bool) {
    const GROWS: (&str, bool) = ("the wire stays the same, replicas widen their column", false);
    const SHRINKS: (&str, bool) = ("rows that the topic holds may no longer fit", true);
    let room = |length: &Option<u32>| length.unwrap_or(u32::MAX);
    match (old, new) {
        (Type::Int16, Type::Int) => GROWS,
        (Type::Int, Type::Int16) => SHRINKS,
        (Type::Int16 | Type::Int, Type::Long) => {
            ("replicas could widen their column, but on the wire FULL_TRANSITIVE refuses int to long", true)
        }
        (Type::Float, Type::Double) => (
            "replicas could widen their column, but on the wire FULL_TRANSITIVE refuses float to double",
            true,
        ),
        (Type::Text { length: a }, Type::Text { length: b }) if room(a) < room(b) => GROWS,
        (Type::Text { .. }, Type::Text { .. }) => SHRINKS,
        (Type::Decimal { scale: a, .. }, Type::Decimal { scale: b, .. }) if a != b => {
            ("the scale is part of the schema: older rows would be read as other numbers", true)
        }
        (Type::Decimal { precision: a, .. }, Type::Decimal { precision: b, .. }) if a < b => (
            "replicas could widen their column, but the precision is part of the schema, and FULL_TRANSITIVE refuses another",
            true,
        ),
        (Type::Decimal { .. }, Type::Decimal { .. }) => SHRINKS,
        (Type::Enum { allowed: a }, Type::Enum { allowed: b }) if a.iter().all(|text| b.contains(text)) => {
            ("the wire stays the same, replicas learn the new texts", false)
        }
        (Type::Enum { .. }, Type::Enum { .. }) => SHRINKS,
        _ => ("another type on the wire", true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contract(fields: Vec<Field>) -> Contract {
        let text = r#"{"type":"record","name":"s","sharing":"unconditional","key":["id"],"fields":[{"name":"id","type":"long"}]}"#;
        let mut contract = Contract::parse(text).unwrap();
        contract.fields.extend(fields);
        contract
    }

    #[test]
    fn tells_each_difference_and_whether_it_breaks() {
        let text = |length| Type::Text { length };
        let decimal = |precision, scale| Type::Decimal { precision, scale };
        let retyped =
            |a: Type, b: Type| (contract(vec![Field::new("v", a)]), contract(vec![Field::new("v", b)]));
        let one = || contract(vec![Field::new("v", Type::Int)]);
        let sealed = || contract(vec![Field { sealed: true, ..Field::new("v", Type::Int) }]);
        let required = || contract(vec![Field { nullable: false, ..Field::new("v", Type::Int) }]);
        let two = || vec![Field::new("v", Type::Int), Field::new("w", Type::Int)];
        let keyed = Contract { key: vec![0, 1], ..required() };
        let rows = [
            ((contract(vec![]), one()), Some("v"), "is added, int", false),
            ((one(), contract(vec![])), Some("v"), "is removed", false),
            ((one(), required()), Some("v"), "no longer be NULL", false),
            ((required(), one()), Some("v"), "may be NULL now", false),
            ((required(), keyed), None, "the key (id) becomes (id, v)", true),
            ((contract(two()), contract(two().into_iter().rev().collect())), None, "another order", false),
            (retyped(Type::Int16, Type::Int), Some("v"), "int16 becomes int", false),
            (retyped(Type::Int, Type::Long), Some("v"), "FULL_TRANSITIVE refuses int to long", true),
            (retyped(Type::Long, Type::Int), Some("v"), "another type", true),
            (retyped(text(Some(5)), text(Some(9))), Some("v"), "widen", false),
            (retyped(text(Some(5)), text(None)), Some("v"), "widen", false),
            (retyped(text(None), text(Some(5))), Some("v"), "no longer fit", true),
            (retyped(decimal(5, 2), decimal(9, 2)), Some("v"), "the precision is part of the schema", true),
            (retyped(decimal(5, 2), decimal(9, 3)), Some("v"), "scale", true),
            (retyped(Type::Date, Type::Timestamp), Some("v"), "another type", true),
            ((one(), sealed()), Some("v"), "is sealed now", true),
            ((sealed(), one()), Some("v"), "is not sealed any more", true),
        ];
        for ((old, new), field, says, breaking) in rows {
            let differences = diff(&old, &new);
            let [only] = &differences[..] else { panic!("{says}: {differences:?}") };
            assert_eq!((only.field.as_deref(), only.breaking), (field, breaking), "{only:?}");
            assert!(only.what.contains(says), "{only:?}");
        }
        assert_eq!(diff(&one(), &one()), []);
    }
}
