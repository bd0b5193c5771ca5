//! Crashes: what becomes of the attempts of a process that is gone.

use super::*;
use crate::support::settle;
use firstseen::Durability;
use firstseen::disk::sim::Fault;
use firstseen::ledger::{AttemptEnd, Failure, Fingerprint, OnLeaseEnd, State};
use std::collections::BTreeSet;

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
    told.fail(Failure::retry("not done")).expect("was not done");
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
    started(&ledger, "failed").fail(Failure::retry("why")).expect("fails");
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

/// Nothing is evicted: not by a flush, a merge or a compaction, and not because memory is small.
#[test]
fn i1_no_completed_id_of_thousands_is_ever_first_again_within_its_ttl() {
    let world = World::new();
    let count = 6_000_u32;
    let result = |n: u32| format!("receipt {n} ").repeat(10);
    let check = |ledger: &Ledger, ids: std::ops::Range<u32>| {
        for n in ids {
            let begun = begin(ledger, &format!("id-{n}"));
            let Begin::Completed(record) = begun else { panic!("{n} is first again: {begun:?}") };
            assert_eq!(record.result(), Some(result(n).as_bytes()), "{n}");
        }
    };
    for first in (0..count).step_by(500) {
        let ledger = world.ledger();
        for n in first..first + 500 {
            let attempt = started(&ledger, &format!("id-{n}"));
            attempt.complete_for(result(n), firstseen::seconds(3_600)).expect("completes");
            // What is replaced is garbage, for compaction.
            abandon(started(&ledger, "hot"));
            ledger.cancel("hot", "again").expect("cancels");
            ledger.redrive("hot").expect("redrives");
        }
        world.store.freeze();
        settle(&world.store);
        check(&ledger, first / 2..first / 2 + 100);
    }
    let stats = world.store.stats();
    assert!(stats.runs_flushed > 10 && stats.ids_flushed > 5_000, "{stats:?}");
    assert!(stats.merges > 0 && stats.segments_removed > 0, "{stats:?}");
    check(&world.ledger(), 0..count);
    let disk = world.disk.kill();
    let store = sim(&disk, &world.clock).open().expect("opens");
    let world = World { disk, clock: world.clock.clone(), store };
    check(&world.ledger(), 0..count);
    world.pass(Duration::from_secs(3_601));
    assert!(matches!(begin(&world.ledger(), "id-0"), Begin::Started(_)), "its ttl is over");
}

/// Calls of a program on one id, one after the other.
struct Program<'a> {
    world: &'a World,
    ledger: Ledger,
    attempt: Option<Attempt>,
}

/// What can be seen of a record.
fn seen(record: Option<&Record>) -> String {
    let Some(record) = record else { return "none".to_owned() };
    let Record { state, attempts, redrives, stages, history, .. } = record;
    format!("{state}: {attempts} {redrives} {stages} {}", history.len())
}

type Call<'a> = fn(&mut Program<'a>) -> bool;

impl<'a> Program<'a> {
    fn begins(&mut self) -> bool {
        let begin = BeginOptions::new().payload(b"what".to_vec());
        self.attempt = self.ledger.begin_with("a", begin).ok().and_then(Begin::started);
        self.attempt.is_some()
    }

    fn says(&mut self, end: impl FnOnce(&Attempt) -> bool) -> bool {
        let attempt = self.attempt.take().expect("an attempt");
        let is_told = end(&attempt);
        abandon(attempt);
        is_told
    }

    /// Each returns whether the caller was told that it is done.
    const CALLS: [Call<'a>; 19] = [
        Self::begins,
        |p| p.attempt.as_ref().expect("one").stage("one", || Ok::<_, Failure>(1)).is_ok(),
        |p| p.says(|attempt| attempt.fail(Failure::retry("once")).is_ok()),
        |p| p.ledger.redrive("a").is_ok(),
        Self::begins,
        |p| p.says(|attempt| attempt.release().is_ok()),
        |p| p.ledger.cancel("a", "by hand").is_ok(),
        |p| p.ledger.dead_letters().redrive("a").is_ok(),
        Self::begins,
        |p| p.says(|attempt| attempt.fail(Failure::last("no")).is_ok()),
        |p| p.ledger.settle("a", b"after all", "by hand").is_ok(),
        |p| p.ledger.redrive("a").is_ok(),
        Self::begins,
        |p| p.says(|attempt| attempt.complete(b"done").is_ok()),
        |p| p.ledger.redrive("a").is_ok(),
        Self::begins,
        |p| {
            abandon(p.attempt.take().expect("one"));
            p.world.pass(LEASE);
            p.ledger.sweep_ended().is_ok_and(|swept| swept.failed.is_empty())
        },
        |p| p.ledger.dead_letters().redrive_fresh("a").is_ok(),
        |p| p.ledger.purge("a").is_ok(),
    ];

