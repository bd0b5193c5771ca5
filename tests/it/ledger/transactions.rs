//! Attempts that begin, are renewed and save their stages in transactions. Their ends are in `tests/it/transactions.rs`.

use super::*;
use crate::support::{assert_sound, settle};
use firstseen::disk::sim::Fault;
use firstseen::ledger::{AttemptEnd, AttemptError, Failure, Fingerprint, OnLeaseEnd, State};
use firstseen::outbox::Outbox;
use firstseen::table::RawTable;
use firstseen::transaction::{CommitOutcome, Rejection, Transaction};
use firstseen::{Durability, ErrorKind, Timestamp};
use std::sync::Barrier;

type Done = Result<u32, Failure>;

fn table(store: &Store) -> RawTable {
    store.raw_table("state").expect("opens")
}

fn value(store: &Store, key: &str) -> Option<Vec<u8>> {
    table(store).get(key).expect("reads").map(|entry| entry.value)
}

fn committed(transaction: &Transaction) -> CommitOutcome {
    let outcome = transaction.commit().expect("answers");
    assert!(outcome.is_committed(), "{outcome:?}");
    outcome
}

fn commit(transaction: &Transaction) {
    assert!(committed(transaction).is_committed());
}

/// Commits what must be rejected for one reason, together with a write that must not be made.
fn rejected(world: &World, mut transaction: Transaction) -> Rejection {
    transaction.put(&table(&world.store), "rejected", b"").expect("is short");
    let outcome = transaction.commit().expect("answers");
    let CommitOutcome::Rejected(mut reasons) = outcome else { panic!("{outcome:?}") };
    assert_eq!(reasons.len(), 1, "{reasons:?}");
    assert_eq!(value(&world.store, "rejected"), None);
    reasons.remove(0)
}

fn refused(world: &World, transaction: Transaction) -> AttemptError {
    match rejected(world, transaction) {
        Rejection::Attempt { error, .. } => error,
        other => panic!("{other:?}"),
    }
}

fn refused_begin(world: &World, transaction: Transaction) -> Begin {
    match rejected(world, transaction) {
        Rejection::Begin { answer, .. } => answer,
        other => panic!("{other:?}"),
    }
}

fn lease_end(ledger: &Ledger, id: &str) -> Timestamp {
    match record(ledger, id).state {
        State::Running { until } => until,
        other => panic!("{other:?}"),
    }
}

fn never() -> Done {
    panic!("is not run")
}

#[test]
fn a_lease_that_a_transaction_renews_counts_from_its_commit() {
    let world = World::new();
    let ledger = world.ledger();
    let (one, other) = (started(&ledger, "one"), started(&ledger, "other"));
    let began = lease_end(&ledger, "one").as_millis();
    let mut transaction = world.store.transaction();
    transaction.renew(&one);
    transaction.renew_for(&other, LEASE * 6).expect("is a lease");
    world.pass(Duration::from_secs(4));
    assert_eq!(lease_end(&ledger, "one").as_millis(), began, "nothing is written before");
    commit(&transaction);
    assert_eq!(lease_end(&ledger, "one").as_millis(), began + 4_000);
    assert_eq!(lease_end(&ledger, "other").as_millis(), began + 54_000);
    // The attempts know it: what was extended is not made shorter by a renewal, as when each call stands alone.
    other.renew().expect("renews");
    assert_eq!(lease_end(&ledger, "other").as_millis(), began + 54_000);
    one.complete(b"").expect("completes");
    other.complete(b"").expect("completes");
    let error = world.store.transaction().renew_for(&one, Duration::ZERO).map(drop);
    assert!(matches!(error, Err(AttemptError::Store(_))), "{error:?}");
}

type Plan = fn(&mut Transaction, &Attempt);

const GOES_ON: [(&str, Plan); 4] = [
    ("renew", |transaction, attempt| _ = transaction.renew(attempt)),
    ("renew for", |transaction, attempt| {
        transaction.renew_for(attempt, LEASE * 2).expect("is a lease");
    }),
    ("stage", |transaction, attempt| {
        transaction.save_stage(attempt, "one", &1_u32).expect("is short");
    }),
    ("cursor", |transaction, attempt| {
        transaction.save_cursor(attempt, "one", &1_u32).expect("is short");
    }),
];

