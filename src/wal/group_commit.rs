//! Group commit: one sync for all waiting callers.
//!
//! A caller that finds no sync running becomes the leader and syncs everything appended so far; the others wait, and
//! one of them leads the next sync for all that arrived meanwhile. (DeWitt et al., 1984.)

use crate::error::Result;
use crate::sync::{AtomicBool, AtomicU64, Condvar, Mutex, MutexGuard, Ordering, Stopwatch, thread};
use crate::wal::Lsn;
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct GroupCommit {
    /// Everything before this location is on disk.
    durable: AtomicU64,
    leading: Mutex<bool>,
    done: Condvar,
    pub(super) syncs: AtomicU64,
    /// Callers that have come to wait so far, and as of the start of the last sync.
    arrivals: AtomicU64,
    arrivals_before: AtomicU64,
    /// Sync number from which leaders gather again, and how many syncs the next backoff skips.
    gather_after_sync: AtomicU64,
    busy_syncs: AtomicU64,
    /// Whether a caller has waited for a sync since the last spare was filled.
    pub(super) asked: AtomicBool,
}

/// Consecutive looks without a new arrival after which the leader proceeds.
const LOOKS: u32 = 3;
/// Gathering limit (I12): longer than hundreds of threads take to arrive, shorter than the time slice for which an
/// unrelated thread keeps the yielded CPU.
const GATHER_MAX: Duration = Duration::from_millis(1);
/// Syncs that skip gathering after one that hit [`GATHER_MAX`], a sign that other work keeps the CPUs busy. Doubles on
/// each repeat, as one gathering may cost as much as ten syncs.
const BUSY_SYNCS_MIN: u64 = 32;
const BUSY_SYNCS_MAX: u64 = 8_192;

impl GroupCommit {
    pub(super) fn new(durable: Lsn) -> Self {
        let leading = Mutex::new(false);
        Self {
            durable: durable.0.into(),
            leading,
            done: Condvar::new(),
            syncs: AtomicU64::new(0),
            arrivals: AtomicU64::new(0),
            arrivals_before: AtomicU64::new(0),
            gather_after_sync: AtomicU64::new(0),
            busy_syncs: AtomicU64::new(BUSY_SYNCS_MIN),
            asked: AtomicBool::new(false),
        }
    }

    #[inline]
    pub(super) fn durable(&self) -> Lsn {
        Lsn(self.durable.load(Ordering::Acquire))
    }

    /// Records that everything before this location is on disk.
    pub(super) fn reached(&self, lsn: Lsn) {
        self.durable.fetch_max(lsn.0, Ordering::AcqRel);
    }

