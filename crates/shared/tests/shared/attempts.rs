//! Attempts over a line that loses answers.

use crate::support::{
    Fault, LEASE, Line, advance, is_unavailable, ledger, ledger_with, line, options, record,
    started, tick, until,
};
use firstseen_shared::{
    AttemptEnd, Begin, DeadCause, DedupStore, ErrorKind, Failure, LedgerOptions, MoveError,
    OnLeaseEnd, SharedLedger, State, Ttl,
};
use std::time::Duration;
use tokio::time::Instant;

#[tokio::test(start_paused = true)]
async fn what_is_completed_is_replayed_and_who_works_is_told() {
    let line = line();
    let ledger = ledger(&line);
    let attempt = started(&ledger, "a").await;
    assert_eq!((attempt.id(), attempt.number()), (&b"a"[..], 1));
    let busy = ledger.begin("a", None).await.expect("begins");
    assert!(matches!(&busy, Begin::InProgress(record) if record.token == attempt.token()));
    attempt.check().await.expect("it has the record");
    attempt.complete("done").await.expect("completes");
    let replay = ledger.begin("a", None).await.expect("begins");
    assert_eq!(replay.record().and_then(|record| record.result()), Some(&b"done"[..]));
    assert!(matches!(attempt.check().await, Err(MoveError::Over(_))));
    assert!(matches!(attempt.complete("again").await, Err(MoveError::Over(_))));
}

#[tokio::test(start_paused = true)]
async fn a_begin_whose_answers_are_lost_starts_one_attempt() {
    let line = line();
    line.plant(&[Fault::Lost, Fault::Refused, Fault::Lost]);
    let attempt = started(&ledger(&line), "a").await;
    assert_eq!((attempt.number(), line.calls()), (1, 4));
    assert_eq!(record(&line, "a").await.attempts, 1, "counted once");
    attempt.complete("done").await.expect("it is the caller's own");
}

#[tokio::test(start_paused = true)]
async fn an_end_whose_answer_is_lost_has_landed() {
    let line = line();
    let ledger = ledger(&line);
    for (id, end) in [("done", AttemptEnd::Completed), ("failed", AttemptEnd::Failed)] {
        let attempt = started(&ledger, id).await;
        line.plant(&[Fault::Lost, Fault::Lost]);
        match end {
            AttemptEnd::Completed => attempt.complete("x").await.expect("has landed"),
            _ => attempt.fail(Failure::retry("no")).await.expect("has landed"),
        }
        let record = record(&line, id).await;
        assert_eq!(record.history.iter().map(|past| past.end).collect::<Vec<_>>(), [end]);
    }
    for (id, failure) in [("dead", Failure::last("no")), ("held", Failure::hold("who knows"))] {
        let attempt = started(&ledger, id).await;
        line.plant(&[Fault::Lost]);
        attempt.fail(failure).await.expect("has landed");
    }
    let attempt = started(&ledger, "back").await;
    line.plant(&[Fault::Lost]);
    attempt.release().await.expect("has landed");
    assert_eq!(record(&line, "back").await.attempts, 0);
}

