//! Crashes: what becomes of the attempts of a process that is gone.

use super::*;
use firstseen::Durability;
use firstseen::ledger::{AttemptEnd, OnLeaseEnd, State};

#[test]
fn i8_a_lease_ends_when_its_process_is_gone_and_the_store_opens_again() {
    let world = World::new();
    let ledger = world.ledger();
    let first = started(&ledger, "a");
    let token = first.token();
    abandon(first);
    drop(ledger);
    let world =
        World { store: sim(&world.disk.kill(), &world.clock).open().expect("opens"), ..world };
    let found = record(&world.ledger(), "a");
    assert!(matches!(found.state, State::Running { .. }));
    assert!(!world.ledger().is_in_progress(&found), "may be begun");
    let second = started(&world.ledger(), "a");
    assert!(world.ledger().is_in_progress(&second.record()));
    assert!(second.token() > token);
    second.renew().expect("is the owner");
    let record = record(&world.ledger(), "a");
    assert_eq!(record.history[0].end, AttemptEnd::ProcessEnded);
}

#[test]
fn i8_a_lease_that_outlives_its_process_ends_at_its_time() {
    let world = World::new();
    let outlives = || options().lease_outlives_process(true);
    let ledger = world.store.ledger_with("l", outlives()).expect("opens");
    let first = started(&ledger, "a");
    abandon(first);
    drop(ledger);
    let disk = world.disk.kill();
    let store = sim(&disk, &world.clock).open().expect("opens");
    let ledger = store.ledger_with("l", outlives()).expect("opens");
    assert!(matches!(begin(&ledger, "a"), Begin::InProgress(_)));
    world.pass(LEASE);
    let second = started(&ledger, "a");
    assert_eq!(record(&ledger, "a").history[0].end, AttemptEnd::LeaseEnded);
    drop(second);
}

#[test]
fn the_policy_for_an_ended_lease_is_to_retry_to_hold_or_to_fail() {
    for policy in [OnLeaseEnd::Retry, OnLeaseEnd::Hold, OnLeaseEnd::Fail] {
        let world = World::new();
        let ledger = world.store.ledger_with("l", options().on_lease_end(policy)).expect("opens");
        abandon(started(&ledger, "a"));
        world.pass(LEASE);
        for _ in 0..2 {
            let begun = begin(&ledger, "a");
            match policy {
                OnLeaseEnd::Hold => assert!(matches!(begun, Begin::Held(_)), "{begun:?}"),
                OnLeaseEnd::Fail => assert!(matches!(begun, Begin::Dead(_)), "{begun:?}"),
                _ => {
                    assert!(matches!(begun, Begin::Started(_)), "{begun:?}");
                    break;
                }
            }
        }
        let listed = ledger.dead_letters();
        let held =
            listed.list(&firstseen::ledger::DeadFilter::new().held()).expect("lists").letters.len();
        let dead = listed.list(&firstseen::ledger::DeadFilter::new()).expect("lists").letters.len();
        assert_eq!(
            (held, dead),
            ((policy == OnLeaseEnd::Hold).into(), (policy == OnLeaseEnd::Fail).into())
        );
    }
}

#[test]
fn i8_what_is_to_be_held_is_held_when_its_attempt_is_dropped_and_nobody_lifts_that() {
    let world = World::new();
    let ledger = world.store.ledger_with("l", options().on_lease_end(OnLeaseEnd::Hold));
    let ledger = ledger.expect("opens");
    drop(started(&ledger, "dropped"));
    assert!(matches!(begin(&ledger, "dropped"), Begin::Held(_)));
    let late = started(&ledger, "late");
    world.pass(LEASE);
    assert!(matches!(begin(&ledger, "late"), Begin::Held(_)));
    // A stage that cannot be saved any more is no failure of the work, and neither is a drop.
    let refused = late.stage("s", || Ok::<_, firstseen::ledger::Failure>(1)).expect_err("is held");
    late.fail(refused).expect_err("says nothing");
    drop(late);
    assert!(matches!(begin(&ledger, "late"), Begin::Held(_)));
    let told = started(&ledger, "told");
    told.fail(firstseen::ledger::Failure::retry("not done")).expect("was not done");
    assert!(matches!(begin(&ledger, "told"), Begin::RetryAt(_)));
}

