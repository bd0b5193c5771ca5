//! What a server that is killed, frozen or emptied has forgotten, and that a source goes on.

use crate::queue::{GROUP, Kind, LATE, Queue, Running, take, texts, want};
use firstseen_consumer::Source;
use firstseen_consumer::testkit::Fixture;
use firstseen_redis::{RedisError, RedisOptions, RedisSource};
use firstseen_servers::redis::url;
use std::time::Duration;
use tokio::time::Instant;

on_both!(
    a_killed_server_that_syncs_always_forgets_nothing_that_it_has_answered,
    a_killed_server_that_syncs_each_second_forgets_nothing,
    a_killed_server_without_files_forgets_all_and_the_loop_goes_on,
    a_frozen_server_is_an_error_in_time_and_is_connected_again,
);

async fn a_killed_server_that_syncs_always_forgets_nothing_that_it_has_answered(kind: Kind) {
    killed_with_files(kind, &["--appendonly", "yes", "--appendfsync", "always"]).await;
}

/// The process is killed, and not the machine: what it has written is in the system's memory.
async fn a_killed_server_that_syncs_each_second_forgets_nothing(kind: Kind) {
    killed_with_files(kind, &["--appendonly", "yes", "--appendfsync", "everysec"]).await;
}

async fn killed_with_files(kind: Kind, files: &[&str]) {
    let mut server = kind.start_with(files).await;
    let options = RedisOptions::new().min_idle(Duration::from_millis(500)).create_stream(true);
    let queue = Queue::at(url(&server), "orders".to_owned(), options);
    let source = queue.source().await;
    for n in 0..40 {
        queue.add(&format!("{n:02}")).await;
    }
    let taken = take(&source, 30, LATE).await;
    for delivery in &taken[..20] {
        source.acknowledge(&delivery.token).await.unwrap();
    }
    source.dead_letter(&taken[20].message, &taken[20].token, "poison").await.unwrap();
    let (delay, began) = (Duration::from_millis(400), Instant::now());
    source.retry_in(&taken[21].token, delay).await.unwrap();
    server.kill();
    server.restart().await;
    drop((taken, source));
    let other = queue.source().await;
    let expected: Vec<String> = (21..40).map(|n| format!("{n:02}")).collect();
    let (mut taken, mut left) = (Vec::new(), Vec::new());
    while left.len() < expected.len() {
        let more = take(&other, 1, LATE).await;
        assert_eq!(more.len(), 1, "not all of it comes: {left:?}");
        // On a machine with other work some may come again.
        left.extend(texts(&more));
        left.sort();
        left.dedup();
        taken.extend(more);
    }
    assert!(began.elapsed() >= delay);
    assert_eq!(left, expected, "what was not acknowledged, and no other");
    assert_eq!(queue.dead().await, ["20"]);
    for delivery in &taken {
        other.acknowledge(&delivery.token).await.unwrap();
    }
    assert_eq!((queue.pending().await, other.lag().await.unwrap()), (0, Some(0)));
}

async fn a_killed_server_without_files_forgets_all_and_the_loop_goes_on(kind: Kind) {
    let mut server = kind.start().await;
    let options = RedisOptions::new().create_stream(true);
    let queue = Queue::at(url(&server), "orders".to_owned(), options);
    queue.add("before").await;
    let dir = tempfile::tempdir().unwrap();
    let source = queue.source().await;
    let watch = source.watch();
    let running = Running::start(source, dir.path(), |_| async { Ok(()) });
    running.until("it is done", |now| now.first == 1).await;
    server.kill();
    running.until("the server is missed", |now| now.source_errors > 0).await;
    server.restart().await;
    // The producer adds again what it does not know to be done.
    queue.add("before").await;
    queue.add("after").await;
    running.until("the loop goes on", |now| (now.first, now.duplicates) == (2, 1)).await;
    assert_eq!(watch.counters().groups_made_again, 1);
    running.stop().await;
}

async fn a_frozen_server_is_an_error_in_time_and_is_connected_again(kind: Kind) {
    let server = kind.start_durable().await;
    let answer_max = Duration::from_millis(500);
    let options = RedisOptions::new().create_stream(true).answer_max(answer_max);
    let queue = Queue::at(url(&server), "orders".to_owned(), options.clone());
    queue.add("order-17").await;
    let source = queue.source().await;
    let taken = take(&source, 1, LATE).await;
    server.freeze();
    let began = Instant::now();
    let error = source.acknowledge(&taken[0].token).await.unwrap_err();
    assert!(matches!(error, RedisError::NoAnswer { .. }), "{error}");
    // A call that waits at the server gives it the time to wait besides.
    let error = loop {
        match source.next(want(1, Duration::from_millis(100))).await {
            Ok(taken) => assert_eq!(texts(&taken), [""; 0]),
            Err(error) => break error,
        }
        assert!(began.elapsed() < LATE, "a server that says nothing is not missed");
    };
    assert!(matches!(error, RedisError::NoAnswer { .. }), "{error}");
    let refused = RedisSource::connect(&url(&server), "orders", GROUP, options).await.unwrap_err();
    assert!(matches!(refused, RedisError::NoAnswer { .. }), "{refused}");
    assert!(began.elapsed() < LATE);
    server.thaw();
    let end = Instant::now() + LATE;
    while let Err(error) = source.acknowledge(&taken[0].token).await {
        // It has little time for an answer.
        assert!(Instant::now() < end, "{error}");
    }
    queue.add("order-18").await;
    assert_eq!(texts(&take(&source, 1, LATE).await), ["order-18"]);
}
