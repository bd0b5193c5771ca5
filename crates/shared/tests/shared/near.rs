//! The local tier: what it answers, and what it must not.

use crate::support::{Fault, LEASE, Line, advance, line};
use firstseen::{Clock, ManualClock, SystemClock, Timestamp};
use firstseen_shared::{
    Begun, Call, Claim, DedupStore, Ending, ErrorKind, Fingerprint, Near, OnLeaseEnd, Policy,
    Start, Ttl,
};
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
const TTL: Ttl = Ttl::from_millis(600_000);
const POLICY: Policy =
    Policy { on_lease_end: OnLeaseEnd::Retry, attempts_max: 3, dead_ttl: Ttl::FOREVER };

/// The clock of this machine, which calls are stamped with, and what a test has added.
#[derive(Debug)]
struct Shifted(ManualClock);

impl Clock for Shifted {
    fn wall(&self) -> Timestamp {
        self.0.wall()
    }

    fn elapsed_ms(&self) -> u64 {
        SystemClock.elapsed_ms().saturating_add(self.0.elapsed_ms())
    }

    fn boot_id(&self) -> u128 {
        SystemClock.boot_id()
    }
}

fn near(line: &Line) -> Near<Line> {
    let clock = Shifted(line.store().clock().clone());
    Near::with_clock(line.clone(), 1 << 20, clock).stale_max(MINUTE * 1_000)
}

async fn claim(store: &impl DedupStore, id: &str) -> Claim {
    claim_for(store, id, TTL).await
}

async fn claim_for(store: &impl DedupStore, id: &str, ttl: Ttl) -> Claim {
    store.claim("orders", id.as_bytes(), ttl, Call::new()).await.expect("claims")
}

async fn begin(store: &impl DedupStore, id: &str, fingerprint: Option<Fingerprint>) -> Begun {
    let start = Start { lease: LEASE, worker: "w", fingerprint };
    let begun = store.begin("orders", id.as_bytes(), &start, &POLICY, Call::new()).await;
    begun.expect("begins")
}

async fn complete(store: &impl DedupStore, id: &str, token: u64) {
    let ending = Ending::Completed { result: b"done", is_failure: false, ttl: TTL };
    store.end("orders", id.as_bytes(), token, &ending, &POLICY).await.expect("completes");
}

/// Begins and completes an id. Returns its token.
async fn run(store: &impl DedupStore, id: &str, fingerprint: Option<Fingerprint>) -> u64 {
    let begun = begin(store, id, fingerprint).await;
    let Begun::Started { token, .. } = begun else { panic!("not started: {begun:?}") };
    complete(store, id, token).await;
    token
}

