//! Failures, retries and limits.

use super::*;
use firstseen::ledger::{AttemptEnd, DeadCause, Failure, State};

fn until(record: &Record) -> u64 {
    match record.state {
        State::Waiting { until } => until.as_millis(),
        _ => panic!("does not wait: {}", record.state),
    }
}

#[test]
fn a_failed_id_is_started_anew_after_its_delay() {
    let world = World::new();
    let ledger = world.ledger();
    started(&ledger, "a").fail(Failure::retry("no route")).expect("fails");
    let Begin::RetryAt(record) = begin(&ledger, "a") else { panic!("waits") };
    assert_eq!(record.history[0].reason, "no route");
    world.pass(Duration::from_secs(1));
    let attempt = started(&ledger, "a");
    assert_eq!(attempt.number(), 2);
    attempt.complete(b"x").expect("completes");
}

#[test]
fn delays_grow_up_to_their_limit_and_after_the_last_attempt_the_id_is_dead() {
    let world = World::new();
    let (base, max) = (Duration::from_secs(1), Duration::from_secs(5));
    let backoff = Backoff::exponential(base, 2.0, max).without_jitter();
    let ledger = world.store.ledger_with("l", options().attempts_max(5).backoff(backoff));
    let ledger = ledger.expect("opens");
    let mut delays = Vec::new();
    for n in 1..=5 {
        let attempt = started(&ledger, "a");
        let now = attempt.record().history.last().map_or(0, |past| past.ended.as_millis());
        assert!(now <= attempt.record().first_begun.as_millis() + 20_000);
        attempt.fail(Failure::retry(format!("failure {n}"))).expect("fails");
        let record = record(&ledger, "a");
        if n < 5 {
            let ended = record.history.last().expect("was noted").ended.as_millis();
            delays.push(until(&record) - ended);
            world.pass(Duration::from_millis(*delays.last().expect("a delay")));
        }
    }
    assert_eq!(delays, [1000, 2000, 4000, 5000]);
    let Begin::Dead(record) = begin(&ledger, "a") else { panic!("is dead") };
    assert!(matches!(record.state, State::Dead { cause: DeadCause::Attempts }));
    let reasons: Vec<&str> = record.history.iter().map(|past| past.reason.as_str()).collect();
    assert_eq!(reasons, ["failure 1", "failure 2", "failure 3", "failure 4", "failure 5"]);
}

#[test]
fn a_failure_can_name_its_own_delay() {
    let world = World::new();
    let ledger = world.ledger();
    let wait = Duration::from_secs(77);
    started(&ledger, "a").fail(Failure::retry_after("later", wait)).expect("fails");
    world.pass(Duration::from_millis(76_999));
    assert!(matches!(begin(&ledger, "a"), Begin::RetryAt(_)));
    world.pass(Duration::from_millis(1));
    assert!(matches!(begin(&ledger, "a"), Begin::Started(_)));
    let now = started(&ledger, "b");
    now.fail(Failure::retry_after("at once", Duration::ZERO)).expect("fails");
    assert!(matches!(begin(&ledger, "b"), Begin::Started(_)));
}

#[test]
fn a_final_failure_is_dead_at_once() {
    let world = World::new();
    let ledger = world.ledger();
    started(&ledger, "a").fail(Failure::last("no such account")).expect("fails");
    let Begin::Dead(record) = begin(&ledger, "a") else { panic!("is dead") };
    assert!(matches!(record.state, State::Dead { cause: DeadCause::Final }));
    assert_eq!(record.history[0].end, AttemptEnd::Final);
}

#[test]
fn a_failure_that_is_kept_is_replayed_like_a_result_and_marked() {
    let world = World::new();
    let ledger = world.ledger();
    let failure = Failure::replayed("no such account", b"404".to_vec());
    started(&ledger, "a").fail(failure).expect("fails");
    for _ in 0..2 {
        let Begin::Completed(record) = begin(&ledger, "a") else { panic!("is completed") };
        assert_eq!(record.result(), Some(&b"404"[..]));
        assert!(matches!(record.state, State::Completed { is_failure: true, .. }));
    }
}

#[test]
fn an_attempt_that_is_dropped_has_failed_and_says_how() {
    let world = World::new();
    let ledger = world.ledger();
    drop(started(&ledger, "a"));
    let dropped = record(&ledger, "a");
    assert_eq!(dropped.history[0].end, AttemptEnd::Dropped);
    assert_eq!(until(&dropped), dropped.history[0].ended.as_millis() + 1000);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _attempt = started(&ledger, "b");
        std::panic::resume_unwind(Box::new("boom"));
    }));
    assert!(panicked.is_err());
    let panicked = record(&ledger, "b");
    assert_eq!(panicked.history[0].end, AttemptEnd::Dropped);
    assert!(panicked.history[0].reason.contains("panicked"));
}

#[test]
fn a_record_handed_back_is_not_charged_and_its_count_never_goes_below_zero() {
    let world = World::new();
    let ledger = world.ledger();
    for _ in 0..10 {
        let attempt = started(&ledger, "a");
        assert_eq!(attempt.number(), 1);
        attempt.release().expect("is handed back");
        assert_eq!(record(&ledger, "a").attempts, 0);
    }
    started(&ledger, "a").fail(Failure::retry("once")).expect("fails");
    world.pass(Duration::from_secs(1));
    started(&ledger, "a").release().expect("is handed back");
    assert_eq!(record(&ledger, "a").attempts, 1);
}

#[test]
fn an_attempt_is_counted_before_its_work_starts() {
    let world = World::new();
    let ledger = world.ledger();
    let attempt = started(&ledger, "a");
    assert_eq!(record(&ledger, "a").attempts, 1);
    drop(attempt);
}

#[test]
fn attempts_that_were_all_allowed_before_are_dead_at_the_next_begin_under_a_lower_limit() {
    let world = World::new();
    let ledger = world.ledger();
    for _ in 0..2 {
        started(&ledger, "a").fail(Failure::retry("no")).expect("fails");
        world.pass(Duration::from_secs(1));
    }
    let strict = world.store.ledger_with("payments", options().attempts_max(2)).expect("opens");
    assert!(matches!(begin(&strict, "a"), Begin::Dead(_)));
}
