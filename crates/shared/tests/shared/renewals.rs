//! Leases that are renewed, and lost.

use crate::support::{Fault, LEASE, advance, ledger, line, record, started, tick};
use firstseen_shared::{Begin, Lost, MoveError, State};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_lease_is_kept_as_long_as_the_work_goes_on_and_no_longer() {
    let line = line();
    tick(&line);
    let ledger = ledger(&line);
    let attempt = started(&ledger, "a").await;
    let renewals = attempt.keep_renewed();
    timeout(LEASE * 10, renewals.lost()).await.expect_err("it is not lost");
    assert!(matches!(ledger.begin("a", None).await, Ok(Begin::InProgress(_))));
    assert!((28..=32).contains(&line.calls()), "after each third of it: {}", line.calls());
    drop(renewals);
    sleep(LEASE + SECOND).await;
    assert!(matches!(ledger.begin("a", None).await, Ok(Begin::Started(_))), "nobody renews it");
}

/// Rule 97.
#[tokio::test(start_paused = true)]
async fn while_the_store_is_away_the_owner_keeps_on_until_its_own_lease_end_and_then_stops() {
    let line = line();
    tick(&line);
    let ledger = ledger(&line);
    let from = Instant::now();
    let attempt = started(&ledger, "a").await;
    let renewals = attempt.keep_renewed();
    // Renewed after 20 and 40 seconds.
    sleep(SECOND * 45).await;
    line.set_away(true);
    timeout(SECOND * 50, renewals.lost()).await.expect_err("it keeps on while the store is away");
    assert_eq!(renewals.lost().await, Lost::LeaseEnded);
    let took = from.elapsed();
    assert!(took >= SECOND * 100 && took < SECOND * 101, "40 seconds and a lease: {took:?}");
    line.set_away(false);
    attempt.complete("late").await.expect("nobody has taken over");
}

/// Rule 97: from when it was sent, not from when it was answered.
#[tokio::test(start_paused = true)]
async fn a_lease_counts_from_when_its_renewal_was_sent() {
    let line = line();
    tick(&line);
    let from = Instant::now();
    // The begin is answered after ten seconds: a third of the lease is over ten seconds later.
    line.plant(&[Fault::Slow(SECOND * 10), Fault::Slow(SECOND * 15)]);
    let attempt = started(&ledger(&line), "a").await;
    let renewals = attempt.keep_renewed();
    sleep(SECOND * 26).await;
    line.set_away(true);
    assert_eq!(renewals.lost().await, Lost::LeaseEnded);
    let took = from.elapsed();
    assert!(took >= SECOND * 80 && took < SECOND * 81, "20 seconds and a lease: {took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_comes_back_in_time_finds_its_owner_at_work() {
    let line = line();
    tick(&line);
    let attempt = started(&ledger(&line), "a").await;
    let renewals = attempt.keep_renewed();
    line.set_away(true);
    timeout(SECOND * 50, renewals.lost()).await.expect_err("it keeps on");
    line.set_away(false);
    timeout(LEASE * 3, renewals.lost()).await.expect_err("it is renewed again");
    assert!(matches!(record(&line, "a").await.state, State::Running { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_hangs_keeps_nobody_from_hearing_that_the_lease_is_over() {
    let line = line();
    tick(&line);
    let from = Instant::now();
    let attempt = started(&ledger(&line), "a").await;
    let renewals = attempt.keep_renewed();
    line.plant(&[Fault::Hangs; 20]);
    assert_eq!(renewals.lost().await, Lost::LeaseEnded);
    let took = from.elapsed();
    assert!(took >= LEASE && took < LEASE + SECOND, "{took:?}");
    drop(attempt);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_was_taken_over_hears_so_with_its_next_renewal() {
    let line = line();
    tick(&line);
    let ledger = ledger(&line);
    let attempt = started(&ledger, "a").await;
    let renewals = attempt.keep_renewed();
    assert!(ledger.forget("a").await.expect("forgets"));
    let from = Instant::now();
    assert_eq!(renewals.lost().await, Lost::TakenOver);
    assert!(from.elapsed() <= LEASE / 3 + SECOND, "{:?}", from.elapsed());
    assert!(matches!(attempt.complete("x").await, Err(MoveError::Fenced(None))));
}

/// The store's clock is what counts: it may be ahead of this machine.
#[tokio::test(start_paused = true)]
async fn a_lease_that_the_store_says_is_over_is_lost() {
    let line = line();
    let attempt = started(&ledger(&line), "a").await;
    let renewals = attempt.keep_renewed();
    advance(&line, LEASE);
    assert_eq!(renewals.lost().await, Lost::LeaseEnded);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_lost_once_the_attempt_has_said_how_it_went() {
    let line = line();
    tick(&line);
    let attempt = started(&ledger(&line), "a").await;
    let renewals = attempt.keep_renewed();
    attempt.complete("x").await.expect("completes");
    let calls = line.calls();
    timeout(LEASE * 5, renewals.lost()).await.expect_err("nothing is lost");
    assert_eq!(line.calls(), calls, "and nothing renewed");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_is_gone_is_not_renewed_by_who_kept_its_renewals() {
    let line = line();
    tick(&line);
    let ledger = ledger(&line);
    let attempt = started(&ledger, "a").await;
    let renewals = attempt.keep_renewed();
    line.plant(&[Fault::Refused; 40]);
    drop(attempt);
    sleep(LEASE * 2).await;
    assert!(!matches!(ledger.begin("a", None).await, Ok(Begin::InProgress(_))));
    drop(renewals);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_by_hand_counts_too() {
    let line = line();
    tick(&line);
    let attempt = started(&ledger(&line), "a").await;
    sleep(LEASE / 2).await;
    line.plant(&[Fault::Lost]);
    attempt.renew().await.expect("renews");
    let renewals = attempt.keep_renewed();
    line.set_away(true);
    let from = Instant::now();
    assert_eq!(renewals.lost().await, Lost::LeaseEnded);
    let took = from.elapsed();
    assert!(took + SECOND >= LEASE && took <= LEASE, "{took:?}");
    line.set_away(false);
    assert!(matches!(attempt.renew().await, Err(MoveError::LeaseEnded)));
}
