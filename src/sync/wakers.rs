//! The futures that wait for something, by what they wait for.
//!
//! A future enters its place first and looks afterwards; whoever changes something does that first and looks for
//! futures afterwards. So either the future sees the change, or it is woken.

use super::{AtomicU64, Mutex, Ordering};
use std::collections::BTreeMap;
use std::ops::RangeBounds;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

/// Wakes all of them. They are code of an executor: if one panics, the others are woken all the same (I12).
pub(crate) fn wake_each(wakers: impl IntoIterator<Item = Waker>) {
    for waker in wakers {
        if catch_unwind(AssertUnwindSafe(|| waker.wake())).is_err() {
            tracing::error!("a waker panicked; its task may not have been woken");
        }
    }
}

/// The wakers of futures that wait, each for a key.
#[derive(Debug)]
pub(crate) struct Wakers<K> {
    /// So that a change that no future waits for takes no lock. Acquire and release are enough: the change and the look
    /// of the future are ordered by a lock of their own.
    waiting: AtomicU64,
    list: Mutex<List<K>>,
}

#[derive(Debug)]
struct List<K> {
    wakers: BTreeMap<(K, u64), Waker>,
    next: u64,
}

/// The entry of one future. Dropping it leaves nothing behind.
#[derive(Debug)]
pub(crate) struct WakerEntry<'a, K: Ord + Copy> {
    wakers: &'a Wakers<K>,
    key: (K, u64),
}

impl<K> Default for Wakers<K> {
    fn default() -> Self {
        let list = List { wakers: BTreeMap::new(), next: 0 };
        Self { waiting: AtomicU64::new(0), list: Mutex::new(list) }
    }
}

impl<K: Ord + Copy> Wakers<K> {
    /// Returns an entry, at which nothing waits yet.
    pub(crate) fn place(&self, key: K) -> WakerEntry<'_, K> {
        let mut list = self.list.lock();
        list.next += 1;
        WakerEntry { wakers: self, key: (key, list.next) }
    }

    /// Wakes those who wait for this key.
    pub(crate) fn wake(&self, key: K) {
        self.wake_all_in((key, 0)..=(key, u64::MAX));
    }

    /// Wakes those who wait for this key or a lower one.
    pub(crate) fn wake_up_to(&self, key: K) {
        self.wake_all_in(..=(key, u64::MAX));
    }

    /// Wakes everybody.
    pub(crate) fn wake_all(&self) {
        self.wake_all_in(..);
    }

    /// Returns the highest key that somebody waits for.
    pub(crate) fn last(&self) -> Option<K> {
        self.list.lock().wakers.last_key_value().map(|((key, _), _)| *key)
    }

    /// Returns how many wait.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn waiting(&self) -> usize {
        self.list.lock().wakers.len()
    }

    fn wake_all_in(&self, keys: impl RangeBounds<(K, u64)>) {
        if self.waiting.load(Ordering::Acquire) == 0 {
            return;
        }
        let woken: Vec<Waker> = {
            let mut list = self.list.lock();
            let keys: Vec<(K, u64)> = list.wakers.range(keys).map(|(key, _)| *key).collect();
            let woken = keys.iter().filter_map(|key| list.wakers.remove(key)).collect();
            self.waiting.store(list.wakers.len() as u64, Ordering::Release);
            woken
        };
        // Code of an executor: not under the lock (I9).
        wake_each(woken);
    }
}

impl<K: Ord + Copy> WakerEntry<'_, K> {
    /// Enters a waker, for one wake-up. Returns whether nobody waited in any place before.
    pub(crate) fn enter(&self, waker: &Waker) -> bool {
        let waker = waker.clone();
        let (is_first, before) = {
            let mut list = self.wakers.list.lock();
            let is_first = list.wakers.is_empty();
            let before = list.wakers.insert(self.key, waker);
            self.wakers.waiting.store(list.wakers.len() as u64, Ordering::Release);
            (is_first, before)
        };
        drop(before);
        is_first
    }
}

impl<K: Ord + Copy> Drop for WakerEntry<'_, K> {
    fn drop(&mut self) {
        let waker = {
            let mut list = self.wakers.list.lock();
            let waker = list.wakers.remove(&self.key);
            self.wakers.waiting.store(list.wakers.len() as u64, Ordering::Release);
            waker
        };
        drop(waker);
    }
}

#[cfg(all(test, not(any(feature = "shuttle", feature = "loom"))))]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn each_is_woken_once_for_its_own_key() {
        let (wakers, woken) = (Wakers::default(), Arc::new(Woken::default()));
        let waker = Waker::from(Arc::clone(&woken));
        let heard = || woken.0.load(Ordering::Relaxed);
        let places: Vec<_> = [3, 1, 2, 3].into_iter().map(|key| wakers.place(key)).collect();
        // Twice, as an executor may poll: only the last waker counts.
        let first: Vec<bool> = places.iter().map(|place| place.enter(&waker)).collect();
        assert_eq!(first, [true, false, false, false]);
        assert!(places.iter().all(|place| !place.enter(&waker)));
        assert_eq!((wakers.waiting(), wakers.last()), (4, Some(3)));
        wakers.wake(4);
        assert_eq!(heard(), 0);
        wakers.wake(2);
        wakers.wake(2);
        assert_eq!(heard(), 1);
        wakers.wake_up_to(2);
        assert_eq!((heard(), wakers.waiting()), (2, 2));
        wakers.wake_all();
        assert_eq!((heard(), wakers.waiting()), (4, 0));
        places[0].enter(&waker);
        wakers.wake(3);
        assert_eq!(heard(), 5, "a place may be entered again");
    }

    struct Panics;

    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            std::panic::resume_unwind(Box::new("planted"));
        }
    }

    #[test]
    fn i12_a_waker_that_panics_keeps_no_other_from_being_woken() {
        let (wakers, woken) = (Wakers::default(), Arc::new(Woken::default()));
        let places = [wakers.place(1), wakers.place(2)];
        places[0].enter(&Waker::from(Arc::new(Panics)));
        places[1].enter(&Waker::from(Arc::clone(&woken)));
        wakers.wake_all();
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_dropped_place_leaves_no_waker_behind() {
        let (wakers, woken) = (Wakers::default(), Arc::new(Woken::default()));
        let waker = Waker::from(Arc::clone(&woken));
        let place = wakers.place(1);
        place.enter(&waker);
        assert_eq!(Arc::strong_count(&woken), 3);
        drop(place);
        assert_eq!((Arc::strong_count(&woken), wakers.waiting()), (2, 0));
        wakers.wake_all();
        assert_eq!(woken.0.load(Ordering::Relaxed), 0);
    }
}
