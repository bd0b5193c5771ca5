//! `begin`: who may work on an id.

use crate::engine::{Bells, RestsOn, WaitBudget};
use crate::error::{Error, Result};
use crate::ledger::attempt::Attempt;
use crate::ledger::changes::{self, Begun, Change, Now, Refusal};
use crate::ledger::error::AttemptError;
use crate::ledger::handle::Ledger;
use crate::ledger::moves::{self, Move};
use crate::ledger::options::BeginOptions;
use crate::ledger::record::Record;
use crate::ledger::rows::{Found, check_id};
use crate::limits;

/// The answer to [`Ledger::begin`]. All except [`Started`](Begin::Started) carry the existing record.
#[derive(Debug)]
#[must_use = "without looking at the answer, nobody knows whether to do the work"]
#[non_exhaustive]
pub enum Begin {
    /// Do the work: nobody else does, while the lease lasts.
    Started(Attempt),
    /// Another attempt works on it. Come back later, or [wait](Ledger::wait).
    InProgress(Box<Record>),
    /// Done before: here is the result. Do not do it again.
    Completed(Box<Record>),
    /// Waiting for a retry; `state` says when.
    RetryAt(Box<Record>),
    /// An operator has to find out first whether the effect happened.
    Held(Box<Record>),
    /// Given up: a dead letter.
    Dead(Box<Record>),
    /// The id was begun with another input. The result is not shown.
    Mismatch(Box<Record>),
    /// A newer version of the program has begun it, and this one may not know its stages.
    Outdated(Box<Record>),
}

impl Begin {
    /// Returns the existing record; `None` if an attempt was started.
    pub fn record(&self) -> Option<&Record> {
        match self {
            Self::Started(_) => None,
            Self::InProgress(record)
            | Self::Completed(record)
            | Self::RetryAt(record)
            | Self::Held(record)
            | Self::Dead(record)
            | Self::Mismatch(record)
            | Self::Outdated(record) => Some(record),
        }
    }

    /// Returns the attempt, if one was started.
    #[must_use = "an attempt that is dropped has failed"]
    pub fn started(self) -> Option<Attempt> {
        match self {
            Self::Started(attempt) => Some(attempt),
            _ => None,
        }
    }

    /// Returns the answer of a call that has found that no attempt may start, and has made this of the record.
    pub(super) fn after(now: Now, record: Record) -> Self {
        let refusal = Refusal::of(now.phase(Some(&record))).unwrap_or(Refusal::InProgress);
        Self::refused(refusal, record)
    }

    fn refused(refusal: Refusal, record: Record) -> Self {
        match refusal {
            Refusal::InProgress => Self::InProgress(record.into()),
            Refusal::Completed => Self::Completed(record.into()),
            Refusal::RetryAt => Self::RetryAt(record.into()),
            Refusal::Held => Self::Held(record.into()),
            Refusal::Dead => Self::Dead(record.into()),
            Refusal::Mismatch => Self::Mismatch(record.without_result().into()),
            Refusal::Outdated => Self::Outdated(record.into()),
        }
    }
}

impl Ledger {
    /// Starts an attempt at an id, if nobody works on it, it is not done, and it may be tried again. Of callers that ask
    /// at the same time, one hears [`Begin::Started`].
    ///
    /// The attempt is counted before this returns, so a worker that dies of its message does so only as often as the
    /// ledger allows.
    ///
    /// # Errors
    ///
    /// As [`Store::claim`](crate::Store::claim). No attempt has started then, or it ends with its lease; do not do the work.
    pub fn begin(&self, id: impl AsRef<[u8]>) -> Result<Begin> {
        self.begin_with(id, BeginOptions::new())
    }

    /// Starts an attempt, with settings for this call; see [`begin`](Self::begin).
    ///
    /// # Errors
    ///
    /// As [`begin`](Self::begin).
    pub fn begin_with(&self, id: impl AsRef<[u8]>, options: BeginOptions) -> Result<Begin> {
        let engine = self.store().engine();
        for _ in 0..limits::RACES_MAX {
            let (begun, rests_on) =
                self.begin_only(id.as_ref(), &options, &mut WaitBudget::default())?;
            engine.await_durable(self.rows().durability, rests_on)?;
            let Begin::Started(attempt) = begun else { return Ok(begun) };
            let kept = attempt.work.keep_if_over();
            if let Some(begun) = is_kept(attempt, kept)? {
                return Ok(begun);
            }
        }
        Err(Error::Timeout { what: "a record that others change again and again" })
    }

    /// Starts an attempt, as a future: at [`Durability::Disk`](crate::Durability::Disk) it waits for a sync without a
    /// thread; see [`begin_with`](Self::begin_with) and [`Store::claim_async`](crate::Store::claim_async).
    ///
    /// Dropped while it waits for the disk, it has begun an attempt that nobody has: the attempt counts as dropped.
    ///
    /// # Errors
    ///
    /// As [`begin`](Self::begin).
    pub async fn begin_async(&self, id: impl AsRef<[u8]>, options: BeginOptions) -> Result<Begin> {
        let engine = self.store().engine();
        for _ in 0..limits::RACES_MAX {
            let begin = |budget: &mut WaitBudget| self.begin_only(id.as_ref(), &options, budget);
            let (begun, rests_on) = engine.in_time(begin).await?;
            self.store().durable(self.rows().durability, rests_on).await?;
            let Begin::Started(attempt) = begun else { return Ok(begun) };
            let kept = attempt.work.keep_if_over_async().await;
            if let Some(begun) = is_kept(attempt, kept)? {
                return Ok(begun);
            }
        }
        Err(Error::Timeout { what: "a record that others change again and again" })
    }

