//! Entries that are trimmed before they are acknowledged are lost at the server. That is told, each time.

use crate::queue::{Kind, LATE, Queue, Running, take, texts, until, want};
use firstseen_consumer::Source;
use firstseen_consumer::testkit::Fixture;
use firstseen_redis::{RedisError, RedisOptions, RedisSource};
use std::time::Duration;
use tokio::time::Instant;

on_both!(
    trimmed_entries_of_a_dead_consumer_are_told,
    a_loop_counts_them_as_errors_of_the_source,
    an_entry_that_is_trimmed_while_it_is_put_off_is_told,
    an_entry_that_is_trimmed_in_hand_is_worked_on_to_its_end,
    an_entry_that_is_trimmed_in_hand_can_be_a_dead_letter_once,
    an_entry_that_is_trimmed_in_hand_and_not_done_at_a_stop_is_told,
    entries_that_are_trimmed_before_anybody_had_them_are_told,
    a_stream_that_is_trimmed_to_nothing_before_anybody_had_it_is_told,
    a_lag_that_the_server_does_not_know_is_not_known,
);

const MIN_IDLE: Duration = Duration::from_millis(400);

fn options() -> RedisOptions {
    RedisOptions::new().min_idle(MIN_IDLE)
}

async fn trim(queue: &Queue, left: &str) {
    queue.ask::<u32>(&["XTRIM", &queue.name, "MAXLEN", left]).await;
}

/// Asks until something is told.
async fn told(source: &RedisSource) -> RedisError {
    let end = Instant::now() + LATE;
    loop {
        match source.next(want(9, Duration::from_millis(50))).await {
            Err(error) => return error,
            Ok(taken) => assert_eq!(texts(&taken), [""; 0]),
        }
        assert!(Instant::now() < end, "nothing is told");
    }
}

async fn trimmed_entries_of_a_dead_consumer_are_told(kind: Kind) {
    let queue = Queue::alone(kind, options()).await;
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(queue.add(&n.to_string()).await);
    }
    let dead = queue.source().await;
    assert_eq!(take(&dead, 5, LATE).await.len(), 5);
    drop(dead);
    trim(&queue, "1").await;
    let source = queue.source().await;
    // They need not have been idle for long enough at the same time.
    let (mut left, mut lost) = (Vec::new(), Vec::<(u64, String, String)>::new());
    let end = Instant::now() + LATE;
    while left.is_empty() || lost.iter().map(|(count, ..)| count).sum::<u64>() < 4 {
        assert!(Instant::now() < end, "{left:?}, {lost:?}");
        match source.next(want(9, Duration::from_millis(50))).await {
            Ok(taken) => left.extend(texts(&taken)),
            Err(error) => {
                assert!(error.to_string().contains("MINID"), "{error}");
                let RedisError::Trimmed { stream, count, first, last } = error else {
                    panic!("{error}")
                };
                assert_eq!(stream, queue.name);
                lost.push((count, first.to_string(), last.to_string()));
            }
        }
    }
    // What is left may come again: nobody says that work on it goes on.
    left.dedup();
    assert_eq!(left, ["4"]);
    assert_eq!((&lost[0].1, &lost[lost.len() - 1].2), (&ids[0], &ids[3]));
    assert_eq!(source.watch().counters().trimmed, 4);
    assert_eq!(queue.pending().await, 1, "the server has forgotten them");
    let taken = source.next(want(9, Duration::from_millis(50))).await;
    assert!(taken.is_ok(), "told once, and then it goes on: {taken:?}");
}

async fn a_loop_counts_them_as_errors_of_the_source(kind: Kind) {
    let queue = Queue::alone(kind, options()).await;
    queue.add("lost").await;
    let dead = queue.source().await;
    take(&dead, 1, LATE).await;
    drop(dead);
    trim(&queue, "0").await;
    let dir = tempfile::tempdir().unwrap();
    let source = queue.source().await;
    let watch = source.watch();
    let running = Running::start(source, dir.path(), |_| async { Ok(()) });
    running.until("it is told", |now| now.source_errors == 1).await;
    queue.add("order-17").await;
    running.until("the loop goes on", |now| now.first == 1).await;
    running.stop().await;
    assert_eq!(watch.counters().trimmed, 1);
}

async fn an_entry_that_is_trimmed_while_it_is_put_off_is_told(kind: Kind) {
    let queue = Queue::alone(kind, RedisOptions::new()).await;
    queue.add("lost").await;
    let source = queue.source().await;
    let taken = take(&source, 1, LATE).await;
    source.retry_in(&taken[0].token, Duration::from_millis(100)).await.unwrap();
    trim(&queue, "0").await;
    let error = told(&source).await;
    assert!(matches!(error, RedisError::Trimmed { count: 1, .. }), "{error}");
}

