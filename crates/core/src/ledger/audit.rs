//! Compares the published receipts of a department's streams with each other, with the grants and with the signed roots.

use std::collections::BTreeMap;

use super::book::{Book, Root};
use super::head::Head;
use super::receipt::{Receipt, begin};

/// How many findings are told; all are counted.
const TOLD: usize = 20;

/// What the receipts of a department came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audited {
    /// How many receipts there are.
    pub receipts: u64,
    /// How many roots fit them.
    pub roots: u64,
    /// How many of the last ones no root covers yet.
    pub unrooted: u64,
    /// The head behind the last one; `None` when what is missing before it leaves that open.
    pub head: Option<Head>,
    /// What does not fit, the first first; at most twenty are kept.
    pub wrong: Vec<String>,
    /// How much does not fit.
    pub wrong_count: u64,
    /// What is no fault by itself, and worth knowing.
    pub told: Vec<String>,
}

/// Reads the records of one department's receipt topic, one after the other.
pub struct Audit<'a> {
    book: &'a Book,
    department: &'a str,
    roots: &'a [Root],
    /// How many records were read, for the words.
    record: u64,
    /// The last number, and the digest there where it is known.
    number: Option<u64>,
    head: Option<Head>,
    /// Department and lane to the head of its chain.
    lanes: BTreeMap<(String, String), Head>,
    audited: Audited,
}

impl<'a> Audit<'a> {
    /// Begins the audit of a department's receipts.
    pub fn new(book: &'a Book, department: &'a str) -> Self {
        let roots = book.roots(department);
        Self {
            book,
            department,
            roots,
            record: 0,
            number: None,
            head: None,
            lanes: BTreeMap::new(),
            audited: Audited::default(),
        }
    }

    /// Takes the next record; returns the receipt when it is one and stands in its place.
    pub fn take(&mut self, record: Option<&[u8]>) -> Option<Receipt> {
        self.record += 1;
        let at = self.record;
        let read = record.ok_or_else(|| "it has no value".to_owned()).and_then(Receipt::read);
        let receipt = match read {
            Ok(receipt) => receipt,
            Err(why) => {
                self.wrong(format!("record {at} is no receipt: {why}"));
                return None;
            }
        };
        let number = receipt.number;
        let before = self.number.unwrap_or_else(|| self.begins(number));
        if number <= before {
            self.wrong(format!("record {at} is numbered {number}, and receipt {number} stands before it"));
            return None;
        }
        if number > before + 1 {
            let (first, last) = (before + 1, number - 1);
            self.wrong(format!("the receipts {first} to {last} are missing"));
            self.head = None;
        }
        self.number = Some(number);
        self.head = self.head.map(|head| head.after(record));
        self.audited.receipts += 1;
        self.chain(&receipt);
        self.granted(&receipt);
        if !receipt.fits_count() {
            let (lane, changed, removed) = (&receipt.lane, receipt.written, receipt.deleted);
            let what = match receipt.proof.is_of_recall() {
                true => format!("{removed} rows of {lane} were recalled"),
                false => {
                    format!("{changed} rows of {lane} were changed and {removed} removed by a narrower grant")
                }
            };
            self.wrong(format!("receipt {number} says that {what}: its store has said otherwise"));
        }
        self.rooted(number);
        Some(receipt)
    }

    /// Finds where the first record that is kept goes on from.
    fn begins(&mut self, number: u64) -> u64 {
        let before = number.saturating_sub(1);
        let root = self.roots.iter().find(|root| root.receipts.sequence == before);
        self.head = match root {
            Some(root) => Some(root.receipts),
            None => (before == 0).then(|| self.book.charter().receipts(self.department)),
        };
        if self.head.is_none() {
            let why = format!(
                "the first receipt is number {number}, and no root ends before it: earlier ones are missing"
            );
            self.wrong(why);
        }
        before
    }

