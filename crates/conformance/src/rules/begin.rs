//! Begin: who is started, and what all others are told.

use crate::Fixture;
use crate::kit::{
    Bench, DONE, FAILED, FINAL, LEASE, START, TTL, UNKNOWN, completed, fresh_name, is_waiting, print,
    refused_as, started, token_of, unread, until_ms,
};
use firstseen_shared::{Begun, DedupStore, Ending, Record, Start, State, Ttl};
use std::time::Duration;

const TTL_TIME: Duration = Duration::from_secs(600);

/// Rule 1.
pub async fn an_unknown_id_is_started_and_one_caller_is_told_so<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    let there = here.elsewhere().await;
    assert!(here.find("a").await.is_none());
    let (token, number) = started(&here.begin("a").await);
    assert_eq!(number, 1);
    for other in [&here, &there] {
        let record = refused_as!(other.begin("a").await, InProgress);
        assert_eq!((record.token, record.attempts), (token, 1));
    }
    assert_eq!(started(&there.begin("b").await).1, 1);
}

/// And its attempts are not counted any more. Rules 2 and 46.
pub async fn a_completed_id_replays_its_result_and_counts_nothing<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    let there = here.elsewhere().await;
    here.run("a", &completed(b"receipt \x00\xff")).await;
    let before = here.record("a").await;
    for _ in 0..5 {
        for other in [&here, &there] {
            let record = refused_as!(other.begin("a").await, Completed);
            assert_eq!(record.result(), Some(&b"receipt \x00\xff"[..]));
            assert!(matches!(record.state, State::Completed { is_failure: false, .. }));
            assert_eq!(unread(record), before);
        }
    }
    assert_eq!((before.attempts, before.history.len()), (1, 1));
}

/// A failure that is an answer. Rule 40.
pub async fn a_failure_that_is_kept_is_replayed_and_marked<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    here.run("a", &Ending::Completed { result: b"404", is_failure: true, ttl: TTL }).await;
    let record = refused_as!(here.begin("a").await, Completed);
    assert_eq!(record.state, State::Completed { result: Some(b"404".to_vec()), is_failure: true });
    assert!(here.dead_letters(None, 9).await.is_empty(), "nobody has to look at it");
}

/// Whatever its state. Rules 18, 21 and 22.
pub async fn another_input_is_a_mismatch_in_every_state_and_sees_no_result<F: Fixture>(
    fixture: &F,
) {
    let here = Bench::new(fixture).await;
    let (mine, other) = (print(b"mine"), print(b"other"));
    let start = Start { fingerprint: Some(mine), ..START };
    let secret = Ending::Completed { result: b"secret", is_failure: true, ttl: TTL };
    let wait = Ending::Failed { retry_after: LEASE, reason: "secret" };
    let ends = [None, Some(DONE), Some(secret), Some(FAILED), Some(wait), Some(UNKNOWN), Some(FINAL)];
    for (n, ending) in ends.into_iter().enumerate() {
        let id = format!("id-{n}");
        let token = token_of(&here.begin_as(&id, &start).await);
        if let Some(ending) = ending {
            here.ends(&id, token, &ending).await;
        }
        let before = here.record(&id).await;
        let begun = here.begin_as(&id, &Start { fingerprint: Some(other), ..START }).await;
        let told = unread(refused_as!(begun, Mismatch));
        assert_eq!(told, before.clone().without_result(), "{ending:?}");
        assert_eq!(told.fingerprint, Some(mine));
        let text = format!("{told:?}");
        assert!(!text.contains("secret"), "{ending:?}: {text}");
        assert_eq!(here.record(&id).await, before, "nothing has changed");
    }
}

/// A mismatch takes nothing over.
pub async fn a_mismatch_leaves_a_record_alone_whose_lease_has_ended<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    let start = Start { fingerprint: Some(print(b"mine")), ..START };
    let token = token_of(&here.begin_as("a", &start).await);
    here.pass(LEASE).await;
    let before = here.record("a").await;
    let other = Start { fingerprint: Some(print(b"other")), ..START };
    refused_as!(here.begin_as("a", &other).await, Mismatch);
    assert_eq!(here.record("a").await, before);
    here.ends("a", token, &DONE).await;
}

/// The first that an attempt starts with is that of the record. Rule 6.
pub async fn the_first_fingerprint_stays_and_without_one_nothing_is_compared<F: Fixture>(
    fixture: &F,
) {
    let here = Bench::new(fixture).await;
    let with = |fingerprint| Start { fingerprint, ..START };
    let (one, two) = (Some(print(b"one")), Some(print(b"two")));
    let token = token_of(&here.begin("a").await);
    refused_as!(here.begin_as("a", &with(one)).await, InProgress);
    assert_eq!(here.record("a").await.fingerprint, None, "no attempt started with it");
    here.ends("a", token, &FAILED).await;
    let token = token_of(&here.begin_as("a", &with(one)).await);
    here.ends("a", token, &FAILED).await;
    let token = token_of(&here.begin("a").await);
    assert_eq!(here.record("a").await.fingerprint, one);
    refused_as!(here.begin_as("a", &with(two)).await, Mismatch);
    here.ends("a", token, &DONE).await;
    refused_as!(here.begin_as("a", &with(one)).await, Completed);
    refused_as!(here.begin("a").await, Completed);
    refused_as!(here.begin_as("a", &with(two)).await, Mismatch);
}

