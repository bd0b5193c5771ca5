//! What is done to many records at once: deciding what nobody has come back to, and removing what is no longer needed.

use crate::error::{Error, Result};
use crate::ledger::changes::{self, Begun, Now};
use crate::ledger::handle::Ledger;
use crate::ledger::moves::{Move, Phase};
use crate::ledger::options::{BeginOptions, LedgerOptions};
use crate::ledger::record::{Record, State};
use crate::time::Timestamp;
use std::ops::ControlFlow;
use std::time::Duration;

/// What became of many records.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Swept {
    /// How many were changed.
    pub changed: u64,
    /// Those that could not be read or changed, with the reason. The others were changed all the same.
    pub failed: Vec<(Vec<u8>, Error)>,
}

impl Swept {
    /// Counts one record.
    pub(super) fn note(&mut self, id: Vec<u8>, changed: Result<bool>) {
        match changed {
            Ok(changed) => self.changed += u64::from(changed),
            Err(error) => self.failed.push((id, error)),
        }
    }
}

/// Which records [`Ledger::purge_all`] removes.
#[derive(Debug, Clone)]
pub struct PurgeFilter {
    which: Which,
    older_than: Duration,
    keep_newest: usize,
    limit: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    Completed,
    Waiting,
}

impl PurgeFilter {
    fn of(which: Which) -> Self {
        Self { which, older_than: Duration::ZERO, keep_newest: 0, limit: usize::MAX }
    }

    /// Means completed records. Their age counts from their completion.
    pub fn completed() -> Self {
        Self::of(Which::Completed)
    }

    /// Means records that the next `begin` would start again: their attempt failed, was handed back, or is gone, or
    /// they were redriven. Their age counts from when `begin` could start them first. Such a record stays for ever if
    /// its message is never delivered again.
    pub fn waiting() -> Self {
        Self::of(Which::Waiting)
    }

    /// Means those that are at least so old.
    #[must_use]
    pub fn older_than(self, age: Duration) -> Self {
        Self { older_than: age, ..self }
    }

    /// Means all of these except the newest so many.
    #[must_use]
    pub fn keep_newest(self, count: usize) -> Self {
        Self { keep_newest: count, ..self }
    }

    /// Means at most so many, the oldest.
    #[must_use]
    pub fn limit(self, limit: usize) -> Self {
        Self { limit, ..self }
    }

    /// Returns since when a record is what is meant; `None` if it is not.
    fn since(&self, record: &Record, now: Now, policies: &LedgerOptions) -> Option<Timestamp> {
        let since = match (self.which, &record.state) {
            // The completion is the end of the last attempt, or the word of an operator.
            (Which::Completed, State::Completed { .. }) => {
                record.history.last().map_or(record.started, |past| past.ended)
            }
            (Which::Waiting, State::Waiting { until } | State::Running { until })
                if matches!(next(record, now, policies), Some(Begun::Start(_))) =>
            {
                *until
            }
            _ => return None,
        };
        let age = now.at.now.as_millis().saturating_sub(since.as_millis());
        (u128::from(age) >= self.older_than.as_millis()).then_some(since)
    }
}

/// Returns what the next `begin` makes of a record that nobody works on, whatever version of the program calls it; `None`
/// if an attempt works on it, or it is over.
fn next(record: &Record, now: Now, policies: &LedgerOptions) -> Option<Begun> {
    if !matches!(now.phase(Some(record)), Phase::LeaseOver | Phase::Waiting) {
        return None;
    }
    let options = BeginOptions::new().version(u32::MAX);
    Some(changes::begin(&record.id, Some(record), now, policies, &options))
}

impl Ledger {
    /// Does to every record what the next [`begin`](Self::begin) would, except that no attempt starts: what is to be
    /// held or to fail, because its lease has ended, is held or dead afterwards, and so is what has used up its
    /// attempts. What may be tried again stays as it is. Reads all records of all ledgers of the store.
    ///
    /// The end of a lease writes nothing. Without this call, the work of a process that died is held, and can be found
    /// among the [held](crate::ledger::DeadFilter::held), only once its message is delivered again. Call it after the
    /// ledger was opened, and now and then if [leases outlive the process](LedgerOptions::lease_outlives_process):
    ///
    /// ```
    /// use firstseen::Store;
    /// use firstseen::ledger::{DeadFilter, LedgerOptions, OnLeaseEnd};
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("seen.db");
    /// let policies = LedgerOptions::new().on_lease_end(OnLeaseEnd::Hold);
    /// let ledger = Store::open(&path)?.ledger_with("payments", policies)?;
    /// let swept = ledger.sweep_ended()?;
    /// for letter in ledger.dead_letters().list(&DeadFilter::new().held())?.letters {
    ///     println!("did {} happen?", letter.record.id.escape_ascii());
    /// }
    /// # assert_eq!((swept.changed, swept.failed.len()), (0, 0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`list`](Self::list), before anything was changed. A record that cannot be read or changed is in
    /// [`Swept::failed`].
    pub fn sweep_ended(&self) -> Result<Swept> {
        let policies = &self.inner.options;
        let (mut swept, mut ended) = (Swept::default(), Vec::new());
        let now = self.now();
        self.visit(|id, found| {
            match found.map(|found| next(&found.record, now, policies)) {
                Ok(Some(Begun::Settle(..))) => ended.push(id.to_vec()),
                Ok(_) => {}
                Err(error) => swept.failed.push((id.to_vec(), error)),
            }
            ControlFlow::Continue(())
        })?;
        for id in ended {
            let changed = self.change_found(&id, |found, now| {
                Ok(match next(&found.record, now, policies) {
                    Some(Begun::Settle(step, change)) => found.moved(step, now, |_| Some(change)),
                    _ => None,
                })
            });
            swept.note(id, changed.map(|changed| changed.is_some_and(|changed| changed.is_made)));
        }
        Ok(swept)
    }

    /// Removes the records that the filter means and all that belongs to them, so that their ids count as never begun. A
    /// record that changes after this call has listed it stays. Reads all records of all ledgers of the store, and keeps
    /// the ids that are meant in memory.
    ///
    /// [`result_ttl`](LedgerOptions::result_ttl) removes completed records by time at less cost. For dead and held ones
    /// see [`DeadLetters::purge_all`](crate::ledger::DeadLetters::purge_all).
    ///
    /// # Errors
    ///
    /// As [`list`](Self::list), before anything was changed. A record that cannot be read or removed is in
    /// [`Swept::failed`].
    pub fn purge_all(&self, filter: &PurgeFilter) -> Result<Swept> {
        let policies = &self.inner.options;
        let (mut swept, mut meant) = (Swept::default(), Vec::new());
        let now = self.now();
        self.visit(|id, found| {
            match found {
                Ok(found) => {
                    if let Some(since) = filter.since(&found.record, now, policies) {
                        meant.push((since, id.to_vec(), found.sequence));
                    }
                }
                Err(error) => swept.failed.push((id.to_vec(), error)),
            }
            ControlFlow::Continue(())
        })?;
        meant.sort_unstable();
        meant.truncate(meant.len().saturating_sub(filter.keep_newest));
        meant.truncate(filter.limit);
        for (_, id, sequence) in meant {
            let changed = self.change_found(&id, |found, now| {
                let is_listed = found.sequence == sequence;
                Ok(found.moved(Move::Purge, now, |_| is_listed.then(changes::purge)))
            });
            swept.note(id, changed.map(|changed| changed.is_some_and(|changed| changed.is_made)));
        }
        Ok(swept)
    }
}
