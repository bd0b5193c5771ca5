//! Dead letters: what the ledger has given up, and what it holds for an operator.

use crate::error::{Error, Result};
use crate::id::Family;
use crate::ledger::changes;
use crate::ledger::handle::Ledger;
use crate::ledger::moves::Move;
use crate::ledger::record::{DeadCause, Record, State};
use crate::ledger::rows::{Pointer, check_id};
use crate::time::Timestamp;
use std::time::Duration;

/// The dead letters of a ledger; see [`Ledger::dead_letters`].
#[derive(Debug, Clone)]
pub struct DeadLetters {
    ledger: Ledger,
}

/// An id that waits for an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetter {
    /// Since when.
    pub since: Timestamp,
    /// Its record, with every attempt.
    pub record: Record,
}

/// Some dead letters, the oldest first.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct DeadPage {
    /// Those that could be read.
    pub letters: Vec<DeadLetter>,
    /// Ids whose record could not be read, with the reason. They keep nobody from the others.
    pub unreadable: Vec<(Vec<u8>, Error)>,
    /// What to ask for next; `None` if there are no more.
    pub next: Option<DeadFilter>,
}

/// Which dead letters are meant. The default is all that are dead, the oldest first, without those that are held.
#[derive(Debug, Clone, Default)]
pub struct DeadFilter {
    which: Which,
    older_than: Option<Duration>,
    limit: Option<usize>,
    after: Option<(Timestamp, Vec<u8>)>,
    keep_newest: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Which {
    #[default]
    Dead,
    Of(DeadCause),
    Held,
}

impl DeadFilter {
    /// Means all that are dead.
    pub fn new() -> Self {
        Self::default()
    }

    /// Means those that died of this.
    #[must_use]
    pub fn cause(self, cause: DeadCause) -> Self {
        Self { which: Which::Of(cause), ..self }
    }

    /// Means those that are held, not those that are dead.
    #[must_use]
    pub fn held(self) -> Self {
        Self { which: Which::Held, ..self }
    }

    /// Means those that have been dead at least so long.
    #[must_use]
    pub fn older_than(self, age: Duration) -> Self {
        Self { older_than: Some(age), ..self }
    }

    /// Means at most so many: a page.
    #[must_use]
    pub fn limit(self, limit: usize) -> Self {
        Self { limit: Some(limit), ..self }
    }

    /// Means all but the newest so many, to keep that many.
    #[must_use]
    pub fn keep_newest(self, count: usize) -> Self {
        Self { keep_newest: count, ..self }
    }

    fn takes(&self, pointer: Pointer, id: &[u8], now: Timestamp) -> bool {
        let is_meant = match self.which {
            Which::Dead => pointer.cause.is_some(),
            Which::Of(cause) => pointer.cause == Some(cause),
            Which::Held => pointer.cause.is_none(),
        };
        let age = now.as_millis().saturating_sub(pointer.since.as_millis());
        let is_old = self.older_than.is_none_or(|least| u128::from(age) >= least.as_millis());
        let after = self.after.as_ref();
        let is_after = after.is_none_or(|(since, last)| (pointer.since, id) > (*since, last));
        is_meant && is_old && is_after
    }
}

/// What became of many records.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Swept {
    /// How many were changed.
    pub changed: u64,
    /// Those that could not be, with the reason. The others were changed all the same.
    pub failed: Vec<(Vec<u8>, Error)>,
}

impl Ledger {
    /// Returns the dead letters of this ledger.
    pub fn dead_letters(&self) -> DeadLetters {
        DeadLetters { ledger: self.clone() }
    }
}

impl DeadLetters {
    /// Lists dead letters. Costs what there is of them, not what the ledger holds.
    ///
    /// # Errors
    ///
    /// As [`Store::get`](crate::Store::get).
    pub fn list(&self, filter: &DeadFilter) -> Result<DeadPage> {
        let mut page = DeadPage::default();
        let pointers = self.pointers(filter)?;
        if filter.limit == Some(pointers.len()) {
            let next = |last: &(_, _)| DeadFilter { after: Some(last.clone()), ..filter.clone() };
            page.next = pointers.last().map(next);
        }
        for (since, id) in pointers {
            match self.read(since, &id) {
                Ok(letter) => page.letters.extend(letter),
                Err(error) => page.unreadable.push((id, error)),
            }
        }
        Ok(page)
    }