    /// Runs until a call is not told of its success. Returns what was seen before the first call and after each.
    fn run(world: &'a World, disk: &SimDisk) -> Vec<String> {
        let mut told = vec![seen(None)];
        let policies = options().attempts_max(9).on_lease_end(OnLeaseEnd::Hold);
        let store = sim(disk, &world.clock).open();
        let ledger = store.and_then(|s| s.ledger_with("l", policies.durability(Durability::Disk)));
        let Ok(ledger) = ledger else { return told };
        let mut program = Program { world, ledger, attempt: None };
        for call in Self::CALLS {
            if !call(&mut program) {
                program.attempt.into_iter().for_each(abandon);
                break;
            }
            told.push(program.ledger.get("a").map_or("?".to_owned(), |found| seen(found.as_ref())));
        }
        told
    }
}

/// The power is cut at any step of the disk. What was told at `Disk` is so afterwards, what was not told has happened
/// or not, the rows agree, and the work can go on.
#[test]
fn i1_after_a_crash_at_any_step_what_was_told_is_so_and_every_record_is_whole_and_can_go_on() {
    let (steps, wanted) = {
        let world = World::new();
        let disk = SimDisk::new().without_mapping();
        let told = Program::run(&world, &disk);
        assert_eq!(told.len(), Program::CALLS.len() + 1, "{told:?}");
        (disk.ops(), told)
    };
    let mut met = BTreeSet::new();
    for step in 0..steps {
        let world = World::new();
        let disk = SimDisk::new().without_mapping();
        disk.fail_at(step, Fault::Crash, true);
        let told = Program::run(&world, &disk).len() - 1;
        for seed in 0..3 {
            let disk = if seed == 0 { disk.lose_unsynced() } else { disk.crash(step * 3 + seed) };
            let store = sim(&disk, &world.clock).open().expect("opens");
            let ledger = store.ledger_with("l", options().attempts_max(9)).expect("opens");
            let found = ledger.get("a").expect("reads");
            let payload = ledger.payload("a").expect("reads");
            let letter = ledger.dead_letters().get("a").expect("reads");
            let is = seen(found.as_ref());
            let may_be = &wanted[told..(told + 2).min(wanted.len())];
            assert!(may_be.contains(&is), "step {step}: {is}, and told was {may_be:?}");
            met.insert(is.split(':').next().unwrap_or_default().to_owned());
            if let Some(record) = &found {
                assert_eq!(record.has_payload, payload.is_some(), "step {step}");
                let waits = matches!(record.state, State::Dead { .. } | State::Held);
                assert_eq!(waits, letter.is_some(), "step {step}");
            } else {
                assert_eq!((payload, letter), (None, None), "step {step}");
            }
            ledger.redrive("a").expect("redrives");
            let attempt = ledger.begin("a").expect("begins").started().expect("starts");
            attempt.stage("one", || Ok::<_, Failure>(2)).expect("is done or was");
            attempt.complete(b"at last").expect("completes");
        }
    }
    assert!(met.len() >= 6, "all states are met: {met:?}");
}

/// A refusal rests on what somebody else has written, perhaps at a lower level. Told at `Disk`, it holds after a power
/// cut.
#[test]
fn i1_a_refusal_told_at_disk_survives_a_power_cut_whoever_wrote_what_it_rests_on() {
    type Write = fn(&Ledger, Attempt);
    let writes: [(&str, Write); 7] = [
        ("running", |_, attempt| abandon(attempt)),
        ("completed", |_, attempt| attempt.complete(b"x").expect("completes")),
        ("waiting", |_, attempt| attempt.fail(Failure::retry("once")).expect("fails")),
        ("held", |_, attempt| drop(attempt)),
        ("dead", |_, attempt| attempt.fail(Failure::last("no")).expect("fails")),
        ("cancelled", |ledger, attempt| {
            ledger.cancel("a", "by hand").expect("cancels");
            abandon(attempt);
        }),
        ("settled", |ledger, attempt| {
            attempt.fail(Failure::last("no")).expect("fails");
            ledger.settle("a", b"x", "by hand").expect("settles");
        }),
    ];
    let versions = [2, 1];
    let inputs = ["one", "two"].map(Fingerprint::of_bytes);
    for (name, write) in writes {
        for (version, input) in versions.iter().flat_map(|v| inputs.map(|input| (*v, input))) {
            let world = World::new();
            let of = |store: &Store, durability| {
                let hold = options().on_lease_end(OnLeaseEnd::Hold).durability(durability);
                store.ledger_with("l", hold).expect("opens")
            };
            let ledgers = [Durability::Process, Durability::Disk].map(|d| of(&world.store, d));
            let [other, ledger] = &ledgers;
            let begin = |ledger: &Ledger, version, input| {
                let options = BeginOptions::new().version(version).fingerprint(input);
                ledger.begin_with("a", options).expect("begins")
            };
            write(other, begin(other, 2, inputs[0]).started().expect("starts"));
            let told = begin(ledger, version, input);
            let told = told.record().unwrap_or_else(|| panic!("{name} is refused: {told:?}"));
            let store = sim(&world.disk.lose_unsynced(), &world.clock).open().expect("opens");
            let found = of(&store, Durability::Disk).get("a").expect("reads");
            let found = found.unwrap_or_else(|| panic!("{name}, told as {}, is gone", told.state));
            // A mismatch is told without the reasons.
            let shown = |record: &Record| {
                let past: Vec<_> = record.history.iter().map(|p| (p.token, p.end)).collect();
                (record.state.to_string(), past)
            };
            assert_eq!(shown(&found), shown(told), "{name}");
        }
    }
}
