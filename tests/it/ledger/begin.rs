//! Begin, complete, replay, fingerprints.

use super::*;
use firstseen::disk::sim::Fault;
use firstseen::ledger::{AttemptError, Failure, Fingerprint, OnLeaseEnd, Ran, RunError, State};
use firstseen::{Durability, ErrorKind, seconds};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier};
use std::{io, thread};

fn input(text: &str) -> BeginOptions {
    BeginOptions::new().fingerprint(Fingerprint::of_bytes(text))
}

#[test]
fn an_unknown_id_is_started_and_one_caller_is_told_so() {
    let world = World::new();
    let ledger = world.ledger();
    let attempt = started(&ledger, "a");
    assert_eq!((attempt.id(), attempt.number()), (&b"a"[..], 1));
    let Begin::InProgress(record) = begin(&ledger, "a") else { panic!("is in progress") };
    assert_eq!(record.attempts, 1);
    assert!(matches!(record.state, State::Running { .. }));
}

#[test]
fn a_completed_id_replays_its_result_byte_for_byte() {
    let world = World::new();
    let ledger = world.ledger();
    for (id, result) in [("a", &b"receipt"[..]), ("b", &[0, 255, 0]), ("c", &vec![7; 1 << 20])] {
        started(&ledger, id).complete(result).expect("completes");
        for _ in 0..2 {
            let Begin::Completed(record) = begin(&ledger, id) else { panic!("is completed") };
            assert_eq!(record.result(), Some(result));
        }
    }
    drop(ledger);
    let world = world.reopen();
    let Begin::Completed(record) = begin(&world.ledger(), "b") else { panic!("is completed") };
    assert_eq!(record.result(), Some(&[0, 255, 0][..]));
}

#[test]
fn an_empty_result_is_a_result() {
    let world = World::new();
    let ledger = world.ledger();
    started(&ledger, "a").complete(b"").expect("completes");
    let Begin::Completed(record) = begin(&ledger, "a") else { panic!("is completed") };
    assert_eq!(record.result(), Some(&b""[..]));
    record.value::<()>().expect_err("bytes are no value");
    started(&ledger, "b").complete_value(&()).expect("completes");
    let Begin::Completed(record) = begin(&ledger, "b") else { panic!("is completed") };
    assert_eq!(record.result(), Some(&b""[..]));
    record.value::<()>().expect("reads");
}