    fn chain(&mut self, receipt: &Receipt) {
        let Receipt { number, lane, proof, department, .. } = receipt;
        let name = (department.clone(), lane.clone());
        // Of a lane that is met first in a topic that was trimmed, the earlier ones are gone with their days.
        let known = self.lanes.insert(name, proof.head());
        let last = match known {
            Some(last) => last,
            None if proof.sequence == 1 => begin(lane),
            None if self.is_trimmed() => return,
            None => {
                let missing = proof.sequence.saturating_sub(1);
                self.wrong(format!(
                    "receipt {number} is the first of {lane}, and {missing} of it are missing"
                ));
                return;
            }
        };
        if proof.follows(lane, &last) {
            return;
        }
        // Whoever writes numbers into the topic may write any.
        let next = last.sequence.saturating_add(1);
        if proof.sequence == 1 && proof.follows(lane, &begin(lane)) {
            self.told(format!("{lane} begins again at receipt {number}: its replica was made anew"));
        } else if proof.sequence > next {
            let (first, end) = (next, proof.sequence - 1);
            self.wrong(format!(
                "before receipt {number} the receipts {first} to {end} of {lane} are missing"
            ));
        } else if proof.sequence == next {
            self.wrong(format!(
                "receipt {number} does not follow the one before it of {lane}: one was changed"
            ));
        } else {
            let from = proof.sequence;
            self.told(format!(
                "{lane} goes on from its receipt {from} again at receipt {number}: its store was set back to an earlier state"
            ));
        }
    }

    /// States whether receipts before this one are gone, which is a fault or not and was looked at already.
    fn is_trimmed(&self) -> bool {
        self.audited.receipts < self.number.unwrap_or_default()
    }

    fn granted(&mut self, receipt: &Receipt) {
        let grant = receipt.proof.grant;
        let asked = self.book.numbered(grant);
        let own = asked.is_some_and(|asked| {
            asked.department == receipt.department
                && asked.request.subscription == receipt.subscription
                && asked.request.stream == receipt.stream
                && asked.request.owner == self.department
        });
        if !own {
            let (number, subscription) = (receipt.number, &receipt.subscription);
            self.wrong(format!("receipt {number} names grant {grant}, which {subscription} has never had"));
        }
    }

    fn rooted(&mut self, number: u64) {
        let Some(root) = self.roots.iter().find(|root| root.receipts.sequence == number) else { return };
        match self.head {
            Some(head) if head.digest == root.receipts.digest => self.audited.roots += 1,
            Some(_) => {
                let (day, since) = (root.day, root.since);
                self.wrong(format!(
                    "the root of {day} (record {since} of the ledger) does not fit the receipts up to {number}: one of them was changed"
                ));
            }
            // What was missing is told already; what follows is compared from here.
            None => {}
        }
        self.head = Some(root.receipts);
    }

    /// Ends the audit.
    pub fn end(mut self) -> Audited {
        let last = self.number.unwrap_or(0);
        let rooted = self.roots.last().map_or(0, |root| root.receipts.sequence);
        if let Some(root) = self.roots.iter().find(|root| root.receipts.sequence > last) {
            let (day, sequence) = (root.day, root.receipts.sequence);
            self.wrong(format!(
                "the topic ends at receipt {last}, and the root of {day} covers {sequence}: it was cut"
            ));
        }
        self.audited.unrooted = last.saturating_sub(rooted);
        self.audited.head = match self.number {
            None => Some(
                self.roots
                    .last()
                    .map_or_else(|| self.book.charter().receipts(self.department), |r| r.receipts),
            ),
            Some(_) => self.head,
        };
        self.audited
    }

    fn wrong(&mut self, what: String) {
        self.audited.wrong_count += 1;
        if self.audited.wrong.len() < TOLD {
            self.audited.wrong.push(what);
        }
    }

    fn told(&mut self, what: String) {
        if self.audited.told.len() < TOLD {
            self.audited.told.push(what);
        }
    }
}
