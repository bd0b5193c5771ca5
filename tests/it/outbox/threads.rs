//! Many threads at once.

use super::*;
use crate::support::place;
use firstseen::Durability;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

const EMITTERS: usize = 8;
const EACH: usize = 400;

/// BEHAVIOURS 60, 61, 63: every message is acknowledged once, positions grow, and what a thread emits one after the other
/// is read in that order.
#[test]
fn messages_of_eight_threads_are_read_and_acknowledged_once_each_in_the_order_of_commits() {
    let (_dir, path) = place();
    let store = Store::builder(&path).durability(Durability::Buffered).open().expect("opens");
    let left = AtomicUsize::new(EMITTERS);
    let mut last_of: BTreeMap<String, usize> = BTreeMap::new();
    let (mut after, mut seen) = (None, 0);
    thread::scope(|scope| {
        for emitter in 0..EMITTERS {
            let (store, left) = (&store, &left);
            scope.spawn(move || {
                let topic = store.outbox("t").expect("opens");
                for n in 0..EACH {
                    // Of different lengths, so that they overtake each other.
                    let messages = vec![format!("{emitter}:{n}"); 1 + n % 3];
                    let messages: Vec<&str> = messages.iter().map(String::as_str).collect();
                    emit(&topic, &format!("{emitter}:{n}"), &messages);
                }
                left.fetch_sub(1, Ordering::Release);
            });
        }
        let topic = store.outbox("t").expect("opens");
        loop {
            let is_over = left.load(Ordering::Acquire) == 0;
            let batch = match after {
                None => topic.read(50),
                Some(after) => topic.read_after(after, 50),
            };
            let batch = batch.expect("reads");
            for message in &batch {
                assert!(after.is_none_or(|after| after < message.position), "positions grow");
                after = Some(message.position);
                let (emitter, n) = payload(message)
                    .split_once(':')
                    .map(|(e, n)| (e.to_owned(), n.parse::<usize>().expect("a number")))
                    .expect("two parts");
                let last = last_of.insert(emitter, n);
                assert!(last.is_none_or(|last| last <= n), "{last:?} before {n}");
            }
            seen += batch.len();
            let removed = match batch.last() {
                Some(last) if seen % 2 == 0 => topic.acknowledge_through(last.position),
                _ => topic.acknowledge(&batch),
            };
            assert_eq!(removed.expect("acknowledges"), batch.len());
            if batch.is_empty() && is_over {
                break;
            }
            if batch.is_empty() {
                topic.wait(Duration::from_millis(10)).expect("waits");
            }
        }
        assert_eq!(topic.pending().expect("answers").count, 0);
    });
    let all: usize = (0..EACH).map(|n| 1 + n % 3).sum();
    assert_eq!(seen, EMITTERS * all);
}

/// A commit of a large message takes its positions first and is entered later than small ones that begin after it. A reader
/// that did not wait for it would pass it over.
#[test]
fn a_message_that_is_slow_to_be_entered_is_not_passed_over() {
    let (_dir, path) = place();
    let store = Store::builder(&path).durability(Durability::Buffered).open().expect("opens");
    let topic = store.outbox("t").expect("opens");
    let (large, is_over) = ("x".repeat(2 << 20), AtomicUsize::new(0));
    let mut small = 0;
    thread::scope(|scope| {
        scope.spawn(|| {
            (0..20).for_each(|n| emit(&topic, &format!("large-{n}"), &[&large]));
            is_over.store(1, Ordering::Release);
        });
        let emitter = scope.spawn(|| {
            let mut count = 0;
            while is_over.load(Ordering::Acquire) == 0 {
                emit(&topic, &format!("small-{count}"), &["s"]);
                count += 1;
            }
            is_over.store(2, Ordering::Release);
            count
        });
        let mut last = 0;
        loop {
            let is_over = is_over.load(Ordering::Acquire) == 2;
            let batch = topic.read_after(last, 100).expect("reads");
            last = batch.last().map_or(last, |message| message.position);
            assert_eq!(topic.acknowledge(&batch).expect("acknowledges"), batch.len());
            small += batch.iter().filter(|message| message.payload == b"s").count();
            if batch.is_empty() && is_over {
                break;
            }
        }
        assert_eq!(small, emitter.join().expect("no panic"));
    });
    assert_eq!(topic.pending().expect("answers").count, 0, "one was passed over");
    assert!(small > 0);
}

/// Who reads what waits for the first time and who removes some of it meanwhile: without the other knowing of it, a removed
/// message would wait for ever.
#[test]
#[allow(clippy::disallowed_methods, reason = "real time passes")]
fn i12_a_prepared_acknowledgement_that_ends_while_the_backlog_is_read_leaves_nothing_behind() {
    let (mut disk, clock, mut store) = super::store();
    let topic = store.outbox("t").expect("opens");
    let mut transaction = store.transaction();
    transaction.claim("all");
    for n in 0..3_000 {
        transaction.emit(&topic, format!("{n}")).expect("collects");
    }
    assert!(transaction.commit().expect("answers").is_committed());
    drop(topic);
    for round in 0..20 {
        let gid = format!("gid-{round}");
        let topic = store.outbox("t").expect("opens");
        let mut transaction = store.transaction();
        transaction.claim(&gid);
        for message in topic.read(3).expect("reads") {
            transaction.acknowledge(&topic, &message).expect("collects");
        }
        assert!(transaction.prepare(&gid).expect("prepares").is_committed());
        drop((topic, store));
        disk = disk.kill();
        store = open(&disk, &clock);
        let topic = thread::scope(|scope| {
            let opens = scope.spawn(|| store.outbox("t").expect("opens"));
            thread::sleep(Duration::from_micros(100 * round));
            store.commit_prepared(&gid).expect("commits");
            opens.join().expect("no panic")
        });
        let pending = topic.pending().expect("answers");
        let read = topic.read(usize::MAX).expect("reads");
        assert_eq!(pending.count, 3_000 - 3 * (round as usize + 1), "round {round}");
        assert_eq!(pending.oldest.map(|oldest| oldest.position), Some(read[0].position));
        assert_eq!(pending.count, read.len());
    }
}
