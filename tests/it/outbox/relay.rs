//! The relay.
#![allow(clippy::disallowed_methods, reason = "real time passes in these tests")]

use super::*;
use crate::support::{Woken, place};
use firstseen::ledger::Backoff;
use firstseen::outbox::{AsyncSink, Delivery, Relay, RelayOptions, RelayReport, Sink};
use firstseen::{Durability, Error, ErrorKind};
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// Retries after exactly a second.
fn options() -> RelayOptions {
    RelayOptions::new().backoff(Backoff::constant(SECOND))
}

fn report(delivered: u64, retried: u64, dead: u64) -> RelayReport {
    let mut report = RelayReport::default();
    (report.delivered, report.retried, report.dead) = (delivered, retried, dead);
    report
}

/// Notes what it is given, and says what a function of the payload says.
struct Notes<F> {
    batches: Mutex<Vec<Vec<String>>>,
    says: F,
}

/// What a sink says of one message.
#[derive(Clone, Copy)]
enum Says {
    Delivered,
    Retry,
    Panic,
}

fn notes<F: Fn(&str) -> Says + Send + Sync>(says: F) -> Notes<F> {
    Notes { batches: Mutex::default(), says }
}

impl<F: Fn(&str) -> Says + Send + Sync> Sink for Notes<F> {
    fn deliver(&self, batch: &[Message]) -> Delivery {
        let batch = payloads(batch);
        self.batches.lock().expect("no panic").push(batch.clone());
        let mut delivery = Delivery::all();
        for (n, payload) in batch.iter().enumerate() {
            delivery = match (self.says)(payload) {
                Says::Delivered => delivery,
                Says::Retry => delivery.retry(n, "not now"),
                Says::Panic => std::panic::resume_unwind(Box::new("planted")),
            };
        }
        delivery
    }
}

impl<F> Notes<F> {
    /// Returns the batches since the last call.
    fn batches(&self) -> Vec<Vec<String>> {
        std::mem::take(&mut *self.batches.lock().expect("no panic"))
    }

    fn all(&self) -> Vec<String> {
        self.batches().concat()
    }
}

#[test]
fn a_relay_delivers_what_waits_in_batches_and_removes_it() {
    let (_, _, store) = store();
    let topic = store.outbox("t").expect("opens");
    emit_each(&topic, &["a", "b", "c", "d", "e"]);
    let (relay, sink) =
        (topic.relay(options().batch_max(2)).expect("is made"), notes(|_| Says::Delivered));
    assert_eq!(relay.drain(&sink).expect("works"), report(5, 0, 0));
    assert_eq!(sink.batches(), [vec!["a", "b"], vec!["c", "d"], vec!["e"]]);
    assert_eq!(relay.drain(&sink).expect("works"), report(5, 0, 0));
    assert_eq!((sink.all().len(), topic.pending().expect("answers").count), (0, 0));
    let bytes = topic.relay(options().batch_bytes_max(60)).expect("is made");
    emit_each(&topic, &["f", &"long".repeat(100), "g", "h"]);
    bytes.drain(&sink).expect("works");
    let lengths: Vec<usize> = sink.batches().iter().map(Vec::len).collect();
    assert!(lengths.len() >= 3 && lengths[1] == 1, "the long one is alone: {lengths:?}");
    for bad in [
        options().batch_max(0),
        options().batch_max(5_000),
        options().workers(0),
        options().attempts_max(0),
        options().batch_bytes_max(2 << 20),
    ] {
        assert_eq!(topic.relay(bad).expect_err("out of bounds").kind(), ErrorKind::FixCall);
    }
}