#[test]
fn a_message_that_kills_its_worker_each_time_is_dead_after_as_many_starts_as_are_allowed() {
    let mut world = World::new();
    for n in 1..=3 {
        let ledger = world.ledger();
        let attempt = started(&ledger, "poison");
        assert_eq!(attempt.number(), n);
        abandon(attempt);
        drop(ledger);
        let disk = world.disk.kill();
        let store = sim(&disk, &world.clock).open().expect("opens");
        world = World { disk, clock: world.clock.clone(), store };
    }
    let ledger = world.ledger();
    for _ in 0..3 {
        let Begin::Dead(record) = begin(&ledger, "poison") else { panic!("is dead") };
        assert_eq!((record.attempts, record.history.len()), (3, 3));
        assert!(matches!(record.state, State::Dead { .. }));
    }
    assert!(matches!(begin(&ledger, "other"), Begin::Started(_)), "the queue goes on");
}

#[test]
fn i1_whatever_was_told_before_a_kill_is_so_after_it() {
    let world = World::new();
    let ledger = world.ledger();
    started(&ledger, "done").complete(b"x").expect("completes");
    started(&ledger, "failed").fail(firstseen::ledger::Failure::retry("why")).expect("fails");
    abandon(started(&ledger, "running"));
    ledger.cancel("running", "by hand").expect("cancels");
    let before: Vec<Record> =
        ["done", "failed", "running"].iter().map(|id| record(&ledger, id)).collect();
    let store = sim(&world.disk.kill(), &world.clock).open().expect("opens");
    let ledger = store.ledger_with("payments", options()).expect("opens");
    for record in before {
        assert_eq!(ledger.get(&record.id).expect("reads"), Some(record));
    }
    let letter = ledger.dead_letters().get("running").expect("reads");
    assert!(letter.is_some(), "the pointer is in the same commit");
}

/// The process is gone after any step of the disk. Opened again, the id is as it was before or after the call, its rows
/// agree, and the work can go on.
#[test]
fn i1_after_a_crash_at_any_step_every_record_is_whole_and_can_go_on() {
    let run = |disk: &SimDisk, world: &World| {
        let store = sim(disk, &world.clock).open()?;
        let ledger =
            store.ledger_with("l", options().attempts_max(9).durability(Durability::Disk))?;
        let begun = ledger.begin_with("a", BeginOptions::new().payload(b"what".to_vec()))?;
        if let Some(attempt) = begun.started() {
            attempt.stage("one", || Ok::<_, firstseen::ledger::Failure>(1)).ok();
            attempt.complete(b"done").ok();
        }
        ledger.redrive("a")?;
        if let Some(attempt) = ledger.begin("a")?.started() {
            attempt.fail(firstseen::ledger::Failure::last("no")).ok();
        }
        ledger.dead_letters().purge("a")?;
        Ok::<_, firstseen::Error>(())
    };
    let steps = {
        let world = World::new();
        let disk = SimDisk::new().without_mapping();
        run(&disk, &world).expect("runs");
        disk.ops()
    };
    let mut seen = std::collections::BTreeMap::<String, u32>::new();
    for step in 0..steps {
        let world = World::new();
        let disk = SimDisk::new().without_mapping();
        disk.fail_at(step, firstseen::disk::sim::Fault::Crash, true);
        run(&disk, &world).ok();
        let disk = disk.crash(step);
        let store = sim(&disk, &world.clock).open().expect("opens");
        let ledger = store.ledger_with("l", options().attempts_max(9)).expect("opens");
        let found = ledger.get("a").expect("reads");
        let payload = ledger.payload("a").expect("reads");
        let letter = ledger.dead_letters().get("a").expect("reads");
        let state = found.as_ref().map_or("none".to_owned(), |record| record.state.to_string());
        *seen.entry(state).or_default() += 1;
        if let Some(record) = &found {
            assert_eq!(record.has_payload, payload.is_some(), "step {step}");
            let is_dead = matches!(record.state, State::Dead { .. });
            assert_eq!(is_dead, letter.is_some(), "step {step}");
        } else {
            assert_eq!((payload, letter), (None, None), "step {step}");
        }
        ledger.redrive("a").expect("redrives");
        let attempt = ledger.begin("a").expect("begins").started().expect("starts");
        let one = attempt.stage("one", || Ok::<_, firstseen::ledger::Failure>(2));
        one.expect("is done or was");
        attempt.complete(b"at last").expect("completes");
    }
    assert!(seen.len() >= 4, "all states are met: {seen:?}");
}
