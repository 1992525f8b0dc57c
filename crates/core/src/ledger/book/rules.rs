//! The rules: who may say what, and what follows from it. Nothing changes unless everything fits.

use super::super::act::{Act, Condition, Offer, Request};
use super::super::entry::Entry;
use super::super::head::Digest;
use super::super::key::PublicKey;
use super::super::terms::Terms;
use super::{Answer, Asked, Book, Fault, Granted, Member, Numbered, Offered, Root, State};

pub(super) type Ruled = Result<(), Fault>;

pub(super) fn refuse<T>(why: impl Into<String>) -> Result<T, Fault> {
    Err(("refused", why.into()))
}

impl Book {
    /// Takes an entry whose signature and history are verified.
    pub(super) fn enter(&mut self, entry: &Entry, digest: Digest, sequence: u64) -> Ruled {
        let by = entry.department.as_str();
        match &entry.act {
            Act::Joined { department, key } => self.keyed(by, department, key, false, sequence),
            Act::Rekeyed { department, key } => self.keyed(by, department, key, true, sequence),
            Act::Offered(offer) => self.offered(by, offer, false, sequence),
            Act::Changed(offer) => self.offered(by, offer, true, sequence),
            Act::Withdrawn { stream } => match self.offers.get_mut(&(by.to_owned(), stream.clone())) {
                Some(offered) if !offered.withdrawn => {
                    (offered.withdrawn, offered.since) = (true, sequence);
                    self.over(by, stream, entry.at_us, sequence);
                    Ok(())
                }
                _ => refuse(format!("`{by}` does not offer `{stream}`")),
            },
            Act::Requested(request) => self.requested(entry, request, digest, sequence),
            Act::Approved { request, narrower } => {
                let asked = self.waiting(by, request)?;
                let terms = match narrower {
                    None => asked.request.terms.clone(),
                    Some(terms) => {
                        within(terms, &asked.request.terms)?;
                        terms.clone()
                    }
                };
                let at_us = entry.at_us.max(asked.at_us);
                self.answer(request, Answer::Approved { at_us });
                self.grant(*request, terms, entry, sequence);
                Ok(())
            }
            Act::Rejected { request, reason } => {
                let at_us = entry.at_us.max(self.waiting(by, request)?.at_us);
                said(reason)?;
                self.answer(request, Answer::Rejected { at_us, reason: reason.clone() });
                Ok(())
            }
            Act::Suspended { grant, reason } => {
                said(reason)?;
                match self.held(by, grant)?.state {
                    State::Active => {
                        self.becomes(grant, State::Suspended(reason.clone()), entry.at_us, sequence)
                    }
                    _ => refuse("the grant is not active"),
                }
            }
            Act::Resumed { grant } => match self.held(by, grant)?.state {
                State::Suspended(_) => self.becomes(grant, State::Active, entry.at_us, sequence),
                _ => refuse("the grant is not suspended"),
            },
            Act::Narrowed { grant, terms } => {
                within(terms, &self.living(by, grant)?.terms)?;
                self.becomes_of(grant, terms, entry, sequence)
            }
            Act::Widened { grant, terms } => {
                let held = self.living(by, grant)?;
                if let Some(why) = held.terms.exceed(terms) {
                    return refuse(format!("it is not wider than what is granted: {why}"));
                }
                match self.requests.get(grant) {
                    Some(asked) => within(terms, &asked.request.terms)?,
                    None => return refuse("its request is not known"),
                }
                self.becomes_of(grant, terms, entry, sequence)
            }
            Act::Revoked { grant, recall, reason } => {
                said(reason)?;
                match &self.held(by, grant)?.state {
                    State::Replaced => refuse("a later grant has taken its place"),
                    State::Revoked { recall: true, .. } => refuse("it was revoked and recalled already"),
                    // What is over may still be recalled.
                    State::Revoked { .. } | State::Expired if !recall => refuse("it is over already"),
                    _ => {
                        let state = State::Revoked { recall: *recall, reason: reason.clone() };
                        self.becomes(grant, state, entry.at_us, sequence)
                    }
                }
            }
            Act::Expired { grant } => {
                self.living(by, grant)?;
                self.becomes(grant, State::Expired, entry.at_us, sequence)
            }
            Act::Doubted(doubt) => self.doubted(entry, doubt, digest, sequence),
            Act::Corrected { doubt, accepted, reason } => self.corrected(entry, doubt, *accepted, reason),
            Act::Rooted { day, receipts } => {
                self.rooted_by(by, Root { day: *day, receipts: *receipts, since: sequence })
            }
        }
    }

