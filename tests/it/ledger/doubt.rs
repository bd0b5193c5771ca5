//! What becomes of an attempt whose last word the store has not answered: docs/LEDGER.md, section 3.

use super::*;
use crate::support::settle;
use firstseen::Reserve;
use firstseen::ledger::{AttemptError, Failure, State};
use firstseen::transaction::{CommitOutcome, Rejection, Transaction};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
}

/// Says how the work of an attempt went. Returns whether the store has answered that it knows.
type Way = fn(&Store, &Attempt) -> bool;

fn commit(store: &Store, plan: impl FnOnce(&mut Transaction)) -> bool {
    let mut transaction = store.transaction();
    plan(&mut transaction);
    transaction.commit().is_ok_and(|outcome| outcome.is_committed())
}

fn commit_async(store: &Store, plan: impl FnOnce(&mut Transaction)) -> bool {
    let mut transaction = store.transaction();
    plan(&mut transaction);
    block_on(transaction.commit_async()).is_ok_and(|outcome| outcome.is_committed())
}

fn prepare(store: &Store, plan: impl FnOnce(&mut Transaction)) -> bool {
    let mut transaction = store.transaction();
    plan(&mut transaction);
    transaction.prepare("by this attempt").is_ok_and(|outcome| outcome.is_committed())
}

const RESULT: [u8; 8] = [1; 8];

const COMPLETIONS: [(&str, Way); 5] = [
    ("complete", |_, attempt| attempt.complete(RESULT).is_ok()),
    ("complete_async", |_, attempt| block_on(attempt.complete_async(RESULT)).is_ok()),
    ("commit", |store, attempt| commit(store, |t| _ = t.complete(attempt, RESULT))),
    ("commit_async", |store, attempt| commit_async(store, |t| _ = t.complete(attempt, RESULT))),
    ("prepare", |store, attempt| prepare(store, |t| _ = t.complete(attempt, RESULT))),
];

const OTHERS: [(&str, Way); 10] = [
    ("fail", |_, attempt| attempt.fail(Failure::retry("no")).is_ok()),
    ("fail_async", |_, attempt| block_on(attempt.fail_async(Failure::retry("no"))).is_ok()),
    ("release", |_, attempt| attempt.release().is_ok()),
    ("release_async", |_, attempt| block_on(attempt.release_async()).is_ok()),
    ("commit of a failure", |store, attempt| {
        commit(store, |t| _ = t.fail(attempt, Failure::retry("no")).expect("is collected"))
    }),
    ("commit of a release", |store, attempt| commit(store, |t| _ = t.release(attempt))),
    ("stage", |_, attempt| attempt.stage("one", || Ok::<_, Failure>(1_u32)).is_ok()),
    ("stage_async", |_, attempt| {
        block_on(attempt.stage_async("one", || async { Ok::<_, Failure>(1_u32) })).is_ok()
    }),
    ("cursor", |_, attempt| {
        let scan = attempt.stage_with_cursor("one", |cursor| {
            cursor.advance(1_u32)?;
            Ok::<_, Failure>(1_u32)
        });
        scan.is_ok()
    }),
    ("commit of a stage", |store, attempt| {
        commit(store, |t| _ = t.save_stage(attempt, "one", &1_u32).expect("is collected"))
    }),
];

fn is_in_progress(ledger: &Ledger) -> bool {
    matches!(begin(ledger, "a"), Begin::InProgress(_))
}

/// The attempt was dropped in doubt: nobody does its work again before its lease has ended.
fn assert_in_doubt(world: &World, ledger: &Ledger, name: &str) {
    assert!(is_in_progress(ledger), "{name}: its drop has said that it failed");
    world.pass(LEASE);
    started(ledger, "a").complete(&RESULT[..4]).expect("completes");
}

#[test]
fn i8_an_attempt_whose_last_word_is_not_answered_is_in_doubt_whichever_way_it_was_said() {
    for (name, say) in COMPLETIONS.into_iter().chain(OTHERS) {
        let world = World::new();
        let ledger = world.ledger();
        let attempt = started(&ledger, "a");
        let mut cancels = world.store.transaction();
        cancels.cancel(&ledger, "a", "an operator");
        assert!(cancels.prepare("gid").expect("answers").is_committed());
        assert!(!say(&world.store, &attempt), "{name}: a coordinator has the record");
        world.store.rollback_prepared("gid").expect("is rolled back");
        drop(attempt);
        assert_in_doubt(&world, &ledger, name);
    }
}

struct NoValue;

impl serde::Serialize for NoValue {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("will not"))
    }
}

#[test]
fn i8_an_attempt_whose_result_cannot_be_stored_is_in_doubt_whichever_way_it_was_said() {
    let values: [(&str, Way); 2] = [
        ("complete_value", |_, attempt| attempt.complete_value(&NoValue).is_ok()),
        ("commit of a value", |store, attempt| {
            store.transaction().complete_value(attempt, &NoValue).is_ok()
        }),
    ];
    for (name, say) in COMPLETIONS.into_iter().chain(values) {
        let world = World::new();
        let small = options().result_bytes_max(4);
        let ledger = world.store.ledger_with("l", small).expect("opens");
        let attempt = started(&ledger, "a");
        assert!(!say(&world.store, &attempt), "{name}");
        drop(attempt);
        assert_in_doubt(&world, &ledger, name);
        // It may still say so in another way.
        let ledger =
            world.store.ledger_with("other", options().result_bytes_max(4)).expect("opens");
        let attempt = started(&ledger, "a");
        assert!(!say(&world.store, &attempt), "{name}");
        assert!(commit(&world.store, |t| _ = t.complete(&attempt, b"ref")), "{name}");
    }
}

