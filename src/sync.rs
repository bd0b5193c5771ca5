//! The only source of locks, atomics, threads and padding, so that their choice is made in one place.
//!
//! With the feature `shuttle` or `loom` those of a schedule explorer take their place, and the tests under
//! tests/schedules and those named `loom_` try interleavings that a machine shows once a year.

mod awake;
mod heap;
mod home;
#[cfg(not(any(feature = "shuttle", feature = "loom")))]
mod pool;
mod sleeper;
mod thread_number;
mod timer;
mod wakers;

pub(crate) use awake::{lock_awake, lock_or_wait};
pub(crate) use crossbeam::utils::CachePadded;
pub(crate) use heap::{GiveBack, keep_large_blocks_apart};
pub(crate) use home::{HomeProcess, may_open};
pub(crate) use sleeper::Sleeper;
pub(crate) use std::sync::Arc;
pub(crate) use thread_number::thread_number;
pub(crate) use timer::{Scheduled, Started, Timer, instant_in};
pub(crate) use wakers::{WakerEntry, Wakers, wake_each};

#[cfg(not(any(feature = "shuttle", feature = "loom")))]
pub(crate) use {
    parking_lot::{Condvar, Mutex, MutexGuard, RwLock},
    pool::{JobHandle, in_step},
    std::sync::atomic::{AtomicBool, AtomicU64, Ordering},
    std::thread,
};

#[cfg(any(feature = "shuttle", feature = "loom"))]
mod explored;
#[cfg(any(feature = "shuttle", feature = "loom"))]
pub(crate) use explored::{
    AtomicBool, AtomicU64, Condvar, Mutex, MutexGuard, Ordering, RwLock, in_step, thread,
};

/// Measures how long something takes, where no result depends on it. Under a schedule explorer no time passes.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    #[cfg(not(any(feature = "shuttle", feature = "loom")))]
    began: std::time::Instant,
}

#[cfg_attr(any(feature = "shuttle", feature = "loom"), expect(clippy::unused_self))]
impl Stopwatch {
    #[cfg_attr(
        not(any(feature = "shuttle", feature = "loom")),
        expect(clippy::disallowed_methods, reason = "the length of a wait, never an answer")
    )]
    pub(crate) fn start() -> Self {
        Self {
            #[cfg(not(any(feature = "shuttle", feature = "loom")))]
            began: std::time::Instant::now(),
        }
    }

    pub(crate) fn is_past(&self, length: std::time::Duration) -> bool {
        #[cfg(not(any(feature = "shuttle", feature = "loom")))]
        return self.began.elapsed() > length;
        #[cfg(any(feature = "shuttle", feature = "loom"))]
        return length.is_zero();
    }
}

/// A wake-up for background work: raised by anyone, consumed once, by the job it was given.
#[cfg(not(any(feature = "shuttle", feature = "loom")))]
#[derive(Debug, Default)]
pub(crate) struct Signal {
    job: std::sync::OnceLock<JobHandle>,
}

#[cfg(not(any(feature = "shuttle", feature = "loom")))]
impl Signal {
    /// Makes the next step of the job run now.
    pub(crate) fn raise(&self) {
        self.job.get().into_iter().for_each(JobHandle::ring);
    }

    /// Wakes this job from now on.
    pub(crate) fn ring_for(&self, job: JobHandle) {
        self.job.set(job).ok();
    }
}

/// A wake-up for a background thread: raised by anyone, consumed once, with a deadline on the wait (I12).
#[cfg(any(feature = "shuttle", feature = "loom"))]
#[derive(Debug, Default)]
pub(crate) struct Signal {
    raised: Mutex<bool>,
    heard: Condvar,
}

#[cfg(any(feature = "shuttle", feature = "loom"))]
impl Signal {
    /// Wakes the waiting thread, or the next one to wait.
    pub(crate) fn raise(&self) {
        *self.raised.lock() = true;
        self.heard.notify_all();
    }

    /// Waits until raised or until `timeout` has passed. Clears the signal.
    pub(crate) fn wait(&self, timeout: std::time::Duration) {
        let mut raised = self.raised.lock();
        if !*raised {
            self.heard.wait_for(&mut raised, timeout);
        }
        *raised = false;
    }
}

#[cfg(all(test, feature = "loom"))]
pub(crate) mod every_order;
