//! The ledger of a running process: followed, compared with what was remembered, and asked before every commit.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use hutong_bus::log::Log;
use hutong_core::grant::default_masks;
use hutong_core::ledger::{Answer, Book, Charter, Condition, Granted, Head, State, Terms};
use hutong_core::mask::Mask;
use hutong_core::{Class, Error, ErrorKind, Result};
use hutong_engine::ledgered::Ledgered;
use hutong_engine::status::now_us;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::entrusted::{Standing, Trust};
use super::reading::Reading;
use super::terms::{Contracts, asked, contracts, linked};
use crate::config::Plan;
use crate::config::plan::{LedgerPlan, StreamPlan, SubscriptionPlan};

/// How often the ledger is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// How often all of it is read again, to see that nobody rewrites what was read.
const AGAIN: Duration = Duration::from_secs(60);

/// What the ledger says of a subscription now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Word {
    /// It flows, under the grant of this number.
    Flows {
        /// The grant's number.
        number: u64,
        /// What may leave.
        terms: Terms,
    },
    /// Nothing flows; the replica stays.
    Held {
        /// Why.
        why: String,
        /// What a person may do.
        hint: String,
        /// By what.
        ground: Ground,
    },
    /// Nothing flows, and the rows of the replica are deleted.
    Recalled {
        /// The number of the grant that is over.
        number: u64,
        /// The record that says so.
        since: u64,
        /// When that was said, by the owner's clock.
        since_us: i64,
        /// Why.
        why: String,
    },
}

/// By what nothing flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ground {
    /// By the word of a department, or for want of it; since when, where the ledger tells.
    Said(Option<i64>),
    /// Something is wrong, and a person must act.
    Wrong,
}

impl Word {
    fn wrong(why: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Held { why: why.into(), hint: hint.into(), ground: Ground::Wrong }
    }

    fn said(since_us: Option<i64>, why: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Held { why: why.into(), hint: hint.into(), ground: Ground::Said(since_us) }
    }
}

/// The ledger of a running process. Cheap to clone.
#[derive(Clone)]
pub struct Ledger(Arc<Inner>);

struct Inner {
    log: Arc<dyn Log>,
    bus: String,
    contracts: Contracts,
    charter: Charter,
    patience: Duration,
    reading: tokio::sync::Mutex<Reading>,
    seen: Mutex<Seen>,
    looked: watch::Sender<()>,
    /// Whom it is told, in a process that runs lanes.
    told: OnceLock<Ledgered>,
}

/// What the lanes go by.
struct Seen {
    book: Arc<Book>,
    /// When the ledger was last read to its end.
    verified: Option<Instant>,
    /// What stops everything until a person has acted.
    broken: Option<(String, String)>,
    /// Department to what its own stores remember and this ledger contradicts: that stops what is delivered to it.
    doubted: BTreeMap<String, (String, String)>,
}

impl Seen {
    /// Returns what stops the delivery to a department, and what a person may do.
    fn doubts(&self, department: &str) -> Option<&(String, String)> {
        self.broken.as_ref().or_else(|| self.doubted.get(department))
    }

    fn is_fresh(&self, patience: Duration) -> bool {
        self.verified.is_some_and(|verified| verified.elapsed() <= patience)
    }
}

impl Ledger {
    /// Makes the ledger of a process; nothing is read yet, and nothing flows before.
    pub fn new(plan: &LedgerPlan, whole: &Plan, log: Arc<dyn Log>) -> Self {
        let bus = &whole.bus.name;
        let reading = Reading::new(bus, plan.charter.clone(), false);
        let seen = Seen {
            book: Arc::new(reading.book.clone()),
            verified: None,
            broken: None,
            doubted: BTreeMap::new(),
        };
        Self(Arc::new(Inner {
            log,
            bus: bus.clone(),
            contracts: contracts(whole),
            charter: plan.charter.clone(),
            patience: plan.patience,
            reading: tokio::sync::Mutex::new(reading),
            seen: Mutex::new(seen),
            looked: watch::Sender::new(()),
            told: OnceLock::new(),
        }))
    }

