//! `hutong tap`: what flows in a stream, or what one department would get of it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hutong_bus::Decoder;
use hutong_bus::log::Reader;
use hutong_core::{Change, Error, ErrorKind, Op, Result, Step, Value, Verdict};
use hutong_stores::keep::change_json;

use super::arguments::{Output, Tap};
use super::{check, raw};
use crate::config::Plan;
use crate::config::plan::StreamPlan;
use crate::exit::Exit;
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
    let mut permits = permits(&plan, stream, options.department.as_deref())?;
    let bus = wire::Bus::look(&plan.bus)?;
    let extent = bus.log().extent(&stream.topic()).await?.ok_or_else(|| {
        Error::new(ErrorKind::Unavailable, format!("tap {}", stream.name), "its topic does not exist yet")
            .hint("the capture makes it when it starts: hutong run")
    })?;
    let mut readers = Vec::new();
    for (partition, (first, end)) in extent {
        let mut reader = bus.log().reader(&stream.topic(), partition, None).await?;
        reader.seek(if options.from_start { first } else { end }).await?;
        readers.push(reader);
    }
    let mut decoder =
        Decoder::new(Arc::clone(bus.registry()), Arc::clone(&stream.contract)).of(&stream.topic());
    let mut left = options.limit.unwrap_or(u64::MAX);
    while left > 0 {
        for reader in &mut readers {
            for change in turn(reader, &mut decoder).await? {
                if left == 0 {
                    break;
                }
                if show(change, &mut permits, options.output) {
                    left -= 1;
                }
            }
        }
    }
    Ok(Exit::Done)
}

/// Returns the permits of a department's subscriptions; empty when the whole stream is looked at.
fn permits(plan: &Plan, stream: &StreamPlan, department: Option<&str>) -> Result<Vec<Box<dyn Step>>> {
    let Some(department) = department else { return Ok(Vec::new()) };
    let subscriptions =
        plan.subscriptions.iter().filter(|s| s.department == department && s.stream.name == stream.name);
    let permits: Vec<Box<dyn Step>> =
        subscriptions.map(|s| Ok(Box::new(wire::permit(s)?) as Box<dyn Step>)).collect::<Result<_>>()?;
    if permits.is_empty() {
        // I5: without a subscription there is nothing to show.
        let doing = format!("tap {} as {department}", stream.name);
        return Err(Error::new(ErrorKind::Denied, doing, "this department has no subscription to it"));
    }
    Ok(permits)
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

/// Prints a change as it is, or as each permit lets it through; returns whether anything was printed.
fn show(change: Change, permits: &mut [Box<dyn Step>], output: Output) -> bool {
    if permits.is_empty() {
        print(&change, output);
        return true;
    }
    let mut shown = false;
    for permit in permits {
        match permit.apply(change.clone()) {
            // I5: a delete of a row that was never there is executed and not told: it names somebody outside the grant.
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

fn print(change: &Change, output: Output) {
    if output == Output::Json {
        println!("{}", change_json(change));
        return;
    }
    let row = change.after.as_ref().or(change.before.row());
    let mut text = format!("{} {:>8}", change.op.letter(), change.position.as_offset().unwrap_or(0));
    for (field, value) in change.contract.fields.iter().zip(row.into_iter().flatten()) {
        match value {
            Value::Unknown => {}
            value => text.push_str(&format!("  {}={}", field.name, plain(value))),
        }
    }
    println!("{text}");
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