#[test]
fn of_many_threads_that_begin_at_once_exactly_one_is_started() {
    let world = World::new();
    let ledger = world.ledger();
    for round in 0..300 {
        let id = format!("id-{round}");
        let all_are_here = Barrier::new(8);
        let all: Vec<Begin> = thread::scope(|scope| {
            let spawn = |_| {
                scope.spawn(|| {
                    all_are_here.wait();
                    begin(&ledger, &id)
                })
            };
            let threads: Vec<_> = (0..8).map(spawn).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        let count = all.iter().filter(|begun| matches!(begun, Begin::Started(_))).count();
        assert_eq!(count, 1, "{all:?}");
    }
}

#[test]
fn a_running_id_answers_in_progress_and_is_not_cached_as_completed() {
    let world = World::new();
    let ledger = world.ledger();
    let attempt = started(&ledger, "a");
    assert!(matches!(begin(&ledger, "a"), Begin::InProgress(_)));
    attempt.complete(b"x").expect("completes");
    assert!(matches!(begin(&ledger, "a"), Begin::Completed(_)));
    ledger.redrive("a").expect("redrives");
    assert!(matches!(begin(&ledger, "a"), Begin::Started(_)));
}

#[test]
fn one_id_in_two_ledgers_is_two_records_and_no_claim() {
    let world = World::new();
    let (charge, refund) = (world.ledger(), world.store.ledger("refunds").expect("opens"));
    let charged = started(&charge, "a");
    let refunded = started(&refund, "a");
    charged.complete(b"charged").expect("completes");
    refunded.complete(b"refunded").expect("completes");
    assert_eq!(record(&charge, "a").result(), Some(&b"charged"[..]));
    assert_eq!(record(&refund, "a").result(), Some(&b"refunded"[..]));
    let claims = world.store.namespace("payments").expect("opens");
    assert!(claims.claim("a").expect("claims").is_first_seen());
}

#[test]
fn the_ttl_of_a_result_counts_from_its_completion_and_not_from_the_lease() {
    let world = World::new();
    let ledger = world.ledger();
    for (id, ttl) in [("short", 2), ("long", 100)] {
        started(&ledger, id).complete_for(b"x", seconds(ttl)).expect("completes");
    }
    world.pass(Duration::from_secs(3));
    assert!(ledger.get("short").expect("reads").is_none());
    world.pass(LEASE * 2);
    assert!(matches!(begin(&ledger, "long"), Begin::Completed(_)));
    world.pass(Duration::from_secs(100));
    let attempt = started(&ledger, "long");
    assert_eq!(attempt.number(), 1, "a new record");
}

#[test]
fn a_result_above_the_limit_is_refused_and_nothing_is_written() {
    let world = World::new();
    let ledger = world.store.ledger_with("small", options().result_bytes_max(10)).expect("opens");
    let attempt = started(&ledger, "a");
    let refused = attempt.complete([0; 11]).expect_err("too long");
    assert!(matches!(refused, AttemptError::TooLarge { bytes: 11, bytes_max: 10, .. }));
    assert!(matches!(begin(&ledger, "a"), Begin::InProgress(_)));
    attempt.complete([0; 10]).expect("completes");
}

#[test]
fn a_mismatch_is_told_whatever_the_state_with_the_record_and_without_its_result() {
    let world = World::new();
    let of = |policy| world.store.ledger_with("l", options().on_lease_end(policy)).expect("opens");
    let (ledger, hold) = (of(OnLeaseEnd::Retry), of(OnLeaseEnd::Hold));
    let first_begun = crate::support::NOW;
    let start =
        |id: &str| ledger.begin_with(id, input("one")).expect("begins").started().expect("started");
    abandon(start("lease over"));
    abandon(start("held"));
    world.pass(LEASE);
    assert!(matches!(begin(&hold, "held"), Begin::Held(_)));
    start("waiting").fail(Failure::retry("once")).expect("fails");
    start("dead").fail(Failure::last("bad")).expect("fails");
    start("done").complete(b"secret").expect("completes");
    start("refused").fail(Failure::replayed("no", b"secret")).expect("fails");
    let running = start("running");
    for id in ["running", "lease over", "waiting", "held", "dead", "done", "refused"] {
        let before = record(&ledger, id);
        for ledger in [&ledger, &hold] {
            let told = ledger.begin_with(id, input("two")).expect("begins");
            let Begin::Mismatch(told) = told else { panic!("{id}: {told:?}") };
            assert_eq!(told.id, id.as_bytes());
            let begun = if id == "held" || id == "lease over" {
                first_begun
            } else {
                first_begun + LEASE.as_millis() as u64
            };
            assert_eq!(told.first_begun.as_millis(), begun, "{id}");
            assert_eq!(told.fingerprint, Some(Fingerprint::of_bytes("one")), "{id}");
            assert_eq!(told.result(), None, "{id}");
            assert!(told.history.iter().all(|past| past.reason.is_empty()), "{id}");
            match (&told.state, &before.state) {
                (State::Completed { result, is_failure }, _) => {
                    assert_eq!((result, *is_failure), (&None, false), "{id}");
                }
                (told, stored) => assert_eq!(told, stored, "{id}"),
            }
        }
        assert_eq!(record(&ledger, id), before, "{id}: nothing is written");
    }
    running.complete(b"secret").expect("nobody has taken over");
    let one = ledger.begin_with("done", input("one")).expect("begins");
    let Begin::Completed(record) = one else { panic!("is completed") };
    assert_eq!(record.result(), Some(&b"secret"[..]));
    assert!(
        matches!(begin(&ledger, "done"), Begin::Completed(_)),
        "without one, nothing is compared"
    );
}

#[test]
fn the_fingerprint_is_that_of_the_input_as_it_was_at_begin() {
    let world = World::new();
    let ledger = world.ledger();
    let mut payload = b"before".to_vec();
    let options = BeginOptions::new().fingerprint(Fingerprint::of_bytes(&payload));
    let attempt = ledger.begin_with("a", options).expect("begins").started().expect("started");
    payload.extend(b" and after");
    attempt.complete(b"x").expect("completes");
    assert_eq!(record(&ledger, "a").fingerprint, Some(Fingerprint::of_bytes(b"before")));
}

#[test]
fn calling_begin_on_a_completed_id_counts_nothing() {
    let world = World::new();
    let ledger = world.ledger();
    started(&ledger, "a").complete(b"x").expect("completes");
    let before = record(&ledger, "a");
    for _ in 0..10 {
        assert!(matches!(begin(&ledger, "a"), Begin::Completed(_)));
    }
    assert_eq!(record(&ledger, "a"), before);
}

#[test]
fn work_without_an_id_or_with_one_that_is_too_long_is_refused() {
    let ledger = World::new().ledger();
    let refused = |id: &[u8]| ledger.begin(id).expect_err("is refused").kind();
    assert_eq!(refused(b""), ErrorKind::FixCall);
    assert_eq!(refused(&[1; 1021]), ErrorKind::FixCall);
    assert!(matches!(ledger.begin([1; 1020]).expect("begins"), Begin::Started(_)));
    let ran = ledger.run("", |_| -> Result<u32, Failure> { panic!("is not run") });
    assert!(matches!(ran, Err(RunError::Store(error)) if error.kind() == ErrorKind::FixCall));
}

#[test]
fn a_lease_of_zero_is_refused() {
    let world = World::new();
    let ledger = world.ledger();
    let kind = |refused: firstseen::Error| refused.kind();
    let options = BeginOptions::new().lease(Duration::ZERO);
    assert_eq!(kind(ledger.begin_with("a", options).expect_err("no lease")), ErrorKind::FixCall);
    assert!(ledger.get("a").expect("reads").is_none(), "nothing was begun");
    let zero = world.store.ledger_with("x", options_of_zero()).expect_err("no lease");
    assert_eq!(kind(zero), ErrorKind::FixCall);
}

fn options_of_zero() -> LedgerOptions {
    options().lease(Duration::ZERO)
}

#[test]
fn a_store_that_fails_starts_no_work() {
    for durability in [Durability::Process, Durability::Disk] {
        let (disk, clock) = (SimDisk::new().without_mapping(), crate::support::clock());
        let open = |disk: &SimDisk| {
            let store = sim(disk, &clock).open().expect("opens");
            store.ledger_with("l", options().durability(durability)).expect("opens")
        };
        let ledger = open(&disk);
        started(&ledger, "done").complete_value(&1_u32).expect("completes");
        disk.fail_at(disk.ops(), Fault::Error(io::ErrorKind::Other), true);
        let work = |_: &Attempt| -> Result<u32, Failure> { panic!("the work was called") };
        let failed = ledger.run("a", work).expect_err("was not begun");
        assert!(matches!(failed, RunError::Store(_)), "{durability:?}: {failed}");
        let failed = ledger.begin("a").expect_err("was not begun");
        assert_eq!(failed.kind(), ErrorKind::Reopen, "{durability:?}: {failed}");
        let ledger = open(&disk.kill());
        assert!(ledger.get("a").expect("reads").is_none(), "{durability:?}");
        assert!(matches!(ledger.run("a", |_| Ok(2_u32)), Ok(Ran::First(2))));
        assert!(matches!(ledger.run("done", work), Ok(Ran::Replayed(1))));
    }
    let world = World::new();
    let ledger = world.ledger();
    world.store.clone().close().expect("closes");
    assert_eq!(ledger.begin("a").expect_err("closed").kind(), ErrorKind::Reopen);
}

/// Changes the record after the next sync, and again after each that follows, as often as `left` says.
fn change_after_each_sync(disk: &SimDisk, other: &Ledger, left: &Arc<AtomicU32>) {
    let (again, other, left) = (disk.clone(), other.clone(), Arc::clone(left));
    disk.after_next_sync(move || {
        let count = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        if count.is_ok() {
            change_after_each_sync(&again, &other, &left);
            other.redrive("a").expect("redrives");
        }
    });
}

#[test]
fn a_record_that_others_change_each_time_is_given_up_after_a_bounded_number_of_times() {
    for (count, is_started) in [(100, true), (100_000, false)] {
        let world = World::new();
        let other = world.ledger();
        started(&other, "a").release().expect("is handed back");
        let at_disk = options().durability(Durability::Disk);
        let ledger = world.store.ledger_with("payments", at_disk).expect("opens");
        let left = Arc::new(AtomicU32::new(count));
        change_after_each_sync(&world.disk, &other, &left);
        let begun = ledger.begin("a");
        let lost = count - left.swap(0, Ordering::Relaxed);
        if is_started {
            assert!(begun.expect("the others have stopped").started().is_some());
            assert_eq!(lost, count);
        } else {
            let error = begun.expect_err("says so").to_string();
            assert!(error.contains("others change again and again"), "{error}");
            assert!((1_000..10_000).contains(&lost), "after {lost} changes by others");
            assert_eq!(record(&other, "a").attempts, 0, "nothing was started");
        }
    }
}

/// BEHAVIOURS 8.
#[test]
fn what_others_make_of_a_record_while_it_is_begun_is_answered_as_it_is_then() {
    type Change = fn(&World, &Ledger);
    type IsAnswer = fn(&Begin) -> bool;
    let changes: [(Change, IsAnswer); 4] = [
        (
            |_, other| _ = other.forget("a").expect("forgets"),
            |begun| matches!(begun, Begin::Started(attempt) if attempt.number() == 1),
        ),
        (
            |_, other| started(other, "a").complete(b"theirs").expect("completes"),
            |begun| matches!(begun, Begin::Completed(record) if record.result() == Some(b"theirs")),
        ),
        (
            |_, other| started(other, "a").fail(Failure::last("theirs")).expect("fails"),
            |begun| matches!(begun, Begin::Dead(_)),
        ),
        (
            |_, other| _ = started(other, "a").detach(),
            |begun| matches!(begun, Begin::InProgress(_)),
        ),
    ];
    for (change, is_answer) in changes {
        let world = Arc::new(World::new());
        let other = world.ledger();
        started(&other, "a").fail(Failure::retry_after("once", Duration::ZERO)).expect("fails");
        let at_disk = options().durability(Durability::Disk);
        let ledger = world.store.ledger_with("payments", at_disk).expect("opens");
        let theirs = Arc::clone(&world);
        world.disk.after_next_sync(move || change(&theirs, &other));
        let begun = begin(&ledger, "a");
        assert!(is_answer(&begun), "{begun:?}");
    }
}

#[test]
fn a_ledger_can_ask_for_another_durability_than_its_store() {
    let world = World::new();
    let disk = options().durability(Durability::Disk);
    let ledger = world.store.ledger_with("payments", disk).expect("opens");
    started(&ledger, "a").complete(b"x").expect("completes");
    let copy = world.disk.lose_unsynced();
    let store = sim(&copy, &world.clock).open().expect("opens");
    let ledger = store.ledger_with("payments", options()).expect("opens");
    assert_eq!(record(&ledger, "a").result(), Some(&b"x"[..]));
}
