//! What each PostgreSQL type becomes.
//!
//! | PostgreSQL | contract | how |
//! |---|---|---|
//! | `boolean` | boolean | |
//! | `smallint`, `integer`, `bigint` | int16, int, long | |
//! | `oid`, `xid` | long | |
//! | `real`, `double precision` | float, double | exact; NaN and infinity too |
//! | `numeric(p,s)` with 0 ≤ s ≤ p | decimal(p,s) | exact; NaN is rejected by the rule `not_carried` |
//! | `numeric`, other scales | numeric | exact; NaN and infinity are rejected by the rule `not_carried` |
//! | `text`, `citext`, `name` | text | |
//! | `varchar(n)` | text(n) | |
//! | `char(n)` | text(n) | trailing blanks removed |
//! | `bytea` | bytes | |
//! | `date` | date | infinity, years before 1 and after 9999 are rejected by the rule `not_carried` |
//! | `time` | time | microseconds; 24:00:00 is carried |
//! | `timestamp`, `timestamptz` | timestamp, timestamptz | microseconds; infinity and years as for `date` |
//! | `timetz` | text | |
//! | `interval` | interval | ISO 8601 text |
//! | `json`, `jsonb` | json | the server's text |
//! | `uuid` | uuid | |
//! | enumerations | enum | a label that the contract does not list is rejected |
//! | domains | as their base type | |
//! | one-dimensional arrays | array of the item's type | more dimensions or another lower bound than 1: rejected |
//! | `inet`, `cidr`, `macaddr`, `xml`, `bit`, ranges, geometry, text search, composites, others | text | the server's text |
//! | `money` | refused | its text depends on the server's locale |
//!
//! A contract may be wider than the column (int over `smallint`, numeric over `numeric(p,s)`, text without a
//! limit over everything whose form is its text). It may also be narrower in length, precision or labels: then
//! each value is checked and one that does not fit is rejected, never cut (I6).

use hutong_core::Type;

/// A column's type with domains resolved, as the catalog describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PgType {
    /// A type that is known by its name alone.
    Base {
        /// `pg_type.typname`: `int4`, `bpchar`.
        name: String,
        /// The type modifier; -1 when there is none.
        typmod: i32,
    },
    /// An enumeration with its labels in order.
    Enum {
        /// The labels.
        labels: Vec<String>,
    },
    /// An array with its item.
    Array(Box<PgType>),
    /// A type that was dropped since.
    Gone,
}

/// How well a contract's type fits a column's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fit {
    /// Every value of the column fits.
    Whole,
    /// Values may be longer, larger or others than the contract allows; each is checked.
    Checked,
    /// The column's values cannot be read as the contract's type.
    Not,
}

impl PgType {
    /// Makes a base type.
    #[cfg(test)]
    pub(crate) fn base(name: &str, typmod: i32) -> Self {
        Self::Base { name: name.to_owned(), typmod }
    }

    /// Returns the contract's type that holds exactly this type's values; `None` when it is refused.
    pub(crate) fn exact(&self) -> Option<Type> {
        let (name, typmod) = match self {
            Self::Gone => return None,
            // A contract separates labels by commas: what has one of its own is a text.
            Self::Enum { labels } if labels.iter().any(|label| label.contains(',')) => {
                return Some(Type::Text { length: None });
            }
            Self::Enum { labels } => return Some(Type::Enum { allowed: labels.clone() }),
            // An item that is an array itself exists only through a domain.
            Self::Array(item) => {
                return match item.exact()? {
                    // Its items are separated by semicolons, and it exists for completeness' sake only.
                    _ if matches!(&**item, Self::Base { name, .. } if name == "box") => None,
                    Type::Array(_) => None,
                    item => Some(Type::Array(Box::new(item))),
                };
            }
            Self::Base { name, typmod } => (name.as_str(), *typmod),
        };
        let length = || u32::try_from(typmod - 4).ok().filter(|length| *length > 0);
        Some(match name {
            "bool" => Type::Boolean,
            "int2" => Type::Int16,
            "int4" => Type::Int,
            "int8" | "oid" | "xid" => Type::Long,
            "float4" => Type::Float,
            "float8" => Type::Double,
            "numeric" => match numeric(typmod) {
                Some((precision, scale)) if (0..=precision as i32).contains(&scale) => {
                    Type::Decimal { precision, scale: scale as u32 }
                }
                _ => Type::Numeric,
            },
            "varchar" | "bpchar" => Type::Text { length: length() },
            "bytea" => Type::Bytes,
            "date" => Type::Date,
            "time" => Type::Time,
            "timestamp" => Type::Timestamp,
            "timestamptz" => Type::TimestampTz,
            "interval" => Type::Interval,
            "json" | "jsonb" => Type::Json,
            "uuid" => Type::Uuid,
            "money" => return None,
            _ => Type::Text { length: None },
        })
    }

    /// States how well a contract's type fits.
    pub(crate) fn fit(&self, contract: &Type) -> Fit {
        match self.exact() {
            Some(exact) => fit(&exact, contract),
            None => Fit::Not,
        }
    }

