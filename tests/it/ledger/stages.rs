//! Stages: what is done is not done again.

use super::*;
use firstseen::ledger::{AttemptError, DeadLetters, Failure, Fingerprint};
use std::cell::Cell;
use std::io;

type Done = Result<u32, Failure>;

fn again(world: &World, ledger: &Ledger, attempt: Attempt) -> Attempt {
    attempt.fail(Failure::retry("on purpose")).expect("fails");
    world.pass(Duration::from_secs(1));
    started(ledger, "a")
}

#[test]
fn the_next_attempt_gets_the_results_of_saved_stages_and_does_not_do_them_again() {
    let world = World::new();
    let ledger = world.ledger();
    let runs = Cell::new(0);
    let count = |value: u32| {
        runs.set(runs.get() + 1);
        Ok::<_, Failure>(value)
    };
    let attempt = started(&ledger, "a");
    assert_eq!(attempt.stage("validate", || count(1)).expect("runs"), 1);
    assert_eq!(attempt.stage("fraud", || count(2)).expect("runs"), 2);
    let failed: Done = attempt.stage("settle", || Err(io::Error::other("bank closed")));
    assert_eq!(failed.expect_err("fails").reason(), "bank closed");
    let attempt = again(&world, &ledger, attempt);
    assert_eq!(attempt.stage("validate", || count(10)).expect("was saved"), 1);
    assert_eq!(attempt.stage("fraud", || count(20)).expect("was saved"), 2);
    assert_eq!(runs.get(), 2);
    assert_eq!(attempt.stage("settle", || count(3)).expect("runs"), 3);
    attempt.complete(b"").expect("completes");
    assert_eq!(record(&ledger, "a").stages, 0, "a completed record needs them no more");
}

#[test]
fn the_same_name_twice_in_one_attempt_is_an_error() {
    let world = World::new();
    let ledger = world.ledger();
    let attempt = started(&ledger, "a");
    attempt.stage("s", || Ok::<_, Failure>(1)).expect("runs");
    let twice = attempt.stage("s", || -> Done { panic!("is not run") });
    assert!(twice.expect_err("twice").reason().contains("two stages"));
}

#[test]
fn a_stage_that_failed_can_be_done_again_and_leaves_no_hole() {
    let world = World::new();
    let ledger = world.ledger();
    let attempt = started(&ledger, "a");
    let notify = |works: bool| {
        attempt.stage("notify", || if works { Ok(1_u32) } else { Err(Failure::retry("no")) })
    };
    notify(false).expect_err("fails");
    attempt.stage("charge", || Ok::<_, Failure>(2_u32)).expect("runs");
    assert_eq!(notify(true).expect("runs"), 1);
    attempt.fail(Failure::retry("on purpose")).expect("fails");
    world.pass(Duration::from_secs(1));
    let attempt = started(&ledger, "a");
    let saved = || -> Done { panic!("is not run") };
    assert_eq!(attempt.stage("charge", saved).expect("was saved"), 2);
    assert_eq!(attempt.stage("notify", saved).expect("was saved"), 1);
}

#[test]
fn a_stage_within_or_beside_another_is_refused() {
    let world = World::new();
    let ledger = world.ledger();
    let attempt = started(&ledger, "a");
    let outer: Done =
        attempt.stage("outer", || attempt.stage("inner", || -> Done { panic!("is not run") }));
    assert!(outer.expect_err("is refused").reason().contains("under way"));
    attempt.stage("outer", || Ok::<_, Failure>(1)).expect("runs");
}

#[test]
fn what_cannot_be_read_back_is_not_stored_and_not_done_again() {
    let world = World::new();
    let ledger = world.ledger();
    let attempt = started(&ledger, "a");
    // JSON says what it is by itself, and the stored form does not.
    let bad = attempt.stage("s", || Ok::<_, Failure>(serde_json::json!({"id": 1})));
    attempt.fail(bad.expect_err("cannot be read")).expect("fails");
    assert!(matches!(begin(&ledger, "a"), Begin::Dead(_)));
    let ran = ledger.run("b", |_| Ok(serde_json::json!({"id": 1})));
    assert!(ran.is_err());
    assert!(matches!(begin(&ledger, "b"), Begin::Dead(_)));
}