#[test]
fn i8_a_transaction_renews_and_saves_nothing_for_an_attempt_that_lost_its_record() {
    for (name, plan) in GOES_ON {
        let world = World::new();
        let ledger = world.ledger();
        let planned = |attempt: &Attempt| {
            let mut transaction = world.store.transaction();
            plan(&mut transaction, attempt);
            transaction
        };
        let first = started(&ledger, "a");
        world.pass(LEASE);
        let second = started(&ledger, "a");
        let before = record(&ledger, "a");
        let AttemptError::Fenced { record: Some(told) } = refused(&world, planned(&first)) else {
            panic!("{name}: somebody has taken over");
        };
        assert_eq!(told.token, second.token(), "{name}");
        assert_eq!(record(&ledger, "a"), before, "{name}");
        // Also one that does not know it yet, because nothing but its record speaks against it.
        drop(first);
        ledger.cancel("a", "not wanted").expect("cancels");
        let error = refused(&world, planned(&second));
        assert!(matches!(error, AttemptError::Fenced { .. }), "{name}: {error:?}");
        let over = started(&ledger, "b");
        over.complete(b"").expect("completes");
        let error = refused(&world, planned(&over));
        assert!(matches!(error, AttemptError::Over { .. }), "{name}: {error:?}");
    }
}

#[test]
fn an_ended_lease_is_renewed_by_no_transaction_but_by_one_that_saves_a_stage() {
    for (n, (name, plan)) in GOES_ON.into_iter().enumerate() {
        let world = World::new();
        let ledger = world.ledger();
        let attempt = started(&ledger, "a");
        world.pass(LEASE);
        let mut transaction = world.store.transaction();
        plan(&mut transaction, &attempt);
        if n < 2 {
            let error = refused(&world, transaction);
            assert!(matches!(error, AttemptError::LeaseEnded), "{name}: {error:?}");
        } else {
            commit(&transaction);
            assert!(ledger.is_in_progress(&record(&ledger, "a")), "{name}");
        }
    }
}

#[test]
fn a_stage_and_what_it_changed_are_one_commit_and_no_attempt_does_it_again() {
    let world = World::new();
    let ledger = world.ledger();
    let (topic, source) =
        (world.store.outbox("sent").expect("opens"), world.store.source("s").expect("opens"));
    let attempt = started(&ledger, "a");
    assert_eq!(attempt.stage("validate", || Ok::<_, Failure>(1_u32)).expect("runs"), 1);
    assert_eq!(attempt.saved_stage::<u32>("charge").expect("asks"), None);
    let mut transaction = world.store.transaction();
    transaction.put(&table(&world.store), "anna", b"-10").expect("is short");
    transaction.save_stage(&attempt, "charge", &17_u32).expect("is short");
    transaction.emit(&topic, "charged").expect("belongs to the stage").advance(&source, 0, 5);
    world.pass(Duration::from_secs(4));
    commit(&transaction);
    assert_eq!(lease_end(&ledger, "a").as_millis(), NOW_AND_LEASE + 4_000, "extends the lease");
    assert_eq!(value(&world.store, "anna"), Some(b"-10".to_vec()));
    assert_eq!(source.position(0).expect("reads").map(|position| position.next), Some(5));
    assert_eq!(topic.pending().expect("counts").count, 1);
    // This attempt is behind it, and may ask for its result once.
    assert_eq!(attempt.stage("charge", never).expect("is saved"), 17);
    let twice = attempt.stage("charge", never).expect_err("is asked for once");
    assert!(twice.reason().contains("two stages are called"), "{twice:?}");
    assert_eq!(attempt.stage("ship", || Ok::<_, Failure>(3_u32)).expect("runs"), 3);
    let mut again = world.store.transaction();
    again.save_stage(&attempt, "charge", &18_u32).expect("is short");
    let error = refused(&world, again);
    assert!(matches!(&error, AttemptError::StageSaved { name } if name == "charge"), "{error:?}");
    attempt.fail(Failure::retry("on purpose")).expect("fails");
    world.pass(Duration::from_secs(1));

    drop((attempt, ledger, topic, source, transaction));
    let world = world.reopen();
    let ledger = world.ledger();
    let attempt = started(&ledger, "a");
    assert_eq!(attempt.stage("validate", never).expect("is saved"), 1);
    let mut again = world.store.transaction();
    again.save_stage(&attempt, "charge", &18_u32).expect("is short");
    let error = refused(&world, again);
    assert!(matches!(&error, AttemptError::StageSaved { name } if name == "charge"), "{error:?}");
    assert_eq!(attempt.saved_stage::<u32>("charge").expect("asks"), Some(17));
    assert_eq!(attempt.stage("ship", never).expect("is saved"), 3);
    assert_sound(&world.store);
}

const NOW_AND_LEASE: u64 = crate::support::NOW + LEASE.as_millis() as u64;

