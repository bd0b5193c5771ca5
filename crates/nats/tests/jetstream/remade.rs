//! A stream that is deleted and made again under a running consumer counts from one again; and two consumers of one stream.

use crate::queue::{LATE, Queue, connect, create_streams, take};
use crate::rules::{pending, start, until};
use async_nats::HeaderValue;
use firstseen_consumer::testkit::Fixture;
use firstseen_consumer::{Failure, Source};
use firstseen_nats::{NatsIds, NatsOptions, NatsSource};
use firstseen_servers::nats;
use std::time::Duration;

/// Deletes the stream, and its consumers with it, and makes it again.
async fn make_again(queue: &Queue) {
    queue.context.delete_stream(&queue.name).await.unwrap();
    create_streams(&queue.context, &queue.name, Duration::from_millis(100)).await;
}

fn options() -> NatsOptions {
    NatsOptions::new().heartbeat(Duration::from_millis(500))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_a_stream_made_again_were_taken_for_those_of_the_old_one() {
    let server = nats::start().await;
    let queue = Queue::create(&server.address(), options().ids(NatsIds::Sequence)).await;
    let dir = tempfile::tempdir().unwrap();
    let (handle, task) = start(queue.source().await, dir.path(), |_| async { Ok(()) });
    for n in 0..5 {
        queue.publish(&format!("old-{n}"), "k", "x").await;
    }
    until(&handle, "the old ones are done", |now| now.first == 5).await;
    make_again(&queue).await;
    for n in 0..8 {
        queue.publish(&format!("new-{n}"), "k", "x").await;
    }
    until(&handle, "the new ones are done", |now| now.first == 13).await;
    handle.stop();
    task.await.unwrap().unwrap();
}

/// No request for messages is open while a handler works, so that the server tells nobody that the consumer was deleted;
/// and the next request finds the one that another process has made again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_by_sequence_were_those_of_the_old_stream_where_nothing_told_of_the_new_one() {
    let server = nats::start().await;
    // No heartbeat is missed, after which the source would build its stream of deliveries anew, and hear of the new one.
    let options = NatsOptions::new().heartbeat(LATE).ids(NatsIds::Sequence).prefetch(1);
    let queue = Queue::create(&server.address(), options).await;
    let source = queue.source().await;
    queue.publish("old", "k", "x").await;
    let old = take(&source).await;
    source.acknowledge(&old.token).await.unwrap();
    make_again(&queue).await;
    let other = queue.source().await;
    queue.publish("new", "k", "x").await;
    let new = take(&source).await;
    assert_ne!(new.message.id, old.message.id);
    // And whoever takes it knows it by the same id.
    source.retry_in(&new.token, Duration::ZERO).await.unwrap();
    let again = take(&other).await;
    assert_eq!(again.message.id, new.message.id);
    other.acknowledge(&again.token).await.unwrap();
    assert_eq!(pending(&queue).await, (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_acknowledgement_of_the_old_stream_ended_a_message_of_the_new_one() {
    let server = nats::start().await;
    let queue = Queue::create(&server.address(), options()).await;
    let source = queue.source().await;
    queue.publish("old", "k", "x").await;
    let old = take(&source).await;
    make_again(&queue).await;
    queue.publish("new", "k", "x").await;
    let new = take(&source).await;
    assert_eq!(new.message.id.as_deref(), Some(&b"new"[..]));
    source.working(&old.token).await.unwrap();
    source.retry_in(&old.token, Duration::ZERO).await.unwrap();
    source.acknowledge(&old.token).await.unwrap();
    assert_eq!(pending(&queue).await, (0, 1), "nobody has acknowledged the new one");
    source.acknowledge(&new.token).await.unwrap();
    assert_eq!(pending(&queue).await, (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_of_a_stream_made_again_was_dropped_as_one_of_the_old() {
    let server = nats::start().await;
    let queue = Queue::create(&server.address(), options()).await;
    let dir = tempfile::tempdir().unwrap();
    let refuse = |_| async { Err(Failure::last("no")) };
    let (handle, task) = start(queue.source().await, dir.path(), refuse);
    queue.publish("order-1", "k", "old").await;
    until(&handle, "the old one is dead", |now| now.dead == 1).await;
    make_again(&queue).await;
    queue.publish("order-2", "k", "new").await;
    until(&handle, "the new one is dead", |now| now.dead == 2).await;
    handle.stop();
    task.await.unwrap().unwrap();
    assert_eq!(queue.dead().await, ["old", "new"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_was_dropped_as_that_of_another_consumer_of_the_stream() {
    let server = nats::start().await;
    let queue = Queue::create(&server.address(), options()).await;
    queue.publish("order-1", "k", "poison").await;
    for consumer in ["payments", "shipping"] {
        let context = connect(&server.address(), LATE).await;
        let opened = NatsSource::open(context, &queue.name, consumer, queue.options.clone()).await;
        let source = opened.unwrap();
        let taken = take(&source).await;
        // The first time its answer is lost, and it is said again.
        for _ in 0..2 {
            source.dead_letter(&taken.message, &taken.token, "no").await.unwrap();
        }
    }
    let mut stream = queue.context.get_stream(format!("{}-dead", queue.name)).await.unwrap();
    assert_eq!(stream.info().await.unwrap().state.messages, 2, "one of each");
    for (sequence, consumer) in [(1, "payments"), (2, "shipping")] {
        let letter = stream.get_raw_message(sequence).await.unwrap();
        let by = letter.headers.get("Firstseen-Consumer").map(HeaderValue::as_str);
        assert_eq!(by, Some(consumer));
    }
}
