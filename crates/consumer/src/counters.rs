//! What the loop has done so far.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What a loop has done so far, and what it is doing; see [`Handle::counters`](crate::Handle::counters). Each number is
/// right by itself; together they are of nearly the same moment.
///
/// Everything delivered is counted once as `first`, `duplicates`, `retried`, `put_off`, `dead` or `handed_back`, or is in
/// flight.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Deliveries taken from the broker, redeliveries included.
    pub delivered: u64,
    /// Work that was done, with its result stored.
    pub first: u64,
    /// Deliveries of what was done before: acknowledged without work.
    pub duplicates: u64,
    /// Deliveries whose work failed and that come again. In order, each attempt of one delivery counts.
    pub retried: u64,
    /// Deliveries that came too early: somebody else works on the id, its retry is not due, or an operator has it.
    pub put_off: u64,
    /// Dead letters.
    pub dead: u64,
    /// Of the dead letters, those without an id, or with one that no ledger can hold.
    pub without_id: u64,
    /// Deliveries given back when the loop stopped before their work began.
    pub handed_back: u64,
    /// Work whose result came after somebody else had taken the id over. Part of `put_off`.
    pub fenced: u64,
    /// Attempts that ran alone, since the one before had ended with its process, or with the lease of a shared ledger.
    pub alone: u64,
    /// Answers that the broker has not confirmed in time: the message comes again, and is a duplicate then.
    pub acks_lost: u64,
    /// Errors of the broker when asked for deliveries.
    pub source_errors: u64,
    /// Deliveries in flight, from the broker to the acknowledgement.
    pub in_flight: u64,
    /// Bytes of their payloads.
    pub in_flight_bytes: u64,
    /// Of those in flight, the ones that wait in order: for their retry, for an operator, or for one of their key.
    pub waiting: u64,
    /// How often the loop came to take nothing more for a second or longer although nobody worked: everything in flight waited, or
    /// the broker gave nothing of what it has. A warning tells which. See [the crate's first page](crate#what-is-promised).
    pub stalled: u64,
    /// Handlers that run.
    pub working: u64,
    /// Messages that wait at the broker, where that is known.
    pub lag: Option<u64>,
}

/// The same numbers while they change.
#[derive(Debug, Default)]
pub(crate) struct Live {
    pub(crate) delivered: AtomicU64,
    pub(crate) first: AtomicU64,
    pub(crate) duplicates: AtomicU64,
    pub(crate) retried: AtomicU64,
    pub(crate) put_off: AtomicU64,
    pub(crate) dead: AtomicU64,
    pub(crate) without_id: AtomicU64,
    pub(crate) handed_back: AtomicU64,
    pub(crate) fenced: AtomicU64,
    pub(crate) alone: AtomicU64,
    pub(crate) acks_lost: AtomicU64,
    pub(crate) source_errors: AtomicU64,
    pub(crate) in_flight: AtomicU64,
    pub(crate) in_flight_bytes: AtomicU64,
    pub(crate) waiting: AtomicU64,
    pub(crate) stalled: AtomicU64,
    pub(crate) working: AtomicU64,
    /// The lag and one; zero if it is not known.
    lag: AtomicU64,
}

impl Live {
    pub(crate) fn read(&self) -> Counters {
        Counters {
            delivered: self.delivered.load(Relaxed),
            first: self.first.load(Relaxed),
            duplicates: self.duplicates.load(Relaxed),
            retried: self.retried.load(Relaxed),
            put_off: self.put_off.load(Relaxed),
            dead: self.dead.load(Relaxed),
            without_id: self.without_id.load(Relaxed),
            handed_back: self.handed_back.load(Relaxed),
            fenced: self.fenced.load(Relaxed),
            alone: self.alone.load(Relaxed),
            acks_lost: self.acks_lost.load(Relaxed),
            source_errors: self.source_errors.load(Relaxed),
            in_flight: self.in_flight.load(Relaxed),
            in_flight_bytes: self.in_flight_bytes.load(Relaxed),
            waiting: self.waiting.load(Relaxed),
            stalled: self.stalled.load(Relaxed),
            working: self.working.load(Relaxed),
            lag: self.lag(),
        }
    }

    pub(crate) fn lag(&self) -> Option<u64> {
        self.lag.load(Relaxed).checked_sub(1)
    }

    pub(crate) fn set_lag(&self, lag: Option<u64>) {
        self.lag.store(lag.map_or(0, |lag| lag.saturating_add(1)), Relaxed);
    }
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

/// One more, until it is dropped.
pub(crate) struct Gauge<'a>(&'a AtomicU64);

impl<'a> Gauge<'a> {
    pub(crate) fn one(counter: &'a AtomicU64) -> Self {
        count(counter);
        Self(counter)
    }
}

impl Drop for Gauge<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
