//! Leases that are renewed while somebody else than [`Ledger::run`](crate::ledger::Ledger::run) does the work.

use crate::error::Result;
use crate::ledger::attempt::Attempt;
use crate::ledger::run::keep_renewing;
use crate::sync::Scheduled;
use std::fmt;

/// Renews the lease of an attempt until this is dropped or the attempt is over; see [`Attempt::keep_renewed`].
#[must_use = "the lease is renewed as long as this is kept"]
pub struct Renewals {
    _scheduled: Option<Scheduled>,
}

impl fmt::Debug for Renewals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renewals").finish_non_exhaustive()
    }
}

impl Attempt {
    /// Renews the lease after each third of its length, on the thread of the store that does so for
    /// [`run`](crate::ledger::Ledger::run): work that blocks its own thread keeps its lease. A lease that has ended all
    /// the same, because the machine slept, is renewed as long as nobody has taken over.
    ///
    /// Keeps the attempt no longer than you do.
    ///
    /// # Errors
    ///
    /// [`Environment`](crate::ErrorKind::Environment) if that thread cannot be started, and
    /// [`Reopen`](crate::ErrorKind::Reopen) if the store is closed. Do not begin the work then.
    pub fn keep_renewed(&self) -> Result<Renewals> {
        let renewals = self.ledger().store().engine().renewals()?;
        Ok(Renewals { _scheduled: keep_renewing(&renewals, &self.work) })
    }
}
