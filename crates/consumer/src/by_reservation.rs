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
/// Failures are counted in memory, and after a restart from what the broker counts, if it does. A message that kills its
/// process is tried for ever if the broker does not count: use a ledger where that may happen.
#[derive(Debug, Clone, Copy)]
pub struct Retries {
    attempts_max: u32,
    base: Duration,
    max: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Self { attempts_max: 5, base: Duration::from_secs(1), max: Duration::from_secs(300) }
    }
}

impl Retries {
    /// Creates the defaults: five attempts; pauses of a second, doubled each time, at most five minutes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets after how many attempts a message is a dead letter; at least one.
    #[must_use]
    pub fn attempts_max(self, attempts_max: u32) -> Self {
        Self { attempts_max: attempts_max.max(1), ..self }
    }

    /// Sets the first pause, doubled after each failure, and the longest.
    #[must_use]
    pub fn pauses(self, base: Duration, max: Duration) -> Self {
        Self { base, max, ..self }
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
    failures: Mutex<HashMap<Bytes, u32>>,
}

/// A reserved id.
pub(crate) struct ByReservation {
    reserving: Arc<Reserving>,
    held: Reservation,
    id: Bytes,
}

impl Reserving {
    pub(crate) fn new(namespace: Namespace, retries: Retries) -> Self {
        Self { namespace, retries, failures: Mutex::default() }
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
                self.count(id, 0, message);
                Ok(Begun::Not(Outcome::Later(options.busy_delay, Why::Busy)))
            }
            Reserve::FirstSeen(held) => {
                let failures = self.count(id, 0, message);
                if failures >= self.retries.attempts_max {
                    return Ok(Begun::Not(Outcome::Dead(format!(
                        "given up: {failures} attempts, or deliveries of which nothing was heard"
                    ))));
                }
                let id = id.clone();
                let reserving = Arc::clone(self);
                Ok(Begun::Ours(Claim::Reserved(ByReservation { reserving, held, id })))
            }
        }
    }

    /// Adds failures of an id. Returns how many there are.
    fn count(&self, id: &Bytes, more: u32, message: &Message) -> u32 {
        let before = message.deliveries.map_or(0, |deliveries| deliveries.saturating_sub(1));
        self.add(id, more, before)
    }

    fn add(&self, id: &Bytes, more: u32, before: u32) -> u32 {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= COUNTED_MAX && !failures.contains_key(id) {
            failures.clear();
        }
        let count = failures.entry(id.clone()).or_insert(before);
        *count = count.saturating_add(more);
        *count
    }

    fn forget(&self, id: &Bytes) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
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
        let failures = self.reserving.add(&self.id, more, 0);
        // The count stays with a dead letter: its answer may be lost, and then it comes again.
        if failures >= retries.attempts_max {
            return Outcome::Dead(format!("given up after a failure: {}", failure.reason()));
        }
        Outcome::Later(failure.delay().unwrap_or_else(|| retries.pause(failures)), Why::Failed)
    }
}