#[test]
fn another_order_than_the_saved_one_is_told_and_nothing_runs() {
    let world = World::new();
    let ledger = world.ledger();
    let attempt = started(&ledger, "a");
    attempt.stage("one", || Ok::<_, Failure>(1)).expect("runs");
    attempt.stage("two", || Ok::<_, Failure>(2)).expect("runs");
    let attempt = again(&world, &ledger, attempt);
    let wrong = attempt.stage("two", || -> Done { panic!("is not run") });
    let wrong = wrong.expect_err("another order");
    assert!(wrong.reason().contains("\"one\"") && wrong.reason().contains("\"two\""), "{wrong:?}");
    attempt.fail(wrong).expect("is a failure like others");
}

#[test]
fn what_is_added_after_the_saved_stages_is_done() {
    let world = World::new();
    let ledger = world.ledger();
    let attempt = started(&ledger, "a");
    attempt.stage("one", || Ok::<_, Failure>(1)).expect("runs");
    let attempt = again(&world, &ledger, attempt);
    attempt.stage("one", || -> Done { panic!("is not run") }).expect("was saved");
    assert_eq!(attempt.stage("new", || Ok::<_, Failure>(7)).expect("runs"), 7);
}

#[test]
fn i8_a_stage_of_an_attempt_that_lost_its_record_is_not_saved() {
    let world = World::new();
    let ledger = world.ledger();
    let first = started(&ledger, "a");
    world.pass(LEASE);
    let second = started(&ledger, "a");
    let lost = first.stage("one", || Ok::<_, Failure>(1)).expect_err("is refused");
    assert!(matches!(first.fail(lost), Err(AttemptError::Fenced { .. })));
    assert_eq!(record(&ledger, "a").stages, 0);
    assert_eq!(second.stage("one", || Ok::<_, Failure>(2)).expect("runs"), 2);
}

#[test]
fn a_value_that_cannot_be_encoded_is_an_error_and_nothing_is_stored() {
    struct Stubborn;
    impl serde::Serialize for Stubborn {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("will not"))
        }
    }
    impl<'de> serde::Deserialize<'de> for Stubborn {
        fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            Ok(Self)
        }
    }
    let world = World::new();
    let ledger = world.ledger();
    let attempt = started(&ledger, "a");
    let bad = attempt.stage("one", || Ok::<_, Failure>(Stubborn)).err().expect("is refused");
    assert!(bad.reason().contains("will not"));
    assert_eq!(record(&ledger, "a").stages, 0);
    let bad = attempt.complete_value(&Stubborn).expect_err("is refused");
    assert!(matches!(bad, AttemptError::Value { .. }));
    assert!(matches!(begin(&ledger, "a"), Begin::InProgress(_)));
}

#[test]
fn a_cursor_goes_on_where_the_last_attempt_has_saved() {
    let world = World::new();
    let ledger = world.ledger();
    let seen = Cell::new(0);
    let part = |attempt: &Attempt, stop_at: u32| {
        attempt.stage_with_cursor("rows", |cursor| {
            for row in cursor.position().copied().unwrap_or(0)..10 {
                if row == stop_at {
                    return Err(Failure::retry("stopped"));
                }
                seen.set(seen.get() + 1);
                cursor.advance(row + 1)?;
            }
            Ok("all".to_owned())
        })
    };
    let attempt = started(&ledger, "a");
    part(&attempt, 4).expect_err("stopped");
    let attempt = again(&world, &ledger, attempt);
    part(&attempt, 99).expect("finishes");
    assert_eq!(seen.get(), 10, "no row twice");
}

#[test]
fn an_older_version_of_the_program_does_not_begin_what_a_newer_one_has_begun() {
    let world = World::new();
    let ledger = world.ledger();
    let version = |n| ledger.begin_with("a", BeginOptions::new().version(n)).expect("begins");
    let attempt = version(2).started().expect("started");
    attempt.fail(Failure::retry("no")).expect("fails");
    world.pass(Duration::from_secs(1));
    assert!(matches!(version(1), Begin::Outdated(_)));
    let attempt = version(3).started().expect("a newer one may");
    attempt.complete(b"x").expect("completes");
    assert!(matches!(version(1), Begin::Completed(_)), "a result is a result");
}

