//! The book: what stands after the records that were read, in their order.

mod correction;
mod rules;

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use jiff::civil::Date;

use super::act::{Act, Offer, Request};
use super::entry::{Charter, Entry, Frame, VERSION};
use super::head::{Digest, Head};
use super::key::PublicKey;
use super::terms::Terms;
use crate::error::{Error, ErrorKind, Result};

pub use correction::{Corrected, Correction};

/// How many skipped records are kept with their reasons; all are counted.
const TOLD: usize = 1_000;

/// A department that takes part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its key now.
    pub key: PublicKey,
    /// The record that gave it this key.
    pub since: u64,
}

/// A stream that its owner offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    /// The offer as it stands.
    pub offer: Offer,
    /// The record that says so.
    pub since: u64,
    /// Whether it was withdrawn.
    pub withdrawn: bool,
}

/// A request and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Who asks.
    pub department: String,
    /// What for.
    pub request: Request,
    /// The record.
    pub sequence: u64,
    /// When, by the asking department's clock, microseconds since 1970 UTC.
    pub at_us: i64,
    /// The answer; `None` while it waits for one.
    pub answer: Option<Answer>,
}

/// An answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It was granted, as asked for or less.
    Approved {
        /// When, by the owner's clock; of an unconditional stream the request's time.
        at_us: i64,
    },
    /// It was refused.
    Rejected {
        /// When, by the owner's clock.
        at_us: i64,
        /// Why, and by which law.
        reason: String,
    },
}

/// Whether a grant lets anything through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It does, until its last day.
    Active,
    /// Not now; why.
    Suspended(String),
    /// No more.
    Revoked {
        /// Whether the rows of the replica are deleted.
        recall: bool,
        /// Why.
        reason: String,
    },
    /// Its owner has noted that its last day is over.
    Expired,
    /// A later request of the same subscription was granted.
    Replaced,
}

/// A grant as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// Its number: the record that made its terms what they are. It only grows.
    pub number: u64,
    /// Its request.
    pub request: Digest,
    /// Who holds it.
    pub department: String,
    /// The subscription's name.
    pub subscription: String,
    /// Who owns the stream.
    pub owner: String,
    /// The stream.
    pub stream: String,
    /// What may leave.
    pub terms: Terms,
    /// Whether it may.
    pub state: State,
    /// The record that made the state what it is.
    pub since: u64,
    /// When that was said, by the signer's clock, microseconds since 1970 UTC.
    pub since_us: i64,
    /// Whether the owner has said it; else it was granted at once, because the stream is unconditional.
    pub by_owner: bool,
}

/// What a grant was while it had one number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbered {
    /// Its request.
    pub request: Digest,
    /// What might leave.
    pub terms: Terms,
    /// When it was said, by the signer's clock.
    pub at_us: i64,
    /// The word for what was said: `approved`, `narrowed` …
    pub act: &'static str,
}

/// A root of the receipts of a department's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Root {
    /// The day up to whose end it is.
    pub day: Date,
    /// The head of the receipt topic then.
    pub receipts: Head,
    /// The record that says so.
    pub since: u64,
}

/// A record that counts for nothing but the running digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Which record, counted from 1.
    pub sequence: u64,
    /// The rule, from a closed set: `malformed`, `unknown_department`, `signature`, `replay`, `contradiction`,
    /// `wrong_department`, `refused`, `newer_version`.
    pub rule: &'static str,
    /// Why.
    pub why: String,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record {}: {}: {}", self.sequence, self.rule, self.why)
    }
}

/// A head that somebody has pinned, and that is not in this history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contradiction {
    /// Who pinned it.
    pub by: String,
    /// The head.
    pub pinned: Head,
    /// The digest that stands there in this history; `None` when it ends earlier.
    pub found: Option<Digest>,
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { by, pinned, found } = self;
        match found {
            Some(_) => write!(
                f,
                "the history was rewritten: {by} has verified other first {} records (digest {})",
                pinned.sequence, pinned.digest
            ),
            None => write!(f, "the history was cut: {by} has verified {} records", pinned.sequence),
        }
    }
}

/// What became of a record that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// It counts.
    Entry {
        /// The entry.
        entry: Box<Entry>,
        /// Its digest: how answers name a request.
        digest: Digest,
    },
    /// It does not.
    Skipped(Skipped),
}

