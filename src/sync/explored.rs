//! A schedule explorer's locks in the shape of those they replace. Only for tests: outside an exploration they panic.
//!
//! **Waits with a deadline.** Nothing measures time here. A wait of [`PATIENCE`] or more never ends by itself: if
//! nothing wakes it, the explorer reports a deadlock, so a lost wake-up is found instead of being hidden by the
//! deadline (I12). A shorter wait ends when it is woken or when the explorer chooses, one of zero at once. Under loom,
//! which cannot choose, every wait must be woken.

#[cfg(all(feature = "loom", not(feature = "shuttle")))]
use loom as explorer;
#[cfg(feature = "shuttle")]
use shuttle as explorer;

pub(crate) use explorer::sync::atomic::{AtomicBool, AtomicU64, Ordering};
pub(crate) use explorer::thread;

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{PoisonError, TryLockError};
use std::time::{Duration, Instant};

/// A wait of at least this long ends only when woken. Half an hour.
const PATIENCE: Duration = Duration::from_secs(1800);

/// Ignores poisoning: like those of `parking_lot`, these locks ignore panics.
fn unpoisoned<T>(locked: Result<T, PoisonError<T>>) -> T {
    locked.unwrap_or_else(PoisonError::into_inner)
}

/// Every job has its own thread here, and none of the scenarios drops a store on one.
pub(crate) fn in_step() -> bool {
    false
}

#[derive(Default)]
pub(crate) struct Mutex<T>(explorer::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(explorer::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard { mutex: self, held: Some(unpoisoned(self.0.lock())) }
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let held = match self.0.try_lock() {
            Ok(held) => held,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(MutexGuard { mutex: self, held: Some(held) })
    }
}

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutex").finish_non_exhaustive()
    }
}

pub(crate) struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    /// `None` only while waiting or temporarily unlocked.
    held: Option<explorer::sync::MutexGuard<'a, T>>,
}

impl<T> MutexGuard<'_, T> {
    pub(crate) fn unlocked<U>(guard: &mut Self, work: impl FnOnce() -> U) -> U {
        guard.held = None;
        let answer = work();
        guard.held = Some(unpoisoned(guard.mutex.0.lock()));
        answer
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.held.as_ref().expect("held between waits")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.held.as_mut().expect("held between waits")
    }
}

impl<T> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MutexGuard").finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Condvar {
    inner: explorer::sync::Condvar,
    /// Number of notifications. Not one of the explorer's atomics: reading it must not be a scheduling choice.
    rung: std::sync::atomic::AtomicU64,
}

/// Whether a wait timed out.
pub(crate) struct Waited {
    timed_out: bool,
}

impl Waited {
    pub(crate) fn timed_out(&self) -> bool {
        self.timed_out
    }
}

impl Condvar {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn notify_all(&self) {
        self.inner.notify_all();
        self.rung.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let held = guard.held.take().expect("held between waits");
        guard.held = Some(unpoisoned(self.inner.wait(held)));
    }

    pub(crate) fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, timeout: Duration) -> Waited {
        if timeout >= PATIENCE || cfg!(not(feature = "shuttle")) {
            self.wait(guard);
            return Waited { timed_out: false };
        }
        let before = self.rung.load(Ordering::Relaxed);
        loop {
            // Others may do anything meanwhile.
            MutexGuard::unlocked(guard, thread::yield_now);
            let timed_out = timeout.is_zero() || ends_by_itself();
            if timed_out || self.rung.load(Ordering::Relaxed) != before {
                return Waited { timed_out };
            }
        }
    }

    pub(crate) fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, until: Instant) -> Waited {
        #[expect(clippy::disallowed_methods, reason = "the length of a wait, never an answer")]
        let left = until.saturating_duration_since(Instant::now());
        self.wait_for(guard, left)
    }
}

/// Makes a choice of the explorer, repeated when it replays a schedule.
#[cfg(feature = "shuttle")]
fn ends_by_itself() -> bool {
    use shuttle::rand::Rng;
    shuttle::rand::thread_rng().r#gen()
}

#[cfg(not(feature = "shuttle"))]
fn ends_by_itself() -> bool {
    false
}

#[derive(Default)]
pub(crate) struct RwLock<T>(explorer::sync::RwLock<T>);

impl<T> RwLock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(explorer::sync::RwLock::new(value))
    }

    pub(crate) fn read(&self) -> explorer::sync::RwLockReadGuard<'_, T> {
        unpoisoned(self.0.read())
    }

    pub(crate) fn write(&self) -> explorer::sync::RwLockWriteGuard<'_, T> {
        unpoisoned(self.0.write())
    }
}

impl<T> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RwLock").finish_non_exhaustive()
    }
}