/// BEHAVIOURS 63.
#[test]
fn a_key_that_is_retried_holds_up_its_own_later_messages_only() {
    let (_, clock, store) = store();
    let topic = store.outbox("t").expect("opens");
    emit_each(&topic, &["anna:1", "bert:1", "anna:2", "1", "bert:2"]);
    let is_down = AtomicBool::new(true);
    let sink = notes(|payload| match payload {
        "anna:1" if is_down.load(Ordering::Relaxed) => Says::Retry,
        _ => Says::Delivered,
    });
    let relay = topic.relay(options()).expect("is made");
    let done = relay.drain(&sink).expect("works");
    assert_eq!((done.delivered, done.retried, done.dead), (3, 1, 0));
    assert_eq!(
        done.next_at.map(firstseen::Timestamp::as_millis),
        Some(crate::support::NOW + 1_000)
    );
    assert_eq!(sink.batches(), [["anna:1", "bert:1", "anna:2", "1", "bert:2"]]);
    // What the sink said of `anna:2` does not count: it comes again, after `anna:1`.
    assert_eq!(waiting(&topic), ["anna:1", "anna:2"]);
    emit_each(&topic, &["anna:3", "bert:3"]);
    relay.drain(&sink).expect("works");
    assert_eq!(sink.batches(), [["bert:3"]]);
    clock.advance(SECOND.checked_sub(Duration::from_millis(1)).unwrap());
    relay.drain(&sink).expect("works");
    assert_eq!(sink.batches(), [[""; 0]; 0]);
    is_down.store(false, Ordering::Relaxed);
    clock.advance(Duration::from_millis(1));
    let done = relay.drain(&sink).expect("works");
    assert_eq!(sink.batches(), [vec!["anna:1"], vec!["anna:2", "anna:3"]]);
    assert_eq!(done, report(7, 1, 0));
    assert_eq!(waiting(&topic), [""; 0]);
}

#[test]
fn what_was_not_tried_comes_again_at_once_and_an_outage_charges_nobody() {
    let (_, clock, store) = store();
    let topic = store.outbox("t").expect("opens");
    emit_each(&topic, &["a", "b", "c"]);
    let relay = topic.relay(options().attempts_max(2)).expect("is made");
    let calls = Mutex::new(Vec::new());
    let says = Mutex::new(Delivery::up_to(1, "b failed"));
    let sink = |batch: &[Message]| {
        calls.lock().expect("no panic").push(payloads(batch));
        std::mem::replace(&mut *says.lock().expect("no panic"), Delivery::all())
    };
    let calls = || std::mem::take(&mut *calls.lock().expect("no panic"));
    relay.drain(&sink).expect("works");
    assert_eq!(calls(), [vec!["a", "b", "c"], vec!["c"]]);
    clock.advance(SECOND);
    for _ in 0..10 {
        *says.lock().expect("no panic") = Delivery::unavailable(0, "down");
        let done = relay.drain(&sink).expect("works");
        assert_eq!(calls(), [["b"]]);
        assert!(done.next_at.is_some());
        relay.drain(&sink).expect("works");
        assert_eq!(calls(), [[""; 0]; 0], "nothing is delivered meanwhile");
        clock.advance(SECOND);
    }
    let done = relay.drain(&sink).expect("works");
    assert_eq!((calls(), done), (vec![vec!["b".to_owned()]], report(3, 1, 0)));
}

#[test]
fn a_sink_that_panics_has_delivered_nothing_and_the_message_that_kills_it_is_soon_alone() {
    let (_, clock, store) = store();
    let topic = store.outbox("t").expect("opens");
    emit_each(&topic, &["a", "poison", "b"]);
    let relay = topic.relay(options().attempts_max(3)).expect("is made");
    let sink = notes(|payload| if payload == "poison" { Says::Panic } else { Says::Delivered });
    for _ in 0..4 {
        relay.drain(&sink).expect("goes on");
        clock.advance(SECOND);
    }
    assert_eq!(
        sink.batches(),
        [vec!["a", "poison", "b"], vec!["a"], vec!["poison"], vec!["b"], vec!["poison"]]
    );
    assert_eq!(relay.report(), report(2, 4, 1));
    let dead = topic.dead_letters().list(None, 10).expect("lists").messages;
    assert_eq!((payload(&dead[0].message).as_str(), dead[0].attempts), ("poison", 3));
}

#[test]
fn a_sink_that_speaks_of_a_message_that_its_batch_has_not_is_an_error_and_changes_nothing() {
    let (_, _, store) = store();
    let topic = store.outbox("t").expect("opens");
    emit(&topic, "e", &["a", "b"]);
    let relay = topic.relay(options()).expect("is made");
    for delivery in [Delivery::all().refuse(2, "never"), Delivery::all().retry(99, "later")] {
        let error = relay.drain(&|_: &[Message]| delivery.clone()).expect_err("is refused");
        assert_eq!(error.kind(), ErrorKind::FixCall);
        assert!(error.to_string().contains("of a batch of 2"), "{error}");
        assert_eq!(
            (waiting(&topic), relay.report()),
            (vec!["a".into(), "b".into()], report(0, 0, 0))
        );
    }
    let more =
        relay.drain(&|batch: &[Message]| Delivery::up_to(batch.len() + 7, "")).expect("works");
    assert_eq!((more, waiting(&topic)), (report(2, 0, 0), vec![]));
}

