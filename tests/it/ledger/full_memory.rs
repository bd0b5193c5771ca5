//! Attempts while there is no memory for what they write: whoever waits for it holds up nobody else.
#![allow(clippy::disallowed_methods, reason = "real time passes in these tests")]

use super::*;
use crate::support::{id, settle};
use firstseen::ledger::{AttemptEnd, AttemptError, Failure, State};
use firstseen::transaction::{CommitOutcome, Rejection};
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Instant;

/// Much shorter than a call waits for memory, and much longer than one that does not wait.
const PATIENCE: Duration = Duration::from_secs(10);
const WAIT_MAX: Duration = Duration::from_secs(40);

fn world() -> World {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = sim(&disk, &clock).wait_max(WAIT_MAX).open().expect("opens");
    World { disk, clock, store }
}

/// Claims until no shard has room for one id more, be it as short as may be. Nobody flushes before [`settle`].
fn fill(store: &Store, namespace: &str) {
    let namespace = store.namespace(namespace).expect("opens");
    let mut context = Context::from_waker(Waker::noop());
    for (len, most) in [(16, u64::MAX), (3, 1 << 24), (1, 1 << 8)] {
        let mut refused = 0;
        for n in 0..most {
            let bytes = id(n);
            let id = if len == 16 { &bytes[..] } else { &bytes[8..8 + len] };
            match pin!(namespace.claim_async(id)).poll(&mut context) {
                Poll::Ready(claim) => {
                    assert!(claim.expect("claims").is_first_seen());
                    refused = 0;
                }
                Poll::Pending => refused += 1,
            }
            if refused == 64 {
                break;
            }
        }
    }
}

/// Makes a call on a thread of its own, which may be left behind, and returns where its answer arrives.
fn apart<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
    let (tell, hears) = channel();
    thread::spawn(move || tell.send(call()).ok());
    hears
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(1));
    }
}

type Waits = fn(&Store, &Attempt);

/// What waits for memory with an attempt. Renewals have a thread of their own.
const WAITS: [(&str, Waits); 6] = [
    ("renew", |_, attempt| attempt.renew().expect("renews")),
    ("stage", |_, attempt| {
        let done = attempt.stage("one", || Ok::<_, Failure>(1_u32));
        assert_eq!(done.expect("is saved"), 1);
    }),
    ("cursor", |_, attempt| {
        let done = attempt.stage_with_cursor("one", |cursor| {
            cursor.advance(1_u32)?;
            Ok::<_, AttemptError>(1_u32)
        });
        assert_eq!(done.expect("is saved"), 1);
    }),
    ("complete", |_, attempt| attempt.complete("x").expect("completes")),
    ("commit", |store, attempt| {
        let mut transaction = store.transaction();
        assert!(transaction.renew(attempt).commit().expect("answers").is_committed());
    }),
    ("prepare", |store, attempt| {
        let mut transaction = store.transaction();
        transaction.complete(attempt, "x");
        assert!(transaction.prepare("gid").expect("answers").is_committed());
    }),
];

#[test]
fn i9_nobody_waits_for_memory_under_the_lock_of_an_attempt() {
    for (name, wait) in WAITS {
        let world = world();
        let attempt = Arc::new(started(&world.ledger(), "a"));
        fill(&world.store, "noise");
        let waits = world.store.stats().waits_for_flush;
        let done = {
            let (store, attempt) = (world.store.clone(), Arc::clone(&attempt));
            apart(move || wait(&store, &attempt))
        };
        until(name, || world.store.stats().waits_for_flush > waits);
        let asks = Arc::clone(&attempt);
        let asked = apart(move || {
            assert_eq!(asks.number(), 1);
            let mut context = Context::from_waker(Waker::noop());
            let completed = pin!(asks.complete_async("y")).poll(&mut context);
            assert!(completed.is_pending(), "there is no room for it either");
        });
        asked.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{name} holds up who asks"));
        done.try_recv().expect_err("there is no memory yet");
        settle(&world.store);
        done.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{name} is woken"));
    }
}

