//! Waiting for a row to change, without polling.
//!
//! Whoever waits registers first and reads the row afterwards. Commits enter their rows under the locks of shards and
//! look for watches after that, so either the reader sees the new row or the commit sees the watch.

use crate::id::{Key, NsId};
use crate::sync::{Arc, AtomicU64, Condvar, Mutex, Ordering};
use std::collections::HashMap;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

/// The rows that somebody waits for.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    /// So that a commit that nobody waits for takes no lock.
    count: AtomicU64,
    rows: Mutex<HashMap<RowKey, Watched>>,
}

type RowKey = (NsId, Box<[u8]>);

/// A row with the number of its watches.
#[derive(Debug)]
struct Watched {
    bell: Arc<Bell>,
    watches: usize,
}

/// Rung once for each change of a row, for everybody who waits for it.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    state: Mutex<Rings>,
    rung: Condvar,
}

#[derive(Debug, Default)]
struct Rings {
    count: u64,
    next_waker: u64,
    /// When somebody is to ring because a lease ends.
    armed_for: Option<u64>,
    wakers: HashMap<u64, Waker>,
}

/// Bells to ring. They are rung when this is dropped, which must be outside of every lock: wakers are code of an
/// executor, which may call the store (I9).
#[derive(Debug, Default)]
#[must_use = "who waits is woken when this is dropped"]
pub(crate) struct Bells(Vec<Arc<Bell>>);

impl Drop for Bells {
    fn drop(&mut self) {
        self.0.drain(..).for_each(|bell| bell.ring());
    }
}

impl Bell {
    /// Wakes everybody who waits now.
    pub(crate) fn ring(&self) {
        let wakers = {
            let mut state = self.state.lock();
            state.count += 1;
            std::mem::take(&mut state.wakers)
        };
        self.rung.notify_all();
        // User code: not under the lock (I9).
        wakers.into_values().for_each(Waker::wake);
    }

    /// Returns whether an alarm has to be set for this time: there is none yet, or it is later.
    pub(crate) fn arm(&self, at: u64) -> bool {
        let armed_for = &mut self.state.lock().armed_for;
        let is_needed = armed_for.is_none_or(|armed_for| at < armed_for);
        if is_needed {
            *armed_for = Some(at);
        }
        is_needed
    }

    /// Notes that the alarm is gone, and has those who wait set another.
    pub(crate) fn disarm(&self) {
        self.state.lock().armed_for = None;
        self.ring();
    }

    /// Returns how often it has rung.
    pub(crate) fn rings(&self) -> u64 {
        self.state.lock().count
    }

    /// Waits until it has rung more often than this; returns `false` if `until` has passed first.
    pub(crate) fn wait_until(&self, heard: u64, until: Instant) -> bool {
        let mut state = self.state.lock();
        while state.count == heard {
            if self.rung.wait_until(&mut state, until).timed_out() {
                return state.count != heard;
            }
        }
        true
    }
}

impl Watches {
    /// Watches a row until the result is dropped.
    pub(in crate::engine) fn watch(self: &Arc<Self>, key: Key<'_>) -> Watch {
        let key = (key.ns, key.id.into());
        let mut rows = self.rows.lock();
        let new = || Watched { bell: Arc::default(), watches: 0 };
        let watched = rows.entry(Clone::clone(&key)).or_insert_with(new);
        watched.watches += 1;
        self.count.fetch_add(1, Ordering::AcqRel);
        let bell = Arc::clone(&watched.bell);
        Watch { all: Arc::clone(self), key, bell, waker: None }
    }

