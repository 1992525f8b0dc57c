//! The ledger of a running process: followed, compared with what was remembered, and asked before every commit.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hutong_bus::log::Log;
use hutong_core::grant::default_masks;
use hutong_core::ledger::{Book, Charter, Condition, Granted, Head, State, Terms};
use hutong_core::mask::Mask;
use hutong_core::{Class, Error, ErrorKind, Result};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::reading::Reading;
use super::terms::{asked, linked};
use crate::config::plan::{LedgerPlan, SubscriptionPlan};

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
    },
    /// Nothing flows, and the rows of the replica are deleted.
    Recalled {
        /// The record that says so.
        since: u64,
        /// Why.
        why: String,
    },
}

impl Word {
    fn held(why: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Held { why: why.into(), hint: hint.into() }
    }
}

/// The ledger of a running process. Cheap to clone.
#[derive(Clone)]
pub struct Ledger(Arc<Inner>);

struct Inner {
    log: Arc<dyn Log>,
    bus: String,
    charter: Charter,
    patience: Duration,
    reading: tokio::sync::Mutex<Reading>,
    seen: Mutex<Seen>,
    looked: watch::Sender<()>,
}

/// What the lanes go by.
struct Seen {
    book: Arc<Book>,
    /// When the ledger was last read to its end.
    verified: Option<Instant>,
    /// What stops everything until a person has acted.
    broken: Option<(String, String)>,
}

impl Seen {
    fn is_fresh(&self, patience: Duration) -> bool {
        self.verified.is_some_and(|verified| verified.elapsed() <= patience)
    }
}