    /// Counts a future that has come to wait, so that the next leader waits for its neighbours.
    pub(super) fn arrive(&self) {
        self.arrivals.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns whether a caller has waited for a sync since the last call.
    pub(super) fn take_asked(&self) -> bool {
        self.asked.swap(false, Ordering::Relaxed)
    }

    /// Yields so that callers woken by the last sync can append and be covered by the next one.
    ///
    /// Otherwise the first of them would lead for itself alone. Stops once no more arrive; a lone caller does not wait.
    /// (A group commit that waits for its group: Helland et al., 1987.)
    fn gather(&self, mut give_way: impl FnMut(), is_late: impl Fn() -> bool) {
        let mut arrivals = self.arrivals.load(Ordering::Relaxed);
        let is_crowd = arrivals - self.arrivals_before.load(Ordering::Relaxed) > 1;
        let syncs = self.syncs.load(Ordering::Relaxed);
        if is_crowd && syncs >= self.gather_after_sync.load(Ordering::Relaxed) {
            let (mut quiet, mut is_long) = (0, false);
            while quiet < LOOKS && !is_long {
                give_way();
                let now = self.arrivals.load(Ordering::Relaxed);
                quiet = if now == arrivals { quiet + 1 } else { 0 };
                arrivals = now;
                is_long = is_late();
            }
            let busy = self.busy_syncs.load(Ordering::Relaxed);
            if is_long {
                self.gather_after_sync.store(syncs + busy, Ordering::Relaxed);
            }
            let next = if is_long { (busy * 2).min(BUSY_SYNCS_MAX) } else { BUSY_SYNCS_MIN };
            self.busy_syncs.store(next, Ordering::Relaxed);
        }
        self.arrivals_before.store(arrivals, Ordering::Relaxed);
    }

    /// Returns once everything before `lsn` is on disk, synced by another caller or by `lead`.
    ///
    /// One caller at a time runs `lead`, which reports its progress through [`reached`](Self::reached). `check` fails
    /// if there is nothing left to wait for.
    pub(super) fn wait_for(
        &self,
        lsn: Lsn,
        check: impl Fn() -> Result<()>,
        lead: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        // Do not count callers that are already durable; the leader would mistake them for arrivals.
        if self.durable() >= lsn {
            return Ok(());
        }
        self.arrive();
        let mut leading = self.leading.lock();
        loop {
            if self.durable() >= lsn {
                return Ok(());
            }
            check()?;
            if !*leading {
                break;
            }
            self.done.wait(&mut leading);
        }
        self.lead_with(leading, || {
            let watch = Stopwatch::start();
            self.gather(thread::yield_now, || watch.is_past(GATHER_MAX));
            lead()
        })
    }

    /// Runs `work` while no one leads or starts to.
    pub(super) fn alone<T>(&self, work: impl FnOnce() -> T) -> T {
        let mut leading = self.leading.lock();
        while *leading {
            self.done.wait(&mut leading);
        }
        self.lead_with(leading, work)
    }

    fn lead_with<T>(&self, mut leading: MutexGuard<'_, bool>, lead: impl FnOnce() -> T) -> T {
        *leading = true;
        drop(leading);
        let led = lead();
        *self.leading.lock() = false;
        self.done.notify_all();
        led
    }
}

#[cfg(all(test, feature = "loom"))]
mod every_order;

#[cfg(all(test, not(any(feature = "shuttle", feature = "loom"))))]
mod tests {
    use super::*;
    use crate::error::Error;

    /// Returns how often a leader yields if a caller arrives at each of the first `coming` yields and it is late after
    /// a hundred.
    fn looks(commit: &GroupCommit, arrivals: u64, coming: u64) -> u64 {
        commit.arrivals.fetch_add(arrivals, Ordering::Relaxed);
        let looks = std::cell::Cell::new(0);
        let give_way = || {
            looks.set(looks.get() + 1);
            if looks.get() <= coming {
                commit.arrivals.fetch_add(1, Ordering::Relaxed);
            }
        };
        commit.gather(give_way, || looks.get() == 100);
        looks.get()
    }

    #[test]
    fn a_leader_gives_way_as_long_as_others_come_and_not_when_it_is_alone() {
        let commit = GroupCommit::new(Lsn(0));
        assert_eq!(looks(&commit, 1, 0), 0, "alone");
        assert_eq!(looks(&commit, 2, 0), u64::from(LOOKS));
        assert_eq!(looks(&commit, 2, 5), 5 + u64::from(LOOKS));
        assert_eq!(
            looks(&commit, 1, 0),
            0,
            "those who arrived while it looked are not counted again"
        );
    }

    /// Callers may arrive faster than the leader looks, or hold the CPU.
    #[test]
    fn i12_a_leader_does_not_wait_for_ever_while_others_come() {
        let commit = GroupCommit::new(Lsn(0));
        for busy in [BUSY_SYNCS_MIN, 2 * BUSY_SYNCS_MIN] {
            assert_eq!(looks(&commit, 2, u64::MAX), 100);
            for _ in 0..busy {
                assert_eq!(looks(&commit, 2, u64::MAX), 0, "for {busy} syncs");
                commit.syncs.fetch_add(1, Ordering::Relaxed);
            }
        }
        assert_eq!(looks(&commit, 2, 0), u64::from(LOOKS));
    }

    #[test]
    fn who_need_not_wait_is_not_waited_for() {
        let commit = GroupCommit::new(Lsn(5));
        for lsn in 0..=5 {
            let led = commit.wait_for(Lsn(lsn), || Ok(()), || Err(Error::bug("nothing to do")));
            led.expect("is on disk");
        }
        assert_eq!(commit.arrivals.load(Ordering::Relaxed), 0);
        let lead = || {
            commit.reached(Lsn(9));
            Ok(())
        };
        commit.wait_for(Lsn(9), || Ok(()), lead).expect("leads");
        assert_eq!(commit.arrivals.load(Ordering::Relaxed), 1);
    }
}
