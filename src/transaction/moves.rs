//! What attempts and operators do with records, in a transaction.

use crate::ledger::{Attempt, AttemptError, BeginOptions, Failure, Ledger, Operation, encode};
use crate::transaction::collect::Transaction;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;

impl Transaction {
    /// Completes an attempt; see [`Attempt::complete`].
    pub fn complete(&mut self, attempt: &Attempt, result: impl AsRef<[u8]>) -> &mut Self {
        self.push_move(attempt.complete_joined(result.as_ref().to_vec()))
    }

    /// Completes an attempt with a result of any serde type, as [`Ledger::run`] stores it; see
    /// [`Attempt::complete_value`].
    ///
    /// # Errors
    ///
    /// [`Value`](AttemptError::Value) if it cannot be encoded. The attempt is in doubt then, as after an error of the commit.
    pub fn complete_value<T: Serialize>(
        &mut self,
        attempt: &Attempt,
        result: &T,
    ) -> std::result::Result<&mut Self, AttemptError> {
        Ok(self.push_move(attempt.complete_value_joined(result)?))
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

    /// Starts an attempt at an id of a ledger with the commit: a job is handed over together with the state that caused it.
    /// [`CommitOutcome::attempt`](crate::transaction::CommitOutcome::attempt) hands it out. If no attempt may start, the
    /// transaction is [rejected](crate::transaction::Rejection::Begin) with what [`Ledger::begin_with`] would have answered.
    ///
    /// The attempt exists once the commit is made, and not before. Dropped with the outcome, it has failed, like every
    /// attempt. Its lease counts from the commit; a commit that takes longer renews it.
    ///
    /// A transaction that begins an id can be neither [prepared](Self::prepare) nor run by
    /// [`Store::transact`](crate::Store::transact).
    ///
    /// ```
    /// use firstseen::Store;
    /// use firstseen::ledger::BeginOptions;
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("seen.db");
    /// let store = Store::open(&path)?;
    /// let (jobs, orders) = (store.ledger("jobs")?, store.raw_table("orders")?);
    /// let mut transaction = store.transaction();
    /// transaction.put(&orders, "17", b"to be shipped")?;
    /// transaction.begin(&jobs, "ship-17", BeginOptions::new().payload("order 17"));
    /// let mut outcome = transaction.commit()?;
    /// if let Some(attempt) = outcome.attempt(&jobs, "ship-17") {
    ///     attempt.complete("on its way")?;
    /// }
    /// # assert!(jobs.get("ship-17")?.is_some_and(|record| record.result().is_some()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn begin(
        &mut self,
        ledger: &Ledger,
        id: impl AsRef<[u8]>,
        options: BeginOptions,
    ) -> &mut Self {
        self.push_move(ledger.begin_joined(id.as_ref(), options))
    }

    /// Extends the lease of an attempt by its length, from the commit; see [`Attempt::renew`].
    pub fn renew(&mut self, attempt: &Attempt) -> &mut Self {
        self.push_move(attempt.renew_joined())
    }

    /// Sets the end of the lease of an attempt to this long from the commit; see [`Attempt::renew_for`].
    ///
    /// # Errors
    ///
    /// [`FixCall`](crate::ErrorKind::FixCall) for a lease of nothing.
    pub fn renew_for(
        &mut self,
        attempt: &Attempt,
        lease: Duration,
    ) -> std::result::Result<&mut Self, AttemptError> {
        Ok(self.push_move(attempt.renew_for_joined(lease)?))
    }

    /// Saves the result of the stage of an attempt that comes next, together with what the stage has changed; see
    /// [`Attempt::stage`]. Extends the lease.
    ///
    /// Ask [`Attempt::saved_stage`] before the work of the stage. If it is saved already, the transaction is rejected with
    /// [`StageSaved`](AttemptError::StageSaved), so that nothing belongs to it twice. One commit saves one stage of an id.
    /// Until the commit, and if it is rejected, the attempt has not moved.
    ///
    /// ```
    /// # use firstseen::{Store, ledger::Begin, table::Table};
    /// # let dir = tempfile::tempdir()?;
    /// # let store = Store::open(dir.path().join("seen.db"))?;
    /// # let ledger = store.ledger("payments")?;
    /// # let Begin::Started(attempt) = ledger.begin("p-1")? else { panic!() };
    /// let balances = store.table::<i64>("balances")?;
    /// if attempt.saved_stage::<()>("withdraw")?.is_none() {
    ///     let mut transaction = store.transaction();
    ///     let before = transaction.get(&balances, "anna")?.unwrap_or(0);
    ///     transaction.put(&balances, "anna", &(before - 10))?;
    ///     transaction.save_stage(&attempt, "withdraw", &())?;
    ///     assert!(transaction.commit()?.is_committed());
    /// }
    /// // This attempt, or a later one: it is not withdrawn again.
    /// assert!(attempt.saved_stage::<()>("withdraw")?.is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Value`](AttemptError::Value) if it cannot be encoded and decoded, and [`TooLarge`](AttemptError::TooLarge).
    pub fn save_stage<T: Serialize + DeserializeOwned>(
        &mut self,
        attempt: &Attempt,
        name: &str,
        result: &T,
    ) -> std::result::Result<&mut Self, AttemptError> {
        Ok(self.push_move(attempt.stage_joined(name, result)?))
    }

    /// Saves how far the stage that comes next has come, together with what was changed up to there; see
    /// [`Attempt::stage_with_cursor`]. [`Attempt::saved_cursor`] returns it. Extends the lease.
    ///
    /// # Errors
    ///
    /// As [`save_stage`](Self::save_stage).
    pub fn save_cursor<P: Serialize + DeserializeOwned>(
        &mut self,
        attempt: &Attempt,
        name: &str,
        position: &P,
    ) -> std::result::Result<&mut Self, AttemptError> {
        Ok(self.push_move(attempt.cursor_joined(name, position)?))
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

    /// Removes the record of an id of a ledger, also while an attempt works on it; see [`Ledger::forget`].
    pub fn forget(&mut self, ledger: &Ledger, id: impl AsRef<[u8]>) -> &mut Self {
        self.operate(ledger, id.as_ref(), Operation::Forget)
    }

    fn operate(&mut self, ledger: &Ledger, id: &[u8], operation: Operation) -> &mut Self {
        self.push_move(ledger.operate_joined(id, operation))
    }
}
