//! Looks whether a person has acted on a lane, and waits while it is paused.
//!
//! What a person has done stands in the sink; nothing of it lives in this process's memory alone.

use std::time::Duration;

use hutong_core::{Class, Error, ErrorKind, Hold, Pause, Result};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::lane::{End, Lane, until};
use crate::status::now_us;

/// How long a lane commits nothing before it looks: a commit is a look too.
pub(crate) const GLANCE: Duration = Duration::from_secs(3);

/// How often a paused lane looks.
const GLANCE_PAUSED: Duration = Duration::from_secs(1);

impl Lane {
    /// Tells a person from another owner, when the lane was shut out.
    pub(crate) async fn turned_or(&mut self, ended: Result<End>) -> Result<End> {
        match ended {
            Err(problem) if problem.kind == ErrorKind::Fenced => match self.sink.look().await {
                Ok(Hold::Turned) => Ok(End::Turned),
                _ => Err(problem),
            },
            ended => ended,
        }
    }

    /// Looks whether the lane is still this owner's; `None` when it is. Whatever does not answer is asked another time.
    pub(crate) async fn glance(&mut self, token: &CancellationToken) -> Result<Option<End>> {
        match until(token, self.sink.look()).await {
            Ok(None) => Ok(Some(End::Asked)),
            Ok(Some(Hold::Held)) => Ok(None),
            Ok(Some(Hold::Turned)) => Ok(Some(End::Turned)),
            Ok(Some(Hold::Taken)) => {
                let doing = format!("go on with {}", self.id);
                Err(Error::new(ErrorKind::Fenced, doing, "a newer owner has taken the lane")
                    .hint("another process runs it: stop one of the two"))
            }
            Err(problem) if problem.class() == Class::Retry => {
                debug!(lane = %self.id, error = %problem, "look");
                Ok(None)
            }
            Err(problem) => Err(problem),
        }
    }

    /// Waits while the lane is paused: it reads nothing and holds no connection.
    pub(crate) async fn paused(&mut self, pause: &Pause, token: &CancellationToken) -> Result<End> {
        self.close().await;
        self.entry.paused(pause, now_us());
        info!(lane = %self.id, by = pause.by, reason = pause.reason, "paused");
        loop {
            tokio::select! {
                () = token.cancelled() => return Ok(End::Asked),
                () = tokio::time::sleep(GLANCE_PAUSED) => {}
            }
            self.permitted_now()?;
            if let Some(end) = self.glance(token).await? {
                return Ok(end);
            }
        }
    }
}
