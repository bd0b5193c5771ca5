//! `run`: the whole protocol in one call.
#![allow(clippy::disallowed_methods, reason = "real time passes in these tests")]

use super::*;
use crate::support::place;
use firstseen::ledger::{Failure, OnLeaseEnd, Ran, RunError, State};
use firstseen::testing::{deny_timers, waiting_renewals};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{io, thread};

#[test]
fn the_work_is_done_once_and_its_result_is_replayed() {
    let world = World::new();
    let ledger = world.ledger();
    let runs = AtomicU32::new(0);
    let work = |_: &Attempt| {
        runs.fetch_add(1, Ordering::Relaxed);
        Ok(("receipt".to_owned(), 4711_u64))
    };
    let first = ledger.run("a", work).expect("runs");
    assert!(matches!(&first, Ran::First((text, 4711)) if text == "receipt"));
    assert!(!first.is_replay());
    let again = ledger.run("a", work).expect("replays");
    assert!(matches!(&again, Ran::Replayed((text, 4711)) if text == "receipt"));
    assert!(again.is_replay());
    assert_eq!(runs.load(Ordering::Relaxed), 1);
}

/// BEHAVIOURS 15 and 47.
#[test]
fn every_answer_but_the_first_is_marked_as_a_replay() {
    let world = World::new();
    let ledger = world.ledger();
    for time in 1..=4 {
        let ran = ledger.run("a", |_| Ok(7_u32)).expect("answers");
        assert_eq!(ran.is_replay(), time > 1, "time {time}");
    }
    drop(ledger);
    let world = world.reopen();
    assert!(world.ledger().run("a", |_| Ok(7_u32)).expect("answers").is_replay());
}

#[test]
fn a_failure_of_the_work_is_noted_and_tried_again() {
    let world = World::new();
    let ledger = world.ledger();
    let fails = |_: &Attempt| -> Result<u32, Failure> {
        Err(io::Error::new(io::ErrorKind::ConnectionRefused, "bank closed"))?
    };
    let Err(RunError::Failed { reason, record }) = ledger.run("a", fails) else { panic!() };
    assert_eq!(reason, "bank closed");
    assert!(matches!(record.state, State::Waiting { .. }));
    assert!(matches!(ledger.run("a", fails), Ok(Ran::Refused(Begin::RetryAt(_)))));
    world.pass(Duration::from_secs(1));
    assert!(matches!(ledger.run("a", |_| Ok(7_u32)), Ok(Ran::First(7))));
}

#[test]
fn a_refusal_that_is_kept_is_replayed_as_such() {
    let world = World::new();
    let ledger = world.ledger();
    let refuse = |_: &Attempt| -> Result<u32, Failure> { Err(Failure::replayed("no", b"404")) };
    for was_asked_before in [false, true] {
        let Ok(Ran::Failure { record, is_replay }) = ledger.run("a", refuse) else { panic!() };
        assert_eq!((record.result(), is_replay), (Some(&b"404"[..]), was_asked_before));
    }
}

#[test]
fn an_answer_that_cannot_be_stored_is_not_asked_for_again() {
    let world = World::new();
    let ledger = world.store.ledger_with("l", options().result_bytes_max(4)).expect("opens");
    let refuse = |_: &Attempt| -> Result<u32, Failure> { Err(Failure::replayed("no", vec![1; 5])) };
    let Err(RunError::Failed { record, .. }) = ledger.run("a", refuse) else { panic!() };
    assert!(matches!(record.state, State::Dead { .. }), "{record:?}");
    assert!(record.history[0].reason.starts_with("no; but"), "{record:?}");
}