/// In progress is not completed, and its record says who works and until when. Rules 7 and 22.
pub async fn a_record_tells_who_works_on_it_and_until_when<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    let fingerprint = Some(print(b"input"));
    let start = Start { worker: "worker-1", fingerprint, ..START };
    let token = token_of(&here.begin_as("a", &start).await);
    let record = here.find("a").await.expect("it is there");
    let shown = (record.attempts, record.token, record.worker.as_str(), record.fingerprint);
    assert_eq!(shown, (1, token, "worker-1", fingerprint));
    assert!(record.history.is_empty() && record.result().is_none());
    let slack = fixture.slack().as_millis() as u64;
    let begun = record.first_begun.as_millis();
    assert!((60_000..=60_000 + slack).contains(&(until_ms(&record) - begun)), "{record:?}");
    assert!((0..=slack).contains(&(record.read.as_millis() - begun)), "{record:?}");
    here.pass(LEASE / 2).await;
    let later = refused_as!(here.begin("a").await, InProgress);
    let left = later.time_left();
    assert!(left <= LEASE / 2 && left + fixture.slack() >= LEASE / 2, "{left:?} are left");
    assert_eq!(unread(later), unread(record));
    here.ends("a", token, &FAILED).await;
    token_of(&here.begin_as("a", &Start { worker: "worker-2", ..start }).await);
    let again = here.record("a").await;
    assert_eq!((again.first_begun.as_millis(), again.worker.as_str()), (begun, "worker-2"));
    assert_eq!((again.history[0].token, again.history[0].worker.as_str()), (token, "worker-1"));
}

/// Rule 14.
pub async fn one_id_in_two_ledgers_is_two_records<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    let there = here.beside(&fresh_name());
    let (one, two) = (here.start("a").await, there.start("a").await);
    here.ends("a", one, &completed(b"here")).await;
    there.ends("a", two, &completed(b"there")).await;
    assert_eq!(here.record("a").await.result(), Some(&b"here"[..]));
    assert_eq!(there.record("a").await.result(), Some(&b"there"[..]));
    here.forget_record("a").await;
    refused_as!(there.begin("a").await, Completed);
}

/// Shorter than the lease or longer. Rule 16.
pub async fn a_record_ends_with_the_ttl_of_its_completion_and_not_with_its_lease<F: Fixture>(
    fixture: &F,
) {
    let here = Bench::new(fixture).await;
    let done = |ttl_ms| Ending::Completed {
        result: b"",
        is_failure: false,
        ttl: Ttl::from_millis(ttl_ms),
    };
    let tokens = [here.start("short").await, here.start("long").await];
    here.pass(LEASE / 6).await;
    here.ends("short", tokens[0], &done(30_000)).await;
    here.ends("long", tokens[1], &done(600_000)).await;
    here.pass_almost(LEASE / 2).await;
    refused_as!(here.begin("short").await, Completed);
    here.pass_rest().await;
    assert!(here.find("short").await.is_none());
    assert_eq!(started(&here.begin("short").await).1, 1);
    here.pass_almost(TTL_TIME.saturating_sub(LEASE / 2)).await;
    refused_as!(here.begin("long").await, Completed);
    here.pass_rest().await;
    assert!(here.find("long").await.is_none());
}

/// It starts from nothing: attempts, input and history, but not its token.
pub async fn an_ended_record_counts_as_none<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    let token = {
        let start = Start { fingerprint: Some(print(b"one")), ..START };
        let first = token_of(&here.begin_as("a", &start).await);
        here.ends("a", first, &FAILED).await;
        here.run("a", &DONE).await
    };
    token_of(&here.begin_as("b", &Start { fingerprint: Some(print(b"one")), ..START }).await);
    here.ends("b", here.record("b").await.token, &DONE).await;
    here.pass(TTL_TIME).await;
    assert!(!here.forget_record("a").await && !here.redrive("a").await);
    let late = here.end("a", token, &DONE).await;
    assert!(crate::kit::fenced("an attempt of a record that has ended", late).is_none());
    let other = Start { fingerprint: Some(print(b"two")), ..START };
    for id in ["a", "b"] {
        let (next, number) = started(&here.begin_as(id, &other).await);
        assert!(next > token && number == 1, "{id}");
        let record = here.record(id).await;
        assert!(record.history.is_empty() && record.fingerprint == other.fingerprint, "{id}");
    }
}

/// Reading and asking in vain writes nothing.
pub async fn looking_at_a_record_changes_nothing<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    let wait = Ending::Failed { retry_after: LEASE, reason: "later" };
    for (id, ending) in [("done", DONE), ("held", UNKNOWN), ("dead", FINAL), ("wait", wait)] {
        here.run(id, &ending).await;
        let before = here.record(id).await;
        for _ in 0..3 {
            assert!(!matches!(here.begin(id).await, Begun::Started { .. }), "{id}");
            let _: Vec<Vec<u8>> = here.dead_letters(None, 9).await;
            let found: Option<Record> = here.find(id).await;
            assert_eq!(found.map(unread), Some(before.clone()), "{id}");
        }
    }
    assert!(is_waiting(&here.record("wait").await));
    assert!(here.store.stats(&here.namespace).await.is_ok());
}
