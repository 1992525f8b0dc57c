//! Several programs carry one configuration: what one leaves, however it goes, another goes on with.
//!
//! It is killed, it stops and wakes up again, it is cut off from the bus, it is asked to stop: nothing is lost, nothing
//! is doubled, and who comes back shares again.

use std::time::Duration;

use hutong_testkit::launch::{Kafka, Postgres, Proxy, Registry, connect};

use super::fleet::Fleet;
use super::rounds;
use super::workload::{Pace, Workload};
use crate::installation::{Bus, seed, until};

/// How long others take at the most to go on with what one has left, on a machine that does little else.
const PROMISED: Duration = Duration::from_secs(15);

/// How much of what the machine needs for the same without an outage is added to the promise. What is promised is what
/// is waited for (the silence of a member, an open transaction), and that is the same on every machine; the rest of it
/// is work, of which a machine that runs all the servers and other tests beside tells itself how slow it is.
const WORK: u32 = 10;

/// What the machine needed at the most while nobody was missing.
#[derive(Default)]
struct Steady(Duration);

impl Steady {
    async fn moves_on(&mut self, fleet: &mut Fleet, what: &str) {
        self.0 = self.0.max(fleet.moves_on(what).await);
    }

    /// Asserts that others have gone on in time.
    fn within(&self, what: &str, took: Duration) {
        let most = PROMISED + WORK * self.0;
        let word = if took <= PROMISED { "within" } else { "NOT within" };
        println!("{what}: {word} {PROMISED:?}; it took {took:?} and may take {most:?} on this machine");
        assert!(took <= most, "{what}: it took {took:?}, and may take {most:?}");
    }
}

async fn fleet(buses: &[String], seed: u64) -> (Fleet, Workload) {
    let (source, share) = (Postgres::shared().await.unwrap(), Postgres::shared().await.unwrap());
    let workload = Workload::new(&connect(&source.url).await.unwrap(), seed, Pace::Slow).await;
    (Fleet::new(buses, &source, &share), workload)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i4_i7_what_a_killed_program_carried_goes_on_in_the_others() {
    let bus = Bus::Kafka.table().await;
    let (mut fleet, workload) = fleet(&[bus.clone(), bus.clone(), bus], seed()).await;
    (0..3).for_each(|at| fleet.start(at));
    fleet.streams().await;
    let url = fleet.url.clone();
    tokio::join!(workload.run(&url), async {
        let (mut owners, mut steady) = (fleet.shared_by(&[0, 1, 2]).await, Steady::default());
        steady.moves_on(&mut fleet, "three share").await;
        workload.truncates().await;
        for _ in 0..rounds() {
            // The capture goes with the first, and lanes alone with the second.
            for captures in [true, false] {
                let first = fleet.capturing(&owners);
                let at = if captures { first } else { (first + 1) % 3 };
                fleet.take(at).kill();
                let what = format!("one is killed, it captured: {captures}");
                steady.within(&what, fleet.moves_on(&what).await);
                let others: Vec<usize> = (0..3).filter(|other| *other != at).collect();
                fleet.shared_by(&others).await;
                fleet.start(at);
                owners = fleet.shared_by(&[0, 1, 2]).await;
            }
            let at = fleet.capturing(&owners);
            let run = fleet.take(at);
            run.signal("TERM");
            let took = fleet.moves_on("one is asked to stop").await;
            steady.within("one is asked to stop", took);
            run.stop().await;
            fleet.start(at);
            owners = fleet.shared_by(&[0, 1, 2]).await;
        }
        workload.stop();
    });
    fleet.ends_well().await;
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i2_i4_i7_a_program_that_stands_still_and_wakes_up_changes_nothing_and_shares_again() {
    let bus = Bus::Kafka.table().await;
    let (mut fleet, workload) = fleet(&[bus.clone(), bus], seed()).await;
    (0..2).for_each(|at| fleet.start(at));
    fleet.streams().await;
    let url = fleet.url.clone();
    tokio::join!(workload.run(&url), async {
        let (mut owners, mut steady) = (fleet.shared_by(&[0, 1]).await, Steady::default());
        workload.truncates().await;
        for _ in 0..rounds() {
            for captures in [true, false, true] {
                let first = fleet.capturing(&owners);
                let at = if captures { first } else { 1 - first };
                steady.moves_on(&mut fleet, "both run").await;
                fleet.of(at).signal("STOP");
                let what = format!("one stands still, it captured: {captures}");
                steady.within(&what, fleet.moves_on(&what).await);
                fleet.shared_by(&[1 - at]).await;
                fleet.of(at).signal("CONT");
                owners = fleet.shared_by(&[0, 1]).await;
                fleet.moves_on("it has woken up").await;
            }
        }
        workload.stop();
    });
    fleet.ends_well().await;
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i2_i4_i7_a_program_that_is_cut_off_from_the_bus_changes_nothing_and_shares_again() {
    let way = Proxy::start().await.unwrap();
    let kafka = Kafka::builder().second_advertised(way.port()).start();
    let (kafka, registry) = tokio::join!(kafka, Registry::shared());
    let (kafka, registry) = (kafka.unwrap(), registry.unwrap().url());
    way.forward(kafka.second_port().unwrap());
    let bus = |port: u16| format!("[bus.kafka]\nbrokers = \"127.0.0.1:{port}\"\nregistry = \"{registry}\"\n");
    let (mut fleet, workload) = fleet(&[bus(kafka.port()), bus(way.port())], seed()).await;
    // The one that is cut off comes first, so that it captures.
    fleet.start(1);
    fleet.streams().await;
    let url = fleet.url.clone();
    tokio::join!(workload.run(&url), async {
        fleet.shared_by(&[1]).await;
        fleet.start(0);
        let owners = fleet.shared_by(&[0, 1]).await;
        assert_eq!(fleet.capturing(&owners), 1, "what runs stays where it is");
        let mut steady = Steady::default();
        steady.moves_on(&mut fleet, "both run").await;
        workload.truncates().await;
        for _ in 0..rounds() {
            // Without a word, as by a firewall; and with all connections closed.
            for closes in [false, true] {
                if closes {
                    way.close();
                } else {
                    way.stall();
                }
                let what = format!("one is cut off, its connections are closed: {closes}");
                steady.within(&what, fleet.moves_on(&what).await);
                fleet.shared_by(&[0]).await;
                way.resume();
                fleet.shared_by(&[0, 1]).await;
                fleet.moves_on("it is back").await;
            }
        }
        workload.stop();
    });
    fleet.ends_well().await;
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_that_carry_other_subscriptions_leave_no_lane_without_an_owner() {
    let bus = Bus::Kafka.table().await;
    let (mut fleet, workload) = fleet(&[bus.clone(), bus.clone(), bus], seed()).await;
    let capture = fleet.capture();
    fleet.start_only(0, &[&capture]);
    fleet.start_only(1, &["replicate.shared"]);
    fleet.start_only(2, &["replicate.filed"]);
    fleet.streams().await;
    let url = fleet.url.clone();
    tokio::join!(workload.run(&url), async {
        until("all lanes run", async || {
            let counts = fleet.running();
            (counts == [1, 4, 4]).then_some(())
        })
        .await;
        fleet.moves_on("each carries its own").await;
        workload.stop();
    });
    fleet.ends_well().await;
    fleet.stop().await;
}
