//! `hutong trace` of every row agrees with what the replica was seen to hold, and with a replay of the whole topic.

use std::collections::BTreeMap;
use std::time::UNIX_EPOCH;

use hutong_core::Position;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rusqlite::Connection;
use serde_json::Value as Json;

use crate::installation::seed;
use crate::ledger::{Rows, Town};

/// The keys from 1; the row of the first one is only changed, so that a change can always be waited for.
const KEYS: i64 = 14;
/// How many changes are made by chance before and after every word of the owner.
const CHANGES: u32 = 8;

/// What the replica held at a time, microseconds since 1970.
struct Seen {
    at_us: i64,
    rows: Rows,
}

/// A town whose register changes by chance, and what its replica was seen to hold.
struct Watched {
    town: Town,
    random: StdRng,
    written: u32,
    seen: Vec<Seen>,
}

impl Watched {
    fn changes(&mut self) {
        for _ in 0..CHANGES {
            let id = self.random.random_range(2..=KEYS);
            let other = self.random.random_range(2..=KEYS);
            self.written += 1;
            let n = self.written;
            self.town.change(&match self.random.random_range(0..5) {
                0 => format!("DELETE FROM entry WHERE id = {id}"),
                1 => format!("UPDATE OR IGNORE entry SET id = {other} WHERE id = {id}"),
                _ => format!(
                    "INSERT INTO entry VALUES ({id}, '乙{n}', '99{n}')
                     ON CONFLICT (id) DO UPDATE SET name = excluded.name, phone = excluded.phone"
                ),
            });
        }
    }

    /// Says a word of the owner while the register changes.
    fn says(&mut self, words: &[&str]) {
        self.changes();
        self.town.says(words);
        self.changes();
    }

    /// Waits until the replica is what the register holds through a grant, and notes it.
    async fn sees(&mut self, phone: bool, rows: &str) {
        let phone = if phone { "phone" } else { "NULL" };
        let sql = format!("SELECT id, name, {phone} FROM entry WHERE {rows} ORDER BY id");
        let office = Connection::open(self.town.installation.path("office.db")).unwrap();
        let mut query = office.prepare(&sql).unwrap();
        let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
        let expected: Rows = query.query_map([], row).unwrap().map(Result::unwrap).collect();
        self.town.reaches(&sql, |rows| *rows == expected).await;
        self.notes(expected);
    }

    fn notes(&mut self, rows: Rows) {
        self.seen.push(Seen { at_us: UNIX_EPOCH.elapsed().unwrap().as_micros() as i64, rows });
    }

    fn traces(&self) -> BTreeMap<i64, Json> {
        let trace = |id: i64| {
            let answer = self.town.says(&["trace", "entry", &id.to_string(), "-o", "json"]);
            (id, serde_json::from_str(&answer).unwrap())
        };
        (1..=KEYS).map(trace).collect()
    }

    /// Asserts that the trace of a row agrees with everything that was seen of it.
    fn agrees(&self, id: i64, trace: &Json) {
        let holdings = holdings(trace);
        for (phase, seen) in self.seen.iter().enumerate() {
            let row = seen.rows.iter().find(|row| row.0 == id);
            let held: Vec<&Json> = holdings.iter().filter(|holding| at(holding, seen.at_us)).collect();
            assert_eq!(held.len(), usize::from(row.is_some()), "row {id}, phase {phase}: {trace:#}");
            if let (Some((_, _, phone)), [holding]) = (row, &held[..]) {
                let grants = holding["grants"].as_array().unwrap();
                let grant = grants.iter().rfind(|grant| grant["at_us"].as_i64().unwrap() <= seen.at_us);
                let columns = grant.unwrap()["terms"]["columns"].as_array().unwrap();
                let told = columns.contains(&"phone".into());
                assert_eq!(told, phone.is_some(), "row {id}, phase {phase}: {trace:#}");
            }
        }
    }
}

fn holdings(trace: &Json) -> &[Json] {
    trace["subscriptions"][0]["holdings"].as_array().unwrap()
}