    /// Tells from now on how the process stands to the ledger.
    pub fn tell(&self, metrics: Ledgered) {
        metrics.added();
        // Told once, by who makes it.
        let _ = self.0.told.set(metrics);
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what is new. `Err` that is no outage stops all delivery of the process until it is started again.
    pub async fn catch_up(&self) -> Result<()> {
        let mut reading = self.0.reading.lock().await;
        if self.seen().broken.is_some() {
            return Ok(());
        }
        let before = reading.book.head();
        match reading.catch_up(self.0.log.as_ref()).await {
            Ok(()) => {
                let mut seen = self.seen();
                seen.verified = Some(Instant::now());
                if let Some(told) = self.0.told.get() {
                    let book = &reading.book;
                    told.read(book.head().sequence, book.skipped_counts().values().sum(), now_us());
                    // A contradiction stops only what that department owns, and is as bad a sign.
                    let wrong = seen.broken.is_some() || !seen.doubted.is_empty();
                    told.broken(wrong || !book.contradictions().is_empty());
                }
                if reading.book.head() != before {
                    tell(&reading.book, before);
                    seen.book = Arc::new(reading.book.clone());
                }
                Ok(())
            }
            Err(problem) if problem.class() == Class::Retry => Err(problem),
            Err(problem) => {
                self.breaks(&problem);
                Err(problem)
            }
        }
    }

    fn breaks(&self, problem: &Error) {
        let hint = problem.hint.clone().unwrap_or_default();
        error!(error = %problem, hint, "the ledger stops all delivery");
        let mut seen = self.seen();
        seen.broken.get_or_insert((problem.to_string(), hint));
        if let Some(told) = self.0.told.get() {
            told.broken(true);
        }
    }

    /// Reads all of it again and compares it with what was read. `Err` that is no outage stops all delivery.
    async fn verify(&self) -> Result<()> {
        // First: a lane may read on meanwhile, and what comes then is not missing.
        let known = self.head();
        let mut again = Reading::new(&self.0.bus, self.0.charter.clone(), false);
        again.catch_up(self.0.log.as_ref()).await?;
        again.book.check("this process", known).map_err(|contradiction| broken(contradiction.to_string()))
    }

    /// Follows the ledger until it is asked to stop.
    pub async fn follow(self, token: CancellationToken) -> Result<()> {
        let (mut verified, mut reached) = (Instant::now(), true);
        loop {
            tokio::select! {
                () = token.cancelled() => return Ok(()),
                () = tokio::time::sleep(LOOK) => {}
            }
            let mut looked = self.catch_up().await;
            if looked.is_ok() && verified.elapsed() > AGAIN {
                looked = self.verify().await;
                verified = Instant::now();
            }
            match looked {
                Ok(()) if !reached => info!("the ledger is reached again"),
                Err(problem) if problem.class() == Class::Retry => {
                    if reached {
                        let patience = self.0.patience.as_secs();
                        warn!(error = %problem, patience, "the ledger cannot be reached: verified grants go on for so many seconds");
                    }
                    reached = false;
                    self.0.looked.send_replace(());
                    continue;
                }
                Err(problem) => self.breaks(&problem),
                Ok(()) => {}
            }
            reached = true;
            self.0.looked.send_replace(());
        }
    }

    /// Returns what wakes after every look.
    pub(super) fn looks(&self) -> watch::Receiver<()> {
        self.0.looked.subscribe()
    }

    /// Returns what was read.
    pub(super) fn book(&self) -> Arc<Book> {
        Arc::clone(&self.seen().book)
    }

    /// Returns the head of what was read.
    pub(super) fn head(&self) -> Head {
        self.seen().book.head()
    }

    /// Compares a head that a lane has remembered in its store. A contradiction stops what is delivered to the
    /// department, until the process is started again: what stands in its store, it may have written itself, and with
    /// that it stops nobody else.
    pub(super) async fn remembered(&self, department: &str, lane: &str, head: Head) -> Result<()> {
        if head.sequence > self.head().sequence {
            // Another process has read further.
            self.catch_up().await?;
        }
        let book = Arc::clone(&self.seen().book);
        book.check(lane, head).map_err(|contradiction| {
            let problem = broken(contradiction.to_string());
            let hint = problem.hint.clone().unwrap_or_default();
            error!(department, error = %problem, hint, "the ledger stops the delivery to a department");
            let doubt = (problem.to_string(), hint);
            self.seen().doubted.entry(department.to_owned()).or_insert(doubt);
            if let Some(told) = self.0.told.get() {
                told.broken(true);
            }
            problem
        })
    }

    /// Returns how the process stands to the ledger: while that is the same, the same follows.
    pub(super) fn standing(&self) -> Standing {
        let seen = self.seen();
        let trust = match seen.verified {
            _ if seen.broken.is_some() => Trust::Lost,
            None => Trust::Unread,
            Some(_) if seen.is_fresh(self.0.patience) => Trust::Verified,
            Some(_) => Trust::Lost,
        };
        Standing { head: seen.book.head(), trust, doubted: seen.doubted.keys().cloned().collect() }
    }

    /// Returns the contracts that the process knows.
    pub(super) fn contracts(&self) -> &Contracts {
        &self.0.contracts
    }

    /// Returns what may flow to a subscription now (I5): nothing that is not verified.
    pub(super) fn word(&self, subscription: &SubscriptionPlan) -> Word {
        let seen = self.seen();
        if let Some((why, hint)) = seen.doubts(&subscription.department) {
            return Word::wrong(why, hint);
        }
        match seen.verified {
            None => return Word::wrong("the ledger was not read yet", "look at the bus"),
            Some(verified) if verified.elapsed() > self.0.patience => {
                let why = format!("the ledger was not reached for {} s", self.0.patience.as_secs());
                return Word::wrong(
                    why,
                    "look at the bus; `patience` of [ledger] says for how long lanes go on",
                );
            }
            Some(_) => {}
        }
        let book = Arc::clone(&seen.book);
        drop(seen);
        of_book(&book, &self.0.contracts, subscription)
    }

    /// States whether the book is verified now for a department: then what followed from it while its head was the
    /// same still does.
    pub(super) fn is_verified(&self, department: &str) -> bool {
        let seen = self.seen();
        seen.doubts(department).is_none() && seen.is_fresh(self.0.patience)
    }

    /// Says whether a commit under the grant of this number may be made now.
    pub(super) fn permits(&self, subscription: &SubscriptionPlan, number: u64) -> Result<()> {
        let doing = format!("deliver to {}", subscription.name);
        // A look that hangs ends by itself, and so must what waits for it.
        let fresh = self.seen().is_fresh(self.0.patience);
        match self.word(subscription) {
            Word::Held { why, hint, .. } if !fresh => {
                Err(Error::new(ErrorKind::Unavailable, doing, why).hint(hint))
            }
            Word::Flows { number: now, .. } if now == number => Ok(()),
            Word::Flows { number: now, .. } => {
                let why = format!("its grant was changed, and is number {now} now");
                Err(Error::new(ErrorKind::Denied, doing, why).hint("it begins again under the new one"))
            }
            Word::Held { why, hint, .. } => Err(Error::new(ErrorKind::Denied, doing, why).hint(hint)),
            Word::Recalled { why, .. } => Err(Error::new(ErrorKind::Denied, doing, why)),
        }
    }
}

fn broken(why: String) -> Error {
    Error::new(ErrorKind::Broken, "trust the ledger", why)
        .hint("`hutong ledger verify` finds the first bad entry")
}

/// Says in the log what was skipped since a head.
fn tell(book: &Book, before: Head) {
    for skipped in book.skipped().iter().filter(|skipped| skipped.sequence > before.sequence).take(10) {
        warn!(
            record = skipped.sequence,
            rule = skipped.rule,
            why = skipped.why,
            "a record of the ledger counts for nothing"
        );
    }
}

fn of_book(book: &Book, contracts: &Contracts, subscription: &SubscriptionPlan) -> Word {
    let (name, stream) = (&subscription.name, &subscription.stream);
    let verify = "`hutong ledger verify` finds the first bad entry";
    if let Some(why) = book.stops(&stream.owner) {
        let newer = "use the newer Hutong that its owner uses";
        return Word::wrong(why, if book.contradiction(&stream.owner).is_some() { verify } else { newer });
    }
    let Some(granted) = book.granted(&subscription.department, name, &stream.owner, &stream.name) else {
        return unanswered(book, subscription);
    };
    let Granted { state, number, terms, since, since_us, .. } = granted;
    let said = |why: String, hint: String| Word::said(Some(*since_us), why, hint);
    match state {
        State::Active => {
            let own = (subscription.department.as_str(), name.as_str());
            let placed = fits(book, granted, stream).and_then(|()| placed(book, granted, subscription));
            if let Err(problem) = placed {
                return Word::wrong(problem.why(), problem.hint.unwrap_or_default());
            }
            // Both wait, whichever was first: a number can be made younger by asking again.
            match linked(book, contracts, own, (&stream.owner, &stream.name), terms) {
                Ok(None) => Word::Flows { number: *number, terms: terms.clone() },
                Ok(Some(why)) => Word::wrong(why, "mask one of them otherwise, and ask again"),
                Err(problem) => Word::wrong(problem.to_string(), "use the newer Hutong that granted it"),
            }
        }
        State::Suspended(reason) => {
            let why = format!("`{}` has suspended its grant: {reason}", stream.owner);
            said(why, format!("`hutong subscription resume {name}` where `{}` acts", stream.owner))
        }
        State::Revoked { recall, reason } => {
            let why = format!("`{}` has revoked its grant: {reason}", stream.owner);
            match recall {
                true => Word::Recalled { number: *number, since: *since, since_us: *since_us, why },
                false => said(why, format!("`hutong subscription request {name}` asks again")),
            }
        }
        State::Expired | State::Replaced => {
            said("its grant is over".into(), format!("`hutong subscription request {name}` asks again"))
        }
    }
}

/// Refuses a grant that no longer fits what is offered, or the contract.
///
/// `Err(Denied)`: I5, nothing leaves.
pub(super) fn fits(book: &Book, granted: &Granted, stream: &StreamPlan) -> Result<()> {
    let name = &granted.subscription;
    let denied = |why: String, hint: String| {
        Err(Error::new(ErrorKind::Denied, format!("deliver to {name}"), why).hint(hint))
    };
    let again = || format!("`hutong subscription request {name}` asks again");
    let offered = book.offers().get(&(stream.owner.clone(), stream.name.clone()));
    let Some(offer) = offered.filter(|offered| !offered.withdrawn).map(|offered| &offered.offer) else {
        let why = format!("`{}` has withdrawn the stream `{}`", stream.owner, stream.name);
        return denied(why, "ask its owner".into());
    };
    if let Condition::None(law) = &offer.sharing {
        return denied(format!("`{}` is no longer shared: {law}", stream.name), "ask its owner".into());
    }
    let used = granted.terms.used(&stream.contract)?;
    if let Some(column) = used.iter().find(|column| !offer.columns.contains(column)) {
        return denied(format!("column `{column}` is not offered any more"), again());
    }
    // Which rows arrive would tell the value, too.
    let fields = used.iter().filter_map(|column| stream.contract.field(column));
    if let Some((field, law)) = fields.filter_map(|f| f.not_shared().map(|law| (f, law))).next() {
        return denied(format!("column `{}` is not shared: {law}", field.name), again());
    }
    if !granted.by_owner {
        let own = default_masks(&stream.contract, &granted.terms.columns).unwrap_or_default();
        let masks = granted.terms.masks()?;
        let bare = |(column, mask): &(&String, &Mask)| {
            masks.get(*column).is_none_or(|granted| !granted.is_no_weaker(**mask))
        };
        if let Some((column, mask)) = own.iter().find(bare) {
            let why = format!(
                "the contract masks column `{column}` by `{mask}`, and its owner has not lifted that"
            );
            return denied(why, again());
        }
    }
    Ok(())
}

/// Refuses a grant into another place than the configuration delivers to. `Err(Denied)`: I5, nothing leaves.
fn placed(book: &Book, granted: &Granted, subscription: &SubscriptionPlan) -> Result<()> {
    let (name, asked) = (&subscription.name, asked(subscription).into);
    match book.request(&granted.request).map(|request| &request.request.into) {
        Some(into) if *into != asked => {
            let why = format!("it is granted into `{into}`, and the configuration says `{asked}`");
            Err(Error::new(ErrorKind::Denied, format!("deliver to {name}"), why)
                .hint(format!("`hutong subscription request {name}` asks again")))
        }
        _ => Ok(()),
    }
}

/// Says why there is no grant.
fn unanswered(book: &Book, subscription: &SubscriptionPlan) -> Word {
    let (name, owner) = (&subscription.name, &subscription.stream.owner);
    let requests = book.requests();
    let asked = requests.iter().rev().find(|(_, asked)| {
        asked.department == subscription.department
            && asked.request.subscription == *name
            && asked.request.owner == *owner
            && asked.request.stream == subscription.stream.name
    });
    match asked.map(|(_, asked)| (asked.at_us, &asked.answer)) {
        None => {
            let why = "the ledger holds no request of it, so nothing is granted";
            Word::said(None, why, format!("`hutong subscription request {name}`"))
        }
        Some((_, Some(Answer::Rejected { at_us, reason }))) => {
            let why = format!("`{owner}` has refused it: {reason}");
            Word::said(Some(*at_us), why, format!("`hutong subscription request {name}` asks again"))
        }
        Some((at_us, _)) => {
            let why = format!("its request waits for the answer of `{owner}`");
            Word::said(Some(at_us), why, format!("`hutong subscription approve {name}` where `{owner}` acts"))
        }
    }
}
