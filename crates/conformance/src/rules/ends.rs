//! How attempts end: failures, retries, dead letters.

use crate::Fixture;
use crate::kit::{
    Bench, DONE, FAILED, FINAL, LEASE, POLICY, TTL, UNKNOWN, refused_as, started, token_of, until_ms,
};
use firstseen_shared::{AttemptEnd, DeadCause, Ending, Policy, Record, State};
use std::time::Duration;

const TTL_TIME: Duration = Duration::from_secs(600);

/// Rule 37.
pub async fn a_failed_id_waits_for_its_delay_and_is_started_anew<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    let token = here.start("a").await;
    here.pass(LEASE / 2).await;
    here.ends("a", token, &Ending::Failed { retry_after: LEASE, reason: "try later" }).await;
    let record = refused_as!(here.begin("a").await, RetryAt);
    assert!(record.time_left() <= LEASE && record.time_left() + fixture.slack() >= LEASE);
    let past = record.history.last().expect("it is noted");
    assert_eq!((past.token, past.end, past.reason.as_str()), (token, AttemptEnd::Failed, "try later"));
    assert_eq!((record.token, record.attempts), (token, 1));
    here.pass_almost(LEASE).await;
    refused_as!(here.begin("a").await, RetryAt);
    here.pass_rest().await;
    assert_eq!(started(&here.begin("a").await).1, 2);
    let at_once = here.start("b").await;
    here.ends("b", at_once, &FAILED).await;
    assert_eq!(started(&here.begin("b").await).1, 2, "without a delay at once");
}

/// Rule 39.
pub async fn after_its_last_attempt_a_failed_id_is_dead<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    for n in 1..=3 {
        let (token, number) = started(&here.begin("a").await);
        assert_eq!(number, n);
        here.ends("a", token, &FAILED).await;
    }
    let record = here.record("a").await;
    assert_eq!(record.state, State::Dead { cause: DeadCause::Attempts });
    assert_eq!(record.attempts, 3);
    let before = record.clone();
    for _ in 0..3 {
        refused_as!(here.begin("a").await, Dead);
    }
    assert_eq!(here.record("a").await, before, "rule 46");
    assert_eq!(here.dead_letters(None, 9).await, [b"a".to_vec()]);
}

/// At its first attempt.
pub async fn a_final_failure_is_dead_at_once<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    let token = here.run("a", &Ending::Final { reason: "no such account" }).await;
    let record = refused_as!(here.begin("a").await, Dead);
    assert_eq!(record.state, State::Dead { cause: DeadCause::Final });
    let past = record.history.last().expect("it is noted");
    assert_eq!((past.token, past.end), (token, AttemptEnd::Final));
    assert_eq!(past.reason, "no such account");
}

/// Whatever the policy for the end of a lease.
pub async fn an_attempt_may_ask_for_an_operator<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    let token = here.run("a", &Ending::Held { reason: "the bank hung up" }).await;
    let record = refused_as!(here.begin("a").await, Held);
    let past = record.history.last().expect("it is noted");
    assert_eq!((past.token, past.end), (token, AttemptEnd::Held));
    assert_eq!(past.reason, "the bank hung up");
    here.pass(TTL_TIME * 100).await;
    refused_as!(here.begin("a").await, Held);
    assert_eq!(here.dead_letters(None, 9).await, [b"a".to_vec()]);
}

/// However often, and never below zero. Rule 42.
pub async fn a_record_that_is_handed_back_is_not_charged<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    for _ in 0..5 {
        let (token, number) = started(&here.begin("a").await);
        assert_eq!(number, 1);
        here.ends("a", token, &Ending::Released).await;
        let record = here.record("a").await;
        assert_eq!((record.attempts, record.token), (0, token));
        assert_eq!(record.history.last().map(|past| past.end), Some(AttemptEnd::Released));
    }
    here.run("a", &FAILED).await;
    let (token, number) = started(&here.begin("a").await);
    assert_eq!(number, 2);
    here.ends("a", token, &Ending::Released).await;
    let (token, number) = started(&here.begin("a").await);
    assert_eq!(number, 2);
    here.ends("a", token, &FAILED).await;
    assert_eq!(started(&here.begin("a").await).1, 3, "the others were charged");
}

/// From their death on, and not from when they began.
pub async fn dead_records_end_with_the_ttl_of_the_policy<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    let policy = Policy { dead_ttl: TTL, attempts_max: 1, ..POLICY };
    for (id, ending) in [("final", FINAL), ("failed", FAILED), ("held", UNKNOWN)] {
        let token = token_of(&here.begin_under(id, &policy).await);
        here.pass(LEASE / 2).await;
        here.end_under(id, token, &ending, &policy).await.expect("ends");
        here.pass_almost(TTL_TIME).await;
        assert!(here.find(id).await.is_some(), "{id}");
        here.pass_rest().await;
    }
    assert!(here.find("final").await.is_none() && here.find("failed").await.is_none());
    assert_eq!(here.dead_letters(None, 9).await, [b"held".to_vec()], "what is held stays");
    let token = here.run("ever", &FINAL).await;
    here.pass(TTL_TIME * 1_000).await;
    assert_eq!(here.record("ever").await.token, token);
}

/// The last eight attempts.
pub async fn a_record_remembers_its_last_attempts_in_order<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    let policy = Policy { attempts_max: 100, ..POLICY };
    let mut tokens = Vec::new();
    for n in 0..12_u32 {
        let (token, _) = started(&here.begin_under("a", &policy).await);
        let reason = format!("reason {n}");
        let failed = Ending::Failed { retry_after: Duration::ZERO, reason: &reason };
        let ending = if n % 3 == 2 { Ending::Released } else { failed };
        here.end_under("a", token, &ending, &policy).await.expect("ends");
        tokens.push(token);
    }
    let history = here.record("a").await.history;
    let told: Vec<u64> = history.iter().map(|past| past.token).collect();
    assert_eq!(told, tokens[12 - Record::HISTORY_MAX..]);
    for (past, n) in history.iter().zip(4..) {
        let is_released = n % 3 == 2;
        let end = if is_released { AttemptEnd::Released } else { AttemptEnd::Failed };
        assert_eq!(past.end, end, "{n}");
        assert!(is_released || past.reason == format!("reason {n}"), "{n}: {}", past.reason);
    }
}

/// What happened before is not undone by it.
pub async fn a_completion_after_failures_counts<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    here.run("a", &FAILED).await;
    let token = here.run("a", &DONE).await;
    let record = refused_as!(here.begin("a").await, Completed);
    let ends: Vec<AttemptEnd> = record.history.iter().map(|past| past.end).collect();
    assert_eq!(ends, [AttemptEnd::Failed, AttemptEnd::Completed]);
    assert_eq!((record.attempts, record.token), (2, token));
    assert!(here.dead_letters(None, 9).await.is_empty());
    let wait = here.run("b", &Ending::Failed { retry_after: LEASE, reason: "" }).await;
    let record = here.record("b").await;
    assert!(record.is_ended_by(wait) && until_ms(&record) > record.first_begun.as_millis());
}
