//! The program is stopped and killed in the middle of its work, over and over: nothing is lost, nothing is doubled.

use std::time::Duration;

use hutong_testkit::launch::{Postgres, connect};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::register::{Place, Register};
use super::rounds;
use super::workload::{Pace, Workload};
use crate::installation::{Bus, seed, until};

/// What a capture logs when its snapshot is complete.
const DONE: &str = "snapshot done";

/// When a run is ended.
#[derive(Clone, Copy, PartialEq)]
enum When {
    /// When the replica has moved on.
    Moved,
    /// When the replica has moved on while changes stream.
    Streams,
    /// When the replica has come to a version.
    At(i64),
}

/// Runs the program and ends it by force or by request; returns whether that was in the midst of the snapshot.
async fn end_one_run(register: &Register, rng: &mut StdRng, when: When, by_force: bool) -> bool {
    let installation = &register.installation;
    let mut run = installation.run();
    let before = register.progress().await;
    let after = until("the replica moves on", async || {
        assert!(run.runs(), "it ended by itself");
        let now = register.progress().await;
        let far = match when {
            When::Moved => now != before,
            When::Streams => now != before && installation.logged(DONE),
            When::At(version) => now.1 > version,
        };
        far.then_some(now)
    })
    .await;
    tokio::time::sleep(Duration::from_millis(rng.random_range(0..200))).await;
    let in_snapshot = !installation.logged(DONE);
    let place = if in_snapshot { "snapshot" } else { "streaming" };
    println!("{} in {place} at {after:?} rows and version", if by_force { "SIGKILL" } else { "SIGTERM" });
    if by_force {
        run.kill();
    } else {
        // What it is asked before its first line runs, the system answers.
        until("it runs", async || installation.status()).await;
        run.stop().await;
    }
    in_snapshot
}

/// Ends runs wherever they are, then only while changes stream, and then while the contract has grown.
async fn torment(register: &mut Register, workload: &Workload, rng: &mut StdRng, times: [usize; 3]) -> usize {
    let source = register.source().await;
    let mut in_snapshot = 0;
    for time in 0..times[0] {
        let by_force = time == 0 || rng.random_bool(0.6);
        in_snapshot += usize::from(end_one_run(register, rng, When::Moved, by_force).await);
        // Not before: the snapshot of a table that has just been emptied has no midst.
        workload.truncates().await;
    }
    register.hurry();
    for time in 0..times[1] {
        if time == 1 {
            // I5: of the one the contract never hears, of the other not yet.
            workload.add_column(&source, "surplus").await;
            workload.add_column(&source, "remark").await;
        }
        let by_force = time == 0 || rng.random_bool(0.6);
        end_one_run(register, rng, When::Streams, by_force).await;
    }
    // A suspended table's truncate would not be told, and nothing tells which one is missing.
    workload.truncates_no_more(&source).await;
    end_one_run(register, rng, When::At(Workload::now(&source).await), true).await;
    register.grow("remark");
    for _ in 0..times[2] {
        end_one_run(register, rng, When::Moved, true).await;
    }
    in_snapshot
}

async fn survives(bus: Bus, times: [usize; 3]) {
    let seed = seed();
    for round in 0..rounds() {
        survives_once(bus, seed.wrapping_add(round), times).await;
    }
}

async fn survives_once(bus: Bus, seed: u64, times: [usize; 3]) {
    let pace = if bus == Bus::Kafka { Pace::Slow } else { Pace::Quick };
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let (source, share) = (Postgres::shared().await.unwrap(), Postgres::shared().await.unwrap());
    let workload = Workload::new(&connect(&source.url).await.unwrap(), seed, pace).await;
    let places = [&source, &share].map(|database| Place::plain(&database.url));
    let mut register = Register::new(&bus.table().await, &source.name, &places[0], &places[1]);

    // Once a row has arrived the capture has a checkpoint, so what is audited from here on is told by the slot.
    let run = register.installation.run();
    register.streams().await;
    run.kill();
    let in_snapshot = usize::from(!register.installation.logged(DONE));
    tokio::join!(workload.run(&source.url), async {
        let in_snapshot = in_snapshot + torment(&mut register, &workload, &mut rng, times).await;
        assert!(in_snapshot > 0, "one of the ends is in the midst of the snapshot");
        workload.stop();
    });
    let run = register.installation.run();
    register.ends_well().await;
    run.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_i2_i7_kills_cost_nothing_over_a_folder() {
    survives(Bus::Embedded, [3, 3, 2]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_i2_i7_kills_cost_nothing_over_kafka() {
    survives(Bus::Kafka, [2, 2, 1]).await;
}
