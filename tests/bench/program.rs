//! The built program under measurement: started, watched over its own `/metrics`, stopped.
//!
//! Its CPU time and its peak of memory are the kernel's word for the process, so they hold nothing of this one.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hutong_testkit::launch::free_port;

/// How long anything may take before the benchmark gives up.
const PATIENCE: Duration = Duration::from_secs(600);

/// A running `hutong run`.
pub(crate) struct Program {
    child: Child,
    address: SocketAddr,
    client: reqwest::Client,
}

/// What a run has used.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Used {
    /// CPU time in user and system mode, seconds.
    pub(crate) cpu: f64,
    /// The largest resident size, bytes.
    pub(crate) memory: u64,
}

impl Program {
    /// Starts what is named of the configuration in a folder.
    pub(crate) fn start(folder: &Path, only: &[&str]) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let config = fs::read_to_string(folder.join("hutong.toml")).unwrap();
        let name = format!("run-{}.toml", address.port());
        fs::write(folder.join(&name), format!("{config}\n[http]\naddress = \"{address}\"\n")).unwrap();
        let mut arguments = vec!["-c", &name, "run"];
        for pipeline in only {
            arguments.extend(["--only", pipeline]);
        }
        let log = fs::File::create(folder.join(format!("{name}.log"))).unwrap();
        let mut command = hutong_tests::hutong(folder, &arguments);
        command.env("HUTONG_LOG", "warn").stdout(Stdio::null()).stderr(log);
        Self { child: command.spawn().unwrap(), address, client: reqwest::Client::new() }
    }

    /// Waits until every lane of it runs; returns when that was seen.
    pub(crate) async fn runs(&mut self) -> Instant {
        self.until(|text| {
            let state = |state: &str| sum(text, "hutong_lane_state", &[&format!("state=\"{state}\"")]);
            let running = state("running");
            running > 0.0 && state("opening") + state("retrying") + state("halted") == 0.0
        })
        .await
    }

    /// Waits until a pipeline has committed so many changes since it was started; returns when that was seen.
    pub(crate) async fn committed(&mut self, pipeline: &str, count: u64) -> Instant {
        let label = format!("pipeline=\"{pipeline}\"");
        self.until(|text| sum(text, "hutong_changes_committed_total", &[&label]) >= count as f64).await
    }

    /// Waits until no lane is behind.
    pub(crate) async fn is_at_the_head(&self) {
        let until = Instant::now() + PATIENCE;
        let mut in_a_row = 0;
        while in_a_row < 3 {
            let behind = self.metric("hutong_lag_seconds", &[]).await;
            in_a_row = if behind == 0.0 { in_a_row + 1 } else { 0 };
            assert!(Instant::now() < until, "lanes are {behind} seconds behind in all");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Returns the sum of a metric's series that carry all the labels.
    async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        sum(&self.scrape().await.unwrap_or_default(), name, labels)
    }

    /// Returns what it has used since it was started.
    pub(crate) fn used(&self) -> Used {
        let read = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).unwrap();
        let (stat, status) = (read("stat"), read("status"));
        // Behind the name, which is in parentheses: state is field 3, utime and stime are fields 14 and 15 (proc(5)).
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: f64 = fields[11..13].iter().map(|n| n.parse::<f64>().unwrap()).sum();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let peak: u64 = peak.trim().trim_end_matches("kB").trim().parse().unwrap();
        Used { cpu: ticks / 100.0, memory: peak * 1024 }
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) async fn stop(mut self) -> Used {
        let used = self.used();
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let until = Instant::now() + PATIENCE;
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < until, "it does not stop");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        used
    }

    async fn scrape(&self) -> Option<String> {
        let answer = self.client.get(format!("http://{}/metrics", self.address)).send().await.ok()?;
        answer.text().await.ok()
    }

    async fn until(&mut self, reached: impl Fn(&str) -> bool) -> Instant {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(text) = self.scrape().await
                && reached(&text)
            {
                return Instant::now();
            }
            assert!(
                self.child.try_wait().unwrap().is_none(),
                "the program has ended; its log is in its folder"
            );
            assert!(Instant::now() < until, "not reached in {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sums the series of a metric in Prometheus' text form that carry all the labels.
fn sum(text: &str, name: &str, labels: &[&str]) -> f64 {
    text.lines()
        .filter(|line| line.starts_with(name) && line.as_bytes().get(name.len()) == Some(&b'{'))
        .filter(|line| labels.iter().all(|label| line.contains(label)))
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum()
}
