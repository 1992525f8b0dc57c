//! `hutong subscription request`, `approve` and what follows: each shown first, then signed and written.

use std::path::Path;

use hutong_core::ledger::{Act, Answer, Asked, Book, Digest, Granted, Request, State, Terms};
use hutong_core::{Error, ErrorKind, Result};

use super::preview::Look;
use super::words::{Less, Permission, Which};
use super::{list, preview};
use crate::cmd::check;
use crate::config::Plan;
use crate::exit::Exit;
use crate::ledger::{Reading, asked, compiled, contracts, linked, private_key};
use crate::moment::today;

pub(in crate::cmd) async fn run(config: &Path, action: Permission) -> Result<Exit> {
    let plan = check::load(config)?;
    let ledger = super::plan(&plan)?;
    let reading = super::look(&plan, false).await?;
    let book = &reading.book;
    match action {
        Permission::List { output } => list::print(&plan, ledger, book, output),
        Permission::Show { which } => show(&plan, book, &which).await,
        Permission::Request { which } => request(&plan, &reading, &which).await,
        Permission::Approve { which, less } => {
            let (digest, waiting) = waiting(book, &which)?;
            let terms = narrower(&waiting.request.terms, &less)?;
            let narrower = (terms != waiting.request.terms).then(|| terms.clone());
            let act = Act::Approved { request: digest, narrower };
            let done = format!("{} is granted", which.name);
            sign(&plan, &reading, &which, (digest, terms), act, done).await
        }
        Permission::Reject { which, reason } => {
            let (digest, waiting) = waiting(book, &which)?;
            let terms = waiting.request.terms.clone();
            let act = Act::Rejected { request: digest, reason };
            sign(&plan, &reading, &which, (digest, terms), act, format!("{} is refused", which.name)).await
        }
        Permission::Suspend { which, reason } => {
            let held = held(book, &which)?;
            let act = Act::Suspended { grant: held.request, reason };
            let done = format!("{} is suspended: nothing flows, the replica stays", which.name);
            sign(&plan, &reading, &which, of(held), act, done).await
        }
        Permission::Resume { which, .. } => {
            let held = held(book, &which)?;
            let act = Act::Resumed { grant: held.request };
            sign(&plan, &reading, &which, of(held), act, format!("{} flows again", which.name)).await
        }
        Permission::Narrow { which, less } => {
            let held = held(book, &which)?;
            let terms = narrower(&held.terms, &less)?;
            changed(&held.terms, &terms)?;
            let done = format!("{} is narrowed: {}", which.name, preview::difference(&held.terms, &terms));
            let act = Act::Narrowed { grant: held.request, terms: terms.clone() };
            sign(&plan, &reading, &which, (held.request, terms), act, done).await
        }
        Permission::Widen { which, with, until } => {
            let held = held(book, &which)?;
            let terms = wider(book, held, &with, until)?;
            changed(&held.terms, &terms)?;
            let done = format!("{} is widened: {}", which.name, preview::difference(&held.terms, &terms));
            let act = Act::Widened { grant: held.request, terms: terms.clone() };
            sign(&plan, &reading, &which, (held.request, terms), act, done).await
        }
        Permission::Revoke { which, reason, recall } => {
            let held = held(book, &which)?;
            let act = Act::Revoked { grant: held.request, recall, reason };
            let rows = if recall { "the rows of the replica are deleted" } else { "the replica stays" };
            sign(&plan, &reading, &which, of(held), act, format!("{} is revoked: {rows}", which.name)).await
        }
    }
}

/// States whether the owner has suspended the grant of a subscription.
pub(in crate::cmd) async fn is_suspended(plan: &Plan, which: &Which) -> Result<bool> {
    let book = super::read(plan, false).await?.book;
    Ok(held(&book, which).is_ok_and(|held| matches!(held.state, State::Suspended(_))))
}

fn of(held: &Granted) -> (Digest, Terms) {
    (held.request, held.terms.clone())
}

fn changed(before: &Terms, after: &Terms) -> Result<()> {
    if before == after {
        return Err(Error::new(ErrorKind::Config, "change the grant", "it would stay as it is"));
    }
    Ok(())
}

