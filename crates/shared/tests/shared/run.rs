//! The whole protocol in one call.

use crate::support::{
    Fault, LEASE, Line, advance, ledger, ledger_with, line, options, record, started, tick, until,
};
use firstseen_shared::{
    Attempt, Begin, DeadCause, Failure, Fingerprint, Lost, OnLeaseEnd, Ran, RunError, State,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

type Work = Arc<Attempt<Line>>;

#[tokio::test(start_paused = true)]
async fn the_work_is_done_once_and_its_result_is_replayed() {
    let line = line();
    let ledger = ledger(&line);
    let done = Arc::new(AtomicU32::new(0));
    let work = |_: Work| {
        let done = Arc::clone(&done);
        async move { Ok::<_, Failure>(done.fetch_add(1, Ordering::SeqCst).to_string()) }
    };
    let input = Some(Fingerprint::of_bytes("input"));
    assert!(matches!(ledger.run("a", input, work).await, Ok(Ran::First(result)) if result == b"0"));
    let again = ledger.run("a", input, work).await;
    assert!(matches!(again, Ok(Ran::Replayed(result)) if result == b"0"), "rule 15");
    let other = ledger.run("a", Some(Fingerprint::of_bytes("other")), work).await;
    assert!(matches!(other, Ok(Ran::Refused(Begin::Mismatch(_)))));
    assert_eq!(done.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn work_that_takes_many_leases_keeps_its_record() {
    let line = line();
    tick(&line);
    let ledger = ledger(&line);
    let ran = ledger.run("a", None, |_: Work| async {
        tokio::time::sleep(LEASE * 5).await;
        Ok::<_, Failure>("done")
    });
    assert!(matches!(ran.await, Ok(Ran::First(_))));
    assert_eq!(record(&line, "a").await.attempts, 1);
}

#[tokio::test(start_paused = true)]
async fn work_that_fails_is_told_and_tried_again() {
    let line = line();
    let ledger = ledger(&line);
    let fails = |_: Work| async { Err::<Vec<u8>, _>(Failure::from(std::io::Error::other("no"))) };
    let failed = ledger.run("a", None, fails).await;
    assert!(matches!(failed, Err(RunError::Failed { reason }) if reason == "no"));
    assert!(matches!(ledger.run("a", None, fails).await, Ok(Ran::Refused(Begin::RetryAt(_)))));
    advance(&line, Duration::from_secs(1));
    let answer = |_: Work| async { Err::<Vec<u8>, _>(Failure::replayed("no", "404")) };
    let first = ledger.run("a", None, answer).await;
    assert!(matches!(first, Ok(Ran::Failure { result, is_replay: false }) if result == b"404"));
    let again = ledger.run("a", None, answer).await;
    assert!(matches!(again, Ok(Ran::Failure { result, is_replay: true }) if result == b"404"));
}

/// Rule 97.
#[tokio::test(start_paused = true)]
async fn work_whose_lease_is_lost_is_stopped_where_it_stands() {
    let line = line();
    tick(&line);
    let ledger = ledger_with(&line, options().on_lease_end(OnLeaseEnd::Hold));
    let reached = Arc::new(AtomicU32::new(0));
    let inside = Arc::clone(&reached);
    let away = line.clone();
    let ran = ledger.run("a", None, |_: Work| async move {
        away.set_away(true);
        inside.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(LEASE * 2).await;
        inside.fetch_add(1, Ordering::SeqCst);
        Ok::<_, Failure>("done")
    });
    assert!(matches!(ran.await, Err(RunError::Lost(Lost::LeaseEnded))));
    assert_eq!(reached.load(Ordering::SeqCst), 1, "it was not let to its end");
    line.set_away(false);
    tokio::time::sleep(LEASE).await;
    let record = record(&line, "a").await;
    assert!(matches!(record.state, State::Running { .. }), "its lease says how: {record:?}");
    assert!(matches!(ledger.begin("a", None).await, Ok(Begin::Held(_))));
}

#[tokio::test(start_paused = true)]
async fn a_result_that_is_too_long_makes_a_dead_letter_and_not_a_second_effect() {
    let line = line();
    let ledger = ledger_with(&line, options().result_bytes_max(4));
    let long = |_: Work| async { Ok::<_, Failure>("too long") };
    assert!(matches!(ledger.run("a", None, long).await, Err(RunError::Attempt(_))));
    let refusal = |_: Work| async { Err::<Vec<u8>, _>(Failure::replayed("gone", "too long")) };
    assert!(matches!(ledger.run("b", None, refusal).await, Err(RunError::Attempt(_))));
    for (id, what) in [("a", "the work was done"), ("b", "gone")] {
        let record = record(&line, id).await;
        assert_eq!(record.state, State::Dead { cause: DeadCause::Final });
        let reason = &record.history[0].reason;
        assert!(reason.starts_with(what) && reason.contains("at most 4"), "{reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn work_that_is_dropped_has_failed() {
    let line = line();
    let ledger = ledger(&line);
    let work = |_: Work| async {
        tokio::time::sleep(LEASE / 10).await;
        Ok::<_, Failure>("done")
    };
    let ran = tokio::time::timeout(Duration::from_secs(1), ledger.run("a", None, work)).await;
    assert!(ran.is_err(), "it was dropped");
    until(&line, "a", |record| matches!(record.state, State::Waiting { .. })).await;
}

#[tokio::test(start_paused = true)]
async fn no_work_is_done_without_a_store() {
    let line = line();
    let ledger = ledger_with(&line, options().patience(Duration::from_secs(1)));
    line.set_away(true);
    let work = |_: Work| async { panic!("it must not run") };
    let ran =
        ledger.run::<Vec<u8>, std::future::Ready<_>>("a", None, |_| panic!("it must not run"));
    assert!(matches!(ran.await, Err(RunError::Store(_))));
    line.set_away(false);
    let attempt = started(&ledger, "a").await;
    let ran = ledger.run::<Vec<u8>, _>("a", None, work).await;
    assert!(matches!(ran, Ok(Ran::Refused(Begin::InProgress(_)))));
    attempt.release().await.expect("hands it back");
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_lost_all_the_way_make_one_effect() {
    let line = line();
    let ledger = ledger(&line);
    line.plant(&[Fault::Lost, Fault::Lost, Fault::Refused, Fault::Lost, Fault::Lost]);
    let ran = ledger.run("a", None, |attempt: Work| async move {
        assert_eq!(attempt.number(), 1);
        Ok::<_, Failure>("done")
    });
    assert!(matches!(ran.await, Ok(Ran::First(_))));
    assert_eq!(record(&line, "a").await.attempts, 1);
}