#[test]
fn stages_that_transactions_save_need_not_be_asked_for_before_the_next_one() {
    let world = World::new();
    let ledger = world.ledger();
    let attempt = started(&ledger, "a");
    for (n, name) in ["one", "two", "three"].into_iter().enumerate() {
        let mut transaction = world.store.transaction();
        transaction.save_stage(&attempt, name, &n).expect("is short");
        commit(&transaction);
    }
    assert_eq!(record(&ledger, "a").stages, 3);
    for (n, name) in [(1, "two"), (0, "one")] {
        assert_eq!(attempt.saved_stage::<usize>(name).expect("asks"), Some(n));
    }
    attempt.stage("four", || Ok::<_, Failure>(4_u32)).expect("comes next");
    attempt.complete(b"").expect("completes, and drops all of them");
}

/// A commit whose answer was lost is made again: whoever reads of `StageSaved` knows what that means.
#[test]
fn a_stage_that_a_transaction_saves_again_is_told_to_be_saved_to_whichever_attempt() {
    let world = World::new();
    let ledger = world.ledger();
    let attempt = started(&ledger, "a");
    let save = |attempt: &Attempt| {
        let mut transaction = world.store.transaction();
        transaction.save_stage(attempt, "one", &1_u32).expect("is short");
        transaction
    };
    let is_saved = |attempt: &Attempt| {
        let error = refused(&world, save(attempt));
        assert!(matches!(&error, AttemptError::StageSaved { name } if name == "one"), "{error:?}");
        let mut transaction = world.store.transaction();
        transaction.save_cursor(attempt, "one", &1_u32).expect("is short");
        let error = refused(&world, transaction);
        assert!(matches!(error, AttemptError::StageSaved { .. }), "{error:?}");
    };
    commit(&save(&attempt));
    is_saved(&attempt);
    assert_eq!(attempt.saved_stage::<u32>("one").expect("reads"), Some(1));
    is_saved(&attempt);
    attempt.stage("two", || Ok::<_, Failure>(2_u32)).expect("runs");
    is_saved(&attempt);
    attempt.fail(Failure::retry("on purpose")).expect("fails");
    world.pass(Duration::from_secs(1));
    is_saved(&started(&ledger, "a"));
}

#[test]
fn a_saved_stage_that_could_not_be_read_keeps_its_place_and_those_after_it() {
    let world = World::new();
    let attempt = started(&world.ledger(), "a");
    for name in ["one", "two"] {
        let mut transaction = world.store.transaction();
        transaction.save_stage(&attempt, name, &1_u8).expect("is short");
        commit(&transaction);
    }
    let other = attempt.saved_stage::<String>("one").expect_err("is of another type");
    assert!(matches!(other, AttemptError::Value { .. }), "{other:?}");
    assert_eq!(attempt.stage("three", || Ok::<_, Failure>(3_u8)).expect("is the third"), 3);
    assert_eq!(attempt.saved_stage::<u8>("one").expect("reads"), Some(1));
    assert_eq!(attempt.saved_stage::<u8>("two").expect("reads"), Some(1));
}

#[test]
fn a_stage_that_a_transaction_has_saved_is_not_asked_for_within_another() {
    let world = World::new();
    let attempt = started(&world.ledger(), "a");
    let mut transaction = world.store.transaction();
    transaction.save_stage(&attempt, "one", &1_u8).expect("is short");
    commit(&transaction);
    let two = attempt.stage("two", || {
        let within = attempt.saved_stage::<u8>("one").expect_err("is refused");
        assert!(matches!(within, AttemptError::StageOpen { .. }), "{within:?}");
        let error = attempt.stage("three", never).expect_err("two is under way");
        assert!(error.reason().contains("under way"), "{error:?}");
        Ok::<_, Failure>(2_u8)
    });
    assert_eq!(two.expect("runs"), 2);
    assert_eq!(attempt.saved_stage::<u8>("one").expect("reads"), Some(1));
}

/// An id of a ledger leaves room for the number of a stage: one that is too long could be begun and never ended.
#[test]
fn a_transaction_begins_no_id_that_is_too_long_for_a_ledger() {
    let world = World::new();
    let ledger = world.ledger();
    for (len, is_short) in [(0, false), (1_020, true), (1_021, false), (1_024, false)] {
        let id = vec![b'z'; len];
        let mut transaction = world.store.transaction();
        transaction.claim(format!("claim-{len}"));
        transaction.begin(&ledger, &id, BeginOptions::new());
        match transaction.commit() {
            Ok(outcome) => assert!(is_short && outcome.is_committed(), "{len}: {outcome:?}"),
            Err(error) => {
                assert!(!is_short && error.kind() == ErrorKind::FixCall, "{len}: {error}");
            }
        }
        let claimed = world.store.contains(format!("claim-{len}")).expect("reads");
        assert_eq!(claimed, is_short, "{len}");
    }
}

