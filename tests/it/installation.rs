//! One installation of Hutong: a folder with a configuration, run over and over, stopped and killed.
//!
//! Knows the program and its bus; nothing of what flows.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use hutong_testkit::launch::{Kafka, Registry, free_port};
use serde_json::Value as Json;
use tempfile::TempDir;

use crate::cli::{self, Ended, ended, root};

/// How long a condition may take to come true.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Which bus an installation goes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bus {
    /// One folder.
    Embedded,
    /// The shared Kafka and the shared registry.
    Kafka,
}

/// A folder with a configuration.
///
/// What its runs log as WARN or ERROR must be announced: whatever else they find amiss fails the test.
pub(crate) struct Installation {
    folder: TempDir,
    announced: Mutex<Vec<&'static str>>,
}

/// One run of the program; dropping it kills it, and shows its log when the test has failed.
pub(crate) struct Run {
    child: Child,
    log: PathBuf,
}

impl Bus {
    /// Returns the bus's table in a configuration; starts what it names.
    pub(crate) async fn table(self) -> String {
        match self {
            Self::Embedded => "[bus.embedded]\nfolder = \"bus\"\n".into(),
            Self::Kafka => {
                let (kafka, registry) = tokio::join!(Kafka::shared(), Registry::shared());
                let (brokers, registry) = (kafka.unwrap().bootstrap(), registry.unwrap().url());
                format!("[bus.kafka]\nbrokers = \"{brokers}\"\nregistry = \"{registry}\"\n")
            }
        }
    }
}

impl Installation {
    /// Makes a folder whose configuration is the bus's part and `rest`; `name` is like no other test's.
    pub(crate) async fn new(bus: Bus, name: &str, rest: &str) -> Self {
        Self::over(&bus.table().await, name, rest)
    }

    /// Makes a folder whose bus is a table `[bus.…]` of one's own.
    pub(crate) fn over(bus: &str, name: &str, rest: &str) -> Self {
        let http = format!("[http]\naddress = \"127.0.0.1:{}\"\n", free_port());
        let installation = Self { folder: TempDir::new().unwrap(), announced: Mutex::default() };
        let text = format!("[bus]\nname = \"bus{name}\"\n\n{bus}\n{http}\n{rest}");
        installation.write("hutong.toml", &text);
        if bus.starts_with("[bus.kafka]") {
            // One cluster serves all tests at once, and a topic may have no leader yet: that is waited for, and said.
            installation.announce(&["will open again", "the group does not answer", "cannot take part yet"]);
        }
        installation
    }

    /// Returns a path in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Returns `host:port` of its `[http]`.
    pub(crate) fn address(&self) -> String {
        let text = fs::read_to_string(self.path("hutong.toml")).unwrap();
        let (_, rest) = text.split_once("[http]\naddress = \"").unwrap();
        rest.split('"').next().unwrap().to_owned()
    }

    /// Writes a file of the folder.
    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// Copies a contract of `schemas/` into the folder.
    pub(crate) fn copy_contract(&self, stream: &str) {
        let file = format!("{stream}.avsc");
        fs::copy(root().join("schemas").join(&file), self.path(&file)).unwrap();
    }

    /// Drafts the contract of a live table, with a configuration of its own, and lets everybody have it.
    pub(crate) fn draft_contract(&self, url: &str, table: &str, stream: &str) {
        let config =
            format!("[bus.embedded]\nfolder = \"bus\"\n\n[store.office.postgres]\nurl = \"{url}\"\n");
        self.write("draft.toml", &config);
        let draft = self.ask(&["-c", "draft.toml", "contract", "draft", "office", table]).expect(0);
        let mut contract: Json = serde_json::from_str(&draft).unwrap();
        assert_eq!(contract["name"], stream);
        assert_eq!(contract["sharing"], "none", "a draft is not shared until somebody decides it");
        contract["sharing"] = "unconditional".into();
        contract.as_object_mut().unwrap().remove("sharing_law");
        self.write(&format!("{stream}.avsc"), &contract.to_string());
    }

