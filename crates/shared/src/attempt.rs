//! An attempt: the right to work on an id, as long as nobody else has it.

use crate::error::{Error, ErrorKind, MoveError};
use crate::ledger::SharedLedger;
use crate::record::{AttemptEnd, Record, State};
use crate::renewals::{Hold, Renewals};
use crate::repeat::patiently;
use crate::store::{DedupStore, Ending};
use firstseen::Ttl;
use firstseen::ledger::{DeadCause, Failure, OnLeaseEnd};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// An attempt at an id: the answer [`Begin::Started`](crate::Begin::Started).
///
/// Say how it went with [`complete`](Self::complete), [`fail`](Self::fail) or [`release`](Self::release). Each is refused
/// with [`MoveError::Fenced`] once another attempt has taken over.
///
/// **Dropped before that**, by a panic or an early return, it has failed, or is held where the policy is
/// [`OnLeaseEnd::Hold`]. Nothing can be awaited in a drop: a task is spawned that tells the store. Without a runtime, or if that
/// ends first, the attempt ends with its lease. If nobody knows whether the work was done, because a call that said so was not
/// answered, or its lease was lost, dropping it says nothing.
#[must_use = "an attempt that is dropped has failed: keep it until the work is done, and say how it went"]
pub struct Attempt<S: DedupStore> {
    work: Arc<Work<S>>,
}

/// What an attempt and those who renew it share.
pub(crate) struct Work<S> {
    pub(crate) ledger: SharedLedger<S>,
    pub(crate) id: Vec<u8>,
    pub(crate) token: u64,
    number: u32,
    pub(crate) hold: Hold,
}

impl<S: DedupStore> fmt::Debug for Attempt<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Work { ledger, id, token, number, hold } = &*self.work;
        f.debug_struct("Attempt")
            .field("namespace", &ledger.namespace())
            .field("id", &id.escape_ascii().to_string())
            .field("token", token)
            .field("number", number)
            .field("hold", hold)
            .finish()
    }
}

impl<S: DedupStore> Attempt<S> {
    pub(crate) fn new(
        ledger: SharedLedger<S>,
        id: &[u8],
        token: u64,
        number: u32,
        sent: Instant,
    ) -> Self {
        let hold = Hold::new(sent, ledger.lease());
        Self { work: Arc::new(Work { ledger, id: id.to_vec(), token, number, hold }) }
    }

    /// Returns the ledger that it belongs to.
    pub fn ledger(&self) -> &SharedLedger<S> {
        &self.work.ledger
    }

    /// Returns the id.
    pub fn id(&self) -> &[u8] {
        &self.work.id
    }

    /// Returns the fencing token: higher than that of every attempt of this id before. Send it along with effects on a
    /// resource that can compare it.
    pub fn token(&self) -> u64 {
        self.work.token
    }

    /// Returns which attempt this is, from one; a redrive begins anew.
    pub fn number(&self) -> u32 {
        self.work.number
    }

    /// Renews the lease in a task of its own, after each third of its length, until the returned value is dropped or the
    /// attempt is over. Watch [`Renewals::lost`] beside the work.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with time.
    pub fn keep_renewed(&self) -> Renewals {
        Renewals::start(Arc::clone(&self.work))
    }

    /// Has the lease end its length from now.
    ///
    /// # Errors
    ///
    /// [`Fenced`](MoveError::Fenced) and [`Over`](MoveError::Over) as [`complete`](Self::complete), and
    /// [`LeaseEnded`](MoveError::LeaseEnded) if it has ended already. [`Store`](MoveError::Store) if the store did not answer
    /// while the lease lasted, as far as this process knows: stop the work then.
    pub async fn renew(&self) -> Result<(), MoveError> {
        let Work { ledger, hold, .. } = &*self.work;
        let patience = ledger.patience().min(hold.left().max(ledger.lease() / 3));
        patiently(patience, |_| self.work.renew_once()).await
    }

    /// Stores the result: from now on every `begin` replays it, for the ttl of the ledger. The lease need not last any more, as
    /// long as nobody has taken over.
    ///
    /// # Errors
    ///
    /// - [`Fenced`](MoveError::Fenced): another attempt has taken over, or an operator has. Nothing was written.
    /// - [`Over`](MoveError::Over): this attempt has already said how it went, otherwise than by a call whose answer was lost.
    /// - [`Store`](MoveError::Store) of kind [`Unavailable`](ErrorKind::Unavailable): nobody knows whether it is stored. Call it
    ///   again: a second one is harmless.
    /// - [`Store`](MoveError::Store) of kind [`Invalid`](ErrorKind::Invalid): the result is longer than
    ///   [`SharedLedger::result_bytes_max`]. Nothing was written: store it elsewhere, and a reference to it here.
    pub async fn complete(&self, result: impl AsRef<[u8]>) -> Result<(), MoveError> {
        self.complete_for(result, self.work.ledger.result_ttl()).await
    }

    /// Stores the result for another ttl than that of the ledger; see [`complete`](Self::complete).
    ///
    /// # Errors
    ///
    /// As [`complete`](Self::complete).
    pub async fn complete_for(
        &self,
        result: impl AsRef<[u8]>,
        ttl: impl Into<Ttl>,
    ) -> Result<(), MoveError> {
        let (result, ttl) = (result.as_ref(), ttl.into());
        self.work.end(&Ending::Completed { result, is_failure: false, ttl }).await
    }

