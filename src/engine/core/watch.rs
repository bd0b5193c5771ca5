//! Waiting for a row to change, without polling.
//!
//! Whoever waits registers first and reads the row afterwards. Commits enter their rows under the locks of shards and
//! look for watches after that, so either the reader sees the new row or the commit sees the watch.

use crate::id::{Key, NsId};
use crate::sync::{Arc, AtomicU64, Condvar, Mutex, Ordering, Scheduled, wake_each};
use std::collections::HashMap;
use std::fmt;
use std::sync::Weak;
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
    alarm: Option<SetAlarm>,
    alarms_set: u64,
    wakers: HashMap<u64, Waker>,
}

/// An alarm that will ring because a lease ends. It goes with its bell, and that with the last watch of its row.
#[derive(Debug)]
struct SetAlarm {
    number: u64,
    /// Who has to hear of something earlier sets another.
    at: u64,
    _task: Scheduled,
}

/// What the task of an alarm holds. Dropping it rings the bell: its time has come, or whoever had set it is gone and
/// another has to.
#[derive(Debug)]
pub(crate) struct Alarm {
    bell: Weak<Bell>,
    number: u64,
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
        wake_each(wakers.into_values());
    }

    /// Sets an alarm for this time with `set`, unless one is set that is not later. Only adds a task: it runs under the
    /// lock.
    pub(crate) fn arm(self: &Arc<Self>, at: u64, set: impl FnOnce(Alarm) -> Scheduled) {
        let before = {
            let mut state = self.state.lock();
            if state.alarm.as_ref().is_some_and(|alarm| alarm.at <= at) {
                return;
            }
            state.alarms_set += 1;
            let number = state.alarms_set;
            let task = set(Alarm { bell: Arc::downgrade(self), number });
            state.alarm.replace(SetAlarm { number, at, _task: task })
        };
        // Not under the lock: dropping its task takes it.
        drop(before);
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

impl Alarm {
    /// Looks again when the time has come. Returns when that is to be done again; `None` if the alarm is over, or another
    /// was set.
    pub(crate) fn look_again(&self, look: impl FnOnce() -> Option<u64>) -> Option<u64> {
        // Before the look: whoever looks after it and finds an earlier time sets another alarm.
        self.note(u64::MAX)?;
        let at = look()?;
        self.note(at)
    }

    fn note(&self, at: u64) -> Option<u64> {
        let bell = self.bell.upgrade()?;
        let mut state = bell.state.lock();
        let alarm = state.alarm.as_mut().filter(|alarm| alarm.number == self.number)?;
        alarm.at = at;
        Some(at)
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        let Some(bell) = self.bell.upgrade() else { return };
        let is_set = |alarm: &mut SetAlarm| alarm.number == self.number;
        let alarm = bell.state.lock().alarm.take_if(is_set);
        if alarm.is_some() {
            drop(alarm);
            bell.ring();
        }
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
pub(crate) struct Watch {
    all: Arc<Watches>,
    key: RowKey,
    bell: Arc<Bell>,
    /// Its place among the wakers, while a future waits.
    waker: Option<u64>,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

impl Watch {
    pub(crate) fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    /// Returns whether it is of a row under this number.
    pub(crate) fn is_under(&self, ns: NsId) -> bool {
        self.key.0 == ns
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
        // The bell, and with it the alarm, is dropped after this: not under the lock.
    }
}

#[cfg(all(test, feature = "loom"))]
mod every_order;

#[cfg(all(test, not(any(feature = "shuttle", feature = "loom"))))]
mod tests {
    use super::*;
    use crate::sync::Timer;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;
    use std::time::Duration;

    const HOUR: Duration = Duration::from_secs(3_600);

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

    fn set(timer: &Timer) -> impl FnOnce(Alarm) -> Scheduled {
        let started = timer.start().expect("starts");
        move |alarm| started.add(HOUR, move || alarm.look_again(|| None).map(Duration::from_millis))
    }

    #[test]
    fn an_alarm_is_set_for_the_earliest_time_and_gone_with_the_last_watch() {
        let (timer, watches) = (Timer::new(c"timer"), Arc::new(Watches::default()));
        let [first, second] = [(); 2].map(|()| watches.watch(key(b"a")));
        for (at, sets) in [(50, 1), (50, 1), (60, 1), (40, 2)] {
            first.bell().arm(at, set(&timer));
            assert_eq!(first.bell.state.lock().alarms_set, sets, "{at}");
            assert_eq!(timer.waiting(), 1);
        }
        drop(first);
        assert_eq!((second.bell().rings(), timer.waiting()), (0, 1));
        drop(second);
        assert_eq!(timer.waiting(), 0);
    }

    #[test]
    fn who_waits_sets_another_alarm_if_the_time_is_earlier_than_an_alarm_that_looked_again() {
        let (timer, watches) = (Timer::new(c"timer"), Arc::new(Watches::default()));
        let watch = watches.watch(key(b"a"));
        let bell = watch.bell();
        let (tell, hears) = std::sync::mpsc::channel();
        let keep = || {
            let (tell, started) = (tell.clone(), timer.start().expect("starts"));
            move |alarm: Alarm| {
                tell.send(alarm).expect("listens");
                started.add(HOUR, || None)
            }
        };
        bell.arm(50, keep());
        let first = hears.recv().expect("it is set");
        assert_eq!(first.look_again(|| Some(1_000)), Some(1_000), "the lease was renewed");
        bell.arm(1_000, keep());
        hears.try_recv().expect_err("one is set for then");
        let again = first.look_again(|| {
            // The lease is shortened after the look, and a waiter looks, too.
            bell.arm(60, keep());
            Some(1_000)
        });
        assert_eq!(again, None, "another was set");
        let second = hears.recv().expect("it is set");
        drop(first);
        assert_eq!(bell.rings(), 0, "it is the alarm no more");
        drop(second);
        assert_eq!((bell.rings(), timer.waiting()), (1, 0));
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
