//! Where a batch stands in a trace: the header `traceparent` of W3C Trace Context (Recommendation, 23 November 2021,
//! section 3.2), which other programs understand too.
//!
//! It stands on the first record of each partition that a batch writes, and names the batch, never a row.

use std::fmt;

/// The name of the header.
pub const HEADER: &str = "traceparent";

/// How long version 00 is.
const LENGTH: usize = 55;

/// One span of a trace, as the next one sees its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Traceparent {
    /// The trace; never 0.
    pub trace: u128,
    /// The span; never 0.
    pub span: u64,
    /// Whether whoever made it may have recorded it.
    pub sampled: bool,
}

impl Traceparent {
    /// Returns the first span of a new trace, of two numbers drawn at random.
    pub fn root(trace: u128, span: u64) -> Self {
        Self { trace: trace.max(1), span: span.max(1), sampled: true }
    }

    /// Returns a span that follows this one in its trace, of a number drawn at random.
    #[must_use]
    pub fn child(self, span: u64) -> Self {
        Self { span: span.max(1), ..self }
    }

    /// Reads a header; `None` when it is none. Of a later version it reads what this one has.
    pub fn parse(header: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(header).ok()?;
        let version = hex(text.get(..2)?)?;
        let longer = header.len() > LENGTH;
        if version == 0xff || (version == 0 && longer) || (longer && header.get(LENGTH) != Some(&b'-')) {
            return None;
        }
        let dashes = [2, 35, 52].iter().all(|at| header.get(*at) == Some(&b'-'));
        let (trace, span) = (hex(text.get(3..35)?)?, hex(text.get(36..52)?)?);
        let flags = hex(text.get(53..LENGTH)?)?;
        let span = u64::try_from(span).ok()?;
        (dashes && trace != 0 && span != 0).then_some(Self { trace, span, sampled: flags & 1 == 1 })
    }
}

impl fmt::Display for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

/// Reads small hexadecimal digits; the format knows no others.
fn hex(text: &str) -> Option<u128> {
    let small = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if small { u128::from_str_radix(text, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use hutong_testkit::hostile;
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn reads_the_specifications_examples_and_nothing_else() {
        let read = Traceparent::parse(GOOD.as_bytes()).unwrap();
        assert_eq!(
            (read.trace, read.span),
            (0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c, 0xb7ad_6b71_6920_3331)
        );
        assert!(read.sampled && read.to_string() == GOOD);
        let unsampled = GOOD.replace("-01", "-00");
        assert!(!Traceparent::parse(unsampled.as_bytes()).unwrap().sampled);
        // Of a later version, with a part that this one does not know.
        let later = format!("01{}-what-comes", &GOOD[2..]);
        assert_eq!(Traceparent::parse(later.as_bytes()), Some(read));
        for wrong in [
            String::new(),
            GOOD[..54].to_owned(),
            format!("{GOOD}0"),
            format!("{GOOD}-more"),
            format!("ff{}", &GOOD[2..]),
            format!("01{}more", &GOOD[2..]),
            GOOD.to_uppercase(),
            GOOD.replace('-', "_"),
            GOOD.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            GOOD.replace("b7ad6b7169203331", &"0".repeat(16)),
            GOOD.replace("b7ad", "+7ad"),
            GOOD.replace("0af7", "人"),
        ] {
            assert_eq!(Traceparent::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn a_hostile_header_is_none_and_no_panic() {
        hostile::feed("a_hostile_header_is_none_and_no_panic", 5_000, &[GOOD.as_bytes().to_vec()], |bytes| {
            if let Some(read) = Traceparent::parse(bytes) {
                assert!(read.trace != 0 && read.span != 0);
            }
        });
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(trace in any::<u128>(), span in any::<u64>(), next in any::<u64>()) {
            let root = Traceparent::root(trace, span);
            let child = root.child(next);
            prop_assert_eq!(Traceparent::parse(root.to_string().as_bytes()), Some(root));
            prop_assert_eq!(Traceparent::parse(child.to_string().as_bytes()), Some(child));
            prop_assert_eq!(child.trace, root.trace);
        }
    }
}