    /// Takes a root: days and receipts only go on. Two processes may say the same, which is no fault of either.
    fn rooted_by(&mut self, by: &str, root: Root) -> Ruled {
        let roots = self.roots.entry(by.to_owned()).or_default();
        match roots.last() {
            Some(last) if root.day < last.day => return refuse(format!("{} is rooted already", last.day)),
            Some(last) if root.receipts.sequence < last.receipts.sequence => {
                return refuse(format!("{} receipts are rooted already", last.receipts.sequence));
            }
            Some(last) if root.receipts.sequence == last.receipts.sequence => {
                if root.receipts != last.receipts {
                    return refuse(format!("another root of the first {} stands", last.receipts.sequence));
                }
                return Ok(());
            }
            _ if root.receipts.sequence == 0 => return refuse("there is no receipt to root"),
            _ => {}
        }
        roots.push(root);
        Ok(())
    }

    fn keyed(&mut self, by: &str, department: &str, key: &str, again: bool, sequence: u64) -> Ruled {
        let governing = &self.charter.governing;
        if by != governing {
            let why = format!("only `{governing}` may say who takes part, and `{by}` signed it");
            return Err(("wrong_department", why));
        }
        let key = PublicKey::parse(key).map_err(|error| ("malformed", error.why()))?;
        match (self.members.contains_key(department), again) {
            (true, false) => return refuse(format!("`{department}` has joined already")),
            (false, true) => return refuse(format!("`{department}` has not joined")),
            _ => {}
        }
        self.members.insert(department.to_owned(), Member { key, since: sequence });
        Ok(())
    }

    fn offered(&mut self, by: &str, offer: &Offer, again: bool, sequence: u64) -> Ruled {
        let name = (by.to_owned(), offer.stream.clone());
        let stands = self.offers.get(&name).is_some_and(|offered| !offered.withdrawn);
        match (stands, again) {
            (true, false) => return refuse(format!("`{by}` offers `{}` already", offer.stream)),
            (false, true) => return refuse(format!("`{by}` does not offer `{}`", offer.stream)),
            _ => {}
        }
        self.offers.insert(name, Offered { offer: offer.clone(), since: sequence, withdrawn: false });
        Ok(())
    }

    fn requested(&mut self, entry: &Entry, request: &Request, digest: Digest, sequence: u64) -> Ruled {
        let name = (request.owner.clone(), request.stream.clone());
        let Some(Offered { offer, withdrawn: false, .. }) = self.offers.get(&name) else {
            return refuse(format!("`{}` does not offer `{}`", request.owner, request.stream));
        };
        let open = match &offer.sharing {
            Condition::None(law) => return refuse(format!("`{}` is not shared: {law}", request.stream)),
            Condition::Conditional(_) => false,
            Condition::Unconditional => true,
        };
        if request.terms.columns.is_empty() {
            return refuse("it asks for no column");
        }
        if let Some(column) = request.terms.columns.iter().find(|column| !offer.columns.contains(column)) {
            return refuse(format!("column `{column}` is not offered"));
        }
        if request.purpose.trim().is_empty() || (!open && request.legal_basis.trim().is_empty()) {
            return refuse("it has no purpose or no legal basis");
        }
        // What is granted at once is recorded all the same. Asking again is no way around the owner's own word.
        let open = open && !self.held_back(&entry.department, request);
        let name = [&entry.department, &request.subscription, &request.owner, &request.stream];
        self.last.insert(name.map(Clone::clone), sequence);
        let answer = open.then_some(Answer::Approved { at_us: entry.at_us });
        let asked = Asked {
            department: entry.department.clone(),
            request: request.clone(),
            sequence,
            at_us: entry.at_us,
            answer,
        };
        self.requests.insert(digest, asked);
        if open {
            self.grant(digest, request.terms.clone(), entry, sequence);
        }
        Ok(())
    }

    /// States whether the owner has suspended, narrowed or revoked what this department holds of a stream.
    fn held_back(&self, department: &str, request: &Request) -> bool {
        self.grants.values().any(|held| {
            let same = held.department == department
                && (&held.owner, &held.stream) == (&request.owner, &request.stream);
            let narrowed =
                self.requests.get(&held.request).is_none_or(|asked| asked.request.terms != held.terms);
            same && (narrowed || matches!(held.state, State::Suspended(_) | State::Revoked { .. }))
        })
    }

