//! Claims: first seen once.

use crate::Fixture;
use crate::kit::{Bench, DONE, TTL, fresh_name};
use firstseen_shared::{Claim, DedupStore, Timestamp, Ttl};
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
const TTL_TIME: Duration = Duration::from_secs(600);

#[track_caller]
fn first_seen(claim: Claim) -> Timestamp {
    match claim {
        Claim::Duplicate { first_seen } => first_seen,
        Claim::FirstSeen => panic!("first seen, and was claimed before"),
    }
}

/// Of two that claim an id, on one machine or on two, the first hears so, and all others that they are late.
pub async fn an_id_is_first_seen_once_whoever_asks<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    let there = here.elsewhere().await;
    assert_eq!(here.claim("a").await, Claim::FirstSeen);
    assert!(here.claim("a").await.is_duplicate());
    assert!(there.claim("a").await.is_duplicate());
    assert_eq!(there.claim("b").await, Claim::FirstSeen);
    assert!(here.claim("b").await.is_duplicate());
}

/// The time is the store's, and that of the claim, not of the duplicate.
pub async fn a_duplicate_is_told_when_the_claim_was_made<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    here.first("a").await;
    here.pass(MINUTE).await;
    here.first("b").await;
    here.pass(MINUTE).await;
    let (a, b) = (first_seen(here.claim("a").await), first_seen(here.claim("b").await));
    let between = b.as_millis().checked_sub(a.as_millis()).expect("b was claimed after a");
    let slack = fixture.slack().as_millis() as u64;
    assert!((60_000..=60_000 + slack).contains(&between), "{between} ms, and a minute passed");
    let there = here.elsewhere().await;
    here.pass(MINUTE).await;
    assert_eq!(first_seen(there.claim("a").await), a, "the same for everybody, and later");
}

/// Each answer is that of the id at its place.
pub async fn answers_come_in_the_order_of_the_batch<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    here.first("b").await;
    here.first("d").await;
    let claims = here.claim_all(&[b"e", b"b", b"d", b"c", b"a"]).await;
    let duplicates: Vec<bool> = claims.iter().map(|claim| claim.is_duplicate()).collect();
    assert_eq!(duplicates, [false, true, true, false, false]);
}

/// The others in the batch are duplicates of it.
pub async fn of_equal_ids_in_a_batch_the_first_is_first_seen<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    let claims = here.claim_all(&[b"a", b"b", b"a", b"b", b"a"]).await;
    let duplicates: Vec<bool> = claims.iter().map(|claim| claim.is_duplicate()).collect();
    assert_eq!(duplicates, [false, false, true, true, true]);
    assert!(here.claim("a").await.is_duplicate());
}

/// None, and two thousand at once.
pub async fn a_batch_may_be_empty_or_large<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    assert_eq!(here.claim_all(&[]).await, []);
    let ids: Vec<Vec<u8>> = (0..2_000_u32).map(|n| format!("id-{n}").into_bytes()).collect();
    let ids: Vec<&[u8]> = ids.iter().map(Vec::as_slice).collect();
    here.first(ids[1_234]).await;
    let claims = here.claim_all(&ids).await;
    let duplicates = claims.iter().enumerate().filter(|(_, claim)| claim.is_duplicate());
    assert_eq!(duplicates.map(|(n, _)| n).collect::<Vec<_>>(), [1_234]);
    assert!(here.claim_all(&ids).await.iter().all(|claim| claim.is_duplicate()));
}

/// Live a millisecond before its end, and over at that very millisecond.
pub async fn a_claim_ends_when_its_ttl_has_passed_and_not_before<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    here.first("a").await;
    here.pass_almost(TTL_TIME).await;
    assert!(here.has_claim("a").await);
    assert!(here.claim("a").await.is_duplicate());
    here.pass_rest().await;
    assert!(!here.has_claim("a").await);
    assert_eq!(here.claim("a").await, Claim::FirstSeen);
    assert!(here.claim("a").await.is_duplicate(), "a claim of its own");
    here.pass(TTL_TIME).await;
    assert_eq!(here.claim("a").await, Claim::FirstSeen);
}

/// A steady trickle of duplicates does not keep an id for ever.
pub async fn a_duplicate_does_not_make_a_claim_longer<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    here.first("a").await;
    for _ in 0..5 {
        here.pass(TTL_TIME / 6).await;
        assert!(here.claim_for("a", Ttl::FOREVER).await.is_duplicate());
    }
    here.pass(TTL_TIME / 6).await;
    assert_eq!(here.claim("a").await, Claim::FirstSeen);
}

/// A namespace has no ttl of its own.
pub async fn each_claim_has_the_ttl_of_its_own_call<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    here.first_for("long", Ttl::from_millis(1_200_000)).await;
    here.first_for("short", TTL).await;
    here.pass(TTL_TIME).await;
    assert_eq!(here.claim_for("short", Ttl::FOREVER).await, Claim::FirstSeen);
    assert!(here.claim("long").await.is_duplicate());
    here.pass(TTL_TIME).await;
    assert_eq!(here.claim("long").await, Claim::FirstSeen);
    assert!(here.claim("short").await.is_duplicate(), "it was claimed anew, for ever");
}

