//! Masks: a column made unreadable, by rules that a person can check by eye.
//!
//! Every mask fails closed: a value that is not of the form that the mask expects is replaced as a whole. NULL
//! stays NULL, since it says nothing, and what is unknown stays unknown.

mod address;
mod text;

use std::fmt;

use bigdecimal::num_bigint::Sign;
use bytestring::ByteString;
use hmac::{Hmac, KeyInit, Mac};
use jiff::civil;
use sha2::Sha256;

use crate::contract::Type;
use crate::hexadecimal;
use crate::problem::nearest;
use crate::secret::Secret;
use crate::value::{Decimal, Value};

/// A mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mask {
    /// The surname and one `*`: 张\*, 欧阳\*. The common surnames of two characters are known.
    Name,
    /// A citizen number's first 6 and last 4 characters. May not go beside the full birth date.
    Id,
    /// A citizen number's first 3 and last 4 characters.
    IdShort,
    /// A mobile number's first 3 and last 4 digits.
    Phone,
    /// The address down to the county: 某省某市某县. The rule stands in the module `address`.
    Address,
    /// A band instead of the number: `5000-9999`. Bands begin at 1, 2 and 5 times a power of ten.
    Amount,
    /// The year: `1990`.
    Year,
    /// HMAC-SHA-256 of the value's text under the subscription's key, 64 hexadecimal digits: equal values stay equal.
    Pseudonym,
}

impl Mask {
    /// All masks.
    pub const ALL: [Self; 8] = [
        Self::Name,
        Self::Id,
        Self::IdShort,
        Self::Phone,
        Self::Address,
        Self::Amount,
        Self::Year,
        Self::Pseudonym,
    ];

    /// Returns the mask of a name; `Err` says which masks there are, or which one was meant.
    pub fn parse(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|mask| mask.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name);
            match nearest(name, names) {
                Some(near) => format!("there is no mask `{name}`; did you mean `{near}`?"),
                None => format!("there is no mask `{name}`; there are {}", names.join(", ")),
            }
        })
    }

    /// Returns the name that configuration and contracts use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Id => "id",
            Self::IdShort => "id_short",
            Self::Phone => "phone",
            Self::Address => "address",
            Self::Amount => "amount",
            Self::Year => "year",
            Self::Pseudonym => "pseudonym",
        }
    }

    /// States whether the mask can be put on a column of a type.
    pub fn accepts(self, ty: &Type) -> bool {
        match self {
            Self::Name | Self::Id | Self::IdShort | Self::Phone | Self::Address => {
                matches!(ty, Type::Text { .. })
            }
            Self::Amount => {
                matches!(ty, Type::Int16 | Type::Int | Type::Long | Type::Decimal { .. } | Type::Numeric)
            }
            // An instant's year depends on where one stands.
            Self::Year => matches!(ty, Type::Date | Type::Timestamp),
            Self::Pseudonym => {
                matches!(
                    ty,
                    Type::Text { .. } | Type::Uuid | Type::Enum { .. } | Type::Int16 | Type::Int | Type::Long
                )
            }
        }
    }

    /// Returns the type of the masked column.
    pub fn output(self, ty: &Type) -> Type {
        match self {
            // No masked name or address has more characters than the clear one.
            Self::Name | Self::Id | Self::IdShort | Self::Phone | Self::Address => ty.clone(),
            Self::Amount | Self::Year => Type::Text { length: None },
            Self::Pseudonym => Type::Text { length: Some(64) },
        }
    }

    /// States whether it leaves no more of a value to be seen than another mask.
    pub fn is_no_weaker(self, than: Self) -> bool {
        self == than
            || matches!(
                (self, than),
                (Self::IdShort | Self::Pseudonym, Self::Id) | (Self::Pseudonym, Self::IdShort)
            )
    }

    /// Masks a value. Whatever is not of the expected form comes out as `*`.
    pub fn apply(self, value: &Value, key: &Key) -> Value {
        match (self, value) {
            (_, Value::Null) => Value::Null,
            (_, Value::Unknown) => Value::Unknown,
            (Self::Name, Value::Text(text)) => Value::text(text::name(text)),
            (Self::Id, Value::Text(text)) => Value::text(text::citizen_number(text, 6)),
            (Self::IdShort, Value::Text(text)) => Value::text(text::citizen_number(text, 3)),
            (Self::Phone, Value::Text(text)) => Value::text(text::phone(text)),
            (Self::Address, Value::Text(text)) => {
                Value::text(address::county(text).map_or_else(|| text::stars(text), str::to_owned))
            }
            (Self::Amount, Value::Integer(number)) => Value::text(band(&Decimal::from(*number))),
            (Self::Amount, Value::Decimal(number)) => Value::text(band(number)),
            (Self::Year, Value::Date(days)) => year(i64::from(*days)),
            (Self::Year, Value::Timestamp(micros)) => year(micros.div_euclid(86_400_000_000)),
            (Self::Pseudonym, Value::Text(text)) => Value::Text(key.digest(text.as_bytes())),
            (Self::Pseudonym, Value::Integer(number)) => {
                Value::Text(key.digest(number.to_string().as_bytes()))
            }
            _ => Value::text("*"),
        }
    }
}