    /// Says that the attempt failed; what follows is in the [`Failure`]. A record whose attempts are used up is dead.
    ///
    /// # Errors
    ///
    /// As [`complete`](Self::complete).
    pub async fn fail(&self, failure: Failure) -> Result<(), MoveError> {
        let reason = failure.reason();
        if let Some(result) = failure.result() {
            let ttl = self.work.ledger.result_ttl();
            return self.work.end(&Ending::Completed { result, is_failure: true, ttl }).await;
        }
        let ending = if failure.is_held() {
            Ending::Held { reason }
        } else if failure.is_final() {
            Ending::Final { reason }
        } else if failure.is_unsaid() {
            self.work.unsaid(reason)
        } else {
            let retry_after = failure.delay().unwrap_or_else(|| self.work.backoff());
            Ending::Failed { retry_after, reason }
        };
        self.work.end(&ending).await
    }

    /// Hands the record back without having done anything: the attempt is not counted, and the next may start at once. For an
    /// orderly shutdown.
    ///
    /// # Errors
    ///
    /// As [`complete`](Self::complete).
    pub async fn release(&self) -> Result<(), MoveError> {
        self.work.end(&Ending::Released).await
    }

    /// Returns an error if this attempt has lost the record, or its lease has ended. Reads the record.
    ///
    /// # Errors
    ///
    /// As [`renew`](Self::renew).
    pub async fn check(&self) -> Result<(), MoveError> {
        let Work { ledger, id, token, .. } = &*self.work;
        let record = ledger.get(id).await?;
        match record {
            Some(record) if record.token == *token => match record.state {
                State::Running { .. } if !record.time_left().is_zero() => Ok(()),
                _ if record.is_ended_by(*token) => Err(MoveError::Over(record.into())),
                _ => Err(MoveError::LeaseEnded),
            },
            other => Err(MoveError::Fenced(other.map(Box::new))),
        }
    }

    /// Has a drop say nothing: nobody knows whether the work was done.
    pub(crate) fn doubt(&self) {
        self.work.hold.doubt();
    }
}

impl<S: DedupStore> Drop for Attempt<S> {
    fn drop(&mut self) {
        let is_open = self.work.hold.is_open();
        // Nobody is to renew the lease of an attempt that is gone.
        self.work.hold.finish();
        if !is_open {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            tracing::debug!("an attempt was dropped outside of a runtime; its lease ends it");
            return;
        };
        let reason = if std::thread::panicking() {
            "the worker panicked"
        } else {
            "the attempt was dropped before it said how it went"
        };
        let work = Arc::clone(&self.work);
        runtime.spawn(async move {
            if let Err(MoveError::Store(error)) = work.end(&work.unsaid(reason)).await {
                tracing::warn!(%error, "a dropped attempt was not noted; its lease ends it");
            }
        });
    }
}

impl<S: DedupStore> Work<S> {
    /// Asks once for the lease to be renewed. What counts is when it was asked for, not when it was answered.
    pub(crate) async fn renew_once(&self) -> Result<(), MoveError> {
        let sent = Instant::now();
        let lease = self.ledger.lease();
        let store = self.ledger.store();
        store.renew(self.ledger.namespace(), &self.id, self.token, lease).await?;
        self.hold.renewed(sent, lease);
        Ok(())
    }

    fn backoff(&self) -> Duration {
        self.ledger.backoff().delay(self.number)
    }

    /// Returns how an attempt ends of whose effect nothing was said.
    fn unsaid<'a>(&self, reason: &'a str) -> Ending<'a> {
        match self.ledger.policy().on_lease_end {
            OnLeaseEnd::Hold => Ending::Held { reason },
            _ => Ending::Failed { retry_after: self.backoff(), reason },
        }
    }

    async fn end(&self, ending: &Ending<'_>) -> Result<(), MoveError> {
        let (ledger, policy) = (&self.ledger, self.ledger.policy());
        let store = ledger.store();
        let was_in_doubt = self.hold.doubt();
        if let Ending::Completed { result, .. } = ending
            && result.len() > ledger.result_bytes_max()
        {
            let why = format!(
                "a result of {} bytes; at most {} are stored: store it elsewhere, and a reference to it here",
                result.len(),
                ledger.result_bytes_max()
            );
            return Err(Error::new(ErrorKind::Invalid, "the end of an attempt", why).into());
        }
        let mut tries = 0;
        let ended = patiently(ledger.patience(), |number| {
            tries = number;
            store.end(ledger.namespace(), &self.id, self.token, ending, &policy)
        });
        let answer = ended.await;
        let ended = match answer {
            // An earlier try was made after all.
            Err(MoveError::Over(record))
                if (tries > 1 || was_in_doubt) && is_left_by(&record, self.token, ending) =>
            {
                Ok(())
            }
            other => other,
        };
        if matches!(ended, Ok(()) | Err(MoveError::Fenced(_) | MoveError::Over(_))) {
            self.hold.finish();
        }
        ended
    }
}

/// Returns whether a record is as this attempt leaves it with this ending.
fn is_left_by(record: &Record, token: u64, ending: &Ending<'_>) -> bool {
    let Some(last) = record.history.last().filter(|_| record.is_ended_by(token)) else {
        return false;
    };
    match (ending, &record.state) {
        (
            Ending::Completed { result, is_failure, .. },
            State::Completed { result: stored, is_failure: is_stored_failure },
        ) => stored.as_deref() == Some(*result) && is_failure == is_stored_failure,
        (Ending::Failed { .. }, State::Waiting { .. }) => last.end == AttemptEnd::Failed,
        (Ending::Failed { .. }, State::Dead { cause }) => *cause == DeadCause::Attempts,
        (Ending::Final { .. }, State::Dead { cause }) => *cause == DeadCause::Final,
        (Ending::Held { .. }, State::Held) => last.end == AttemptEnd::Held,
        (Ending::Released, State::Waiting { .. }) => last.end == AttemptEnd::Released,
        _ => false,
    }
}