    /// Runs a command to its end.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Ended {
        ended(cli::hutong(self.folder.path(), arguments))
    }

    /// Starts `hutong run`.
    pub(crate) fn run(&self) -> Run {
        self.start(cli::hutong(self.folder.path(), &["run"]))
    }

    /// Starts a command that goes on until it is stopped.
    pub(crate) fn begin(&self, arguments: &[&str]) -> Run {
        self.start(cli::hutong(self.folder.path(), arguments))
    }

    /// Starts `hutong run` of some pipelines only.
    pub(crate) fn run_only(&self, pipelines: &[&str]) -> Run {
        let named = pipelines.iter().flat_map(|pipeline| ["--only", pipeline]);
        self.start(cli::hutong(self.folder.path(), &["run"].into_iter().chain(named).collect::<Vec<_>>()))
    }

    /// Starts `hutong run` so that a write beyond the limit of a file's size is an error and no signal that kills.
    pub(crate) fn run_without_xfsz(&self) -> Run {
        let run = cli::hutong(self.folder.path(), &["run"]);
        let mut command = Command::new("sh");
        // What is ignored stays so in the program that takes the shell's place.
        command.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"]).arg(run.get_program()).args(run.get_args());
        command.current_dir(self.folder.path()).stdin(Stdio::null()).env_remove("HUTONG_CONFIG");
        self.start(command)
    }

    fn start(&self, mut command: Command) -> Run {
        let log = self.path("hutong.log");
        let file = OpenOptions::new().create(true).append(true).open(&log).unwrap();
        command.env("HUTONG_LOG", "info,hutong_stores=debug").stdout(Stdio::null()).stderr(file);
        Run { child: command.spawn().unwrap(), log }
    }

    /// Announces messages that its runs may log as WARN or ERROR.
    pub(crate) fn announce(&self, messages: &[&'static str]) {
        self.announced.lock().unwrap().extend(messages);
    }

    /// Returns what was logged as WARN or ERROR and not announced.
    fn unannounced(&self) -> Vec<String> {
        let log = text(&self.path("hutong.log"));
        let announced = self.announced.lock().unwrap();
        // A line that a kill has cut says nothing.
        let lines = log.lines().filter_map(|line| Some((line, serde_json::from_str::<Json>(line).ok()?)));
        let amiss = |told: &Json| {
            let message = told["message"].as_str().unwrap_or_default();
            ["WARN", "ERROR"].contains(&told["level"].as_str().unwrap_or_default())
                && !announced.contains(&message)
                // That is said of the machine, which may be busy in any test.
                && !message.starts_with("this process stood still")
        };
        lines.filter(|(_, told)| amiss(told)).map(|(line, _)| line.to_owned()).collect()
    }

    /// Says whether any run has logged a text.
    pub(crate) fn logged(&self, text: &str) -> bool {
        self.times_logged(text) > 0
    }

    /// Returns how often a text has been logged, by all runs together.
    pub(crate) fn times_logged(&self, text: &str) -> usize {
        self::text(&self.path("hutong.log")).matches(text).count()
    }

    /// Makes a key file for each department, and pins that of the first, which governs; returns the public keys.
    pub(crate) fn make_keys<const N: usize>(&self, departments: [&str; N]) -> [(String, String); N] {
        let keys = departments.map(|department| {
            let public = self.ask(&["ledger", "keygen", &format!("{department}.key")]).expect(0);
            (department.to_owned(), public.trim().to_owned())
        });
        let path = self.path("hutong.toml");
        let text = fs::read_to_string(&path).unwrap().replace("GOVERNING", &keys[0].1);
        fs::write(&path, text).unwrap();
        keys
    }

    /// Lets all but the governing department join the ledger, and offers a stream.
    pub(crate) fn found(&self, keys: &[(String, String)], stream: &str) {
        for (department, key) in &keys[1..] {
            self.ask(&["ledger", "join", department, key]).expect(0);
        }
        self.ask(&["ledger", "offer", stream]).expect(0);
    }

    /// Returns the lanes as `hutong status` tells them; `None` when nothing answers.
    pub(crate) fn lanes(&self) -> Option<Vec<Json>> {
        self.status()?["lanes"].as_array().cloned()
    }

    /// Returns all that `hutong status` tells; `None` when nothing answers.
    pub(crate) fn status(&self) -> Option<Json> {
        serde_json::from_str(&self.ask(&["status", "-o", "json"]).out).ok()
    }

    /// Reads a stream from its start until `enough` says so, and returns its changes in the order of each key.
    pub(crate) async fn tap(&self, stream: &str, enough: impl Fn(&[Json]) -> bool) -> Vec<Json> {
        self.tap_as(stream, &[], enough).await
    }

    /// Reads, from its start, what a stream is for those whom the arguments name.
    pub(crate) async fn tap_as(
        &self,
        stream: &str,
        whom: &[&str],
        enough: impl Fn(&[Json]) -> bool,
    ) -> Vec<Json> {
        let out = self.path("tap.json");
        let tap = ["tap", stream, "--from-start", "-o", "json"];
        let mut command = cli::hutong(self.folder.path(), &[&tap[..], whom].concat());
        command.stdout(File::create(&out).unwrap()).stderr(File::create(self.path("tap.log")).unwrap());
        let tap = Run { child: command.spawn().unwrap(), log: self.path("tap.log") };
        let mut read = BufReader::new(File::open(&out).unwrap());
        // Bytes: what is written so far may end within a character.
        let (mut changes, mut line) = (Vec::new(), Vec::new());
        loop {
            // However long a stream is: it goes on.
            let more = format!("tap {stream} tells more");
            let told = until(&more, async || {
                let known = changes.len();
                // The last line may not be whole yet.
                while read.read_until(b'\n', &mut line).unwrap() > 0 && line.ends_with(b"\n") {
                    changes.push(serde_json::from_slice(&line).unwrap());
                    line.clear();
                }
                (changes.len() > known).then(|| enough(&changes))
            });
            if told.await {
                drop(tap);
                return changes;
            }
        }
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        let panicking = std::thread::panicking();
        let amiss = self.unannounced();
        if panicking || !amiss.is_empty() {
            self.folder.disable_cleanup(true);
            eprintln!("the installation is kept in {}", self.folder.path().display());
        }
        assert!(panicking || amiss.is_empty(), "logged and not announced:\n{}", amiss.join("\n"));
    }
}

