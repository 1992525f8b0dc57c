//! A future that is given up after so many looks at it, as a caller does whose patience ends.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// How long anything may take that a check waits for.
pub(super) const DEADLINE: Duration = Duration::from_secs(60);

/// Waits for a future, at most [`DEADLINE`].
pub(super) async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    let future = Box::pin(future);
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(output) => output,
        Err(_) => panic!("not in time: {what}"),
    }
}

/// Polls a future at most `polls` times and then drops it; `None`: it was not done by then.
///
/// Counts polls and not time, so the place at which a call is given up does not hang on how fast the machine is.
pub(super) async fn at_most<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
    Impatient { future: Box::pin(future), polls }.await
}

struct Impatient<'a, T> {
    future: Pin<Box<dyn Future<Output = T> + 'a>>,
    polls: usize,
}

impl<T> Future for Impatient<'_, T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(left) = self.polls.checked_sub(1) else { return Poll::Ready(None) };
        self.polls = left;
        match self.future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}
