//! All that a store keeps comes back.

use crate::snapshot::{Place, claims_of, new_store, restored};
use crate::support::{assert_sound, settle};
use firstseen::event_time::{EventClaim, EventTimeOptions};
use firstseen::ledger::{BeginOptions, Failure, Ledger, State};
use firstseen::transaction::EndOutcome;
use firstseen::{NamespaceOptions, PreparedState, Store, Timestamp, hours};
use std::ops::ControlFlow;

fn ledger(store: &Store) -> Ledger {
    store.ledger("payments").expect("opens")
}

fn fill(store: &Store, round: u64) {
    let options = NamespaceOptions::new().ttl(hours(3)).sliding(true);
    let other = store.namespace_with("other", options).expect("opens");
    let ledger = ledger(store);
    for n in 0..40 {
        let id = format!("{round}-{n}");
        assert!(other.claim(&id).expect("claims").is_first_seen());
        let mut transaction = store.transaction();
        transaction.claim(&id);
        let table = store.table::<u64>("sums").expect("opens");
        transaction.put(&table, format!("key-{n}"), &(round * 100 + n)).expect("puts");
        let topic = store.outbox("out").expect("opens");
        transaction.emit_keyed(&topic, &id, b"key").expect("emits");
        transaction.advance(&store.source("in").expect("opens"), 3, round * 40 + n + 1);
        assert!(transaction.commit().expect("answers").is_committed());
        let begin = ledger.begin_with(&id, BeginOptions::new().payload(vec![9; 50]));
        let attempt = begin.expect("begins").started().expect("starts");
        match n % 3 {
            0 => attempt.complete(id.as_bytes()).expect("completes"),
            1 => attempt.fail(Failure::last("no")).expect("fails"),
            _ => attempt.release().expect("releases"),
        }
    }
    assert!(store.forget(format!("{round}-7")).expect("forgets"));
    let mut transaction = store.transaction();
    transaction.claim(format!("prepared-{round}"));
    let table = store.table::<u64>("sums").expect("opens");
    transaction.put(&table, format!("prepared-{round}"), &1).expect("puts");
    let prepared = transaction.prepare(format!("gid-{round}")).expect("prepares");
    assert!(prepared.is_committed(), "{prepared:?}");
}

/// All of it, as lines.
fn all_of(store: &Store) -> Vec<String> {
    let mut lines = claims_of(store);
    let table = store.table::<u64>("sums").expect("opens");
    table
        .scan(|key, entry| {
            lines.push(format!("{key:?} {:?}", entry.expect("reads")));
            ControlFlow::Continue(())
        })
        .expect("scans");
    let topic = store.outbox("out").expect("opens");
    for message in topic.read(1_000).expect("reads") {
        lines.push(format!("{message:?} {:?} {:?}", message.key, message.payload));
    }
    let positions = store.source("in").expect("opens").positions().expect("reads");
    lines.push(format!("{positions:?}"));
    ledger(store)
        .list(|_, record| {
            let record = record.expect("reads");
            let times = (record.first_begun, record.started, record.ends);
            let begun = (&record.worker, record.fingerprint, record.has_payload);
            let payload = ledger(store).payload(&record.id).expect("reads");
            lines.push(format!("{record:?} {times:?} {begun:?} {payload:?}"));
            lines.push(format!("{:?} {:?}", record.result(), record.history));
            ControlFlow::Continue(())
        })
        .expect("lists");
    lines.push(format!("{:?}", store.prepared().expect("lists")));
    lines.push(format!("{:?}", store.replay("again").expect("opens").name()));
    lines
}

#[test]
fn i13_i15_claims_ledgers_tables_messages_offsets_and_prepared_transactions_come_back() {
    let (_disk, clock, store) = new_store();
    let place = Place::default();
    for round in 0..4 {
        fill(&store, round);
        if round == 1 {
            store.freeze();
            settle(&store);
        }
    }
    let events = store.event_time("clicks", EventTimeOptions::new(hours(1))).expect("opens");
    let at = |ms: u64| Timestamp::from_millis(1_700_000_000_000 + ms);
    assert!(matches!(
        events.claim_at("a", "clicks", at(0)).expect("claims"),
        EventClaim::FirstSeen
    ));
    let scope = store.replay("again").expect("begins");
    let inside = scope.namespace("other").expect("opens");
    assert!(inside.claim("0-0").expect("claims").is_first_seen(), "it is another world");
    let before = all_of(&store);
    assert!(before.len() > 600, "{}", before.len());
    store.snapshot(&place).expect("a snapshot");
    // None of this is in it.
    fill(&store, 9);
    assert!(matches!(store.commit_prepared("gid-1").expect("ends"), EndOutcome::Done));
    let copy = restored(&place, &clock);
    assert_eq!(all_of(&copy), before);
    assert_sound(&copy);
    // And it goes on.
    assert_eq!(copy.prepared_state("gid-1").expect("reads"), Some(PreparedState::InDoubt));
    let in_doubt = copy.claim("prepared-1").expect_err("a prepared transaction holds it");
    assert!(matches!(in_doubt, firstseen::Error::InDoubt), "{in_doubt}");
    assert!(matches!(copy.rollback_prepared("gid-1").expect("ends"), EndOutcome::Done));
    assert!(copy.claim("prepared-1").expect("claims").is_first_seen());
    let events = copy.event_time("clicks", EventTimeOptions::new(hours(1))).expect("opens");
    assert!(matches!(
        events.claim_at("a", "clicks", at(5)).expect("claims"),
        EventClaim::Duplicate { .. }
    ));
    let inside = copy.replay("again").expect("opens").namespace("other").expect("opens");
    assert!(inside.claim("0-0").expect("claims").is_duplicate());
    let record = ledger(&copy).get("0-0").expect("reads").expect("is there");
    assert!(matches!(record.state, State::Completed { .. }));
    fill(&copy, 9);
}
