//! What was taken in one world, and is shown in the one that a promotion has put in its place: positions of a topic, results
//! of windows, owners of a partition.

use super::*;
use crate::support::{AT, Woken};
use firstseen::event_time::windows::{ClosedWindow, WindowOptions, Windows};
use firstseen::event_time::{Event, EventTimeOptions};
use firstseen::offsets::{Owner, Source};
use firstseen::outbox::{Message, Outbox, WaitForMessage};
use firstseen::replay::ReplayScope;
use firstseen::transaction::{CommitOutcome, Rejection};
use firstseen::{Error, Timestamp};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

fn emit(topic: &Outbox, messages: &[&str]) {
    for message in messages {
        let mut transaction = topic.store().transaction();
        let claims = topic.store().namespace("events").expect("opens");
        transaction.claim_in(&claims, format!("{message} at {:?}", topic.pending()));
        transaction.emit(topic, message).expect("a message");
        assert!(transaction.commit().expect("commits").is_committed());
    }
}

fn payloads(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|message| std::str::from_utf8(&message.payload).expect("text")).collect()
}

fn last(messages: &[Message]) -> u64 {
    messages.last().expect("a message").position
}

/// A topic with one message, of which the position is above those of the two inside of a scope.
fn topic_and_scope(store: &Store) -> (Outbox, ReplayScope, Outbox) {
    let topic = store.outbox("mails").expect("opens");
    let scope = store.replay("again").expect("begins");
    let inside = scope.outbox("mails").expect("opens");
    emit(&inside, &["a", "b"]);
    emit(&topic, &["old"]);
    (topic, scope, inside)
}

#[test]
fn a_position_from_before_a_promotion_acknowledges_nothing_that_nobody_has_read() {
    let store = World::new().open();
    let (topic, scope, inside) = topic_and_scope(&store);
    let unread = store.outbox("mails").expect("opens");
    let position = last(&topic.read(10).expect("reads"));
    assert!(scope.promote().expect("promotes"));
    for handle in [&topic, &topic.clone(), &unread] {
        let refused = handle.acknowledge_through(position);
        assert!(matches!(refused, Err(Error::Replaced)), "{refused:?}");
    }
    let read = topic.clone().read(1).expect("reads");
    assert_eq!(payloads(&read), ["a"], "nothing was removed");
    assert_eq!(topic.acknowledge_through(last(&read)).expect("it has read there"), 1);
    assert!(unread.acknowledge_through(position).is_err(), "it has not");
    assert_eq!(inside.acknowledge_through(u64::MAX).expect("leads to the same as before"), 1);
    emit(&topic, &["c"]);
    let opened_since = store.outbox("mails").expect("opens");
    assert_eq!(opened_since.acknowledge_through(u64::MAX).expect("takes any position"), 1);
}

#[test]
fn a_position_from_before_a_promotion_passes_over_no_message_and_waits_for_none_that_is_there() {
    let store = World::new().open();
    let (topic, scope, _) = topic_and_scope(&store);
    let position = last(&topic.read(10).expect("reads"));
    let woken = Arc::<Woken>::default();
    let waker = Waker::from(Arc::clone(&woken));
    let mut waits = pin!(topic.wait_after_async(position));
    let polled = |waits: Pin<&mut WaitForMessage>| waits.poll(&mut Context::from_waker(&waker));
    assert!(polled(waits.as_mut()).is_pending());
    assert!(scope.promote().expect("promotes"));
    assert_eq!(woken.count(), 1);
    assert!(matches!(polled(waits.as_mut()), Poll::Ready(Ok(()))));
    assert!(topic.wait_after(position, Duration::ZERO).expect("waits"));
    let read = topic.read_after(position, 1).expect("reads");
    assert_eq!(payloads(&read), ["a"]);
    let position = last(&read);
    let read = topic.read_after(position, 10).expect("reads");
    assert_eq!(payloads(&read), ["b"], "a position of what stands there now counts");
    let position = last(&read);
    assert!(!topic.wait_after(position, Duration::ZERO).expect("waits"));
    assert_eq!(topic.read_after(position, 10).expect("reads"), []);
}