/// Nothing is evicted by time that was not given a time. Rule 49.
pub async fn a_claim_for_ever_outlasts_all_others<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    here.first_for("ever", Ttl::FOREVER).await;
    here.first_for("years", Ttl::from_millis(50 * 365 * 86_400_000)).await;
    here.pass(Duration::from_secs(100 * 365 * 86_400)).await;
    assert_eq!(here.claim("years").await, Claim::FirstSeen);
    assert!(here.claim("ever").await.is_duplicate());
    assert!(here.has_claim("ever").await);
}

/// Forgetting says whether there was a claim, and one that has ended is none.
pub async fn a_forgotten_id_is_first_seen_again<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    let there = here.elsewhere().await;
    assert!(!here.forget("a").await, "it was never claimed");
    here.first("a").await;
    here.first("b").await;
    assert!(there.forget("a").await);
    assert!(!here.forget("a").await);
    assert!(!here.has_claim("a").await);
    assert!(here.claim("b").await.is_duplicate(), "others stay");
    assert_eq!(here.claim("a").await, Claim::FirstSeen);
    assert!(there.claim("a").await.is_duplicate());
    here.pass(TTL_TIME).await;
    assert!(!here.forget("a").await, "it has ended");
    assert_eq!(here.claim("a").await, Claim::FirstSeen);
}

/// `contains` reads.
pub async fn looking_an_id_up_claims_nothing<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    assert!(!here.has_claim("a").await);
    assert!(!here.has_claim("a").await);
    assert_eq!(here.claim("a").await, Claim::FirstSeen);
    assert!(here.has_claim("a").await);
    assert!(!here.has_claim("b").await);
}

/// Also where the name of the one and an id run into those of another. Rule 14.
pub async fn namespaces_are_apart<F: Fixture>(fixture: &F) {
    let first = Bench::new(fixture).await;
    let name = first.namespace.clone();
    for (namespace, id) in [
        (name.clone(), "b:c"),
        (format!("{name}:b"), "c"),
        (format!("{name}:"), "b:c"),
        (format!("{name}{{x}}"), "c"),
        (format!("{name}/b"), "c"),
        (format!("{name} "), "c"),
        (name.to_uppercase(), "c"),
        (format!("{name}\u{e9}"), "c"),
        (fresh_name(), "c"),
    ] {
        let here = first.beside(&namespace);
        assert_eq!(here.claim(id).await, Claim::FirstSeen, "{namespace:?} {id}");
        let token = here.start(id).await;
        here.ends(id, token, &DONE).await;
    }
    assert!(first.forget("b:c").await && first.forget_record("b:c").await);
    let other = first.beside(&format!("{name}:b"));
    assert!(other.claim("c").await.is_duplicate());
    assert!(other.find("c").await.is_some());
}

/// An id may be claimed and begun, and the one does not see the other.
pub async fn claims_and_records_of_one_name_are_apart<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    assert_eq!(here.claim("a").await, Claim::FirstSeen);
    assert!(here.find("a").await.is_none());
    let token = here.start("a").await;
    assert!(here.forget("a").await);
    here.ends("a", token, &DONE).await;
    assert!(!here.has_claim("a").await);
    assert_eq!(here.claim("a").await, Claim::FirstSeen);
    assert!(here.forget_record("a").await);
    assert!(here.claim("a").await.is_duplicate());
}

/// Ids are bytes: no text, no end at a zero, no order of bits, and the longest differ in their last byte.
pub async fn ids_are_compared_byte_for_byte<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    let most = here.store.id_bytes_max();
    assert!(most >= 255, "an id may have as many bytes as most brokers allow, not only {most}");
    let longest = vec![b'x'; most];
    let (mut other, shorter) = (longest.clone(), longest[1..].to_vec());
    other[most - 1] = b'y';
    let all: Vec<u8> = (0..=255).filter(|byte| *byte != b'x').collect();
    let ids: Vec<&[u8]> = vec![
        b"a", b"A", b"a\0", b"\0a", b"\0", b"\0\0", b"a\0b", b"\xff", b"\xff\xff", b"\x80", b" a", b"a ",
        b"a\n", b"\\x61", b"a:b", b"{a}", b"a'b", b"%61", b"\xc3\xa9", b"e\xcc\x81", b"\xed\xa0\x80", b"1", b"01",
        &all, &longest, &other, &shorter,
    ];
    for id in &ids {
        assert_eq!(here.claim(id).await, Claim::FirstSeen, "{}", id.escape_ascii());
    }
    assert!(here.claim_all(&ids).await.iter().all(|claim| claim.is_duplicate()));
    for id in &ids {
        assert!(here.has_claim(id).await, "{}", id.escape_ascii());
        let token = here.start(id).await;
        here.ends(id, token, &crate::kit::completed(id)).await;
    }
    for id in &ids {
        assert_eq!(here.record(id).await.result(), Some(*id), "{}", id.escape_ascii());
        assert!(here.forget(id).await, "{}", id.escape_ascii());
    }
}