#[test]
fn the_rules_of_stages_hold_in_transactions() {
    let world = World::new();
    let ledger = world.ledger();
    let attempt = started(&ledger, "a");
    let save = |attempt: &Attempt, name: &str| {
        let mut transaction = world.store.transaction();
        transaction.save_stage(attempt, name, &1_u32).expect("is short");
        transaction
    };
    commit(&save(&attempt, "one"));
    let failed: Done = attempt.stage("two", || {
        let error = refused(&world, save(&attempt, "three"));
        assert!(matches!(error, AttemptError::StageOpen { .. }), "{error:?}");
        Err(Failure::retry("no"))
    });
    failed.expect_err("fails");
    commit(&save(&attempt, "two"));
    attempt.fail(Failure::retry("no")).expect("fails");
    world.pass(Duration::from_secs(1));
    let attempt = started(&ledger, "a");
    let error = refused(&world, save(&attempt, "other"));
    assert!(
        matches!(&error, AttemptError::StageOrder { number: 0, stored, asked }
            if stored == "one" && asked == "other"),
        "{error:?}"
    );
    let mut transaction = world.store.transaction();
    let unnamed = transaction.save_stage(&attempt, "", &1_u32).map(drop);
    assert!(matches!(unnamed, Err(AttemptError::Value { .. })), "{unnamed:?}");
    let long = transaction.save_stage(&attempt, "one", &vec![0_u8; 5 << 20]).map(drop);
    assert!(matches!(long, Err(AttemptError::TooLarge { .. })), "{long:?}");
    transaction.save_stage(&attempt, "one", &1_u32).expect("is short");
    transaction.save_stage(&attempt, "two", &1_u32).expect("is short");
    let error = transaction.commit().expect_err("one stage of an id");
    assert_eq!(error.kind(), ErrorKind::FixCall, "{error}");
}

#[test]
fn what_transactions_keep_beside_a_record_is_bounded() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store =
        sim(&disk, &clock).segment_bytes(16 << 20).memtable_bytes(64 << 20).open().expect("opens");
    let world = World { disk, clock, store };
    let ledger = world.ledger();
    let attempt = started(&ledger, "a");
    let large = vec![1_u8; 3 << 20];
    let save = |name: &str| {
        let mut transaction = world.store.transaction();
        transaction.save_stage(&attempt, name, &large).expect("is below the limit of one");
        transaction
    };
    commit(&save("one"));
    let error = refused(&world, save("two"));
    assert!(matches!(error, AttemptError::TooLarge { .. }), "{error:?}");
    attempt.complete(b"").expect("can end");
}

#[test]
fn a_rejected_transaction_saves_no_stage_and_its_attempt_has_not_moved() {
    let world = World::new();
    let ledger = world.ledger();
    let attempt = started(&ledger, "a");
    assert!(world.store.claim("taken").expect("claims").is_first_seen());
    let before = record(&ledger, "a");
    world.pass(Duration::from_secs(1));
    for name in ["one", "two"] {
        let mut transaction = world.store.transaction();
        transaction.claim("taken").save_stage(&attempt, name, &1_u32).expect("is short");
        assert!(matches!(rejected(&world, transaction), Rejection::Duplicate(_)));
    }
    assert_eq!(record(&ledger, "a"), before);
    assert_eq!(attempt.record(), before);
    let mut ran = false;
    let done: Done = attempt.stage("one", || {
        ran = true;
        Ok::<_, Failure>(2)
    });
    assert_eq!((done.expect("comes first"), ran), (2, true));
    drop(attempt);
    assert_eq!(record(&ledger, "a").history[0].end, AttemptEnd::Dropped);
}

