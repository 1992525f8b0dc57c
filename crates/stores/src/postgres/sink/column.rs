//! Which column holds which field exactly (I6), and how its values travel there.
//!
//! | contract | created as | a department's own column may also be |
//! |---|---|---|
//! | boolean | boolean | |
//! | int16, int, long | smallint, integer, bigint | wider integers, numeric with room for the digits |
//! | float, double | real, double precision | for float: double precision |
//! | text(n), text | varchar(n), text | text, wider varchar, char of at least n; inet, ranges and the like by their text |
//! | bytes | bytea | |
//! | decimal(p,s), numeric | numeric(p,s), numeric | numeric with room before and after the point |
//! | date, time, timestamp, timestamptz | the same | the same to the microsecond |
//! | json | json | jsonb (equal as a document, not as text), text |
//! | uuid | uuid | text, varchar, char of at least 36 |
//! | interval | interval | text |
//! | enum | text | an enumeration with all its labels, varchar with room for each |
//! | array | array | array of what its items fit |
//!
//! Anything else is refused when the sink prepares. Knows a contract's types and the catalog's description of one column; nothing of tables or rows.

use hutong_core::Type;

use super::binary::Kind;

/// What the catalog says of a column.
#[derive(Debug, Clone)]
pub(super) struct Catalog {
    /// The column's name.
    pub(super) name: String,
    /// The declared type, as SQL writes it: `character varying(18)`, `share.state`.
    pub(super) declared: String,
    /// The type below all domains.
    pub(super) base: Base,
    /// The type's modifier (length, precision), -1 when there is none.
    pub(super) modifier: i32,
    /// The labels, when it or its items are an enumeration.
    pub(super) labels: Vec<String>,
    /// Its collation, when that takes different texts for one.
    pub(super) folding: Option<String>,
    /// Whether NULL is refused.
    pub(super) required: bool,
    /// Whether the database gives a value when none is told.
    pub(super) filled: bool,
    /// Whether only the database may write it.
    pub(super) generated: bool,
}

impl Catalog {
    /// Returns the type or the collation by which different keys in the column are one to the store.
    pub(super) fn folds(&self) -> Option<String> {
        let citext = !self.base.builtin && self.base.name == "citext";
        let collation = || self.folding.as_ref().map(|name| format!("collated by {name}"));
        citext.then(|| "citext".to_owned()).or_else(collation)
    }
}

/// The type of a column below all domains.
#[derive(Debug, Clone)]
pub(super) struct Base {
    /// Its name; of an array, the name of its items' type.
    pub(super) name: String,
    /// Whether it is one of PostgreSQL's own types.
    pub(super) builtin: bool,
    /// The catalog's category letter; of an array, that of its items.
    pub(super) category: char,
    /// Whether it is an array.
    pub(super) array: bool,
}

/// Returns the type of a column that Hutong creates for a field.
pub(super) fn declared(ty: &Type) -> String {
    match ty {
        Type::Boolean => "boolean".into(),
        Type::Int16 => "smallint".into(),
        Type::Int => "integer".into(),
        Type::Long => "bigint".into(),
        Type::Float => "real".into(),
        Type::Double => "double precision".into(),
        // 10,485,760 characters is the most that PostgreSQL lets a column declare, 1,000 the most digits.
        Type::Text { length: Some(length @ 1..=10_485_760) } => format!("character varying({length})"),
        Type::Text { .. } | Type::Enum { .. } => "text".into(),
        Type::Bytes => "bytea".into(),
        Type::Decimal { precision: precision @ 1..=1000, scale } => format!("numeric({precision},{scale})"),
        Type::Decimal { .. } | Type::Numeric => "numeric".into(),
        Type::Date => "date".into(),
        Type::Time => "time without time zone".into(),
        Type::Timestamp => "timestamp without time zone".into(),
        Type::TimestampTz => "timestamp with time zone".into(),
        // Not jsonb, which reorders and merges: a document is kept as its text.
        Type::Json => "json".into(),
        Type::Uuid => "uuid".into(),
        Type::Interval => "interval".into(),
        Type::Array(item) => format!("{}[]", declared(item)),
    }
}

