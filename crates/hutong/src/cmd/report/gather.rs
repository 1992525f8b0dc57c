//! What stands in a report: gathered entry by entry and receipt by receipt.

use std::collections::BTreeMap;

use hutong_bus::log::Log;
use hutong_bus::receipts::{topic, walk};
use hutong_core::Result;
use hutong_core::ledger::{
    Act, Answer, Asked, Audit, Book, Condition, Correction, Digest, Entry, Taken, Terms,
};
use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::{Value as Json, json};

use super::Span;
use super::sheet::Sheet;
use crate::config::Plan;
use crate::config::plan::LedgerPlan;
use crate::ledger::Reading;

/// What was delivered to one subscription.
#[derive(Debug, Clone, Default)]
struct Delivered {
    receipts: u64,
    changes: u64,
    written: u64,
    deleted: u64,
    quarantined: u64,
    first_us: Option<i64>,
    last_us: i64,
    recalled: u64,
    grants: Vec<u64>,
}

/// A report that is being gathered.
pub(super) struct Report<'a> {
    department: Option<&'a str>,
    span: Span,
    plan: &'a Plan,
    ledger: &'a LedgerPlan,
    offers: Sheet,
    words: Sheet,
    roots: Sheet,
    /// Owner, stream, department and subscription to what was delivered.
    delivered: BTreeMap<[String; 4], Delivered>,
    sums: BTreeMap<&'static str, u64>,
}

/// A report.
pub(super) struct Done {
    pub(super) sums: Vec<(&'static str, u64)>,
    pub(super) sheets: Vec<Sheet>,
}

/// The sums in the order in which they are told.
const SUMS: [&str; 23] = [
    "offered",
    "changed",
    "withdrawn",
    "asked",
    "granted",
    "refused",
    "asked again",
    "waiting",
    "answered in time",
    "answered late",
    "overdue",
    "suspended",
    "revoked",
    "recalled",
    "rows recalled",
    "rows emptied or masked by a narrower grant",
    "rows removed by a narrower grant",
    "corrections asked",
    "corrections answered",
    "changes judged",
    "rows written",
    "deletes sent",
    "receipts that do not fit",
];

impl<'a> Report<'a> {
    pub(super) fn new(
        department: Option<&'a str>,
        span: Span,
        plan: &'a Plan,
        ledger: &'a LedgerPlan,
    ) -> Self {
        Self {
            department,
            span,
            plan,
            ledger,
            offers: Sheet::new("offers", &["day", "owner", "stream", "act", "sharing", "columns"]),
            words: Sheet::new(
                "grants",
                &[
                    "day",
                    "owner",
                    "stream",
                    "department",
                    "subscription",
                    "act",
                    "columns",
                    "rows",
                    "masks",
                    "until",
                    "reason",
                    "record",
                ],
            ),
            roots: Sheet::new("roots", &["day", "owner", "receipts", "record"]),
            delivered: BTreeMap::new(),
            sums: SUMS.iter().map(|name| (*name, 0)).collect(),
        }
    }

    fn day(&self, at_us: i64) -> Date {
        let at = Timestamp::from_microsecond(at_us).unwrap_or_default();
        at.to_zoned_datetime(self.plan.bus.zone.clone()).date()
    }

    fn concerns(&self, departments: &[&str]) -> bool {
        self.department.is_none_or(|own| departments.contains(&own))
    }

    fn add(&mut self, name: &'static str, count: u64) {
        *self.sums.entry(name).or_default() += count;
    }

    /// Takes the entries of the ledger that count.
    pub(super) fn entries(&mut self, reading: &Reading) {
        for (at, (_, taken)) in reading.kept.iter().flatten().enumerate() {
            if let Taken::Entry { entry, .. } = taken
                && self.span.holds(self.day(entry.at_us))
            {
                self.entry(&reading.book, entry, at as u64 + 1);
            }
        }
    }

