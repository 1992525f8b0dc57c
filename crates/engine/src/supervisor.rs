//! The one place that spawns: every task has a name and an end that somebody looks at.

use std::future::Future;
use std::time::Duration;

use hutong_core::{Error, ErrorKind, Result};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

/// What the end of a task with an error means for the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// The others go on; the task tells its own error.
    Continue,
    /// Everything stops.
    StopAll,
}

/// Runs named tasks until they end or are asked to stop.
#[derive(Debug, Default)]
pub struct Supervisor {
    token: CancellationToken,
    tasks: JoinSet<(String, OnError, Result<()>)>,
}

impl Supervisor {
    /// Makes a supervisor without tasks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the token that asks every task to stop.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Starts a task. It must end soon after the token is cancelled, at a place where nothing is lost.
    #[expect(clippy::disallowed_methods, reason = "this is the place that may spawn")]
    pub fn spawn(
        &mut self,
        name: impl Into<String>,
        on_error: OnError,
        task: impl Future<Output = Result<()>> + Send + 'static,
    ) {
        let name = name.into();
        // The inner spawn turns a panic into an error that still knows the task's name.
        self.tasks.spawn(async move {
            let end = match tokio::spawn(task).await {
                Ok(end) => end,
                Err(join) => {
                    // A panicked task cannot tell its own error.
                    error!(task = %name, error = %join, "panicked");
                    Err(Error::caused(ErrorKind::Broken, format!("run {name}"), join))
                }
            };
            (name, on_error, end)
        });
    }

    /// Waits until every task has ended, or until `grace` has passed after the token was cancelled.
    ///
    /// Returns the first error of a task that stops all.
    pub async fn wait(mut self, grace: Duration) -> Result<()> {
        let token = self.token.clone();
        let mut first = None;
        let deadline = async {
            token.cancelled().await;
            tokio::time::sleep(grace).await;
        };
        tokio::pin!(deadline);
        loop {
            let ended = tokio::select! {
                ended = self.tasks.join_next() => ended,
                () = &mut deadline => {
                    warn!(tasks = self.tasks.len(), "tasks did not stop in time and are dropped");
                    break;
                }
            };
            match ended {
                None => break,
                Some(Ok((name, _, Ok(())))) => debug!(task = %name, "ended"),
                Some(Ok((name, on_error, Err(problem)))) => {
                    // A task that lets the others go on has told its own error.
                    debug!(task = %name, error = %problem, "ended with an error");
                    if on_error == OnError::StopAll {
                        error!(task = %name, error = %problem, "task failed: everything stops");
                        self.token.cancel();
                        first.get_or_insert(problem);
                    }
                }
                Some(Err(join)) => error!(error = %join, "task vanished"),
            }
        }
        first.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_fatal_task_stops_all() {
        let mut supervisor = Supervisor::new();
        let token = supervisor.token();
        supervisor.spawn("waits", OnError::Continue, async move {
            token.cancelled().await;
            Ok(())
        });
        supervisor
            .spawn("fails", OnError::StopAll, async { Err(Error::new(ErrorKind::Broken, "stand", "fell")) });
        let error = supervisor.wait(Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(error.to_string(), "failed to stand: fell");
    }

    #[tokio::test]
    async fn a_panic_is_an_error_with_a_name() {
        let mut supervisor = Supervisor::new();
        supervisor.spawn("clumsy", OnError::StopAll, async { panic!("oops") });
        let error = supervisor.wait(Duration::from_secs(5)).await.unwrap_err();
        assert!(error.to_string().starts_with("failed to run clumsy"), "{error}");
    }
}
