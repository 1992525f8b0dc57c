//! Exact decimals as Avro writes them: the unscaled number in big-endian two's complement.

use bigdecimal::num_bigint::{BigInt, Sign};
use bigdecimal::num_traits::{ToPrimitive, Zero};
use hutong_core::Decimal;

use crate::binary::Fault;

/// The furthest that a scale may be from zero: more than any database has, less than what a hostile
/// scale would make of a number's text.
const SCALE_LIMIT: i64 = 200_000;
/// The most bytes of a number: 157,000 digits, more than PostgreSQL's 147,455.
const LENGTH_LIMIT: usize = 1 << 16;

/// Returns the unscaled number at `scale`; `None` when the value has more digits than fit. I6: never rounds.
pub(super) fn unscaled(value: &Decimal, precision: u32, scale: u32) -> Option<BigInt> {
    let (number, own_scale) = value.as_bigint_and_exponent();
    if number.is_zero() {
        return Some(number);
    }
    let shift = i64::from(scale).checked_sub(own_scale)?;
    // More places than the type has digits cannot fit; and no power of ten may grow without bound.
    let number = if shift >= 0 {
        let shift = u32::try_from(shift).ok().filter(|s| *s <= precision)?;
        number * power(shift)
    } else {
        let shift = u32::try_from(-shift).ok().filter(|s| i64::from(*s) <= SCALE_LIMIT)?;
        let power = power(shift);
        if !(&number % &power).is_zero() {
            return None;
        }
        number / power
    };
    fits(&number, precision).then_some(number)
}

/// States whether the number has at most `precision` digits.
pub(super) fn fits(number: &BigInt, precision: u32) -> bool {
    // Below 18 digits the limit is a machine word.
    match (number.to_i64(), 10_u64.checked_pow(precision)) {
        (Some(small), Some(limit)) => small.unsigned_abs() < limit,
        _ => number.magnitude() < power(precision).magnitude(),
    }
}

/// States whether a scale is one that a database could have.
pub(super) fn scale_is_sane(scale: i64) -> bool {
    scale.abs() <= SCALE_LIMIT
}

/// Reads an unscaled number; empty bytes are zero.
pub(super) fn read(bytes: &[u8], scale: i64) -> Result<Decimal, Fault> {
    let number = match bytes.len() {
        0 => BigInt::from_bytes_be(Sign::NoSign, &[]),
        1..=8 => {
            let mut word = [if bytes[0] & 0x80 == 0 { 0 } else { 0xff }; 8];
            word[8 - bytes.len()..].copy_from_slice(bytes);
            BigInt::from(i64::from_be_bytes(word))
        }
        9..=LENGTH_LIMIT => BigInt::from_signed_bytes_be(bytes),
        _ => return Err("a decimal has more digits than any database's"),
    };
    Ok(Decimal::new(number, scale))
}

fn power(exponent: u32) -> BigInt {
    BigInt::from(10).pow(exponent)
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use super::*;

    #[test]
    fn i6_keeps_every_digit_or_refuses() {
        let rows = [
            ("1.5", Some(150)),
            ("-0.01", Some(-1)),
            ("1.500", Some(150)),
            ("1e2", Some(10_000)),
            ("0.001", None),
            ("999.99", Some(99_999)),
            ("1000", None),
            ("0e-900000000", Some(0)),
            ("1e900000000", None),
            ("1e-900000000", None),
        ];
        for (text, number) in rows {
            let found = unscaled(&Decimal::from_str(text).unwrap(), 5, 2);
            assert_eq!(found, number.map(BigInt::from), "{text}");
        }
    }
}