    /// States whether trailing blanks are padding.
    pub(crate) fn padded(&self) -> bool {
        match self {
            Self::Base { name, .. } => name == "bpchar",
            Self::Array(item) => item.padded(),
            Self::Enum { .. } | Self::Gone => false,
        }
    }

    /// Returns the type's name for people.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Base { name, .. } => match self.exact() {
                Some(exact @ (Type::Decimal { .. } | Type::Text { length: Some(_) })) => {
                    format!("{name} ({})", exact.name())
                }
                _ => name.clone(),
            },
            Self::Enum { labels } => format!("enum ({})", labels.join(",")),
            Self::Array(item) => format!("array of {}", item.name()),
            Self::Gone => "a type that is gone".to_owned(),
        }
    }
}

/// Returns precision and scale of a `numeric` type modifier.
fn numeric(typmod: i32) -> Option<(u32, i32)> {
    let packed = typmod.checked_sub(4).filter(|packed| *packed >= 0)?;
    // The scale is eleven bits with a sign since PostgreSQL 15.
    Some(((packed >> 16) as u32 & 0xffff, ((packed & 0x7ff) ^ 0x400) - 0x400))
}

fn fit(column: &Type, contract: &Type) -> Fit {
    let when = |whole: bool| if whole { Fit::Whole } else { Fit::Checked };
    match (column, contract) {
        (a, b) if a == b => Fit::Whole,
        (Type::Array(a), Type::Array(b)) => fit(a, b),
        (Type::Int16 | Type::Int | Type::Long, Type::Int16 | Type::Int | Type::Long) => {
            when(whole_digits(column) <= whole_digits(contract))
        }
        (Type::Int16 | Type::Int | Type::Long | Type::Decimal { .. } | Type::Numeric, Type::Numeric) => {
            Fit::Whole
        }
        (Type::Int16 | Type::Int | Type::Long | Type::Numeric, Type::Decimal { precision, scale }) => {
            when(column != &Type::Numeric && whole_digits(column) + scale <= *precision)
        }
        (Type::Decimal { precision: p, scale: s }, Type::Decimal { precision, scale }) => {
            when(s <= scale && p - s <= precision.saturating_sub(*scale))
        }
        (Type::Text { length: a }, Type::Text { length: b }) => {
            when(b.is_none_or(|b| a.is_some_and(|a| a <= b)))
        }
        (Type::Enum { allowed: a }, Type::Enum { allowed: b }) => {
            when(a.iter().all(|label| b.contains(label)))
        }
        (Type::Enum { .. } | Type::Uuid | Type::Json | Type::Interval, Type::Text { length }) => {
            when(length.is_none())
        }
        (Type::Text { .. }, Type::Enum { .. }) => Fit::Checked,
        _ => Fit::Not,
    }
}

/// Returns how many decimal digits the widest number of a whole type has.
fn whole_digits(ty: &Type) -> u32 {
    match ty {
        Type::Int16 => 5,
        Type::Int => 10,
        _ => 19,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_becomes_what_the_table_says() {
        for (name, typmod, exact) in [
            ("int4", -1, "int"),
            ("oid", -1, "long"),
            ("numeric", ((12 << 16) | 2) + 4, "decimal(12,2)"),
            ("numeric", -1, "numeric"),
            // numeric(3,-2) and numeric(3,5)
            ("numeric", ((3 << 16) | 0x7fe) + 4, "numeric"),
            ("numeric", ((3 << 16) | 5) + 4, "numeric"),
            ("varchar", 22, "text(18)"),
            ("varchar", -1, "text"),
            ("bpchar", 10, "text(6)"),
            ("jsonb", -1, "json"),
            ("inet", -1, "text"),
            ("timetz", -1, "text"),
        ] {
            assert_eq!(PgType::base(name, typmod).exact().unwrap().name(), exact, "{name}");
        }
        assert_eq!(PgType::base("money", -1).exact(), None);
        let labelled = |label: &str| PgType::Enum { labels: vec![label.into()] }.exact().unwrap().name();
        assert_eq!((labelled("a"), labelled("a,b")), ("enum(a)".into(), "text".into()));
    }

    #[test]
    fn i6_a_contract_fits_wholly_by_checking_or_not() {
        let text = |length| Type::Text { length };
        for (name, typmod, contract, expected) in [
            ("int4", -1, Type::Long, Fit::Whole),
            ("int8", -1, Type::Int, Fit::Checked),
            ("int4", -1, Type::Decimal { precision: 12, scale: 2 }, Fit::Whole),
            ("int4", -1, Type::Decimal { precision: 8, scale: 2 }, Fit::Checked),
            ("float4", -1, Type::Double, Fit::Not),
            ("varchar", 22, text(Some(18)), Fit::Whole),
            ("text", -1, text(Some(18)), Fit::Checked),
            ("int4", -1, text(None), Fit::Not),
            ("date", -1, Type::Timestamp, Fit::Not),
            ("money", -1, text(None), Fit::Not),
        ] {
            assert_eq!(PgType::base(name, typmod).fit(&contract), expected, "{name} as {}", contract.name());
        }
    }
}
