//! Leases and fencing: who may say how it went.

use crate::Fixture;
use crate::kit::{
    Bench, DONE, ENDINGS, FAIL, FAILED, FINAL, HOLD, LEASE, START, UNKNOWN, completed, fenced, over,
    refused_as, started, token_of, until_ms,
};
use firstseen_shared::{AttemptEnd, DeadCause, DedupStore, Ending, MoveError, Policy, Start, State};
use std::time::Duration;

/// By the store's clock: no time passes here but on that. Rules 23 and 95.
pub async fn a_lease_ends_at_its_time_and_the_next_attempt_takes_over<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    let first = here.start("a").await;
    here.pass_almost(LEASE).await;
    refused_as!(here.begin("a").await, InProgress);
    here.pass_rest().await;
    let (second, number) = started(&here.begin("a").await);
    assert!(second > first, "{second} after {first}");
    assert_eq!(number, 2);
    let record = here.record("a").await;
    assert_eq!((record.history.len(), record.history[0].token), (1, first));
    assert_eq!(record.history[0].end, AttemptEnd::LeaseEnded);
    refused_as!(here.begin("a").await, InProgress);
}

/// Nothing that it says is written. Rule 25.
pub async fn who_was_taken_over_is_fenced_and_changes_nothing<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    let there = here.elsewhere().await;
    let first = here.start("a").await;
    here.pass(LEASE).await;
    let second = there.start("a").await;
    let before = there.record("a").await;
    let told = fenced("a renewal", here.renew("a", first).await);
    assert_eq!(told, Some(before.clone()));
    for ending in &ENDINGS {
        let told = fenced(&format!("{ending:?}"), here.end("a", first, ending).await);
        assert_eq!(told, Some(before.clone()), "the record of the other");
        assert_eq!(there.record("a").await, before, "{ending:?}");
    }
    there.ends("a", second, &completed(b"second")).await;
    let told = fenced("after the other is done", here.end("a", first, &completed(b"first")).await);
    assert_eq!(told.and_then(|record| record.result().map(<[u8]>::to_vec)), Some(b"second".to_vec()));
    assert_eq!(here.record("a").await.result(), Some(&b"second"[..]));
}

/// The effect has happened, and not to know it would make it again. Rule 26.
pub async fn a_late_end_lands_while_nobody_has_taken_over<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    for (n, ending) in ENDINGS.iter().enumerate() {
        let id = format!("id-{n}");
        let token = here.start(&id).await;
        here.pass(LEASE * 2).await;
        here.ends(&id, token, ending).await;
        assert!(here.record(&id).await.is_ended_by(token), "{ending:?}");
    }
    refused_as!(here.begin("id-0").await, Completed);
}

/// Two attempts of one name are two. Rule 27.
pub async fn a_token_belongs_to_the_attempt_and_not_to_the_worker<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    let start = Start { worker: "the only one", ..START };
    let first = token_of(&here.begin_as("a", &start).await);
    here.pass(LEASE).await;
    let second = token_of(&here.begin_as("a", &start).await);
    assert_ne!(first, second);
    fenced("the older attempt of the same worker", here.renew("a", first).await);
    fenced("the older attempt of the same worker", here.end("a", first, &DONE).await);
    here.ends("a", second, &DONE).await;
}

/// Whatever lies between them. Rule 28.
pub async fn tokens_grow_whatever_becomes_of_the_record<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    let there = here.elsewhere().await;
    let mut last = 0;
    let mut next = |token: u64, what: &str| {
        assert!(token > last, "{what}: {token} after {last}");
        last = token;
    };
    next(here.run("a", &FAILED).await, "the first");
    next(there.run("a", &Ending::Released).await, "after a failure");
    next(here.start("a").await, "after one was handed back");
    here.pass(LEASE).await;
    next(there.run("a", &FINAL).await, "after a lease has ended");
    assert!(here.redrive("a").await);
    next(there.start("a").await, "after a redrive");
    assert!(there.forget_record("a").await);
    next(here.run("a", &UNKNOWN).await, "after it was forgotten");
    assert!(here.forget_record("a").await);
    next(there.run("a", &DONE).await, "after it was forgotten while it was held");
    here.pass(Duration::from_secs(600)).await;
    next(here.run("a", &DONE).await, "after its ttl");
}

