//! Calls that are repeated while the store is away.

use crate::error::{Error, ErrorKind, MoveError};
use std::future::Future;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// How long calls are repeated by default.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The pauses between two tries: the first, doubled up to the longest.
const PAUSE: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// The longest patience. Beyond it nobody waits, and sums of times stay small.
const PATIENCE_MAX: Duration = Duration::from_secs(24 * 3_600);

/// An error of a call that may be repeated.
pub(crate) trait Lost {
    /// Returns whether nobody knows what the call did.
    fn is_unavailable(&self) -> bool;

    /// Returns the error of a call that was not answered in time.
    fn unanswered(within: Duration) -> Self;
}

impl Lost for Error {
    fn is_unavailable(&self) -> bool {
        self.kind() == ErrorKind::Unavailable
    }

    fn unanswered(within: Duration) -> Self {
        let why = format!("no answer within {within:?}; the call may have been made");
        Self::new(ErrorKind::Unavailable, "the store", why)
    }
}

impl Lost for MoveError {
    fn is_unavailable(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_unavailable())
    }

    fn unanswered(within: Duration) -> Self {
        Error::unanswered(within).into()
    }
}

/// Makes a call until the store answers, with growing pauses. `call` gets the number of the try, from one. Ends after
/// `patience`, or a little sooner, with the error of the last try.
///
/// A try has all the time that is left. Stores end their calls themselves, and a try that were dropped before that might be
/// made after its repetition.
pub(crate) async fn patiently<T, E, F>(
    patience: Duration,
    mut call: impl FnMut(u32) -> F,
) -> Result<T, E>
where
    E: Lost + std::fmt::Display,
    F: Future<Output = Result<T, E>>,
{
    let patience = patience.clamp(Duration::from_millis(1), PATIENCE_MAX);
    let deadline = Instant::now() + patience;
    let mut pause = PAUSE;
    for number in 1.. {
        let left = deadline.saturating_duration_since(Instant::now());
        let Ok(answer) = timeout(left, call(number)).await else {
            return Err(E::unanswered(patience));
        };
        let error = match answer {
            Err(error) if error.is_unavailable() => error,
            answer => return answer,
        };
        if Instant::now() + pause >= deadline {
            return Err(error);
        }
        tracing::debug!(%error, number, "the store did not answer; once more in {pause:?}");
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
    unreachable!("tries are not counted up to their end")
}
