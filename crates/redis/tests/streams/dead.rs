//! Dead letters: added once, with the reason, in the step that acknowledges the entry.

use crate::queue::{GROUP, Kind, LATE, Queue, Running, take, until};
use firstseen_consumer::testkit::Fixture;
use firstseen_consumer::{Failure, Source};
use firstseen_redis::{RedisOptions, RedisSource};
use firstseen_servers::Server;
use firstseen_servers::redis::{CLUSTER, url};
use std::sync::Arc;

on_both!(
    a_dead_letter_says_where_it_comes_from_and_why,
    a_dead_letter_that_cannot_be_added_is_not_acknowledged,
    many_that_bury_one_entry_add_it_once,
    a_dead_letter_was_left_out_where_a_stream_made_again_had_the_same_entry_ids,
    a_dead_letter_was_left_out_as_that_of_another_stream_and_group,
    in_a_cluster_with_both_streams_at_one_node_one_step_does_both,
    in_a_cluster_with_streams_at_two_nodes_a_dead_letter_is_added_once,
    without_a_stream_for_them_dead_letters_are_acknowledged,
);

async fn a_dead_letter_says_where_it_comes_from_and_why(kind: Kind) {
    let queue = Queue::alone(kind, RedisOptions::new()).await;
    // One that was a dead letter before, and was added again.
    let id: String = queue
        .ask(&[
            "XADD",
            &queue.name,
            "*",
            "id",
            "order-17",
            "payload",
            "poison",
            "firstseen-reason",
            "old",
        ])
        .await;
    let dir = tempfile::tempdir().unwrap();
    let refuse = |_| async { Err(Failure::last("no such\naccount")) };
    let running = Running::start(queue.source().await, dir.path(), refuse);
    running.until("it is dead", |now| now.dead == 1 && now.in_flight == 0).await;
    running.stop().await;
    let reason = queue.dead_fields("firstseen-reason").await;
    assert!(reason[0].contains("no such\naccount"), "{reason:?}");
    for (field, value) in [
        ("payload", "poison"),
        ("id", "order-17"),
        ("firstseen-id", "order-17"),
        ("firstseen-stream", queue.name.as_str()),
        ("firstseen-group", GROUP),
        ("firstseen-entry", id.as_str()),
    ] {
        assert_eq!(queue.dead_fields(field).await, [value], "{field}");
    }
    assert_eq!(queue.pending().await, 0);
}

async fn a_dead_letter_that_cannot_be_added_is_not_acknowledged(kind: Kind) {
    let queue = Queue::alone(kind, RedisOptions::new()).await;
    let id = queue.add("poison").await;
    let source = queue.source().await;
    let taken = take(&source, 1, LATE).await;
    let dead = format!("{}-dead", queue.name);
    queue.ask::<()>(&["SET", &dead, "not a stream"]).await;
    let bury = async || source.dead_letter(&taken[0].message, &taken[0].token, "poison").await;
    bury().await.unwrap_err();
    assert!(queue.pending_of(&id).await.is_some(), "it is in neither stream");
    queue.ask::<u32>(&["DEL", &dead]).await;
    bury().await.unwrap();
    assert_eq!(queue.dead().await, ["poison"]);
    assert_eq!(queue.pending().await, 0);
}

async fn many_that_bury_one_entry_add_it_once(kind: Kind) {
    let queue = Queue::alone(kind, RedisOptions::new()).await;
    for n in 0..10 {
        queue.add(&n.to_string()).await;
    }
    let source = Arc::new(queue.source().await);
    let taken: Arc<[_]> = take(&source, 10, LATE).await.into();
    let bury = |n: usize| {
        let (source, taken) = (Arc::clone(&source), Arc::clone(&taken));
        tokio::spawn(async move {
            let delivery = &taken[n % 10];
            source.dead_letter(&delivery.message, &delivery.token, "poison").await.unwrap();
        })
    };
    let all: Vec<_> = (0..80).map(bury).collect();
    for one in all {
        one.await.unwrap();
    }
    let mut dead = queue.dead().await;
    dead.sort();
    assert_eq!(dead, (0..10).map(|n| n.to_string()).collect::<Vec<_>>());
}

