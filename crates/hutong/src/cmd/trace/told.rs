//! What a trace tells, as text and as JSON.

use hutong_core::Op;
use hutong_core::ledger::holding::{Arrival, Ended, Held, Holding};
use hutong_core::ledger::{Book, Numbered, Terms};
use serde_json::{Value as Json, json};

use super::super::ledger::{moment, short};
use crate::config::plan::StreamPlan;
use crate::wire::Versions;

/// What is known of one subscription.
pub(super) struct Subscriber {
    pub(super) department: String,
    pub(super) subscription: String,
    pub(super) known: Held,
    /// Whether it holds the row now; `None` when that is not known here.
    pub(super) holds: Option<bool>,
    /// How that is known, or why not.
    pub(super) because: String,
    /// Offsets of versions that it has not reached yet.
    pub(super) waiting: Vec<u64>,
    /// Where the knowledge of this subscription ends.
    pub(super) ends: Vec<String>,
}

/// What is told.
pub(super) struct Told {
    pub(super) ends: Vec<String>,
    pub(super) subscriptions: Vec<Subscriber>,
}

fn receipt(number: Option<u64>) -> String {
    number.map_or_else(|| "a receipt that is not published yet".into(), |number| format!("receipt {number}"))
}

fn columns(terms: &Terms) -> String {
    let one = |column: &String| match terms.masks.get(column) {
        Some(mask) => format!("{column} (masked by {mask})"),
        None => column.clone(),
    };
    terms.columns.iter().map(one).collect::<Vec<_>>().join(", ")
}

impl Told {
    pub(super) fn print(&self, book: &Book, stream: &StreamPlan, key: &[String], versions: &Versions) {
        let rows = versions.changes.iter().filter(|(_, change)| change.op != Op::Truncate).count();
        println!("{}.{} {}: {rows} versions in the topic", stream.owner, stream.name, key.join(" "));
        for one in &self.subscriptions {
            println!("{} {}", one.department, one.subscription);
            for holding in &one.known.holdings {
                one.print(book, holding);
            }
            let word = match one.holds {
                Some(true) => "holds it now",
                Some(false) => "does not hold it",
                None => "may hold it",
            };
            println!("  {word}: {}", one.because);
            if !one.waiting.is_empty() {
                let offsets: Vec<String> = one.waiting.iter().map(u64::to_string).collect();
                println!("  not delivered yet: offset {}", offsets.join(", "));
            }
            one.ends.iter().for_each(|end| println!("  known only so far: {end}"));
        }
        if self.subscriptions.is_empty() {
            println!("no subscription is known to have held it");
        }
        self.ends.iter().for_each(|end| println!("known only so far: {end}"));
    }

    pub(super) fn json(&self, book: &Book, stream: &StreamPlan, key: &[String], versions: &Versions) -> Json {
        let offsets: Vec<Json> = versions
            .changes
            .iter()
            .map(|(offset, change)| {
                json!({ "offset": offset, "op": change.op.letter(), "committed_us": change.origin.committed_us })
            })
            .collect();
        json!({
            "owner": stream.owner, "stream": stream.name, "key": key, "topic": stream.topic(),
            "partition": versions.partition, "versions": offsets,
            "subscriptions": self.subscriptions.iter().map(|one| one.json(book)).collect::<Vec<_>>(),
            "known_only_so_far": self.ends,
        })
    }
}

impl Subscriber {
    fn print(&self, book: &Book, holding: &Holding) {
        let arrival = |at: &Arrival| {
            format!("{} (offset {}, {})", moment(at.by.at_us), at.offset, receipt(at.by.receipt))
        };
        let end = match &holding.ended {
            None => format!("; the last version came {}", arrival(&holding.last)),
            Some(Ended::Left(at)) => format!(" to {}: it was deleted, or left what is granted", arrival(at)),
            Some(Ended::Anew(by)) => {
                format!(
                    " until before {} ({}): its replica was filled anew under grant {}",
                    moment(by.at_us),
                    receipt(by.receipt),
                    by.grant
                )
            }
            Some(Ended::Narrowed(by)) => {
                let (at, receipt) = (moment(by.at_us), receipt(by.receipt));
                format!(
                    " until {at} ({receipt}): grant {} lets it through no more, and it was removed",
                    by.grant
                )
            }
            Some(Ended::Recalled(by)) => {
                format!(" until {} ({}): it was recalled", moment(by.at_us), receipt(by.receipt))
            }
        };
        println!("  held from {}{end}", arrival(&holding.since));
        for number in &holding.grants {
            let (Some(numbered), Some(asked)) = (book.numbers().get(number), book.numbered(*number)) else {
                continue;
            };
            let Numbered { act, at_us, terms, request } = numbered;
            println!(
                "    grant {number} ({act} {}, request {}) for {}: {}",
                moment(*at_us),
                short(request),
                asked.request.purpose,
                columns(terms)
            );
        }
    }

    fn json(&self, book: &Book) -> Json {
        let arrival =
            |at: &Arrival| json!({ "at_us": at.by.at_us, "offset": at.offset, "receipt": at.by.receipt });
        let grant = |number: &u64| {
            let numbered = book.numbers().get(number);
            json!({
                "number": number, "act": numbered.map(|n| n.act), "at_us": numbered.map(|n| n.at_us),
                "request": numbered.map(|n| n.request), "terms": numbered.map(|n| &n.terms),
            })
        };
        let holding = |holding: &Holding| {
            let ended = match &holding.ended {
                None => Json::Null,
                Some(Ended::Left(at)) => json!({ "left": arrival(at) }),
                Some(Ended::Anew(by)) => {
                    json!({ "anew": { "before_us": by.at_us, "receipt": by.receipt, "grant": by.grant } })
                }
                Some(Ended::Narrowed(by)) => {
                    json!({ "narrowed": { "at_us": by.at_us, "receipt": by.receipt, "grant": by.grant } })
                }
                Some(Ended::Recalled(by)) => {
                    json!({ "recalled": { "at_us": by.at_us, "receipt": by.receipt, "grant": by.grant } })
                }
            };
            json!({
                "grants": holding.grants.iter().map(grant).collect::<Vec<_>>(),
                "since": arrival(&holding.since), "last": arrival(&holding.last), "ended": ended,
            })
        };
        json!({
            "department": self.department, "subscription": self.subscription, "holds": self.holds,
            "because": self.because, "waiting": self.waiting, "known_only_so_far": self.ends,
            "holdings": self.known.holdings.iter().map(holding).collect::<Vec<_>>(),
        })
    }
}
