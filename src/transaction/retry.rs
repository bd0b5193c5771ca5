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
        let (mut runs, mut ended_until) = (0, None);
        loop {
            runs += 1;
            let (transaction, value) = self.filled(&mut work)?;
            match next(&transaction, value, transaction.commit(), runs)? {
                Next::Done(done) => return Ok(done),
                Next::Again => {}
                Next::AfterScope => {
                    if !self.engine().await_scope_end(&mut ended_until) {
                        return Err(Error::Replaced.into());
                    }
                }
            }
        }
    }

    /// Runs work that fills a transaction, and commits it as [`transact`](Self::transact) does, as a future: its waits
    /// block no thread, and it needs no particular runtime. The work itself runs on the thread that polls.
    ///
    /// Dropped before it is ready, it has written nothing, or it was waiting for the disk, and all of the transaction is
    /// made; see [`Transaction::commit_async`].
    ///
    /// ```
    /// # use firstseen::{Error, Store};
    /// # let dir = tempfile::tempdir()?;
    /// # let store = Store::open(dir.path().join("seen.db"))?;
    /// # let points = store.table::<u64>("points")?;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    /// # runtime.block_on(async {
    /// let sum = store
    ///     .transact_async(|transaction| {
    ///         let sum = transaction.get(&points, "anna")?.unwrap_or(0) + 10;
    ///         transaction.put(&points, "anna", &sum)?;
    ///         Ok::<_, Error>(sum)
    ///     })
    ///     .await?;
    /// assert_eq!(sum.committed(), Some(10));
    /// # Ok::<(), Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`transact`](Self::transact).
    pub async fn transact_async<T, E: From<Error>>(
        &self,
        mut work: impl FnMut(&mut Transaction) -> Result<T, E>,
    ) -> Result<Transacted<T>, E> {
        let (mut runs, mut ended_until) = (0, None);
        loop {
            runs += 1;
            let (transaction, value) = self.filled(&mut work)?;
            let outcome = transaction.commit_async().await;
            match next(&transaction, value, outcome, runs)? {
                Next::Done(done) => return Ok(done),
                Next::Again => {}
                Next::AfterScope => {
                    if !self.engine().scope_end(&mut ended_until).await? {
                        return Err(Error::Replaced.into());
                    }
                }
            }
        }
    }

    /// Returns a transaction with what the work puts into it, and what the work returns.
    fn filled<T, E: From<Error>>(
        &self,
        work: &mut impl FnMut(&mut Transaction) -> Result<T, E>,
    ) -> Result<(Transaction, T), E> {
        let mut transaction = self.transaction();
        let value = work(&mut transaction)?;
        if transaction.begins() {
            return Err(Error::invalid(
                "`transact` does not hand out attempts: begin an id in a transaction that you commit yourself",
            )
            .into());
        }
        Ok((transaction, value))
    }
}

/// What follows a run.
enum Next<T> {
    Done(Transacted<T>),
    Again,
    /// Again, once no replay scope is about to end.
    AfterScope,
}

fn next<T>(
    transaction: &Transaction,
    value: T,
    outcome: Result<CommitOutcome, Error>,
    runs: usize,
) -> Result<Next<T>, Error> {
    Ok(match outcome {
        // A promoted replay scope has put other tables in the place of those that it was filled from. Until it has done
        // so, it refuses every run.
        Err(Error::Replaced) if runs < RUNS_MAX => Next::AfterScope,
        Err(error) => return Err(error),
        Ok(CommitOutcome::Rejected(reasons)) => {
            if runs < RUNS_MAX && reasons.iter().all(|why| transaction.has_read(why)) {
                Next::Again
            } else {
                Next::Done(Transacted::Rejected(reasons))
            }
        }
        Ok(_) => Next::Done(Transacted::Committed(value)),
    })
}