    fn entry(&mut self, book: &Book, entry: &Entry, record: u64) {
        let (by, day) = (entry.department.as_str(), self.day(entry.at_us));
        match &entry.act {
            Act::Offered(offer) | Act::Changed(offer) if self.concerns(&[by]) => {
                self.add(if matches!(entry.act, Act::Offered(_)) { "offered" } else { "changed" }, 1);
                let sharing = match &offer.sharing {
                    Condition::Unconditional => "unconditional".to_owned(),
                    Condition::Conditional(words) => format!("conditional: {words}"),
                    Condition::None(law) => format!("none: {law}"),
                };
                let cells = [json!(day), json!(by), json!(offer.stream), json!(entry.act.name())];
                self.offers
                    .rows
                    .push(cells.into_iter().chain([json!(sharing), json!(offer.columns)]).collect());
            }
            Act::Withdrawn { stream } if self.concerns(&[by]) => {
                self.add("withdrawn", 1);
                let cells =
                    [json!(day), json!(by), json!(stream), json!(entry.act.name()), Json::Null, Json::Null];
                self.offers.rows.push(cells.to_vec());
            }
            Act::Approved { request, .. } => self.word(book, request, entry, record, None),
            Act::Rejected { request, reason } => self.word(book, request, entry, record, Some(reason)),
            Act::Resumed { grant }
            | Act::Narrowed { grant, .. }
            | Act::Widened { grant, .. }
            | Act::Expired { grant } => self.word(book, grant, entry, record, None),
            Act::Suspended { grant, reason } => self.word(book, grant, entry, record, Some(reason)),
            Act::Revoked { grant, reason, .. } => self.word(book, grant, entry, record, Some(reason)),
            Act::Rooted { day, receipts } if self.concerns(&[by]) => {
                let cells = [json!(day), json!(by), json!(receipts.sequence), json!(record)];
                self.roots.rows.push(cells.to_vec());
            }
            Act::Doubted(_) | Act::Corrected { .. } => self.correction(book, entry, record),
            _ => {}
        }
    }

    /// Takes a correction that was asked for, or its answer.
    fn correction(&mut self, book: &Book, entry: &Entry, record: u64) {
        let answered = match &entry.act {
            Act::Corrected { doubt, reason, .. } => Some((*doubt, reason)),
            _ => None,
        };
        let all = book.corrections();
        let of = |(digest, asked): &&(Digest, &Correction)| match answered {
            Some((doubt, _)) => *digest == doubt,
            None => asked.sequence == record,
        };
        let Some((_, asked)) = all.iter().find(of) else { return };
        if !self.concerns(&[&asked.owner, &asked.department]) {
            return;
        }
        self.add(if answered.is_some() { "corrections answered" } else { "corrections asked" }, 1);
        self.words.rows.push(vec![
            json!(self.day(entry.at_us)),
            json!(asked.owner),
            json!(asked.stream),
            json!(asked.department),
            json!(asked.subscription),
            json!(entry.act.name()),
            json!(asked.doubt.columns),
            Json::Null,
            Json::Null,
            Json::Null,
            json!(answered.map_or(&asked.doubt.reason, |(_, reason)| reason)),
            json!(record),
        ]);
    }

    /// Takes an owner's word about a request or its grant.
    fn word(&mut self, book: &Book, of: &Digest, entry: &Entry, record: u64, reason: Option<&String>) {
        let Some(asked) = book.request(of) else { return };
        let request = &asked.request;
        if !self.concerns(&[&request.owner, &asked.department]) {
            return;
        }
        match &entry.act {
            Act::Suspended { .. } => self.add("suspended", 1),
            Act::Revoked { recall, .. } => {
                self.add("revoked", 1);
                self.add("recalled", u64::from(*recall));
            }
            _ => {}
        }
        let terms = book.numbers().get(&record).map(|numbered| &numbered.terms);
        self.words.rows.push(vec![
            json!(self.day(entry.at_us)),
            json!(request.owner),
            json!(request.stream),
            json!(asked.department),
            json!(request.subscription),
            json!(entry.act.name()),
            json!(terms.map(|terms| &terms.columns)),
            json!(terms.map(Terms::rows_text)),
            json!(terms.map(|terms| &terms.masks)),
            json!(terms.and_then(|terms| terms.until)),
            json!(reason),
            json!(record),
        ]);
    }

