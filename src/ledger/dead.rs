//! Dead letters: what the ledger has given up, and what it holds for an operator.

use crate::error::{Error, Result};
use crate::id::Family;
use crate::ledger::changes::{self, Change, Now, Outcome};
use crate::ledger::handle::Ledger;
use crate::ledger::moves::Move;
use crate::ledger::record::{DeadCause, Record, State};
use crate::ledger::rows::{Pointer, check_id, decode_pointer};
use crate::ledger::sweep::Swept;
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
    /// Ids that could not be read, with the reason. They keep nobody from the others. Ids of which it cannot be read
    /// why and since when they are dead are told on the first page, whatever the filter: each can be redriven or purged
    /// by itself.
    pub unreadable: Vec<(Vec<u8>, Error)>,
    /// What to ask for next; `None` if there are no more.
    pub next: Option<DeadFilter>,
}

/// Which dead letters are meant. By default: all dead records, oldest first; held ones are excluded.
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

impl Which {
    /// Returns whether what died of this is meant; `None`: it is held.
    fn takes(self, cause: Option<DeadCause>) -> bool {
        match self {
            Self::Dead => cause.is_some(),
            Self::Of(wanted) => cause == Some(wanted),
            Self::Held => cause.is_none(),
        }
    }
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

    fn is_of(&self, letter: &DeadLetter) -> bool {
        self.which.takes(match letter.record.state {
            State::Dead { cause } => Some(cause),
            _ => None,
        })
    }

    fn takes(&self, pointer: Pointer, id: &[u8], now: Timestamp) -> bool {
        let age = now.as_millis().saturating_sub(pointer.since.as_millis());
        let is_old = self.older_than.is_none_or(|least| u128::from(age) >= least.as_millis());
        let after = self.after.as_ref();
        let is_after = after.is_none_or(|(since, last)| (pointer.since, id) > (*since, last));
        self.which.takes(pointer.cause) && is_old && is_after
    }
}

/// A pointer, as it was when it was listed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Listed {
    since: Timestamp,
    id: Vec<u8>,
    /// The sequence of its row. An id that is redriven and dies again has another.
    sequence: u64,
}

/// What a filter means.
#[derive(Debug, Default)]
struct Meant {
    listed: Vec<Listed>,
    /// Nobody knows whether these are meant.
    unreadable: Vec<(Vec<u8>, Error)>,
}

impl Ledger {
    /// Returns the dead letters of this ledger.
    pub fn dead_letters(&self) -> DeadLetters {
        DeadLetters { ledger: self.clone() }
    }
}