    /// Returns the dead letter of an id; `None` if it is neither dead nor held.
    ///
    /// # Errors
    ///
    /// As [`Ledger::get`].
    pub fn get(&self, id: impl AsRef<[u8]>) -> Result<Option<DeadLetter>> {
        let id = id.as_ref();
        check_id(id)?;
        let rows = self.ledger.rows();
        let engine = rows.engine;
        let row = engine.get_row(rows.key(Family::DEAD, id)?, rows.durability)?;
        let Some(pointer) = row.and_then(|row| Pointer::decode(&row.value)) else {
            return Ok(None);
        };
        self.read(pointer.since, id)
    }

    /// Lets a dead or held id be tried again, from now on and as often as a new one. Its history and its saved stages
    /// stay. Returns whether it was dead or held.
    ///
    /// # Errors
    ///
    /// As [`Ledger::begin`].
    pub fn redrive(&self, id: impl AsRef<[u8]>) -> Result<bool> {
        self.redrive_one(id.as_ref(), false)
    }

    /// Lets a dead or held id be tried again, with all its stages done afresh; see [`redrive`](Self::redrive).
    ///
    /// # Errors
    ///
    /// As [`Ledger::begin`].
    pub fn redrive_fresh(&self, id: impl AsRef<[u8]>) -> Result<bool> {
        self.redrive_one(id.as_ref(), true)
    }

    /// Redrives all that the filter means. One that cannot be does not keep the others from it.
    ///
    /// # Errors
    ///
    /// As [`list`](Self::list), before anything was changed.
    pub fn redrive_all(&self, filter: &DeadFilter) -> Result<Swept> {
        self.sweep(filter, |id| self.redrive_one(id, false))
    }

    /// Redrives all that the filter means, with all stages done afresh; see [`redrive_all`](Self::redrive_all).
    ///
    /// # Errors
    ///
    /// As [`list`](Self::list), before anything was changed.
    pub fn redrive_all_fresh(&self, filter: &DeadFilter) -> Result<Swept> {
        self.sweep(filter, |id| self.redrive_one(id, true))
    }

    /// Removes a dead or held record and all that belongs to it, so that the id counts as never begun. Returns whether it
    /// was dead or held.
    ///
    /// # Errors
    ///
    /// As [`Ledger::begin`].
    pub fn purge(&self, id: impl AsRef<[u8]>) -> Result<bool> {
        let purge = |record: Record, _| waits(&record).then(changes::purge);
        let changed = self.ledger.change(id.as_ref(), Move::Purge, purge)?;
        Ok(changed.is_some_and(|changed| changed.is_made))
    }

    /// Purges all that the filter means; see [`redrive_all`](Self::redrive_all).
    ///
    /// # Errors
    ///
    /// As [`list`](Self::list), before anything was changed.
    pub fn purge_all(&self, filter: &DeadFilter) -> Result<Swept> {
        self.sweep(filter, |id| self.purge(id))
    }

    fn redrive_one(&self, id: &[u8], fresh: bool) -> Result<bool> {
        let redrive =
            |record: Record, now| waits(&record).then(|| changes::redrive(record, now, fresh));
        let changed = self.ledger.change(id, Move::Redrive, redrive)?;
        Ok(changed.is_some_and(|changed| changed.is_made))
    }

    fn sweep(&self, filter: &DeadFilter, one: impl Fn(&[u8]) -> Result<bool>) -> Result<Swept> {
        let mut swept = Swept::default();
        for (_, id) in self.pointers(filter)? {
            match one(&id) {
                Ok(changed) => swept.changed += u64::from(changed),
                Err(error) => swept.failed.push((id, error)),
            }
        }
        Ok(swept)
    }

    /// Returns the ids that the filter means, in order.
    fn pointers(&self, filter: &DeadFilter) -> Result<Vec<(Timestamp, Vec<u8>)>> {
        let rows = self.ledger.rows();
        let (ns, now) = (rows.ns.rows(Family::DEAD), self.ledger.now().at.now);
        let mut found = Vec::new();
        rows.engine.list_rows(Family::DEAD, |key, row| {
            if key.ns == ns
                && let Some(pointer) = Pointer::decode(&row.value)
                && filter.takes(pointer, key.id, now)
            {
                found.push((pointer.since, key.id.to_vec()));
            }
            Ok(())
        })?;
        found.sort_unstable();
        found.truncate(found.len().saturating_sub(filter.keep_newest));
        found.truncate(filter.limit.unwrap_or(usize::MAX));
        Ok(found)
    }

    fn read(&self, since: Timestamp, id: &[u8]) -> Result<Option<DeadLetter>> {
        let record = self.ledger.get(id)?;
        Ok(record.filter(waits).map(|record| DeadLetter { since, record }))
    }
}

fn waits(record: &Record) -> bool {
    matches!(record.state, State::Dead { .. } | State::Held)
}