/// Shows what it is, and writes it unless it is only looked at.
async fn sign(
    plan: &Plan,
    reading: &Reading,
    which: &Which,
    (request, terms): (Digest, Terms),
    act: Act,
    done: String,
) -> Result<Exit> {
    let book = &reading.book;
    let Some(asked) = book.request(&request) else {
        return Err(Error::new(ErrorKind::Broken, "find the request", "the ledger holds none"));
    };
    preview::print(plan, book, &asked.department, &asked.request, &terms);
    let grants = matches!(act, Act::Approved { .. } | Act::Narrowed { .. } | Act::Widened { .. });
    if grants {
        compiled(plan, &asked.department, &asked.request, &terms)?;
    }
    // A narrowing to a day that is over ends the grant, as its owner says; it may be widened again.
    if grants && !matches!(act, Act::Narrowed { .. }) {
        lasting(plan, &asked.request, &terms)?;
    }
    let sample = grants && is_owner(plan, &asked.request);
    let look = Look { count: which.count, sample };
    preview::rows(plan, (&asked.department, &asked.request), &terms, look).await?;
    if matches!(act, Act::Approved { .. } | Act::Widened { .. }) {
        let hint = "grant less: --without COLUMN, --mask COLUMN=MASK; or recall the other";
        alone(
            plan,
            book,
            (&asked.department, &asked.request),
            &terms,
            &format!("grant {}", which.name),
            hint,
        )?;
    }
    // What would not count is no preview either.
    reading.draft(&asked.request.owner, act.clone())?;
    if which.preview {
        return Ok(Exit::Done);
    }
    super::say(plan, &asked.request.owner, act).await?;
    println!("{done}");
    Ok(Exit::Done)
}

/// Refuses a grant that would be over as it begins.
fn lasting(plan: &Plan, request: &Request, terms: &Terms) -> Result<()> {
    let today = today(&plan.bus.zone);
    match terms.until {
        Some(until) if until < today => {
            let doing = format!("grant {} until {until}", request.subscription);
            Err(Error::new(ErrorKind::Config, doing, "that day is over")
                .hint("a later day; `hutong subscription revoke` ends a grant at once"))
        }
        _ => Ok(()),
    }
}

/// Refuses what gives more away together with another grant of the same subscriber, and says which. Where a contract is
/// not known here, the lanes ask again.
fn alone(
    plan: &Plan,
    book: &Book,
    (department, request): (&str, &Request),
    terms: &Terms,
    doing: &str,
    hint: &str,
) -> Result<()> {
    let (own, stream) = ((department, request.subscription.as_str()), (&*request.owner, &*request.stream));
    match linked(book, &contracts(plan), own, stream, terms)? {
        Some(why) => Err(Error::new(ErrorKind::Denied, doing, why).hint(hint)),
        None => Ok(()),
    }
}

async fn request(plan: &Plan, reading: &Reading, which: &Which) -> Result<Exit> {
    let book = &reading.book;
    let name = &which.name;
    let Some(subscription) = plan.subscriptions.iter().find(|s| s.name == *name) else {
        let why = "the configuration has no such subscription";
        return Err(Error::new(ErrorKind::Config, format!("ask for {name}"), why));
    };
    let (department, request) = (&subscription.department, asked(subscription));
    preview::print(plan, book, department, &request, &request.terms);
    compiled(plan, department, &request, &request.terms)?;
    lasting(plan, &request, &request.terms)?;
    let look = Look { count: which.count, sample: false };
    preview::rows(plan, (department, &request), &request.terms, look).await?;
    let hint = "ask for less, or mask one of them otherwise: `mask = { COLUMN = \"id_short\" }`";
    alone(plan, book, (department, &request), &request.terms, &format!("ask for {name}"), hint)?;
    let act = Act::Requested(request);
    reading.draft(department, act.clone())?;
    if which.preview {
        return Ok(Exit::Done);
    }
    let digest = super::say(plan, department, act).await?;
    let after = super::read(plan, false).await?.book;
    match after.request(&digest).map(|asked| asked.answer.is_some()) {
        Some(true) => println!("{name} is granted at once: the stream is shared unconditionally"),
        _ => println!("{name} is asked for: request {}", super::short(&digest)),
    }
    Ok(Exit::Done)
}

async fn show(plan: &Plan, book: &Book, which: &Which) -> Result<Exit> {
    let mut any = false;
    for (digest, asked) in book.requests().into_iter().filter(|(_, asked)| is(asked, which)) {
        any = true;
        let granted = book.grants().into_iter().find(|granted| granted.request == digest);
        let terms = granted.map_or(&asked.request.terms, |granted| &granted.terms);
        println!("request {digest}, {}", super::moment(asked.at_us));
        preview::print(plan, book, &asked.department, &asked.request, terms);
        let look = Look { count: which.count, sample: is_owner(plan, &asked.request) };
        if let Err(problem) = preview::rows(plan, (&asked.department, &asked.request), terms, look).await {
            // One that nobody can deliver keeps the others from nobody.
            println!("  rows         not counted: {problem}");
        }
        match granted {
            Some(granted) => {
                println!("  grant        number {}, {}", granted.number, state(&granted.state));
                let less = preview::difference(&asked.request.terms, terms);
                if !less.is_empty() {
                    println!("  not as asked {less}");
                }
            }
            None if book.is_asked_again(asked) => println!("  answer       none: it was asked for again"),
            None => println!("  answer       {}", answer(asked)),
        }
    }
    if any { Ok(Exit::Done) } else { Err(nothing(&which.name, "the ledger holds no request of that name")) }
}

