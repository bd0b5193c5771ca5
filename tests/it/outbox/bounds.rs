//! The bound on what waits.

use super::*;
use crate::support::place;
use firstseen::outbox::{OnFull, OutboxOptions};
use firstseen::{Claim, Durability, ErrorKind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

fn bounded(store: &Store, pending_max: usize) -> Outbox {
    let options = OutboxOptions::new().pending_max(pending_max);
    store.outbox_with("t", options).expect("opens")
}

fn is_full(reasons: &[Rejection], waits: usize) -> bool {
    matches!(reasons, [Rejection::OutboxFull { topic, pending }] if topic == "t" && *pending == waits)
}

#[test]
fn a_commit_for_which_a_topic_has_no_room_is_rejected_with_all_reasons_and_leaves_nothing() {
    let (_, _, store) = store();
    let (topic, other) = (bounded(&store, 3), store.outbox("other").expect("opens"));
    emit(&topic, "one", &["a", "b"]);
    let reasons = rejections(try_emit(&topic, "two", &["c", "d"]).expect("answers"));
    assert!(is_full(&reasons, 2), "{reasons:?}");
    assert!(!store.contains("two").expect("reads"));
    let reasons = rejections(try_emit(&topic, "one", &["a", "b"]).expect("answers"));
    let kinds = reasons.iter().map(|reason| match reason {
        Rejection::Duplicate(_) => 'd',
        Rejection::DuplicateMessage { .. } => 'm',
        Rejection::OutboxFull { .. } => 'f',
        other => panic!("{other:?}"),
    });
    assert_eq!(kinds.collect::<String>(), "dmmf");
    emit(&topic, "two", &["c"]);
    emit(&other, "elsewhere", &["x"]);
    let reasons = rejections(try_emit(&topic, "three", &["d"]).expect("answers"));
    assert!(is_full(&reasons, 3), "{reasons:?}");
    topic.acknowledge(&topic.read(1).expect("reads")).expect("acknowledges");
    emit(&topic, "three", &["d"]);
    assert_eq!(waiting(&topic), ["b", "c", "d"]);
    let error =
        store.outbox_with("t", OutboxOptions::new().pending_max(0)).expect_err("makes no sense");
    assert_eq!(error.kind(), ErrorKind::FixCall);
}

/// A commit that is not made, whatever the reason, takes no room.
#[test]
fn what_was_admitted_is_given_back_if_the_commit_is_not_made() {
    let (disk, _, store) = store();
    let topic = bounded(&store, 2);
    emit(&topic, "one", &["a"]);
    for round in 0..5 {
        let gid = format!("gid-{round}");
        rejections(try_emit(&topic, "one", &["b"]).expect("answers"));
        let mut transaction = store.transaction();
        transaction.claim("x").claim("x").emit(&topic, "b").expect("collects");
        assert_eq!(transaction.commit().expect_err("claimed twice").kind(), ErrorKind::FixCall);
        let mut transaction = store.transaction();
        transaction.skip_duplicates().claim("one").emit(&topic, "b").expect("collects");
        assert!(transaction.commit().expect("answers").is_committed());
        let mut transaction = store.transaction();
        transaction.claim("prepared").emit(&topic, "c").expect("collects");
        assert!(transaction.prepare(&gid).expect("prepares").is_committed());
        store.rollback_prepared(&gid).expect("rolls back");
        disk.set_capacity(Some(disk.used()));
        let big = vec![7; 300 << 10];
        let mut transaction = store.transaction();
        transaction.claim("y").emit(&topic, big).expect("collects");
        assert_eq!(transaction.commit().expect_err("full").kind(), ErrorKind::StorageFull);
        disk.set_capacity(None);
    }
    emit(&topic, "two", &["b"]);
    assert!(is_full(&rejections(try_emit(&topic, "three", &["c"]).expect("answers")), 2));
    assert_eq!(waiting(&topic), ["a", "b"]);
}

#[test]
fn a_bound_is_exact_over_threads_that_emit_at_once() {
    let (_dir, path) = place();
    let store = Store::builder(&path).durability(Durability::Buffered).open().expect("opens");
    let most = 500;
    let made = AtomicUsize::new(0);
    thread::scope(|scope| {
        for worker in 0..8 {
            let (store, made) = (&store, &made);
            scope.spawn(move || {
                let topic = bounded(store, most);
                for n in 0..200 {
                    let event = format!("{worker}-{n}");
                    if try_emit(&topic, &event, &["m"]).expect("answers").is_committed() {
                        made.fetch_add(1, Ordering::Relaxed);
                    }
                    assert!(topic.pending().expect("answers").count <= most);
                }
            });
        }
    });
    let topic = bounded(&store, most);
    // Not one less: a commit is refused only while so many wait or are on their way, and all of those are made.
    assert_eq!((made.into_inner(), topic.pending().expect("answers").count), (most, most));
}

#[test]
#[allow(clippy::disallowed_methods, reason = "real time passes")]
fn a_commit_waits_for_room_as_long_as_it_was_told_and_is_woken_by_an_acknowledgement() {
    let (_dir, path) = place();
    let store = Store::open(&path).expect("opens");
    let waits = |most| {
        let options = OutboxOptions::new().pending_max(1).on_full(OnFull::Wait(most));
        store.outbox_with("t", options).expect("opens")
    };
    let (short, long) = (waits(Duration::from_millis(30)), waits(Duration::from_secs(60)));
    emit(&short, "one", &["a"]);
    let began = Instant::now();
    assert!(is_full(&rejections(try_emit(&short, "two", &["b"]).expect("answers")), 1));
    assert!(began.elapsed() >= Duration::from_millis(30));
    let began = Instant::now();
    let reasons = rejections(try_emit(&long, "two", &["b", "c"]).expect("answers"));
    assert!(is_full(&reasons, 1), "there is never room for two: {reasons:?}");
    thread::scope(|scope| {
        let emits = scope.spawn(|| emit(&long, "two", &["b"]));
        // Others go on meanwhile.
        thread::sleep(Duration::from_millis(30));
        assert_eq!(store.claim("other").expect("claims"), Claim::FirstSeen);
        assert_eq!(short.acknowledge_through(u64::MAX).expect("acknowledges"), 1);
        emits.join().expect("no panic");
    });
    assert!(began.elapsed() < Duration::from_secs(30));
    assert_eq!(waiting(&short), ["b"]);
    // Who waits hears that the store is closed.
    thread::scope(|scope| {
        let emits = scope.spawn(|| try_emit(&long, "three", &["c"]).expect_err("is closed"));
        thread::sleep(Duration::from_millis(30));
        store.clone().close().expect("closes");
        assert_eq!(emits.join().expect("no panic").kind(), ErrorKind::Reopen);
    });
}
