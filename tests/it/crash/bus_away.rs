//! The bus goes away: brokers are killed one by one, the way to them is cut or stalled, the registry is gone.

use std::time::Duration;

use hutong_testkit::launch::{Cluster, Database, Kafka, Postgres, Proxy, Registry, connect};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::register::{Place, Register};
use super::rounds;
use super::workload::{Pace, Workload};
use crate::installation::{seed, until};

async fn register(brokers: &str, registry: &str, source: &Database) -> Register {
    let bus = format!("[bus.kafka]\nbrokers = \"{brokers}\"\nregistry = \"{registry}\"\n");
    let share = Postgres::shared().await.unwrap();
    Register::new(&bus, &source.name, &Place::plain(&source.url), &Place::plain(&share.url))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i7_brokers_that_are_killed_one_by_one_cost_nothing() {
    let seed = seed();
    let (cluster, registry, source) = tokio::join!(Cluster::start(3), Registry::shared(), Postgres::shared());
    let (mut cluster, source) = (cluster.unwrap(), source.unwrap());
    let workload = Workload::new(&connect(&source.url).await.unwrap(), seed, Pace::Slow).await;
    let register = register(&cluster.bootstrap(), &registry.unwrap().url(), &source).await;

    let mut run = register.installation.run();
    register.streams().await;
    tokio::join!(workload.run(&register.url), async {
        workload.truncates().await;
        for _ in 0..rounds() {
            for (at, broker) in cluster.nodes().iter_mut().enumerate() {
                register
                    .goes_on(&mut run, &format!("broker {at} is killed"), async || {
                        broker.kill().await.unwrap();
                    })
                    .await;
                register
                    .goes_on(&mut run, &format!("broker {at} is back"), async || {
                        broker.restart().await.unwrap();
                    })
                    .await;
            }
        }
        workload.stop();
    });
    register.ends_well().await;
    run.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i7_a_bus_that_is_cut_off_and_comes_back_costs_nothing() {
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed);
    let (way, source) = (Proxy::start().await.unwrap(), Postgres::shared().await.unwrap());
    let (kafka, registry) = tokio::join!(Kafka::builder().advertised(way.port()).start(), Registry::shared());
    let (kafka, registry) = (kafka.unwrap(), registry.unwrap());
    way.forward(kafka.port());
    let to_registry = Proxy::to(registry.port()).await.unwrap();
    let workload = Workload::new(&connect(&source.url).await.unwrap(), seed, Pace::Slow).await;
    let brokers = format!("127.0.0.1:{}", way.port());
    let register = register(&brokers, &Registry::url_at(to_registry.port()), &source).await;

    let run = register.installation.run();
    register.streams().await;
    let ((), run) = tokio::join!(workload.run(&register.url), async {
        let mut run = run;
        workload.truncates().await;
        for _ in 0..rounds() {
            for _ in 0..4 {
                let bytes = rng.random_range(0..50_000);
                way.cut_after(bytes);
                register
                    .goes_on(&mut run, &format!("the broker is cut off after {bytes} bytes"), async || {
                        until("it is cut off", async || (!way.is_to_cut()).then_some(())).await;
                    })
                    .await;
            }
            for cuts in [false, true] {
                register
                    .goes_on(&mut run, &format!("the broker stalls, and is cut off: {cuts}"), async || {
                        way.stall();
                        tokio::time::sleep(Duration::from_secs(1)).await;
                        if cuts {
                            way.cut();
                        }
                        way.resume();
                    })
                    .await;
            }
            let away = async || {
                way.close();
                tokio::time::sleep(Duration::from_secs(2)).await;
                way.resume();
            };
            register.goes_on(&mut run, "the broker is away", away).await;

            // What it has answered once is known: a registry is missed by whoever starts.
            to_registry.close();
            register.goes_on(&mut run, "the registry is away", async || ()).await;
            run.kill();
            run = register.installation.run();
            register
                .goes_on(&mut run, "the registry is away at the start", async || {
                    let misses = || register.installation.times_logged("failed to register the schema of");
                    let before = misses();
                    until("somebody misses it", async || (misses() > before).then_some(())).await;
                    to_registry.resume();
                })
                .await;
        }
        workload.stop();
        run
    });
    register.ends_well().await;
    run.stop().await;
}
