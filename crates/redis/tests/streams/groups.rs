//! Groups and consumers: made, made again, and removed.

use crate::queue::{GROUP, Kind, LATE, Queue, Running, take, texts, until};
use firstseen_consumer::Source;
use firstseen_consumer::testkit::Fixture;
use firstseen_redis::{RedisError, RedisOptions, RedisSource, RedisStart};
use std::time::Duration;

on_both!(
    a_group_begins_where_it_is_told,
    a_stream_that_is_not_there_is_an_error_unless_it_may_be_created,
    keys_that_cannot_be_used_are_refused,
    a_group_that_is_flushed_is_made_again_and_the_loop_goes_on,
    a_group_that_is_destroyed_is_made_again_and_its_entries_are_duplicates,
    a_group_from_the_end_that_is_made_again_goes_on_where_it_was,
    the_lag_is_what_is_not_delivered,
    consumers_that_are_gone_are_removed_unless_something_is_pending_for_them,
);

async fn a_group_begins_where_it_is_told(kind: Kind) {
    let queue = Queue::alone(kind, RedisOptions::new()).await;
    queue.add("first").await;
    let second = queue.add("second").await;
    queue.add("third").await;
    let starts = [
        (RedisStart::Beginning, &["first", "second", "third", "fourth"][..]),
        (RedisStart::After(second.parse().unwrap()), &["third", "fourth"]),
        (RedisStart::End, &["fourth"]),
    ];
    let open = async |start| {
        let (group, options) = (format!("{start:?}"), RedisOptions::new().start(start));
        RedisSource::connect(queue.url(), &queue.name, &group, options).await.unwrap()
    };
    let mut sources = Vec::new();
    for (start, _) in starts {
        sources.push(open(start).await);
    }
    queue.add("fourth").await;
    for ((start, expected), source) in starts.into_iter().zip(sources) {
        let taken = take(&source, expected.len(), LATE).await;
        assert_eq!(texts(&taken), expected, "{start:?}");
        // One that is there goes on where it is.
        let more = take(&open(start).await, 1, Duration::from_millis(200)).await;
        assert_eq!(texts(&more), [""; 0], "{start:?}");
    }
}

async fn a_stream_that_is_not_there_is_an_error_unless_it_may_be_created(kind: Kind) {
    let queue = Queue::alone(kind, RedisOptions::new()).await;
    let open = async |options| RedisSource::connect(queue.url(), "none", GROUP, options).await;
    let error = open(RedisOptions::new()).await.unwrap_err();
    assert!(matches!(error, RedisError::NoStream { .. }), "{error}");
    assert!(error.to_string().contains("create_stream"), "{error}");
    assert_eq!(queue.ask::<u32>(&["EXISTS", "none"]).await, 0, "nothing was created");
    let source = open(RedisOptions::new().create_stream(true)).await.unwrap();
    assert_eq!(source.lag().await.unwrap(), Some(0));
    queue.ask::<String>(&["XADD", "none", "*", "id", "a", "payload", "a"]).await;
    assert_eq!(texts(&take(&source, 1, LATE).await), ["a"]);
}