/// Who reads nothing has heard of no position there: a message may still come below the one from before.
#[test]
fn reading_nothing_of_what_was_promoted_makes_no_position_from_before_good() {
    let store = World::new().open();
    let (topic, scope, inside) = topic_and_scope(&store);
    let position = last(&topic.read(10).expect("reads"));
    assert_eq!(inside.acknowledge_through(u64::MAX).expect("acknowledges"), 2);
    assert!(scope.promote().expect("promotes"));
    assert_eq!(topic.read_after(position, 10).expect("reads"), []);
    assert_eq!(topic.read(10).expect("reads"), []);
    emit(&topic, &["c"]);
    assert!(matches!(topic.acknowledge_through(u64::MAX), Err(Error::Replaced)));
    assert_eq!(payloads(&topic.read_after(u64::MAX, 10).expect("reads")), ["c"]);
    assert_eq!(topic.acknowledge_through(u64::MAX).expect("acknowledges"), 1);
}

/// How many messages there are outside and inside. So many outside are read in several steps.
const OUTSIDE: usize = 10_000;
const INSIDE: usize = 30;

fn emit_many(topic: &Outbox, messages: usize, what: &str) {
    let mut transaction = topic.store().transaction();
    let claims = topic.store().namespace("events").expect("opens");
    transaction.claim_in(&claims, what);
    for _ in 0..messages {
        transaction.emit(topic, what).expect("a message");
    }
    assert!(transaction.commit().expect("commits").is_committed());
}

/// Reads again and again, until something has been promoted. Returns what was read last, and what came after that.
fn read_until_replaced(topic: &Outbox) -> [Vec<Message>; 2] {
    loop {
        let read = topic.read(OUTSIDE).expect("reads");
        let position = read.last().map_or(0, |message| message.position);
        let rest = topic.read_after(position, OUTSIDE).expect("reads");
        if (read.len(), rest.len()) != (OUTSIDE, 0) {
            return [read, rest];
        }
    }
}

#[test]
fn who_reads_a_topic_during_a_promotion_passes_over_nothing_of_what_was_promoted() {
    let store = Store::builder(AT).disk(SimDisk::new()).open().expect("opens");
    let topic = store.outbox("mails").expect("opens");
    for round in 0..5 {
        let scope = store.replay(&format!("{round}")).expect("begins");
        let [old, new] = ["old", "new"].map(|what| format!("{what} {round}"));
        emit_many(&scope.outbox("mails").expect("opens"), INSIDE, &new);
        emit_many(&topic, OUTSIDE, &old);
        let (is_read, hears) = channel();
        let both = std::thread::scope(|threads| {
            let reads = threads.spawn(|| {
                assert_eq!(topic.read(OUTSIDE).expect("reads").len(), OUTSIDE);
                is_read.send(()).expect("listens");
                read_until_replaced(&topic)
            });
            hears.recv().expect("it reads");
            assert!(scope.promote().expect("promotes"));
            reads.join().expect("ends")
        });
        let of = |what: &str| {
            let is_it = |message: &&Message| message.payload == what.as_bytes();
            both.iter().flatten().filter(is_it).count()
        };
        assert_eq!(of(&new), INSIDE, "{} of before in round {round}", of(&old));
        assert_eq!(both.concat().len(), of(&old) + INSIDE);
        assert_eq!(topic.acknowledge_through(u64::MAX).expect("has read there"), INSIDE);
    }
}

fn add(windows: &Windows<u64>, id: &str, second: u64, n: u64) {
    let time = Timestamp::from_millis(second * 1_000);
    let event = Event { id: id.as_bytes(), source: "a", time };
    assert!(windows.fold(event, "key", |sum| *sum += n).expect("folds").is_first_seen());
}

fn sums(closed: &[ClosedWindow<u64>]) -> Vec<u64> {
    closed.iter().map(|closed| closed.aggregate).collect()
}