/// Producers choose the ids of entries here.
async fn a_dead_letter_was_left_out_where_a_stream_made_again_had_the_same_entry_ids(kind: Kind) {
    let queue = Queue::alone(kind, RedisOptions::new()).await;
    for payload in ["old", "new"] {
        let add = ["XADD", &queue.name, "1-1", "id", payload, "payload", payload];
        queue.ask::<String>(&add).await;
        let source = queue.source().await;
        let taken = take(&source, 1, LATE).await;
        source.dead_letter(&taken[0].message, &taken[0].token, "poison").await.unwrap();
        queue.ask::<u32>(&["DEL", &queue.name]).await;
        queue.create_stream().await;
    }
    assert_eq!(queue.dead().await, ["old", "new"]);
}

/// Written one after the other, the names are the same.
async fn a_dead_letter_was_left_out_as_that_of_another_stream_and_group(kind: Kind) {
    let server = kind.start().await;
    let dead = Queue::at(url(&server), "all".to_owned(), RedisOptions::new());
    for (stream, group) in [("orders", "eu:payments"), ("orders:eu", "payments")] {
        let add = ["XADD", stream, "1-1", "id", "order-17", "payload", "order-17"];
        dead.ask::<String>(&add).await;
        let options = dead.options.clone();
        let source = RedisSource::connect(dead.url(), stream, group, options).await.unwrap();
        let taken = take(&source, 1, LATE).await;
        source.dead_letter(&taken[0].message, &taken[0].token, "poison").await.unwrap();
    }
    assert_eq!(dead.dead_fields("firstseen-group").await, ["eu:payments", "payments"]);
}

/// A node that has all slots, so that it refuses calls over two slots as a node of a larger cluster does.
async fn cluster(server: &Server, stream: &str, dead: &str) -> Queue {
    let mut queue = Queue::at(url(server), stream.to_owned(), RedisOptions::new());
    queue.options = queue.options.dead_letters(dead);
    queue.ask::<()>(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await;
    until("the cluster is ready", async || {
        let info: String = queue.ask(&["CLUSTER", "INFO"]).await;
        info.contains("cluster_state:ok")
    })
    .await;
    let crossed = queue.try_ask::<u32>(&["EXISTS", stream, "{another}"]).await.unwrap_err();
    assert_eq!(crossed.code(), Some("CROSSSLOT"), "it is no cluster");
    queue.create_stream().await;
    queue
}

async fn bury_twice(queue: &Queue, dead: &str) {
    let id = queue.add("poison").await;
    let source = queue.open(queue.options.clone()).await;
    let taken = take(&source, 1, LATE).await;
    let bury = async || source.dead_letter(&taken[0].message, &taken[0].token, "poison").await;
    bury().await.unwrap();
    assert_eq!(queue.pending().await, 0);
    bury().await.unwrap();
    // As if the process had died between the two steps: the entry is pending, and will come again.
    let claim = ["XCLAIM", &queue.name, GROUP, source.consumer(), "0", &id, "FORCE", "JUSTID"];
    assert_eq!(queue.ask::<Vec<String>>(&claim).await, std::slice::from_ref(&id));
    bury().await.unwrap();
    assert_eq!(queue.ask::<u32>(&["XLEN", dead]).await, 1);
    assert_eq!(queue.pending().await, 0);
}

async fn in_a_cluster_with_both_streams_at_one_node_one_step_does_both(kind: Kind) {
    let server = kind.start_with(&CLUSTER).await;
    let queue = cluster(&server, "{orders}", "{orders}:dead").await;
    bury_twice(&queue, "{orders}:dead").await;
    let calls: String = queue.ask(&["INFO", "errorstats"]).await;
    assert!(!calls.contains("CROSSSLOT:count=2"), "more than this test has asked: {calls}");
}

async fn in_a_cluster_with_streams_at_two_nodes_a_dead_letter_is_added_once(kind: Kind) {
    let server = kind.start_with(&CLUSTER).await;
    let queue = cluster(&server, "orders", "dead").await;
    bury_twice(&queue, "dead").await;
    let calls: String = queue.ask(&["INFO", "errorstats"]).await;
    assert!(calls.contains("CROSSSLOT:count=2"), "asked once whether one step can do it: {calls}");
}

async fn without_a_stream_for_them_dead_letters_are_acknowledged(kind: Kind) {
    let queue = Queue::alone(kind, RedisOptions::new()).await;
    queue.add("poison").await;
    let source = queue.open(RedisOptions::new()).await;
    let taken = take(&source, 1, LATE).await;
    source.dead_letter(&taken[0].message, &taken[0].token, "poison").await.unwrap();
    assert_eq!(queue.pending().await, 0);
    assert_eq!(queue.ask::<u32>(&["XLEN", &queue.name]).await, 1, "it stays in the stream");
}
