//! Compares what a topic tells of each key with what happened to it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;
use tokio_postgres::Client;

use super::workload::{LAST, LAST_COUNT};

/// What happened to a key: the operation, and the version that it left.
type Event = (String, Option<i64>);

/// Says whether the changes of a topic, in the order of each key, go up to the rows that come last.
pub(super) fn is_told(changes: &[Json]) -> bool {
    // A snapshot that is not done yet reads them once more.
    let ids = changes.iter().filter_map(|change| change["after"]["id"].as_i64());
    ids.filter(|id| *id > LAST).collect::<BTreeSet<i64>>().len() == LAST_COUNT as usize
}

/// Asserts that the topic tells of each key just what the audit does, in its order.
///
/// Where the contract has grown, the table is read anew behind a truncate of Hutong's own. What happened while it
/// was suspended for that is told by the rows alone: the story then ends at that truncate and goes on behind it.
pub(super) async fn each_change_stands_once(
    source: &Client,
    changes: &[Json],
    partitions: usize,
    grown: bool,
) {
    let mut told: BTreeMap<i64, Vec<&Json>> = BTreeMap::new();
    let mut truncates: BTreeMap<&str, usize> = BTreeMap::new();
    for change in changes {
        if change["op"] == "t" {
            *truncates.entry(position(change)).or_default() += 1;
            continue;
        }
        let id = change["after"]["id"].as_i64().or(change["before"]["id"].as_i64()).unwrap();
        told.entry(id).or_default().push(change);
    }
    for (position, count) in &truncates {
        assert_eq!(*count, partitions, "I2: the truncate at {position} stands once in each partition");
    }

    let mut happened: BTreeMap<i64, Vec<(i64, Event)>> = BTreeMap::new();
    let mut emptied: Vec<(i64, Event)> = Vec::new();
    let rows = source.query("SELECT id, op, version, seq FROM audit ORDER BY seq", &[]).await.unwrap();
    assert!(rows.len() > 100, "too little happened to prove anything");
    for row in &rows {
        let event = (row.get(3), (row.get(1), row.get(2)));
        match row.get(0) {
            Some(id) => happened.entry(id).or_default().push(event),
            None => emptied.push(event),
        }
    }
    let truncates: BTreeSet<&str> = truncates.into_keys().collect();
    let own: Vec<&str> = truncates.iter().copied().skip(emptied.len()).collect();
    assert!(truncates.len() >= emptied.len(), "I3: {emptied:?} happened, and only {truncates:?} are told");
    assert_eq!(!own.is_empty(), grown, "a table is read anew when its contract has grown: {truncates:?}");

    let ids: BTreeSet<i64> = told.keys().chain(happened.keys()).copied().collect();
    let mut suspended = 0;
    for id in ids {
        let told = told.remove(&id).unwrap_or_default();
        let mut happened = happened.remove(&id).unwrap_or_default();
        happened.extend(emptied.iter().cloned());
        happened.sort();
        let happened: Vec<Event> = happened.into_iter().map(|(_, event)| event).collect();
        suspended += follow(id, &told, &truncates, &own, &happened);
    }
    println!(
        "{} changes, {} truncates, {suspended} told by rows alone",
        rows.len() - emptied.len(),
        emptied.len()
    );
}

/// Follows one key; returns how many changes are not told because the table was suspended.
fn follow(id: i64, told: &[&Json], truncates: &BTreeSet<&str>, own: &[&str], happened: &[Event]) -> usize {
    let story: Vec<String> = told
        .iter()
        .map(|change| {
            format!("{} {} {}", change["op"], change["after"]["version"], change["source_position"])
        })
        .collect();
    for pair in told.windows(2) {
        assert!(
            position(pair[0]) < position(pair[1]),
            "I4: the changes of {id} are in order, once: {story:#?}"
        );
    }
    let mut events: Vec<(&str, Event)> = told
        .iter()
        .map(|change| {
            let op = change["op"].as_str().unwrap().to_owned();
            (position(change), (op, change["after"]["version"].as_i64()))
        })
        .collect();
    let audited = truncates.iter().filter(|position| !own.contains(position));
    events.extend(audited.map(|position| (*position, ("t".to_owned(), None))));
    events.sort();

    let (first, last) = (own.first().copied(), own.last().copied());
    let (head, rest): (Vec<_>, Vec<_>) =
        events.into_iter().partition(|(at, _)| first.is_none_or(|first| *at < first));
    let (tail, between): (Vec<_>, Vec<_>) = rest.into_iter().partition(|(at, _)| Some(*at) > last);
    let streamed = |part: Vec<(&str, Event)>| {
        let (read, streamed): (Vec<_>, Vec<_>) =
            part.into_iter().map(|(_, event)| event).partition(|(op, _)| op == "r");
        assert!(read.len() <= 1, "I2: the row {id} is read once: {story:#?}");
        streamed
    };
    let (head, tail) = (streamed(head), streamed(tail));
    assert!(
        between.iter().all(|(_, (op, _))| op == "r"),
        "a suspended table tells of nothing but its rows: {story:#?}"
    );
    let whole =
        format!("I2, I3: the topic tells of {id} what happened to it: {story:#?}, and not {happened:#?}");
    let missing = happened.len().checked_sub(head.len() + tail.len()).expect(&whole);
    assert!(happened.starts_with(&head) && happened.ends_with(&tail), "{whole}");
    assert!(missing == 0 || !own.is_empty(), "{whole}");
    missing
}

fn position(change: &Json) -> &str {
    change["source_position"].as_str().unwrap()
}