impl Run {
    /// Says whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Returns its number.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// Asks it to stop (SIGTERM) and asserts that it drains and ends well.
    pub(crate) async fn stop(mut self) {
        self.signal("TERM");
        let status = until("it stops", async || self.child.try_wait().unwrap()).await;
        assert_eq!(status.code(), Some(0), "a program that is asked to stop ends well");
    }

    /// Kills it where it stands (SIGKILL).
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the program's log ends with:\n{}", tail(&self.log));
        }
    }
}

fn tail(log: &Path) -> String {
    let text = text(log);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

/// Asks until there is an answer; panics when there is none in time.
pub(crate) async fn until<T>(what: &str, ask: impl AsyncFnMut() -> Option<T>) -> T {
    answered(ask).await.unwrap_or_else(|| panic!("within {PATIENCE:?} not: {what}"))
}

/// Asks until there is an answer; `None` when there is none in time.
pub(crate) async fn answered<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(answer) = ask().await {
            return Some(answer);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    None
}

/// Reads what a program has written so far, which may end within a character; empty when there is no such file.
fn text(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// Returns the seed of what a test does by chance, printed so that a failure can be had again.
pub(crate) fn seed() -> u64 {
    let seed = match std::env::var("HUTONG_TEST_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => std::time::UNIX_EPOCH.elapsed().unwrap().as_micros() as u64,
    };
    println!("HUTONG_TEST_SEED={seed}");
    seed
}
