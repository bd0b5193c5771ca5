//! An attempt: the right to work on an id, as long as nobody else has it.

use crate::error::Error;
use crate::ledger::changes::{self, Change, Now};
use crate::ledger::error::{AttemptError, Failure, FailureKind};
use crate::ledger::handle::{Ledger, RACES_MAX};
use crate::ledger::moves::{self, Move};
use crate::ledger::options::{OnLeaseEnd, check_lease};
use crate::ledger::record::{AttemptEnd, Record};
use crate::ledger::rows::{Found, StageWrite};
use crate::ledger::value::{check_size, encode};
use crate::sync::{Arc, Mutex};
use crate::time::Ttl;
use serde::Serialize;
use std::time::Duration;

/// An attempt at an id: the answer [`Begin::Started`](crate::ledger::Begin::Started).
///
/// Say how it went with [`complete`](Self::complete), [`fail`](Self::fail) or [`release`](Self::release). Each is
/// refused with [`AttemptError::Fenced`] once another attempt has taken over (I8). Dropped before that, by a panic or an
/// early return, it has failed and is tried again.
///
/// It may be held over an `.await`, and handed to another thread.
#[derive(Debug)]
#[must_use = "an attempt that is dropped has failed: keep it until the work is done, and say how it went"]
pub struct Attempt {
    pub(super) work: Arc<Work>,
}

/// What an attempt and those who renew it share.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) ledger: Ledger,
    id: Vec<u8>,
    token: u64,
    pub(super) inside: Mutex<Inside>,
}

#[derive(Debug)]
pub(super) struct Inside {
    found: Found,
    /// How far the attempt has come with its own end.
    end: End,
    pub(super) stages: Stages,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    /// It was to be stored how the attempt went, and nobody knows whether it was. Dropping the attempt says nothing then:
    /// the effect may have happened.
    Unknown,
    Over,
}

/// How far an attempt has come in its stages.
#[derive(Debug)]
pub(super) struct Stages {
    /// How many an earlier attempt has saved.
    pub(super) saved: u32,
    /// The names of those that this attempt has reached, in order.
    pub(super) reached: Vec<String>,
    /// Whether the last of them is under way.
    pub(super) is_open: bool,
}

impl Stages {
    fn new(saved: u32) -> Self {
        Self { saved, reached: Vec::new(), is_open: false }
    }
}

impl Attempt {
    pub(super) fn new(ledger: Ledger, id: &[u8], found: Found) -> Self {
        let token = found.record.token;
        let (end, stages) = (End::Open, Stages::new(found.record.stages));
        let inside = Mutex::new(Inside { found, end, stages });
        Self { work: Arc::new(Work { ledger, id: id.to_vec(), token, inside }) }
    }

    /// Returns the id.
    pub fn id(&self) -> &[u8] {
        &self.work.id
    }

    /// Returns the fencing token: higher than that of every attempt before, over all ids of the store. Send it along with
    /// effects on a resource that can compare it.
    pub fn token(&self) -> u64 {
        self.work.token
    }

    /// Returns which attempt this is, from one; a redrive begins anew.
    pub fn number(&self) -> u32 {
        self.record().attempts
    }

    /// Returns the record as this attempt last saw it.
    pub fn record(&self) -> Record {
        self.work.inside.lock().found.record.clone()
    }

    /// Returns the payload that was given when the id was begun.
    ///
    /// # Errors
    ///
    /// As [`Ledger::get`].
    pub fn payload(&self) -> crate::Result<Option<Vec<u8>>> {
        self.work.ledger.payload(&self.work.id)
    }

    /// Stores the result: from now on every `begin` hears it. An empty result is a result.
    ///
    /// It lands although the lease has ended, as long as nobody has taken over: the effect has happened.
    ///
    /// # Errors
    ///
    /// - [`Fenced`](AttemptError::Fenced) if somebody else has the record now. Nothing was written.
    /// - [`Over`](AttemptError::Over) if the attempt has already said how it went.
    /// - [`TooLarge`](AttemptError::TooLarge) for a result above the ledger's limit.
    /// - [`Store`](AttemptError::Store) if the store failed. Call again: dropping the attempt now says nothing, since the
    ///   effect has happened, and the end of its lease decides.
    pub fn complete(&self, result: impl AsRef<[u8]>) -> Result<(), AttemptError> {
        self.complete_for(result, self.work.ledger.result_ttl())
    }

