//! How long a single change takes, from its commit at the source until another session sees it in the replica.
//!
//! The writers follow a clock and not the answers, so a stall delays nothing that is measured (no coordinated
//! omission). The beginning is the source's own commit time, the end the moment at which a query has seen the row.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hutong_testkit::launch::connect;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_postgres::Client;

/// How many sessions write.
const WRITERS: u64 = 8;

/// Latencies in milliseconds, sorted.
pub(crate) struct Latencies(Vec<f64>);

impl Latencies {
    /// Returns the latency that so many of a hundred do not exceed.
    pub(crate) fn percentile(&self, percent: f64) -> f64 {
        let at = (percent / 100.0 * self.0.len() as f64).ceil() as usize;
        self.0[at.clamp(1, self.0.len()) - 1]
    }
}

fn now_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as i64
}

/// Changes `rate` people a second for a while and sees each of them arrive in `share.people`.
pub(crate) async fn measure(
    source: &str,
    share: &str,
    people: u64,
    rate: u64,
    seconds: u64,
    round: u64,
) -> Latencies {
    // Every person once, in an order that goes through the whole table.
    let total = rate * seconds;
    assert!(total < people);
    let mark = move |n: u64| format!("L{round}{n:07}");
    let citizens: Vec<String> = {
        let client = connect(source).await.unwrap();
        let sql = "SELECT citizen((n * 7919 % $1::int8 + 1)::int) FROM generate_series(0::int8, $2::int8 - 1) n ORDER BY n";
        let rows = client.query(sql, &[&(people as i64), &(total as i64)]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    };
    let citizens = Arc::new(citizens);
    let outstanding: Arc<Mutex<HashMap<String, u64>>> = Arc::default();
    let start = Instant::now() + Duration::from_millis(200);
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let (citizens, outstanding) = (Arc::clone(&citizens), Arc::clone(&outstanding));
        let client = connect(source).await.unwrap();
        tasks.spawn(async move {
            let update =
                client.prepare("UPDATE population_base SET hh = $2 WHERE gmsfhm = $1").await.unwrap();
            for n in (writer..total).step_by(WRITERS as usize) {
                tokio::time::sleep_until(start + Duration::from_nanos(1_000_000_000 / rate) * n as u32).await;
                let id = &citizens[n as usize];
                outstanding.lock().await.insert(id.clone(), n);
                client.execute(&update, &[id, &mark(n)]).await.unwrap();
            }
        });
    }
    let seen = look(share, &outstanding, total, mark).await;
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let committed = committed(&connect(source).await.unwrap(), round).await;
    let mut latencies: Vec<f64> =
        seen.iter().map(|(mark, seen_us)| (seen_us - committed[mark]) as f64 / 1_000.0).collect();
    latencies.sort_by(f64::total_cmp);
    assert_eq!(latencies.len() as u64, total);
    Latencies(latencies)
}

/// Asks for what is on its way until all has been seen; returns when each was.
async fn look(
    share: &str,
    outstanding: &Mutex<HashMap<String, u64>>,
    total: u64,
    mark: impl Fn(u64) -> String,
) -> HashMap<String, i64> {
    let client = connect(share).await.unwrap();
    let find = client.prepare("SELECT gmsfhm, hh FROM share.people WHERE gmsfhm = ANY($1)").await.unwrap();
    let mut seen = HashMap::new();
    let until = Instant::now() + Duration::from_secs(300);
    while (seen.len() as u64) < total {
        assert!(Instant::now() < until, "{} of {total} changes have arrived", seen.len());
        let waiting: Vec<String> = outstanding.lock().await.keys().cloned().collect();
        let rows = client.query(&find, &[&waiting]).await.unwrap();
        let now = now_us();
        let mut outstanding = outstanding.lock().await;
        for row in rows {
            let (id, hh): (String, String) = (row.get(0), row.get(1));
            if outstanding.get(&id).is_some_and(|n| mark(*n) == hh) {
                outstanding.remove(&id);
                seen.insert(hh, now);
            }
        }
        drop(outstanding);
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
    seen
}

/// Returns when the source has committed each change, microseconds since 1970.
async fn committed(source: &Client, round: u64) -> HashMap<String, i64> {
    let sql = "SELECT hh, (extract(epoch FROM pg_xact_commit_timestamp(xmin)) * 1000000)::int8
               FROM population_base WHERE hh LIKE $1";
    let rows = source.query(sql, &[&format!("L{round}%")]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}
