//! `run`: the whole protocol in one call.
#![allow(clippy::disallowed_methods, reason = "real time passes in these tests")]

use super::*;
use crate::support::place;
use firstseen::ledger::{Failure, Ran, RunError, State};
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
    assert!(matches!(ledger.run("a", refuse), Err(RunError::Failed { .. })));
    let Ok(Ran::ReplayedFailure(record)) = ledger.run("a", refuse) else { panic!() };
    assert_eq!(record.result(), Some(&b"404"[..]));
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
        let step = attempt.stage_async("one", async { Ok::<_, Failure>(20) }).await?;
        Ok(step + 1)
    };
    let ran = runtime.block_on(ledger.run_async("a", options(), work));
    assert!(matches!(ran, Ok(Ran::First(21))));
    let ran = runtime.block_on(ledger.run_async("a", options(), work));
    assert!(matches!(ran, Ok(Ran::Replayed(21))));
}
