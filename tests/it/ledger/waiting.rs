//! Waiting for a result in flight.
#![allow(clippy::disallowed_methods, reason = "real time passes in these tests")]

use super::*;
use crate::support::{Woken, place};
use firstseen::ledger::{Failure, Ledger, State};
use firstseen::testing::{deny_timers, waiting_futures};
use firstseen::{Durability, ErrorKind};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Instant;

const LONG: Duration = Duration::from_secs(60);

fn real() -> (tempfile::TempDir, Ledger) {
    let (dir, path) = place();
    let store = Store::open(&path).expect("opens");
    (dir, store.ledger_with("l", options().lease(LONG)).expect("opens"))
}

fn poll<F: Future + Unpin>(future: &mut F, woken: &Arc<Woken>) -> Poll<F::Output> {
    let waker = Waker::from(Arc::clone(woken));
    std::pin::Pin::new(future).poll(&mut Context::from_waker(&waker))
}

#[test]
fn who_waits_is_woken_by_whatever_ends_the_attempt() {
    let (_dir, ledger) = real();
    let ends: [fn(Attempt); 4] = [
        |attempt| attempt.complete(b"x").expect("completes"),
        |attempt| attempt.fail(Failure::last("no")).expect("fails"),
        |attempt| attempt.release().expect("is handed back"),
        drop,
    ];
    for (n, end) in ends.into_iter().enumerate() {
        let id = format!("id-{n}");
        let attempt = started(&ledger, &id);
        let began = Instant::now();
        let found = thread::scope(|scope| {
            let waiter = scope.spawn(|| ledger.wait(&id, LONG).expect("waits"));
            thread::sleep(Duration::from_millis(20));
            end(attempt);
            waiter.join().expect("runs").expect("there is a record")
        });
        assert!(!matches!(found.state, State::Running { .. }), "{}", found.state);
        assert!(began.elapsed() < LONG / 2);
    }
}

#[test]
fn a_wait_ends_at_its_deadline_and_at_once_if_nobody_works() {
    let (_dir, ledger) = real();
    assert!(ledger.wait("unknown", LONG).expect("reads").is_none());
    let attempt = started(&ledger, "a");
    let found = ledger.wait("a", Duration::from_millis(20)).expect("waits").expect("a record");
    assert!(matches!(found.state, State::Running { .. }));
    attempt.complete(b"x").expect("completes");
    let found = ledger.wait("a", LONG).expect("reads").expect("a record");
    assert_eq!(found.result(), Some(&b"x"[..]));
}

#[test]
fn a_wait_ends_with_the_lease_and_with_the_store() {
    let (_dir, path) = place();
    let store = Store::open(&path).expect("opens");
    let short = options().lease(Duration::from_millis(50));
    let ledger = store.ledger_with("l", short).expect("opens");
    abandon(started(&ledger, "a"));
    ledger.wait("a", LONG).expect("waits").expect("a record");
    let long = store.ledger_with("l", options().lease(LONG)).expect("opens");
    abandon(started(&long, "b"));
    let waiter = {
        let long = long.clone();
        thread::spawn(move || long.wait("b", LONG))
    };
    thread::sleep(Duration::from_millis(20));
    store.close().expect("closes");
    waiter.join().expect("runs").expect_err("the store is closed");
}

#[test]
fn ten_thousand_who_wait_for_one_id_are_woken_once_and_renewals_wake_nobody() {
    let (_dir, ledger) = real();
    let attempt = started(&ledger, "a");
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut context = Context::from_waker(&waker);
    let mut all: Vec<_> =
        (0..10_000).map(|_| Box::pin(ledger.wait_async("a").expect("waits"))).collect();
    for wait in &mut all {
        assert!(wait.as_mut().poll(&mut context).is_pending());
    }
    attempt.renew().expect("renews");
    attempt.renew_for(2 * LONG).expect("renews");
    attempt.stage("s", || Ok::<_, Failure>(1)).expect("is saved");
    assert_eq!(woken.count(), 0);
    attempt.complete(b"x").expect("completes");
    assert_eq!(woken.count(), 10_000);
    for wait in &mut all {
        let Poll::Ready(Ok(Some(record))) = wait.as_mut().poll(&mut context) else { panic!() };
        assert_eq!(record.result(), Some(&b"x"[..]));
    }
}

