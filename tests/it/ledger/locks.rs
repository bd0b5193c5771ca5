//! The locks of several attempts in one commit.
#![allow(clippy::disallowed_methods, reason = "real time passes in these tests")]

use super::*;
use crate::support::{Woken, place};
use firstseen::ledger::Failure;
use firstseen::transaction::Transaction;
use std::pin::pin;
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier};
use std::task::{Context, Wake, Waker};
use std::thread;

/// So long that a thread which is blocked that long would be blocked for ever.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn i12_commits_of_the_same_attempts_in_any_order_do_not_wait_for_each_other_for_ever() {
    let (_dir, path) = place();
    let store = Store::open(&path).expect("opens");
    let lease = Duration::from_secs(600);
    let ledger = store.ledger_with("l", options().lease(lease)).expect("opens");
    // Many, so that a commit is in the middle of taking their locks for long.
    let attempts: Arc<Vec<Attempt>> =
        Arc::new((0..200).map(|n| started(&ledger, &format!("a-{n}"))).collect());
    let (tell, done) = channel();
    let barrier = Arc::new(Barrier::new(2));
    for is_reversed in [false, true] {
        let (store, attempts) = (store.clone(), Arc::clone(&attempts));
        let (tell, barrier) = (tell.clone(), Arc::clone(&barrier));
        // Left behind if they wait for each other.
        thread::spawn(move || {
            for _ in 0..200 {
                barrier.wait();
                let mut transaction = store.transaction();
                let mut order: Vec<&Attempt> = attempts.iter().collect();
                if is_reversed {
                    order.reverse();
                }
                for attempt in order {
                    transaction.renew(attempt);
                }
                assert!(transaction.commit().expect("answers").is_committed());
            }
            tell.send(()).ok();
        });
    }
    for _ in 0..2 {
        done.recv_timeout(PATIENCE).expect("two commits wait for each other");
    }
}

/// An executor that runs tasks when they are woken, and a task that asks the attempts.
struct Asks {
    attempts: Arc<[Attempt; 2]>,
    woken: Arc<Woken>,
}

impl Wake for Asks {
    fn wake(self: Arc<Self>) {
        assert!(self.attempts.iter().all(|attempt| attempt.record().id.len() == 1));
        Wake::wake_by_ref(&self.woken);
    }
}

type Plan = fn(&mut Transaction, &Attempt);

const ENDS: [(&str, Plan); 4] = [
    ("complete", |transaction, attempt| _ = transaction.complete(attempt, b"x")),
    ("fail", |transaction, attempt| {
        transaction.fail(attempt, Failure::last("no")).expect("is a failure");
    }),
    ("release", |transaction, attempt| _ = transaction.release(attempt)),
    ("renew for less", |transaction, attempt| {
        transaction.renew_for(attempt, LEASE / 2).expect("is a lease");
    }),
];

#[test]
fn i9_who_is_woken_by_a_transaction_may_ask_each_of_its_attempts() {
    for (name, plan) in ENDS {
        let world = World::new();
        let ledger = world.ledger();
        let attempts = Arc::new(["a", "b"].map(|id| started(&ledger, id)));
        let asks = Arc::new(Asks { attempts: Arc::clone(&attempts), woken: Arc::default() });
        let waker = Waker::from(Arc::clone(&asks));
        let mut wait = pin!(ledger.wait_async("a").expect("waits"));
        assert!(wait.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        let (store, (tell, done)) = (world.store.clone(), channel());
        thread::spawn(move || {
            let mut transaction = store.transaction();
            attempts.iter().for_each(|attempt| plan(&mut transaction, attempt));
            assert!(transaction.commit().expect("answers").is_committed());
            tell.send(()).ok();
        });
        let done = done.recv_timeout(PATIENCE);
        done.unwrap_or_else(|_| panic!("{name}: the commit and its waker wait for each other"));
        assert_eq!(asks.woken.count(), 1, "{name}");
    }
}
