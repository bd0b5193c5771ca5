//! The right to do the work of an id: an attempt of a ledger, or a reservation.

use crate::by_ledger::{self, ByLedger};
use crate::by_reservation::{ByReservation, Reserving};
#[cfg(feature = "shared")]
use crate::by_shared::{Attempted, Guarding};
use crate::options::ConsumerOptions;
use crate::outcome::{Error, Outcome, Why};
use crate::source::Message;
use bytes::Bytes;
#[cfg(feature = "shared")]
use firstseen::ledger::Fingerprint;
use firstseen::ledger::{Attempt, Failure, Ledger};
use firstseen::{ErrorKind, limits};
use std::sync::Arc;
use std::time::Duration;

/// Who decides whether the work of an id is to be done.
#[derive(Debug)]
pub(crate) enum Guard {
    Ledger(Ledger),
    Reserving(Arc<Reserving>),
    #[cfg(feature = "shared")]
    Shared(Arc<dyn Guarding>),
}

/// The answer to [`Guard::begin`].
pub(crate) enum Begun {
    /// Do the work.
    Ours(Claim),
    /// There is no work to do now, or ever.
    Not(Outcome),
}

/// The right to do the work of an id. Dropped, it counts as a failure of which nobody knows more.
pub(crate) enum Claim {
    Attempt(ByLedger),
    Reserved(ByReservation),
    #[cfg(feature = "shared")]
    Shared(Box<dyn Attempted>),
}

/// Pauses, in milliseconds, after which a call of the store is repeated that may succeed later: half a minute in all.
pub(crate) const AGAIN_MS: [u64; 8] = [10, 50, 200, 1_000, 3_000, 5_000, 10_000, 10_000];

/// How long a message waits for a store that has no space.
const FULL_DELAY: Duration = Duration::from_secs(5);

/// Waits before a call of the store is repeated. Returns its error if it was repeated often enough.
pub(crate) async fn pause_or(
    pauses: &mut impl Iterator<Item = u64>,
    error: firstseen::Error,
) -> Result<(), Error> {
    let Some(ms) = pauses.next() else { return Err(error.into()) };
    tracing::warn!(%error, "the store did not take what was done; once more in {ms} ms");
    tokio::time::sleep(Duration::from_millis(ms)).await;
    Ok(())
}

/// Returns whether the same call may succeed later.
pub(crate) fn may_pass(error: &firstseen::Error) -> bool {
    matches!(error.kind(), ErrorKind::Retry | ErrorKind::StorageFull)
}