    /// Starts an attempt, and returns without waiting for it what the durability of the answer rests on.
    fn begin_only(
        &self,
        id: &[u8],
        options: &BeginOptions,
        wait_budget: &mut WaitBudget,
    ) -> Result<(Begin, Option<RestsOn>)> {
        check_id(id)?;
        options.check()?;
        let rows = self.rows();
        for _ in 0..limits::RACES_MAX {
            let (found, rests_on) = rows.look(id)?;
            if !wait_budget.is_future() {
                // As every call that reads. A future waits once, at its end.
                rows.engine.await_durable(rows.durability, rests_on)?;
            }
            let now = self.now();
            let (step, change) = match self.decide_begin(id, found.as_ref(), now, options)? {
                Decided::Make(step, change) => (step, change),
                Decided::Refuse(begin) => return Ok((begin, rests_on)),
            };
            let (before, bells) = ((id, found.as_ref()), &mut Bells::default());
            let written = rows.write_only(before, &change, None, now.at.now, bells, wait_budget)?;
            let (Some(after), rests_on) = written else { continue };
            let begun = match step {
                Move::Begin => Begin::Started(Attempt::new(self.clone(), id, after)),
                _ => Begin::after(now, after.record),
            };
            return Ok((begun, rests_on));
        }
        Err(Error::Timeout { what: "a record that others change again and again" })
    }

    /// Decides whether an attempt starts.
    pub(super) fn decide_begin(
        &self,
        id: &[u8],
        found: Option<&Found>,
        now: Now,
        options: &BeginOptions,
    ) -> Result<Decided> {
        let record = found.map(|found| &found.record);
        let (change, step) = match changes::begin(id, record, now, &self.inner.options, options) {
            Begun::Start(change) => (change, Move::Begin),
            Begun::Settle(step, change) => (change, step),
            Begun::Refuse(refusal) => {
                return record.map_or_else(
                    || Err(Error::bug("a record that does not exist was refused")),
                    |record| Ok(Decided::Refuse(Begin::refused(refusal, record.clone()))),
                );
            }
        };
        let to = moves::after(now.phase(record), step);
        debug_assert_eq!(Some(change.phase(now)), to, "the table says what a move leads to");
        check_kept(&change)?;
        Ok(Decided::Make(step, Box::new(change)))
    }

    /// Returns an attempt that was begun before, by its id and token: for work whose end is reported elsewhere, or by a
    /// process that came after the one that began it. It may say how the work went as long as nobody has taken over. Drop
    /// the one or the other, not both: dropped, it counts as failed.
    ///
    /// # Errors
    ///
    /// [`Fenced`](AttemptError::Fenced) if the record is not this attempt's any more.
    pub fn resume(
        &self,
        id: impl AsRef<[u8]>,
        token: u64,
    ) -> std::result::Result<Attempt, AttemptError> {
        let id = id.as_ref();
        check_id(id)?;
        match self.rows().read(id)? {
            Some(found) if token != 0 && found.record.token == token => {
                Ok(Attempt::new(self.clone(), id, found))
            }
            other => Err(AttemptError::Fenced { record: other.map(|found| found.record.into()) }),
        }
    }
}

impl Attempt {
    /// Gives the lease of an attempt that a transaction has begun its length again, if the commit took longer. If somebody
    /// was faster, or the store fails, the commit was made all the same: the attempt hears of it at its next call.
    pub(crate) fn keep_begun(&self) {
        if let Err(error) = self.work.keep_if_over() {
            tracing::debug!(%error, "an attempt begins without a lease");
        }
    }

    /// Does what [`keep_begun`](Self::keep_begun) does, as a future.
    pub(crate) async fn keep_begun_async(&self) {
        if let Err(error) = self.work.keep_if_over_async().await {
            tracing::debug!(%error, "an attempt begins without a lease");
        }
    }
}

/// What a call of `begin` is to do.
pub(super) enum Decided {
    /// Make this move. Unless it is [`Move::Begin`], no attempt starts.
    Make(Move, Box<Change>),
    /// Answer this.
    Refuse(Begin),
}

/// Returns the answer once the lease of an attempt has been looked after; `None` if the commit took longer than it, and
/// somebody was faster.
fn is_kept(attempt: Attempt, kept: std::result::Result<(), AttemptError>) -> Result<Option<Begin>> {
    match kept {
        Ok(()) => Ok(Some(Begin::Started(attempt))),
        Err(AttemptError::Fenced { .. } | AttemptError::Over { .. }) => Ok(None),
        Err(AttemptError::Store(error)) => Err(error),
        Err(_) => Err(Error::Timeout { what: "a lease that outlasts its commit" }),
    }
}

/// Checks what is kept beside a record: whatever ends it changes all of that in one commit.
fn check_kept(change: &Change) -> Result<()> {
    let kept = change.record.as_ref().map_or(0, Record::kept_bytes);
    if kept > limits::LEDGER_KEPT_BYTES_MAX {
        return Err(Error::invalid(format!(
            "the payload and the saved stages of an id would have {kept} bytes: they have at most {}",
            limits::LEDGER_KEPT_BYTES_MAX
        )));
    }
    Ok(())
}
