//! What a layer has done so far.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What a layer has done so far; see [`Handle::counters`](crate::Handle::counters). Each number is right by itself;
/// together they are of nearly the same moment.
///
/// Every request of a covered method is counted once as `unprotected`, `invalid`, `first`, `replayed`, `conflicts`,
/// `mismatches`, `refused`, `released`, `failed`, `lost`, `unavailable`, `unrecorded` or `gone`, or is not yet answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Passed without a record: without a key where that is allowed, or with a body too large where that is.
    pub unprotected: u64,
    /// Refused before anything began: no key or a bad one, no principal, a body that was too large, too slow or broke off.
    pub invalid: u64,
    /// Done by the handler, and recorded.
    pub first: u64,
    /// Answered with the stored answer.
    pub replayed: u64,
    /// 409, since the key is at work.
    pub conflicts: u64,
    /// Refused, since the key was used for another request.
    pub mismatches: u64,
    /// Refused, since the key waits for a retry or an operator, is dead, or its answer was not kept.
    pub refused: u64,
    /// Done by the handler, and nothing recorded, as the fate of the answer said.
    pub released: u64,
    /// Failed: by the fate of the answer, an error, a panic, or its time. The key may be tried again, is held, or dead.
    pub failed: u64,
    /// Taken over by another attempt or an operator, or the lease ended, while the handler ran or before it was recorded.
    pub lost: u64,
    /// Refused with 503 or 500, since the store could not be asked. The handler has not run.
    pub unavailable: u64,
    /// Done by the handler, and not recorded in time, since the store could not be told.
    pub unrecorded: u64,
    /// Given up before it began, since the client went away while it waited.
    pub gone: u64,
    /// Of `first` and `released`, those whose answer could not be stored: too large, a stream, or with trailers.
    pub unkept: u64,
    /// Answers that nobody waited for any more: their clients had gone. Each is counted above as well.
    pub unheard: u64,
    /// Requests whose key is being asked for, worked on or recorded.
    pub in_flight: u64,
}

/// The same numbers while they change.
#[derive(Debug, Default)]
pub(crate) struct Live {
    pub(crate) unprotected: AtomicU64,
    pub(crate) invalid: AtomicU64,
    pub(crate) first: AtomicU64,
    pub(crate) replayed: AtomicU64,
    pub(crate) conflicts: AtomicU64,
    pub(crate) mismatches: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) released: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) lost: AtomicU64,
    pub(crate) unavailable: AtomicU64,
    pub(crate) unrecorded: AtomicU64,
    pub(crate) gone: AtomicU64,
    pub(crate) unkept: AtomicU64,
    pub(crate) unheard: AtomicU64,
}

impl Live {
    pub(crate) fn read(&self, in_flight: u64) -> Counters {
        Counters {
            unprotected: self.unprotected.load(Relaxed),
            invalid: self.invalid.load(Relaxed),
            first: self.first.load(Relaxed),
            replayed: self.replayed.load(Relaxed),
            conflicts: self.conflicts.load(Relaxed),
            mismatches: self.mismatches.load(Relaxed),
            refused: self.refused.load(Relaxed),
            released: self.released.load(Relaxed),
            failed: self.failed.load(Relaxed),
            lost: self.lost.load(Relaxed),
            unavailable: self.unavailable.load(Relaxed),
            unrecorded: self.unrecorded.load(Relaxed),
            gone: self.gone.load(Relaxed),
            unkept: self.unkept.load(Relaxed),
            unheard: self.unheard.load(Relaxed),
            in_flight,
        }
    }
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}
