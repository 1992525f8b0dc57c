//! Quality checks at capture: what does not satisfy its contract does not leave its department.
//!
//! Knows the contract's NOT NULL, text lengths and checks. A violation names the field and the rule, never the value.

use std::str::FromStr;
use std::sync::Arc;

use crate::change::{Before, Change, Op, Rejected};
use crate::contract::{Check, Contract, Field, Type};
use crate::port::{Step, Verdict};
use crate::value::{Decimal, Value};

/// The step `check`: rejects rows that do not satisfy their contract, by the rule `check`.
///
/// Rejects by the new row only, and looks at nothing that is unknown. The rejected change is whole: the quarantine of
/// a capture stays with the stream's owner. Of an old row that breaks a rule, and so was never published, it lets the
/// key through alone.
#[derive(Debug, Default)]
pub struct Quality {
    plans: Vec<Plan>,
}

/// The checks of one contract.
#[derive(Debug)]
struct Plan {
    /// Keeps the contract alive, so that its address names it.
    contract: Arc<Contract>,
    fields: Vec<Vec<Rule>>,
}

#[derive(Debug)]
enum Rule {
    NotNull,
    Length(u32),
    CitizenNumber,
    CreditCode,
    Division,
    Codes(Vec<String>),
    Range(Option<Decimal>, Option<Decimal>),
}

impl Quality {
    /// Makes the step; it learns its rules from the contracts of the changes.
    pub fn new() -> Self {
        Self::default()
    }

    fn plan(&mut self, contract: &Arc<Contract>) -> &Plan {
        let known = self.plans.iter().position(|plan| Arc::ptr_eq(&plan.contract, contract));
        let at = known.unwrap_or_else(|| {
            // Another version of the same stream takes the place of the one before.
            self.plans.retain(|plan| plan.contract.stream != contract.stream);
            let fields =
                contract.fields.iter().enumerate().map(|(i, f)| rules(f, contract.is_key(i))).collect();
            self.plans.push(Plan { contract: Arc::clone(contract), fields });
            self.plans.len() - 1
        });
        &self.plans[at]
    }
}

impl Plan {
    /// Returns the fields of a row whose values break a rule, each with that rule.
    fn broken<'a>(&'a self, row: &'a [Value]) -> impl Iterator<Item = (&'a Field, &'a Rule)> {
        self.fields.iter().zip(row).zip(&self.contract.fields).flat_map(|((rules, value), field)| {
            rules.iter().filter(|rule| !rule.holds(value)).map(move |rule| (field, rule))
        })
    }
}

impl Step for Quality {
    fn name(&self) -> &'static str {
        "check"
    }

    fn apply(&mut self, mut change: Change) -> Verdict {
        let plan = self.plan(&change.contract);
        if let (Op::Read | Op::Insert | Op::Update, Some(row)) = (change.op, &change.after) {
            let broken: Vec<String> =
                plan.broken(row).map(|(field, rule)| format!("{} {}", field.name, rule.says())).collect();
            if !broken.is_empty() {
                return Verdict::Reject(Rejected {
                    rule: "check",
                    reason: broken.join("; "),
                    position: change.position,
                    stream: change.contract.stream.clone(),
                    change: Some(Box::new(change)),
                    record: None,
                });
            }
        }
        // I3: an old row that breaks a rule was never published. Whoever compares it with the new one would take
        // what a replica holds for what it never got, so only its key goes on.
        if let Before::Full(row) = &change.before
            && plan.broken(row).next().is_some()
        {
            change.before = Before::Key(change.contract.key_row(&change.contract.key_of(row)));
        }
        Verdict::Pass(change)
    }
}

fn rules(field: &Field, key: bool) -> Vec<Rule> {
    let mut rules = Vec::new();
    if !field.nullable || key {
        rules.push(Rule::NotNull);
    }
    if let Type::Text { length: Some(length) } = field.ty {
        rules.push(Rule::Length(length));
    }
    // A bound that JSON has as 0.1 means one tenth, not the double beside it.
    let bound = |bound: &Option<f64>| bound.and_then(|b| Decimal::from_str(&b.to_string()).ok());
    rules.extend(field.checks.iter().filter_map(|check| match check {
        Check::CitizenNumber => Some(Rule::CitizenNumber),
        Check::CreditCode => Some(Rule::CreditCode),
        Check::Division => Some(Rule::Division),
        Check::Codes { allowed } => Some(Rule::Codes(allowed.clone())),
        Check::Range { min, max } => Some(Rule::Range(bound(min), bound(max))),
        Check::Pattern { .. } => None,
    }));
    rules
}