#[test]
fn a_cursor_goes_on_where_the_last_commit_has_left_it() {
    let world = World::new();
    let ledger = world.ledger();
    let step = |attempt: &Attempt, position: u32| {
        let mut transaction = world.store.transaction();
        transaction.put(&table(&world.store), position.to_string(), b"").expect("is short");
        transaction.save_cursor(attempt, "rows", &position).expect("is short");
        commit(&transaction);
    };
    let attempt = started(&ledger, "a");
    assert_eq!(attempt.saved_cursor::<u32>("rows").expect("asks"), None);
    step(&attempt, 1);
    step(&attempt, 2);
    assert_eq!(attempt.saved_cursor::<u32>("rows").expect("asks"), Some(2));
    let bytes = record(&ledger, "a");
    step(&attempt, 3);
    assert_eq!(record(&ledger, "a").stages, bytes.stages, "it is one stage");
    let error = refused(&world, {
        let mut other = world.store.transaction();
        other.save_stage(&attempt, "other", &0_u32).expect("is short");
        other
    });
    assert!(matches!(error, AttemptError::StageOrder { .. }), "{error:?}");
    attempt.fail(Failure::retry("no")).expect("fails");
    world.pass(Duration::from_secs(1));
    // The next attempt goes on, alone or in transactions.
    let attempt = started(&ledger, "a");
    assert_eq!(attempt.saved_stage::<u32>("rows").expect("asks"), None, "it is not done");
    assert_eq!(attempt.saved_cursor::<u32>("rows").expect("asks"), Some(3));
    let stopped: Done = attempt.stage_with_cursor("rows", |cursor| {
        assert_eq!(cursor.position(), Some(&3_u32));
        cursor.advance(4)?;
        Err(Failure::retry("stopped"))
    });
    stopped.expect_err("is stopped");
    let mut transaction = world.store.transaction();
    transaction.save_stage(&attempt, "rows", &"all".to_owned()).expect("is short");
    commit(&transaction);
    assert_eq!(attempt.saved_cursor::<u32>("rows").expect("asks"), None, "it is done");
    assert_eq!(attempt.saved_stage::<String>("rows").expect("asks").as_deref(), Some("all"));
}

/// A name of its own for each, or the next stage would emit a duplicate.
#[test]
fn messages_of_two_stages_and_of_the_end_of_an_attempt_have_ids_of_their_own() {
    let world = World::new();
    let ledger = world.ledger();
    let topic: Outbox = world.store.outbox("sent").expect("opens");
    let attempt = started(&ledger, "a");
    let emit = |plan: &dyn Fn(&mut Transaction)| {
        let mut transaction = world.store.transaction();
        plan(&mut transaction);
        transaction.emit(&topic, "m").expect("belongs to it");
        commit(&transaction);
    };
    for position in [1_u32, 2] {
        emit(&|t| _ = t.save_cursor(&attempt, "one", &position).expect("is short"));
    }
    emit(&|t| _ = t.save_stage(&attempt, "one", &1_u32).expect("is short"));
    emit(&|t| _ = t.save_stage(&attempt, "two", &1_u32).expect("is short"));
    emit(&|t| _ = t.complete(&attempt, b""));
    assert_eq!(topic.pending().expect("counts").count, 5);
    // A renewal and a beginning are no events: what is emitted belongs to what came before them.
    let mut transaction = world.store.transaction();
    transaction.begin(&ledger, "b", BeginOptions::new());
    transaction.emit(&topic, "m").expect_err("belongs to nothing");
}

#[test]
fn an_id_is_begun_with_the_state_that_caused_it_and_its_attempt_handed_out_by_the_outcome() {
    let world = World::new();
    let ledger = world.ledger();
    let other = world.store.ledger_with("other", options()).expect("opens");
    let mut transaction = world.store.transaction();
    transaction.put(&table(&world.store), "17", b"paid").expect("is short");
    transaction.begin(&ledger, "a", BeginOptions::new().payload("order 17").worker("w"));
    transaction.begin(&other, "a", BeginOptions::new().lease(LEASE * 3));
    world.pass(Duration::from_secs(2));
    assert!(ledger.get("a").expect("reads").is_none(), "nothing exists before");
    let mut outcome = committed(&transaction);
    assert_eq!(value(&world.store, "17"), Some(b"paid".to_vec()));
    assert!(outcome.attempt(&ledger, "b").is_none());
    let attempt = outcome.attempt(&ledger, "a").expect("has begun");
    assert!(outcome.attempt(&ledger, "a").is_none(), "it was taken");
    let elsewhere = outcome.attempt(&other, "a").expect("has begun");
    assert!(matches!(begin(&ledger, "a"), Begin::InProgress(_)));
    assert_eq!(lease_end(&ledger, "a").as_millis(), NOW_AND_LEASE + 2_000, "from the commit");
    assert_eq!(lease_end(&other, "a").as_millis(), NOW_AND_LEASE + 2_000 + 20_000);
    assert_eq!(attempt.token(), record(&ledger, "a").token);
    assert_eq!(record(&other, "a").token, elsewhere.token());
    assert_ne!(attempt.token(), elsewhere.token());
    assert_eq!((attempt.number(), attempt.record().worker.as_str()), (1, "w"));
    assert_eq!(attempt.payload().expect("reads"), Some(b"order 17".to_vec()));
    assert_eq!(attempt.stage("one", || Ok::<_, Failure>(1_u32)).expect("runs"), 1);
    attempt.complete(b"done").expect("completes");
    elsewhere.fail(Failure::retry("no")).expect("fails");
    // And what waits is begun again.
    world.pass(Duration::from_secs(1));
    let mut transaction = world.store.transaction();
    transaction.begin(&other, "a", BeginOptions::new());
    let again = committed(&transaction).attempt(&other, "a").expect("has begun");
    assert_eq!(again.number(), 2);
    again.complete(b"").expect("completes");
}

