//! Topics whose replay scope is promoted or dropped while somebody uses them.
#![allow(clippy::disallowed_methods, reason = "real time passes in these tests")]

use super::*;
use crate::support::{Woken, place};
use firstseen::outbox::{AsyncSink, Delivery, OnFull, OutboxOptions, RelayOptions};
use firstseen::replay::ReplayState;
use firstseen::{Durability, ErrorKind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);

/// Does something on a thread of its own.
fn in_background<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
    let (tell, hears) = channel();
    thread::spawn(move || tell.send(work()).ok());
    hears
}

/// Waits for what is done in the background.
fn ended<T>(hears: &Receiver<T>) -> T {
    hears.recv_timeout(LONG).expect("it hangs")
}

/// Gives the threads time to look and to wait.
fn until_all_wait() {
    thread::sleep(Duration::from_millis(50));
}

#[test]
fn i12_a_relay_that_is_idle_while_a_scope_is_promoted_delivers_what_comes_then_and_stops() {
    let (_, _, store) = store();
    let topic = store.outbox("mails").expect("opens");
    let scope = store.replay("again").expect("begins");
    let inside = scope.outbox("mails").expect("opens");
    for emits in [true, false] {
        let (tell, delivered) = channel();
        let relay = topic.relay(RelayOptions::new().workers(2)).expect("is made");
        let handle = relay.spawn(move |batch: &[Message]| {
            tell.send(payloads(batch)).expect("listens");
            Delivery::all()
        });
        let handle = handle.expect("starts");
        until_all_wait();
        if emits {
            assert!(scope.promote().expect("promotes"));
            until_all_wait();
            emit(&inside, "one", &["a"]);
            assert_eq!(ended(&delivered), ["a"]);
        } else {
            let other = store.replay("once more").expect("begins");
            other.outbox("mails").expect("opens");
            assert!(other.promote().expect("promotes"));
            until_all_wait();
        }
        let stopped = in_background(|| handle.stop().map(|report| report.delivered));
        assert_eq!(ended(&stopped).expect("no error"), u64::from(emits));
    }
}

struct Takes;

impl AsyncSink for Takes {
    async fn deliver(&self, _: &[Message]) -> Delivery {
        Delivery::all()
    }
}

#[test]
fn i12_futures_that_wait_while_a_scope_is_promoted_are_woken_by_what_comes_then() {
    let (_, _, store) = store();
    let topic = store.outbox("mails").expect("opens");
    let scope = store.replay("again").expect("begins");
    let inside = scope.outbox("mails").expect("opens");
    let relay = topic.relay(RelayOptions::new()).expect("is made");
    let woken = [(); 2].map(|()| Arc::<Woken>::default());
    let wakers = [0, 1].map(|n| Waker::from(Arc::clone(&woken[n])));
    let [waits_cx, works_cx] = &mut [0, 1].map(|n| Context::from_waker(&wakers[n]));
    let (mut waits, mut works) = (pin!(topic.wait_async()), pin!(relay.run_async(&Takes)));
    assert!(waits.as_mut().poll(waits_cx).is_pending());
    assert!(works.as_mut().poll(works_cx).is_pending());
    assert!(scope.promote().expect("promotes"));
    assert_eq!([woken[0].count(), woken[1].count()], [1, 1], "both look again");
    assert!(waits.as_mut().poll(waits_cx).is_pending());
    assert!(works.as_mut().poll(works_cx).is_pending());
    emit(&inside, "one", &["a"]);
    assert_eq!([woken[0].count(), woken[1].count()], [2, 2]);
    assert!(waits.as_mut().poll(waits_cx).is_ready());
    assert!(works.as_mut().poll(works_cx).is_pending());
    assert_eq!(relay.report().delivered, 1);
    relay.stop();
    assert_eq!(woken[1].count(), 3);
    assert!(works.as_mut().poll(works_cx).is_ready());
}

#[test]
fn i12_threads_that_wait_for_a_message_or_for_room_while_a_scope_is_promoted_go_on() {
    let (_, _, store) = store();
    let topic = store.outbox("mails").expect("opens");
    let options = OutboxOptions::new().pending_max(1).on_full(OnFull::Wait(LONG * 60));
    let full = store.outbox_with("full", options).expect("opens");
    emit(&full, "one", &["a"]);
    let scope = store.replay("again").expect("begins");
    let inside = scope.outbox("mails").expect("opens");
    scope.outbox("full").expect("opens");
    let waits = {
        let topic = topic.clone();
        in_background(move || topic.wait(LONG * 60).expect("waits"))
    };
    let emits = in_background(move || {
        let outcome = try_emit(&full, "two", &["b"]);
        (outcome.map(|outcome| outcome.is_committed()), waiting(&full))
    });
    until_all_wait();
    assert!(scope.promote().expect("promotes"));
    let (outcome, left) = ended(&emits);
    // It was planned for what is replaced, or came after.
    match outcome {
        Ok(is_committed) => assert!(is_committed && left == ["b"], "{left:?}"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Retry, "{error}"),
    }
    until_all_wait();
    emit(&inside, "three", &["c"]);
    assert!(ended(&waits));
}