#[tokio::test(start_paused = true)]
async fn an_end_that_another_made_is_not_taken_for_ones_own() {
    let line = line();
    let ledger = ledger(&line);
    let attempt = started(&ledger, "a").await;
    line.plant(&[Fault::Refused]);
    // While this one waits for its next try, the effect is looked up and told otherwise.
    let (ended, ()) = tokio::join!(attempt.complete("mine"), async {
        let policy = firstseen_shared::Policy {
            on_lease_end: OnLeaseEnd::Retry,
            attempts_max: 3,
            dead_ttl: Ttl::FOREVER,
        };
        let other = firstseen_shared::Ending::Completed {
            result: b"another's",
            is_failure: false,
            ttl: Ttl::FOREVER,
        };
        let token = attempt.token();
        line.store().end("orders", b"a", token, &other, &policy).await.expect("ends");
    });
    assert!(
        matches!(&ended, Err(MoveError::Over(record)) if record.result() == Some(b"another's"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_completion_that_was_not_answered_is_said_again_and_counts_once() {
    let line = line();
    let ledger = ledger_with(&line, options().patience(Duration::from_secs(5)));
    let attempt = started(&ledger, "a").await;
    line.plant(&[Fault::Lost]);
    let away = async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        line.set_away(true);
    };
    let (ended, ()) = tokio::join!(attempt.complete("x"), away);
    assert!(matches!(&ended, Err(error) if is_unavailable(error)), "{ended:?}");
    line.set_away(false);
    attempt.complete("x").await.expect("the first has landed");
    assert!(matches!(attempt.complete("x").await, Err(MoveError::Over(_))), "now it is over");
}

/// Rule 25.
#[tokio::test(start_paused = true)]
async fn who_was_taken_over_meanwhile_is_fenced_and_not_told_that_it_landed() {
    let line = line();
    let ledger = ledger(&line);
    let attempt = started(&ledger, "a").await;
    advance(&line, LEASE);
    let second = started(&ledger, "a").await;
    line.plant(&[Fault::Lost]);
    let ended = attempt.complete("late").await;
    assert!(
        matches!(&ended, Err(MoveError::Fenced(Some(record))) if record.token == second.token())
    );
    second.complete("second").await.expect("it has the record");
}

/// Rule 9.
#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_starts_nothing_and_is_asked_as_long_as_the_patience_lasts() {
    let line = line();
    let ledger = ledger_with(&line, options().patience(Duration::from_secs(10)));
    line.set_away(true);
    let from = Instant::now();
    let begun = ledger.begin("a", None).await;
    assert_eq!(begun.expect_err("nobody is there").kind(), ErrorKind::Unavailable);
    let took = from.elapsed();
    assert!((8..=10).contains(&took.as_secs()), "{took:?}");
    assert!((10..60).contains(&line.calls()), "with growing pauses: {} calls", line.calls());
    line.set_away(false);
    assert!(line.store().record("orders", b"a").await.expect("reads").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_never_answered_ends_with_the_patience() {
    let line = line();
    let ledger = ledger_with(&line, options().patience(Duration::from_secs(10)));
    line.plant(&[Fault::Hangs]);
    let from = Instant::now();
    let found = ledger.get("a").await;
    assert_eq!(found.expect_err("no answer").kind(), ErrorKind::Unavailable);
    assert_eq!(from.elapsed().as_secs(), 10);
    line.plant(&[Fault::Hangs]);
    let short = ledger_with(&line, options().lease(Duration::from_secs(3)));
    assert!(short.begin("a", None).await.is_err());
    assert!(from.elapsed().as_secs() <= 13, "a lease that is over is of no use");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_right_is_not_tried_again() {
    let line = line();
    let ledger = ledger(&line);
    let begun = ledger.begin("", None).await;
    assert_eq!(begun.expect_err("an empty id").kind(), ErrorKind::Invalid);
    assert_eq!(line.calls(), 1);
    for options in [
        LedgerOptions::new().attempts_max(0),
        LedgerOptions::new().lease(Duration::ZERO),
        LedgerOptions::new().result_ttl(Ttl::from_millis(0)),
        LedgerOptions::new().dead_ttl(Ttl::from_millis(0)),
    ] {
        assert!(SharedLedger::new(line.clone(), "orders", options).is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn each_failure_leads_where_it_says() {
    let line = line();
    let ledger = ledger(&line);
    let hold = ledger_with(&line, options().on_lease_end(OnLeaseEnd::Hold));
    let error = || std::io::Error::other("?");
    let waits = |seconds: u64| {
        move |record: &firstseen_shared::Record| {
            matches!(record.state, State::Waiting { .. })
                && record.time_left() == Duration::from_secs(seconds)
        }
    };
    let dead =
        |record: &firstseen_shared::Record| record.state == State::Dead { cause: DeadCause::Final };
    let held = |record: &firstseen_shared::Record| record.state == State::Held;
    let answered = |record: &firstseen_shared::Record| {
        record.state == State::Completed { result: Some(b"404".to_vec()), is_failure: true }
    };
    #[expect(clippy::type_complexity, reason = "said once")]
    let cases: [(Failure, &SharedLedger<Line>, &dyn Fn(&firstseen_shared::Record) -> bool); 8] = [
        (Failure::retry("no"), &ledger, &waits(1)),
        (Failure::retry_after("no", Duration::from_secs(7)), &ledger, &waits(7)),
        (Failure::from(error()), &ledger, &waits(1)),
        (Failure::from(error()), &hold, &held),
        (Failure::retry("no effect"), &hold, &waits(1)),
        (Failure::last("no"), &ledger, &dead),
        (Failure::hold("?"), &ledger, &held),
        (Failure::replayed("no", "404"), &ledger, &answered),
    ];
    for (n, (failure, ledger, is_so)) in cases.into_iter().enumerate() {
        let id = format!("id-{n}");
        let attempt = started(ledger, &id).await;
        let what = format!("{failure:?}");
        attempt.fail(failure).await.expect("fails");
        let record = record(&line, &id).await;
        assert!(is_so(&record), "{what}: {record:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_result_that_is_too_long_is_refused_before_it_is_sent() {
    let line = line();
    let ledger = ledger_with(&line, options().result_bytes_max(10));
    assert_eq!(ledger.result_bytes_max(), 10);
    let attempt = started(&ledger, "a").await;
    let calls = line.calls();
    let ended = attempt.complete([7; 11]).await;
    assert!(matches!(&ended, Err(MoveError::Store(error)) if error.kind() == ErrorKind::Invalid));
    assert_eq!(line.calls(), calls);
    drop(attempt);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let record = record(&line, "a").await;
    assert!(matches!(record.state, State::Running { .. }), "its effect has happened: {record:?}");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_is_dropped_has_failed() {
    let line = line();
    drop(started(&ledger(&line), "a").await);
    let failed = until(&line, "a", |record| matches!(record.state, State::Waiting { .. })).await;
    assert!(failed.history[0].reason.contains("dropped"), "{failed:?}");
    assert_eq!(failed.attempts, 1);
    let hold = ledger_with(&line, options().on_lease_end(OnLeaseEnd::Hold));
    drop(started(&hold, "b").await);
    until(&line, "b", |record| record.state == State::Held).await;
    let attempt = started(&hold, "c").await;
    attempt.complete("x").await.expect("completes");
    drop(attempt);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(record(&line, "c").await.result(), Some(&b"x"[..]));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_panics_has_failed() {
    let line = line();
    let ledger = ledger(&line);
    let attempt = started(&ledger, "a").await;
    let panicked = tokio::spawn(async move {
        let _attempt = attempt;
        std::panic::resume_unwind(Box::new("boom"));
    });
    panicked.await.expect_err("it has panicked");
    let failed = until(&line, "a", |record| matches!(record.state, State::Waiting { .. })).await;
    assert!(failed.history[0].reason.contains("panicked"), "{failed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_drop_says_nothing_while_nobody_knows_what_became_of_the_work() {
    let line = line();
    let ledger = ledger_with(&line, options().patience(Duration::from_secs(1)));
    let attempt = started(&ledger, "a").await;
    line.set_away(true);
    attempt.complete("x").await.expect_err("nobody is there");
    line.set_away(false);
    drop(attempt);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(matches!(record(&line, "a").await.state, State::Running { .. }), "its lease ends it");
}

#[test]
fn an_attempt_that_is_dropped_outside_of_a_runtime_ends_with_its_lease() {
    let line = line();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime");
    let attempt = runtime.block_on(started(&ledger(&line), "a"));
    drop(attempt);
    let record = runtime.block_on(record(&line, "a"));
    assert!(matches!(record.state, State::Running { .. }));
}

#[tokio::test(start_paused = true)]
async fn who_waits_hears_of_the_end_of_the_lease_and_of_the_time() {
    let line = line();
    tick(&line);
    let ledger = ledger(&line);
    let attempt = started(&ledger, "a").await;
    let from = Instant::now();
    let busy = ledger.wait("a", Duration::from_secs(5)).await.expect("waits").expect("is there");
    assert!(matches!(busy.state, State::Running { .. }));
    assert_eq!(from.elapsed().as_secs(), 5);
    let (waited, ()) = tokio::join!(ledger.wait("a", LEASE), async {
        tokio::time::sleep(Duration::from_secs(10)).await;
        attempt.complete("x").await.expect("completes");
    });
    assert_eq!(waited.expect("waits").expect("is there").result(), Some(&b"x"[..]));
    let took = from.elapsed().as_secs();
    assert!((15..=16).contains(&took), "it is seen within a second: {took}");
    let lost = started(&ledger, "b").await;
    let from = Instant::now();
    let ended = ledger.wait("b", LEASE * 2).await.expect("waits").expect("is there");
    assert!(matches!(ended.state, State::Running { .. }) && ended.time_left().is_zero());
    assert!((59..=61).contains(&from.elapsed().as_secs()), "{:?}", from.elapsed());
    assert!(ledger.wait("unknown", LEASE).await.expect("waits").is_none());
    lost.release().await.expect("nobody has taken over");
}

#[tokio::test(start_paused = true)]
async fn operators_do_their_work_over_a_bad_line() {
    let line = line();
    let ledger = ledger(&line);
    for (id, failure) in [("dead", Failure::last("no")), ("held", Failure::hold("?"))] {
        started(&ledger, id).await.fail(failure).await.expect("fails");
    }
    line.plant(&[Fault::Refused]);
    assert_eq!(
        ledger.dead_letters(None, 9).await.expect("lists"),
        [b"dead".to_vec(), b"held".to_vec()]
    );
    line.plant(&[Fault::Refused]);
    assert_eq!(ledger.stats().await.expect("counts").dead_letters, Some(2));
    line.plant(&[Fault::Refused]);
    assert!(ledger.redrive("dead").await.expect("redrives"));
    line.plant(&[Fault::Refused]);
    assert!(ledger.settle("held", "looked up").await.expect("settles"));
    line.plant(&[Fault::Refused]);
    assert!(ledger.forget("held").await.expect("forgets"));
    assert!(ledger.get("held").await.expect("reads").is_none());
}