/// From now, be that later or sooner. Rule 29.
pub async fn a_good_token_renews_a_lease_and_no_other_does<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    let token = here.start("a").await;
    here.pass(LEASE / 2).await;
    here.renew("a", token).await.expect("renews");
    here.pass_almost(LEASE).await;
    refused_as!(here.begin("a").await, InProgress);
    let (store, namespace) = (&*here.store, here.namespace.as_str());
    store.renew(namespace, b"a", token, LEASE * 10).await.expect("renews for longer");
    let long = until_ms(&here.record("a").await);
    here.renew("a", token).await.expect("renews for less");
    assert!(until_ms(&here.record("a").await) < long, "sooner than before");
    for wrong in [0, token - 1, token + 1, u64::MAX] {
        fenced(&format!("{wrong}"), here.renew("a", wrong).await);
        fenced(&format!("{wrong}"), here.end("a", wrong, &DONE).await);
    }
    assert!(fenced("an unknown id", here.renew("b", token).await).is_none());
    assert!(fenced("an unknown id", here.end("b", token, &DONE).await).is_none());
    here.pass_almost(LEASE).await;
    refused_as!(here.begin("a").await, InProgress);
    here.pass_rest().await;
    let late = here.renew("a", token).await;
    assert!(matches!(late, Err(MoveError::LeaseEnded)), "an ended lease: {late:?}");
    assert_eq!(started(&here.begin("a").await).1, 2);
}

/// For effects that must not happen twice and cannot be looked up.
pub async fn a_lease_that_ends_under_hold_leaves_the_record_to_an_operator<F: Fixture>(
    fixture: &F,
) {
    let here = Bench::new(fixture).await;
    let token = here.start("a").await;
    here.pass(LEASE).await;
    let held = refused_as!(here.begin_under("a", &HOLD).await, Held);
    assert_eq!((held.token, held.attempts), (token, 1));
    let past = held.history.last().expect("it is noted");
    assert_eq!((past.token, past.end), (token, AttemptEnd::LeaseEnded));
    refused_as!(here.begin("a").await, Held);
    assert_eq!(here.record("a").await, crate::kit::unread(held));
    assert_eq!(here.dead_letters(None, 9).await, [b"a".to_vec()]);
}

/// For effects that are not to be tried again.
pub async fn a_lease_that_ends_under_fail_makes_the_record_dead<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    let token = here.start("a").await;
    here.pass(LEASE).await;
    let policy = Policy { dead_ttl: firstseen_shared::Ttl::from_millis(600_000), ..FAIL };
    let dead = refused_as!(here.begin_under("a", &policy).await, Dead);
    assert_eq!(dead.state, State::Dead { cause: DeadCause::LeaseEnded });
    let past = dead.history.last().expect("it is noted");
    assert_eq!((past.token, past.end), (token, AttemptEnd::LeaseEnded));
    assert_eq!(here.dead_letters(None, 9).await, [b"a".to_vec()]);
    here.pass(Duration::from_secs(600)).await;
    assert!(here.find("a").await.is_none(), "dead letters end");
}

/// It says that the effect has happened. Anything else is for the operator, who has the record.
pub async fn a_record_held_or_buried_for_its_lease_may_be_completed_by_its_attempt<F: Fixture>(
    fixture: &F,
) {
    let here = Bench::new(fixture).await;
    for (id, policy) in [("held", HOLD), ("dead", FAIL)] {
        let token = here.start(id).await;
        here.pass(LEASE).await;
        let _ = here.begin_under(id, &policy).await;
        let before = here.record(id).await;
        let renewed = here.renew(id, token).await;
        assert!(matches!(renewed, Err(MoveError::LeaseEnded)), "{id}: {renewed:?}");
        for ending in &ENDINGS[1..] {
            let told = fenced(&format!("{id} {ending:?}"), here.end(id, token, ending).await);
            assert_eq!(told, Some(before.clone()), "{id} {ending:?}");
        }
        assert_eq!(here.record(id).await, before);
        here.ends(id, token, &completed(b"late")).await;
        let record = refused_as!(here.begin(id).await, Completed);
        assert_eq!(record.result(), Some(&b"late"[..]));
        let ends: Vec<AttemptEnd> = record.history.iter().map(|past| past.end).collect();
        assert_eq!(ends, [AttemptEnd::Completed], "{id}: what it says counts");
        assert!(here.dead_letters(None, 9).await.is_empty());
    }
}