/// BEHAVIOURS 43 and 44.
#[test]
fn a_redrive_keeps_input_and_history_whether_it_is_fresh_or_not() {
    let world = World::new();
    let ledger = world.ledger();
    let input = || BeginOptions::new().fingerprint(Fingerprint::of_bytes(b"in")).payload(b"in");
    let attempt = ledger.begin_with("a", input()).expect("begins").started().expect("started");
    attempt.fail(Failure::last("no")).expect("fails");
    let dead = ledger.dead_letters();
    let redrives: [fn(&DeadLetters) -> firstseen::Result<bool>; 2] =
        [|dead| dead.redrive("a"), |dead| dead.redrive_fresh("a")];
    for (times, redrive) in redrives.into_iter().enumerate() {
        assert!(redrive(&dead).expect("redrives"));
        let attempt = started(&ledger, "a");
        assert_eq!(attempt.payload().expect("reads"), Some(b"in".to_vec()));
        assert_eq!(attempt.record().fingerprint, Some(Fingerprint::of_bytes(b"in")));
        assert_eq!(attempt.record().history.len(), times + 1);
        attempt.fail(Failure::last("no")).expect("fails");
    }
}

#[test]
fn a_redrive_keeps_the_saved_stages_unless_it_is_fresh() {
    let world = World::new();
    let ledger = world.ledger();
    let attempt = started(&ledger, "a");
    attempt.stage("one", || Ok::<_, Failure>(1)).expect("runs");
    attempt.fail(Failure::last("no")).expect("fails");
    assert!(ledger.dead_letters().redrive("a").expect("redrives"));
    let attempt = started(&ledger, "a");
    assert_eq!(attempt.stage("one", || Ok::<_, Failure>(2)).expect("was saved"), 1);
    attempt.fail(Failure::last("no")).expect("fails");
    assert!(ledger.dead_letters().redrive_fresh("a").expect("redrives"));
    let attempt = started(&ledger, "a");
    assert_eq!(attempt.stage("one", || Ok::<_, Failure>(3)).expect("runs"), 3);
}

/// Found by `tests/kernel/ledger`: an attempt that was taken over was told that the store is damaged.
#[test]
fn i8_an_attempt_that_finds_its_saved_stages_dropped_or_replaced_is_told_that_it_is_fenced() {
    let kinds: [fn(&Ledger, Attempt); 2] = [
        |_, second| second.complete(b"x").expect("completes"),
        |ledger, second| {
            second.fail(Failure::last("changed")).expect("fails");
            ledger.dead_letters().redrive_fresh("a").expect("redrives");
            let third = started(ledger, "a");
            third.stage("other", || Ok::<_, Failure>(3)).expect("runs");
        },
    ];
    for take_over in kinds {
        let world = World::new();
        let ledger = world.ledger();
        let attempt = started(&ledger, "a");
        attempt.stage("one", || Ok::<_, Failure>(1)).expect("runs");
        let late = again(&world, &ledger, attempt);
        world.pass(LEASE);
        take_over(&ledger, started(&ledger, "a"));
        let failed = late.stage("one", || -> Done { panic!("is not run") }).expect_err("is late");
        assert!(failed.reason().contains("taken the record over"), "{failed:?}");
        assert!(matches!(late.fail(failed), Err(AttemptError::Fenced { .. })));
    }
}

#[test]
fn a_cursor_goes_on_where_it_was_in_the_same_attempt_and_keeps_its_number() {
    let world = World::new();
    let ledger = world.ledger();
    let attempt = started(&ledger, "a");
    let failed: Done = attempt.stage_with_cursor("rows", |cursor| {
        cursor.advance(4_u32)?;
        Err(Failure::retry("no"))
    });
    failed.expect_err("fails");
    let other = attempt.stage("charge", || -> Done { panic!("is not run") });
    assert!(other.expect_err("is another").reason().contains("list of stages has changed"));
    let done: Done = attempt.stage_with_cursor("rows", |cursor| {
        assert_eq!(cursor.position(), Some(&4_u32));
        Ok::<_, Failure>(7)
    });
    assert_eq!(done.expect("goes on"), 7);
}