#[test]
fn i9_i12_renewals_that_find_no_memory_hold_up_neither_the_attempt_nor_each_other() {
    let world = world();
    let lease = Duration::from_millis(300);
    let ledger = world.store.ledger_with("short", options().lease(lease)).expect("opens");
    let lease_end = |id: &str| match record(&ledger, id).state {
        State::Running { until } => until,
        other => panic!("{other:?}"),
    };
    let attempts: Vec<_> = (0..20).map(|n| Arc::new(started(&ledger, &format!("a-{n}")))).collect();
    fill(&world.store, "noise");
    world.pass(lease / 2);
    let before = lease_end("a-0");
    let waits = world.store.stats().waits_for_flush;
    let _renewals: Vec<_> =
        attempts.iter().map(|attempt| attempt.keep_renewed().expect("a thread")).collect();
    until("all are tried", || world.store.stats().waits_for_flush >= waits + 40);
    let asks = attempts.clone();
    let asked = apart(move || {
        for _ in 0..100 {
            assert!(asks.iter().all(|attempt| attempt.number() == 1));
        }
    });
    asked.recv_timeout(PATIENCE).expect("a renewal holds up who asks");
    assert_eq!(lease_end("a-0"), before, "there is no memory yet");
    settle(&world.store);
    for n in 0..20 {
        until("is renewed once there is memory", || lease_end(&format!("a-{n}")) > before);
    }
    attempts.iter().for_each(|attempt| attempt.complete("").expect("completes"));
}

fn is_dropped(ledger: &Ledger, id: &str) -> bool {
    let record = record(ledger, id);
    match record.state {
        State::Running { .. } => false,
        State::Waiting { .. } => {
            let past = record.history.last().expect("an attempt has ended");
            assert_eq!((past.end, record.history.len()), (AttemptEnd::Dropped, 1));
            true
        }
        other => panic!("{other:?}"),
    }
}

/// On a thread of its own, which is left behind if it waits.
fn dropped_at_once(attempts: Vec<Attempt>) {
    let dropped = apart(move || drop(attempts));
    dropped.recv_timeout(PATIENCE).expect("a drop waits for nothing");
}

#[test]
fn i12_a_drop_for_which_there_is_no_memory_waits_for_nothing_and_is_noted_once_there_is() {
    let world = world();
    let ledger = world.ledger();
    let attempts: Vec<_> = (0..5).map(|n| started(&ledger, &format!("a-{n}"))).collect();
    fill(&world.store, "noise");
    let mut transaction = world.store.transaction();
    transaction.complete(&attempts[0], "done");
    let renewals: Vec<_> =
        attempts.iter().map(|attempt| attempt.keep_renewed().expect("a thread")).collect();
    dropped_at_once(attempts);
    assert!((0..5).all(|n| !is_dropped(&ledger, &format!("a-{n}"))), "there is no memory yet");
    settle(&world.store);
    // It has failed when it was dropped, although nobody could write it down.
    match transaction.commit().expect("answers") {
        CommitOutcome::Rejected(reasons) => {
            assert!(matches!(&reasons[..], [Rejection::Attempt { .. }]), "{reasons:?}");
        }
        other => panic!("{other:?}"),
    }
    for n in 0..5 {
        until("is noted", || is_dropped(&ledger, &format!("a-{n}")));
    }
    drop(renewals);
}

#[test]
fn a_drop_that_was_not_noted_is_nobodys_once_its_lease_has_ended_or_its_store_is_closed() {
    let world = world();
    let ledger = world.ledger();
    let attempt = started(&ledger, "a");
    fill(&world.store, "noise");
    dropped_at_once(vec![attempt]);
    world.pass(LEASE);
    // Until the thread has looked again.
    thread::sleep(Duration::from_millis(100));
    settle(&world.store);
    thread::sleep(Duration::from_millis(100));
    let second = started(&ledger, "a");
    let ends: Vec<_> = second.record().history.iter().map(|past| past.end).collect();
    assert_eq!(ends, [AttemptEnd::LeaseEnded]);
    fill(&world.store, "more");
    dropped_at_once(vec![second]);
    drop(ledger);
    // It keeps the store no longer open than others do.
    let world = world.reopen();
    let third = started(&world.ledger(), "a");
    let ends: Vec<_> = third.record().history.iter().map(|past| past.end).collect();
    assert_eq!(ends, [AttemptEnd::LeaseEnded, AttemptEnd::ProcessEnded]);
    third.release().expect("hands back");
}