    /// Takes the receipts of a department's streams, as far as they are of this time and of whom the report is about.
    pub(super) async fn receipts(&mut self, log: &dyn Log, book: &Book, owner: &str) -> Result<()> {
        let mut audit = Audit::new(book, owner);
        walk(log, &topic(&self.plan.bus.name, owner), |record| {
            let Some(receipt) = audit.take(record.value.as_deref()) else { return Ok(true) };
            if !self.span.holds(self.day(receipt.at_us)) || !self.concerns(&[owner, &receipt.department]) {
                return Ok(true);
            }
            let name = [owner.to_owned(), receipt.stream, receipt.department, receipt.subscription];
            if receipt.proof.is_of_recall() {
                self.add("rows recalled", receipt.deleted);
                self.delivered.entry(name).or_default().recalled += receipt.deleted;
                return Ok(true);
            }
            if receipt.proof.is_of_narrowing() {
                self.add("rows emptied or masked by a narrower grant", receipt.written);
                self.add("rows removed by a narrower grant", receipt.deleted);
                return Ok(true);
            }
            self.add("changes judged", receipt.proof.changes);
            self.add("rows written", receipt.written);
            self.add("deletes sent", receipt.deleted);
            let sum = self.delivered.entry(name).or_default();
            sum.receipts += 1;
            sum.changes += receipt.proof.changes;
            sum.written += receipt.written;
            sum.deleted += receipt.deleted;
            sum.quarantined += receipt.quarantined;
            sum.first_us = Some(sum.first_us.map_or(receipt.at_us, |first| first.min(receipt.at_us)));
            sum.last_us = sum.last_us.max(receipt.at_us);
            if !sum.grants.contains(&receipt.proof.grant) {
                sum.grants.push(receipt.proof.grant);
            }
            Ok(true)
        })
        .await?;
        // `ledger verify` says which.
        let wrong = audit.end().wrong_count;
        if self.concerns(&[owner]) {
            self.add("receipts that do not fit", wrong);
        }
        Ok(())
    }

    /// Ends it: what was asked, with what became of it until now.
    pub(super) fn end(mut self, book: &Book) -> Done {
        let head = &[
            "day",
            "department",
            "subscription",
            "owner",
            "stream",
            "purpose",
            "legal_basis",
            "columns",
            "rows",
            "masks",
            "answer",
            "answered",
            "due",
            "in_time",
            "reason",
        ];
        let mut requests = Sheet::new("requests", head);
        for (_, asked) in book.requests() {
            let concerned = self.concerns(&[&asked.request.owner, &asked.department]);
            if concerned && self.span.holds(self.day(asked.at_us)) {
                let row = self.asked(book, asked);
                requests.rows.push(row);
            }
        }
        let mut delivered = Sheet::new(
            "delivered",
            &[
                "owner",
                "stream",
                "department",
                "subscription",
                "grants",
                "receipts",
                "changes_judged",
                "rows_written",
                "deletes_sent",
                "quarantined",
                "first",
                "last",
                "recalled",
            ],
        );
        for ([owner, stream, department, subscription], sum) in &self.delivered {
            delivered.rows.push(vec![
                json!(owner),
                json!(stream),
                json!(department),
                json!(subscription),
                json!(sum.grants),
                json!(sum.receipts),
                json!(sum.changes),
                json!(sum.written),
                json!(sum.deleted),
                json!(sum.quarantined),
                json!(sum.first_us.map(|us| self.day(us))),
                json!(sum.first_us.map(|_| self.day(sum.last_us))),
                json!(sum.recalled),
            ]);
        }
        let sums = SUMS.iter().map(|name| (*name, self.sums.get(name).copied().unwrap_or(0))).collect();
        Done { sums, sheets: vec![self.offers, requests, self.words, delivered, self.roots] }
    }

    fn asked(&mut self, book: &Book, asked: &Asked) -> Vec<Json> {
        let day = self.day(asked.at_us);
        let due = self.ledger.calendar.due(day, self.ledger.answer_days);
        let (word, answered, reason) = match &asked.answer {
            None if book.is_asked_again(asked) => ("asked again", None, None),
            None => ("waits", None, None),
            Some(Answer::Approved { at_us }) => ("granted", Some(self.day(*at_us)), None),
            Some(Answer::Rejected { at_us, reason }) => ("refused", Some(self.day(*at_us)), Some(reason)),
        };
        let today = self.day(hutong_engine::status::now_us());
        let in_time = answered.map(|answered| answered <= due);
        self.add("asked", 1);
        let sum = match word {
            "granted" => "granted",
            "waits" => "waiting",
            other => other,
        };
        self.add(sum, 1);
        match in_time {
            Some(true) => self.add("answered in time", 1),
            Some(false) => self.add("answered late", 1),
            None => self.add("overdue", u64::from(word == "waits" && today > due)),
        }
        let request = &asked.request;
        vec![
            json!(day),
            json!(asked.department),
            json!(request.subscription),
            json!(request.owner),
            json!(request.stream),
            json!(request.purpose),
            json!(request.legal_basis),
            json!(request.terms.columns),
            json!(request.terms.rows_text()),
            json!(request.terms.masks),
            json!(word),
            json!(answered),
            json!(due),
            json!(in_time),
            json!(reason),
        ]
    }
}