#[derive(Debug, thiserror::Error)]
enum Wrapped {
    #[error("the ledger: {0}")]
    Attempt(#[from] firstseen::ledger::AttemptError),
    #[error("the work: {0}")]
    Failed(#[from] firstseen::ledger::FailureError),
}

/// An error that comes with `?` does not say whether the effect happened.
#[test]
fn an_error_that_says_nothing_of_the_effect_is_held_where_the_policy_is_to_hold() {
    let world = World::new();
    let policies = options().on_lease_end(OnLeaseEnd::Hold);
    let ledger = world.store.ledger_with("hold", policies).expect("opens");
    let state = |id: &str, failure: fn() -> Failure| {
        ledger.run(id, |_| Err::<u8, _>(failure())).expect_err("fails");
        record(&ledger, id).state
    };
    assert_eq!(state("a", || io::Error::other("timed out").into()), State::Held);
    assert_eq!(state("b", || Failure::hold("timed out")), State::Held);
    assert!(matches!(state("c", || Failure::retry("refused")), State::Waiting { .. }));
    let again = ledger.resume("a", record(&ledger, "a").token).expect("may still say how it ended");
    again.complete(b"done").expect("lands");
    assert_eq!(record(&ledger, "a").history.len(), 1, "one attempt, one entry");
    // Elsewhere, only who asks for it is held.
    let ledger = world.ledger();
    ledger.run("a", |_| Err::<u8, _>(io::Error::other("no").into())).expect_err("fails");
    assert!(matches!(record(&ledger, "a").state, State::Waiting { .. }));
    ledger.run("b", |_| Err::<u8, _>(Failure::hold("no"))).expect_err("fails");
    assert_eq!(record(&ledger, "b").state, State::Held);
}

#[test]
fn what_an_attempt_or_a_stage_says_is_heard_through_the_errors_of_others() {
    let world = World::new();
    let ledger = world.ledger();
    let last = |_: &Attempt| -> Result<u8, Failure> {
        Err(Wrapped::from(Failure::last("no such account").into_error()))?
    };
    ledger.run("a", last).expect_err("fails");
    assert!(matches!(record(&ledger, "a").state, State::Dead { .. }));
    let fenced = |attempt: &Attempt| -> Result<u8, Failure> {
        ledger.cancel("b", "not wanted").expect("cancels");
        attempt.renew().map_err(Wrapped::from)?;
        Ok(1)
    };
    let Err(RunError::Attempt(error)) = ledger.run("b", fenced) else { panic!() };
    assert!(matches!(error, firstseen::ledger::AttemptError::Fenced { .. }), "{error:?}");
}

#[test]
fn a_settled_value_is_replayed_by_run_and_bytes_are_not_taken_for_a_value() {
    let world = World::new();
    let ledger = world.ledger();
    let work = |_: &Attempt| -> Result<u64, Failure> { Err(Failure::last("bank closed")) };
    for id in ["a", "b"] {
        ledger.run(id, work).expect_err("fails");
    }
    ledger.settle_value("a", &4711_u64, "it was paid").expect("settles");
    assert!(matches!(ledger.run("a", work), Ok(Ran::Replayed(4711))));
    ledger.settle("b", b"x", "it was paid").expect("settles");
    let Err(RunError::Attempt(error)) = ledger.run("b", work) else { panic!("was read as 120") };
    assert!(error.to_string().contains("stored as bytes"), "{error}");
}

/// As when the machine slept: nobody has taken over, and the work goes on.
#[test]
fn a_lease_that_ended_under_running_work_is_renewed_while_nobody_has_taken_over() {
    let world = World::new();
    let lease = Duration::from_millis(300);
    let ledger = world.store.ledger_with("l", options().lease(lease)).expect("opens");
    let is_running = || ledger.is_in_progress(&record(&ledger, "a"));
    let ran = ledger.run("a", |_| {
        world.pass(Duration::from_secs(60));
        assert!(!is_running());
        let began = std::time::Instant::now();
        while !is_running() && began.elapsed() < Duration::from_secs(20) {
            thread::sleep(Duration::from_millis(10));
        }
        assert!(is_running(), "nobody renews it");
        Ok(1_u32)
    });
    assert!(matches!(ran, Ok(Ran::First(1))), "{ran:?}");
}

#[test]
fn work_whose_result_cannot_be_stored_is_not_done_again() {
    let world = World::new();
    let ledger = world.store.ledger_with("l", options().result_bytes_max(4)).expect("opens");
    let work = |_: &Attempt| Ok(vec![1_u8; 100]);
    assert!(matches!(ledger.run("a", work), Err(RunError::Attempt(_))));
    let Ok(Ran::Refused(Begin::Dead(record))) = ledger.run("a", work) else { panic!() };
    assert!(record.history[0].reason.contains("the work was done"));
}

#[test]
fn a_panic_in_the_work_is_a_failure() {
    let world = World::new();
    let ledger = world.ledger();
    let panics = |_: &Attempt| -> Result<u32, Failure> { std::panic::resume_unwind(Box::new(1)) };
    let run = || ledger.run("a", panics).is_ok();
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err());
    assert!(record(&ledger, "a").history[0].reason.contains("panicked"));
}

#[test]
fn the_lease_of_running_work_is_renewed() {
    let (_dir, path) = place();
    let store = Store::open(&path).expect("opens");
    // Long enough for a machine with other work.
    let lease = Duration::from_secs(1);
    let ledger = store.ledger_with("l", options().lease(lease)).expect("opens");
    let ran = ledger.run("a", |attempt| {
        for _ in 0..3 {
            thread::sleep(lease);
            assert!(matches!(begin(&ledger, "a"), Begin::InProgress(_)));
        }
        attempt.check()?;
        Ok(1_u32)
    });
    assert!(matches!(ran, Ok(Ran::First(1))), "{ran:?}");
    drop((ledger, store));
    Store::open(&path).expect("the timer does not keep the store open");
}

#[test]
fn work_that_is_a_future_is_done_once_and_a_dropped_future_is_a_failure() {
    let world = World::new();
    let ledger = world.ledger();
    let options = BeginOptions::new;
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let never = ledger.run_async("dropped", options(), |_| std::future::pending::<Result<u8, _>>());
    let mut never = Box::pin(never);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(never.as_mut().poll(&mut context).is_pending());
    assert!(matches!(begin(&ledger, "dropped"), Begin::InProgress(_)));
    drop(never);
    assert!(matches!(begin(&ledger, "dropped"), Begin::RetryAt(_)));
    let work = |attempt: std::sync::Arc<Attempt>| async move {
        let step = attempt.stage_async("one", || async { Ok::<_, Failure>(20) }).await?;
        Ok(step + 1)
    };
    let ran = runtime.block_on(ledger.run_async("a", options(), work));
    assert!(matches!(ran, Ok(Ran::First(21))));
    let ran = runtime.block_on(ledger.run_async("a", options(), work));
    assert!(matches!(ran, Ok(Ran::Replayed(21))));
}

#[test]
fn i12_work_whose_lease_nobody_can_renew_does_not_begin() {
    let world = World::new();
    let ledger = world.ledger();
    deny_timers(&world.store);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let never = |_: &Attempt| -> Result<u8, Failure> { panic!("it is begun") };
    let never_async = |_| async { panic!("it is begun") };
    let awaited = ledger.run_async::<u8, _>("a", BeginOptions::new(), never_async);
    for failed in [ledger.run("a", never), runtime.block_on(awaited)] {
        let Err(RunError::Store(error)) = failed else { panic!("{failed:?}") };
        assert_eq!(error.kind(), firstseen::ErrorKind::Environment, "{error}");
    }
    assert!(ledger.get("a").expect("reads").is_none(), "no attempt was counted");
}

#[test]
fn work_that_is_done_leaves_no_renewal_behind() {
    let world = World::new();
    let waiting = || waiting_renewals(&world.store);
    for (id, ledger) in [("a", world.ledger()), ("b", world.ledger())] {
        let work = |_: &Attempt| {
            assert_eq!(waiting(), 1, "its lease is to be renewed");
            Ok(1_u32)
        };
        assert!(matches!(ledger.run(id, work), Ok(Ran::First(1))));
        assert_eq!(waiting(), 0, "the lease goes on for seconds");
    }
}

#[test]
fn the_lease_of_work_that_is_done_elsewhere_is_renewed_as_long_as_asked() {
    let (_dir, path) = place();
    let store = Store::open(&path).expect("opens");
    let lease = Duration::from_secs(1);
    let ledger = store.ledger_with("l", options().lease(lease)).expect("opens");
    let Begin::Started(attempt) = begin(&ledger, "a") else { panic!() };
    let renewals = attempt.keep_renewed().expect("a thread");
    for _ in 0..3 {
        thread::sleep(lease);
        assert!(matches!(begin(&ledger, "a"), Begin::InProgress(_)));
    }
    drop(renewals);
    thread::sleep(lease + Duration::from_millis(300));
    assert!(matches!(begin(&ledger, "a"), Begin::Started(_)), "nobody renews it any more");
}

#[test]
fn the_time_until_a_retry_is_told_by_the_clock_of_the_store() {
    let world = World::new();
    let ledger = world.ledger();
    let work = |_: &Attempt| -> Result<u8, Failure> {
        Err(Failure::retry_after("bank closed", Duration::from_secs(60)))
    };
    ledger.run("a", work).expect_err("fails");
    let State::Waiting { until } = record(&ledger, "a").state else { panic!() };
    assert_eq!(ledger.time_until(until), Duration::from_secs(60));
    world.pass(Duration::from_secs(45));
    assert_eq!(ledger.time_until(until), Duration::from_secs(15));
    world.pass(Duration::from_secs(45));
    assert_eq!(ledger.time_until(until), Duration::ZERO);
}