#[test]
fn a_waiting_future_hears_of_the_end_of_a_lease() {
    let (_dir, path) = place();
    let store = Store::open(&path).expect("opens");
    let short = options().lease(Duration::from_secs(2));
    let ledger = store.ledger_with("l", short).expect("opens");
    let attempt = started(&ledger, "a");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime");
    let began = Instant::now();
    let renewed = thread::spawn(move || {
        thread::sleep(Duration::from_millis(100));
        attempt.renew().expect("renews");
        abandon(attempt);
    });
    let wait = async { tokio::time::timeout(LONG, ledger.wait_async("a").expect("waits")).await };
    let found = runtime.block_on(wait).expect("in time").expect("reads").expect("a record");
    assert!(matches!(found.state, State::Running { .. }));
    assert!(began.elapsed() >= Duration::from_millis(2_050), "the lease was renewed");
    assert!(began.elapsed() < LONG / 2, "the alarm woke it, not the deadline");
    renewed.join().expect("runs");
    assert!(matches!(begin(&ledger, "a"), Begin::Started(_)));
}

#[test]
fn who_waits_hears_of_the_end_of_a_lease_although_the_handle_that_set_the_alarm_is_gone() {
    let (_dir, path) = place();
    let store = Store::open(&path).expect("opens");
    let short = || options().lease(Duration::from_secs(2));
    let open = || store.ledger_with("l", short()).expect("opens");
    let ledger = open();
    abandon(started(&ledger, "a"));
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let other = open();
    let mut first = Box::pin(other.wait_async("a").expect("waits"));
    assert!(first.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    let began = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let wait = async {
        let wait = ledger.wait_async("a").expect("waits");
        let gone = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            drop((first, other));
        };
        tokio::join!(tokio::time::timeout(LONG, wait), gone).0
    };
    runtime.expect("a runtime").block_on(wait).expect("in time").expect("reads");
    assert!(began.elapsed() < LONG / 2, "the alarm woke it, not the deadline");
}

