//! Corrections: a department that was given something wrong asks the owner of the stream to look, and the owner answers.

use super::super::act::Doubt;
use super::super::entry::Entry;
use super::super::head::Digest;
use super::rules::{Ruled, owns, refuse, said};
use super::{Book, Granted, State};

/// A doubt about what was delivered, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Correction {
    /// Who asks.
    pub department: String,
    /// The subscription under which it was delivered.
    pub subscription: String,
    /// Who owns the stream, and answers.
    pub owner: String,
    /// The stream.
    pub stream: String,
    /// What is doubted.
    pub doubt: Doubt,
    /// The record.
    pub sequence: u64,
    /// When, by the asking department's clock, microseconds since 1970 UTC.
    pub at_us: i64,
    /// The answer; `None` while it waits for one.
    pub answer: Option<Corrected>,
}

/// What the owner has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corrected {
    /// When, by the owner's clock, microseconds since 1970 UTC.
    pub at_us: i64,
    /// Whether it was wrong, and is corrected at the source, from where it flows.
    pub accepted: bool,
    /// What was found.
    pub reason: String,
}

impl Book {
    /// Returns every correction that was asked for, with its digest, in their order.
    pub fn corrections(&self) -> Vec<(Digest, &Correction)> {
        let mut all: Vec<_> = self.corrections.iter().map(|(digest, one)| (*digest, one)).collect();
        all.sort_by_key(|(_, one)| one.sequence);
        all
    }

    /// Takes a doubt: only of who holds the grant, about columns that were granted, and not of what was recalled.
    pub(super) fn doubted(&mut self, entry: &Entry, doubt: &Doubt, digest: Digest, sequence: u64) -> Ruled {
        let Some(Granted { department, subscription, owner, stream, state, .. }) =
            self.grants.get(&doubt.grant)
        else {
            return refuse(format!("there is no grant of request {} before it", doubt.grant));
        };
        if *department != entry.department {
            let why = format!("only `{department}`, to whom it was delivered, may doubt it");
            return Err(("wrong_department", why));
        }
        if matches!(state, State::Revoked { recall: true, .. }) {
            return refuse("it was recalled: nothing of it is held any more");
        }
        said(&doubt.reason)?;
        let numbers = self.numbers.values().filter(|numbered| numbered.request == doubt.grant);
        let granted: Vec<&String> = numbers.flat_map(|numbered| &numbered.terms.columns).collect();
        if doubt.columns.is_empty() {
            return refuse("it names no column");
        }
        if let Some(column) = doubt.columns.iter().find(|column| !granted.contains(column)) {
            return refuse(format!("column `{column}` was never granted"));
        }
        let correction = Correction {
            department: department.clone(),
            subscription: subscription.clone(),
            owner: owner.clone(),
            stream: stream.clone(),
            doubt: doubt.clone(),
            sequence,
            at_us: entry.at_us,
            answer: None,
        };
        self.corrections.insert(digest, correction);
        Ok(())
    }

    /// Takes the owner's answer to a doubt.
    pub(super) fn corrected(&mut self, entry: &Entry, of: &Digest, accepted: bool, reason: &str) -> Ruled {
        said(reason)?;
        let Some(correction) = self.corrections.get_mut(of) else {
            return refuse(format!("there is no correction {of} before it"));
        };
        owns(&entry.department, &correction.owner)?;
        if correction.answer.is_some() {
            return refuse(format!("correction {of} was answered already"));
        }
        correction.answer = Some(Corrected { at_us: entry.at_us, accepted, reason: reason.to_owned() });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Act, Charter, Condition, Offer, PrivateKey, Request, Terms};

    struct Scene {
        book: Book,
        charter: Charter,
    }

    impl Scene {
        /// `renshe` holds `id` and `name` of a stream of `gongan`; one key for all departments.
        fn new() -> (Self, Digest) {
            let key = PrivateKey::new([1; 32]).public();
            let charter = Charter { id: "test".into(), governing: "gongan".into(), key: key.clone() };
            let mut scene = Self { book: Book::new(charter.clone()), charter };
            for department in ["renshe", "minzheng"] {
                let joined = Act::Joined { department: department.into(), key: key.to_string() };
                scene.says("gongan", joined).unwrap();
            }
            let columns = ["id", "name", "phone"].map(str::to_owned).to_vec();
            let offer = Offer { stream: "entry".into(), sharing: Condition::Unconditional, columns };
            scene.says("gongan", Act::Offered(offer)).unwrap();
            let terms = Terms {
                columns: vec!["id".into(), "name".into()],
                rows: Vec::new(),
                masks: Default::default(),
                until: None,
            };
            let request = Request {
                subscription: "pension".into(),
                owner: "gongan".into(),
                stream: "entry".into(),
                purpose: "p".into(),
                legal_basis: String::new(),
                terms,
                into: "share entry".into(),
            };
            let grant = scene.says("renshe", Act::Requested(request)).unwrap();
            (scene, grant)
        }

        fn says(&mut self, department: &str, act: Act) -> Result<Digest, &'static str> {
            let seen = self.book.head();
            let at_us = i64::try_from(seen.sequence).unwrap() + 1;
            let entry = Entry { department: department.into(), at_us, seen, act };
            let record = entry.sign(&self.charter, &PrivateKey::new([1; 32]));
            match self.book.read(Some(&record)).unwrap() {
                crate::ledger::Taken::Entry { digest, .. } => Ok(digest),
                crate::ledger::Taken::Skipped(skipped) => Err(skipped.rule),
            }
        }
    }

    #[test]
    fn only_who_holds_a_grant_doubts_it_and_only_the_owner_answers_and_once() {
        let (mut scene, grant) = Scene::new();
        let doubt = |columns: &[&str], reason: &str| {
            let columns = columns.iter().map(|column| (*column).to_owned()).collect();
            Act::Doubted(Doubt { grant, columns, at: Some("0/17".into()), reason: reason.into() })
        };
        assert_eq!(scene.says("minzheng", doubt(&["name"], "错字")), Err("wrong_department"));
        for refused in [doubt(&["phone"], "错字"), doubt(&[], "错字"), doubt(&["name"], " ")] {
            assert_eq!(scene.says("renshe", refused), Err("refused"));
        }
        let id = scene.says("renshe", doubt(&["name"], "错字")).unwrap();
        let answer = |accepted| Act::Corrected { doubt: id, accepted, reason: "已更正".into() };
        assert_eq!(scene.says("renshe", answer(true)), Err("wrong_department"));
        let other = Act::Corrected { doubt: grant, accepted: true, reason: "x".into() };
        assert_eq!(scene.says("gongan", other), Err("refused"), "a request is no doubt");
        assert!(scene.book.corrections()[0].1.answer.is_none());
        scene.says("gongan", answer(true)).unwrap();
        assert_eq!(scene.says("gongan", answer(false)), Err("refused"), "it was answered");
        let all = scene.book.corrections();
        let answer = all[0].1.answer.as_ref().unwrap();
        assert!(answer.accepted && answer.at_us > all[0].1.at_us, "{all:?}");

        let reason = "收回".to_owned();
        scene.says("gongan", Act::Revoked { grant, recall: true, reason }).unwrap();
        assert_eq!(
            scene.says("renshe", doubt(&["name"], "错字")),
            Err("refused"),
            "nothing is held any more"
        );
    }
}