/// Its effect would come to nothing.
#[test]
fn i8_a_stage_of_an_attempt_that_is_over_does_no_work() {
    let world = World::new();
    let ledger = world.ledger();
    let none = |attempt: &Attempt| {
        let never = attempt.stage("s", || -> Done { panic!("the effect happens") });
        never.expect_err("is over")
    };
    let attempt = started(&ledger, "a");
    attempt.complete(b"").expect("completes");
    assert!(none(&attempt).reason().contains("the attempt is over"));
    let first = started(&ledger, "b");
    world.pass(LEASE);
    let second = started(&ledger, "b");
    assert!(none(&first).reason().contains("taken the record over"));
    second.complete(b"").expect("completes");
    // While nobody has taken over, the work goes on.
    let late = started(&ledger, "c");
    world.pass(LEASE);
    late.stage("s", || Ok::<_, Failure>(1)).expect("revives its lease");
    assert!(ledger.is_in_progress(&record(&ledger, "c")));
}

#[test]
fn a_future_of_a_saved_stage_is_not_made() {
    let world = World::new();
    let ledger = world.ledger();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let attempt = started(&ledger, "a");
    let stage = attempt.stage_async("s", || async { Ok::<_, Failure>(1_u32) });
    assert_eq!(runtime.block_on(stage).expect("runs"), 1);
    let attempt = again(&world, &ledger, attempt);
    let made = Cell::new(false);
    let stage = attempt.stage_async("s", || {
        made.set(true);
        std::future::ready(Ok::<_, Failure>(2_u32))
    });
    assert_eq!(runtime.block_on(stage).expect("was saved"), 1);
    assert!(!made.get(), "the work may have begun before its first poll");
}

/// What ends a record changes all rows beside it in one commit, which has a bound.
#[test]
fn what_is_kept_beside_a_record_is_bounded_so_that_every_record_can_end() {
    let disk = SimDisk::new();
    let store = sim(&disk, &clock())
        .segment_bytes(16 << 20)
        .memtable_bytes(64 << 20)
        .open()
        .expect("opens");
    let policies = options().dead_ttl(firstseen::days(1)).lease(Duration::from_secs(3_600));
    let ledger = store.ledger_with("l", policies).expect("opens");
    let large = BeginOptions::new().payload(vec![1; 2 << 20]);
    let long_id = "i".repeat(firstseen::limits::LEDGER_ID_BYTES_MAX);
    let Begin::Started(attempt) = ledger.begin_with(&long_id, large).expect("begins") else {
        panic!()
    };
    attempt.stage("one", || Ok::<_, Failure>(vec![1_u8; 2 << 20])).expect("fits");
    let third = attempt.stage("two", || Ok::<_, Failure>(vec![1_u8; 1 << 20]));
    assert!(third.expect_err("does not fit").reason().contains("saved stages"));
    for n in 1..firstseen::limits::LEDGER_STAGES_MAX {
        attempt.stage(&format!("{n}"), || Ok::<_, Failure>(n)).expect("fits");
    }
    let more = attempt.stage("more", || -> Done { panic!("is not run") });
    assert!(more.expect_err("is one too many").reason().contains("at most 1024"));
    attempt.fail(Failure::last("no")).expect("dies, with all rows beside it");
    assert!(ledger.dead_letters().redrive(&long_id).expect("redrives"));
    let attempt = started(&ledger, &long_id);
    assert_eq!(attempt.payload().expect("reads").map(|payload| payload.len()), Some(2 << 20));
    attempt.complete(vec![1; 1 << 20]).expect("completes");
}

/// The store refused a save and took the next: nobody is in doubt any more.
#[test]
fn a_save_that_succeeds_takes_back_the_doubt_of_one_that_failed() {
    let world = World::new();
    let ledger = world.ledger();
    let attempt = started(&ledger, "a");
    let value = || Ok::<_, Failure>(vec![7_u8; 200 << 10]);
    attempt.stage("one", value).expect("fits in the segment");
    let full = firstseen::disk::sim::Fault::Error(io::ErrorKind::StorageFull);
    let refused = attempt.stage("two", || {
        // Of what follows: the save.
        world.disk.fail_at(world.disk.ops(), full, false);
        value()
    });
    refused.expect_err("there is no room for a segment");
    attempt.stage("two", value).expect("there is");
    drop(attempt);
    assert!(matches!(begin(&ledger, "a"), Begin::RetryAt(_)), "its end was not noted");
}