async fn an_entry_that_is_trimmed_in_hand_is_worked_on_to_its_end(kind: Kind) {
    let queue = Queue::alone(kind, options()).await;
    queue.add("order-17").await;
    let source = queue.source().await;
    let taken = take(&source, 1, LATE).await;
    trim(&queue, "0").await;
    source.working(&taken[0].token).await.unwrap();
    source.working(&taken[0].token).await.unwrap();
    assert_eq!(source.watch().counters().trimmed_in_hand, 1, "told once");
    // Its work fails. Nobody but this process has it.
    let began = Instant::now();
    source.retry_in(&taken[0].token, Duration::from_millis(200)).await.unwrap();
    let again = take(&source, 1, LATE).await;
    assert_eq!(texts(&again), ["order-17"]);
    assert!(began.elapsed() >= Duration::from_millis(200), "it came too early");
    assert_eq!(again[0].message.deliveries, Some(2));
    source.working(&again[0].token).await.unwrap();
    source.acknowledge(&again[0].token).await.unwrap();
    let counters = source.watch().counters();
    assert_eq!((counters.trimmed, counters.trimmed_in_hand), (0, 1), "nothing is lost");
}

async fn an_entry_that_is_trimmed_in_hand_can_be_a_dead_letter_once(kind: Kind) {
    let queue = Queue::alone(kind, options()).await;
    queue.add("poison").await;
    let source = queue.source().await;
    let taken = take(&source, 1, LATE).await;
    trim(&queue, "0").await;
    source.working(&taken[0].token).await.unwrap();
    for _ in 0..2 {
        source.dead_letter(&taken[0].message, &taken[0].token, "poison").await.unwrap();
    }
    assert_eq!(queue.dead().await, ["poison"]);
}

async fn an_entry_that_is_trimmed_in_hand_and_not_done_at_a_stop_is_told(kind: Kind) {
    let queue = Queue::alone(kind, options()).await;
    queue.add("put off").await;
    queue.add("begun").await;
    let source = queue.source().await;
    let taken = take(&source, 2, LATE).await;
    trim(&queue, "0").await;
    source.retry_in(&taken[0].token, LATE).await.unwrap();
    let error = source.stop().await.unwrap_err();
    assert!(matches!(error, RedisError::Trimmed { count: 1, .. }), "{error}");
    let error = source.retry_in(&taken[1].token, Duration::ZERO).await.unwrap_err();
    assert!(matches!(error, RedisError::Trimmed { count: 1, .. }), "{error}");
    let counters = source.watch().counters();
    assert_eq!((counters.trimmed, counters.trimmed_in_hand), (2, 2));
}

async fn entries_that_are_trimmed_before_anybody_had_them_are_told(kind: Kind) {
    let queue = Queue::alone(kind, RedisOptions::new()).await;
    // Trimmed before there is a group: nobody misses them.
    for n in 0..4 {
        queue.add(&format!("before-{n}")).await;
    }
    trim(&queue, "1").await;
    let source = queue.source().await;
    assert_eq!(source.lag().await.unwrap(), Some(1));
    assert_eq!(source.watch().counters().skipped, 0);
    for n in 0..9 {
        queue.add(&n.to_string()).await;
    }
    assert_eq!(texts(&take(&source, 2, LATE).await), ["before-3", "0"]);
    trim(&queue, "3").await;
    for _ in 0..2 {
        assert_eq!(source.lag().await.unwrap(), Some(3), "what is there");
        assert_eq!(source.watch().counters().skipped, 5, "1 to 5 were skipped");
    }
    let error = source.next(want(9, LATE)).await.unwrap_err();
    assert!(matches!(error, RedisError::Trimmed { count: 5, .. }), "{error}");
    assert_eq!(texts(&take(&source, 3, LATE).await), ["6", "7", "8"]);
    assert_eq!(source.lag().await.unwrap(), Some(0));
    assert_eq!(source.watch().counters().skipped, 5);
}

async fn a_lag_that_the_server_does_not_know_is_not_known(kind: Kind) {
    let queue = Queue::alone(kind, RedisOptions::new()).await;
    for n in 0..9 {
        queue.add(&n.to_string()).await;
    }
    let gone = queue.add("gone").await;
    queue.add("10").await;
    let source = queue.source().await;
    take(&source, 2, LATE).await;
    assert_eq!(source.lag().await.unwrap(), Some(9));
    queue.ask::<u32>(&["XDEL", &queue.name, &gone]).await;
    assert_eq!(source.lag().await.unwrap(), None);
    take(&source, 8, LATE).await;
    until("all are delivered", async || source.lag().await.unwrap() == Some(0)).await;
}

async fn a_stream_that_is_trimmed_to_nothing_before_anybody_had_it_is_told(kind: Kind) {
    let queue = Queue::alone(kind, RedisOptions::new()).await;
    let source = queue.source().await;
    for n in 0..4 {
        queue.add(&n.to_string()).await;
    }
    trim(&queue, "0").await;
    assert_eq!(source.lag().await.unwrap(), Some(0));
    let error = source.next(want(9, LATE)).await.unwrap_err();
    assert!(matches!(error, RedisError::Trimmed { count: 4, .. }), "{error}");
    queue.add("4").await;
    assert_eq!(texts(&take(&source, 1, LATE).await), ["4"]);
}
