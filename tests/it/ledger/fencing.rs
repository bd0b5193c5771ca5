//! Leases and tokens (I8): who may still say how an attempt went.

use super::*;
use firstseen::ledger::{AttemptEnd, AttemptError, Failure, OnLeaseEnd, State};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

/// An attempt whose lease has ended, and the one that took over.
fn taken_over(world: &World, ledger: &Ledger) -> (Attempt, Attempt) {
    let first = started(ledger, "a");
    world.pass(LEASE);
    let second = started(ledger, "a");
    (first, second)
}

#[test]
fn i8_after_a_lease_ends_the_next_attempt_has_a_higher_token_and_the_first_is_noted() {
    let world = World::new();
    let ledger = world.ledger();
    let first = started(&ledger, "a");
    world.pass(Duration::from_millis(9_999));
    assert!(matches!(begin(&ledger, "a"), Begin::InProgress(_)));
    world.pass(Duration::from_millis(1));
    let second = started(&ledger, "a");
    assert!(second.token() > first.token());
    assert_eq!(second.number(), 2);
    let record = record(&ledger, "a");
    assert_eq!(record.history.len(), 1);
    assert_eq!(record.history[0].end, AttemptEnd::LeaseEnded);
    assert_eq!(record.history[0].token, first.token());
}

type Call<'a> = &'a dyn Fn(&Attempt) -> Result<(), AttemptError>;

