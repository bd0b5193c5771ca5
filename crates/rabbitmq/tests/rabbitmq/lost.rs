//! What is lost on the way: acknowledgements, connections, channels, queues, and a server that does not answer.

use crate::queue::{LATE, Queue, connect, durable, named, quorum, until_left};
use crate::running::Running;
use firstseen_consumer::testkit::Fixture;
use firstseen_consumer::{Failure, Job, Source, Want};
use firstseen_rabbitmq::lapin::options::{
    BasicPublishOptions, QueueBindOptions, QueueDeleteOptions,
};
use firstseen_rabbitmq::lapin::types::FieldTable;
use firstseen_rabbitmq::{RabbitError, RabbitOptions, RabbitSource};
use firstseen_servers::rabbitmq;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

const ONE: Want = Want { count: 1, bytes: 1 << 20, wait: Duration::from_secs(60) };

/// Rule 92. The connection is closed by the server between the work and its acknowledgement.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_92_an_acknowledgement_that_is_lost_with_its_connection_makes_a_duplicate() {
    let server = rabbitmq::start().await;
    let queue = Queue::create(&server.address(), RabbitOptions::new()).await;
    for n in 0..5 {
        queue.publish(&n.to_string(), "k", "x").await;
    }
    let dir = tempfile::tempdir().unwrap();
    let gate = Arc::new(Semaphore::new(0));
    let (open, effects) = (Arc::clone(&gate), Arc::new(AtomicU64::new(0)));
    let made = Arc::clone(&effects);
    let running = Running::start(queue.source().await, dir.path(), move |_: Job| {
        let (open, made) = (Arc::clone(&open), Arc::clone(&made));
        async move {
            made.fetch_add(1, Ordering::Relaxed);
            open.acquire().await.unwrap().forget();
            Ok(())
        }
    });
    running.until("all are worked on", |now| now.working == 5).await;
    rabbitmq::control(&queue.address, &["close_all_connections", "a test"]).await.unwrap();
    running.until("the loss is noticed", |now| now.source_errors > 0).await;
    gate.add_permits(5);
    running
        .until("each is done, and comes again", |now| now.first == 5 && now.duplicates >= 5)
        .await;
    until_left(&queue, 0).await;
    let counters = running.stop().await;
    assert_eq!(effects.load(Ordering::Relaxed), 5, "each effect is made once");
    assert_eq!(counters.acks_lost, 5, "no acknowledgement has gone to another connection");
}