    /// Adds the bells of those who wait for one of these rows, which have changed.
    pub(in crate::engine) fn add_bells<'a>(
        &self,
        keys: impl Iterator<Item = Key<'a>>,
        bells: &mut Bells,
    ) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        for key in keys {
            let rows = self.rows.lock();
            let watched = rows.get(&(key.ns, key.id.into()));
            bells.0.extend(watched.map(|watched| Arc::clone(&watched.bell)));
        }
    }

    /// Wakes those who wait for one of these rows.
    #[cfg(test)]
    #[cfg_attr(any(feature = "shuttle", feature = "loom"), allow(dead_code))]
    fn tell<'a>(&self, keys: impl Iterator<Item = Key<'a>>) {
        self.add_bells(keys, &mut Bells::default());
    }

    /// Wakes everybody, as when the store stops.
    pub(in crate::engine) fn tell_all(&self) {
        let rows = self.rows.lock();
        let bells = Bells(rows.values().map(|watched| Arc::clone(&watched.bell)).collect());
        drop(rows);
        drop(bells);
    }
}

/// A registered interest in one row. Dropping it leaves nothing behind.
#[derive(Debug)]
pub(crate) struct Watch {
    all: Arc<Watches>,
    key: RowKey,
    bell: Arc<Bell>,
    /// Its place among the wakers, while a future waits.
    waker: Option<u64>,
}

impl Watch {
    pub(crate) fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    /// Ready once the bell has rung more often than `heard`.
    pub(crate) fn poll(&mut self, heard: u64, cx: &mut Context<'_>) -> Poll<()> {
        // Code of an executor clones and drops wakers: not under the lock (I9).
        let waker = cx.waker().clone();
        let mut state = self.bell.state.lock();
        if state.count != heard {
            return Poll::Ready(());
        }
        let place = *self.waker.get_or_insert_with(|| {
            state.next_waker += 1;
            state.next_waker
        });
        let before = state.wakers.insert(place, waker);
        drop(state);
        drop(before);
        Poll::Pending
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(place) = self.waker {
            let waker = self.bell.state.lock().wakers.remove(&place);
            drop(waker);
        }
        let mut rows = self.all.rows.lock();
        if let Some(watched) = rows.get_mut(&self.key) {
            watched.watches -= 1;
            if watched.watches == 0 {
                rows.remove(&self.key);
            }
        }
        self.all.count.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(all(test, not(any(feature = "shuttle", feature = "loom"))))]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    fn key(id: &[u8]) -> Key<'_> {
        Key { ns: NsId(3), id }
    }

    #[test]
    fn one_change_wakes_each_of_ten_thousand_once() {
        let watches = Arc::new(Watches::default());
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut all: Vec<Watch> = (0..10_000).map(|_| watches.watch(key(b"a"))).collect();
        for watch in &mut all {
            // Twice, as a runtime may: only the last waker counts.
            for _ in 0..2 {
                assert_eq!(watch.poll(0, &mut Context::from_waker(&waker)), Poll::Pending);
            }
        }
        watches.tell([key(b"b")].into_iter());
        assert_eq!(woken.0.load(std::sync::atomic::Ordering::Relaxed), 0);
        watches.tell([key(b"a")].into_iter());
        assert_eq!(woken.0.load(std::sync::atomic::Ordering::Relaxed), 10_000);
        for watch in &mut all {
            assert_eq!(watch.poll(0, &mut Context::from_waker(&waker)), Poll::Ready(()));
        }
    }

    #[test]
    fn a_dropped_watch_leaves_nothing_behind() {
        let watches = Arc::new(Watches::default());
        let mut watch = watches.watch(key(b"a"));
        let other = watches.watch(key(b"a"));
        let waker = Waker::from(Arc::new(Woken::default()));
        assert_eq!(watch.poll(0, &mut Context::from_waker(&waker)), Poll::Pending);
        drop(watch);
        assert_eq!(other.bell.state.lock().wakers.len(), 0);
        drop(other);
        assert_eq!((watches.count.load(Ordering::Acquire), watches.rows.lock().len()), (0, 0));
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the length of a wait")]
    fn a_wait_ends_at_its_deadline() {
        let watches = Arc::new(Watches::default());
        let watch = watches.watch(key(b"a"));
        let soon = std::time::Instant::now() + std::time::Duration::from_millis(5);
        assert!(!watch.bell().wait_until(0, soon));
        watch.bell().ring();
        assert!(watch.bell().wait_until(0, soon));
    }
}
