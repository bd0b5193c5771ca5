//! Ends of attempts as futures: transactions of one move.

use crate::error::Error;
use crate::ledger::{Attempt, AttemptError, Failure, JoinedMove};
use crate::transaction::outcome::{CommitOutcome, Rejection};

impl Attempt {
    /// Stores the result, as a future; see [`complete`](Self::complete) and
    /// [`Transaction::commit_async`](crate::transaction::Transaction::commit_async).
    ///
    /// Dropped before it is ready, it may have completed the attempt, or it leaves it in doubt, as an error does.
    ///
    /// # Errors
    ///
    /// As [`complete`](Self::complete).
    pub async fn complete_async(
        &self,
        result: impl AsRef<[u8]>,
    ) -> std::result::Result<(), AttemptError> {
        end(self, self.complete_joined(result.as_ref().to_vec())).await
    }

    /// Says that the attempt failed, as a future; see [`fail`](Self::fail) and
    /// [`Transaction::commit_async`](crate::transaction::Transaction::commit_async).
    ///
    /// # Errors
    ///
    /// As [`fail`](Self::fail).
    pub async fn fail_async(&self, failure: Failure) -> std::result::Result<(), AttemptError> {
        end(self, self.fail_joined(failure)?).await
    }

    /// Hands the record back, as a future; see [`release`](Self::release) and
    /// [`Transaction::commit_async`](crate::transaction::Transaction::commit_async).
    ///
    /// # Errors
    ///
    /// As [`release`](Self::release).
    pub async fn release_async(&self) -> std::result::Result<(), AttemptError> {
        end(self, self.release_joined()).await
    }
}

/// Commits the end of one attempt.
async fn end(attempt: &Attempt, ending: JoinedMove) -> std::result::Result<(), AttemptError> {
    ending.check()?;
    let mut transaction = attempt.ledger().store().transaction();
    transaction.push_move(ending);
    match transaction.commit_async().await? {
        CommitOutcome::Rejected(reasons) => Err(reasons.into_iter().find_map(attempt_error))
            .map_err(|error| error.unwrap_or_else(|| Error::InDoubt.into())),
        _ => Ok(()),
    }
}

fn attempt_error(why: Rejection) -> Option<AttemptError> {
    match why {
        Rejection::Attempt { error, .. } => Some(error),
        _ => None,
    }
}