fn state(state: &State) -> String {
    match state {
        State::Active => "active".into(),
        State::Suspended(reason) => format!("suspended: {reason}"),
        State::Revoked { recall: false, reason } => format!("revoked, the replica stays: {reason}"),
        State::Revoked { recall: true, reason } => format!("revoked, the rows are deleted: {reason}"),
        State::Expired => "expired".into(),
        State::Replaced => "replaced by a later one".into(),
    }
}

fn answer(asked: &Asked) -> String {
    match &asked.answer {
        None => format!("waits for `{}`", asked.request.owner),
        Some(Answer::Approved { at_us }) => format!("approved {}", super::moment(*at_us)),
        Some(Answer::Rejected { at_us, reason }) => format!("rejected {}: {reason}", super::moment(*at_us)),
    }
}

/// States whether the owner of the stream acts here: it has the key.
fn is_owner(plan: &Plan, request: &Request) -> bool {
    plan.ledger.as_ref().is_some_and(|ledger| private_key(ledger, &request.owner).is_ok())
}

fn nothing(name: &str, why: &str) -> Error {
    Error::new(ErrorKind::Config, format!("find the subscription {name}"), why)
        .hint("`hutong subscription list` lists what was asked for")
}

fn is(asked: &Asked, which: &Which) -> bool {
    asked.request.subscription == which.name
        && which.department.as_ref().is_none_or(|department| *department == asked.department)
}

/// Finds the request that waits for an answer: the last of that name.
fn waiting<'a>(book: &'a Book, which: &Which) -> Result<(Digest, &'a Asked)> {
    let requests = book.requests();
    let waits = |asked: &Asked| asked.answer.is_none() && !book.is_asked_again(asked);
    let all: Vec<_> = requests.into_iter().filter(|(_, asked)| is(asked, which) && waits(asked)).collect();
    one(which, all.iter().map(|(_, asked)| asked.department.as_str()))?;
    all.last().copied().ok_or_else(|| nothing(&which.name, "no request of that name waits for an answer"))
}

/// Finds the grant of that name.
fn held<'a>(book: &'a Book, which: &Which) -> Result<&'a Granted> {
    let of_name = |granted: &&Granted| {
        granted.subscription == which.name
            && granted.state != State::Replaced
            && which.department.as_ref().is_none_or(|department| *department == granted.department)
    };
    let all: Vec<&Granted> = book.grants().into_iter().filter(of_name).collect();
    one(which, all.iter().map(|granted| granted.department.as_str()))?;
    all.last().copied().ok_or_else(|| nothing(&which.name, "nothing of that name was granted"))
}

fn one<'a>(which: &Which, departments: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut departments: Vec<&str> = departments.collect();
    departments.sort_unstable();
    departments.dedup();
    if departments.len() > 1 {
        let why = format!("{} have one of that name", departments.join(" and "));
        return Err(nothing(&which.name, &why).hint("name one with --department"));
    }
    Ok(())
}

/// Returns the terms with less.
fn narrower(terms: &Terms, less: &Less) -> Result<Terms> {
    let mut terms = terms.clone();
    let config = |why: String| Error::new(ErrorKind::Config, "narrow the terms", why);
    for column in &less.without {
        let before = terms.columns.len();
        terms.columns.retain(|other| other != column);
        terms.masks.remove(column);
        if terms.columns.len() == before {
            return Err(config(format!("there is no column `{column}` in them")));
        }
    }
    terms.rows.extend(less.rows.iter().map(|rows| rows.trim().to_owned()));
    for mask in &less.mask {
        let Some((column, word)) =
            mask.split_once('=').filter(|(column, _)| terms.columns.iter().any(|c| c == column))
        else {
            return Err(config(format!("`{mask}` is not COLUMN=MASK of a column in them")));
        };
        hutong_core::Mask::parse(word).map_err(config)?;
        terms.masks.insert(column.to_owned(), word.to_owned());
    }
    if less.until.is_some() {
        terms.until = less.until;
    }
    Ok(terms)
}

/// Returns the terms with what was asked for and is not granted: all of it, or what is named.
fn wider(book: &Book, held: &Granted, with: &[String], until: Option<jiff::civil::Date>) -> Result<Terms> {
    let config = |why: String| Error::new(ErrorKind::Config, "widen the terms", why);
    let asked = book.request(&held.request).ok_or_else(|| config("its request is not known".into()))?;
    let asked = &asked.request.terms;
    if with.is_empty() && until.is_none() {
        return Ok(asked.clone());
    }
    let mut terms = held.terms.clone();
    for column in with {
        if !asked.columns.contains(column) {
            return Err(config(format!("`{column}` was not asked for")));
        }
        if !terms.columns.contains(column) {
            terms.columns.push(column.clone());
            if let Some(mask) = asked.masks.get(column) {
                terms.masks.insert(column.clone(), mask.clone());
            }
        }
    }
    terms.until = until.or(terms.until);
    Ok(terms)
}
