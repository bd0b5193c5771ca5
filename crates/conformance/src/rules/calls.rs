//! Calls whose answer was lost, and that are made again.

use crate::Fixture;
use crate::kit::{
    Bench, DONE, ENDINGS, LEASE, POLICY, START, TTL, over, refused_as, started, token_of, unread,
};
use firstseen_shared::{Call, Claim, State};
use std::time::Duration;

const TTL_TIME: Duration = Duration::from_secs(600);

/// It is first seen by this caller, however often it asks; all others are late.
pub async fn a_claim_repeated_after_a_lost_answer_is_still_the_callers_own<F: Fixture>(
    fixture: &F,
) {
    let here = Bench::new(fixture).await;
    if !fixture.remembers_calls() {
        return;
    }
    let there = here.elsewhere().await;
    let call = Call::new();
    for _ in 0..3 {
        assert_eq!(here.claim_by("a", TTL, call).await, Claim::FirstSeen);
        assert!(there.claim("a").await.is_duplicate());
    }
    assert_eq!(there.claim_by("a", TTL, call).await, Claim::FirstSeen, "over another connection");
    here.first("b").await;
    assert!(here.claim_by("b", TTL, call).await.is_duplicate(), "this id is another's");
}

/// Also where the first try got through for some of its ids only.
pub async fn a_repeated_batch_is_answered_as_it_was<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    if !fixture.remembers_calls() {
        return;
    }
    here.first("d").await;
    let call = Call::new();
    let first = here.claim_all_by(&[b"a", b"d", b"a", b"b"], call).await;
    let again = here.claim_all_by(&[b"a", b"d", b"a", b"b"], call).await;
    assert_eq!(again, first);
    let more = here.claim_all_by(&[b"c", b"a", b"d", b"b", b"b", b"c"], call).await;
    let firsts: Vec<bool> = more.iter().map(|claim| claim.is_first_seen()).collect();
    assert_eq!(firsts, [true, true, false, true, false, false]);
}

/// What made an earlier claim of the id says nothing of a later one.
pub async fn a_call_is_remembered_as_long_as_its_claim_and_no_longer<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    if !fixture.remembers_calls() {
        return;
    }
    let call = Call::new();
    for id in ["forgotten", "ended"] {
        assert_eq!(here.claim_by(id, TTL, call).await, Claim::FirstSeen);
    }
    here.pass_almost(TTL_TIME).await;
    assert_eq!(here.claim_by("ended", TTL, call).await, Claim::FirstSeen);
    here.forget("forgotten").await;
    here.pass_rest().await;
    for id in ["forgotten", "ended"] {
        here.first(id).await;
        assert!(here.claim_by(id, TTL, call).await.is_duplicate(), "{id}: another's by now");
    }
    here.pass(TTL_TIME).await;
    assert_eq!(here.claim_by("ended", TTL, call).await, Claim::FirstSeen, "nobody has it");
    assert!(here.claim("ended").await.is_duplicate());
}

/// It is the same attempt: counted once, and with the lease of the first try.
pub async fn a_begin_repeated_after_a_lost_answer_is_told_of_its_attempt<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    if !fixture.remembers_calls() {
        return;
    }
    let call = Call::new();
    let first = here.begin_by("a", &START, &POLICY, call).await;
    let (token, _) = started(&first);
    let before = here.record("a").await;
    here.pass_almost(LEASE).await;
    assert_eq!(here.begin_by("a", &START, &POLICY, call).await, first);
    assert_eq!(here.record("a").await, before, "neither counted nor renewed");
    refused_as!(here.begin("a").await, InProgress);
    here.pass_rest().await;
    let (next, number) = started(&here.begin_by("a", &START, &POLICY, call).await);
    assert!(next > token, "its lease has ended: an attempt of its own");
    assert_eq!(number, 2);
}

/// Its record decides then, as for everybody else.
pub async fn a_begin_repeated_after_its_attempt_has_ended_starts_nothing_twice<F: Fixture>(
    fixture: &F,
) {
    let here = Bench::new(fixture).await;
    if !fixture.remembers_calls() {
        return;
    }
    let call = Call::new();
    let first = here.begin_by("a", &START, &POLICY, call).await;
    here.ends("a", token_of(&first), &DONE).await;
    refused_as!(here.begin_by("a", &START, &POLICY, call).await, Completed);
    let lost = here.begin_by("b", &START, &POLICY, call).await;
    here.pass(LEASE).await;
    started(&here.begin("b").await);
    refused_as!(here.begin_by("b", &START, &POLICY, call).await, InProgress);
    let second = here.record("b").await;
    assert!(second.token > token_of(&lost));
}

/// Whichever ending it was, so that a caller can compare it with what it said. Nothing changes by it.
pub async fn an_end_repeated_after_a_lost_answer_is_over_with_the_record_as_it_left_it<F: Fixture>(
    fixture: &F,
) {
    let here = Bench::new(fixture).await;
    for (n, ending) in ENDINGS.iter().enumerate() {
        let id = format!("id-{n}");
        let token = here.run(&id, ending).await;
        let left = here.record(&id).await;
        assert!(left.is_ended_by(token), "{ending:?}: {left:?}");
        let told = over(&format!("{ending:?}"), here.end(&id, token, ending).await);
        assert_eq!(told, left, "{ending:?}");
        assert_eq!(here.record(&id).await, left, "{ending:?}");
    }
    let done = unread(refused_as!(here.begin("id-0").await, Completed));
    assert!(matches!(done.state, State::Completed { .. }));
}
