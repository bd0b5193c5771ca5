//! The whole protocol in one call: begin, renew while the work goes on, and say how it went.

use crate::attempt::Attempt;
use crate::error::{Error, ErrorKind, MoveError};
use crate::ledger::{Begin, SharedLedger};
use crate::record::State;
use crate::renewals::Lost;
use crate::store::DedupStore;
use firstseen::ledger::{Failure, Fingerprint};
use std::future::Future;
use std::sync::Arc;

/// What came of [`SharedLedger::run`].
#[derive(Debug)]
#[must_use = "the work may have been refused: look before you acknowledge its message"]
pub enum Ran<S: DedupStore> {
    /// The work was done now.
    First(Vec<u8>),
    /// It was done before; this is its result.
    Replayed(Vec<u8>),
    /// The work has answered with a [`Failure::replayed`], now or before.
    Failure {
        /// The result that it has given.
        result: Vec<u8>,
        /// Whether that was before.
        is_replay: bool,
    },
    /// Nothing was done; the answer says why. Never [`Begin::Started`] or [`Begin::Completed`].
    Refused(Begin<S>),
}

/// Why [`SharedLedger::run`] has no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The work failed, and the ledger knows it: what follows is as the [`Failure`] said.
    #[error("the work failed: {reason}")]
    Failed {
        /// What the work said.
        reason: String,
    },
    /// The work was stopped, because the attempt lost its record. Its effect may have happened.
    #[error(
        "the work was stopped, because its lease was lost ({0:?}); its effect may have happened"
    )]
    Lost(Lost),
    /// The attempt could not say how it went.
    #[error("the attempt could not say how it went: {0}")]
    Attempt(#[from] MoveError),
    /// The store failed before the work began: it was not done.
    #[error("the work was not begun: {0}")]
    Store(#[from] Error),
}

impl<S: DedupStore> SharedLedger<S> {
    /// Does the work of an id once: begins an attempt, renews its lease while `work` runs, and stores the result or the failure.
    /// If it was done before, its result is returned and `work` is not called. If the lease is lost, `work` is dropped where it
    /// stands.
    ///
    /// `work` may return early with `?`: the attempt has failed then, and is tried again, or held where the policy is
    /// [`OnLeaseEnd::Hold`](crate::OnLeaseEnd::Hold). A panic counts the same, and so does dropping this future. [`Failure`]
    /// says more.
    ///
    /// # Errors
    ///
    /// See [`RunError`].
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with time, and if `work` does.
    pub async fn run<T, F>(
        &self,
        id: impl AsRef<[u8]>,
        fingerprint: Option<Fingerprint>,
        work: impl FnOnce(Arc<Attempt<S>>) -> F,
    ) -> Result<Ran<S>, RunError>
    where
        T: Into<Vec<u8>>,
        F: Future<Output = Result<T, Failure>>,
    {
        let attempt = match self.begin(id, fingerprint).await? {
            Begin::Started(attempt) => Arc::new(attempt),
            Begin::Completed(record) => {
                let State::Completed { result, is_failure } = record.state else {
                    return Err(not_completed().into());
                };
                let result = result.unwrap_or_default();
                return Ok(if is_failure {
                    Ran::Failure { result, is_replay: true }
                } else {
                    Ran::Replayed(result)
                });
            }
            other => return Ok(Ran::Refused(other)),
        };
        let renewals = attempt.keep_renewed();
        let done = tokio::select! {
            biased;
            done = work(Arc::clone(&attempt)) => done,
            lost = renewals.lost() => {
                // Its lease says what becomes of the record.
                attempt.doubt();
                return Err(RunError::Lost(lost));
            }
        };
        match done {
            Ok(result) => {
                let result = result.into();
                match attempt.complete(&result).await {
                    Ok(()) => Ok(Ran::First(result)),
                    Err(error) => give_up_if_too_long(&attempt, "the work was done", error).await,
                }
            }
            Err(failure) => fail(&attempt, failure).await,
        }
    }
}

async fn fail<S: DedupStore>(attempt: &Attempt<S>, failure: Failure) -> Result<Ran<S>, RunError> {
    let reason = failure.reason().to_owned();
    let answer = failure.result().map(<[u8]>::to_vec);
    match (attempt.fail(failure).await, answer) {
        (Ok(()), Some(result)) => Ok(Ran::Failure { result, is_replay: false }),
        (Ok(()), None) => Err(RunError::Failed { reason }),
        (Err(error), Some(_)) => give_up_if_too_long(attempt, &reason, error).await,
        (Err(error), None) => Err(error.into()),
    }
}

/// Buries a record whose result cannot be stored: the work has given its answer, and is not asked again.
async fn give_up_if_too_long<S: DedupStore>(
    attempt: &Attempt<S>,
    what: &str,
    error: MoveError,
) -> Result<Ran<S>, RunError> {
    if matches!(&error, MoveError::Store(error) if error.kind() == ErrorKind::Invalid) {
        attempt.fail(Failure::last(format!("{what}, but {error}"))).await?;
    }
    Err(error.into())
}

fn not_completed() -> Error {
    Error::new(ErrorKind::Damaged, "begin", "the answer is \"completed\", and its record is not")
}