impl fmt::Display for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A subscription's own key, ready for use.
#[derive(Clone)]
pub struct Key(Hmac<Sha256>);

impl Key {
    /// Prepares a key; its bytes are those of the text.
    pub fn new(secret: &Secret) -> Self {
        Self(Hmac::new_from_slice(secret.reveal().as_bytes()).expect("HMAC takes a key of any length"))
    }

    /// Returns HMAC-SHA-256 (RFC 2104, FIPS 180-4) of bytes, 64 lower-case hexadecimal digits.
    pub fn digest(&self, bytes: &[u8]) -> ByteString {
        let mut mac = self.0.clone();
        mac.update(bytes);
        hexadecimal::text(&mac.finalize().into_bytes()).into()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Returns the band of a number by its whole part; below one `0`, below nothing `<0`, beyond 10^18 `*`.
fn band(number: &Decimal) -> String {
    let (digits, scale) = number.as_bigint_and_exponent();
    if digits.sign() == Sign::Minus {
        return "<0".into();
    }
    let digits = digits.to_string();
    // The power of ten of the first digit.
    let power = i64::try_from(digits.len()).unwrap_or(i64::MAX).saturating_sub(1).saturating_sub(scale);
    let first = digits.bytes().next().map_or(0, |digit| digit - b'0');
    let Ok(power) = u32::try_from(power) else { return "0".into() };
    let Some(ten) = 10u64.checked_pow(power).filter(|_| power < 18) else { return "*".into() };
    match first {
        0 => "0".into(),
        1 => edges(ten, 2 * ten),
        2..=4 => edges(2 * ten, 5 * ten),
        _ => edges(5 * ten, 10 * ten),
    }
}

fn edges(from: u64, below: u64) -> String {
    match below - from {
        1 => from.to_string(),
        _ => format!("{from}-{}", below - 1),
    }
}

/// Returns the year of a day; `*` of a day that no calendar page shows (an infinity).
fn year(days: i64) -> Value {
    let epoch = civil::Date::constant(1970, 1, 1);
    let day = i32::try_from(days)
        .ok()
        .and_then(|days| jiff::Span::new().try_days(days).ok())
        .and_then(|span| epoch.checked_add(span).ok());
    Value::text(day.map_or_else(|| "*".to_owned(), |day| format!("{:04}", day.year())))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> Key {
        Key::new(&Secret::new("k"))
    }

    #[test]
    fn masks_as_the_field_does() {
        let text = |text: &str| Value::text(text.to_owned());
        let decimal = |text: &str| Value::Decimal(text.parse().unwrap());
        let rows = [
            (Mask::Name, text("张三"), "张*"),
            (Mask::Name, text("欧阳修文"), "欧阳*"),
            (Mask::Name, text("欧阳"), "欧*"),
            (Mask::Id, text("990101199003070015"), "990101********0015"),
            (Mask::Id, text("99010220850101003X"), "990102********003X"),
            (Mask::IdShort, text("990101199003070015"), "990***********0015"),
            (Mask::Phone, text("13900000000"), "139****0000"),
            (Mask::Address, text("测试省某某市某某县解放路1号"), "测试省某某市某某县"),
            (Mask::Amount, decimal("9999.99"), "5000-9999"),
            (Mask::Amount, decimal("5000"), "5000-9999"),
            (Mask::Amount, decimal("10000.00"), "10000-19999"),
            (Mask::Amount, Value::Integer(2), "2-4"),
            (Mask::Amount, Value::Integer(1), "1"),
            (Mask::Amount, decimal("0.99"), "0"),
            (Mask::Amount, decimal("0.00"), "0"),
            (Mask::Amount, decimal("-3"), "<0"),
            (Mask::Amount, decimal("1e3"), "1000-1999"),
            (Mask::Amount, decimal("1e2000000000"), "*"),
            (Mask::Amount, Value::Integer(i64::MAX), "*"),
            (Mask::Year, Value::Date(7370), "1990"),
            (Mask::Year, Value::Date(-1), "1969"),
            (Mask::Year, Value::Date(i32::MAX), "*"),
            (Mask::Year, Value::Timestamp(i64::MIN), "*"),
            // Of another form than the mask expects: nothing of it stays.
            (Mask::Id, text("99010119900307001"), "*****************"),
            (Mask::Id, text("🙂"), "*"),
            (Mask::Phone, text("010-0000000"), "***********"),
            (Mask::Name, text("John Smith"), "*"),
            (Mask::Address, text("解放路1号"), "*****"),
            (Mask::Name, Value::Bytes(vec![1].into()), "*"),
            (Mask::Name, text(""), ""),
        ];
        for (mask, value, expected) in rows {
            assert_eq!(mask.apply(&value, &key()), text(expected), "{mask} {value:?}");
        }
    }

    #[test]
    fn null_and_unknown_stay() {
        for mask in Mask::ALL {
            assert_eq!(mask.apply(&Value::Null, &key()), Value::Null);
            assert_eq!(mask.apply(&Value::Unknown, &key()), Value::Unknown);
        }
    }

    #[test]
    fn a_pseudonym_is_the_hmac_of_the_text() {
        // RFC 4231, test case 2.
        let key = Key::new(&Secret::new("Jefe"));
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(
            Mask::Pseudonym.apply(&Value::text("what do ya want for nothing?"), &key),
            Value::text(expected)
        );
        assert_eq!(format!("{key:?}"), "***");
    }

    #[test]
    fn names_what_was_meant() {
        assert_eq!(Mask::parse("id_short"), Ok(Mask::IdShort));
        assert!(Mask::IdShort.is_no_weaker(Mask::Id) && !Mask::Id.is_no_weaker(Mask::IdShort));
        assert!(Mask::ALL.iter().all(|mask| mask.is_no_weaker(*mask)));
        assert!(Mask::parse("phnoe").unwrap_err().contains("did you mean `phone`?"));
        assert!(Mask::parse("xyz").unwrap_err().contains("name, id, id_short"));
    }

    proptest! {
        #[test]
        fn i5_odd_text_never_panics_and_never_grows(value in "\\PC{0,30}") {
            for mask in [Mask::Name, Mask::Id, Mask::IdShort, Mask::Phone, Mask::Address] {
                let masked = mask.apply(&Value::text(value.clone()), &key());
                let masked = masked.as_text().unwrap();
                prop_assert!(masked.chars().count() <= value.chars().count());
                prop_assert!(value.is_empty() || masked != value || value.chars().all(|c| c == '*') || mask == Mask::Address);
            }
        }

        #[test]
        fn a_band_holds_its_number(cents in 0i64..10_000_000_000) {
            let band = band(&Decimal::new(cents.into(), 2));
            let (from, to) = band.split_once('-').unwrap_or((&band, &band));
            let (from, to) = (from.parse::<i64>().unwrap(), to.parse::<i64>().unwrap());
            prop_assert!(from <= cents / 100 && cents / 100 <= to, "{}", band);
        }
    }
}