    /// Stores the result for its own ttl, which counts from now; see [`complete`](Self::complete).
    ///
    /// # Errors
    ///
    /// As [`complete`](Self::complete).
    pub fn complete_for(
        &self,
        result: impl AsRef<[u8]>,
        ttl: impl Into<Ttl>,
    ) -> Result<(), AttemptError> {
        let (result, ttl) = (result.as_ref(), ttl.into());
        ttl.check()?;
        self.work.check_result(result)?;
        self.work
            .end(Move::Complete, |record, now| changes::complete(record, now, ttl, result, None))
    }

    /// Stores a result of any serde type, encoded with bincode; [`Record::value`] reads it.
    ///
    /// # Errors
    ///
    /// As [`complete`](Self::complete), and [`Value`](AttemptError::Value) if it cannot be encoded.
    pub fn complete_value<T: Serialize>(&self, result: &T) -> Result<(), AttemptError> {
        self.complete(encode("the result", result)?)
    }

    /// Says that the attempt failed; what follows is in the [`Failure`]. A record whose attempts are used up is dead.
    ///
    /// # Errors
    ///
    /// As [`complete`](Self::complete).
    pub fn fail(&self, failure: Failure) -> Result<(), AttemptError> {
        let Failure { kind, reason } = failure;
        let policies = &self.work.ledger.inner.options;
        match kind {
            FailureKind::Retry(after) => self.work.end(Move::Retry, |record, now| {
                changes::retry(record, now, policies, AttemptEnd::Failed, &reason, after)
            }),
            FailureKind::Final => self
                .work
                .end(Move::Bury, |record, now| changes::bury(record, now, policies, &reason)),
            FailureKind::Replay(result) => {
                self.work.check_result(&result)?;
                let ttl = self.work.ledger.result_ttl();
                self.work.end(Move::Complete, |record, now| {
                    changes::complete(record, now, ttl, &result, Some(&reason))
                })
            }
            FailureKind::Attempt(error) if error.ends_attempt() => {
                // The work may have been done, so dropping the attempt must not say that it failed.
                self.work.inside.lock().doubt();
                Err(error)
            }
            // The work asked for something that cannot be: that is a failure like others.
            FailureKind::Attempt(_) => {
                self.fail(Failure { kind: FailureKind::Retry(None), reason })
            }
        }
    }

    /// Extends the lease by its length, from now, unless it was extended further than that.
    ///
    /// # Errors
    ///
    /// As [`complete`](Self::complete), and [`LeaseEnded`](AttemptError::LeaseEnded) if it has ended already.
    pub fn renew(&self) -> Result<(), AttemptError> {
        self.work.renew(None)
    }

    /// Extends the lease to this length, from now.
    ///
    /// # Errors
    ///
    /// As [`renew`](Self::renew).
    pub fn renew_for(&self, lease: Duration) -> Result<(), AttemptError> {
        self.work.renew(Some(check_lease(lease)?))
    }

    /// Hands the record back without having done anything: the attempt is not counted, and the next may start at once.
    /// For an orderly shutdown.
    ///
    /// # Errors
    ///
    /// As [`complete`](Self::complete).
    pub fn release(&self) -> Result<(), AttemptError> {
        self.work.end(Move::Release, |record, now| changes::release(record, now, "released"))
    }

    /// Returns an error if this attempt can no longer say how it went. Reads the record.
    ///
    /// # Errors
    ///
    /// As [`renew`](Self::renew).
    pub fn check(&self) -> Result<(), AttemptError> {
        self.work.check()
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.work.inside.lock().end != End::Open {
            return;
        }
        let reason = if std::thread::panicking() {
            "the worker panicked"
        } else {
            "the attempt was dropped before it said how it went"
        };
        let policies = &self.work.ledger.inner.options;
        let dropped = if policies.on_lease_end == OnLeaseEnd::Hold {
            self.work.end(Move::Hold, |record, now| changes::hold(record, now, reason))
        } else {
            self.work.end(Move::Retry, |record, now| {
                changes::retry(record, now, policies, AttemptEnd::Dropped, reason, None)
            })
        };
        match dropped {
            // Nothing is lost by silence: somebody else has it, or it is held or dead.
            Ok(())
            | Err(
                AttemptError::Fenced { .. } | AttemptError::Over { .. } | AttemptError::LeaseEnded,
            ) => {}
            Err(error) => {
                tracing::warn!(%error, "a dropped attempt was not noted; its lease ends it");
            }
        }
    }
}

impl Inside {
    /// Notes that nobody knows whether the work was done.
    pub(super) fn doubt(&mut self) {
        if self.end == End::Open {
            self.end = End::Unknown;
        }
    }
}

