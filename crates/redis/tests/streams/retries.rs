//! How a delay is kept: by the server up to the min-idle time, and by this process beyond it.

use crate::queue::{Kind, LATE, Queue, take, texts, until, want};
use firstseen_consumer::Source;
use firstseen_consumer::testkit::Fixture;
use firstseen_redis::RedisOptions;
use std::time::Duration;
use tokio::time::{Instant, sleep};

on_both!(
    a_delay_is_kept_by_the_server_when_the_process_dies,
    a_longer_delay_is_kept_from_other_consumers_while_the_process_lives,
    a_longer_delay_is_not_lost_when_the_process_dies,
    what_is_due_does_not_wait_for_what_is_new,
    what_is_due_again_and_again_does_not_hold_up_what_is_new,
);

async fn a_delay_is_kept_by_the_server_when_the_process_dies(kind: Kind) {
    let options = RedisOptions::new().min_idle(Duration::from_secs(60));
    let options = options.claim_every(Duration::from_millis(50));
    let queue = Queue::alone(kind, options).await;
    queue.add("order-17").await;
    let source = queue.source().await;
    let taken = take(&source, 1, LATE).await;
    let delay = Duration::from_secs(2);
    let began = Instant::now();
    source.retry_in(&taken[0].token, delay).await.unwrap();
    drop((taken, source));
    let other = queue.source().await;
    let taken = take(&other, 1, LATE).await;
    assert_eq!(texts(&taken), ["order-17"]);
    let after = began.elapsed();
    assert!(after >= delay, "it came after {after:?}");
    assert_eq!(taken[0].message.deliveries, Some(2));
}

async fn a_longer_delay_is_kept_from_other_consumers_while_the_process_lives(kind: Kind) {
    let mut all = Vec::new();
    // On a machine with other work the server may not be told in time that it is put off; then with a longer one.
    for min_idle in [500, 2_000, 8_000].map(Duration::from_millis) {
        let (delay, after) = kept_for(kind, min_idle).await;
        if after >= delay {
            return;
        }
        all.push((delay, after));
    }
    panic!("another had it before the delay had passed: {all:?}");
}

/// Puts an entry off. Returns for how long, and after which time another consumer had it.
async fn kept_for(kind: Kind, min_idle: Duration) -> (Duration, Duration) {
    let queue = Queue::alone(kind, RedisOptions::new().min_idle(min_idle)).await;
    let id = queue.add("order-17").await;
    let source = queue.source().await;
    let taken = take(&source, 1, LATE).await;
    let (delay, began) = (min_idle * 6, Instant::now());
    source.retry_in(&taken[0].token, delay).await.unwrap();
    // This process asks for nothing meanwhile, since its loop is full.
    let other = queue.source().await;
    let taken = take(&other, 1, LATE * 2).await;
    let after = began.elapsed();
    assert_eq!(texts(&taken), ["order-17"]);
    let (consumer, ..) = queue.pending_of(&id).await.unwrap();
    assert_eq!(consumer, other.consumer());
    (delay, after)
}

async fn a_longer_delay_is_not_lost_when_the_process_dies(kind: Kind) {
    let min_idle = Duration::from_millis(500);
    let queue = Queue::alone(kind, RedisOptions::new().min_idle(min_idle)).await;
    queue.add("order-17").await;
    let source = queue.source().await;
    let taken = take(&source, 1, LATE).await;
    source.retry_in(&taken[0].token, LATE * 10).await.unwrap();
    drop((taken, source));
    let other = queue.source().await;
    // Early, which the ledger of the other says: a needless delivery, and nothing lost.
    assert_eq!(texts(&take(&other, 1, LATE).await), ["order-17"]);
}

/// What is due comes while the call for what is new still waits at the server, which it does for a second.
async fn what_is_due_does_not_wait_for_what_is_new(kind: Kind) {
    let queue = Queue::alone(kind, RedisOptions::new().min_idle(LATE * 10)).await;
    queue.add("order-17").await;
    let source = queue.source().await;
    let mut taken = take(&source, 1, LATE).await;
    let waits = async || {
        let clients: String = queue.ask(&["INFO", "clients"]).await;
        clients.contains("blocked_clients:1")
    };
    // On a machine with other work the second may be over.
    for _ in 0..10 {
        let next = source.next(want(9, LATE));
        let put_off = async {
            until("the call waits at the server", &waits).await;
            source.retry_in(&taken[0].token, Duration::from_millis(50)).await.unwrap();
        };
        let (again, ()) = tokio::join!(next, put_off);
        taken = again.unwrap();
        assert_eq!(texts(&taken), ["order-17"]);
        if waits().await {
            return;
        }
    }
    panic!("it came when the call for what is new had ended, each time");
}

async fn what_is_due_again_and_again_does_not_hold_up_what_is_new(kind: Kind) {
    let queue = Queue::alone(kind, RedisOptions::new()).await;
    queue.add("again").await;
    let source = queue.source().await;
    let mut taken = take(&source, 1, LATE).await;
    queue.add("new").await;
    for _ in 0..5 {
        for delivery in &taken {
            if delivery.message.payload == "new" {
                return;
            }
            source.retry_in(&delivery.token, Duration::ZERO).await.unwrap();
        }
        sleep(Duration::from_millis(10)).await;
        taken = source.next(want(1, LATE)).await.unwrap();
    }
    panic!("what is new never came");
}