#[test]
fn i8_what_an_attempt_says_after_a_takeover_is_refused_and_the_record_untouched() {
    let stage = |attempt: &Attempt| {
        let saved = attempt.stage("s", || Ok::<_, Failure>(1));
        attempt.fail(saved.expect_err("is refused"))
    };
    let calls: [(&str, Call<'_>); 9] = [
        ("complete", &|attempt| attempt.complete(b"late")),
        ("fail", &|attempt| attempt.fail(Failure::retry("late"))),
        ("bury", &|attempt| attempt.fail(Failure::last("late"))),
        ("refuse", &|attempt| attempt.fail(Failure::replayed("late", b"late"))),
        ("renew", &|attempt| attempt.renew()),
        ("renew for", &|attempt| attempt.renew_for(LEASE)),
        ("release", &|attempt| attempt.release()),
        ("check", &|attempt| attempt.check()),
        ("stage", &stage),
    ];
    // Each call is the first thing that a fenced attempt says.
    for (name, call) in calls {
        let world = World::new();
        let ledger = world.ledger();
        let (first, second) = taken_over(&world, &ledger);
        let before = record(&ledger, "a");
        let told = match call(&first) {
            Err(AttemptError::Fenced { record }) => record.expect("says who has it"),
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(told.token, second.token(), "{name}");
        assert_eq!(record(&ledger, "a"), before, "{name}");
        drop(first);
        assert_eq!(record(&ledger, "a"), before, "{name}, and dropping it");
        second.complete(b"in time").expect("completes");
    }
}

#[test]
fn i8_a_late_completion_lands_while_nobody_has_taken_over() {
    let world = World::new();
    let ledger = world.ledger();
    let attempt = started(&ledger, "a");
    world.pass(LEASE * 3);
    attempt.complete(b"late").expect("the effect has happened");
    let Begin::Completed(record) = begin(&ledger, "a") else { panic!("is completed") };
    assert_eq!(record.result(), Some(&b"late"[..]));
}

#[test]
fn i8_a_late_completion_lands_although_the_record_was_held_or_given_up_meanwhile() {
    for on_lease_end in [OnLeaseEnd::Hold, OnLeaseEnd::Fail] {
        let world = World::new();
        let ledger = world.store.ledger_with("l", options().on_lease_end(on_lease_end));
        let ledger = ledger.expect("opens");
        let attempt = started(&ledger, "a");
        world.pass(LEASE);
        assert!(matches!(begin(&ledger, "a"), Begin::Held(_) | Begin::Dead(_)));
        attempt.complete(b"late").expect("nobody has taken over");
        assert_eq!(record(&ledger, "a").result(), Some(&b"late"[..]));
        let none = ledger.dead_letters().get("a").expect("reads");
        assert_eq!(none, None, "is no dead letter any more");
    }
}

#[test]
fn i8_a_token_belongs_to_the_attempt_and_not_to_the_worker() {
    let world = World::new();
    let ledger = world.ledger();
    let again = || {
        let options = BeginOptions::new().worker("the same");
        ledger.begin_with("a", options).expect("begins").started().expect("started")
    };
    let first = again();
    world.pass(LEASE);
    let second = again();
    assert!(matches!(first.complete(b"1"), Err(AttemptError::Fenced { .. })));
    second.complete(b"2").expect("completes");
}

#[test]
fn i8_tokens_are_unique_and_grow_over_ids_restarts_and_power_cuts() {
    let mut world = World::new();
    let mut tokens = Vec::new();
    for round in 0..6 {
        let ledger = world.ledger();
        for n in 0..20 {
            let attempt = started(&ledger, &format!("{round}-{n}"));
            tokens.push(attempt.token());
            attempt.complete(b"").expect("completes");
        }
        drop(ledger);
        if round % 2 == 0 {
            world = world.reopen();
        } else {
            // The rows themselves are lost: their tokens were told all the same.
            let disk = world.disk.lose_unsynced();
            let store = sim(&disk, &world.clock).open().expect("opens");
            world = World { disk, clock: world.clock.clone(), store };
        }
    }
    assert!(tokens.windows(2).all(|pair| pair[0] < pair[1]), "{tokens:?}");
}

#[test]
fn i8_a_good_token_renews_a_lease_and_an_ended_completed_or_cancelled_one_does_not() {
    let world = World::new();
    let ledger = world.ledger();
    let attempt = started(&ledger, "a");
    for _ in 0..5 {
        world.pass(LEASE / 2);
        attempt.renew().expect("renews");
    }
    assert!(matches!(begin(&ledger, "a"), Begin::InProgress(_)));
    world.pass(LEASE);
    assert!(matches!(attempt.renew(), Err(AttemptError::LeaseEnded)));
    attempt.complete(b"x").expect("completes");
    assert!(matches!(attempt.renew(), Err(AttemptError::Over { .. })));
    let cancelled = started(&ledger, "b");
    ledger.cancel("b", "why").expect("cancels");
    assert!(matches!(cancelled.renew(), Err(AttemptError::Fenced { .. })));
    let longer = started(&ledger, "c");
    longer.renew_for(LEASE * 4).expect("renews");
    world.pass(LEASE * 3);
    longer.renew().expect("is still running");
}

#[test]
fn saving_a_stage_extends_the_lease() {
    let world = World::new();
    let ledger = world.ledger();
    let attempt = started(&ledger, "a");
    for n in 0..4 {
        world.pass(LEASE / 2);
        attempt.stage(&format!("s{n}"), || Ok::<_, Failure>(n)).expect("is saved");
    }
    assert!(matches!(begin(&ledger, "a"), Begin::InProgress(_)));
}

#[test]
fn saving_a_stage_or_renewing_never_shortens_a_lease_that_was_extended_further() {
    let world = World::new();
    let ledger = world.ledger();
    let attempt = started(&ledger, "a");
    attempt.renew_for(LEASE * 4).expect("renews");
    attempt.stage("s", || Ok::<_, Failure>(1)).expect("is saved");
    attempt.renew().expect("renews");
    world.pass(LEASE * 3);
    assert!(matches!(begin(&ledger, "a"), Begin::InProgress(_)));
    attempt.renew_for(LEASE / 2).expect("a length that is asked for counts from now");
    world.pass(LEASE / 2);
    assert!(matches!(begin(&ledger, "a"), Begin::Started(_)));
}

#[test]
fn i8_of_two_completions_at_once_one_lands_and_the_other_is_told_so() {
    for _ in 0..50 {
        let world = World::new();
        let ledger = world.ledger();
        let attempt = Arc::new(started(&ledger, "a"));
        let both: Vec<_> = (0..2_u8)
            .map(|n| {
                let attempt = Arc::clone(&attempt);
                thread::spawn(move || attempt.complete([n]))
            })
            .collect();
        let both: Vec<_> = both.into_iter().map(|thread| thread.join().expect("runs")).collect();
        let landed = both.iter().position(Result::is_ok).expect("one lands");
        let Err(AttemptError::Over { record }) = &both[1 - landed] else { panic!("{both:?}") };
        assert_eq!(record.result(), Some(&[landed as u8][..]));
    }
}

#[test]
fn of_many_that_find_an_ended_lease_one_takes_over() {
    let world = World::new();
    let ledger = world.ledger();
    for round in 0..200 {
        let id = format!("id-{round}");
        abandon(started(&ledger, &id));
        world.pass(LEASE);
        let all_are_here = Barrier::new(4);
        let started = thread::scope(|scope| {
            let spawn = |_| {
                scope.spawn(|| {
                    all_are_here.wait();
                    begin(&ledger, &id)
                })
            };
            let threads: Vec<_> = (0..4).map(spawn).collect();
            let all = threads.into_iter().map(|thread| thread.join().expect("runs"));
            all.filter_map(Begin::started).map(abandon).count()
        });
        assert_eq!(started, 1);
        assert_eq!(record(&ledger, &id).attempts, 2);
    }
}

#[test]
fn cancelling_ends_what_waits_or_runs_and_changes_nothing_that_is_over() {
    let world = World::new();
    let ledger = world.ledger();
    assert!(ledger.cancel("unknown", "").expect("reads").is_none());
    let is_cancelled = |id| {
        let cancelled = ledger.cancel(id, "by hand").expect("cancels").expect("is there");
        matches!(cancelled.state, State::Dead { .. })
    };
    let running = started(&ledger, "running");
    assert!(is_cancelled("running"));
    assert!(matches!(running.complete(b""), Err(AttemptError::Fenced { .. })));
    assert_eq!(record(&ledger, "running").history[0].end, AttemptEnd::Cancelled);
    started(&ledger, "waiting").fail(Failure::retry("once")).expect("fails");
    assert!(is_cancelled("waiting"));
    let last = record(&ledger, "waiting").history.pop().expect("is noted");
    assert_eq!((last.reason.as_str(), last.token), ("by hand", 0));
    let hold = options().on_lease_end(OnLeaseEnd::Hold);
    let hold = world.store.ledger_with("payments", hold).expect("opens");
    let late = started(&hold, "held");
    world.pass(LEASE);
    assert!(matches!(begin(&hold, "held"), Begin::Held(_)));
    assert!(is_cancelled("held"));
    assert!(matches!(late.complete(b""), Err(AttemptError::Fenced { .. })));
    assert!(matches!(begin(&hold, "held"), Begin::Dead(_)));
    abandon(started(&ledger, "lease over"));
    world.pass(LEASE);
    assert!(is_cancelled("lease over"));
    started(&ledger, "done").complete(b"x").expect("completes");
    assert!(!is_cancelled("done"));
    assert_eq!(record(&ledger, "done").result(), Some(&b"x"[..]));
    let before = record(&ledger, "waiting");
    assert!(is_cancelled("waiting"));
    assert_eq!(record(&ledger, "waiting"), before);
}

#[test]
fn an_attempt_goes_over_to_another_thread_and_is_held_over_an_await() {
    fn is_send<T: Send + 'static>(_: &T) {}
    let world = World::new();
    let ledger = world.ledger();
    let attempt = started(&ledger, "a");
    let future = async move {
        std::future::ready(()).await;
        attempt.complete(b"x")
    };
    is_send(&future);
    let mut future = Box::pin(future);
    let done = thread::spawn(move || {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        future.as_mut().poll(&mut context).is_ready()
    });
    assert!(done.join().expect("runs"));
    assert!(matches!(begin(&ledger, "a"), Begin::Completed(_)));
}

#[test]
fn i8_an_attempt_is_resumed_by_its_token_until_somebody_has_taken_over() {
    let world = World::new();
    let ledger = world.store.ledger_with("l", options().lease_outlives_process(true));
    let ledger = ledger.expect("opens");
    let first = started(&ledger, "a");
    let token = first.token();
    abandon(first);
    let store = sim(&world.disk.kill(), &world.clock).open().expect("opens after the kill");
    let ledger = store.ledger_with("l", options().lease_outlives_process(true));
    let ledger = ledger.expect("opens");
    assert!(matches!(begin(&ledger, "a"), Begin::InProgress(_)));
    for wrong in [0, token + 1] {
        let refused = ledger.resume("a", wrong);
        assert!(matches!(refused, Err(AttemptError::Fenced { record: Some(_) })), "{wrong}");
    }
    ledger.resume("a", token).expect("is its own").complete(b"done").expect("lands");
    assert!(matches!(ledger.resume("a", token), Err(AttemptError::Fenced { .. })));
    assert!(matches!(ledger.resume("b", token), Err(AttemptError::Fenced { record: None })));
}

#[test]
fn i8_an_attempt_that_is_let_go_of_runs_on_and_is_resumed_by_its_token() {
    let world = World::new();
    let ledger = world.ledger();
    let token = started(&ledger, "a").detach();
    assert!(matches!(begin(&ledger, "a"), Begin::InProgress(_)), "it has not failed");
    let again = ledger.resume("a", token).expect("is its own");
    again.renew().expect("goes on");
    assert_eq!(again.detach(), token);
    ledger.resume("a", token).expect("is its own").complete(b"done").expect("lands");
    assert_eq!(record(&ledger, "a").result(), Some(&b"done"[..]));
}

/// A wall clock that shows another year for a moment must not hold a record back for that long.
#[test]
fn a_clock_that_is_wrong_for_a_moment_parks_neither_a_failure_nor_a_renewed_lease() {
    const YEAR: u64 = 365 * 24 * 3_600_000;
    let world = World::new();
    let ledger = world.ledger();
    let (failed, renewed) = (started(&ledger, "failed"), started(&ledger, "renewed"));
    let right = firstseen::Clock::wall(&world.clock);
    world.clock.jump_to(firstseen::Timestamp::from_millis(right.as_millis() + YEAR));
    failed.fail(Failure::retry("no")).expect("fails");
    renewed.renew().expect("renews");
    world.clock.jump_to(right);
    renewed.renew().expect("renews");
    world.pass(LEASE);
    assert!(matches!(begin(&ledger, "failed"), Begin::Started(_)));
    assert!(matches!(begin(&ledger, "renewed"), Begin::Started(_)));
}

/// Silence does not lift what another handle, with another policy, has held.
#[test]
fn an_attempt_that_is_dropped_leaves_a_hold() {
    let world = World::new();
    let attempt = started(&world.ledger(), "a");
    world.pass(LEASE);
    let holds = options().on_lease_end(firstseen::ledger::OnLeaseEnd::Hold);
    let holds = world.store.ledger_with("payments", holds).expect("opens");
    assert!(matches!(begin(&holds, "a"), Begin::Held(_)));
    drop(attempt);
    assert!(matches!(begin(&world.ledger(), "a"), Begin::Held(_)));
}

/// Shows a later time from the given reading on.
#[derive(Debug, Clone)]
struct SlowCommit {
    clock: ManualClock,
    readings: Arc<AtomicI64>,
}

impl firstseen::Clock for SlowCommit {
    fn wall(&self) -> firstseen::Timestamp {
        if self.readings.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.clock.advance(LEASE * 2);
        }
        self.clock.wall()
    }

    fn elapsed_ms(&self) -> u64 {
        self.clock.elapsed_ms()
    }

    fn boot_id(&self) -> u128 {
        self.clock.boot_id()
    }
}

#[test]
fn i8_an_attempt_that_is_started_has_a_lease_however_long_its_commit_took() {
    for readings in 0..12 {
        let (disk, clock) = (SimDisk::new(), clock());
        let slow = SlowCommit { clock: clock.clone(), readings: Arc::default() };
        let store = sim(&disk, &clock).clock(slow.clone()).open().expect("opens");
        let ledger = store.ledger_with("l", options()).expect("opens");
        slow.readings.store(readings, Ordering::Relaxed);
        let attempt = started(&ledger, "a");
        slow.readings.store(0, Ordering::Relaxed);
        assert!(ledger.is_in_progress(&attempt.record()), "{readings} readings");
        attempt.complete(b"").expect("completes");
    }
}

/// Who completes says that the effect happened: dropping the attempt must not have it made again.
#[test]
fn i8_a_completion_that_is_too_large_leaves_the_attempt_in_doubt() {
    let world = World::new();
    let small = options().result_bytes_max(4);
    let ledger = world.store.ledger_with("l", small).expect("opens");
    let attempt = started(&ledger, "a");
    let error = attempt.complete(b"too large").expect_err("is refused");
    assert!(matches!(error, AttemptError::TooLarge { .. }));
    drop(attempt);
    assert!(matches!(begin(&ledger, "a"), Begin::InProgress(_)));
    let attempt = started(&ledger, "b");
    attempt.complete(b"too large").expect_err("is refused");
    attempt.complete(b"ref").expect("a reference to it is stored");
}
