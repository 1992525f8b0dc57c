//! Which changes of a topic that another program writes are there twice.
//!
//! Who writes at least once repeats a stretch of its records after a crash. A change that is the very one which was last
//! passed of its row alters nothing, so it is dropped and counted; what is older is passed again, for what follows it in
//! the stretch makes it good. Hutong's own topics hold no change twice (I2).

use std::collections::HashMap;

use bytes::Bytes;
use hutong_core::{Change, Op};

/// How many rows are remembered at the least; twice as many at the most.
const ROWS: usize = 5_000;

/// The change that was last passed of a row, by its place in the origin's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    lsn: u64,
    xid: Option<u64>,
    op: Op,
}

/// What was last passed of each row, of the rows that changed last.
#[derive(Debug, Default)]
pub(crate) struct Repeats {
    young: HashMap<Bytes, Mark>,
    old: HashMap<Bytes, Mark>,
}

impl Repeats {
    /// Takes a change in whose record has this key; `true` when it is the one that was last passed of its row.
    pub(crate) fn again(&mut self, key: Option<&Bytes>, change: &Change) -> bool {
        let of_a_row = key.zip(change.origin.lsn).filter(|_| change.op != Op::Truncate);
        let Some((key, lsn)) = of_a_row else {
            // It may have been of any row.
            self.forget();
            return false;
        };
        let mark = Mark { lsn, xid: change.origin.xid, op: change.op };
        let last = self.young.get(key).or_else(|| self.old.get(key));
        if last == Some(&mark) {
            return true;
        }
        if self.young.len() >= ROWS {
            self.old = std::mem::take(&mut self.young);
        }
        // A copy: a slice would hold the whole buffer that was read.
        self.young.insert(Bytes::copy_from_slice(key), mark);
        false
    }

    /// Forgets everything: something has passed of which nobody knows the row.
    pub(crate) fn forget(&mut self) {
        self.young.clear();
        self.old.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hutong_core::contract::Sharing;
    use hutong_core::{Before, Contract, Field, Origin, Position, Type};

    use super::*;

    fn change(op: Op, lsn: Option<u64>) -> Change {
        let contract = Contract {
            stream: "people".into(),
            doc: String::new(),
            sharing: Sharing::Unconditional,
            fields: vec![Field::new("id", Type::Int)],
            key: vec![0],
            catalogue: Default::default(),
        };
        let origin = Origin {
            place: Arc::default(),
            committed_us: 0,
            xid: Some(7),
            lsn,
            transaction: None,
            last: false,
        };
        let position = Position::offset(1);
        let before = Before::None;
        Change {
            contract: contract.shared(),
            op,
            before,
            after: None,
            position,
            source_position: position,
            origin,
        }
    }

    /// Takes changes in, written as `row lsn`, and returns which of them are repeats.
    fn repeats(told: &[(&str, u64)]) -> Vec<bool> {
        let mut repeats = Repeats::default();
        let row = |key: &str| Bytes::copy_from_slice(key.as_bytes());
        told.iter()
            .map(|(key, lsn)| repeats.again(Some(&row(key)), &change(Op::Update, Some(*lsn))))
            .collect()
    }

    #[test]
    fn only_the_last_change_of_a_row_can_be_there_again() {
        assert_eq!(repeats(&[("a", 1), ("b", 2), ("a", 1), ("b", 2)]), [false, false, true, true]);
        let stretch = [("a", 1), ("a", 2), ("a", 1), ("a", 2), ("a", 2)];
        assert_eq!(
            repeats(&stretch),
            [false, false, false, false, true],
            "the row goes back, and forward again"
        );
        assert_eq!(repeats(&[("a", 1), ("b", 1), ("c", 1)]), [false; 3], "rows of one COPY share a place");
    }

    #[test]
    fn i3_what_may_have_been_of_any_row_makes_it_forget() {
        let key = Bytes::from_static(b"a");
        let insert = change(Op::Insert, Some(1));
        for between in [change(Op::Truncate, Some(2)), change(Op::Update, None)] {
            let mut repeats = Repeats::default();
            assert!(!repeats.again(Some(&key), &insert));
            assert!(!repeats.again(Some(&key), &between));
            assert!(!repeats.again(Some(&key), &insert), "{:?}", between.op);
        }
        let mut repeats = Repeats::default();
        repeats.again(Some(&key), &insert);
        repeats.again(None, &change(Op::Update, Some(2)));
        assert!(!repeats.again(Some(&key), &insert), "a record without a key is of any row");
    }

    #[test]
    fn it_remembers_a_bounded_number_of_rows() {
        let mut repeats = Repeats::default();
        for n in 0..3 * ROWS as u64 {
            assert!(
                !repeats.again(Some(&Bytes::copy_from_slice(&n.to_be_bytes())), &change(Op::Insert, Some(n)))
            );
        }
        assert!(repeats.young.len() + repeats.old.len() <= 2 * ROWS);
        let last = 3 * ROWS as u64 - 1;
        assert!(
            repeats
                .again(Some(&Bytes::copy_from_slice(&last.to_be_bytes())), &change(Op::Insert, Some(last)))
        );
    }
}
