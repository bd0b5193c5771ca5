//! Transactions that are run again when others were faster.

use crate::error::Error;
use crate::store::Store;
use crate::transaction::collect::Transaction;
use crate::transaction::outcome::{CommitOutcome, Rejection};

/// How often a transaction is run again.
const RUNS_MAX: usize = 100;

/// The answer to [`Store::transact`].
#[derive(Debug)]
#[must_use = "a rejected transaction has changed nothing"]
pub enum Transacted<T> {
    /// It was committed; this is what the work has returned.
    Committed(T),
    /// Nothing was done, for all of these reasons.
    Rejected(Vec<Rejection>),
}

impl<T> Transacted<T> {
    /// Returns what the work has returned, if it was committed.
    pub fn committed(self) -> Option<T> {
        match self {
            Self::Committed(value) => Some(value),
            Self::Rejected(_) => None,
        }
    }
}

impl Store {
    /// Runs work that fills a transaction, and commits it. If what the work has read has changed meanwhile, it is run
    /// again: it must have no effects but those of the transaction.
    ///
    /// While a [replay scope](crate::replay::ReplayScope) is being promoted or dropped that holds or replaces what the
    /// transaction names, this waits, without a lock, until that is over, and runs the work again on what is there then;
    /// after [`wait_max`](crate::Builder::wait_max) it ends with [`Retry`](crate::ErrorKind::Retry). A commit by itself
    /// does not wait for it: it ends with `Retry` at once.
    ///
    /// ```
    /// use firstseen::{Error, Store};
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("seen.db");
    /// let store = Store::open(&path)?;
    /// let points = store.table::<u64>("points")?;
    /// let sum = store.transact(|transaction| {
    ///     let mut sum = transaction.get(&points, "anna")?.unwrap_or(0);
    ///     for event in ["order-1", "order-2", "order-1"] {
    ///         if transaction.claim_if_new(event)? {
    ///             sum += 10;
    ///         }
    ///     }
    ///     transaction.put(&points, "anna", &sum)?;
    ///     Ok::<_, Error>(sum)
    /// })?;
    /// assert_eq!(sum.committed(), Some(20));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// What the work returns, and as [`Transaction::commit`]; [`FixCall`](crate::ErrorKind::FixCall) if it begins an id of
    /// a ledger.
    pub fn transact<T, E: From<Error>>(
        &self,
        mut work: impl FnMut(&mut Transaction) -> Result<T, E>,
    ) -> Result<Transacted<T>, E> {
        let (mut runs, mut promoted_until) = (0, None);
        loop {
            runs += 1;
            let mut transaction = self.transaction();
            let value = work(&mut transaction)?;
            if transaction.begins() {
                return Err(Error::invalid(
                    "`transact` does not hand out attempts: begin an id in a transaction that you commit yourself",
                )
                .into());
            }
            let outcome = match transaction.commit() {
                // A promoted replay scope has put other tables in the place of those that it was filled from.
                // Until it has done so, it refuses every run.
                Err(Error::Replaced)
                    if runs < RUNS_MAX && self.engine().await_scope_end(&mut promoted_until) =>
                {
                    continue;
                }
                outcome => outcome?,
            };
            match outcome {
                CommitOutcome::Rejected(reasons)
                    if runs < RUNS_MAX && reasons.iter().all(|why| transaction.has_read(why)) => {}
                CommitOutcome::Rejected(reasons) => return Ok(Transacted::Rejected(reasons)),
                _ => return Ok(Transacted::Committed(value)),
            }
        }
    }
}