/// States whether a column as Hutong creates it may take the type of a field while each value in it stays what it is.
pub(super) fn widens(column: &Catalog, ty: &Type) -> bool {
    if column.base.array || !column.base.builtin {
        return false;
    }
    match (column.base.name.as_str(), ty) {
        ("int2", Type::Int | Type::Long) | ("int4", Type::Long) => true,
        ("varchar", Type::Text { length }) => {
            length.is_none_or(|length| i64::from(column.modifier) - 4 <= i64::from(length))
        }
        ("numeric", Type::Decimal { precision, scale }) => {
            let (digits, places) = numeric_room(column.modifier);
            places == Some(i64::from(*scale)) && digits <= i64::from(*precision) - i64::from(*scale)
        }
        _ => false,
    }
}

/// Returns how values of a field travel into a column; `None` when the column cannot hold each of them exactly.
pub(super) fn fit(ty: &Type, column: &Catalog) -> Option<Kind> {
    match ty {
        Type::Array(item) if column.base.array => Some(Kind::Array(Box::new(scalar(item, column)?))),
        Type::Array(_) => None,
        _ if column.base.array => None,
        _ => scalar(ty, column),
    }
}

fn scalar(ty: &Type, column: &Catalog) -> Option<Kind> {
    let base = &column.base;
    let name = if base.builtin { base.name.as_str() } else { "" };
    let (digits, scale) = numeric_room(column.modifier);
    let unlimited = column.modifier < 0;
    // Interval's and time's modifier limits the digits of a second.
    let micros = unlimited || (column.modifier & 0xffff) >= 6;
    let text = || match name {
        "text" => Some(Kind::Text { limit: None, padded: false }),
        "varchar" | "bpchar" => Some(Kind::Text {
            limit: if unlimited { None } else { usize::try_from(column.modifier - 4).ok() },
            padded: name == "bpchar" && !unlimited,
        }),
        _ => None,
    };
    // A text of at most so many characters, in a column that holds as many.
    let sized = |length: Option<u32>| {
        text().filter(|kind| match (kind, length) {
            (Kind::Text { limit: Some(limit), .. }, Some(length)) => *limit >= length as usize,
            (Kind::Text { limit: Some(_), .. }, None) => false,
            _ => true,
        })
    };
    let numeric = |need: i64| (name == "numeric" && digits >= need).then_some(Kind::Numeric { scale });
    match ty {
        Type::Boolean => (name == "bool").then_some(Kind::Bool),
        Type::Int16 if name == "int2" => Some(Kind::Int2),
        Type::Int16 | Type::Int if name == "int4" => Some(Kind::Int4),
        Type::Int16 | Type::Int | Type::Long if name == "int8" => Some(Kind::Int8),
        Type::Int16 => numeric(5),
        Type::Int => numeric(10),
        Type::Long => numeric(19),
        Type::Float if name == "float4" => Some(Kind::Float4),
        Type::Float | Type::Double => (name == "float8").then_some(Kind::Float8),
        Type::Text { length } => sized(*length).or_else(|| {
            // Types whose exact form is a text; not those for which the contract has a type of its own.
            let own = matches!(base.category, 'A' | 'B' | 'C' | 'D' | 'E' | 'N' | 'T');
            let own = own || matches!(name, "bytea" | "json" | "jsonb" | "uuid" | "bpchar" | "varchar");
            (!own).then_some(Kind::ViaText)
        }),
        Type::Bytes => (name == "bytea").then_some(Kind::Bytea),
        Type::Decimal { precision, scale: after } => {
            let after = i64::from(*after);
            let kept = scale.is_none_or(|scale| scale >= after);
            numeric(i64::from(*precision) - after).filter(|_| kept)
        }
        Type::Numeric => numeric(i64::MAX),
        Type::Date => (name == "date").then_some(Kind::Date),
        Type::Time => (name == "time" && micros).then_some(Kind::Time),
        Type::Timestamp => (name == "timestamp" && micros).then_some(Kind::Timestamp),
        Type::TimestampTz => (name == "timestamptz" && micros).then_some(Kind::TimestampTz),
        Type::Json => match name {
            "json" => Some(Kind::Json),
            "jsonb" => Some(Kind::Jsonb),
            _ => sized(None),
        },
        Type::Uuid if name == "uuid" => Some(Kind::Uuid),
        Type::Uuid => sized(Some(36)),
        Type::Interval if name == "interval" => {
            (unlimited || every_field(column.modifier)).then_some(Kind::ViaText)
        }
        Type::Interval => sized(None),
        Type::Enum { allowed } if base.category == 'E' => {
            allowed.iter().all(|a| column.labels.contains(a)).then_some(Kind::ViaText)
        }
        Type::Enum { allowed } => sized(allowed.iter().map(|a| a.chars().count() as u32).max().or(Some(0))),
        Type::Array(_) => None,
    }
}