/// What a reader knows of the topic that is replaced says nothing of the one that takes its place: there, a commit may still
/// be on its way.
#[test]
fn i13_a_message_that_is_on_its_way_while_its_scope_is_promoted_is_not_passed_over() {
    for _ in 0..5 {
        let (_dir, path) = place();
        let store = Store::builder(&path).durability(Durability::Buffered).open().expect("opens");
        let topic = store.outbox("mails").expect("opens");
        let scope = store.replay("again").expect("begins");
        let inside = scope.outbox("mails").expect("opens");
        let relay = topic.relay(RelayOptions::new()).expect("is made");
        let sink = |_: &[Message]| Delivery::all();
        let emitted = thread::scope(|threads| {
            let emits = threads.spawn(|| {
                let mut emitted = 0;
                while scope.state() == ReplayState::Open || emitted % 100 > 0 {
                    emit(&inside, &emitted.to_string(), &["m"]);
                    emitted += 1;
                }
                emitted
            });
            let drains = threads.spawn(|| {
                while scope.state() == ReplayState::Open {
                    relay.drain(&sink).expect("works");
                }
            });
            until_all_wait();
            assert!(scope.promote().expect("promotes"));
            drains.join().expect("no panic");
            emits.join().expect("no panic")
        });
        let done = relay.drain(&sink).expect("works");
        assert_eq!((waiting(&topic).len(), done.delivered), (0, emitted));
    }
}

/// As tables and sources of a dropped scope are.
#[test]
fn i12_a_topic_of_a_dropped_scope_is_refused_and_who_waits_for_it_hears_of_it() {
    let (_, _, store) = store();
    let scope = store.replay("again").expect("begins");
    let topic = scope.outbox("mails").expect("opens");
    let waits = {
        let topic = topic.clone();
        in_background(move || topic.wait(LONG * 60).expect_err("is gone").kind())
    };
    let relay = topic.relay(RelayOptions::new().workers(2)).expect("is made");
    let runs = in_background(move || {
        relay.run(&|_: &[Message]| Delivery::all()).expect_err("is gone").kind()
    });
    let woken = Arc::<Woken>::default();
    let waker = Waker::from(Arc::clone(&woken));
    let cx = &mut Context::from_waker(&waker);
    let mut future = pin!(topic.wait_async());
    assert!(future.as_mut().poll(cx).is_pending());
    until_all_wait();
    assert!(scope.discard().expect("drops"));
    let kinds = [ended(&waits), ended(&runs)];
    assert_eq!(kinds, [ErrorKind::FixCall; 2]);
    assert_eq!(woken.count(), 1);
    assert!(
        matches!(future.as_mut().poll(cx), Poll::Ready(Err(e)) if e.kind() == ErrorKind::FixCall)
    );
    let dead = topic.dead_letters();
    for refused in [
        topic.read(10).map(|_| ()),
        topic.pending().map(|_| ()),
        topic.acknowledge_through(u64::MAX).map(|_| ()),
        dead.list(None, 10).map(|_| ()),
        dead.purge_all().map(|_| ()),
    ] {
        assert_eq!(refused.expect_err("is gone").kind(), ErrorKind::FixCall);
    }
}

#[test]
fn messages_that_a_promotion_replaces_take_no_room_in_memory_from_those_that_come_then() {
    let (disk, _, store) = store();
    let topic = store.outbox("mails").expect("opens");
    for round in 0..15 {
        let mut transaction = store.transaction();
        transaction.claim(format!("{round}"));
        for _ in 0..10 {
            transaction.emit(&topic, vec![7; 60_000]).expect("collects");
        }
        assert!(transaction.commit().expect("answers").is_committed());
    }
    let long = |text: &str| text.to_owned() + &"-".repeat(60_000);
    emit(&topic, "full", &[&long("not in memory")]);
    super::reading::damage(&disk, b"not in memory");
    let last = topic.read(150).expect("reads").pop().expect("the last one").position;
    topic.read_after(last, 1).expect_err("there was no room for a copy");
    let scope = store.replay("again").expect("begins");
    scope.outbox("mails").expect("opens");
    assert!(scope.promote().expect("promotes"));
    emit(&topic, "then", &[&long("kept in memory")]);
    super::reading::damage(&disk, b"kept in memory");
    assert_eq!(waiting(&topic), [long("kept in memory")]);
}
