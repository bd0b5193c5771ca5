//! The whole protocol in one call: begin, renew while the work goes on, and say how it went.

use crate::error::Error;
use crate::ledger::attempt::Attempt;
use crate::ledger::begin::Begin;
use crate::ledger::ending::Ending;
use crate::ledger::error::{AttemptError, Failure, FailureKind};
use crate::ledger::handle::Ledger;
use crate::ledger::options::BeginOptions;
use crate::ledger::record::{Record, State};
use crate::ledger::value::{decode, encode};
use crate::ledger::work::{Kept, Work};
use crate::sync::{Arc, Scheduled, Started};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// What came of [`Ledger::run`].
#[derive(Debug)]
#[non_exhaustive]
#[must_use = "the work may have been refused: look before you acknowledge its message"]
pub enum Ran<T> {
    /// The work was done now.
    First(T),
    /// It was done before; this is its result.
    Replayed(T),
    /// The work has answered with a [`Failure::replayed`], now or before; the result is in the record.
    Failure {
        /// The record.
        record: Box<Record>,
        /// Whether that was before.
        is_replay: bool,
    },
    /// Nothing was done; the answer says why. Never [`Begin::Started`] or [`Begin::Completed`].
    Refused(Begin),
}

impl<T> Ran<T> {
    /// Returns the result, first or replayed.
    pub fn value(self) -> Option<T> {
        match self {
            Self::First(value) | Self::Replayed(value) => Some(value),
            _ => None,
        }
    }

    /// Returns whether the work was done before.
    pub fn is_replay(&self) -> bool {
        matches!(self, Self::Replayed(_) | Self::Failure { is_replay: true, .. })
    }
}

