//! Ends of attempts, and what operators do with records, in a transaction.

use crate::ledger::{Attempt, AttemptError, Failure, Ledger, Operation, encode};
use crate::transaction::collect::Transaction;
use serde::Serialize;

impl Transaction {
    /// Completes an attempt; see [`Attempt::complete`].
    pub fn complete(&mut self, attempt: &Attempt, result: impl AsRef<[u8]>) -> &mut Self {
        self.push_move(attempt.complete_joined(result.as_ref().to_vec(), false))
    }

    /// Completes an attempt with a result of any serde type, as [`Ledger::run`] stores it; see
    /// [`Attempt::complete_value`].
    ///
    /// # Errors
    ///
    /// [`Value`](AttemptError::Value) if it cannot be encoded.
    pub fn complete_value<T: Serialize>(
        &mut self,
        attempt: &Attempt,
        result: &T,
    ) -> std::result::Result<&mut Self, AttemptError> {
        Ok(self.push_move(attempt.complete_joined(encode("the result", result)?, true)))
    }

    /// Says that an attempt failed; see [`Attempt::fail`].
    ///
    /// # Errors
    ///
    /// The failure, if it is one of the attempt itself.
    pub fn fail(
        &mut self,
        attempt: &Attempt,
        failure: Failure,
    ) -> std::result::Result<&mut Self, AttemptError> {
        Ok(self.push_move(attempt.fail_joined(failure)?))
    }

    /// Hands an attempt back; see [`Attempt::release`].
    pub fn release(&mut self, attempt: &Attempt) -> &mut Self {
        self.push_move(attempt.release_joined())
    }

    /// Says that an id of a ledger was done after all; see [`Ledger::settle`].
    pub fn settle(
        &mut self,
        ledger: &Ledger,
        id: impl AsRef<[u8]>,
        result: impl AsRef<[u8]>,
        reason: &str,
    ) -> &mut Self {
        self.push_move(ledger.settle_joined(id.as_ref(), result.as_ref().to_vec(), false, reason))
    }

    /// Says that an id of a ledger was done after all, with a result of any serde type; see
    /// [`Ledger::settle_value`].
    ///
    /// # Errors
    ///
    /// [`Value`](AttemptError::Value) if it cannot be encoded.
    pub fn settle_value<T: Serialize>(
        &mut self,
        ledger: &Ledger,
        id: impl AsRef<[u8]>,
        result: &T,
        reason: &str,
    ) -> std::result::Result<&mut Self, AttemptError> {
        let bytes = encode("the result", result)?;
        Ok(self.push_move(ledger.settle_joined(id.as_ref(), bytes, true, reason)))
    }

    /// Lets an id of a ledger be tried again, and keeps its saved stages; see [`Ledger::redrive`].
    pub fn redrive(&mut self, ledger: &Ledger, id: impl AsRef<[u8]>) -> &mut Self {
        self.operate(ledger, id.as_ref(), Operation::Redrive { fresh: false })
    }

    /// Lets an id of a ledger be tried again with all stages done afresh.
    pub fn redrive_fresh(&mut self, ledger: &Ledger, id: impl AsRef<[u8]>) -> &mut Self {
        self.operate(ledger, id.as_ref(), Operation::Redrive { fresh: true })
    }

    /// Ends an id of a ledger without a result; see [`Ledger::cancel`].
    pub fn cancel(&mut self, ledger: &Ledger, id: impl AsRef<[u8]>, reason: &str) -> &mut Self {
        self.operate(ledger, id.as_ref(), Operation::Cancel { reason: reason.to_owned() })
    }

    /// Removes the record of an id of a ledger; see [`Ledger::purge`].
    pub fn purge(&mut self, ledger: &Ledger, id: impl AsRef<[u8]>) -> &mut Self {
        self.operate(ledger, id.as_ref(), Operation::Purge)
    }

    fn operate(&mut self, ledger: &Ledger, id: &[u8], operation: Operation) -> &mut Self {
        self.push_move(ledger.operate_joined(id, operation))
    }
}
