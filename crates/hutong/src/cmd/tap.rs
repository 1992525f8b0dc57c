//! `hutong tap`: what flows in a stream, what one department would get of it, or what stands in its delivery topic.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hutong_bus::Decoder;
use hutong_bus::log::Reader;
use hutong_core::{Change, Contract, Error, ErrorKind, Op, Result, Step, Value, Verdict};
use hutong_stores::keep::change_json;

use super::arguments::{Output, Tap};
use super::{check, ledger, raw};
use crate::config::Plan;
use crate::config::plan::{StreamPlan, SubscriptionPlan, Target};
use crate::exit::Exit;
use crate::ledger::{Ledger, Remembered, granted, in_time};
use crate::wire;

/// How long one partition is waited for before the next one is asked.
const TURN: Duration = Duration::from_millis(200);

pub(super) async fn run(config: &Path, options: &Tap) -> Result<Exit> {
    let plan = check::load(config)?;
    let stream = plan.streams.get(&options.stream).ok_or_else(|| {
        let known: Vec<&str> = plan.streams.keys().map(String::as_str).collect();
        Error::new(ErrorKind::Config, format!("tap {}", options.stream), "there is no such stream")
            .hint(format!("the streams are: {}", known.join(", ")))
    })?;
    if let Some(place) = &options.at {
        return raw::show(&plan, stream, place, options.output).await;
    }
    let subscriptions = subscriptions(&plan, stream, options.department.as_deref())?;
    let bus = wire::Bus::look(&plan.bus)?;
    if subscriptions.is_some() && plan.ledger.is_some() {
        // I5: what a cut ledger seems to grant is shown to nobody.
        let remembered = Remembered::of(&plan).await;
        let book = ledger::read(&plan, false).await?.book;
        ledger::trusted(&remembered, &book, &format!("tap {}", stream.name), false)?;
    }
    let mut sight = Sight::new(&plan, subscriptions, &bus);
    sight.look().await?;
    let (topic, contract) = match &options.delivered {
        Some(name) => delivered(&plan, &bus, stream, name).await?,
        None => (stream.topic(), Arc::clone(&stream.contract)),
    };
    let extent = bus.log().extent(&topic).await?.ok_or_else(|| missing(stream))?;
    let mut readers = Vec::new();
    for (partition, (first, end)) in extent {
        let mut reader = bus.log().reader(&topic, partition, None).await?;
        reader.seek(if options.from_start { first } else { end }).await?;
        readers.push(reader);
    }
    let mut decoder = Decoder::new(Arc::clone(bus.registry()), contract).of(&topic);
    // What is sealed is shown where the key of the stream's owner is, and nowhere else.
    decoder.unseal(wire::Seals::of(&plan).look(&bus, &plan.bus.name, stream).await?);
    let mut left = options.limit.unwrap_or(u64::MAX);
    while left > 0 {
        for reader in &mut readers {
            let changes = turn(reader, &mut decoder).await?;
            sight.look().await?;
            for change in changes {
                if left == 0 {
                    break;
                }
                if sight.show(change, options.output) {
                    left -= 1;
                }
            }
        }
    }
    Ok(Exit::Done)
}

fn missing(stream: &StreamPlan) -> Error {
    Error::new(ErrorKind::Unavailable, format!("tap {}", stream.name), "its topic does not exist yet")
        .hint("the lanes that write it make it when they start: hutong run")
}

/// Returns the newest delivery topic of a subscription, and what its rows are like.
async fn delivered(
    plan: &Plan,
    bus: &wire::Bus,
    stream: &StreamPlan,
    name: &str,
) -> Result<(String, Arc<Contract>)> {
    let mut deliveries =
        plan.subscriptions.iter().filter(|s| s.stream.name == stream.name && s.into == Target::Topic);
    let subscription = deliveries.clone().find(|s| s.name == name).ok_or_else(|| {
        let known: Vec<&str> = deliveries.by_ref().map(|s| s.name.as_str()).collect();
        let why = "no subscription of this name delivers the stream to a topic";
        Error::new(ErrorKind::Config, format!("tap {} as delivered to {name}", stream.name), why).hint(
            format!("those that do: {}", if known.is_empty() { "none".into() } else { known.join(", ") }),
        )
    })?;
    let topics = wire::generations(bus, &plan.bus.name, subscription);
    let newest = topics.newest().await?.ok_or_else(|| missing(stream))?;
    // What stands there is shown, too, when nothing more flows.
    let written = granted(plan, bus, subscription).await.unwrap_or_else(|_| subscription.clone());
    Ok((topics.topic(newest), wire::permit(&written)?.projection()))
}

/// Returns a department's subscriptions to a stream; `None` when the whole stream is looked at.
fn subscriptions<'a>(
    plan: &'a Plan,
    stream: &StreamPlan,
    department: Option<&str>,
) -> Result<Option<Vec<&'a SubscriptionPlan>>> {
    let Some(department) = department else { return Ok(None) };
    let own = |s: &&SubscriptionPlan| s.department == department && s.stream.name == stream.name;
    let subscriptions: Vec<_> = plan.subscriptions.iter().filter(own).collect();
    if subscriptions.is_empty() {
        // I5: without a subscription there is nothing to show.
        let doing = format!("tap {} as {department}", stream.name);
        return Err(Error::new(ErrorKind::Denied, doing, "this department has no subscription to it"));
    }
    Ok(Some(subscriptions))
}