/// Crashes count: nobody ever says `Failed`. Rule 41.
pub async fn a_message_that_kills_its_worker_each_time_is_dead_in_the_end<F: Fixture>(
    fixture: &F,
) {
    let here = Bench::new(fixture).await;
    for n in 1..=3 {
        assert_eq!(started(&here.begin("a").await).1, n);
        here.pass(LEASE).await;
    }
    let dead = refused_as!(here.begin("a").await, Dead);
    assert_eq!(dead.state, State::Dead { cause: DeadCause::Attempts });
    assert_eq!(dead.attempts, 3);
    let ends: Vec<AttemptEnd> = dead.history.iter().map(|past| past.end).collect();
    assert_eq!(ends, [AttemptEnd::LeaseEnded; 3]);
    refused_as!(here.begin("a").await, Dead);
    assert_eq!(here.record("a").await.attempts, 3, "it counts nothing any more");
}

/// The end of a lease writes nothing; the next `begin` does.
pub async fn a_lease_that_has_ended_is_shown_as_it_is_stored<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    let token = here.start("a").await;
    let before = here.record("a").await;
    here.pass(LEASE * 3).await;
    let record = here.find("a").await.expect("it is there");
    assert_eq!(record.time_left(), Duration::ZERO);
    assert_eq!(crate::kit::unread(record), before);
    assert!(matches!(before.state, State::Running { .. }) && before.token == token);
    assert!(here.dead_letters(None, 9).await.is_empty());
}

/// Each says how it went once. Rule 29.
pub async fn an_attempt_that_is_over_can_do_nothing_more<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    for (n, ending) in ENDINGS.iter().enumerate() {
        let id = format!("id-{n}");
        let token = here.run(&id, ending).await;
        let before = here.record(&id).await;
        let what = |next: &str| format!("{next} after {ending:?}");
        assert_eq!(over(&what("a renewal"), here.renew(&id, token).await), before);
        for next in &ENDINGS {
            let told = over(&what(&format!("{next:?}")), here.end(&id, token, next).await);
            assert_eq!(told, before, "{next:?} after {ending:?}");
        }
        assert_eq!(here.record(&id).await, before);
    }
}

/// Neither claims nor records nor leases go with the process. Rules 28 and 34.
pub async fn what_was_answered_outlasts_a_restart_of_the_store<F: Fixture>(fixture: &F) {
    let before = Bench::new(fixture).await;
    before.first("a").await;
    before.run("done", &completed(b"kept")).await;
    before.run("dead", &FINAL).await;
    before.run("held", &UNKNOWN).await;
    let token = before.start("running").await;
    let lost = before.start("lost").await;
    let failed = before.run("failed", &FAILED).await;
    if !fixture.restart().await {
        return;
    }
    let after = before.elsewhere().await;
    assert!(after.claim("a").await.is_duplicate());
    assert_eq!(after.record("done").await.result(), Some(&b"kept"[..]));
    refused_as!(after.begin("dead").await, Dead);
    refused_as!(after.begin("held").await, Held);
    refused_as!(after.begin("running").await, InProgress);
    after.renew("running", token).await.expect("its owner goes on");
    after.ends("running", token, &DONE).await;
    assert!(after.start("failed").await > failed, "tokens grow");
    after.pass(LEASE).await;
    let (next, number) = started(&after.begin("lost").await);
    assert!(next > lost && number == 2, "its lease has ended at its time");
    fenced("the worker that is gone", after.end("lost", lost, &DONE).await);
}
