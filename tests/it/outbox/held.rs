//! Messages that a prepared transaction acknowledges.

use super::*;
use firstseen::ErrorKind;
use firstseen::ledger::Backoff;
use firstseen::outbox::{Delivery, RelayOptions};
use firstseen::transaction::EndOutcome;
use std::sync::Mutex;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// Prepares a transaction that acknowledges the first message that waits.
fn hold_first(topic: &Outbox, gid: &str) {
    let first = topic.read(1).expect("reads").remove(0);
    let mut transaction = store_of(topic).transaction();
    transaction.claim(gid).acknowledge(topic, &first).expect("collects");
    assert!(transaction.prepare(gid).expect("prepares").is_committed());
}

#[test]
fn a_prepared_acknowledgement_holds_up_the_key_of_its_message_and_nothing_else_in_a_relay() {
    let (_, clock, store) = store();
    let topic = store.outbox("t").expect("opens");
    emit_each(&topic, &["anna:1", "bert:1", "anna:2", "1", "never"]);
    hold_first(&topic, "held");
    let options = RelayOptions::new().backoff(Backoff::constant(SECOND));
    let relay = topic.relay(options).expect("is made");
    let seen = Mutex::new(Vec::new());
    let sink = |batch: &[Message]| {
        let batch = payloads(batch);
        let refused = batch.iter().position(|payload| payload == "never");
        seen.lock().expect("no panic").extend(batch);
        refused.into_iter().fold(Delivery::all(), |delivery, n| delivery.refuse(n, "never"))
    };
    let seen = || std::mem::take(&mut *seen.lock().expect("no panic"));
    let done = relay.drain(&sink).expect("goes on");
    assert_eq!(seen(), ["anna:1", "bert:1", "anna:2", "1", "never"]);
    assert_eq!((done.delivered, done.retried, done.dead), (2, 1, 1));
    // In the order of the key, and only after the pause.
    assert_eq!(waiting(&topic), ["anna:1", "anna:2"]);
    emit_each(&topic, &["bert:2"]);
    relay.drain(&sink).expect("goes on");
    assert_eq!(seen(), ["bert:2"]);
    clock.advance(SECOND);
    relay.drain(&sink).expect("goes on");
    assert_eq!(seen(), ["anna:1"]);
    assert_eq!(store.commit_prepared("held").expect("commits"), EndOutcome::Done);
    clock.advance(SECOND * 2);
    let done = relay.drain(&sink).expect("works");
    assert_eq!((seen(), done.delivered), (vec!["anna:2".to_owned()], 4));
    assert_eq!(waiting(&topic), [""; 0]);
}

#[test]
fn a_prepared_acknowledgement_keeps_nobody_from_acknowledging_the_other_messages() {
    let (_, _, store) = store();
    let topic = store.outbox("t").expect("opens");
    emit_each(&topic, &["a", "b", "c", "d"]);
    hold_first(&topic, "held");
    let all = topic.read(10).expect("reads");
    let error = topic.acknowledge(&all[..2]).expect_err("one is held");
    assert_eq!(error.kind(), ErrorKind::Retry, "{error}");
    assert_eq!(waiting(&topic), ["a", "c", "d"]);
    let error = topic.acknowledge_through(all[2].position).expect_err("one is held");
    assert_eq!(error.kind(), ErrorKind::Retry, "{error}");
    assert_eq!(waiting(&topic), ["a", "d"]);
    assert_eq!(store.rollback_prepared("held").expect("rolls back"), EndOutcome::Done);
    assert_eq!(topic.acknowledge(&all).expect("acknowledges"), 2);
    assert_eq!(waiting(&topic), [""; 0]);
}
