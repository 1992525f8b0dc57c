//! What a grant lets through, in the words of the ledger, and which of two grants is the narrower.

use std::collections::BTreeMap;

use jiff::civil;
use serde::{Deserialize, Serialize};

use crate::contract::Contract;
use crate::error::{Error, ErrorKind, Result};
use crate::filter::Filter;
use crate::grant::Halves;
use crate::mask::Mask;

/// A masked citizen number that the birth date of another grant completes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completed {
    /// The column with the number.
    pub number: String,
    /// The column with the birth date.
    pub birth: String,
    /// Whether the number is of the terms that were asked, and the birth date of the others.
    pub of_these: bool,
}

/// What is asked for, or granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// The wire names of the columns, in the order of the replica.
    pub columns: Vec<String>,
    /// The conditions that a row must all fulfil. A list, so that a narrower one is seen to be narrower: whether one
    /// SQL condition implies another is not to be decided.
    #[serde(default)]
    pub rows: Vec<String>,
    /// Wire name to the mask on it, the contract's own included.
    #[serde(default)]
    pub masks: BTreeMap<String, String>,
    /// The last day; `None` when there is no end.
    #[serde(default)]
    pub until: Option<civil::Date>,
}

impl Terms {
    /// States why these terms let through something that the wider ones do not; `None` when they do not.
    pub fn exceed(&self, wider: &Self) -> Option<String> {
        if let Some(column) = self.columns.iter().find(|column| !wider.columns.contains(column)) {
            return Some(format!("column `{column}` is more than what it is measured by"));
        }
        let has = |condition: &str| self.rows.iter().any(|own| own.trim() == condition.trim());
        if let Some(condition) = wider.rows.iter().find(|condition| !has(condition)) {
            return Some(format!("the condition `{condition}` is missing"));
        }
        let masked = wider.masks.iter().filter(|(column, _)| self.columns.contains(column));
        if let Some((column, mask)) =
            masked.into_iter().find(|(column, mask)| self.masks.get(*column) != Some(mask))
        {
            return Some(format!("column `{column}` is without its mask `{mask}`"));
        }
        match (self.until, wider.until) {
            (_, None) => None,
            (Some(day), Some(last)) if day <= last => None,
            (_, Some(last)) => Some(format!("it lasts longer than {last}")),
        }
    }

    /// Returns the masks. `Err(Config)` names one that this program does not know: nothing may leave unmasked for that.
    pub fn masks(&self) -> Result<BTreeMap<String, Mask>> {
        let one = |(column, word): (&String, &String)| match Mask::parse(word) {
            Ok(mask) => Ok((column.clone(), mask)),
            Err(why) => Err(Error::new(ErrorKind::Config, format!("read the mask of `{column}`"), why)),
        };
        self.masks.iter().map(one).collect()
    }

    /// Finds what these terms and others give away together at one subscriber, though neither does alone (DOMAIN,
    /// "Masks"): a citizen number masked in one, the full birth date in clear in the other.
    ///
    /// Each with its contract, as far as it is known here. Of the `same` stream a number that the other shows in clear
    /// is no secret to keep; a column of that name of another stream is another column.
    pub fn together(
        &self,
        other: &Self,
        contracts: [Option<&Contract>; 2],
        same: bool,
    ) -> Result<Vec<Completed>> {
        let [own, theirs] = contracts;
        let mut found = Vec::new();
        for (number, birth, of_these) in
            [((self, own), (other, theirs), true), ((other, theirs), (self, own), false)]
        {
            let mut numbers = Halves::of(number.1, &number.0.columns, &number.0.masks()?);
            let births = Halves::of(birth.1, &birth.0.columns, &birth.0.masks()?);
            let clear =
                |column: &String| birth.0.columns.contains(column) && !birth.0.masks.contains_key(column);
            numbers.numbers.retain(|column| !same || !clear(column));
            found.extend(numbers.completed_by(&births).into_iter().map(|(number, birth)| Completed {
                number: number.to_owned(),
                birth: birth.to_owned(),
                of_these,
            }));
        }
        Ok(found)
    }

    /// Returns the wire names of the columns that it delivers, and of those that decide which rows arrive.
    pub fn used(&self, contract: &Contract) -> Result<Vec<String>> {
        let mut used = self.columns.clone();
        for condition in &self.rows {
            let filter = compiled(condition, contract)?;
            let fields = filter.columns().iter().filter_map(|at| contract.fields.get(*at));
            used.extend(fields.map(|field| field.name.clone()));
        }
        Ok(used)
    }

    /// Returns the one condition that all of [`Terms::rows`] are.
    ///
    /// Each is compiled by itself first: `a) OR (b` is no condition, and must not become one between parentheses.
    pub fn condition(&self, contract: &Contract) -> Result<Option<String>> {
        for condition in &self.rows {
            compiled(condition, contract)?;
        }
        Ok(Some(self.rows_text()).filter(|_| !self.rows.is_empty()))
    }

    /// Returns the one condition that all of [`Terms::rows`] are, whether they compile or not; empty when there is none.
    pub fn rows_text(&self) -> String {
        match &self.rows[..] {
            // As written, so that the grant's digest is the one that it has without a ledger.
            [one] => one.clone(),
            all => all.iter().map(|one| format!("({one})")).collect::<Vec<_>>().join(" AND "),
        }
    }
}

fn compiled(condition: &str, contract: &Contract) -> Result<Filter> {
    Filter::compile(condition, contract).map_err(|problems| {
        let why = problems.into_iter().map(|p| p.message).collect::<Vec<_>>().join("; ");
        Error::new(ErrorKind::Config, format!("compile the condition `{condition}`"), why)
    })
}
