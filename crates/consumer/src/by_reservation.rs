//! Work that a reservation guards: cheaper than a ledger, without stored answers, and with failures counted in memory.

use crate::claims::{AGAIN_MS, Begun, Claim, may_pass, pause_or};
use crate::options::ConsumerOptions;
use crate::outcome::{Error, Outcome, Why};
use crate::source::Message;
use bytes::Bytes;
use firstseen::ledger::Failure;
use firstseen::{Namespace, Reservation, Reserve, Store};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Ids whose failures are counted at the same time. Beyond it they are counted anew.
const COUNTED_MAX: usize = 1 << 16;

/// How often work is tried that a reservation guards. A ledger has policies of its own.
///
/// Failures are counted in memory, and anew after a restart. A message that kills its process leaves no failure; only the
/// broker's count of its deliveries tells of it, and [`deliveries_max`](Self::deliveries_max) is a limit for that. Where
/// the broker does not count, such a message is tried for ever: use a ledger where that may happen.
#[derive(Debug, Clone, Copy)]
pub struct Retries {
    attempts_max: u32,
    deliveries_max: u32,
    base: Duration,
    max: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            attempts_max: 5,
            deliveries_max: 100,
            base: Duration::from_secs(1),
            max: Duration::from_secs(300),
        }
    }
}

impl Retries {
    /// Creates the defaults: five attempts, or 100 deliveries of which nothing was heard; pauses of a second, doubled each
    /// time, at most five minutes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets after how many failures in one process a message is a dead letter; at least one.
    #[must_use]
    pub fn attempts_max(self, attempts_max: u32) -> Self {
        Self { attempts_max: attempts_max.max(1), ..self }
    }

    /// Sets after how many deliveries to processes that are gone a message is a dead letter: 100; at least one.
    ///
    /// It is there for the message that kills its process, which leaves no other trace with reservations. But the broker
    /// also counts the deliveries that were only taken ahead or given back at a stop, and those that failed before
    /// a restart, so set it well above the restarts that a message may live through. A broker with a limit of its own, such as
    /// the `x-delivery-limit` of RabbitMQ, drops messages there, whatever this says.
    #[must_use]
    pub fn deliveries_max(self, deliveries_max: u32) -> Self {
        Self { deliveries_max: deliveries_max.max(1), ..self }
    }

    /// Sets the first pause, doubled after each failure, and the longest.
    #[must_use]
    pub fn pauses(self, base: Duration, max: Duration) -> Self {
        Self { base, max, ..self }
    }

    /// Returns why there is no further try, if so.
    fn give_up(&self, tries: Tries) -> Option<String> {
        let Tries { failures, unheard } = tries;
        if failures >= self.attempts_max {
            return Some(format!("given up: {failures} failed attempts"));
        }
        (unheard >= self.deliveries_max)
            .then(|| format!("given up: {unheard} deliveries of which nothing was heard"))
    }

    fn pause(&self, failures: u32) -> Duration {
        let doubled = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        self.base.saturating_mul(doubled).min(self.max)
    }
}

/// A namespace in which ids are reserved, and how often their work has failed.
#[derive(Debug)]
pub(crate) struct Reserving {
    namespace: Namespace,
    retries: Retries,
    tries: Mutex<HashMap<Bytes, Tries>>,
}

/// What is known of the tries of an id that is not done.
#[derive(Debug, Clone, Copy)]
struct Tries {
    /// Failures that this process heard.
    failures: u32,
    /// Deliveries before the first one here: failures, deaths of a process, or nothing at all. Later ones are this process's
    /// own, and it knows what became of them.
    unheard: u32,
}

/// A reserved id.
pub(crate) struct ByReservation {
    reserving: Arc<Reserving>,
    held: Reservation,
    id: Bytes,
}

impl Reserving {
    pub(crate) fn new(namespace: Namespace, retries: Retries) -> Self {
        Self { namespace, retries, tries: Mutex::default() }
    }

    pub(crate) fn store(&self) -> &Store {
        self.namespace.store()
    }

    pub(crate) async fn begin(
        self: &Arc<Self>,
        id: &Bytes,
        message: &Message,
        options: &ConsumerOptions,
    ) -> firstseen::Result<Begun> {
        match self.namespace.reserve_async(id).await? {
            Reserve::Duplicate { .. } => Ok(Begun::Not(Outcome::Duplicate)),
            Reserve::InProgress => {
                // From here on its failures are counted here: the broker counts this delivery, too.
                self.tries(id, message);
                Ok(Begun::Not(Outcome::Later(options.busy_delay, Why::Busy)))
            }
            Reserve::FirstSeen(held) => {
                if let Some(why) = self.retries.give_up(self.tries(id, message)) {
                    return Ok(Begun::Not(Outcome::Dead(why)));
                }
                let id = id.clone();
                let reserving = Arc::clone(self);
                Ok(Begun::Ours(Claim::Reserved(ByReservation { reserving, held, id })))
            }
        }
    }

    /// Returns what is known of the tries of an id.
    fn tries(&self, id: &Bytes, message: &Message) -> Tries {
        self.add(id, 0, message.deliveries.map_or(0, |deliveries| deliveries.saturating_sub(1)))
    }

    /// Adds failures of an id. `unheard` is kept if this is the first that is heard of it.
    fn add(&self, id: &Bytes, more: u32, unheard: u32) -> Tries {
        let mut all = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= COUNTED_MAX && !all.contains_key(id) {
            all.clear();
        }
        let tries = all.entry(id.clone()).or_insert(Tries { failures: 0, unheard });
        tries.failures = tries.failures.saturating_add(more);
        *tries
    }

    fn forget(&self, id: &Bytes) {
        self.tries.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}

impl ByReservation {
    pub(crate) async fn complete(mut self) -> Result<Outcome, Error> {
        let mut pauses = AGAIN_MS.into_iter();
        loop {
            match self.held.confirm_async().await {
                Ok(()) => break,
                // The effect has happened. After an error the id is still held.
                Err(error) if may_pass(&error) => pause_or(&mut pauses, error).await?,
                Err(error) => return Err(error.into()),
            }
        }
        self.reserving.forget(&self.id);
        Ok(Outcome::First)
    }

    pub(crate) fn fail(self, failure: &Failure) -> Outcome {
        let retries = self.reserving.retries;
        // There is no answer to be stored and nobody to hold it for: whatever is never tried again is a dead letter.
        let more = if failure.is_final() { retries.attempts_max } else { 1 };
        let failures = self.reserving.add(&self.id, more, 0).failures;
        // The count stays with a dead letter: its answer may be lost, and then it comes again.
        if failures >= retries.attempts_max {
            return Outcome::Dead(format!("given up after a failure: {}", failure.reason()));
        }
        Outcome::Later(failure.delay().unwrap_or_else(|| retries.pause(failures)), Why::Failed)
    }
}