/// What is let through to the department as which somebody looks; asked again while they look.
struct Sight<'a> {
    plan: &'a Plan,
    /// `None`: the whole stream is looked at.
    subscriptions: Option<Vec<&'a SubscriptionPlan>>,
    ledger: Option<Ledger>,
    /// Of each that flows: the mark of its grant, and the step that lets through just that.
    permits: Vec<(String, Box<dyn Step>)>,
    looked: Option<Instant>,
}

impl<'a> Sight<'a> {
    fn new(plan: &'a Plan, subscriptions: Option<Vec<&'a SubscriptionPlan>>, bus: &wire::Bus) -> Self {
        let ledger = plan.ledger.as_ref();
        let ledger = ledger.map(|ledger| Ledger::new(ledger, plan, Arc::clone(bus.log())));
        Self { plan, subscriptions, ledger, permits: Vec::new(), looked: None }
    }

    /// Asks what is granted, unless that was done within the last second. `Err(Denied)` when nothing is any more (I5).
    async fn look(&mut self) -> Result<()> {
        let Some(subscriptions) = &self.subscriptions else { return Ok(()) };
        if self.looked.is_some_and(|looked| looked.elapsed() < Duration::from_secs(1)) {
            return Ok(());
        }
        let (mut permits, mut denied) = (Vec::new(), None);
        for subscription in subscriptions {
            let granted = match &self.ledger {
                Some(ledger) => ledger.granted(subscription).await,
                None => Ok((*subscription).clone()),
            };
            match granted.and_then(|granted| in_time(self.plan, granted)) {
                Ok(granted) => {
                    let mark = wire::mark(&granted)?;
                    let known = self.permits.iter().position(|(known, _)| *known == mark);
                    let permit = match known {
                        Some(at) => self.permits.swap_remove(at).1,
                        None => Box::new(wire::permit(&granted)?),
                    };
                    permits.push((mark, permit));
                }
                Err(problem) if problem.kind == ErrorKind::Denied => denied = denied.or(Some(problem)),
                Err(problem) => return Err(problem),
            }
        }
        (self.permits, self.looked) = (permits, Some(Instant::now()));
        match denied {
            Some(problem) if self.permits.is_empty() => Err(problem),
            _ => Ok(()),
        }
    }

    /// Prints a change as it is, or as each permit lets it through; returns whether anything was printed.
    fn show(&mut self, change: Change, output: Output) -> bool {
        if self.subscriptions.is_none() {
            print(&change, output);
            return true;
        }
        let mut shown = false;
        for (_, permit) in &mut self.permits {
            match permit.apply(change.clone()) {
                // I5: a delete of a row that was never there is executed and not told: it names somebody outside the
                // grant.
                Verdict::Pass(passed) if change.op == Op::Read && passed.op == Op::Delete => {}
                Verdict::Pass(passed) => {
                    print(&passed, output);
                    shown = true;
                }
                Verdict::Drop { .. } => {}
                Verdict::Reject(rejected) => {
                    eprintln!("would be quarantined: {}: {}", rejected.rule, rejected.reason);
                }
            }
        }
        shown
    }
}

async fn turn(reader: &mut Box<dyn Reader>, decoder: &mut Decoder) -> Result<Vec<Change>> {
    let Ok(fetched) = tokio::time::timeout(TURN, reader.next(500, 1 << 20)).await else {
        return Ok(Vec::new());
    };
    let mut changes = Vec::new();
    for record in fetched?.records {
        match decoder.decode_one(&record).await {
            Ok(change) => changes.extend(change),
            Err(error) => eprintln!("offset {}: {error}", record.offset),
        }
    }
    Ok(changes)
}

fn print(change: &Change, output: Output) {
    if output == Output::Json {
        println!("{}", change_json(change));
        return;
    }
    println!("{}", line(change));
}

/// Returns a change in one line: what happened, where it stands, and the row by its columns.
pub(super) fn line(change: &Change) -> String {
    let row = change.after.as_ref().or(change.before.row());
    let mut text = format!("{} {:>8}", change.op.letter(), change.position.as_offset().unwrap_or(0));
    for (field, value) in change.contract.fields.iter().zip(row.into_iter().flatten()) {
        match value {
            Value::Unknown => {}
            value => text.push_str(&format!("  {}={}", field.name, plain(value))),
        }
    }
    text
}

fn plain(value: &Value) -> String {
    match value {
        Value::Unknown => "?".into(),
        Value::Null => "NULL".into(),
        Value::Boolean(b) => b.to_string(),
        Value::Integer(n) => n.to_string(),
        Value::Float(n) => n.to_string(),
        Value::Double(n) => n.to_string(),
        Value::Decimal(n) => n.to_plain_string(),
        // A value from outside may hold what a terminal obeys.
        Value::Text(text) => text
            .chars()
            .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.into() })
            .collect(),
        Value::Bytes(bytes) => format!("{} bytes", bytes.len()),
        Value::Date(days) => {
            let day = jiff::civil::date(1970, 1, 1)
                .checked_add(jiff::Span::new().try_days(*days).unwrap_or_default());
            day.map_or_else(|_| format!("day {days}"), |d| d.to_string())
        }
        Value::Time(us) | Value::Timestamp(us) => {
            let at = jiff::Timestamp::from_microsecond(*us).map(|t| jiff::tz::TimeZone::UTC.to_datetime(t));
            at.map_or_else(|_| us.to_string(), |t| t.to_string())
        }
        Value::TimestampTz(us) => {
            jiff::Timestamp::from_microsecond(*us).map_or_else(|_| us.to_string(), |t| t.to_string())
        }
        Value::Array(items) => format!("[{}]", items.iter().map(plain).collect::<Vec<_>>().join(", ")),
    }
}
