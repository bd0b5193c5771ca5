//! Duplicates that are skipped, and what goes with them.
#![allow(clippy::disallowed_methods, reason = "the length of a wait is measured")]

use super::*;
use firstseen::hours;
use firstseen::outbox::{OnFull, Outbox, OutboxOptions};
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Instant;

fn payloads(topic: &Outbox) -> Vec<String> {
    let read = topic.read(10).expect("reads");
    read.iter().map(|message| String::from_utf8_lossy(&message.payload).into_owned()).collect()
}

/// The first of two messages with one id is left out with its claim: then the second is none too many.
#[test]
fn a_message_that_is_left_out_with_its_claim_keeps_no_other_of_its_id_out() {
    let store = open(&SimDisk::new(), &clock());
    let topic = store.outbox("mails").expect("opens");
    let options = EventTimeOptions::new(hours(1));
    let events = store.event_time("events", options).expect("opens");
    let at = Timestamp::from_millis(1_000_000);
    _ = store.claim("old").expect("claims");
    _ = events.claim_at("old", "source", at).expect("claims");

    let mut transaction = store.transaction();
    transaction.skip_duplicates();
    transaction.claim("old").emit_as(&topic, "m1", "", "of a duplicate").expect("a message");
    transaction.claim("new").emit_as(&topic, "m1", "", "of a new one").expect("a message");
    transaction.claim_at(&events, "old", "source", at);
    transaction.emit_as(&topic, "m2", "", "of a known event").expect("a message");
    transaction.claim_at(&events, "new", "source", at);
    transaction.emit_as(&topic, "m2", "", "of a new event").expect("a message");
    // A real repetition still is one.
    transaction.emit_as(&topic, "m2", "", "once more").expect("a message");
    let CommitOutcome::CommittedWithout(skipped) = transaction.commit().expect("commits") else {
        panic!("two duplicates and a repetition are skipped");
    };
    assert_eq!(skipped.len(), 3, "{skipped:?}");
    assert_eq!(payloads(&topic), ["of a new one", "of a new event"]);
}

/// A duplicate was read, too: its message must not come for ever.
#[test]
fn what_a_skipped_duplicate_acknowledges_leaves_its_topic() {
    let store = open(&SimDisk::new(), &clock());
    let (from, to) = (store.outbox("from").expect("opens"), store.outbox("to").expect("opens"));
    let seen = store.namespace("step").expect("opens");
    let mut transaction = store.transaction();
    transaction.claim("event").emit(&from, "x").expect("a message");
    assert!(transaction.commit().expect("commits").is_committed());
    let message = from.read(1).expect("reads").remove(0);
    _ = seen.claim(message.id.as_bytes()).expect("claims");

    let mut transaction = store.transaction();
    transaction.skip_duplicates().claim_in(&seen, message.id.as_bytes());
    transaction.acknowledge(&from, &message).expect("ours").emit(&to, "y").expect("a message");
    let outcome = transaction.commit().expect("commits");
    assert!(matches!(outcome, CommitOutcome::CommittedWithout(_)), "{outcome:?}");
    assert!(payloads(&from).is_empty(), "it has left");
    assert!(payloads(&to).is_empty(), "it was skipped");
}

/// Nothing waits for what it does not need (I12).
#[test]
fn i12_duplicates_that_are_skipped_wait_for_no_room() {
    let store = open(&SimDisk::new(), &clock());
    let long = Duration::from_secs(60);
    let options = OutboxOptions::new().pending_max(1).on_full(OnFull::Wait(long));
    let topic = store.outbox_with("mails", options).expect("opens");
    let filled = || {
        let mut transaction = store.transaction();
        transaction.skip_duplicates().claim("event").emit(&topic, "x").expect("a message");
        transaction
    };
    assert!(matches!(filled().commit().expect("commits"), CommitOutcome::Committed));
    let began = Instant::now();
    let outcome = filled().commit().expect("commits");
    assert!(matches!(outcome, CommitOutcome::CommittedWithout(_)), "{outcome:?}");
    assert!(began.elapsed() < long / 2, "it has waited");

    let transaction = filled();
    let mut commit = pin!(transaction.commit_async());
    assert!(commit.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
}