impl Ledger {
    /// Makes the ledger of a process; nothing is read yet, and nothing flows before.
    pub fn new(plan: &LedgerPlan, bus: &str, log: Arc<dyn Log>) -> Self {
        let reading = Reading::new(bus, plan.charter.clone(), false);
        let seen = Seen { book: Arc::new(reading.book.clone()), verified: None, broken: None };
        Self(Arc::new(Inner {
            log,
            bus: bus.to_owned(),
            charter: plan.charter.clone(),
            patience: plan.patience,
            reading: tokio::sync::Mutex::new(reading),
            seen: Mutex::new(seen),
            looked: watch::Sender::new(()),
        }))
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
        self.seen().broken.get_or_insert((problem.to_string(), hint));
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

    /// Compares a head that a lane has remembered in its store. A contradiction stops all delivery of the process.
    pub(super) async fn remembered(&self, lane: &str, head: Head) -> Result<()> {
        if head.sequence > self.head().sequence {
            // Another process has read further.
            self.catch_up().await?;
        }
        let book = Arc::clone(&self.seen().book);
        book.check(lane, head).map_err(|contradiction| {
            let problem = broken(contradiction.to_string());
            self.breaks(&problem);
            problem
        })
    }

    /// Returns what may flow to a subscription now (I5): nothing that is not verified.
    pub(super) fn word(&self, subscription: &SubscriptionPlan) -> Word {
        let seen = self.seen();
        if let Some((why, hint)) = &seen.broken {
            return Word::held(why, hint);
        }
        match seen.verified {
            None => return Word::held("the ledger was not read yet", "look at the bus"),
            Some(verified) if verified.elapsed() > self.0.patience => {
                let why = format!("the ledger was not reached for {} s", self.0.patience.as_secs());
                return Word::held(
                    why,
                    "look at the bus; `patience` of [ledger] says for how long lanes go on",
                );
            }
            Some(_) => {}
        }
        let book = Arc::clone(&seen.book);
        drop(seen);
        of_book(&book, subscription)
    }

    /// States whether the book is verified now: then what followed from it while its head was the same still does.
    pub(super) fn is_verified(&self) -> bool {
        let seen = self.seen();
        seen.broken.is_none() && seen.is_fresh(self.0.patience)
    }

    /// Says whether a commit under the grant of this number may be made now.
    pub(super) fn permits(&self, subscription: &SubscriptionPlan, number: u64) -> Result<()> {
        let doing = format!("deliver to {}", subscription.name);
        // A look that hangs ends by itself, and so must what waits for it.
        let fresh = self.seen().is_fresh(self.0.patience);
        match self.word(subscription) {
            Word::Held { why, hint } if !fresh => {
                Err(Error::new(ErrorKind::Unavailable, doing, why).hint(hint))
            }
            Word::Flows { number: now, .. } if now == number => Ok(()),
            Word::Flows { number: now, .. } => {
                let why = format!("its grant was changed, and is number {now} now");
                Err(Error::new(ErrorKind::Denied, doing, why).hint("it begins again under the new one"))
            }
            Word::Held { why, hint } => Err(Error::new(ErrorKind::Denied, doing, why).hint(hint)),
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

fn of_book(book: &Book, subscription: &SubscriptionPlan) -> Word {
    let (name, stream) = (&subscription.name, &subscription.stream);
    let verify = "`hutong ledger verify` finds the first bad entry";
    if let Some(contradiction) = book.contradiction(&stream.owner) {
        return Word::held(contradiction.to_string(), verify);
    }
    let Some(granted) = book.granted(&subscription.department, name, &stream.owner, &stream.name) else {
        return unanswered(book, subscription);
    };
    let Granted { state, number, terms, since, .. } = granted;
    match state {
        State::Active => {
            let own = (subscription.department.as_str(), name.as_str());
            if let Err(problem) = fits(book, granted, subscription) {
                return Word::held(problem.why(), problem.hint.unwrap_or_default());
            }
            // Both wait, whichever was first: a number can be made younger by asking again.
            match linked(book, own, stream, terms) {
                Ok(None) => Word::Flows { number: *number, terms: terms.clone() },
                Ok(Some(why)) => Word::held(why, "mask one of them otherwise, and ask again"),
                Err(problem) => Word::held(problem.to_string(), "use the newer Hutong that granted it"),
            }
        }
        State::Suspended(reason) => {
            let why = format!("`{}` has suspended its grant: {reason}", stream.owner);
            Word::held(why, format!("`hutong subscription resume {name}` where `{}` acts", stream.owner))
        }
        State::Revoked { recall, reason } => {
            let why = format!("`{}` has revoked its grant: {reason}", stream.owner);
            match recall {
                true => Word::Recalled { since: *since, why },
                false => Word::held(why, format!("`hutong subscription request {name}` asks again")),
            }
        }
        State::Expired | State::Replaced => {
            Word::held("its grant is over", format!("`hutong subscription request {name}` asks again"))
        }
    }
}

/// Refuses a grant that no longer fits what is offered, the contract, or where the configuration delivers to.
///
/// `Err(Denied)`: I5, nothing leaves.
fn fits(book: &Book, granted: &Granted, subscription: &SubscriptionPlan) -> Result<()> {
    let stream = &subscription.stream;
    let denied = |why: String, hint: String| {
        Err(Error::new(ErrorKind::Denied, format!("deliver to {}", subscription.name), why).hint(hint))
    };
    let again = || format!("`hutong subscription request {}` asks again", subscription.name);
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
        let bare =
            |(column, mask): &(&String, &Mask)| granted.terms.masks.get(*column) != Some(&mask.to_string());
        if let Some((column, mask)) = own.iter().find(bare) {
            let why = format!(
                "the contract masks column `{column}` by `{mask}`, and its owner has not lifted that"
            );
            return denied(why, again());
        }
    }
    let asked = asked(subscription).into;
    match book.request(&granted.request).map(|request| &request.request.into) {
        Some(into) if *into != asked => {
            denied(format!("it is granted into `{into}`, and the configuration says `{asked}`"), again())
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
    match asked.map(|(_, asked)| &asked.answer) {
        None => {
            let why = "the ledger holds no request of it, so nothing is granted";
            Word::held(why, format!("`hutong subscription request {name}`"))
        }
        Some(Some(hutong_core::ledger::Answer::Rejected { reason, .. })) => {
            let why = format!("`{owner}` has refused it: {reason}");
            Word::held(why, format!("`hutong subscription request {name}` asks again"))
        }
        Some(_) => {
            let why = format!("its request waits for the answer of `{owner}`");
            Word::held(why, format!("`hutong subscription approve {name}` where `{owner}` acts"))
        }
    }
}
