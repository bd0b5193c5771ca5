//! Waiting for a message.
#![allow(clippy::disallowed_methods, reason = "real time passes in these tests")]

use super::*;
use crate::support::{Woken, place};
use firstseen::ErrorKind;
use firstseen::outbox::WaitForMessage;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(60);

fn poll(future: &mut WaitForMessage, woken: &Arc<Woken>) -> Poll<firstseen::Result<()>> {
    let waker = Waker::from(Arc::clone(woken));
    std::pin::Pin::new(future).poll(&mut Context::from_waker(&waker))
}

#[test]
fn i12_who_waits_for_a_message_is_woken_by_its_commit_or_its_deadline_or_the_end_of_the_store() {
    let (_dir, path) = place();
    let store = Store::open(&path).expect("opens");
    let topic = store.outbox("t").expect("opens");
    let began = Instant::now();
    assert!(!topic.wait(Duration::from_millis(20)).expect("waits"));
    assert!(began.elapsed() >= Duration::from_millis(20));
    thread::scope(|scope| {
        let waits = scope.spawn(|| topic.wait(LONG).expect("waits"));
        thread::sleep(Duration::from_millis(20));
        emit_each(&topic, &["a"]);
        assert!(waits.join().expect("no panic"));
    });
    let last = topic.read(1).expect("reads")[0].position;
    assert!(topic.wait(LONG).expect("one waits"));
    assert!(!topic.wait_after(last, Duration::from_millis(1)).expect("waits"));
    thread::scope(|scope| {
        let waits = scope.spawn(|| topic.wait_after(last, LONG).expect("waits"));
        thread::sleep(Duration::from_millis(20));
        emit_each(&topic, &["b"]);
        assert!(waits.join().expect("no panic"));
    });
    assert!(began.elapsed() < LONG / 2);
    thread::scope(|scope| {
        let waits = scope.spawn(|| topic.wait_after(u64::MAX, LONG).expect_err("is closed"));
        thread::sleep(Duration::from_millis(20));
        store.clone().close().expect("closes");
        assert_eq!(waits.join().expect("no panic").kind(), ErrorKind::Reopen);
    });
    assert!(began.elapsed() < LONG / 2);
}

/// Of a thousand topics, each with somebody who waits, a commit wakes those of its own.
#[test]
fn a_commit_wakes_who_waits_for_its_topics_and_nobody_else() {
    let (_, _, store) = store();
    let topics: Vec<Outbox> =
        (0..1_000).map(|n| store.outbox(&format!("t{n}")).expect("opens")).collect();
    let woken: Vec<Arc<Woken>> = topics.iter().map(|_| Arc::default()).collect();
    let mut futures: Vec<WaitForMessage> = topics.iter().map(Outbox::wait_async).collect();
    for (future, woken) in futures.iter_mut().zip(&woken) {
        assert!(poll(future, woken).is_pending());
    }
    let mut transaction = store.transaction();
    transaction.claim("one").emit(&topics[7], "a").expect("collects");
    transaction.emit(&topics[900], "b").expect("collects");
    assert!(transaction.commit().expect("answers").is_committed());
    for (n, (future, woken)) in futures.iter_mut().zip(&woken).enumerate() {
        let is_its = n == 7 || n == 900;
        assert_eq!(woken.count(), usize::from(is_its), "topic {n}");
        assert_eq!(poll(future, woken).is_ready(), is_its, "topic {n}");
    }
    // A claim and an acknowledgement wake nobody.
    assert!(store.claim("two").expect("claims").is_first_seen());
    let first = &topics[7];
    let mut later = first.wait_after_async(first.read(1).expect("reads")[0].position);
    let heard = Arc::<Woken>::default();
    assert!(poll(&mut later, &heard).is_pending());
    first.acknowledge_through(u64::MAX).expect("acknowledges");
    assert_eq!(heard.count(), 0);
    emit_each(first, &["c"]);
    assert_eq!(heard.count(), 1);
    assert!(poll(&mut later, &heard).is_ready());
}