#[test]
fn what_somebody_else_acknowledges_is_not_delivered() {
    let (_, clock, store) = store();
    let topic = store.outbox("t").expect("opens");
    emit_each(&topic, &["anna:1", "anna:2", "anna:3", "1"]);
    let relay = topic.relay(options()).expect("is made");
    let sink = notes(|payload| if payload == "anna:1" { Says::Retry } else { Says::Delivered });
    relay.drain(&sink).expect("works");
    let left = topic.read(10).expect("reads");
    assert_eq!(payloads(&left), ["anna:1", "anna:2", "anna:3"]);
    topic.acknowledge(&left[..2]).expect("acknowledges");
    clock.advance(SECOND);
    sink.batches();
    relay.drain(&sink).expect("works");
    assert_eq!(sink.batches(), [["anna:3"]]);
    // Also while it is being delivered.
    emit_each(&topic, &["2", "3", "4"]);
    let races = |batch: &[Message]| {
        topic.acknowledge(&batch[1..2]).expect("acknowledges");
        Delivery::all().refuse(2, "never")
    };
    relay.drain(&races).expect("works");
    assert_eq!(waiting(&topic), [""; 0]);
    emit_each(&topic, &["5"]);
    let races = |batch: &[Message]| {
        topic.acknowledge(batch).expect("acknowledges");
        Delivery::all().refuse(0, "never")
    };
    relay.drain(&races).expect("works");
    let dead = topic.dead_letters().list(None, 10).expect("lists").messages;
    assert_eq!(dead.iter().map(|dead| payload(&dead.message)).collect::<Vec<_>>(), ["4"]);
}

/// BEHAVIOURS 58: the process dies after the delivery and before the acknowledgement.
#[test]
fn a_message_that_was_delivered_and_not_acknowledged_comes_again_with_its_id_after_a_crash() {
    let (disk, clock, store) = store();
    let topic = store.outbox("t").expect("opens");
    emit_each(&topic, &["a", "b"]);
    let ids = Mutex::new(Vec::new());
    let note = |batch: &[Message]| {
        ids.lock()
            .expect("no panic")
            .push(batch.iter().map(|message| message.id).collect::<Vec<_>>());
        Delivery::all()
    };
    let dies = |batch: &[Message]| {
        disk.fail_at(disk.ops(), firstseen::disk::sim::Fault::Crash, false);
        note(batch)
    };
    let relay = topic.relay(options()).expect("is made");
    let error = relay.drain(&dies).expect_err("the process has died");
    assert_ne!(error.kind(), ErrorKind::Bug, "{error}");
    drop((relay, topic, store));
    let topic = open(&disk.kill(), &clock).outbox("t").expect("opens");
    topic.relay(options()).expect("is made").drain(&note).expect("works");
    let ids = ids.into_inner().expect("no panic");
    assert_eq!((ids.len(), ids[0].len()), (2, 2));
    assert_eq!(ids[0], ids[1]);
    assert_eq!(topic.pending().expect("answers").count, 0);
}

/// Counts what is delivered of each key, and checks that it is in order and that no two workers have a key at once.
#[derive(Default)]
struct Ordered {
    next: Mutex<BTreeMap<Vec<u8>, usize>>,
    busy: Mutex<std::collections::BTreeSet<Vec<u8>>>,
    delivered: AtomicUsize,
}

