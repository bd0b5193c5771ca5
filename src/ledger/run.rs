//! The whole protocol in one call: begin, renew while the work goes on, and say how it went.

use crate::error::Error;
use crate::ledger::attempt::{Attempt, Kept, Work};
use crate::ledger::begin::Begin;
use crate::ledger::error::{AttemptError, Failure, FailureKind};
use crate::ledger::handle::Ledger;
use crate::ledger::options::BeginOptions;
use crate::ledger::record::{Record, State};
use crate::ledger::value::{decode, encode};
use crate::sync::{Arc, Scheduled, Started};
use serde::Serialize;
use serde::de::DeserializeOwned;

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
    /// attempt, as a panic does, unless the work has kept a clone of it elsewhere.
    ///
    /// Only the work is awaited. The attempt is begun, and its result or failure stored, on the thread that polls: each
    /// is a commit, which at [`Durability::Disk`](crate::Durability::Disk) blocks that thread for a sync, and so does
    /// saving a stage. Renewals run on a thread of the store.
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
        let attempt = match self.begin_with(id, options)? {
            Begin::Started(attempt) => Arc::new(attempt),
            other => return replay(other),
        };
        let _renewed = keep_renewing(&renewals, &attempt.work);
        let done = work(Arc::clone(&attempt)).await;
        finish(&attempt, done)
    }
}

/// A lease that could not be renewed is tried again after this part of the usual pause.
const AGAIN: u32 = 4;

/// Renews the lease of an attempt from now on, until it is over or the result is dropped.
pub(super) fn keep_renewing(renewals: &Started<'_>, work: &Arc<Work>) -> Option<Scheduled> {
    let pause = work.renew_every()?;
    let work = Arc::downgrade(work);
    Some(renewals.add(pause, move || match work.upgrade()?.keep() {
        Kept::Renewed => Some(pause),
        Kept::Busy => Some(pause / AGAIN),
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
    let failure = match done {
        Ok(value) => {
            // A result that cannot be stored must not look like work that was not done.
            let stored = encode("the result", &value).and_then(|bytes| {
                // Not every type that can be encoded can be decoded.
                decode::<T>("the result", &bytes)?;
                attempt.complete_encoded(&bytes)
            });
            return match stored {
                Ok(()) => Ok(Ran::First(value)),
                Err(error @ (AttemptError::TooLarge { .. } | AttemptError::Value { .. })) => {
                    attempt.fail(Failure::last(format!("the work was done, but {error}")))?;
                    Err(error.into())
                }
                Err(error) => Err(error.into()),
            };
        }
        Err(failure) => failure,
    };
    if matches!(&failure.kind, FailureKind::Attempt(error) if error.ends_attempt()) {
        return Err(attempt.fail(failure).err().map_or_else(
            || Error::bug("an attempt failed by its own error").into(),
            RunError::Attempt,
        ));
    }
    let reason = failure.reason().to_owned();
    let is_answer = matches!(failure.kind, FailureKind::Replay(_));
    match attempt.fail(failure) {
        Ok(()) if is_answer => {
            return Ok(Ran::Failure { record: attempt.record().into(), is_replay: false });
        }
        // The work has given its answer: it is not asked again because that cannot be stored.
        Err(error @ AttemptError::TooLarge { .. }) => {
            attempt.fail(Failure::last(format!("{reason}; but {error}")))?;
        }
        other => other?,
    }
    Err(RunError::Failed { reason, record: attempt.record().into() })
}