/// States whether a holding had begun and had not ended at a time.
fn at(holding: &Json, at_us: i64) -> bool {
    let ended = holding["ended"].as_object().and_then(|ended| ended.values().next());
    let until = ended.map(|end| end.get("at_us").or(end.get("before_us")).unwrap().as_i64().unwrap());
    holding["since"]["at_us"].as_i64().unwrap() <= at_us && until.is_none_or(|until| at_us < until)
}

/// Returns the operations and offsets of each key, as the whole topic has them.
fn replayed(town: &Town, records: usize) -> BTreeMap<i64, Vec<(String, u64)>> {
    let limit = records.to_string();
    let answer = town.says(&["tap", "entry", "--from-start", "--limit", &limit, "-o", "json"]);
    let mut keys: BTreeMap<i64, Vec<(String, u64)>> = BTreeMap::new();
    for line in answer.lines() {
        let change: Json = serde_json::from_str(line).unwrap();
        let id = change["after"]["id"].as_i64().or(change["before"]["id"].as_i64()).unwrap();
        let position: Position = change["position"].as_str().unwrap().parse().unwrap();
        let offset = position.as_offset().unwrap();
        keys.entry(id).or_default().push((change["op"].as_str().unwrap().to_owned(), offset));
    }
    keys
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traces_agree_with_a_replay_of_everything_over_a_folder() {
    traces_agree(Town::embedded("replayed").await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traces_agree_with_a_replay_of_everything_over_kafka() {
    traces_agree(Town::kafka().await).await;
}

async fn traces_agree(town: Town) {
    let run = town.installation.run();
    let random = StdRng::seed_from_u64(seed());
    let mut watched = Watched { town, random, written: 0, seen: Vec::new() };
    watched.town.says(&["subscription", "request", "pension"]);
    watched.says(&["subscription", "approve", "pension", "--without", "phone"]);
    watched.sees(false, "true").await;
    watched.says(&["subscription", "widen", "pension"]);
    watched.sees(true, "true").await;
    watched.says(&["subscription", "narrow", "pension", "--rows", "id > 6"]);
    watched.sees(true, "id > 6").await;
    watched.changes();
    watched.sees(true, "id > 6").await;
    watched.says(&["subscription", "narrow", "pension", "--without", "phone"]);
    watched.sees(false, "id > 6").await;
    watched.says(&["subscription", "suspend", "pension", "--reason", "核查"]);
    watched.town.held("核查").await;
    watched.changes();
    watched.town.captured().await;
    let stays = watched.town.replica().await;
    watched.notes(stays);
    watched.says(&["subscription", "resume", "pension"]);
    watched.sees(false, "id > 6").await;
    watched.says(&["subscription", "widen", "pension"]);
    watched.sees(true, "true").await;
    watched.changes();
    watched.sees(true, "true").await;

    let traces = watched.traces();
    let holds = &watched.seen.last().unwrap().rows;
    let mut versions = BTreeMap::new();
    for (id, trace) in &traces {
        watched.agrees(*id, trace);
        let of: Vec<(String, u64)> = trace["versions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|version| (version["op"].as_str().unwrap().to_owned(), version["offset"].as_u64().unwrap()))
            .collect();
        let row = holds.iter().any(|row| row.0 == *id);
        assert_eq!(trace["subscriptions"][0]["holds"], row, "row {id}: {trace:#}");
        if row {
            let last = holdings(trace).last().unwrap()["last"]["offset"].as_u64();
            assert_eq!(last, of.last().map(|(_, offset)| *offset), "row {id}: {trace:#}");
        }
        versions.insert(*id, of);
    }
    versions.retain(|_, of| !of.is_empty());
    let records = versions.values().map(Vec::len).sum();
    assert_eq!(replayed(&watched.town, records), versions);

    watched.town.says(&["subscription", "revoke", "pension", "--reason", "收回", "--recall"]);
    watched.town.reaches("nothing", Vec::is_empty).await;
    watched.notes(Rows::new());
    for (id, trace) in &watched.traces() {
        watched.agrees(*id, trace);
        assert_eq!(trace["subscriptions"][0]["holds"], false, "row {id}: {trace:#}");
    }
    run.stop().await;
}