impl Ordered {
    fn take(&self, batch: &[Message]) -> Delivery {
        let mut own = std::collections::BTreeSet::new();
        let mut delivery = Delivery::all();
        for (n, message) in batch.iter().enumerate() {
            if message.key.is_empty() {
                self.delivered.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            if own.insert(message.key.clone()) {
                assert!(
                    self.busy.lock().expect("no panic").insert(message.key.clone()),
                    "two workers have a key"
                );
            }
            let count: usize =
                payload(message).split(':').nth(1).expect("two parts").parse().expect("a number");
            let mut next = self.next.lock().expect("no panic");
            let next = next.entry(message.key.clone()).or_default();
            // Some fail once.
            if count == *next && count % 7 == 3 && message.position % 3 == 0 && batch.len() > 1 {
                delivery = delivery.retry_in(n, Duration::from_millis(1), "once more");
                continue;
            }
            if count == *next {
                *next += 1;
                self.delivered.fetch_add(1, Ordering::Relaxed);
            }
        }
        let mut busy = self.busy.lock().expect("no panic");
        own.iter().for_each(|key| assert!(busy.remove(key)));
        delivery
    }
}

/// BEHAVIOURS 63: with several workers, while eight threads emit.
#[test]
fn i12_messages_of_a_key_are_delivered_in_commit_order_by_several_workers() {
    let (_dir, path) = place();
    let store = Store::builder(&path).durability(Durability::Buffered).open().expect("opens");
    let topic = store.outbox("t").expect("opens");
    let ordered = Arc::new(Ordered::default());
    let handle = {
        let ordered = Arc::clone(&ordered);
        let relay =
            topic.relay(options().workers(4).batch_max(32).attempts_max(1_000)).expect("is made");
        relay.spawn(move |batch: &[Message]| ordered.take(batch)).expect("starts")
    };
    thread::scope(|scope| {
        for emitter in 0..8 {
            let topic = topic.clone();
            scope.spawn(move || {
                for n in 0..200 {
                    let (keyed, free) = (format!("k{emitter}:{n}"), format!("{emitter}-{n}"));
                    emit(&topic, &keyed, &[&keyed, &free]);
                }
            });
        }
    });
    let began = firstseen_now();
    while topic.pending().expect("answers").count > 0 {
        assert!(began.elapsed() < Duration::from_secs(60), "it hangs");
        thread::sleep(Duration::from_millis(2));
    }
    let done = handle.stop().expect("no error");
    assert_eq!((done.delivered, done.dead), (3_200, 0));
    assert_eq!(ordered.delivered.load(Ordering::Relaxed), 3_200);
    assert!(ordered.next.lock().expect("no panic").values().all(|next| *next == 200));
}

#[allow(clippy::disallowed_methods, reason = "the patience of a test")]
fn firstseen_now() -> std::time::Instant {
    std::time::Instant::now()
}

#[test]
fn a_relay_that_is_stopped_finishes_what_it_delivers_and_the_next_goes_on_from_there() {
    let (_dir, path) = place();
    let store = Store::open(&path).expect("opens");
    let topic = store.outbox("t").expect("opens");
    emit_each(&topic, &["a", "b", "c"]);
    let (enter, entered) = channel();
    let (leave, left) = channel::<()>();
    let left = Mutex::new(left);
    let handle =
        topic.relay(options().batch_max(1)).expect("is made").spawn(move |batch: &[Message]| {
            enter.send(payloads(batch)).expect("listens");
            left.lock().expect("no panic").recv().ok();
            Delivery::all()
        });
    let handle = handle.expect("starts");
    assert_eq!(entered.recv().expect("delivers"), ["a"]);
    let relay = handle.relay().clone();
    relay.stop();
    leave.send(()).expect("listens");
    assert_eq!(handle.stop().expect("no error"), report(1, 0, 0));
    entered.try_recv().expect_err("nothing after that");
    assert_eq!(waiting(&topic), ["b", "c"]);
    // One that waits for messages is stopped at once, also by a drop.
    let sink = Arc::new(notes(|_| Says::Delivered));
    for _ in 0..2 {
        let inner = Arc::clone(&sink);
        let handle = topic.relay(options().workers(3)).expect("is made");
        let handle = handle.spawn(move |batch: &[Message]| inner.deliver(batch)).expect("starts");
        let began = firstseen_now();
        while topic.pending().expect("answers").count > 0 {
            assert!(began.elapsed() < Duration::from_secs(60), "it hangs");
            thread::sleep(Duration::from_millis(1));
        }
        drop(handle);
    }
    assert_eq!(sink.all(), ["b", "c"]);
    let stopped = topic.relay(options()).expect("is made");
    stopped.stop();
    emit_each(&topic, &["d"]);
    assert_eq!(stopped.drain(&*sink).expect("does nothing"), report(0, 0, 0));
    assert_eq!(stopped.run(&*sink).expect("does nothing"), report(0, 0, 0));
    // A relay ends with the store, and says so.
    let handle = topic.relay(options()).expect("is made").spawn(|_: &[Message]| Delivery::all());
    let handle = handle.expect("starts");
    store.close().expect("closes");
    let error = handle.stop().map(|report| report.delivered);
    assert!(matches!(error, Ok(0 | 1) | Err(Error::Closed)), "{error:?}");
}

#[test]
fn i12_a_pause_ends_in_time_although_nothing_else_happens() {
    let (_dir, path) = place();
    let store = Store::open(&path).expect("opens");
    let topic = store.outbox("t").expect("opens");
    emit_each(&topic, &["a"]);
    let (tell, hears) = channel();
    let tries = AtomicUsize::new(0);
    let handle =
        topic.relay(options().workers(2)).expect("is made").spawn(move |_: &[Message]| {
            tell.send(()).expect("listens");
            match tries.fetch_add(1, Ordering::Relaxed) {
                0 => Delivery::all().retry_in(0, Duration::from_millis(5), "later"),
                _ => Delivery::all(),
            }
        });
    let handle = handle.expect("starts");
    for _ in 0..2 {
        hears.recv_timeout(Duration::from_secs(30)).expect("it is tried again");
    }
    assert_eq!(handle.stop().expect("no error"), report(1, 1, 0));
}

struct Later<F> {
    notes: Notes<F>,
    is_open: AtomicBool,
}

impl<F: Fn(&str) -> Says + Send + Sync> AsyncSink for Later<F> {
    async fn deliver(&self, batch: &[Message]) -> Delivery {
        let mut is_first = true;
        std::future::poll_fn(|_| {
            if std::mem::take(&mut is_first) && !self.is_open.load(Ordering::Relaxed) {
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
        self.notes.deliver(batch)
    }
}

#[test]
fn a_relay_is_a_future_that_waits_without_polling_and_may_be_dropped_at_any_time() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = sim(&disk, &clock).durability(Durability::Process).open().expect("opens");
    let topic = store.outbox("t").expect("opens");
    let relay = topic.relay(options()).expect("is made");
    let sink = Later {
        notes: notes(|payload| if payload == "c" { Says::Panic } else { Says::Delivered }),
        is_open: AtomicBool::new(true),
    };
    let woken = Arc::<Woken>::default();
    let waker = Waker::from(Arc::clone(&woken));
    let cx = &mut Context::from_waker(&waker);
    {
        let mut works = pin!(relay.run_async(&sink));
        assert!(works.as_mut().poll(cx).is_pending());
        emit_each(&topic, &["a"]);
        assert_eq!(woken.count(), 1);
        assert!(works.as_mut().poll(cx).is_pending());
        assert_eq!(sink.notes.all(), ["a"]);
        sink.is_open.store(false, Ordering::Relaxed);
        emit_each(&topic, &["anna:1", "anna:2"]);
        assert_eq!(woken.count(), 2);
        assert!(works.as_mut().poll(cx).is_pending());
        // Dropped in the middle of a delivery.
    }
    assert_eq!((sink.notes.all().len(), waiting(&topic).len()), (0, 2));
    sink.is_open.store(true, Ordering::Relaxed);
    let mut works = pin!(relay.run_async(&sink));
    assert!(works.as_mut().poll(cx).is_pending());
    assert_eq!(sink.notes.batches(), [["anna:1", "anna:2"]]);
    // What panics is put off, and an alarm is set for it.
    emit_each(&topic, &["c"]);
    assert!(works.as_mut().poll(cx).is_pending());
    assert_eq!((sink.notes.all(), relay.report()), (vec!["c".to_owned()], report(3, 1, 0)));
    let before = woken.count();
    woken.until(before + 1);
    relay.stop();
    assert!(matches!(works.as_mut().poll(cx), Poll::Ready(Ok(done)) if done.delivered == 3));
    assert_eq!(waiting(&topic), ["c"]);
}

/// Stops its relay once it has delivered.
struct Last<'a>(&'a Relay);

impl AsyncSink for Last<'_> {
    async fn deliver(&self, _: &[Message]) -> Delivery {
        self.0.stop();
        Delivery::all()
    }
}

#[test]
fn i6_a_future_of_a_relay_at_disk_has_its_acknowledgements_on_disk_before_it_goes_on() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = sim(&disk, &clock).durability(Durability::Process).open().expect("opens");
    let topic = store.outbox("t").expect("opens");
    emit_each(&topic, &["a", "b"]);
    store.sync().expect("syncs");
    let relay = topic.relay(options().durability(Durability::Disk)).expect("is made");
    let sink = Last(&relay);
    let woken = Arc::<Woken>::default();
    let waker = Waker::from(Arc::clone(&woken));
    let cx = &mut Context::from_waker(&waker);
    let mut works = pin!(relay.run_async(&sink));
    let done = loop {
        let before = woken.count();
        match works.as_mut().poll(cx) {
            Poll::Ready(done) => break done.expect("works"),
            Poll::Pending => woken.until(before + 1),
        }
    };
    assert_eq!(done, report(2, 0, 0));
    let store = sim(&disk.lose_unsynced(), &clock).open().expect("opens");
    assert_eq!(waiting(&store.outbox("t").expect("opens")), [""; 0]);
}