impl Work {
    fn check_result(&self, result: &[u8]) -> Result<(), AttemptError> {
        let bytes_max = self.ledger.inner.options.result_bytes_max;
        check_size("a result", result.len(), bytes_max)
    }

    /// Says how the attempt went.
    fn end(&self, step: Move, change: impl Fn(Record, Now) -> Change) -> Result<(), AttemptError> {
        let mut inside = self.inside.lock();
        let was_unknown = inside.end == End::Unknown;
        let ended = match self.make(&mut inside, step, None, change) {
            // The first call was made after all.
            Err(AttemptError::Over { .. }) if was_unknown => Ok(()),
            other => other,
        };
        inside.end = match &ended {
            Ok(()) | Err(AttemptError::Fenced { .. } | AttemptError::Over { .. }) => End::Over,
            // Nothing was written.
            Err(AttemptError::LeaseEnded) => inside.end,
            Err(_) => End::Unknown,
        };
        ended
    }

    pub(super) fn renew(&self, lease_ms: Option<u64>) -> Result<(), AttemptError> {
        let renew = |record, now| changes::renew(record, now, lease_ms);
        self.make(&mut self.inside.lock(), Move::Renew, None, renew)
    }

    /// Saves a stage: one commit with the record, whose lease it extends.
    pub(super) fn save(
        &self,
        inside: &mut Inside,
        stage: StageWrite<'_>,
    ) -> Result<(), AttemptError> {
        let save = |record: Record, now| {
            let stages = record.stages.max(stage.number + 1);
            changes::renew(Record { stages, ..record }, now, None)
        };
        let saved = self.make(inside, Move::Save, Some(stage), save);
        if let Err(AttemptError::Store(_)) = saved {
            inside.doubt();
        }
        saved
    }

    fn check(&self) -> Result<(), AttemptError> {
        let mut inside = self.inside.lock();
        self.refresh(&mut inside)?;
        match moves::after(self.ledger.now().phase(Some(&inside.found.record)), Move::Renew) {
            Some(_) => Ok(()),
            None => Err(AttemptError::LeaseEnded),
        }
    }

    /// Reads the record again. An error if it is another's.
    pub(super) fn refresh(&self, inside: &mut Inside) -> Result<(), AttemptError> {
        match self.ledger.rows().read(&self.id)? {
            Some(found) if found.record.token == self.token => {
                inside.found = found;
                Ok(())
            }
            Some(Found { record, .. }) if self.is_told_in(&record) => {
                Err(AttemptError::Over { record: record.into() })
            }
            other => Err(AttemptError::Fenced { record: other.map(|found| found.record.into()) }),
        }
    }

    /// Returns whether the last thing in the history is how this attempt said it went.
    fn is_told_in(&self, record: &Record) -> bool {
        let last = record.history.last().filter(|past| past.token == self.token);
        last.is_some_and(|past| past.end.is_told())
    }

    /// Makes a change of the record, as long as it is this attempt's (I8). The token is compared in the commit: what is
    /// written expects the sequence of the row in which the token was seen.
    fn make(
        &self,
        inside: &mut Inside,
        step: Move,
        stage: Option<StageWrite<'_>>,
        change: impl Fn(Record, Now) -> Change,
    ) -> Result<(), AttemptError> {
        if inside.end == End::Over {
            let record = match self.ledger.rows().read(&self.id)? {
                Some(found) => found.record,
                None => inside.found.record.clone(),
            };
            return Err(AttemptError::Over { record: record.into() });
        }
        let rows = self.ledger.rows();
        for _ in 0..RACES_MAX {
            let now = self.ledger.now();
            let record = inside.found.record.clone();
            if moves::after(now.phase(Some(&record)), step).is_none() {
                // Only what was read just now counts: somebody may have taken over.
                self.refresh(inside)?;
                return Err(AttemptError::LeaseEnded);
            }
            let change = change(record, now);
            if let Some(found) =
                rows.write(&self.id, Some(&inside.found), &change, stage, now.at.now)?
            {
                inside.found = found;
                return Ok(());
            }
            self.refresh(inside)?;
        }
        Err(Error::Timeout { what: "a record that others change again and again" }.into())
    }

    pub(super) fn id(&self) -> &[u8] {
        &self.id
    }

    /// Returns when its lease has to be renewed: after a third of its length. `None` if it is over.
    pub(super) fn renew_every(&self) -> Option<Duration> {
        let inside = self.inside.lock();
        let third = Duration::from_millis(inside.found.record.lease_ms) / 3;
        (inside.end == End::Open).then_some(third)
    }
}