fn impatient() -> World {
    let (disk, clock) = (SimDisk::new(), clock());
    let builder = sim(&disk, &clock).shards(1).memtable_bytes(16 << 10);
    let store = builder.wait_max(Duration::from_millis(20)).open().expect("opens");
    World { disk, clock, store }
}

#[test]
fn i8_an_attempt_whose_commit_is_not_made_in_time_is_in_doubt_unless_it_only_renews() {
    type Commit = fn(&Transaction) -> bool;
    let ways: [(&str, Commit); 3] = [
        ("commit", |t| t.commit().is_ok()),
        ("commit_async", |t| block_on(t.commit_async()).is_ok()),
        ("dropped commit_async", |t| {
            pin!(t.commit_async()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
        }),
    ];
    for (name, commit) in ways {
        let world = impatient();
        let ledger = world.ledger();
        let Reserve::FirstSeen(held) = world.store.reserve("notify").expect("reserves") else {
            panic!("is new")
        };
        let attempt = started(&ledger, "a");
        let mut transaction = world.store.transaction();
        transaction.complete(&attempt, RESULT).claim("notify");
        assert!(!commit(&transaction), "{name}: somebody holds the id");
        drop((transaction, attempt));
        assert_in_doubt(&world, &ledger, name);
        let attempt = started(&ledger, "b");
        let mut transaction = world.store.transaction();
        transaction.renew(&attempt).claim("notify");
        assert!(!commit(&transaction), "{name}: somebody holds the id");
        drop((transaction, attempt));
        assert!(matches!(begin(&ledger, "b"), Begin::RetryAt(_)), "{name}: it said nothing");
        drop(held);
    }
}

/// Work that is done before its attempt ends, at a time when there is no room in memory.
#[test]
fn i8_an_attempt_that_waits_for_room_in_vain_is_in_doubt_whichever_way_it_was_said() {
    for (name, say) in COMPLETIONS {
        let world = impatient();
        let ledger = world.ledger();
        let attempt = started(&ledger, "a");
        fill(&world.store);
        assert!(!say(&world.store, &attempt), "{name}: there is no room");
        settle(&world.store);
        drop(attempt);
        assert_in_doubt(&world, &ledger, name);
    }
    for is_dropped in [false, true] {
        let world = impatient();
        let ledger = world.ledger();
        let mut kept = None;
        let mut ran = Box::pin(ledger.run_async("a", BeginOptions::new(), |attempt| {
            kept = Some(Arc::clone(&attempt));
            fill(&world.store);
            async { Ok::<_, Failure>(1_u32) }
        }));
        if is_dropped {
            let mut context = Context::from_waker(Waker::noop());
            assert!(ran.as_mut().poll(&mut context).is_pending(), "it waits for room");
            drop(ran);
        } else {
            block_on(ran).expect_err("there is no room");
        }
        settle(&world.store);
        drop(kept.expect("has begun"));
        assert_in_doubt(&world, &ledger, "run_async");
    }
}

fn fill(store: &Store) {
    let refused = (0..20_000).find_map(|n| store.claim(format!("noise {n}")).err());
    assert!(refused.is_some(), "memory is full some time");
}

#[test]
fn an_attempt_whose_transaction_is_rejected_has_an_answer_and_fails_when_it_is_dropped() {
    let world = World::new();
    let ledger = world.ledger();
    assert!(world.store.claim("taken").expect("claims").is_first_seen());
    let attempt = started(&ledger, "a");
    assert!(!commit(&world.store, |t| _ = t.complete(&attempt, RESULT).claim("taken")));
    drop(attempt);
    assert!(matches!(begin(&ledger, "a"), Begin::RetryAt(_)));
}

#[test]
fn an_attempt_that_a_prepared_transaction_ends_is_over_and_its_record_in_progress() {
    for commits in [true, false] {
        let world = World::new();
        let ledger = world.ledger();
        let attempt = started(&ledger, "a");
        assert!(prepare(&world.store, |t| _ = t.complete(&attempt, RESULT)));
        assert_eq!(attempt.record(), record(&ledger, "a"));
        assert!(matches!(attempt.record().state, State::Running { .. }));
        let over = attempt.complete(RESULT).expect_err("has had its last word");
        assert!(matches!(over, AttemptError::Over { .. }), "{over:?}");
        let text =
            "the attempt is over: it has said how it went, and the record is in progress now";
        assert_eq!(over.to_string(), text);
        if commits {
            world.store.commit_prepared("by this attempt").expect("is committed");
            drop(attempt);
            assert!(matches!(begin(&ledger, "a"), Begin::Completed(_)));
        } else {
            world.store.rollback_prepared("by this attempt").expect("is rolled back");
            drop(attempt);
            assert_in_doubt(&world, &ledger, "rolled back");
        }
    }
}

/// The same where a transaction hears it: the rejection is none of the attempt's own.
#[test]
fn a_transaction_with_a_record_that_a_coordinator_has_is_rejected_as_in_doubt() {
    let world = World::new();
    let ledger = world.ledger();
    let attempt = started(&ledger, "a");
    assert!(prepare(&world.store, |t| _ = t.cancel(&ledger, "a", "no")));
    let mut transaction = world.store.transaction();
    transaction.complete(&attempt, RESULT);
    let outcome = transaction.commit().expect("answers");
    let CommitOutcome::Rejected(reasons) = &outcome else { panic!("{outcome:?}") };
    assert!(matches!(&reasons[..], [Rejection::InDoubt { id }] if id == b"a"), "{reasons:?}");
}