impl Guard {
    /// Has all that was stored on disk. Those that call it meanwhile share one sync. What a shared store has answered is as
    /// safe as that makes it.
    pub(crate) async fn sync(&self) -> Result<(), Error> {
        let store = match self {
            Self::Ledger(ledger) => ledger.store(),
            Self::Reserving(reserving) => reserving.store(),
            #[cfg(feature = "shared")]
            Self::Shared(_) => return Ok(()),
        };
        let mut pauses = AGAIN_MS.into_iter();
        loop {
            match store.sync_async().await {
                Ok(()) => return Ok(()),
                Err(error) if may_pass(&error) => pause_or(&mut pauses, error).await?,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Returns what is wrong with an id, if it cannot be one.
    pub(crate) fn refuses(&self, id: &[u8]) -> Option<String> {
        let most = match self {
            Self::Ledger(_) => limits::LEDGER_ID_BYTES_MAX,
            Self::Reserving(_) => limits::ID_BYTES_MAX,
            #[cfg(feature = "shared")]
            Self::Shared(ledger) => ledger.id_bytes_max(),
        };
        (!(1..=most).contains(&id.len()))
            .then(|| format!("its id has {} bytes; an id has 1 to {most}", id.len()))
    }

    /// Returns whether the work of an id may have killed its process, so that it has to be done alone. Asked before the
    /// attempt is counted: until it is alone, another may kill the process again.
    #[cfg_attr(
        not(feature = "shared"),
        expect(clippy::unused_async, reason = "only a ledger on a shared store is waited for")
    )]
    pub(crate) async fn is_suspect(&self, id: &Bytes, message: &Message) -> bool {
        // Delivered for the first time, it can have killed nobody.
        if message.deliveries == Some(1) {
            return false;
        }
        match self {
            Self::Ledger(ledger) => by_ledger::is_suspect(ledger, id),
            // Nothing is known of it.
            Self::Reserving(_) => false,
            #[cfg(feature = "shared")]
            Self::Shared(ledger) => ledger.is_suspect(id).await,
        }
    }

    /// Asks whether the work of an id is to be done. Of all who ask at the same time, one hears that it is.
    pub(crate) async fn begin(
        &self,
        id: &Bytes,
        message: &Message,
        options: &ConsumerOptions,
    ) -> Result<Begun, Error> {
        let begun = match self {
            Self::Ledger(ledger) => by_ledger::begin(ledger, id, message, options).await,
            Self::Reserving(reserving) => reserving.begin(id, message, options).await,
            #[cfg(feature = "shared")]
            Self::Shared(ledger) => {
                let print = || Fingerprint::of_bytes(&message.payload);
                let fingerprint = options.checks_payload.then(print);
                return ledger.begin(id, fingerprint, options).await;
            }
        };
        // The work has not begun, so the broker keeps the message until the store is well.
        begun.or_else(|error| match error.kind() {
            ErrorKind::Retry => Ok(Begun::Not(Outcome::Later(options.busy_delay, Why::Early))),
            ErrorKind::StorageFull => Ok(Begun::Not(Outcome::Later(FULL_DELAY, Why::Early))),
            _ => Err(error.into()),
        })
    }

    /// Waits until nobody works on an id any more, or the delay has passed.
    pub(crate) async fn wait(&self, id: &Bytes, delay: Duration) {
        let idle = match self {
            Self::Ledger(ledger) => ledger.wait_async(id),
            // Whoever holds a reservation is in this process, and soon done.
            Self::Reserving(_) => return tokio::time::sleep(delay).await,
            #[cfg(feature = "shared")]
            Self::Shared(ledger) => return ledger.wait(id, delay).await,
        };
        if let Ok(idle) = idle {
            // What it returns is asked for again by `begin`.
            let _ = tokio::time::timeout(delay, idle).await;
        }
    }
}

impl Claim {
    pub(crate) fn attempt(&self) -> Option<Arc<Attempt>> {
        match self {
            Self::Attempt(claim) => Some(claim.attempt()),
            Self::Reserved(_) => None,
            #[cfg(feature = "shared")]
            Self::Shared(_) => None,
        }
    }

    /// Returns the fencing token and the number of the attempt; `None` with reservations.
    pub(crate) fn token_and_number(&self) -> Option<(u64, u32)> {
        match self {
            Self::Attempt(claim) => {
                let attempt = claim.attempt();
                Some((attempt.token(), attempt.number()))
            }
            Self::Reserved(_) => None,
            #[cfg(feature = "shared")]
            Self::Shared(claim) => Some((claim.token(), claim.number())),
        }
    }

    /// Waits until somebody else may have the id: the work must stop then. What is in this process is not lost while it goes on.
    pub(crate) async fn lost(&self) {
        match self {
            Self::Attempt(_) | Self::Reserved(_) => std::future::pending().await,
            #[cfg(feature = "shared")]
            Self::Shared(claim) => claim.lost().await,
        }
    }

    /// Stores that the work is done, and its answer.
    pub(crate) async fn complete(
        self,
        answer: &[u8],
        options: &ConsumerOptions,
    ) -> Result<Outcome, Error> {
        match self {
            Self::Attempt(claim) => claim.complete(answer, options).await,
            Self::Reserved(claim) => claim.complete().await,
            #[cfg(feature = "shared")]
            Self::Shared(claim) => claim.complete(answer, options).await,
        }
    }

    /// Stores that the work has failed.
    pub(crate) async fn fail(
        self,
        failure: Failure,
        options: &ConsumerOptions,
    ) -> Result<Outcome, Error> {
        match self {
            Self::Attempt(claim) => claim.fail(failure, options).await,
            Self::Reserved(claim) => Ok(claim.fail(&failure)),
            #[cfg(feature = "shared")]
            Self::Shared(claim) => claim.fail(failure, options).await,
        }
    }

    /// Gives the id back before the work has begun: the attempt is not counted.
    pub(crate) async fn release(self) {
        match self {
            Self::Attempt(claim) => claim.release().await,
            Self::Reserved(claim) => drop(claim),
            #[cfg(feature = "shared")]
            Self::Shared(claim) => claim.release().await,
        }
    }
}