async fn keys_that_cannot_be_used_are_refused(kind: Kind) {
    let queue = Queue::alone(kind, RedisOptions::new()).await;
    queue.ask::<()>(&["SET", "text", "x"]).await;
    let open = async |stream: &str, dead: &str| {
        let options = RedisOptions::new().dead_letters(dead);
        RedisSource::connect(queue.url(), stream, GROUP, options).await
    };
    let name = &queue.name;
    for (stream, dead, word) in [
        ("text", "dead", "string"),
        (name, "text", "string"),
        (name, name.as_str(), "itself"),
        (name, "dead}", "brace"),
    ] {
        let error = open(stream, dead).await.unwrap_err();
        assert!(matches!(error, RedisError::Unsuitable { .. }), "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
}

async fn a_group_that_is_flushed_is_made_again_and_the_loop_goes_on(kind: Kind) {
    let queue = Queue::alone(kind, RedisOptions::new()).await;
    queue.add("before").await;
    let dir = tempfile::tempdir().unwrap();
    let source = queue.source().await;
    let watch = source.watch();
    let running = Running::start(source, dir.path(), |_| async { Ok(()) });
    running.until("it is done", |now| now.first == 1).await;
    queue.ask::<()>(&["FLUSHALL"]).await;
    // Without the stream there is no group.
    running.until("it is an error", |now| now.source_errors > 0).await;
    assert_eq!(watch.counters().groups_made_again, 0);
    queue.add("after").await;
    running.until("the loop goes on", |now| now.first == 2).await;
    assert_eq!(watch.counters().groups_made_again, 1);
    running.stop().await;
    assert_eq!(queue.pending().await, 0);
}

async fn a_group_that_is_destroyed_is_made_again_and_its_entries_are_duplicates(kind: Kind) {
    let queue = Queue::alone(kind, RedisOptions::new()).await;
    for n in 0..5 {
        queue.add(&n.to_string()).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(queue.source().await, dir.path(), |_| async { Ok(()) });
    running.until("all are done", |now| now.first == 5 && now.in_flight == 0).await;
    queue.ask::<u32>(&["XGROUP", "DESTROY", &queue.name, GROUP]).await;
    queue.add("5").await;
    running.until("all come again", |now| now.duplicates == 5 && now.first == 6).await;
    running.stop().await;
    assert_eq!(queue.pending().await, 0);
}

async fn a_group_from_the_end_that_is_made_again_goes_on_where_it_was(kind: Kind) {
    let queue = Queue::alone(kind, RedisOptions::new().start(RedisStart::End)).await;
    queue.add("never wanted").await;
    let source = queue.source().await;
    queue.add("wanted").await;
    assert_eq!(texts(&take(&source, 1, LATE).await), ["wanted"]);
    queue.ask::<u32>(&["XGROUP", "DESTROY", &queue.name, GROUP]).await;
    queue.add("added meanwhile").await;
    assert_eq!(texts(&take(&source, 1, LATE).await), ["added meanwhile"]);
    // Another stream of that name is new to it as a whole.
    queue.ask::<()>(&["FLUSHALL"]).await;
    queue.ask::<String>(&["XADD", &queue.name, "7-1", "id", "x", "payload", "of another"]).await;
    assert_eq!(texts(&take(&source, 1, LATE).await), ["of another"]);
}

async fn the_lag_is_what_is_not_delivered(kind: Kind) {
    let queue = Queue::alone(kind, RedisOptions::new()).await;
    for n in 0..50 {
        queue.add(&n.to_string()).await;
    }
    let source = queue.source().await;
    assert_eq!(source.lag().await.unwrap(), Some(50));
    let taken = take(&source, 10, LATE).await;
    assert_eq!(source.lag().await.unwrap(), Some(40));
    for delivery in &taken {
        source.acknowledge(&delivery.token).await.unwrap();
    }
    assert_eq!(source.lag().await.unwrap(), Some(40));
    take(&source, 40, LATE).await;
    assert_eq!(source.lag().await.unwrap(), Some(0));
}

async fn consumers_that_are_gone_are_removed_unless_something_is_pending_for_them(kind: Kind) {
    let expire = Duration::from_millis(300);
    let options = RedisOptions::new().min_idle(LATE * 10).expire_consumers(expire);
    let queue = Queue::alone(kind, options.clone()).await;
    let names = async || {
        let consumers: Vec<redis::Value> =
            queue.ask(&["XINFO", "CONSUMERS", &queue.name, GROUP]).await;
        format!("{consumers:?}")
    };
    let visit = async |source: &RedisSource| {
        // Redis 7.0 makes a consumer when it is given something.
        queue.add("done").await;
        let taken = take(source, 1, LATE).await;
        source.acknowledge(&taken[0].token).await.unwrap();
    };
    let gone = queue.source().await;
    visit(&gone).await;
    let gone_name = gone.consumer().to_owned();
    drop(gone);
    let owner = queue.source().await;
    let mut watches = vec![owner.watch()];
    let id = queue.add("order-17").await;
    take(&owner, 1, LATE).await;
    let owner_name = owner.consumer().to_owned();
    drop(owner);
    let named = queue.open(options.consumer("worker-1")).await;
    visit(&named).await;
    watches.push(named.watch());
    drop(named);

    let source = queue.source().await;
    watches.push(source.watch());
    // By any of them, if the others did not go soon enough.
    let removed = || watches.iter().map(|watch| watch.counters().consumers_removed).sum::<u64>();
    until("one is removed", async || removed() == 1).await;
    tokio::time::sleep(expire * 4).await;
    let left = names().await;
    assert!(!left.contains(&gone_name), "{left}");
    assert!(left.contains(&owner_name), "removed with what is pending for it: {left}");
    assert!(left.contains("worker-1"), "its name was not given here: {left}");
    assert_eq!(queue.pending_of(&id).await.unwrap().0, owner_name);
    assert_eq!(removed(), 1);
}