    /// Makes the grant of a request that was answered; it takes the place of the subscription's last one.
    /// The entry is its owner's answer, or the request itself, which needs none.
    fn grant(&mut self, request: Digest, terms: Terms, entry: &Entry, sequence: u64) {
        let Some(asked) = self.requests.get(&request) else { return };
        let Request { subscription, owner, stream, .. } = &asked.request;
        let name = [&asked.department, subscription, owner, stream].map(Clone::clone);
        self.numbers.insert(sequence, numbered(request, &terms, entry));
        let granted = Granted {
            number: sequence,
            request,
            department: asked.department.clone(),
            subscription: subscription.clone(),
            owner: owner.clone(),
            stream: stream.clone(),
            terms,
            state: State::Active,
            since: sequence,
            since_us: entry.at_us,
            by_owner: !matches!(entry.act, Act::Requested(_)),
        };
        if let Some(last) = self.current.insert(name, request)
            && let Some(last) = self.grants.get_mut(&last)
        {
            (last.state, last.since, last.since_us) = (State::Replaced, sequence, entry.at_us);
        }
        self.grants.insert(request, granted);
    }

    /// Ends the grants of a stream that its owner withdraws: a later offer of it is another one.
    fn over(&mut self, owner: &str, stream: &str, at_us: i64, sequence: u64) {
        let of_it = |held: &&mut Granted| (held.owner.as_str(), held.stream.as_str()) == (owner, stream);
        for held in self.grants.values_mut().filter(of_it) {
            if matches!(held.state, State::Active | State::Suspended(_)) {
                let reason = "the stream was withdrawn".to_owned();
                held.state = State::Revoked { recall: false, reason };
                (held.since, held.since_us) = (sequence, at_us);
            }
        }
    }

    /// Finds a request that waits for this department's answer.
    fn waiting(&self, by: &str, request: &Digest) -> Result<&Asked, Fault> {
        let Some(asked) = self.requests.get(request) else {
            return refuse(format!("there is no request {request} before it"));
        };
        owns(by, &asked.request.owner)?;
        match asked.answer {
            None => Ok(asked),
            Some(_) => refuse(format!("request {request} was answered already")),
        }
    }

    /// Finds a grant of a stream that this department owns.
    fn held(&self, by: &str, grant: &Digest) -> Result<&Granted, Fault> {
        let Some(granted) = self.grants.get(grant) else {
            return refuse(format!("there is no grant of request {grant} before it"));
        };
        owns(by, &granted.owner)?;
        Ok(granted)
    }

    /// Finds a grant that is not over.
    fn living(&self, by: &str, grant: &Digest) -> Result<&Granted, Fault> {
        let granted = self.held(by, grant)?;
        match granted.state {
            State::Active | State::Suspended(_) => Ok(granted),
            _ => refuse("the grant is over"),
        }
    }

    fn answer(&mut self, request: &Digest, answer: Answer) {
        if let Some(asked) = self.requests.get_mut(request) {
            asked.answer = Some(answer);
        }
    }

    fn becomes(&mut self, grant: &Digest, state: State, at_us: i64, sequence: u64) -> Ruled {
        if let Some(granted) = self.grants.get_mut(grant) {
            (granted.state, granted.since, granted.since_us) = (state, sequence, at_us);
        }
        Ok(())
    }

    fn becomes_of(&mut self, grant: &Digest, terms: &Terms, entry: &Entry, sequence: u64) -> Ruled {
        if let Some(granted) = self.grants.get_mut(grant) {
            (granted.terms, granted.number, granted.by_owner) = (terms.clone(), sequence, true);
            self.numbers.insert(sequence, numbered(*grant, terms, entry));
        }
        Ok(())
    }
}

fn numbered(request: Digest, terms: &Terms, entry: &Entry) -> Numbered {
    Numbered { request, terms: terms.clone(), at_us: entry.at_us, act: entry.act.name() }
}

pub(super) fn owns(by: &str, owner: &str) -> Ruled {
    if by == owner {
        return Ok(());
    }
    Err(("wrong_department", format!("only `{owner}`, whose stream it is, may say it, and `{by}` signed it")))
}

fn within(terms: &Terms, wider: &Terms) -> Ruled {
    if terms.columns.is_empty() {
        return refuse("it grants no column");
    }
    match terms.exceed(wider) {
        Some(why) => refuse(why),
        None => Ok(()),
    }
}

pub(super) fn said(reason: &str) -> Ruled {
    if reason.trim().is_empty() { refuse("it gives no reason") } else { Ok(()) }
}
