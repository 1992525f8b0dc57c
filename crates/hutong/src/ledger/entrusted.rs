//! Who may open the sealed columns of a stream by a key of its own, as the ledger says now.

use std::collections::BTreeMap;
use std::sync::Arc;

use hutong_core::grant::{end_us, expired};
use hutong_core::ledger::{Book, Granted, Head, State};
use hutong_core::seal::{PublicKey, Reader};
use hutong_core::{Error, ErrorKind, Result};
use hutong_engine::status::now_us;
use jiff::tz::TimeZone;

use super::follow::{Ledger, fits};
use super::terms::{INTO_TOPIC, linked};
use crate::config::plan::{StreamPlan, given};

/// What a capture goes by when it wraps keys.
pub(crate) struct Asked {
    /// The streams that it seals.
    pub(crate) streams: Vec<Arc<StreamPlan>>,
    /// Department to its public key.
    pub(crate) public: BTreeMap<String, PublicKey>,
    /// The zone in which an `until` ends.
    pub(crate) zone: TimeZone,
}

/// How a process stands to the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    /// What was read.
    pub(super) head: Head,
    /// Whether that counts.
    pub(super) trust: Trust,
    /// The departments whose own stores contradict it.
    pub(super) doubted: Vec<String>,
}

/// Whether what was read of the ledger counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// Nothing was read yet.
    Unread,
    /// It was read to its end, not too long ago.
    Verified,
    /// It was not reached for too long, or stops everything until a person has acted.
    Lost,
}

/// Who may open what, and for how long that is so.
pub(crate) struct Entrusted {
    /// The name of a stream's contract to the grants that open columns of it.
    pub(crate) readers: BTreeMap<String, Vec<Reader>>,
    standing: Standing,
    /// When the first of the grants ends.
    ends_us: Option<i64>,
}

impl Entrusted {
    /// States whether the ledger is verified; where it is not, nobody is entrusted with anything.
    pub(crate) fn is_verified(&self) -> bool {
        self.standing.trust == Trust::Verified
    }
}

impl Ledger {
    /// Finds who may open the sealed columns of some streams now: under a grant that flows and gives them in every row
    /// and unmasked, whichever configuration carries it, by the public key that the owner's configuration names.
    ///
    /// I5: of a ledger that is not verified any more nothing follows, so what comes is sealed for its owner alone; the
    /// capture goes on, for its source keeps what is not captured. `Err(Unavailable)` before anything was read: then it
    /// waits, else each start would begin an epoch.
    pub(crate) fn entrusted(&self, asked: &Asked) -> Result<Entrusted> {
        let (standing, mut ends_us) = (self.standing(), None);
        let mut readers = BTreeMap::new();
        match standing.trust {
            Trust::Unread => {
                let why = "who may open its sealed columns says the ledger, which was not read yet";
                return Err(
                    Error::new(ErrorKind::Unavailable, "wrap sealing keys", why).hint("look at the bus")
                );
            }
            Trust::Lost => {}
            Trust::Verified => {
                let book = self.book();
                for stream in &asked.streams {
                    let name = stream.contract.stream.clone();
                    readers.insert(name, self.of(&book, stream, asked, &standing.doubted, &mut ends_us));
                }
            }
        }
        Ok(Entrusted { readers, standing, ends_us })
    }

    /// States whether what was found still holds.
    pub(crate) fn still(&self, entrusted: &Entrusted) -> bool {
        entrusted.ends_us.is_none_or(|ends_us| now_us() < ends_us) && self.standing() == entrusted.standing
    }

    /// Returns the readers of one stream, and moves `ends_us` to the first end of a grant among them.
    fn of(
        &self,
        book: &Book,
        stream: &StreamPlan,
        asked: &Asked,
        doubted: &[String],
        ends_us: &mut Option<i64>,
    ) -> Vec<Reader> {
        if book.stops(&stream.owner).is_some() {
            return Vec::new();
        }
        let mut readers = Vec::new();
        for granted in book.grants() {
            let own = granted.owner == stream.owner && granted.stream == stream.name;
            if !own || granted.state != State::Active || doubted.contains(&granted.department) {
                continue;
            }
            let over = granted.terms.until.is_some_and(|until| expired(until, &asked.zone, now_us()));
            let Some(to) = asked.public.get(&granted.department).filter(|_| !over) else { continue };
            let fields = self.given(book, stream, granted);
            if !fields.is_empty() {
                let end = granted.terms.until.and_then(|until| end_us(until, &asked.zone));
                *ends_us = [*ends_us, end].into_iter().flatten().min();
                readers.push(Reader { grant: granted.subscription.clone(), to: to.clone(), fields });
            }
        }
        readers
    }

    /// Returns the columns that a grant opens; none where nothing flows under it.
    fn given(&self, book: &Book, stream: &StreamPlan, granted: &Granted) -> Vec<String> {
        let own = (granted.department.as_str(), granted.subscription.as_str());
        let (of, terms) = ((stream.owner.as_str(), stream.name.as_str()), &granted.terms);
        // What is delivered into a topic would stand there in clear, so it is not delivered.
        let into = book.request(&granted.request).map(|request| request.request.into.as_str());
        let flows = into != Some(INTO_TOPIC)
            && fits(book, granted, stream).is_ok()
            && matches!(linked(book, self.contracts(), own, of, terms), Ok(None));
        match terms.masks() {
            Ok(masks) if flows => given(&stream.contract, &terms.columns, &masks, terms.rows.is_empty()),
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
#[path = "entrusted_test.rs"]
mod tests;
