//! Grants: what of a stream may leave for one subscription, and the step that lets through just that.
//!
//! I5: default deny. A column, a row or a stream that nobody named does not move.

mod content;
mod narrowing;
mod permit;
mod rows;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::civil;
use jiff::tz::TimeZone;
use sha2::{Digest, Sha256};

use crate::contract::{Check, Contract, Field, Type};
use crate::hexadecimal;
use crate::mask::{Key, Mask};
use crate::problem::Problem;
use crate::secret::Secret;

pub use content::{Content, NOTE, noted_columns};
pub use narrowing::{Fate, Narrowing};
pub use permit::Permit;

/// The name of the field that stands for a key which is not granted in clear.
pub const HIDDEN_KEY: &str = "hutong_key";

/// The approved subscription: what may leave, until when.
#[derive(Debug, Clone, PartialEq)]
pub struct Grant {
    /// The subscription's name.
    pub subscription: String,
    /// The stream's name.
    pub stream: String,
    /// The wire names of the granted columns, in the order of the replica.
    pub columns: Vec<String>,
    /// The condition that granted rows fulfil; `None` grants every row.
    pub rows: Option<String>,
    /// Wire name to the mask on it. Complete: a contract's default masks are put in by [`default_masks`].
    pub masks: BTreeMap<String, Mask>,
    /// The last day of the grant; `None` when it has no end.
    pub until: Option<civil::Date>,
    /// The subscription's own key, for pseudonyms and hidden keys.
    pub key: Secret,
}

impl Grant {
    /// Returns SHA-256 of what decides the replica's content: stream, columns, rows, masks and the key's fingerprint.
    ///
    /// 64 lower-case hexadecimal digits. The order of the columns, the subscription's name and its end do not matter.
    pub fn digest(&self) -> String {
        let mut columns: Vec<&str> = self.columns.iter().map(String::as_str).collect();
        columns.sort_unstable();
        let mut text = String::from("hutong grant 1\n");
        // Every part is quoted, so that no text can pass for two.
        let _ = writeln!(text, "stream {:?}", self.stream);
        for column in columns {
            let _ = writeln!(text, "column {column:?}");
        }
        let _ = writeln!(text, "rows {:?}", self.rows.as_deref().map(str::trim));
        for (column, mask) in &self.masks {
            let _ = writeln!(text, "mask {column:?} {mask}");
        }
        let _ = writeln!(text, "key {}", self.fingerprint());
        hexadecimal::text(&Sha256::digest(text.as_bytes()))
    }

    /// Returns what stands for the subscription's own key where that must not be told.
    fn fingerprint(&self) -> impl std::fmt::Display {
        Key::new(&self.key).digest(b"hutong key fingerprint")
    }
}

/// Returns the masks that a contract puts on granted columns unless the grant says otherwise.
///
/// `Err` names a field whose contract asks for a mask that does not exist or does not fit.
pub fn default_masks(
    contract: &Contract,
    columns: &[String],
) -> Result<BTreeMap<String, Mask>, Vec<Problem>> {
    let (mut masks, mut problems) = (BTreeMap::new(), Vec::new());
    for field in contract.fields.iter().filter(|f| columns.contains(&f.name)) {
        match field.mask.as_deref().map(Mask::parse) {
            None => {}
            Some(Ok(mask)) => {
                masks.insert(field.name.clone(), mask);
            }
            Some(Err(why)) => {
                problems.push(Problem::new(format!("the contract's column `{}`: {why}", field.name)));
            }
        }
    }
    if problems.is_empty() { Ok(masks) } else { Err(problems) }
}

/// States whether a grant has ended: `until` is its last day, which ends at 24:00 in `zone`.
pub fn expired(until: civil::Date, zone: &TimeZone, now_us: i64) -> bool {
    end_us(until, zone).is_some_and(|end_us| now_us >= end_us)
}

/// Returns the first moment after a grant's last day, microseconds since 1970 UTC.
///
/// `None` for a day that has no next one: the last of the calendar never ends.
pub fn end_us(until: civil::Date, zone: &TimeZone) -> Option<i64> {
    let end = until.tomorrow().and_then(|day| zone.to_timestamp(day.at(0, 0, 0, 0)));
    end.ok().map(|end| end.as_microsecond())
}

/// Finds granted columns that together tell more than each (DOMAIN, "Masks").
///
/// A citizen number masked 6+4 hides its birth date and nothing else: beside the full birth date in clear the number
/// is known. A birth date is a column with 出生 in its title, or `birth` or `csrq` in its wire name.
pub fn linkage(contract: &Contract, grant: &Grant) -> Vec<Problem> {
    let halves = Halves::of(Some(contract), &grant.columns, &grant.masks);
    let told = |(number, birth): (&str, &str)| {
        let message =
            format!("`{number}` is masked by `id`, and beside it `{birth}` gives the masked digits away");
        Problem::new(message)
            .hint(format!("mask `{birth}` by `year`, or `{number}` by `id_short` or `pseudonym`"))
    };
    halves.completed_by(&halves).into_iter().map(told).collect()
}

/// What a grant shows of a citizen number: the halves that must not come together at one subscriber, whichever streams
/// they come from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Halves {
    /// The columns with numbers that are masked 6+4.
    pub numbers: Vec<String>,
    /// The columns with full birth dates in clear.
    pub births: Vec<String>,
}

impl Halves {
    /// Finds them among granted columns. Without the contract they are known by their wire names and masks alone.
    pub fn of(contract: Option<&Contract>, columns: &[String], masks: &BTreeMap<String, Mask>) -> Self {
        let is_birth = |name: &str| match contract {
            Some(contract) => contract.field(name).is_some_and(is_birth),
            None => is_named_birth(name),
        };
        let there = |name: &&String| contract.is_none_or(|contract| contract.field(name).is_some());
        let columns = || columns.iter().filter(there);
        Self {
            numbers: columns().filter(|name| masks.get(*name) == Some(&Mask::Id)).cloned().collect(),
            births: columns().filter(|name| !masks.contains_key(*name) && is_birth(name)).cloned().collect(),
        }
    }

    /// Returns each number of these with the birth date of those by which it is known.
    pub fn completed_by<'a>(&'a self, other: &'a Self) -> Vec<(&'a str, &'a str)> {
        let pairs =
            self.numbers.iter().flat_map(|number| other.births.iter().map(move |birth| (number, birth)));
        pairs
            .filter(|(number, birth)| same_person(number, birth))
            .map(|(number, birth)| (number.as_str(), birth.as_str()))
            .collect()
    }
}

fn is_named_birth(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.contains("birth") || name.contains("csrq")
}

fn is_birth(field: &Field) -> bool {
    let dated = matches!(field.ty, Type::Date | Type::Timestamp | Type::TimestampTz | Type::Text { .. });
    let number = field.checks.contains(&Check::CitizenNumber);
    dated && !number && (field.title().contains("出生") || is_named_birth(&field.name))
}

/// Of a couple, one's birth date says nothing of the other's number. Whatever is not surely of two persons is of one.
fn same_person(number: &str, birth: &str) -> bool {
    let who = |name: &str| ["man_", "woman_"].into_iter().find(|who| name.starts_with(who));
    match (who(number), who(birth)) {
        (Some(a), Some(b)) => a == b,
        _ => true,
    }
}

#[cfg(test)]
mod tests;