/// The server closes the channel on which a delivery waits longer than `consumer_timeout`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_that_outlasts_the_consumer_timeout_is_done_once() {
    let server = rabbitmq::start_with(
        "[{rabbit, [{consumer_timeout, 1000}, {channel_tick_interval, 300}]}].",
    )
    .await;
    let queue = Queue::create(&server.address(), RabbitOptions::new()).await;
    queue.publish("order-17", "k", "x").await;
    let dir = tempfile::tempdir().unwrap();
    let gate = Arc::new(Semaphore::new(0));
    let (open, effects) = (Arc::clone(&gate), Arc::new(AtomicU64::new(0)));
    let made = Arc::clone(&effects);
    let running = Running::start(queue.source().await, dir.path(), move |_: Job| {
        let (open, made) = (Arc::clone(&open), Arc::clone(&made));
        async move {
            made.fetch_add(1, Ordering::Relaxed);
            open.acquire().await.unwrap().forget();
            Ok(())
        }
    });
    running
        .until("the channel is closed, and it comes again", |now| {
            now.source_errors > 0 && now.put_off > 0
        })
        .await;
    gate.add_permits(10);
    running.until("it is done, and a duplicate", |now| now.first == 1 && now.duplicates > 0).await;
    until_left(&queue, 0).await;
    running.stop().await;
    assert_eq!(effects.load(Ordering::Relaxed), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_answering_is_left_after_two_heartbeats_and_found_again() {
    let server = rabbitmq::start().await;
    let options = RabbitOptions::new().heartbeat(Duration::from_secs(1));
    let queue = Queue::create(&server.address(), options).await;
    let dir = tempfile::tempdir().unwrap();
    let effects = Arc::new(AtomicU64::new(0));
    let made = Arc::clone(&effects);
    let running = Running::start(queue.source().await, dir.path(), move |_| {
        made.fetch_add(1, Ordering::Relaxed);
        async { Ok(()) }
    });
    queue.publish("1", "k", "x").await;
    running.until("the first is done", |now| now.first == 1).await;
    server.freeze();
    running.until("its silence is noticed", |now| now.source_errors > 0).await;
    server.thaw();
    queue.publish("2", "k", "x").await;
    running.until("the second is done", |now| now.first == 2 && now.in_flight == 0).await;
    until_left(&queue, 0).await;
    running.stop().await;
    assert_eq!(effects.load(Ordering::Relaxed), 2);
}

/// Its bindings are gone with it: an empty queue in its place would hide that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_was_deleted_is_missed_and_not_made_anew() {
    let server = rabbitmq::start().await;
    let queue = Queue::create(&server.address(), RabbitOptions::new()).await;
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(queue.source().await, dir.path(), |_| async { Ok(()) });
    queue.publish("1", "k", "x").await;
    running.until("the first is done", |now| now.first == 1 && now.in_flight == 0).await;
    let (channel, _connection) = connect(&queue.address).await;
    let name = || queue.name.as_str().into();
    channel.queue_delete(name(), QueueDeleteOptions::default()).await.unwrap();
    running.until("it is missed more than once", |now| now.source_errors > 2).await;
    assert_eq!(rabbitmq::messages(&queue.address, &queue.name).await, None, "there is no queue");
    channel.queue_declare(name(), durable(), quorum()).await.unwrap();
    let (options, none) = (QueueBindOptions::default(), FieldTable::default());
    channel.queue_bind(name(), name(), "#".into(), options, none).await.unwrap();
    queue.publish("2", "k", "x").await;
    running.until("the second is done", |now| now.first == 2).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_whose_dead_letter_no_queue_takes_is_not_acknowledged() {
    let server = rabbitmq::start().await;
    let queue = Queue::create(&server.address(), RabbitOptions::new()).await;
    let source = queue.source().await;
    let (channel, _connection) = connect(&queue.address).await;
    let grave = || queue.dead_letters().as_str().into();
    channel.queue_delete(grave(), QueueDeleteOptions::default()).await.unwrap();
    queue.publish("order-17", "k", "poison").await;
    bury_in_vain(&source).await;

    let dir = tempfile::tempdir().unwrap();
    let poison = |_| async { Err(Failure::last("poison")) };
    let running = Running::start(source, dir.path(), poison);
    running.until("it comes again and again", |now| now.acks_lost >= 2).await;
    channel.queue_declare(grave(), durable(), quorum()).await.unwrap();
    until_left(&queue, 0).await;
    running.stop().await;
    assert_eq!(queue.dead().await, ["poison"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_whose_dead_letter_the_server_refuses_is_not_acknowledged() {
    let server = rabbitmq::start().await;
    let queue = Queue::create(&server.address(), RabbitOptions::new()).await;
    let source = queue.source().await;
    let full = r#"{"max-length": 1, "overflow": "reject-publish"}"#;
    let policy = ["set_policy", "--apply-to", "queues", "full", "[.]dead$", full];
    rabbitmq::control(&queue.address, &policy).await.unwrap();
    let (channel, _connection) = connect(&queue.address).await;
    let end = Instant::now() + LATE;
    loop {
        let (options, grave) = (BasicPublishOptions::default(), queue.dead_letters());
        let sent = channel.basic_publish("".into(), grave.into(), options, b"filler", named("x"));
        if sent.await.unwrap().await.unwrap().is_nack() {
            break;
        }
        // It takes more than the policy says.
        assert!(Instant::now() < end, "the queue of dead letters is never full");
    }
    queue.publish("order-17", "k", "poison").await;
    bury_in_vain(&source).await;
    assert!(!queue.dead().await.contains(&"poison".to_owned()));
}

/// Takes a message whose dead letter the server does not take, and takes it again.
async fn bury_in_vain(source: &RabbitSource) {
    let taken = source.next(ONE).await.unwrap();
    let buried = source.dead_letter(&taken[0].message, &taken[0].token, "poison").await;
    let error = buried.unwrap_err();
    assert!(matches!(&error, RabbitError::Refused { .. }), "{error:?}");
    drop(taken);
    let again = source.next(ONE).await.unwrap();
    assert_eq!(again[0].message.deliveries, Some(2));
}

/// A server short of memory reads nothing from connections that publish.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledgements_arrive_though_the_server_blocks_those_that_publish() {
    let server = rabbitmq::start().await;
    let queue = Queue::create(&server.address(), RabbitOptions::new()).await;
    queue.publish("poison", "k", "poison").await;
    for n in 0..10 {
        queue.publish(&n.to_string(), "k", "x").await;
    }
    let watermark = async |part: &str| {
        let set = ["set_vm_memory_high_watermark", part];
        rabbitmq::control(&queue.address, &set).await.unwrap();
    };
    watermark("0.0001").await;
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(queue.source().await, dir.path(), |job: Job| async move {
        if job.payload() == b"poison" {
            return Err(Failure::last("poison"));
        }
        Ok(())
    });
    running.until("the rest is done", |now| now.first == 10 && now.dead >= 1).await;
    until_left(&queue, 1).await;
    assert!(queue.dead().await.is_empty(), "the server takes no dead letter now");
    watermark("0.6").await;
    until_left(&queue, 0).await;
    running.stop().await;
    let dead = queue.dead().await;
    assert!(!dead.is_empty() && dead.iter().all(|letter| letter == "poison"), "{dead:?}");
}
