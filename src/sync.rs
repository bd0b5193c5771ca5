//! Locks, atomics, threads and padding come from here, so that one place decides which ones. With the
//! feature `shuttle` or `loom` those of a schedule explorer take their place, and the tests under
//! tests/schedules and those named `loom_` try the interleavings that a machine shows once in a year.

mod heap;
mod home;
#[cfg(not(any(feature = "shuttle", feature = "loom")))]
mod pool;

pub(crate) use crossbeam::utils::CachePadded;
pub(crate) use heap::{GiveBack, keep_large_blocks_apart};
pub(crate) use home::{HomeProcess, may_open};
pub(crate) use std::sync::Arc;

#[cfg(not(any(feature = "shuttle", feature = "loom")))]
pub(crate) use {
    parking_lot::{Condvar, Mutex, MutexGuard, RwLock},
    pool::JobHandle,
    std::sync::atomic::{AtomicBool, AtomicU64, Ordering},
    std::thread,
};

#[cfg(any(feature = "shuttle", feature = "loom"))]
mod explored;
#[cfg(any(feature = "shuttle", feature = "loom"))]
pub(crate) use explored::{
    AtomicBool, AtomicU64, Condvar, Mutex, MutexGuard, Ordering, RwLock, thread,
};

/// How long something takes, where no answer depends on it. Under a schedule explorer no time passes.
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

/// A bell for background work: raised by anyone, heard once, by the job that it was given to.
#[cfg(not(any(feature = "shuttle", feature = "loom")))]
#[derive(Debug, Default)]
pub(crate) struct Signal {
    job: std::sync::OnceLock<JobHandle>,
}

#[cfg(not(any(feature = "shuttle", feature = "loom")))]
impl Signal {
    /// Has the next step of the job run now.
    pub(crate) fn raise(&self) {
        self.job.get().into_iter().for_each(JobHandle::ring);
    }

    /// From now on it rings for this job.
    pub(crate) fn ring_for(&self, job: JobHandle) {
        self.job.set(job).ok();
    }
}

/// A bell for a background thread: raised by anyone, heard once, with a deadline on the wait (I12).
#[cfg(any(feature = "shuttle", feature = "loom"))]
#[derive(Debug, Default)]
pub(crate) struct Signal {
    raised: Mutex<bool>,
    heard: Condvar,
}

#[cfg(any(feature = "shuttle", feature = "loom"))]
impl Signal {
    /// Wakes the thread that waits, or the next one to wait.
    pub(crate) fn raise(&self) {
        *self.raised.lock() = true;
        self.heard.notify_all();
    }

    /// Waits until raised, or until `timeout` is over. Lowers the signal.
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
