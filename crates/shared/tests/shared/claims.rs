//! Claims over a line that loses answers.

use crate::support::{Fault, Line, advance, line};
use firstseen_shared::{Claim, Dedup, ErrorKind, Ttl};
use std::time::Duration;
use tokio::time::Instant;

fn dedup(line: &Line) -> Dedup<Line> {
    Dedup::new(line.clone(), "orders", Ttl::from_millis(600_000)).expect("a good ttl")
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_answers_are_lost_is_still_the_callers_own() {
    let line = line();
    let dedup = dedup(&line);
    line.plant(&[Fault::Lost, Fault::Refused, Fault::Lost]);
    assert_eq!(dedup.claim("a").await.expect("claims"), Claim::FirstSeen);
    assert!(dedup.claim("a").await.expect("claims").is_duplicate(), "another call");
    line.plant(&[Fault::Lost, Fault::Lost]);
    let claims = dedup.claim_batch(&["b", "a", "b"]).await.expect("claims");
    assert_eq!(
        claims.iter().map(|claim| claim.is_first_seen()).collect::<Vec<_>>(),
        [true, false, false]
    );
    assert!(dedup.contains("b").await.expect("looks"));
    line.plant(&[Fault::Refused]);
    assert!(dedup.forget("b").await.expect("forgets"));
    assert_eq!(dedup.claim("b").await.expect("claims"), Claim::FirstSeen);
    advance(&line, Duration::from_secs(600));
    assert_eq!(dedup.claim("a").await.expect("claims"), Claim::FirstSeen, "its ttl has passed");
    assert_eq!(dedup.stats().await.expect("counts").claims, Some(1));
}

/// Rule 9.
#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_is_an_error_and_never_a_first_sight() {
    let line = line();
    let dedup = dedup(&line).patience(Duration::from_secs(3));
    line.set_away(true);
    let from = Instant::now();
    assert_eq!(dedup.claim("a").await.expect_err("nobody is there").kind(), ErrorKind::Unavailable);
    assert!(from.elapsed() <= Duration::from_secs(3));
    assert!(dedup.claim_batch(&["a"]).await.is_err() && dedup.contains("a").await.is_err());
    line.set_away(false);
    assert_eq!(dedup.claim("a").await.expect("claims"), Claim::FirstSeen);
    assert!(Dedup::new(line, "orders", Ttl::from_millis(0)).is_err());
}