#[test]
fn a_transaction_that_begins_is_rejected_with_what_begin_would_have_answered() {
    let world = World::new();
    let ledger = world.ledger();
    let mark = |input: &str| BeginOptions::new().fingerprint(Fingerprint::of_bytes(input));
    let begun = |id: &str, options: BeginOptions| {
        let mut transaction = world.store.transaction();
        transaction.begin(&ledger, id, options);
        refused_begin(&world, transaction)
    };
    let running = ledger.begin_with("running", mark("x").version(7)).expect("begins");
    let running = running.started().expect("starts");
    for id in ["done", "late", "dead", "held", "spent"] {
        let attempt = started(&ledger, id);
        match id {
            "done" => attempt.complete(b"receipt").expect("completes"),
            "late" => {
                attempt.fail(Failure::retry_after("no", Duration::from_secs(60))).expect("fails");
            }
            "dead" => attempt.fail(Failure::last("no")).expect("fails"),
            "held" => attempt.fail(Failure::hold("who knows")).expect("fails"),
            _ => attempt.fail(Failure::retry("no")).expect("fails"),
        }
    }
    let none = BeginOptions::new;
    let Begin::InProgress(record) = begun("running", none()) else { panic!("runs") };
    assert_eq!(record.token, running.token());
    assert!(matches!(begun("running", mark("y")), Begin::Mismatch(_)));
    let Begin::Completed(record) = begun("done", none()) else { panic!("is done") };
    assert_eq!(record.result(), Some(&b"receipt"[..]));
    assert!(matches!(begun("late", none()), Begin::RetryAt(_)));
    assert!(matches!(begun("dead", none()), Begin::Dead(_)));
    assert!(matches!(begun("held", none()), Begin::Held(_)));
    running.fail(Failure::retry("no")).expect("fails");
    world.pass(Duration::from_secs(1));
    assert!(matches!(begun("running", mark("x")), Begin::Outdated(_)));
    // All reasons at once, and none of them twice.
    let mut transaction = world.store.transaction();
    transaction.begin(&ledger, "done", none()).begin(&ledger, "dead", none());
    transaction.begin(&ledger, "new", none());
    let Ok(CommitOutcome::Rejected(reasons)) = transaction.commit() else { panic!("is rejected") };
    assert_eq!(reasons.len(), 2, "{reasons:?}");
    assert!(ledger.get("new").expect("reads").is_none(), "no attempt exists");
}

/// Alone, `begin` would have noted it. What is rejected writes nothing, and the answer is the same.
#[test]
fn what_begin_would_hold_or_give_up_is_answered_and_not_written_by_a_rejected_transaction() {
    for policy in [OnLeaseEnd::Hold, OnLeaseEnd::Fail, OnLeaseEnd::Retry] {
        let world = World::new();
        let policies = options().on_lease_end(policy).attempts_max(1);
        let ledger = world.store.ledger_with("l", policies).expect("opens");
        abandon(started(&ledger, "a"));
        world.pass(LEASE);
        let before = record(&ledger, "a");
        let mut transaction = world.store.transaction();
        transaction.begin(&ledger, "a", BeginOptions::new());
        let told = refused_begin(&world, transaction);
        assert_eq!(record(&ledger, "a"), before, "{policy:?}");
        let alone = begin(&ledger, "a");
        assert_eq!(std::mem::discriminant(&told), std::mem::discriminant(&alone), "{told:?}");
        let state = |begin: &Begin| begin.record().map(|record| record.state.clone());
        assert_eq!(state(&told), state(&alone), "{policy:?}");
        assert!(matches!(alone, Begin::Held(_) | Begin::Dead(_)), "{alone:?}");
    }
}

