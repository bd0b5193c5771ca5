//! Waiting for a reservation to end, under every interleaving of holding, waiting and closing.

use crate::engine::core::{Awaited, ShardCell};
use crate::error::Error;
use crate::health::Health;
use crate::id::{IdHash, IdHasher, Key, NsId, Seed};
use crate::shard::Shard;
use crate::sync::every_order::{explored, report};
use crate::sync::{Arc, Condvar, Mutex, thread};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

const KEY: Key<'static> = Key { ns: NsId(0), id: b"held" };

struct Model {
    cell: ShardCell,
    health: Health,
    hash: IdHash,
}

impl Model {
    /// Creates a shard in which holder 1 holds an id.
    fn new() -> Arc<Self> {
        let hasher = IdHasher::new(Seed([7; 16]));
        let hash = hasher.hash(KEY);
        let mut shard = Shard::new(hasher, 1 << 10, 1 << 10);
        shard.reserved.insert(KEY, hash, 1, 0, &hasher);
        Arc::new(Self { cell: ShardCell::new(0, shard), health: Health::default(), hash })
    }

    /// Checks and waits while the id is held, as a claim does.
    fn wait(&self) -> Result<(), Error> {
        let mut shard = self.cell.shard.lock();
        self.health.check()?;
        #[expect(clippy::disallowed_methods, reason = "a deadline that is never met")]
        let until = Instant::now() + Duration::from_secs(3600);
        let waited = self.cell.wait_for_release(&mut shard, KEY, self.hash, until, &self.health);
        if waited.is_ok() {
            assert!(shard.reserved.is_empty(), "the wait ended and the id is held");
        }
        waited
    }

    /// Releases the id, as `release` does.
    fn release(&self) {
        self.cell.shard.lock().reserved.remove(KEY, self.hash, 1);
        self.cell.changed.notify_all();
        self.cell.futures.wake(Awaited::Release(self.hash));
    }

    /// Closes the store, as `Core::close` does.
    fn close(&self) {
        self.health.close();
        self.cell.wake();
    }
}

#[test]
fn loom_i12_whoever_waits_for_a_reservation_hears_of_its_end() {
    let orders = explored(None, || {
        let model = Model::new();
        let waiters: Vec<_> = (0..2)
            .map(|_| {
                let model = Arc::clone(&model);
                thread::spawn(move || model.wait().is_ok())
            })
            .collect();
        model.release();
        assert!(waiters.into_iter().all(|waiter| waiter.join().expect("no panic")));
    });
    report(orders, "two callers wait for a reservation that is given back");
}

#[test]
fn loom_i12_whoever_waits_for_a_reservation_hears_that_the_store_is_closed() {
    let orders = explored(None, || {
        let model = Model::new();
        let waiters: Vec<_> = (0..2)
            .map(|_| {
                let model = Arc::clone(&model);
                thread::spawn(move || matches!(model.wait(), Err(Error::Closed)))
            })
            .collect();
        model.close();
        assert!(waiters.into_iter().all(|waiter| waiter.join().expect("no panic")));
    });
    report(orders, "two callers wait for a reservation in a store that is closed");
}

/// Waits as a future does (`src/engine/write/future.rs`): the place is entered before the look. Returns whether the
/// store is still open.
fn await_release(model: &Model) -> bool {
    let bell = std::sync::Arc::new(Bell::default());
    let waker = Waker::from(std::sync::Arc::clone(&bell));
    let place = model.cell.futures.place(Awaited::Release(model.hash));
    loop {
        place.enter(&waker);
        {
            let shard = model.cell.shard.lock();
            if model.health.check().is_err() {
                return false;
            }
            if shard.reserved.holder(KEY, model.hash).is_none() {
                return true;
            }
        }
        bell.wait();
    }
}

/// A thread that waits for its future to be woken.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    heard: Condvar,
}

impl Bell {
    fn wait(&self) {
        let mut rung = self.rung.lock();
        while !*rung {
            self.heard.wait(&mut rung);
        }
        *rung = false;
    }
}

impl Wake for Bell {
    fn wake(self: std::sync::Arc<Self>) {
        *self.rung.lock() = true;
        self.heard.notify_all();
    }
}

#[test]
fn loom_i12_a_future_that_waits_for_a_reservation_hears_of_its_end_and_of_a_close() {
    for closes in [false, true] {
        let orders = explored(Some(3), move || {
            let model = Model::new();
            let waiters: Vec<_> = (0..2)
                .map(|_| {
                    let model = Arc::clone(&model);
                    thread::spawn(move || await_release(&model))
                })
                .collect();
            if closes {
                model.close()
            } else {
                model.release()
            }
            let open = waiters.into_iter().map(|waiter| waiter.join().expect("no panic"));
            assert!(open.into_iter().all(|is_open| is_open != closes));
            assert_eq!(model.cell.futures.waiting(), 0);
        });
        report(orders, "two futures wait for a reservation that is given back, or for a close");
    }
}
