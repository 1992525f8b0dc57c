//! A database's sessions end, it restarts at once, and the way to it is cut or stalled: the program goes on by itself.

use std::time::Duration;

use hutong_testkit::launch::{Postgres, Proxy, connect};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::register::{Place, Register};
use super::rounds;
use super::workload::{Pace, Workload};
use crate::installation::{Bus, seed, until};

/// A PostgreSQL of one's own, and the program's way to it.
struct Server {
    postgres: Postgres,
    way: Proxy,
}

impl Server {
    async fn start() -> Self {
        let postgres = Postgres::start().await.unwrap();
        let way = Proxy::to(postgres.port()).await.unwrap();
        Self { postgres, way }
    }

    fn place(&self) -> Place {
        let direct = self.postgres.url();
        let reached = direct.replace(&self.postgres.port().to_string(), &self.way.port().to_string());
        Place { direct, reached }
    }

    /// Ends all sessions of the program, also the walsender that feeds it.
    async fn terminate(&self) {
        let client = connect(&self.postgres.url()).await.unwrap();
        let ended = client
            .query_one(
                "SELECT count(*) FROM (SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE backend_type = 'walsender' OR application_name LIKE 'hutong%') t",
                &[],
            )
            .await
            .unwrap();
        assert!(ended.get::<_, i64>(0) > 0, "the program has sessions");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i7_databases_that_go_away_and_come_back_cost_nothing() {
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut source, mut share) = tokio::join!(Server::start(), Server::start());
    let workload = Workload::new(&connect(&source.postgres.url()).await.unwrap(), seed, Pace::Slow).await;
    let register = Register::new(&Bus::Embedded.table().await, "gongan", &source.place(), &share.place());

    let mut run = register.installation.run();
    register.streams().await;
    tokio::join!(workload.run(&register.url), async {
        workload.truncates().await;
        for _ in 0..rounds() {
            for server in [&source, &share] {
                register
                    .goes_on(&mut run, "its sessions are terminated", async || server.terminate().await)
                    .await;
            }
            for server in [&mut source, &mut share] {
                let restarted = async || {
                    server.postgres.quit().await.unwrap();
                    server.postgres.restart().await.unwrap();
                };
                register.goes_on(&mut run, "it restarts at once", restarted).await;
            }
            for server in [&source, &share] {
                for _ in 0..3 {
                    let bytes = rng.random_range(0..20_000);
                    server.way.cut_after(bytes);
                    register
                        .goes_on(&mut run, &format!("it is cut after {bytes} bytes"), async || {
                            until("it is cut", async || (!server.way.is_to_cut()).then_some(())).await;
                        })
                        .await;
                }
                for cuts in [false, true] {
                    register
                        .goes_on(&mut run, &format!("it stalls, and cuts: {cuts}"), async || {
                            server.way.stall();
                            tokio::time::sleep(Duration::from_secs(1)).await;
                            if cuts {
                                server.way.cut();
                            }
                            server.way.resume();
                        })
                        .await;
                }
            }
        }
        workload.stop();
    });
    register.ends_well().await;
    run.stop().await;
}