impl Rule {
    /// States whether a value satisfies the rule. NULL satisfies every rule but [`Rule::NotNull`].
    fn holds(&self, value: &Value) -> bool {
        if let Value::Null | Value::Unknown = value {
            return !(matches!(self, Self::NotNull) && value.is_null());
        }
        let text = |holds: &dyn Fn(&str) -> bool| value.as_text().is_some_and(holds);
        match self {
            Self::NotNull => true,
            // A text has at most as many characters as bytes, so most need not be counted.
            Self::Length(length) => {
                text(&|t| t.len() <= *length as usize || t.chars().count() <= *length as usize)
            }
            Self::CitizenNumber => text(&citizen_number),
            Self::CreditCode => text(&credit_code),
            Self::Division => text(&|t| t.len() == 6 && t.bytes().all(|b| b.is_ascii_digit())),
            Self::Codes(allowed) => text(&|t| allowed.iter().any(|a| a == t)),
            Self::Range(min, max) => {
                let number = match value {
                    Value::Integer(number) => Some(Decimal::from(*number)),
                    Value::Decimal(number) => return within(number, min.as_ref(), max.as_ref()),
                    Value::Float(number) => Decimal::try_from(*number).ok(),
                    Value::Double(number) => Decimal::try_from(*number).ok(),
                    _ => None,
                };
                number.is_some_and(|number| within(&number, min.as_ref(), max.as_ref()))
            }
        }
    }

    fn says(&self) -> String {
        match self {
            Self::NotNull => "is NULL and may not be".into(),
            Self::Length(length) => format!("has more than {length} characters"),
            Self::CitizenNumber => "is no citizen number (GB 11643)".into(),
            Self::CreditCode => "is no unified social credit code (GB 32100)".into(),
            Self::Division => "is no division code of six digits (GB/T 2260)".into(),
            Self::Codes(_) => "is none of the allowed codes".into(),
            Self::Range(Some(min), Some(max)) => format!("is not between {min} and {max}"),
            Self::Range(Some(min), None) => format!("is less than {min}"),
            Self::Range(None, Some(max)) => format!("is more than {max}"),
            Self::Range(None, None) => "is no number".into(),
        }
    }
}

fn within(number: &Decimal, min: Option<&Decimal>, max: Option<&Decimal>) -> bool {
    min.is_none_or(|min| min <= number) && max.is_none_or(|max| number <= max)
}

/// States whether a text is a citizen number: GB 11643-1999, 18 characters, ISO 7064 MOD 11-2.
///
/// Division (6), birth date (8), order (3), check character. The check character X is a capital letter.
pub fn citizen_number(text: &str) -> bool {
    const WEIGHTS: [u32; 17] = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
    let [digits @ .., check] = text.as_bytes() else { return false };
    if digits.len() != 17 || !digits.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let number =
        |from: usize, to: usize| digits[from..to].iter().fold(0i16, |n, d| n * 10 + i16::from(d - b'0'));
    let (year, month, day) = (number(6, 10), number(10, 12), number(12, 14));
    let dated = year >= 1800 && jiff::civil::Date::new(year, month as i8, day as i8).is_ok();
    let sum: u32 = digits.iter().zip(WEIGHTS).map(|(digit, weight)| u32::from(digit - b'0') * weight).sum();
    dated && b"10X98765432"[(sum % 11) as usize] == *check
}