#[test]
fn a_dropped_wait_leaves_nothing_behind() {
    let (_dir, ledger) = real();
    let attempt = started(&ledger, "a");
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let [mut wait, mut other] = [(); 2].map(|()| Box::pin(ledger.wait_async("a").expect("waits")));
    assert!(wait.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    assert!(other.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    assert_eq!(waiting_futures(ledger.store()), [0, 0, 1], "they share an alarm");
    drop(wait);
    assert_eq!(waiting_futures(ledger.store()), [0, 0, 1]);
    drop(other);
    assert_eq!(waiting_futures(ledger.store()), [0; 3], "the lease goes on for a minute");
    attempt.complete(b"x").expect("completes");
    assert_eq!(woken.count(), 0);
    assert_eq!(Arc::strong_count(&woken), 2, "the waker is gone, too");
}

/// An executor that runs tasks when they are woken, and a task that asks the attempt.
struct Asks {
    attempt: Arc<Attempt>,
    woken: Arc<Woken>,
}

impl Wake for Asks {
    fn wake(self: Arc<Self>) {
        assert_eq!(self.attempt.record().id, b"a");
        Wake::wake_by_ref(&self.woken);
    }
}

#[test]
fn i9_who_is_woken_by_an_attempt_may_ask_it() {
    let ends: [fn(&Attempt); 5] = [
        |attempt| attempt.complete(b"x").expect("completes"),
        |attempt| attempt.fail(Failure::last("no")).expect("fails"),
        |attempt| attempt.fail(Failure::retry("later")).expect("fails"),
        |attempt| attempt.release().expect("is handed back"),
        |attempt| attempt.renew_for(LONG / 2).expect("is shortened"),
    ];
    for end in ends {
        let (_dir, ledger) = real();
        let attempt = Arc::new(started(&ledger, "a"));
        let asks = Arc::new(Asks { attempt: Arc::clone(&attempt), woken: Arc::default() });
        let waker = Waker::from(Arc::clone(&asks));
        let mut wait = Box::pin(ledger.wait_async("a").expect("waits"));
        assert!(wait.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        let (tell, done) = channel();
        thread::spawn(move || {
            end(&attempt);
            tell.send(()).ok();
        });
        done.recv_timeout(LONG / 2).expect("the attempt and its waker do not wait for each other");
        assert_eq!(asks.woken.count(), 1);
    }
}

#[test]
fn who_waits_hears_in_time_of_the_end_of_a_lease_that_was_extended_and_then_shortened() {
    let (_dir, path) = place();
    let store = Store::open(&path).expect("opens");
    let ledger = store.ledger_with("l", options().lease(Duration::from_secs(1))).expect("opens");
    let attempt = started(&ledger, "a");
    attempt.renew_for(Duration::from_secs(2)).expect("renews");
    let woken = Arc::new(Woken::default());
    let mut wait = ledger.wait_async("a").expect("waits");
    assert!(poll(&mut wait, &woken).is_pending());
    attempt.renew_for(LONG).expect("renews");
    // The alarm looks, finds that the lease goes on, and is set for its new end.
    thread::sleep(Duration::from_millis(2_200));
    assert_eq!(woken.count(), 0, "an extended lease wakes nobody");
    attempt.renew_for(Duration::from_millis(100)).expect("is shortened");
    assert_eq!(woken.count(), 1, "a shortened lease does");
    if poll(&mut wait, &woken).is_pending() {
        woken.until(2);
        assert!(poll(&mut wait, &woken).is_ready());
    }
}

#[test]
fn i6_a_poll_at_disk_waits_for_no_sync_and_the_record_that_it_returns_is_on_disk() {
    let world = World::new();
    let ledger = world.ledger();
    let at_disk = options().durability(Durability::Disk);
    let safe = world.store.ledger_with("payments", at_disk).expect("opens");
    let (attempt, other) = (started(&ledger, "a"), started(&ledger, "b"));
    let before = world.store.stats().log_syncs;
    let woken = Arc::new(Woken::default());
    let mut wait = safe.wait_async("a").expect("waits");
    assert!(poll(&mut wait, &woken).is_pending());
    assert_eq!(world.store.stats().log_syncs, before, "that it runs is no answer yet");
    attempt.complete(b"x").expect("completes");
    assert_eq!(woken.count(), 1);
    let (leave, left) = channel::<()>();
    let left = std::sync::Mutex::new(left);
    world.disk.after_next_sync(move || _ = left.lock().expect("no panic").recv());
    assert!(poll(&mut wait, &woken).is_pending(), "it is not on disk");
    assert!(poll(&mut wait, &woken).is_pending());
    assert_eq!(waiting_futures(&world.store)[1], 1);
    drop(leave);
    woken.until(2);
    let Poll::Ready(Ok(Some(found))) = poll(&mut wait, &woken) else { panic!("it is on disk") };
    assert_eq!(found.result(), Some(&b"x"[..]));
    other.complete(b"y").expect("completes");
    safe.wait("b", LONG).expect("waits").expect("a record");
    let after_power_cut = sim(&world.disk.lose_unsynced(), &world.clock).open().expect("opens");
    let ledger = after_power_cut.ledger("payments").expect("opens");
    assert_eq!(record(&ledger, "a").result(), Some(&b"x"[..]));
    assert_eq!(record(&ledger, "b").result(), Some(&b"y"[..]));
}

#[test]
fn i12_a_wait_that_gets_no_thread_for_its_alarm_says_so() {
    let world = World::new();
    let ledger = world.ledger();
    abandon(started(&ledger, "a"));
    deny_timers(&world.store);
    let woken = Arc::new(Woken::default());
    let mut wait = ledger.wait_async("a").expect("waits");
    let Poll::Ready(Err(error)) = poll(&mut wait, &woken) else { panic!("nothing would wake it") };
    assert_eq!(error.kind(), ErrorKind::Environment, "{error}");
}
