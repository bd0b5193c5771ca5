//! An attempt: the right to work on an id, as long as nobody else has it.

use crate::id::ShortId;
use crate::ledger::ending::Ending;
use crate::ledger::error::{AttemptError, Failure};
use crate::ledger::handle::Ledger;
use crate::ledger::options::check_lease;
use crate::ledger::record::Record;
use crate::ledger::rows::Found;
use crate::ledger::value::encode;
use crate::ledger::work::{Unanswered, Work};
use crate::sync::Arc;
use crate::time::Ttl;
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// An attempt at an id: the answer [`Begin::Started`](crate::ledger::Begin::Started).
///
/// Say how it went with [`complete`](Self::complete), [`fail`](Self::fail) or [`release`](Self::release). Each is
/// refused with [`AttemptError::Fenced`] once another attempt has taken over (I8). Dropped before that, by a panic or an
/// early return, it has failed and is tried again.
///
/// It may be held over an `.await`, and handed to another thread.
#[must_use = "an attempt that is dropped has failed: keep it until the work is done, and say how it went"]
pub struct Attempt {
    pub(super) work: Arc<Work>,
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the record: it is under a lock.
        f.debug_struct("Attempt")
            .field("ledger", self.ledger())
            .field("id", &ShortId(self.id()))
            .field("token", &self.token())
            .finish_non_exhaustive()
    }
}

impl Attempt {
    pub(super) fn new(ledger: Ledger, id: &[u8], found: Found) -> Self {
        Self { work: Arc::new(Work::new(ledger, id, found)) }
    }

    /// Returns the ledger that it belongs to.
    pub fn ledger(&self) -> &Ledger {
        &self.work.ledger
    }

    /// Returns the id.
    pub fn id(&self) -> &[u8] {
        self.work.id()
    }

    /// Returns the fencing token: higher than that of every attempt before, over all ids of the store. Send it along with
    /// effects on a resource that can compare it.
    pub fn token(&self) -> u64 {
        self.work.token()
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
        self.work.ledger.payload(self.work.id())
    }

    /// Stores the result: from now on every `begin` hears it. An empty result is a result.
    ///
    /// It lands although the lease has ended, as long as nobody has taken over: the effect has happened.
    ///
    /// # Errors
    ///
    /// - [`Fenced`](AttemptError::Fenced) if somebody else has the record now. Nothing was written.
    /// - [`Over`](AttemptError::Over) if the attempt has already said how it went.
    /// - [`TooLarge`](AttemptError::TooLarge) for a result above the ledger's limit. Call again with a reference to it.
    /// - [`Store`](AttemptError::Store) if the store failed. Call again.
    ///
    /// Any error leaves the attempt in doubt: dropping it now writes nothing, since the effect has happened, and the end of
    /// its lease decides.
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
        let (bytes, ttl) = (result.as_ref().to_vec(), ttl.into());
        self.work.end(&Ending::Complete { bytes, is_encoded: false, ttl, failure: None })
    }

    /// Stores a result of any serde type, encoded with bincode; [`Record::value`] reads it.
    ///
    /// # Errors
    ///
    /// As [`complete`](Self::complete), and [`Value`](AttemptError::Value) if it cannot be encoded.
    pub fn complete_value<T: Serialize>(&self, result: &T) -> Result<(), AttemptError> {
        self.work.end(&self.ending_with(result)?)
    }

    /// Returns how an attempt ends that has this result. After an error it is in doubt.
    pub(super) fn ending_with<T: Serialize>(&self, result: &T) -> Result<Ending, AttemptError> {
        let unanswered = Unanswered::of(&self.work);
        let bytes = encode("the result", result)?;
        unanswered.answered();
        Ok(self.work.completion(bytes, true))
    }

    /// Returns how an attempt ends that failed like this. After an error it is in doubt.
    pub(super) fn ending_of(&self, failure: Failure) -> Result<Ending, AttemptError> {
        let unanswered = Unanswered::of(&self.work);
        let ending = self.work.ending_of(failure)?;
        unanswered.answered();
        Ok(ending)
    }

    /// Says that the attempt failed; what follows is in the [`Failure`]. A record whose attempts are used up is dead.
    ///
    /// # Errors
    ///
    /// As [`complete`](Self::complete).
    pub fn fail(&self, failure: Failure) -> Result<(), AttemptError> {
        self.work.end(&self.ending_of(failure)?)
    }

    /// Extends the lease by its length, from now, unless it was extended further than that.
    ///
    /// # Errors
    ///
    /// As [`complete`](Self::complete), and [`LeaseEnded`](AttemptError::LeaseEnded) if it has ended already.
    pub fn renew(&self) -> Result<(), AttemptError> {
        self.work.renew()
    }

    /// Sets the end of the lease to this long from now, which may be sooner than before.
    ///
    /// # Errors
    ///
    /// As [`renew`](Self::renew).
    pub fn renew_for(&self, lease: Duration) -> Result<(), AttemptError> {
        self.work.renew_for(check_lease(lease)?)
    }

    /// Hands the record back without having done anything: the attempt is not counted, and the next may start at once.
    /// For an orderly shutdown.
    ///
    /// # Errors
    ///
    /// As [`complete`](Self::complete).
    pub fn release(&self) -> Result<(), AttemptError> {
        self.work.end(&Ending::Release)
    }

    /// Lets go of the attempt without saying how it goes, and returns its token: the work goes on elsewhere, and
    /// [`Ledger::resume`] gives the attempt back. Until then its lease runs, and nothing renews it.
    pub fn detach(self) -> u64 {
        self.work.inside.lock().doubt();
        self.token()
    }

    /// Returns an error if this attempt can no longer say how it went. Reads the record.
    ///
    /// # Errors
    ///
    /// As [`renew`](Self::renew).
    pub fn check(&self) -> Result<(), AttemptError> {
        self.work.locked(|inside, _| self.work.check(inside))
    }

    /// Returns an error if this attempt can no longer say how it went, as a future: at
    /// [`Durability::Disk`](crate::Durability::Disk) what was read is on disk once it is ready, and no thread waits for that.
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check).
    pub async fn check_async(&self) -> Result<(), AttemptError> {
        self.work.locked_async(|inside, _| self.work.check(inside)).await
    }
}
