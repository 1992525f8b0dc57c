//! One server program that runs under the watchdog, with its folder and its log.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::error::{Doing, Error, Result};

/// How long a server may take to come up or to go down.
const PATIENCE: Duration = Duration::from_secs(180);

/// How long one question whether the server is ready may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

const WATCHDOG: &str = include_str!("watchdog.sh");

/// The operating system user that a server runs as.
#[derive(Clone, Copy, Debug)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// A program with its arguments.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    path: PathBuf,
    args: Vec<OsString>,
    user: Option<User>,
    farewell: &'static str,
}

impl Program {
    pub(crate) fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), args: Vec::new(), user: None, farewell: "KILL" }
    }

    pub(crate) fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    pub(crate) fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Runs the program as another user, which only root can do.
    pub(crate) fn user(mut self, user: Option<User>) -> Self {
        self.user = user;
        self
    }

    /// Sets the signal that ends the program for good when nobody needs it any more.
    pub(crate) fn farewell(mut self, signal: &'static str) -> Self {
        self.farewell = signal;
        self
    }

    /// Runs the program to its end and returns what it printed on standard output.
    pub(crate) fn run(&self) -> Result<String> {
        let mut command = Command::new(&self.path);
        command.args(&self.args).stdin(Stdio::null());
        as_user(&mut command, self.user);
        let output = command.output().doing(|| format!("run {}", self.path.display()))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(Error::new(format!(
            "{} ended with {}\n{}{}",
            self.path.display(),
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )))
    }
}

/// A server with its folder; dropping it kills the server and removes the folder.
#[derive(Debug)]
pub(crate) struct Server {
    name: &'static str,
    program: Program,
    watchdog: Option<Child>,
    log: PathBuf,
    /// Where in the log the present run begins.
    run_begin: u64,
    // The last field: it is removed after the server is gone.
    folder: TempDir,
}

impl Server {
    /// Makes room for a server that is not started yet.
    pub(crate) fn new(name: &'static str, program: Program, folder: TempDir) -> Self {
        let log = folder.path().join("server.log");
        Self { name, program, watchdog: None, log, run_begin: 0, folder }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts the program and waits until `ready` says yes.
    pub(crate) async fn start(&mut self, ready: impl AsyncFn(&Self) -> bool) -> Result<()> {
        self.run_begin = fs::metadata(&self.log).map(|log| log.len()).unwrap_or(0);
        let mut command = Command::new("sh");
        command
            .args(["-c", WATCHDOG, "watchdog"])
            .arg(&self.log)
            .arg(self.folder.path())
            .arg(self.program.farewell);
        command.arg(&self.program.path).args(&self.program.args);
        // A group of its own: Ctrl-C ends the test, and the test's end then ends the server.
        command.current_dir(self.folder.path()).stdin(Stdio::piped()).process_group(0);
        as_user(&mut command, self.program.user);
        self.watchdog = Some(command.spawn().doing(|| format!("start {}", self.name))?);

        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.exit_status()? {
                return Err(self.error(&format!("ended with {status} instead of coming up")));
            }
            // A server that accepts and does not answer yet may not hold up the deadline.
            if tokio::time::timeout(ANSWER_TIMEOUT, ready(self)).await.unwrap_or(false) {
                return Ok(());
            }
            if Instant::now() > deadline {
                let error = self.error(&format!("did not come up within {PATIENCE:?}"));
                self.signal("KILL").await?;
                return Err(error);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Sends a signal and waits until the server is gone; does nothing if it is not running.
    pub(crate) async fn signal(&mut self, signal: &str) -> Result<()> {
        let Some(watchdog) = &mut self.watchdog else { return Ok(()) };
        if let Some(lifeline) = &mut watchdog.stdin {
            // It fails only when the server has just ended by itself, which is what is wanted.
            let _ = lifeline.write_all(format!("{signal}\n").as_bytes());
        }
        let deadline = Instant::now() + PATIENCE;
        while self.exit_status()?.is_none() {
            if Instant::now() > deadline {
                return Err(self.error(&format!("did not end within {PATIENCE:?} of SIG{signal}")));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Says whether the present run has logged `text`.
    pub(crate) fn logged(&self, text: &str) -> bool {
        self.run_log().contains(text)
    }

    fn exit_status(&mut self) -> Result<Option<ExitStatus>> {
        let Some(watchdog) = &mut self.watchdog else { return Ok(None) };
        let status = watchdog.try_wait().doing(|| format!("wait for {}", self.name))?;
        if status.is_some() {
            self.watchdog = None;
        }
        Ok(status)
    }

    fn run_log(&self) -> String {
        let mut text = Vec::new();
        if let Ok(mut log) = File::open(&self.log)
            && log.seek(SeekFrom::Start(self.run_begin)).is_ok()
        {
            // What cannot be read is not there: this is for a person's eyes and for readiness.
            let _ = log.read_to_end(&mut text);
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    fn error(&self, what: &str) -> Error {
        let log = self.run_log();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(30)..].join("\n");
        Error::new(format!("{} {what}; its log ends with:\n{last}", self.name))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut watchdog) = self.watchdog.take() {
            drop(watchdog.stdin.take());
            let _ = watchdog.wait();
        }
    }
}

/// Makes a folder that `user` owns, below the system's temporary folder.
pub(crate) fn folder(user: Option<User>) -> Result<TempDir> {
    let folder = tempfile::Builder::new().prefix("hutong-").tempdir().doing(|| "make a folder".into())?;
    if let Some(User { uid, gid }) = user {
        std::os::unix::fs::chown(folder.path(), Some(uid), Some(gid))
            .doing(|| format!("give {} to user {uid}", folder.path().display()))?;
    }
    Ok(folder)
}

fn as_user(command: &mut Command, user: Option<User>) {
    if let Some(User { uid, gid }) = user {
        command.uid(uid).gid(gid);
    }
}