/// States whether an interval's modifier keeps every field and six digits of a second.
fn every_field(modifier: i32) -> bool {
    modifier >> 16 & 0x7fff == 0x7fff && modifier & 0xffff >= 6
}

/// Returns how many digits a numeric keeps before its point, and after it; the most when nothing is declared.
fn numeric_room(modifier: i32) -> (i64, Option<i64>) {
    if modifier < 4 {
        return (i64::MAX, None);
    }
    let (precision, scale) = ((modifier - 4) >> 16 & 0xffff, (modifier - 4) & 0x7ff);
    // Since PostgreSQL 15 the scale has a sign, in eleven bits.
    let scale = i64::from((scale ^ 0x400) - 0x400);
    (i64::from(precision) - scale, Some(scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, category: char, modifier: i32) -> Catalog {
        Catalog {
            name: "c".into(),
            declared: name.into(),
            base: Base { name: name.into(), builtin: true, category, array: false },
            modifier,
            labels: vec!["a".into(), "b".into()],
            folding: None,
            required: false,
            filled: false,
            generated: false,
        }
    }

    #[test]
    fn i6_a_column_fits_only_when_it_holds_every_value() {
        let numeric = |precision: i32, scale: i32| (precision << 16 | scale) + 4;
        let decimal = Type::Decimal { precision: 12, scale: 2 };
        let text = |length| Type::Text { length };
        let list = |labels: &[&str]| Type::Enum { allowed: labels.iter().map(|l| (*l).to_owned()).collect() };
        for (ty, column, fits) in [
            (Type::Int, column("int4", 'N', -1), true),
            (Type::Int, column("int8", 'N', -1), true),
            (Type::Int, column("int2", 'N', -1), false),
            (Type::Int, column("numeric", 'N', numeric(9, 0)), false),
            (Type::Int, column("numeric", 'N', numeric(10, 0)), true),
            (Type::Long, column("float8", 'N', -1), false),
            (Type::Float, column("float8", 'N', -1), true),
            (Type::Double, column("float4", 'N', -1), false),
            (decimal.clone(), column("numeric", 'N', -1), true),
            (decimal.clone(), column("numeric", 'N', numeric(12, 2)), true),
            (decimal.clone(), column("numeric", 'N', numeric(12, 3)), false),
            (decimal.clone(), column("numeric", 'N', numeric(13, 3)), true),
            (decimal, column("numeric", 'N', numeric(12, 1)), false),
            (Type::Numeric, column("numeric", 'N', numeric(1000, 2)), false),
            (text(Some(18)), column("varchar", 'S', 22), true),
            (text(Some(18)), column("varchar", 'S', 21), false),
            (text(Some(18)), column("bpchar", 'S', 22), true),
            (text(None), column("varchar", 'S', 22), false),
            (text(None), column("inet", 'I', -1), true),
            (text(None), column("int4", 'N', -1), false),
            (Type::Time, column("time", 'D', 3), false),
            (Type::Timestamp, column("timestamptz", 'D', -1), false),
            (Type::Json, column("jsonb", 'U', -1), true),
            (Type::Uuid, column("bpchar", 'S', 40), true),
            (Type::Interval, column("interval", 'T', -1), true),
            (Type::Interval, column("interval", 'T', 0x7fff << 16 | 3), false),
            (list(&["a"]), column("state", 'E', -1), true),
            (list(&["a", "z"]), column("state", 'E', -1), false),
            (list(&["a", "long"]), column("varchar", 'S', 7), false),
        ] {
            assert_eq!(fit(&ty, &column).is_some(), fits, "{} into {}", ty.name(), column.declared);
        }
    }

    #[test]
    fn a_negative_scale_makes_room_before_the_point() {
        assert_eq!(numeric_room((5 << 16 | 0x7fe) + 4), (7, Some(-2)));
        assert_eq!(numeric_room(-1), (i64::MAX, None));
    }
}