#[tokio::test]
async fn a_duplicate_is_answered_from_memory_while_its_claim_lives() {
    let line = line();
    let near = near(&line);
    assert_eq!(claim(&near, "a").await, Claim::FirstSeen);
    let calls = line.calls();
    let first_seen = line.store().clock().wall();
    for _ in 0..5 {
        assert_eq!(claim(&near, "a").await, Claim::Duplicate { first_seen });
        assert!(near.contains("orders", b"a").await.expect("looks"));
    }
    assert_eq!(line.calls(), calls, "the store was not asked");
    let counters = near.counters();
    assert_eq!((counters.hits, counters.asked, counters.entries), (5, 1, 1));
    line.set_away(true);
    assert!(claim(&near, "a").await.is_duplicate(), "also while the store is away");
    let unknown = near.claim("orders", b"b", TTL, Call::new()).await;
    assert_eq!(unknown.expect_err("nobody can say").kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn memory_forgets_a_claim_before_the_store_does() {
    let line = line();
    let near = near(&line);
    claim(&near, "a").await.is_first_seen();
    advance(&line, Duration::from_millis(600_000 * 998 / 1_000));
    let calls = line.calls();
    assert!(claim(&near, "a").await.is_duplicate());
    assert_eq!(line.calls(), calls);
    advance(&line, Duration::from_millis(600_000 * 2 / 1_000 - 1));
    assert!(claim(&near, "a").await.is_duplicate());
    assert_eq!(line.calls(), calls + 1, "a little before its end the store is asked");
    advance(&line, Duration::from_millis(1));
    assert_eq!(claim(&near, "a").await, Claim::FirstSeen);
}

/// The claim is as old as its first try, however late the answer comes.
#[tokio::test]
async fn a_claim_whose_answer_was_lost_counts_from_its_first_try() {
    let line = line();
    let near = near(&line);
    let call = Call::new();
    line.plant(&[Fault::Lost]);
    near.claim("orders", b"a", TTL, call).await.expect_err("the answer is lost");
    advance(&line, MINUTE * 5);
    let again = near.claim("orders", b"a", TTL, call).await;
    assert_eq!(again.expect("claims"), Claim::FirstSeen);
    advance(&line, MINUTE * 5);
    assert_eq!(claim(&near, "a").await, Claim::FirstSeen, "the store's claim has ended");
}

#[tokio::test]
async fn a_call_that_is_repeated_is_for_the_store_to_answer() {
    let line = line();
    let near = near(&line);
    let call = Call::new();
    for _ in 0..2 {
        let claims = near.claim_batch("orders", &[b"a", b"b", b"a"], TTL, call).await;
        let firsts: Vec<_> = claims.expect("claims").iter().map(|c| c.is_first_seen()).collect();
        assert_eq!(firsts, [true, true, false]);
    }
    let claims = near.claim_batch("orders", &[b"c", b"a", b"d", b"b"], TTL, Call::new()).await;
    let firsts: Vec<_> = claims.expect("claims").iter().map(|c| c.is_first_seen()).collect();
    assert_eq!(firsts, [true, false, true, false], "known and unknown ids, in their order");
}

#[tokio::test]
async fn what_is_forgotten_here_is_forgotten_at_once_and_elsewhere_in_time() {
    let line = line();
    let (here, there) = (near(&line).stale_max(MINUTE), near(&line));
    claim(&here, "a").await.is_first_seen();
    assert!(here.clone().forget("orders", b"a").await.expect("forgets"));
    assert_eq!(claim(&here, "a").await, Claim::FirstSeen);
    assert!(there.forget("orders", b"a").await.expect("forgets"));
    assert!(claim(&here, "a").await.is_duplicate(), "not seen yet");
    advance(&line, MINUTE);
    assert_eq!(claim(&here, "a").await, Claim::FirstSeen);
    claim(&here, "b").await.is_first_seen();
    line.plant(&[Fault::Lost]);
    here.forget("orders", b"b").await.expect_err("the answer is lost");
    assert_eq!(claim(&here, "b").await, Claim::FirstSeen, "it may have been forgotten");
}

#[tokio::test]
async fn a_claim_whose_answer_comes_after_a_forget_is_not_remembered() {
    let line = line();
    let near = near(&line);
    line.plant(&[Fault::Slow(Duration::from_millis(200))]);
    let (first, forgotten) = tokio::join!(claim(&near, "a"), async {
        while line.calls() == 0 {
            tokio::task::yield_now().await;
        }
        near.forget("orders", b"a").await.expect("forgets")
    });
    assert!(first.is_first_seen() && forgotten, "claimed, and forgotten before it was answered");
    assert_eq!(claim(&near, "a").await, Claim::FirstSeen);
}

#[tokio::test]
async fn what_others_have_claimed_is_remembered_only_where_that_is_asked_for() {
    let line = line();
    claim_for(&line, "a", Ttl::from_millis(120_000)).await.is_first_seen();
    let careful = near(&line);
    for calls in [2, 3] {
        assert!(claim(&careful, "a").await.is_duplicate());
        assert_eq!(line.calls(), calls, "nobody knows how long it lives");
    }
    let trusting = near(&line).others_for(MINUTE);
    let told = claim(&trusting, "a").await;
    let calls = line.calls();
    assert_eq!(claim(&trusting, "a").await, told, "with the time that the store has told");
    assert_eq!(line.calls(), calls);
    advance(&line, MINUTE);
    assert!(claim(&trusting, "a").await.is_duplicate());
    assert_eq!(line.calls(), calls + 1);
}

/// Rule 19.
#[tokio::test]
async fn a_completed_record_is_answered_from_memory_with_its_fingerprint_compared() {
    let line = line();
    let near = near(&line);
    let mine = Some(Fingerprint::of_bytes("mine"));
    let other = Some(Fingerprint::of_bytes("other"));
    run(&near, "a", mine).await;
    let Begun::Completed(shown) = begin(&near, "a", mine).await else { panic!("it is done") };
    let calls = line.calls();
    for fingerprint in [mine, None] {
        assert_eq!(begin(&near, "a", fingerprint).await, Begun::Completed(shown.clone()));
    }
    let Begun::Mismatch(hidden) = begin(&near, "a", other).await else { panic!("another input") };
    assert_eq!(hidden, shown.clone().without_result());
    assert_eq!(line.calls(), calls, "the store was not asked");
    assert!(near.forget_record("orders", b"a").await.expect("forgets"));
    assert!(matches!(begin(&near, "a", other).await, Begun::Started { .. }));
}

/// Rule 7.
#[tokio::test]
async fn a_record_in_progress_is_never_known() {
    let line = line();
    let near = near(&line).others_for(MINUTE);
    let Begun::Started { token, .. } = begin(&near, "a", None).await else { panic!("unknown") };
    for _ in 0..3 {
        let calls = line.calls();
        assert!(matches!(begin(&near, "a", None).await, Begun::InProgress(_)));
        assert_eq!(line.calls(), calls + 1);
    }
    advance(&line, LEASE);
    let second = begin(&near, "a", None).await;
    assert!(matches!(second, Begun::Started { token: second, .. } if second > token));
}

#[tokio::test]
async fn memory_forgets_a_result_before_the_store_does() {
    let line = line();
    let near = near(&line);
    run(&near, "a", None).await;
    advance(&line, MINUTE * 9);
    assert!(matches!(begin(&near, "a", None).await, Begun::Completed(_)));
    let calls = line.calls();
    assert!(matches!(begin(&near, "a", None).await, Begun::Completed(_)));
    assert_eq!(line.calls(), calls);
    advance(&line, MINUTE);
    assert!(matches!(begin(&near, "a", None).await, Begun::Started { .. }));
}

#[tokio::test]
async fn a_result_that_others_have_stored_is_known_only_where_that_is_asked_for() {
    let line = line();
    run(&line, "a", None).await;
    let careful = near(&line);
    let calls = line.calls();
    for n in 1..=2 {
        assert!(matches!(begin(&careful, "a", None).await, Begun::Completed(_)));
        assert_eq!(line.calls(), calls + n);
    }
    let trusting = near(&line).others_for(MINUTE);
    for _ in 0..3 {
        assert!(matches!(begin(&trusting, "a", None).await, Begun::Completed(_)));
    }
    assert_eq!(line.calls(), calls + 3);
    // Another has forgotten it and done it anew: the answer of then is not mixed with the time of now.
    let own = near(&line);
    run(&own, "b", None).await;
    line.forget_record("orders", b"b").await.expect("forgets");
    run(&line, "b", None).await;
    for n in 1..=2 {
        let calls = line.calls();
        assert!(matches!(begin(&own, "b", None).await, Begun::Completed(_)));
        assert_eq!(line.calls(), calls + 1, "{n}: it is not the completion that is known");
    }
}

#[tokio::test]
async fn calls_that_are_wrong_are_refused_whatever_is_known() {
    let line = line();
    let near = near(&line);
    claim(&near, "a").await.is_first_seen();
    run(&near, "a", None).await;
    assert!(matches!(begin(&near, "a", None).await, Begun::Completed(_)));
    let zero = Ttl::from_millis(0);
    let claimed = near.claim("orders", b"a", zero, Call::new()).await;
    assert_eq!(claimed.expect_err("no ttl").kind(), ErrorKind::Invalid);
    let start = Start { lease: LEASE, worker: "w", fingerprint: None };
    let long = "w".repeat(256);
    for (start, policy) in [
        (Start { lease: Duration::ZERO, ..start }, POLICY),
        (Start { worker: &long, ..start }, POLICY),
        (start, Policy { attempts_max: 0, ..POLICY }),
        (start, Policy { dead_ttl: zero, ..POLICY }),
    ] {
        let begun = near.begin("orders", b"a", &start, &policy, Call::new()).await;
        assert_eq!(begun.expect_err("it is wrong").kind(), ErrorKind::Invalid);
    }
}

#[tokio::test]
async fn memory_is_bounded() {
    let line = line();
    let clock = Shifted(line.store().clock().clone());
    let near = Near::with_clock(line.clone(), 50_000, clock);
    for n in 0..5_000 {
        assert_eq!(claim(&near, &format!("id-{n}")).await, Claim::FirstSeen);
    }
    let entries = near.counters().entries;
    assert!((50..=250).contains(&entries), "{entries} in 50,000 bytes");
    let calls = line.calls();
    assert!(claim(&near, "id-4999").await.is_duplicate());
    assert_eq!(line.calls(), calls, "the last are known");
    assert!(claim(&near, "id-0").await.is_duplicate());
    assert_eq!(line.calls(), calls + 1, "the first are not, and the store is asked");
}
