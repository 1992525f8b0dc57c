//! One stream to many subscriptions in one process: what each further one costs, all of them at the head.

use std::path::Path;
use std::time::Duration;

use hutong_testkit::launch::connect;
use tokio::time::Instant;

use crate::program::{Program, Used};

/// Changes a second, and for how long.
const RATE: u64 = 1_000;
const SECONDS: u64 = 15;

/// Runs the first `count` street offices while the register changes. Returns what their process used meanwhile, and what
/// the process before had used that has filled them.
pub(crate) async fn measure(
    folder: &Path,
    source: &str,
    count: usize,
    people: u64,
    round: u64,
) -> (Used, Used) {
    let names: Vec<String> = (1..=count).map(|n| format!("replicate.street{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut capture = Program::start(folder, &["capture.gongan"]);
    let mut filling = Program::start(folder, &names);
    capture.runs().await;
    filling.runs().await;
    filling.is_at_the_head().await;
    let filling = filling.stop().await;
    let mut streets = Program::start(folder, &names);
    streets.runs().await;
    streets.is_at_the_head().await;
    let before = streets.used();
    let client = connect(source).await.unwrap();
    let update =
        client.prepare("UPDATE population_base SET hh = $2 WHERE gmsfhm = citizen($1)").await.unwrap();
    let start = Instant::now();
    // Ten at a time: one transaction each 10 ms.
    for tick in 0..SECONDS * 100 {
        tokio::time::sleep_until(start + Duration::from_millis(10) * tick as u32).await;
        client.batch_execute("BEGIN").await.unwrap();
        for n in 0..RATE / 100 {
            let number = ((tick * (RATE / 100) + n) * 7919 % people + 1) as i32;
            client
                .execute(&update, &[&number, &format!("F{round}{:07}", tick * (RATE / 100) + n)])
                .await
                .unwrap();
        }
        client.batch_execute("COMMIT").await.unwrap();
    }
    streets.is_at_the_head().await;
    let after = streets.used();
    capture.stop().await;
    streets.stop().await;
    (Used { cpu: after.cpu - before.cpu, memory: after.memory }, filling)
}