#[test]
fn a_result_from_before_a_promotion_acknowledges_none_of_what_was_promoted() {
    let store = World::new().open();
    let options = EventTimeOptions::new(Duration::from_secs(60));
    let window = WindowOptions::tumbling(Duration::from_secs(10));
    let scope = store.replay("again").expect("begins");
    let outside = store.event_time("clicks", options.clone()).expect("opens");
    let inside = scope.event_time("clicks", options).expect("opens");
    let [outside, inside] =
        [outside, inside].map(|events| events.windows::<u64>("sums", window).expect("opens"));
    for (windows, n) in [(&outside, 1), (&inside, 100)] {
        add(windows, "x", 1, n);
        add(windows, "clock", 90, 0);
    }
    let (before, replayed) = (outside.take_closed(10).expect("takes"), inside.take_closed(10));
    let replayed = replayed.expect("takes");
    assert_eq!((sums(&before), sums(&replayed)), (vec![1], vec![100]));
    assert_eq!(before[0].revision, replayed[0].revision);
    assert!(scope.promote().expect("promotes"));
    outside.acknowledge(&before).expect("is no error");
    assert_eq!(outside.take_closed(10).expect("takes"), replayed, "nobody has dealt with it");
    outside.acknowledge(&replayed).expect("acknowledges what was read inside");
    assert_eq!(outside.take_closed(10).expect("takes"), []);
}

/// Returns why a commit as this owner was rejected; nothing if it was made.
fn advance(store: &Store, owner: &Owner, next: u64) -> Vec<Rejection> {
    let mut transaction = store.transaction();
    transaction.advance_as(owner, next);
    match transaction.commit().expect("answers") {
        CommitOutcome::Rejected(reasons) => reasons,
        _ => Vec::new(),
    }
}

#[test]
fn i8_an_owner_from_before_a_promotion_is_fenced() {
    let store = World::new().open();
    let orders = store.source("orders").expect("opens");
    let scope = store.replay("again").expect("begins");
    let inside = scope.source("orders").expect("opens");
    // The same epochs outside and inside.
    let own = |source: &Source| {
        let as_seven = source.own_as(1, 7).expect("takes over").expect("is not later");
        [source.own(0).expect("takes over"), as_seven]
    };
    let (before, replaying) = (own(&orders), own(&inside));
    for owner in &before {
        assert!(advance(&store, owner, 100).is_empty());
    }
    for owner in &replaying {
        assert!(advance(&store, owner, 90).is_empty());
    }
    assert!(scope.promote().expect("promotes"));
    for (before, replaying) in before.iter().zip(&replaying) {
        assert_eq!(before.epoch(), replaying.epoch());
        for next in [50, 101] {
            let reasons = advance(&store, before, next);
            assert!(
                matches!(&reasons[..], [Rejection::Fenced { stored, .. }] if stored.next == 90),
                "{reasons:?}"
            );
        }
        assert!(advance(&store, replaying, 91).is_empty(), "it goes on where the replay was");
        let again = orders.own(before.partition()).expect("takes over");
        assert_eq!((again.next(), again.epoch()), (91, replaying.epoch() + 1));
        assert!(advance(&store, &again, 92).is_empty());
        assert!(
            matches!(advance(&store, replaying, 93)[..], [Rejection::Fenced { .. }]),
            "taken over"
        );
    }
}

/// Without an owner nothing else tells that it was read in what is replaced.
#[test]
fn an_offset_that_was_advanced_before_a_promotion_is_not_committed_after_it() {
    let store = World::new().open();
    let orders = store.source("orders").expect("opens");
    let scope = store.replay("again").expect("begins");
    let inside = scope.source("orders").expect("opens");
    let mut transaction = store.transaction();
    transaction.advance(&inside, 0, 90);
    assert!(transaction.commit().expect("commits").is_committed());

    let (mut before, mut across) = (store.transaction(), store.transaction());
    before.advance(&orders, 0, 100);
    across.advance(&orders, 0, 100);
    assert!(scope.promote().expect("promotes"));
    across.advance(&orders, 0, 101);
    for transaction in [before, across] {
        let refused =
            transaction.commit().expect_err("it would pass over what the replay has not read");
        assert!(matches!(refused, Error::Replaced), "{refused}");
    }
    assert_eq!(orders.position(0).expect("reads").map(|at| at.next), Some(90));
}