impl DeadLetters {
    /// Lists dead letters. The cost depends on the number of dead letters of the store, not of records. Each page reads
    /// where all of them are and then the records of the page, so a page of a long list costs more than its length.
    ///
    /// # Errors
    ///
    /// As [`Store::get`](crate::Store::get).
    pub fn list(&self, filter: &DeadFilter) -> Result<DeadPage> {
        let Meant { listed, unreadable } = self.meant(filter)?;
        let mut page = DeadPage { letters: Vec::new(), unreadable, next: None };
        if filter.limit == Some(listed.len()) {
            page.next = listed.last().map(|last| DeadFilter {
                after: Some((last.since, last.id.clone())),
                ..filter.clone()
            });
        }
        for Listed { since, id, .. } in listed {
            match self.read(since, &id) {
                // It may be something else by now.
                Ok(letter) => page.letters.extend(letter.filter(|letter| filter.is_of(letter))),
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
        match self.ledger.rows().pointer(id)? {
            Some((pointer, _)) => self.read(pointer.since, id),
            None => Ok(None),
        }
    }

    /// Lets a dead or held id be tried again, from now on and as often as a new one. Its history and its saved stages
    /// stay. Returns whether it was dead or held.
    ///
    /// # Errors
    ///
    /// As [`Ledger::begin`].
    pub fn redrive(&self, id: impl AsRef<[u8]>) -> Result<bool> {
        self.redrive_one(id.as_ref(), None, false)
    }

    /// Lets a dead or held id be tried again, with all its stages done afresh; see [`redrive`](Self::redrive).
    ///
    /// # Errors
    ///
    /// As [`Ledger::begin`].
    pub fn redrive_fresh(&self, id: impl AsRef<[u8]>) -> Result<bool> {
        self.redrive_one(id.as_ref(), None, true)
    }

    /// Redrives all that the filter means. One that cannot be does not keep the others from it. One that is redriven, or
    /// changes otherwise, after this call has listed it is left as it is then, although it may be dead or held again.
    ///
    /// # Errors
    ///
    /// As [`list`](Self::list), before anything was changed.
    pub fn redrive_all(&self, filter: &DeadFilter) -> Result<Swept> {
        self.sweep(filter, |listed| self.redrive_one(&listed.id, Some(listed), false))
    }

    /// Redrives all that the filter means, with all stages done afresh; see [`redrive_all`](Self::redrive_all).
    ///
    /// # Errors
    ///
    /// As [`list`](Self::list), before anything was changed.
    pub fn redrive_all_fresh(&self, filter: &DeadFilter) -> Result<Swept> {
        self.sweep(filter, |listed| self.redrive_one(&listed.id, Some(listed), true))
    }

    /// Removes a dead or held record and all that belongs to it, so that the id counts as never begun. Returns whether it
    /// was dead or held.
    ///
    /// # Errors
    ///
    /// As [`Ledger::begin`].
    pub fn purge(&self, id: impl AsRef<[u8]>) -> Result<bool> {
        self.purge_one(id.as_ref(), None)
    }

    /// Purges all that the filter means; see [`redrive_all`](Self::redrive_all).
    ///
    /// # Errors
    ///
    /// As [`list`](Self::list), before anything was changed.
    pub fn purge_all(&self, filter: &DeadFilter) -> Result<Swept> {
        self.sweep(filter, |listed| self.purge_one(&listed.id, Some(listed)))
    }

    /// Says that a held id was done after all, and with what result; see [`Ledger::settle`], which does so to more than what
    /// is held. Returns whether it was held.
    ///
    /// # Errors
    ///
    /// As [`Ledger::settle`].
    pub fn settle(
        &self,
        id: impl AsRef<[u8]>,
        result: impl AsRef<[u8]>,
        reason: &str,
    ) -> Result<bool> {
        let (id, bytes) = (id.as_ref(), result.as_ref());
        self.ledger.check_result(bytes)?;
        let outcome = Outcome { bytes, is_encoded: false, ttl: self.ledger.result_ttl() };
        self.change(id, None, Move::Settle, |record, now| {
            (record.state == State::Held).then(|| changes::settle(record, now, outcome, reason))
        })
    }

    fn redrive_one(&self, id: &[u8], listed: Option<&Listed>, fresh: bool) -> Result<bool> {
        self.change(id, listed, Move::Redrive, |record, now| {
            waits(&record).then(|| changes::redrive(record, now, fresh))
        })
    }

    fn purge_one(&self, id: &[u8], listed: Option<&Listed>) -> Result<bool> {
        self.change(id, listed, Move::Purge, |record, _| waits(&record).then(changes::purge))
    }

    /// Changes what waits for an operator; if it was listed, only what is still the same dead letter.
    fn change(
        &self,
        id: &[u8],
        listed: Option<&Listed>,
        step: Move,
        change: impl Fn(Record, Now) -> Option<Change>,
    ) -> Result<bool> {
        let changed = self.ledger.change_found(id, |found, now| {
            if let Some(listed) = listed {
                let pointer = self.ledger.rows().pointer(id)?;
                if pointer.is_none_or(|(_, sequence)| sequence != listed.sequence) {
                    return Ok(None);
                }
            }
            Ok(found.moved(step, now, |record| change(record, now)))
        })?;
        Ok(changed.is_some_and(|changed| changed.is_made))
    }

    fn sweep(&self, filter: &DeadFilter, one: impl Fn(&Listed) -> Result<bool>) -> Result<Swept> {
        let Meant { listed, unreadable } = self.meant(filter)?;
        let mut swept = Swept { changed: 0, failed: unreadable };
        for listed in listed {
            let changed = one(&listed);
            swept.note(listed.id, changed);
        }
        Ok(swept)
    }

    /// Returns what the filter means, in order.
    fn meant(&self, filter: &DeadFilter) -> Result<Meant> {
        let rows = self.ledger.rows();
        let (ns, now) = (rows.key(Family::DEAD, b"-")?.ns, self.ledger.now().at.now);
        let mut meant = Meant::default();
        rows.engine.list_rows(Family::DEAD, |key, row| {
            if key.ns != ns {
                return Ok(());
            }
            let id = key.id.to_vec();
            let found = row.and_then(|row| {
                Ok((decode_pointer(rows.engine, key.id, &row.value)?, row.sequence))
            });
            match found {
                Ok((pointer, sequence)) if filter.takes(pointer, key.id, now) => {
                    meant.listed.push(Listed { since: pointer.since, id, sequence });
                }
                // On the first page only: it is the same each time.
                Err(error) if filter.after.is_none() => meant.unreadable.push((id, error)),
                _ => {}
            }
            Ok(())
        })?;
        let listed = &mut meant.listed;
        listed.sort_unstable();
        listed.truncate(listed.len().saturating_sub(filter.keep_newest));
        listed.truncate(filter.limit.unwrap_or(usize::MAX));
        Ok(meant)
    }

    fn read(&self, since: Timestamp, id: &[u8]) -> Result<Option<DeadLetter>> {
        let record = self.ledger.get(id)?;
        Ok(record.filter(waits).map(|record| DeadLetter { since, record }))
    }
}

fn waits(record: &Record) -> bool {
    matches!(record.state, State::Dead { .. } | State::Held)
}
