//! Counters, and the processor time of work in the background.

use crate::sync::{AtomicU64, Ordering};

/// A number that only grows. Not used on the path of a claim: counters there are plain numbers under a shard's lock.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Processor time that threads have spent in a part of the work, in nanoseconds. Reading it is a system call, so a part is
/// one for many ids.
#[derive(Debug, Default)]
pub(crate) struct ProcessorTime(Counter);

impl ProcessorTime {
    /// Does the work and counts what this thread has spent in it, also if it fails.
    pub(crate) fn of<T>(&self, work: impl FnOnce() -> T) -> T {
        let before = of_this_thread();
        let done = work();
        self.0.add(of_this_thread().saturating_sub(before));
        done
    }

    pub(crate) fn ns(&self) -> u64 {
        self.0.get()
    }
}

/// Returns the processor time of this thread so far; zero where the system does not say.
fn of_this_thread() -> u64 {
    #[cfg(all(unix, not(miri)))]
    let time = {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        std::time::Duration::try_from(time).unwrap_or_default()
    };
    #[cfg(not(all(unix, not(miri))))]
    let time = std::time::Duration::ZERO;
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(all(test, unix, not(miri), not(any(feature = "shuttle", feature = "loom"))))]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_that_of_this_thread_and_not_of_waiting() {
        let (work, wait) = (ProcessorTime::default(), ProcessorTime::default());
        let sum = work.of(|| (0..20_000_000_u64).fold(1, |a, b| std::hint::black_box(a ^ b)));
        assert_ne!(sum, u64::MAX);
        wait.of(|| {
            let other = std::thread::spawn(|| {
                (0..20_000_000_u64).fold(1, |a, b| std::hint::black_box(a ^ b))
            });
            other.join().expect("no panic")
        });
        assert!(work.ns() > 4 * wait.ns(), "{work:?} is not much more than {wait:?}");
        let before = work.ns();
        work.of(|| ());
        assert!(work.ns() >= before, "it only grows");
    }
}