/// What the attempt has seen allows the move: others have noted the end of its lease since.
#[test]
fn every_reason_is_told_also_of_an_attempt_whose_record_others_have_changed() {
    type Other = fn(&mut Transaction, &Ledger);
    let others: [Other; 2] = [
        |transaction, ledger| _ = transaction.begin(ledger, "done", BeginOptions::new()),
        |transaction, _| _ = transaction.claim("taken"),
    ];
    for other in others {
        let world = World::new();
        let policies = options().on_lease_end(OnLeaseEnd::Fail);
        let ledger = world.store.ledger_with("l", policies).expect("opens");
        started(&ledger, "done").complete(b"").expect("completes");
        assert!(world.store.claim("taken").expect("claims").is_first_seen());
        let attempt = started(&ledger, "a");
        world.pass(LEASE);
        assert!(matches!(begin(&ledger, "a"), Begin::Dead(_)));
        let mut transaction = world.store.transaction();
        other(&mut transaction, &ledger);
        transaction.release(&attempt);
        let Ok(CommitOutcome::Rejected(told)) = transaction.commit() else { panic!("is rejected") };
        let is_told = |reason: &Rejection| {
            matches!(reason, Rejection::Attempt { error: AttemptError::LeaseEnded, .. })
        };
        assert_eq!((told.len(), told.iter().any(is_told)), (2, true), "{told:?}");
    }
}

#[test]
fn an_attempt_that_is_dropped_with_the_outcome_of_its_commit_has_failed() {
    let world = World::new();
    let ledger = world.ledger();
    let mut transaction = world.store.transaction();
    transaction.begin(&ledger, "a", BeginOptions::new()).claim("b");
    drop(committed(&transaction));
    assert!(world.store.contains("b").expect("reads"), "the commit was made");
    assert!(matches!(begin(&ledger, "a"), Begin::RetryAt(_)));
    assert_eq!(record(&ledger, "a").history[0].end, AttemptEnd::Dropped);
}

#[test]
fn an_attempt_belongs_to_the_claim_before_it_and_is_skipped_with_a_duplicate() {
    let world = World::new();
    let ledger = world.ledger();
    assert!(world.store.claim("seen").expect("claims").is_first_seen());
    let mut transaction = world.store.transaction();
    transaction.skip_duplicates();
    transaction.claim("seen").begin(&ledger, "a", BeginOptions::new());
    transaction.claim("new").begin(&ledger, "b", BeginOptions::new());
    let mut outcome = committed(&transaction);
    let CommitOutcome::CommittedWith { skipped, attempts } = &outcome else { panic!("has begun") };
    assert_eq!((skipped.len(), attempts.len()), (1, 1));
    assert_eq!(skipped[0].id(), b"seen");
    assert!(outcome.attempt(&ledger, "a").is_none() && ledger.get("a").expect("reads").is_none());
    let attempt = outcome.attempt(&ledger, "b").expect("has begun");
    attempt.complete(b"").expect("completes");
}

#[test]
fn i8_of_transactions_and_calls_that_begin_one_id_at_once_one_starts_an_attempt() {
    let world = World::new();
    let (store, ledger) = (&world.store, &world.ledger());
    for round in 0..300 {
        let id = &format!("{round}");
        let start = &Barrier::new(3);
        let started: Vec<Attempt> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..3)
                .map(|n| {
                    scope.spawn(move || {
                        let mut transaction = store.transaction();
                        let key = format!("{round}/{n}");
                        transaction.put(&table(store), &key, b"").expect("is short");
                        transaction.begin(ledger, id, BeginOptions::new());
                        start.wait();
                        if n == 2 {
                            return begin(ledger, id).started();
                        }
                        let mut outcome = transaction.commit().expect("answers");
                        assert_eq!(value(store, &key).is_some(), outcome.is_committed());
                        outcome.attempt(ledger, id)
                    })
                })
                .collect();
            threads.into_iter().filter_map(|thread| thread.join().expect("no panic")).collect()
        });
        assert_eq!(started.len(), 1, "round {round}");
        assert_eq!(record(ledger, id).token, started[0].token());
        started[0].complete(b"").expect("has it");
    }
    assert_sound(store);
}

