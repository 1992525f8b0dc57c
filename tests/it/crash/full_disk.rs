//! There is no room for the bus, the replica and the log: lanes wait, and go on when there is.
//!
//! Two ways to have no room. The limit of a file's size (RLIMIT_FSIZE) may be set for a program that runs, by
//! anybody: each write beyond it fails, in every file, also where the file has room already, which is harsher than a
//! full disk and says EFBIG. A small disk in memory that is filled to its last byte says ENOSPC, and needs somebody
//! who may mount it: where that is nobody, only the first way is gone.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use hutong_testkit::launch::{Postgres, connect};
use serde_json::Value as Json;

use super::register::{Place, Register};
use super::rounds;
use super::workload::{Pace, Workload};
use crate::installation::{Bus, seed, until};

/// A disk in memory, mounted at a folder.
pub(crate) struct Disk {
    folder: PathBuf,
}

impl Disk {
    /// Mounts it, with room for what a number of rounds writes; `None`: we may not.
    pub(crate) fn mount(folder: PathBuf, rounds: u64) -> Option<Self> {
        fs::create_dir_all(&folder).unwrap();
        let mut mount = Command::new("mount");
        let options = format!("size={}m,mode=700", 64 + 16 * rounds);
        mount.args(["-t", "tmpfs", "-o", &options, "none"]).arg(&folder);
        mount.status().is_ok_and(|status| status.success()).then_some(Self { folder })
    }

    /// Returns where it is mounted.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Takes every byte that is left.
    fn fill(&self) {
        let mut filler = File::create(self.folder.join("filler")).unwrap();
        for size in [1 << 20, 4 << 10] {
            while filler.write_all(&vec![1; size]).is_ok() {}
        }
    }

    fn free(&self) {
        fs::remove_file(self.folder.join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // At the latest when nobody has a file open any more; a test that fails keeps what it has.
        let _ = Command::new("umount").arg("--lazy").arg(&self.folder).status();
    }
}

/// Sets how large a file may become by the program's writing.
fn limit(pid: u32, bytes: &str) {
    let mut set = Command::new("prlimit");
    set.args(["--pid", &pid.to_string(), &format!("--fsize={bytes}:")]);
    assert!(set.status().unwrap().success(), "prlimit sets the limit of a program that runs");
}

/// How many changes a store takes at the most without more room: into pages that a truncate has freed, and over what its
/// log of writes has held. Then it is taken to go on for good.
const NEEDS_NONE: u64 = 2_000;

/// Waits until a lane of a kind is in trouble with its files, or has written on and on without room.
async fn in_trouble(register: &Register, kind: &str) {
    let lanes = || {
        let lanes = register.installation.lanes()?;
        // The one of the other store has a disk that is not full.
        let own = |lane: &Json| {
            let name = lane["pipeline"].as_str().unwrap();
            name.starts_with(kind) && name != "replicate.shared"
        };
        Some(lanes.into_iter().filter(own).collect::<Vec<Json>>())
    };
    let committed = |lanes: &[Json]| lanes.iter().filter_map(|lane| lane["committed"].as_u64()).sum::<u64>();
    let before = until("the lanes are told", async || lanes()).await;
    until(&format!("a {kind} finds no room"), async || {
        let now = lanes()?;
        let full = now.iter().any(|lane| {
            let error = lane["error"].as_str().unwrap_or_default();
            error.contains("disk") || error.contains("full")
        });
        (full || committed(&now) >= committed(&before) + NEEDS_NONE).then_some(())
    })
    .await;
    // A while of it, with several attempts.
    tokio::time::sleep(Duration::from_secs(1)).await;
}

async fn every_lane_runs(register: &Register) {
    until("every lane runs again", async || {
        let lanes = register.installation.lanes()?;
        lanes.iter().all(|lane| lane["state"] == "running").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i7_a_disk_without_room_costs_nothing_when_there_is_room_again() {
    let seed = seed();
    let (source, share) = (Postgres::shared().await.unwrap(), Postgres::shared().await.unwrap());
    let workload = Workload::new(&connect(&source.url).await.unwrap(), seed, Pace::Slow).await;
    let places = [&source, &share].map(|database| Place::plain(&database.url));
    let register = Register::new(&Bus::Embedded.table().await, &source.name, &places[0], &places[1]);
    let disks = ["bus", "office"].map(|folder| Disk::mount(register.installation.path(folder), rounds()));

    let mut run = register.installation.run_without_xfsz();
    register.streams().await;
    tokio::join!(workload.run(&register.url), async {
        workload.truncates().await;
        for _ in 0..rounds() {
            let pid = run.pid();
            register
                .goes_on(&mut run, "no file may grow", async || {
                    limit(pid, "0");
                    in_trouble(&register, "capture").await;
                    limit(pid, "unlimited");
                })
                .await;
            every_lane_runs(&register).await;
            for (disk, kind) in disks.iter().zip(["capture", "replicate"]) {
                let Some(disk) = disk else { continue };
                register
                    .goes_on(&mut run, &format!("the disk of a {kind} is full"), async || {
                        disk.fill();
                        in_trouble(&register, kind).await;
                        disk.free();
                    })
                    .await;
                every_lane_runs(&register).await;
            }
        }
        workload.stop();
    });
    register.ends_well().await;
    run.stop().await;
}
