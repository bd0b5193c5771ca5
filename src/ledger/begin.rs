//! `begin`: who may work on an id.

use crate::engine::{Bells, Durability};
use crate::error::{Error, Result};
use crate::ledger::attempt::Attempt;
use crate::ledger::changes::{self, Begun, Change, Refusal};
use crate::ledger::error::AttemptError;
use crate::ledger::handle::Ledger;
use crate::ledger::moves::{self, Move};
use crate::ledger::options::BeginOptions;
use crate::ledger::record::Record;
use crate::ledger::rows::{Rows, check_id};
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
        self.begin_at(id.as_ref(), &options, self.rows().durability)
    }

    /// Starts an attempt, as a future: at [`Durability::Disk`] it waits for a sync without a thread; see
    /// [`begin_with`](Self::begin_with) and [`Store::claim_async`](crate::Store::claim_async).
    ///
    /// Dropped while it waits, it has begun an attempt that nobody has: the attempt counts as dropped.
    ///
    /// # Errors
    ///
    /// As [`begin`](Self::begin).
    pub async fn begin_async(&self, id: impl AsRef<[u8]>, options: BeginOptions) -> Result<Begin> {
        let begun = self.begin_at(id.as_ref(), &options, Durability::Buffered)?;
        let rests_on = self.store().engine().sync_point()?;
        self.store().durable(self.rows().durability, Some(rests_on)).await?;
        Ok(begun)
    }

    /// Starts an attempt whose record is this safe when this returns.
    fn begin_at(&self, id: &[u8], options: &BeginOptions, durability: Durability) -> Result<Begin> {
        check_id(id)?;
        options.check()?;
        let rows = Rows { durability, ..self.rows() };
        for _ in 0..limits::RACES_MAX {
            let found = rows.read(id)?;
            let now = self.now();
            let record = found.as_ref().map(|found| &found.record);
            let (change, step) = match changes::begin(id, record, now, &self.inner.options, options)
            {
                Begun::Start(change) => (change, Move::Begin),
                Begun::Settle(step, change) => (change, step),
                Begun::Refuse(refusal) => {
                    let record = found.map(|found| found.record);
                    return record.map_or_else(
                        || Err(Error::bug("a record that does not exist was refused")),
                        |record| Ok(Begin::refused(refusal, record)),
                    );
                }
            };
            let to = moves::after(now.phase(record), step);
            debug_assert_eq!(Some(change.phase(now)), to, "the table says what a move leads to");
            check_kept(&change)?;
            let bells = &mut Bells::default();
            let written = rows.write(id, found.as_ref(), &change, None, now.at.now, bells)?;
            let Some(after) = written else { continue };
            if step == Move::Begin {
                let attempt = Attempt::new(self.clone(), id, after);
                match attempt.work.keep_if_over() {
                    Ok(()) => return Ok(Begin::Started(attempt)),
                    // The commit took longer than the lease, and somebody was faster.
                    Err(AttemptError::Fenced { .. } | AttemptError::Over { .. }) => continue,
                    Err(AttemptError::Store(error)) => return Err(error),
                    Err(_) => {
                        return Err(Error::Timeout { what: "a lease that outlasts its commit" });
                    }
                }
            }
            let phase = after.record.phase(now.at.now, now.first_token);
            let refusal = Refusal::of(phase).unwrap_or(Refusal::InProgress);
            return Ok(Begin::refused(refusal, after.record));
        }
        Err(Error::Timeout { what: "a record that others change again and again" })
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