/// Why [`Ledger::run`] has no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The work failed, and the ledger knows it: the record says what follows.
    #[error("the work failed: {reason} (the id is {})", record.state)]
    Failed {
        /// What the work said.
        reason: String,
        /// The record after that.
        record: Box<Record>,
    },
    /// The attempt could not go on, or could not say how it went.
    #[error(transparent)]
    Attempt(#[from] AttemptError),
    /// The store failed before the work began: it was not done.
    #[error(transparent)]
    Store(#[from] Error),
}

impl Ledger {
    /// Does the work of an id once: begins an attempt, renews its lease while `work` runs, and stores the result or the
    /// failure. If it was done before, its result is returned and `work` is not called.
    ///
    /// `work` may return early with `?`: the attempt has failed then, and is tried again, or held where the policy is
    /// [`OnLeaseEnd::Hold`](crate::ledger::OnLeaseEnd::Hold). A panic counts the same. [`Failure`] says more.
    ///
    /// ```
    /// use firstseen::Store;
    /// use firstseen::ledger::Ran;
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("seen.db");
    /// let ledger = Store::open(&path)?.ledger("invoices")?;
    /// let number = |_: &_| Ok(4711_u32);
    /// assert!(matches!(ledger.run("order-1", number)?, Ran::First(4711)));
    /// assert!(matches!(ledger.run("order-1", number)?, Ran::Replayed(4711)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// See [`RunError`].
    pub fn run<T: Serialize + DeserializeOwned>(
        &self,
        id: impl AsRef<[u8]>,
        work: impl FnOnce(&Attempt) -> Result<T, Failure>,
    ) -> Result<Ran<T>, RunError> {
        self.run_with(id, BeginOptions::new(), work)
    }

    /// Does the work of an id once, with settings for this call; see [`run`](Self::run).
    ///
    /// # Errors
    ///
    /// See [`RunError`].
    pub fn run_with<T: Serialize + DeserializeOwned>(
        &self,
        id: impl AsRef<[u8]>,
        options: BeginOptions,
        work: impl FnOnce(&Attempt) -> Result<T, Failure>,
    ) -> Result<Ran<T>, RunError> {
        // Before the attempt: without renewals it would lose its lease in the middle of the work.
        let renewals = self.inner.store.engine().renewals()?;
        let attempt = match self.begin_with(id, options)? {
            Begin::Started(attempt) => attempt,
            other => return replay(other),
        };
        let _renewed = keep_renewing(&renewals, &attempt.work);
        let done = work(&attempt);
        finish(&attempt, done)
    }

    /// Does the work of an id once, where the work is a future; see [`run`](Self::run). Dropping the future drops the
    /// attempt, as a panic does, unless the work has kept a clone of it elsewhere. Once the work is done and its result is
    /// being stored, that leaves the attempt in doubt: the end of its lease decides.
    ///
    /// No thread waits for the disk: the commits that begin the attempt and store its result or failure are awaited, and so
    /// are those of [`Attempt::stage_async`]. Renewals run on a thread of the store.
    ///
    /// # Errors
    ///
    /// See [`RunError`].
    pub async fn run_async<T, F>(
        &self,
        id: impl AsRef<[u8]>,
        options: BeginOptions,
        work: impl FnOnce(Arc<Attempt>) -> F,
    ) -> Result<Ran<T>, RunError>
    where
        T: Serialize + DeserializeOwned,
        F: Future<Output = Result<T, Failure>>,
    {
        let renewals = self.inner.store.engine().renewals()?;
        let attempt = match self.begin_async(id, options).await? {
            Begin::Started(attempt) => Arc::new(attempt),
            other => return replay(other),
        };
        let _renewed = keep_renewing(&renewals, &attempt.work);
        let done = work(Arc::clone(&attempt)).await;
        finish_async(&attempt, done).await
    }
}

/// A lease that could not be renewed is tried again after this part of the usual pause.
const AGAIN: u32 = 4;

/// If there was no room for it, it is tried again after this part, so that others have their turn, or after this time.
const AGAIN_IF_FULL: (u32, Duration) = (64, Duration::from_millis(50));

/// Renews the lease of an attempt from now on, until it is over or the result is dropped.
pub(super) fn keep_renewing(renewals: &Started<'_>, work: &Arc<Work>) -> Option<Scheduled> {
    let pause = work.renew_every()?;
    let work = Arc::downgrade(work);
    Some(renewals.add(pause, move || match work.upgrade()?.keep() {
        Kept::Renewed => Some(pause),
        Kept::Busy => Some(pause / AGAIN),
        Kept::Full => Some(AGAIN_IF_FULL.1.min(pause / AGAIN_IF_FULL.0)),
        Kept::Failed(error) => {
            tracing::warn!(%error, "a lease was not renewed");
            Some(pause / AGAIN)
        }
        Kept::Over => None,
    }))
}

/// Returns what `begin` found in place of an attempt.
fn replay<T: DeserializeOwned>(found: Begin) -> Result<Ran<T>, RunError> {
    match found {
        Begin::Completed(record) => match &record.state {
            State::Completed { is_failure: true, .. } => {
                Ok(Ran::Failure { record, is_replay: true })
            }
            _ => Ok(Ran::Replayed(record.value()?)),
        },
        other => Ok(Ran::Refused(other)),
    }
}

/// Stores how the work went.
fn finish<T: Serialize + DeserializeOwned>(
    attempt: &Attempt,
    done: Result<T, Failure>,
) -> Result<Ran<T>, RunError> {
    let (said, ending) = Said::of(attempt, done)?;
    let ended = ending.and_then(|ending| attempt.work.end(&ending));
    if let Some(ending) = said.instead(attempt, &ended)? {
        attempt.work.end(&ending)?;
    }
    said.told(attempt, ended)
}

/// Stores how the work went, as a future.
async fn finish_async<T: Serialize + DeserializeOwned>(
    attempt: &Attempt,
    done: Result<T, Failure>,
) -> Result<Ran<T>, RunError> {
    let (said, ending) = Said::of(attempt, done)?;
    let ended = match ending {
        Ok(ending) => attempt.work.end_async(&ending).await,
        Err(error) => Err(error),
    };
    if let Some(ending) = said.instead(attempt, &ended)? {
        attempt.work.end_async(&ending).await?;
    }
    said.told(attempt, ended)
}

/// What the work has said at its end.
enum Said<T> {
    Done(T),
    Failed {
        reason: String,
        /// The failure is an answer that is replayed.
        is_answer: bool,
    },
}

impl<T: Serialize + DeserializeOwned> Said<T> {
    /// Returns what the work has said, and how its attempt is to end with that.
    fn of(
        attempt: &Attempt,
        done: Result<T, Failure>,
    ) -> Result<(Self, Result<Ending, AttemptError>), RunError> {
        match done {
            Ok(value) => {
                let ending = encode("the result", &value).and_then(|bytes| {
                    // Not every type that can be encoded can be decoded.
                    decode::<T>("the result", &bytes)?;
                    Ok(attempt.work.completion(bytes, true))
                });
                Ok((Self::Done(value), ending))
            }
            Err(failure) => {
                let reason = failure.reason().to_owned();
                let is_answer = matches!(failure.kind, FailureKind::Replay(_));
                let ending = attempt.ending_of(failure)?;
                Ok((Self::Failed { reason, is_answer }, Ok(ending)))
            }
        }
    }

    /// Returns how the attempt is to end instead, if what was said cannot be stored: the work is not done again for that.
    fn instead(
        &self,
        attempt: &Attempt,
        ended: &Result<(), AttemptError>,
    ) -> Result<Option<Ending>, AttemptError> {
        let reason = match (self, ended) {
            (
                Self::Done(_),
                Err(error @ (AttemptError::TooLarge { .. } | AttemptError::Value { .. })),
            ) => format!("the work was done, but {error}"),
            (Self::Failed { reason, .. }, Err(error @ AttemptError::TooLarge { .. })) => {
                format!("{reason}; but {error}")
            }
            _ => return Ok(None),
        };
        attempt.ending_of(Failure::last(reason)).map(Some)
    }

    /// Returns what came of it, once the attempt has ended.
    fn told(self, attempt: &Attempt, ended: Result<(), AttemptError>) -> Result<Ran<T>, RunError> {
        match (self, ended) {
            (Self::Done(value), Ok(())) => Ok(Ran::First(value)),
            (Self::Failed { is_answer: true, .. }, Ok(())) => {
                Ok(Ran::Failure { record: attempt.record().into(), is_replay: false })
            }
            (Self::Failed { reason, .. }, Ok(()) | Err(AttemptError::TooLarge { .. })) => {
                Err(RunError::Failed { reason, record: attempt.record().into() })
            }
            (_, Err(error)) => Err(error.into()),
        }
    }
}