/// Why an entry does not count: the rule and the reason.
pub(super) type Fault = (&'static str, String);

/// What stands after the records that were read.
#[derive(Debug, Clone)]
pub struct Book {
    charter: Charter,
    /// The head behind each record, the first being the genesis.
    heads: Vec<Digest>,
    members: BTreeMap<String, Member>,
    /// Owner and stream to the offer.
    offers: BTreeMap<(String, String), Offered>,
    requests: HashMap<Digest, Asked>,
    /// Department, subscription, owner and stream to the record of the last request.
    last: BTreeMap<[String; 4], u64>,
    grants: HashMap<Digest, Granted>,
    /// Department, subscription, owner and stream to the last grant: a subscriber who uses the name again for another
    /// stream takes nothing back that this one's owner has said.
    current: BTreeMap<[String; 4], Digest>,
    /// Every number that a grant ever had.
    numbers: BTreeMap<u64, Numbered>,
    /// Department to the roots of its receipts, in their order.
    roots: BTreeMap<String, Vec<Root>>,
    corrections: HashMap<Digest, Correction>,
    /// Well-signed entries to the record in which each stands first.
    stands: HashMap<Digest, u64>,
    skipped: Vec<Skipped>,
    counts: BTreeMap<&'static str, u64>,
    contradictions: Vec<Contradiction>,
    /// Department to its first record of a version that this program does not know.
    newer: BTreeMap<String, u64>,
}

impl Book {
    /// Makes the book of a ledger of which nothing was read yet.
    pub fn new(charter: Charter) -> Self {
        let governing = Member { key: charter.key.clone(), since: 0 };
        Self {
            heads: vec![charter.genesis().digest],
            members: BTreeMap::from([(charter.governing.clone(), governing)]),
            charter,
            offers: BTreeMap::new(),
            requests: HashMap::new(),
            last: BTreeMap::new(),
            grants: HashMap::new(),
            current: BTreeMap::new(),
            numbers: BTreeMap::new(),
            roots: BTreeMap::new(),
            corrections: HashMap::new(),
            stands: HashMap::new(),
            skipped: Vec::new(),
            counts: BTreeMap::new(),
            contradictions: Vec::new(),
            newer: BTreeMap::new(),
        }
    }

    /// Returns the ledger's charter.
    pub fn charter(&self) -> &Charter {
        &self.charter
    }

    /// Returns how far the log was read.
    pub fn head(&self) -> Head {
        let sequence = self.heads.len() as u64 - 1;
        Head { sequence, digest: self.heads.last().copied().unwrap_or_else(|| self.charter.genesis().digest) }
    }

    /// Reads the next record of the log, of which `None` has no value.
    ///
    /// `Err` only when the governing department has signed an entry of a newer version: then nothing is guessed, the record
    /// is not read, and a newer program is needed. One of another department stops its own streams, of which alone it can
    /// say anything (see [`Book::stops`]). An unsigned claim of that is rubbish like any other.
    pub fn read(&mut self, record: Option<&[u8]>) -> Result<Taken> {
        let head = self.head().after(record);
        let judged = self.judge(record, head.sequence)?;
        self.heads.push(head.digest);
        Ok(match judged {
            Ok((entry, digest)) => Taken::Entry { entry: Box::new(entry), digest },
            Err((rule, why)) => {
                let skipped = Skipped { sequence: head.sequence, rule, why };
                *self.counts.entry(rule).or_default() += 1;
                if self.skipped.len() < TOLD {
                    self.skipped.push(skipped.clone());
                }
                Taken::Skipped(skipped)
            }
        })
    }

    fn judge(
        &mut self,
        record: Option<&[u8]>,
        sequence: u64,
    ) -> Result<std::result::Result<(Entry, Digest), Fault>> {
        let malformed = |why: String| Ok(Err(("malformed", why)));
        let Some(record) = record else { return malformed("it has no value".into()) };
        let frame = match Frame::read(record) {
            Ok(frame) => frame,
            Err(why) => return malformed(why.into()),
        };
        let Some(member) = self.members.get(frame.department) else {
            let why = format!("no department `{}` has joined", frame.department);
            return Ok(Err(("unknown_department", why)));
        };
        let Some(digest) = frame.verified(&self.charter, &member.key) else {
            return Ok(Err(("signature", format!("`{}` has not signed it", frame.department))));
        };
        if frame.version > VERSION {
            let what = format!("has version {}", frame.version);
            if frame.department == self.charter.governing {
                return Err(self.newer(sequence, &what));
            }
            self.newer.entry(frame.department.to_owned()).or_insert(sequence);
            return Ok(Err((
                "newer_version",
                format!("it {what}, and this program knows version {VERSION}"),
            )));
        }
        let first = *self.stands.entry(digest).or_insert(sequence);
        if first != sequence {
            return Ok(Err(("replay", format!("it stands in record {first} already, so it is void here"))));
        }
        let entry = match frame.entry() {
            Ok(entry) => entry,
            Err(why) => return malformed(why),
        };
        if let Act::Joined { key, .. } | Act::Rekeyed { key, .. } = &entry.act
            && entry.department == self.charter.governing
            && PublicKey::parse(key).is_err_and(|error| error.kind == ErrorKind::Config)
        {
            return Err(self.newer(sequence, "names a key of an algorithm that it does not know"));
        }
        if let Err(contradiction) = self.check(&entry.department, entry.seen) {
            let why = contradiction.to_string();
            self.contradictions.push(contradiction);
            return Ok(Err(("contradiction", why)));
        }
        Ok(self.enter(&entry, digest, sequence).map(|()| (entry, digest)))
    }

    fn newer(&self, sequence: u64, what: &str) -> Error {
        let why = format!("record {sequence} {what}, and this program knows version {VERSION}");
        Error::new(ErrorKind::Config, format!("read the ledger {}", self.charter.id), why)
            .hint("use the newer Hutong that wrote it")
    }

    /// Compares a head that somebody remembers with this history.
    pub fn check(&self, by: &str, pinned: Head) -> std::result::Result<(), Contradiction> {
        let found = usize::try_from(pinned.sequence).ok().and_then(|at| self.heads.get(at)).copied();
        if found == Some(pinned.digest) {
            Ok(())
        } else {
            Err(Contradiction { by: by.to_owned(), pinned, found })
        }
    }

    /// Returns why nothing of an owner's streams may flow: this history contradicts a head that it, or the governing
    /// department, has signed; or it has said something that this program cannot read, perhaps that nothing may.
    pub fn stops(&self, owner: &str) -> Option<String> {
        let contradiction = self.contradiction(owner).map(ToString::to_string);
        contradiction.or_else(|| {
            let record = self.newer.get(owner)?;
            Some(format!(
                "`{owner}` has signed record {record} with a newer Hutong than this: update this one"
            ))
        })
    }

    /// Returns the contradiction that stops the streams of an owner: to a head that it, or the governing department, has
    /// signed. Those of others are only skipped and counted.
    pub fn contradiction(&self, owner: &str) -> Option<&Contradiction> {
        self.contradictions.iter().find(|c| c.by == owner || c.by == self.charter.governing)
    }

    /// Returns every pinned head that this history contradicts.
    pub fn contradictions(&self) -> &[Contradiction] {
        &self.contradictions
    }

    /// Says whether the entry would count as the next one; `Err` with the reason.
    pub fn would_take(&self, entry: &Entry) -> std::result::Result<(), String> {
        if !self.members.contains_key(&entry.department) {
            return Err(format!("the department `{}` has not joined the ledger", entry.department));
        }
        let sequence = self.head().sequence + 1;
        // The digest only names a new request here, and this copy is dropped.
        let digest = Digest::of(format!("{entry:?}").as_bytes());
        self.clone().enter(entry, digest, sequence).map_err(|(_, why)| why)
    }

    /// Returns the first skipped records, in order; at most a thousand are kept.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// Returns how many records each rule has skipped.
    pub fn skipped_counts(&self) -> &BTreeMap<&'static str, u64> {
        &self.counts
    }

    /// Returns the departments.
    pub fn members(&self) -> &BTreeMap<String, Member> {
        &self.members
    }

    /// Returns the offers, by owner and stream.
    pub fn offers(&self) -> &BTreeMap<(String, String), Offered> {
        &self.offers
    }

    /// Returns every request with its digest, in their order.
    pub fn requests(&self) -> Vec<(Digest, &Asked)> {
        let mut all: Vec<_> = self.requests.iter().map(|(digest, asked)| (*digest, asked)).collect();
        all.sort_by_key(|(_, asked)| asked.sequence);
        all
    }

    /// States whether a request waits for no answer any more because the same subscription was asked for again: then its
    /// owner answers that.
    ///
    /// No rule of the ledger, by which an old history would read otherwise: what its owner signs all the same counts.
    pub fn is_asked_again(&self, asked: &Asked) -> bool {
        let Request { subscription, owner, stream, .. } = &asked.request;
        let name = [&asked.department, subscription, owner, stream].map(Clone::clone);
        asked.answer.is_none() && self.last.get(&name).is_some_and(|last| *last > asked.sequence)
    }

    /// Returns a request by its digest.
    pub fn request(&self, digest: &Digest) -> Option<&Asked> {
        self.requests.get(digest)
    }

    /// Returns every grant, in the order of their requests.
    pub fn grants(&self) -> Vec<&Granted> {
        let mut all: Vec<_> = self.grants.values().collect();
        all.sort_by_key(|grant| self.requests.get(&grant.request).map(|asked| asked.sequence));
        all
    }

    /// Returns the last grant of a stream of an owner to a department's subscription; it may be suspended or over.
    pub fn granted(
        &self,
        department: &str,
        subscription: &str,
        owner: &str,
        stream: &str,
    ) -> Option<&Granted> {
        self.grants.get(self.current.get(&[department, subscription, owner, stream].map(str::to_owned))?)
    }

    /// Returns every number that a grant ever had, and what it was then.
    pub fn numbers(&self) -> &BTreeMap<u64, Numbered> {
        &self.numbers
    }

    /// Returns the request of the grant that has, or once had, this number.
    pub fn numbered(&self, number: u64) -> Option<&Asked> {
        self.requests.get(&self.numbers.get(&number)?.request)
    }

    /// Returns the departments that have rooted receipts.
    pub fn rooted(&self) -> impl Iterator<Item = &str> {
        self.roots.iter().filter(|(_, roots)| !roots.is_empty()).map(|(department, _)| department.as_str())
    }

    /// Returns the roots of the receipts of a department's streams, in their order.
    pub fn roots(&self, department: &str) -> &[Root] {
        self.roots.get(department).map_or(&[], Vec::as_slice)
    }
}
