//! Takes a lock that is mostly held for less time than it takes to sleep and wake.

use crate::sync::{Mutex, MutexGuard};

/// Some microseconds, by what a pause takes: about as long as sleeping and waking, so that it never costs
/// more than twice what the better of the two would (Karlin et al., "Empirical Studies of Competitive Spinning for a
/// Shared-Memory Multiprocessor", 1991).
#[cfg(not(any(feature = "shuttle", feature = "loom")))]
const ROUNDS: u32 = 100;

/// Locks, and waits awake for some microseconds before it sleeps. For locks of single claims: a thread that sleeps for one
/// has to be woken by the thread that holds it, which takes a hundred times as long as the claim.
#[cfg(not(any(feature = "shuttle", feature = "loom")))]
#[inline]
pub(crate) fn lock_awake<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.try_lock().unwrap_or_else(|| wait_awake(mutex))
}

/// As [`lock_awake`]; also returns whether another thread had the lock.
#[cfg(not(any(feature = "shuttle", feature = "loom")))]
#[inline]
pub(crate) fn lock_or_wait<T>(mutex: &Mutex<T>) -> (MutexGuard<'_, T>, bool) {
    match mutex.try_lock() {
        Some(guard) => (guard, false),
        None => (wait_awake(mutex), true),
    }
}

#[cfg(not(any(feature = "shuttle", feature = "loom")))]
#[cold]
fn wait_awake<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    /// Between looks, so that the holder keeps the line of the lock for a while.
    const PAUSES: u32 = 4;
    for _ in 0..ROUNDS {
        (0..PAUSES).for_each(|_| std::hint::spin_loop());
        if let Some(guard) = mutex.try_lock() {
            return guard;
        }
    }
    mutex.lock()
}

/// Locks: under a schedule explorer, waiting awake is only more steps.
#[cfg(any(feature = "shuttle", feature = "loom"))]
pub(crate) fn lock_awake<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
}

/// Locks: an explorer tries both, who had it and who had not.
#[cfg(any(feature = "shuttle", feature = "loom"))]
pub(crate) fn lock_or_wait<T>(mutex: &Mutex<T>) -> (MutexGuard<'_, T>, bool) {
    (mutex.lock(), false)
}

#[cfg(all(test, target_os = "linux", not(any(miri, feature = "shuttle", feature = "loom"))))]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Returns the processor time of this thread so far.
    fn processor_time() -> Duration {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
        let nanoseconds = text.split(' ').next().expect("a first field");
        Duration::from_nanos(nanoseconds.parse().expect("a number"))
    }

    #[test]
    fn i12_who_waits_for_a_lock_that_is_held_for_long_sleeps_and_gets_it() {
        let mutex = Mutex::new(1);
        let held = mutex.lock();
        let used = std::thread::scope(|scope| {
            let waits = scope.spawn(|| {
                let before = processor_time();
                *lock_awake(&mutex) += 1;
                processor_time().saturating_sub(before)
            });
            // Longer than anybody waits awake.
            std::thread::park_timeout(Duration::from_millis(300));
            drop(held);
            waits.join().expect("no panic")
        });
        assert!(used < Duration::from_millis(100), "it was awake for {used:?}");
        assert_eq!(*lock_awake(&mutex), 2);
    }
}
