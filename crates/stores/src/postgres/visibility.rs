//! Which transactions a database snapshot sees (`pg_current_snapshot()`).
//!
//! Source: PostgreSQL, "Transaction ID and Snapshot Information Functions".

use std::collections::HashSet;

use hutong_core::{Error, ErrorKind, Result};

/// A snapshot: every transaction before `xmin` has ended, none from `xmax` on has, as far as it sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Visibility {
    pub(crate) xmin: u64,
    xmax: u64,
    running: HashSet<u64>,
}

impl Visibility {
    /// Reads the text form `xmin:xmax:xid,…`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let read = || {
            let mut parts = text.split(':');
            let xmin = parts.next()?.parse().ok()?;
            let xmax = parts.next()?.parse().ok()?;
            let running = parts
                .next()?
                .split(',')
                .filter(|x| !x.is_empty())
                .map(|x| x.parse().ok())
                .collect::<Option<_>>()?;
            Some(Self { xmin, xmax, running })
        };
        read().ok_or_else(|| {
            Error::new(ErrorKind::Broken, "read a database snapshot", "its text is not xmin:xmax:xids")
        })
    }

    /// States whether the changes of a transaction are seen. The stream tells 32 bits of its number.
    pub(crate) fn sees(&self, xid: u32) -> bool {
        let xid = self.widen(xid);
        xid < self.xmin || (xid < self.xmax && !self.running.contains(&xid))
    }

    /// The 64-bit number nearest to `xmax`: living numbers lie within 2^31 of each other.
    fn widen(&self, xid: u32) -> u64 {
        let distance = (xid.wrapping_sub(self.xmax as u32)) as i32;
        self.xmax.saturating_add_signed(i64::from(distance))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sees_what_ended_before() {
        let snapshot = Visibility::parse("100:110:100,105").unwrap();
        for (xid, seen) in
            [(99, true), (100, false), (101, true), (105, false), (109, true), (110, false), (120, false)]
        {
            assert_eq!(snapshot.sees(xid), seen, "{xid}");
        }
        assert!(Visibility::parse("7:7:").unwrap().sees(6));
        assert!(Visibility::parse("7:7").is_err());
    }

    #[test]
    fn sees_across_a_wraparound_of_32_bits() {
        let snapshot = Visibility::parse("4294967290:4294967300:4294967295").unwrap();
        assert!(snapshot.sees(4_294_967_294) && !snapshot.sees(4_294_967_295));
        assert!(snapshot.sees(3) && !snapshot.sees(4));
    }
}