/// States whether a text is a unified social credit code: GB 32100-2015, 18 characters without I, O, S, V and Z.
///
/// Only its own check character is looked at, not that of the organisation code (GB 11714) in it.
pub fn credit_code(text: &str) -> bool {
    const CHARACTERS: &[u8; 31] = b"0123456789ABCDEFGHJKLMNPQRTUWXY";
    let place = |byte: u8| CHARACTERS.iter().position(|c| *c == byte);
    let bytes = text.as_bytes();
    if bytes.len() != 18 {
        return false;
    }
    let (mut sum, mut weight) = (0, 1);
    for byte in &bytes[..17] {
        let Some(place) = place(*byte) else { return false };
        sum += place * weight;
        weight = weight * 3 % 31;
    }
    place(bytes[17]) == Some((31 - sum % 31) % 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Origin;
    use crate::grant::{Grant, Permit};
    use crate::position::Position;
    use crate::secret::Secret;

    #[test]
    fn tells_citizen_numbers_by_date_and_check() {
        let rows = [
            ("11010519491231002X", true),
            ("440524188001010014", true),
            ("360426199101010071", true),
            ("44011320141005001X", true),
            ("990101199003070015", true),
            ("990101199003070023", true),
            ("99010220850101003X", true),
            ("990101196212310181", true),
            ("36042619910102009X", false),
            ("360426199113010079", false),
            ("11010519491231002x", false),
            ("1101051949123100", false),
            ("", false),
            ("一一一一一一", false),
        ];
        for (text, valid) in rows {
            assert_eq!(citizen_number(text), valid, "{text}");
        }
    }

    #[test]
    fn tells_credit_codes_by_check() {
        let rows = [
            ("91110000600037341L", true),
            ("121200004013590816", true),
            ("9144030071526726XG", true),
            ("91990101MA00000A92", true),
            ("12990101000000000X", true),
            ("91110000600037341N", false),
            ("91110000600037341I", false),
            ("9111000060003734", false),
            ("🙂🙂🙂🙂ab", false),
        ];
        for (text, valid) in rows {
            assert_eq!(credit_code(text), valid, "{text}");
        }
    }

    fn change(op: Op, after: Option<Vec<Value>>) -> Change {
        let text = r#"{"type":"record","name":"s","sharing":"unconditional","key":["id"],"fields":[
            {"name":"id","type":{"type":"string","length":18},"checks":[{"kind":"citizen_number"}]},
            {"name":"xm","type":["null",{"type":"string","length":3}]},
            {"name":"kind","type":["null","string"],"checks":[{"kind":"codes","allowed":["0","1"]}]},
            {"name":"qh","type":["null","string"],"checks":[{"kind":"division"}]},
            {"name":"fee","type":["null",{"type":"bytes","logicalType":"decimal","precision":5,"scale":2}],
             "checks":[{"kind":"range","min":0.1,"max":9.5}]},
            {"name":"n","type":["null","int"],"checks":[{"kind":"range","min":1}]}]}"#;
        Change {
            contract: Contract::parse(text).unwrap().shared(),
            op,
            before: Before::None,
            after,
            position: Position::offset(1),
            source_position: Position::offset(1),
            origin: Origin {
                place: Arc::default(),
                committed_us: 0,
                xid: None,
                lsn: None,
                transaction: None,
                last: true,
            },
        }
    }

    #[test]
    fn i3_a_violation_is_set_aside_by_name_and_without_the_value() {
        let decimal = |text: &str| Value::Decimal(text.parse().unwrap());
        let good = vec![
            Value::text("990101199003070015"),
            Value::text("欧阳修"),
            Value::text("1"),
            Value::text("990101"),
            decimal("0.10"),
            Value::Integer(1),
        ];
        let rows = [
            (0, Value::Null, "id is NULL and may not be"),
            (0, Value::text("990101199003070016"), "id is no citizen number (GB 11643)"),
            (1, Value::text("欧阳修文"), "xm has more than 3 characters"),
            (2, Value::text("2"), "kind is none of the allowed codes"),
            (3, Value::text("9901"), "qh is no division code of six digits (GB/T 2260)"),
            (4, decimal("0.09"), "fee is not between 0.1 and 9.5"),
            (4, decimal("9.51"), "fee is not between 0.1 and 9.5"),
            (5, Value::Integer(0), "n is less than 1"),
        ];
        let mut quality = Quality::new();
        assert!(matches!(quality.apply(change(Op::Insert, Some(good.clone()))), Verdict::Pass(_)));
        for (at, value, says) in rows {
            let mut row = good.clone();
            row[at] = value;
            let Verdict::Reject(rejected) = quality.apply(change(Op::Update, Some(row))) else {
                panic!("{says}")
            };
            assert_eq!((rejected.rule, rejected.reason.as_str()), ("check", says));
        }
        for at in 1..6 {
            let mut row = good.clone();
            row[at] = if at % 2 == 0 { Value::Null } else { Value::Unknown };
            assert!(matches!(quality.apply(change(Op::Read, Some(row))), Verdict::Pass(_)));
        }
        assert!(matches!(quality.apply(change(Op::Delete, None)), Verdict::Pass(_)));
        assert_eq!(quality.plans.len(), 1);
    }
    #[test]
    fn i3_an_old_row_that_was_never_published_is_not_taken_for_what_a_replica_holds() {
        let row = |kind: &str, xm: &str| {
            let mut row = vec![Value::Null; 6];
            row[0] = Value::text("990101199003070015");
            row[1] = Value::text(xm);
            row[2] = Value::text(kind);
            row
        };
        let grant = Grant {
            subscription: "x".into(),
            stream: "s".into(),
            columns: vec!["id".into(), "xm".into()],
            rows: Some("kind = '1'".into()),
            masks: Default::default(),
            until: None,
            key: Secret::new("k"),
        };
        // The old row breaks `kind` or the length of `xm`, so no replica ever held it.
        let rows = [
            (Op::Update, row("2", "欧阳修"), Some(row("1", "欧阳修")), "upsert"),
            (Op::Update, row("1", "欧阳修文"), Some(row("1", "欧阳修")), "upsert"),
            (Op::Update, row("2", "欧阳修"), Some(row("0", "欧阳修")), "delete"),
            (Op::Delete, row("2", "欧阳修"), None, "delete"),
            // What was published is compared with as before.
            (Op::Update, row("1", "欧阳修"), Some(row("1", "欧阳修")), "outside_grant"),
            (Op::Update, row("0", "欧阳修"), Some(row("0", "欧阳")), "filtered"),
            (Op::Delete, row("0", "欧阳修"), None, "filtered"),
        ];
        for (op, before, after, expected) in rows {
            let mut change = change(op, after);
            let (mut quality, mut permit) =
                (Quality::new(), Permit::new(Arc::clone(&change.contract), &grant).unwrap());
            change.before = Before::Full(before.clone());
            let Verdict::Pass(checked) = quality.apply(change) else { panic!("{op:?} {before:?}") };
            let outcome = match permit.apply(checked) {
                Verdict::Pass(change) if change.after.is_some() => "upsert",
                Verdict::Pass(_) => "delete",
                Verdict::Drop { reason } => reason,
                Verdict::Reject(rejected) => panic!("{rejected:?}"),
            };
            assert_eq!(outcome, expected, "{op:?} {before:?}");
        }
    }
}