#[test]
fn i1_an_attempt_a_stage_and_a_lease_are_there_with_all_of_a_transaction_or_not_after_any_crash() {
    let mut outcomes = [0, 0];
    for at in 0.. {
        let (disk, clock) = (SimDisk::new(), clock());
        let store = sim(&disk, &clock).open().expect("opens");
        // Otherwise the crash itself ends what is to be looked at.
        let policies = options().lease_outlives_process(true);
        let ledger = store.ledger_with("payments", policies.clone()).expect("opens");
        let (renewed, staged) = (started(&ledger, "renewed"), started(&ledger, "staged"));
        table(&store).put("first", b"").expect("is short");
        clock.advance(Duration::from_secs(1));
        store.sync().expect("syncs");
        let ops = disk.ops();
        disk.fail_at(ops + at, Fault::Crash, false);
        let mut transaction = store.transaction();
        transaction.durability(Durability::Disk).claim("one");
        transaction.put(&table(&store), "key", b"value").expect("is short");
        transaction.renew_for(&renewed, LEASE * 9).expect("is a lease");
        transaction.save_stage(&staged, "s", &7_u32).expect("is short");
        transaction.begin(&ledger, "begun", BeginOptions::new().payload("p"));
        let told = transaction.commit();
        let was_crashed = disk.ops() > ops + at;
        let said = told.as_ref().is_ok_and(CommitOutcome::is_committed);
        let token = told.ok().and_then(|mut told| {
            let attempt = told.attempt(&ledger, "begun")?;
            let token = attempt.token();
            abandon(attempt);
            Some(token)
        });
        assert_eq!(token.is_some(), said, "no commit, no attempt");
        abandon(renewed);
        abandon(staged);
        let store = sim(&disk.crash(at), &clock).open().expect("opens again");
        let ledger = store.ledger_with("payments", policies).expect("opens");
        let begun = ledger.get("begun").expect("reads");
        let seen = [
            store.contains("one").expect("reads"),
            value(&store, "key").is_some(),
            lease_end(&ledger, "renewed").as_millis() > NOW_AND_LEASE + 2_000,
            record(&ledger, "staged").stages == 1,
            begun.is_some(),
            ledger.payload("begun").expect("reads").is_some(),
        ];
        assert!(seen == [true; 6] || seen == [false; 6], "crash at {at}: {seen:?}");
        if said {
            assert_eq!(seen, [true; 6], "crash at {at}: it was said to be on disk");
            assert_eq!(begun.map(|record| record.token), token, "crash at {at}");
        }
        outcomes[usize::from(seen[0])] += 1;
        if seen[0] {
            let staged = ledger.resume("staged", record(&ledger, "staged").token).expect("runs");
            assert_eq!(staged.stage("s", never).expect("is saved"), 7);
            abandon(staged);
        }
        settle(&store);
        assert_sound(&store);
        if !was_crashed {
            break;
        }
    }
    assert!(outcomes[0] > 0 && outcomes[1] > 0, "{outcomes:?}");
}

#[test]
fn what_begins_or_goes_on_is_not_prepared_and_not_begun_where_nobody_gets_the_attempt() {
    let world = World::new();
    let ledger = world.ledger();
    let attempt = started(&ledger, "a");
    let begins: Plan = |transaction, attempt| {
        transaction.begin(attempt.ledger(), "b", BeginOptions::new());
    };
    for (name, plan) in GOES_ON.into_iter().chain([("begin", begins)]) {
        let mut transaction = world.store.transaction();
        plan(&mut transaction, &attempt);
        let error = transaction.prepare("gid").expect_err("is refused");
        assert_eq!(error.kind(), ErrorKind::FixCall, "{name}: {error}");
    }
    let error = world
        .store
        .transact(|transaction| {
            begins(transaction, &attempt);
            Ok::<_, firstseen::Error>(())
        })
        .expect_err("is refused");
    assert_eq!(error.kind(), ErrorKind::FixCall, "{error}");
    assert!(ledger.get("b").expect("reads").is_none());
    assert!(world.store.prepared().expect("lists").is_empty());
}

#[test]
fn a_record_is_forgotten_in_a_transaction_although_an_attempt_works_on_it() {
    let world = World::new();
    let ledger = world.ledger();
    let (attempt, _waits) = (started(&ledger, "a"), {
        started(&ledger, "b").fail(Failure::retry("no")).expect("fails");
    });
    let mut purge = world.store.transaction();
    purge.purge(&ledger, "a");
    assert!(matches!(rejected(&world, purge), Rejection::Record { record: Some(_), .. }));
    let mut transaction = world.store.transaction();
    transaction.forget(&ledger, "a").forget(&ledger, "b");
    commit(&transaction);
    assert!(ledger.get("a").expect("reads").is_none() && ledger.get("b").expect("reads").is_none());
    assert!(matches!(attempt.complete(b""), Err(AttemptError::Fenced { record: None })));
}
