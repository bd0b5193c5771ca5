//! Waiting for a row to change, under every interleaving of watching, looking, waiting, changing and dropping.

use super::{Arc, Key, NsId, Ordering, Watches};
use crate::sync::every_order::{explored, report};
use crate::sync::{Condvar, Mutex, thread};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

const KEY: Key<'static> = Key { ns: NsId(0), id: b"watched" };

/// What a row says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Row {
    Running,
    Over,
    /// The store has stopped.
    Stopped,
}

struct Model {
    watches: Arc<Watches>,
    /// In the place of a row under the lock of its shard.
    row: Mutex<Row>,
    /// All futures are of one task: in which order a bell wakes them is left to chance, which loom cannot repeat.
    task: std::sync::Arc<Task>,
    /// How often a future was pending. No atomic of the explorer, since it is no part of the protocol.
    pending: std::sync::atomic::AtomicU64,
}

impl Model {
    fn new() -> Arc<Self> {
        let (watches, row) = (Arc::default(), Mutex::new(Row::Running));
        Arc::new(Self { watches, row, task: Default::default(), pending: Default::default() })
    }

    /// Replaces the row and tells of it afterwards, as a commit does.
    fn end(&self) {
        *self.row.lock() = Row::Over;
        self.watches.tell([KEY].into_iter());
    }

    /// Stops the store, as `Core::wake_waiters` does.
    fn stop(&self) {
        *self.row.lock() = Row::Stopped;
        self.watches.tell_all();
    }

    fn look(&self) -> Row {
        *self.row.lock()
    }

    /// Waits as `Ledger::wait` does.
    fn wait(&self) -> Row {
        let watch = self.watches.watch(KEY);
        #[expect(clippy::disallowed_methods, reason = "a deadline that is never met")]
        let until = Instant::now() + Duration::from_secs(3600);
        loop {
            let heard = watch.bell().rings();
            match self.look() {
                Row::Running => assert!(watch.bell().wait_until(heard, until)),
                over => return over,
            }
        }
    }

    /// Waits as the future of `Ledger::wait_async` does.
    fn wait_async(&self) -> Row {
        let mut watch = self.watches.watch(KEY);
        let waker = Waker::from(std::sync::Arc::clone(&self.task));
        loop {
            let heard = watch.bell().rings();
            let woken = *self.task.woken.lock();
            match self.look() {
                Row::Running => {
                    if watch.poll(heard, &mut Context::from_waker(&waker)).is_pending() {
                        self.pending.fetch_add(1, Ordering::Relaxed);
                        self.task.wait_for_more_than(woken);
                    }
                }
                over => return over,
            }
        }
    }

    #[track_caller]
    fn assert_all_is_over(&self) {
        assert!(self.watches.rows.lock().is_empty(), "a row is still watched");
        assert_eq!(self.watches.count.load(Ordering::Acquire), 0, "a watch is still counted");
        let pending = self.pending.load(Ordering::Relaxed);
        assert_eq!(
            *self.task.woken.lock(),
            pending,
            "each is woken once for each time it was pending"
        );
    }
}

/// A task that counts how often it was woken.
#[derive(Default)]
struct Task {
    woken: Mutex<u64>,
    heard: Condvar,
}

impl Task {
    fn wait_for_more_than(&self, times: u64) {
        let mut woken = self.woken.lock();
        while *woken == times {
            self.heard.wait(&mut woken);
        }
    }
}

impl Wake for Task {
    fn wake(self: std::sync::Arc<Self>) {
        *self.woken.lock() += 1;
        self.heard.notify_all();
    }
}

/// Two threads that wait, each in its way, while this one ends the wait.
fn two_wait(
    stops: Option<usize>,
    waits: [fn(&Model) -> Row; 2],
    end: fn(&Model),
    says: Row,
) -> u64 {
    explored(stops, move || {
        let model = Model::new();
        let waiters = waits.map(|wait| {
            let model = Arc::clone(&model);
            thread::spawn(move || wait(&model))
        });
        end(&model);
        for waiter in waiters {
            assert_eq!(waiter.join().expect("no panic"), says);
        }
        model.assert_all_is_over();
    })
}

#[test]
fn loom_i12_no_change_is_missed_between_the_look_and_the_wait() {
    let orders = two_wait(Some(3), [Model::wait, Model::wait], Model::end, Row::Over);
    report(orders, "two callers wait for a row that changes");
}

#[test]
fn loom_i12_futures_that_wait_for_a_row_are_woken_once_for_its_change() {
    let orders = two_wait(Some(3), [Model::wait_async, Model::wait_async], Model::end, Row::Over);
    report(orders, "two futures wait for a row that changes, and each is woken once");
}

#[test]
fn loom_i12_whoever_waits_for_a_row_hears_that_the_store_has_stopped() {
    let orders = two_wait(Some(3), [Model::wait, Model::wait_async], Model::stop, Row::Stopped);
    report(orders, "a caller and a future wait for a row in a store that stops");
}

/// Waits, and is dropped before the row changes, as a future that lost a race is.
fn give_up(watches: &Arc<Watches>) {
    let mut watch = watches.watch(KEY);
    let heard = watch.bell().rings();
    let waker = Waker::from(std::sync::Arc::new(Task::default()));
    // It may have been told already.
    let _ = watch.poll(heard, &mut Context::from_waker(&waker));
}

#[test]
fn loom_i12_a_waiter_that_is_dropped_takes_no_wake_from_others_and_leaves_nothing() {
    let orders = explored(Some(3), || {
        let model = Model::new();
        let others: [fn(&Model); 2] =
            [|model| give_up(&model.watches), |model| assert_eq!(model.wait(), Row::Over)];
        let others = others.map(|other| {
            let model = Arc::clone(&model);
            thread::spawn(move || other(&model))
        });
        model.end();
        others.into_iter().for_each(|other| other.join().expect("no panic"));
        model.assert_all_is_over();
    });
    report(orders, "a future is dropped while another caller waits for the same row");
}

/// The bell stays with the other watch, so nothing but the drop itself removes the waker.
#[test]
fn loom_i12_a_dropped_future_takes_its_waker_out_of_the_bell() {
    let orders = explored(None, || {
        let model = Model::new();
        let other = model.watches.watch(KEY);
        let dropped = {
            let model = Arc::clone(&model);
            thread::spawn(move || give_up(&model.watches))
        };
        model.watches.tell([KEY].into_iter());
        dropped.join().expect("no panic");
        assert!(other.bell().state.lock().wakers.is_empty(), "a waker was left behind");
        drop(other);
        model.assert_all_is_over();
    });
    report(orders, "a future is dropped while the row changes and another watch stays");
}
