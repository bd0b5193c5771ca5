//! Rule 89 of brokers, and what is this adapter's own.

use crate::queue::{LATE, Queue, connect, durable, named, quorum, ready, server, text, until_left};
use crate::running::Running;
use firstseen_consumer::testkit::Fixture;
use firstseen_consumer::{Failure, Job, Source, Want};
use firstseen_rabbitmq::lapin::BasicProperties;
use firstseen_rabbitmq::lapin::message::Delivery;
use firstseen_rabbitmq::lapin::options::QueueBindOptions;
use firstseen_rabbitmq::lapin::types::{AMQPValue, FieldTable};
use firstseen_rabbitmq::{RabbitIds, RabbitKeys, RabbitOptions, RabbitSource};
use firstseen_servers::rabbitmq;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, sleep};

const ONE: Want = Want { count: 1, bytes: 1 << 20, wait: Duration::from_secs(60) };
const SHORT: Want = Want { count: 100, bytes: 1 << 20, wait: Duration::from_millis(500) };

/// Takes this many messages and acknowledges them. Returns their payloads in the order in which they came.
async fn drain(source: &RabbitSource, count: usize) -> Vec<String> {
    let end = Instant::now() + LATE;
    let mut order = Vec::new();
    while order.len() < count {
        assert!(Instant::now() < end, "only {order:?} have come");
        for delivery in source.next(Want { wait: SHORT.wait, ..ONE }).await.unwrap() {
            order.push(String::from_utf8_lossy(&delivery.message.payload).into_owned());
            source.acknowledge(&delivery.token).await.unwrap();
        }
    }
    order
}

/// Rule 89. The server counts what comes back, and marks it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_89_what_is_given_back_is_counted_by_the_server() {
    let server = server().await;
    let queue = Queue::create(&server.address(), RabbitOptions::new()).await;
    queue.publish("order-17", "k", "x").await;
    let source = queue.source().await;
    for deliveries in 1..=30 {
        let taken = source.next(ONE).await.unwrap();
        assert_eq!(taken[0].message.deliveries, Some(deliveries));
        source.retry_in(&taken[0].token, Duration::ZERO).await.unwrap();
    }
    drop(source);
    // The server takes back what the source had once it hears that its connection has ended.
    let end = Instant::now() + LATE;
    let left = loop {
        if let Some(left) = queue.read_all(&queue.name).await.pop() {
            break left;
        }
        assert!(Instant::now() < end, "it never comes back");
    };
    assert!(left.redelivered, "the server marks it");
}

/// Rule 89. Why a queue with a delivery limit is refused: over it, the server takes the message away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_89_over_its_delivery_limit_the_server_gives_a_message_to_its_dead_letter_exchange() {
    let server = server().await;
    let (channel, _connection) = connect(&server.address()).await;
    channel.queue_declare("grave".into(), durable(), quorum()).await.unwrap();
    let options = RabbitOptions::new()
        .delivery_limit(2)
        .argument("x-dead-letter-exchange", text(""))
        .argument("x-dead-letter-routing-key", text("grave"));
    // The source has created it, with its arguments; messages come by the default exchange.
    let url = rabbitmq::url(server);
    let source = RabbitSource::open(&url, "limited-to-2", options).await.unwrap();
    let publisher = Queue::create(&server.address(), RabbitOptions::new()).await;
    channel
        .queue_bind(
            "limited-to-2".into(),
            publisher.name.as_str().into(),
            "#".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await
        .unwrap();
    publisher.publish("order-17", "k", "x").await;
    for deliveries in 1..=3 {
        let taken = source.next(ONE).await.unwrap();
        assert_eq!(taken[0].message.deliveries, Some(deliveries));
        source.retry_in(&taken[0].token, Duration::ZERO).await.unwrap();
    }
    assert!(source.next(SHORT).await.unwrap().is_empty(), "the server has taken it away");
    // It is moved after the last answer.
    let end = Instant::now() + LATE;
    while ready(&channel, "grave").await == 0 {
        assert!(Instant::now() < end, "it is nowhere");
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(ready(&channel, "grave").await, 1);
    assert_eq!(ready(&channel, "limited-to-2.dead").await, 0, "this source knows nothing of it");
}

/// What the documents say of order: the server puts back near the head only where a limit ends that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_given_back_comes_behind_what_waits_and_before_it_if_there_is_a_delivery_limit() {
    let server = server().await;
    let plain = RabbitOptions::new().prefetch(1);
    let limited = plain.clone().delivery_limit(1_000_000);
    for (options, expected) in [(plain, ["1", "2", "0"]), (limited, ["0", "1", "2"])] {
        let queue = Queue::create(&server.address(), options).await;
        for n in 0..3 {
            queue.publish(&n.to_string(), "k", &n.to_string()).await;
        }
        let source = queue.source().await;
        let taken = source.next(ONE).await.unwrap();
        source.retry_in(&taken[0].token, Duration::from_millis(100)).await.unwrap();
        assert_eq!(drain(&source, 3).await, expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_gives_back_at_once_and_in_order_what_is_held_and_what_was_prefetched() {
    let server = server().await;
    let queue = Queue::create(&server.address(), RabbitOptions::new()).await;
    for n in 0..10 {
        queue.publish(&n.to_string(), "k", &n.to_string()).await;
    }
    let source = queue.source().await;
    let taken = source.next(ONE).await.unwrap();
    source.retry_in(&taken[0].token, Duration::from_secs(3_600)).await.unwrap();
    let in_flight = source.next(ONE).await.unwrap();
    source.stop().await.unwrap();
    assert!(source.next(ONE).await.unwrap().is_empty(), "nothing comes after a stop");
    let other = queue.source().await;
    assert_eq!(drain(&other, 9).await, ["0", "2", "3", "4", "5", "6", "7", "8", "9"]);
    // What was in flight is answered after the stop, by the source that took it.
    source.acknowledge(&in_flight[0].token).await.unwrap();
    drop((source, other));
    until_left(&queue, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_dropped_without_an_answer_comes_again_after_a_while() {
    let server = server().await;
    let options = RabbitOptions::new().unanswered_delay(Duration::from_millis(400));
    let queue = Queue::create(&server.address(), options).await;
    queue.publish("order-17", "k", "x").await;
    let source = queue.source().await;
    let taken = source.next(ONE).await.unwrap();
    let began = Instant::now();
    drop(taken);
    let again = source.next(ONE).await.unwrap();
    assert_eq!(again[0].message.deliveries, Some(2));
    assert!(began.elapsed() >= Duration::from_millis(400), "it came at once");
    source.acknowledge(&again[0].token).await.unwrap();
    // An answer is the last word: it is not given back when it is dropped, too.
    drop(again);
    assert!(source.next(SHORT).await.unwrap().is_empty());
    until_left(&queue, 0).await;
}

/// A token is dropped when it is answered: that must not shorten the delay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_put_off_does_not_come_earlier_though_its_token_is_dropped() {
    let server = server().await;
    let options = RabbitOptions::new().unanswered_delay(Duration::from_millis(10));
    let queue = Queue::create(&server.address(), options).await;
    queue.publish("order-17", "k", "x").await;
    let source = queue.source().await;
    let taken = source.next(ONE).await.unwrap();
    let (delay, began) = (Duration::from_secs(1), Instant::now());
    source.retry_in(&taken[0].token, delay).await.unwrap();
    drop(taken);
    let again = source.next(ONE).await.unwrap();
    assert_eq!(again.len(), 1);
    assert!(began.elapsed() >= delay, "it came after {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_held_no_longer_than_it_may_be() {
    let server = server().await;
    let options = RabbitOptions::new().hold_max(Duration::from_millis(300));
    let queue = Queue::create(&server.address(), options).await;
    queue.publish("order-17", "k", "x").await;
    let source = queue.source().await;
    let taken = source.next(ONE).await.unwrap();
    let began = Instant::now();
    source.retry_in(&taken[0].token, Duration::from_secs(3_600)).await.unwrap();
    let again = source.next(ONE).await.unwrap();
    assert_eq!(again.len(), 1);
    assert!(began.elapsed() >= Duration::from_millis(300));
}

fn header<'a>(letter: &'a Delivery, name: &str) -> Option<&'a AMQPValue> {
    letter.properties.headers().as_ref()?.inner().get(name)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_says_where_it_comes_from_and_why_and_goes_nowhere_else() {
    let server = server().await;
    let queue = Queue::create(&server.address(), RabbitOptions::new()).await;
    let (channel, _connection) = connect(&queue.address).await;
    channel.queue_declare("copies".into(), durable(), quorum()).await.unwrap();
    let mut headers = FieldTable::default();
    headers.insert("tenant".into(), text("anna"));
    // Of a producer that wants it in another queue, too.
    headers.insert("BCC".into(), AMQPValue::FieldArray(vec![text("copies")].into()));
    headers.insert("CC".into(), AMQPValue::FieldArray(vec![text("copies")].into()));
    let properties = named("order-17")
        .with_headers(headers)
        .with_content_type("text/plain".into())
        .with_expiration("600000".into())
        .with_user_id("guest".into())
        .with_timestamp(1_700_000_000);
    queue.send("customer.7", properties, "10 euros").await;
    let dir = tempfile::tempdir().unwrap();
    let refuse = |_| async { Err(Failure::last("no such\naccount")) };
    let running = Running::start(queue.source().await, dir.path(), refuse);
    running.until("it is dead", |now| now.dead == 1 && now.in_flight == 0).await;
    running.stop().await;
    until_left(&queue, 0).await;

    let letters = queue.read_all(&queue.dead_letters()).await;
    let [letter] = &letters[..] else { panic!("one dead letter: {letters:?}") };
    assert_eq!(letter.data, b"10 euros");
    let expected = [
        ("Firstseen-Queue", queue.name.as_str()),
        ("Firstseen-Exchange", queue.name.as_str()),
        ("Firstseen-Routing-Key", "customer.7"),
        ("Firstseen-Message-Id", "order-17"),
        ("tenant", "anna"),
    ];
    for (name, value) in expected {
        assert_eq!(header(letter, name), Some(&text(value)), "{name}");
    }
    let Some(AMQPValue::LongString(reason)) = header(letter, "Firstseen-Reason") else { panic!() };
    assert!(reason.to_string().contains("no such\naccount"), "{reason}");
    let properties = &letter.properties;
    assert_eq!(properties.message_id().as_ref().unwrap().as_str(), "order-17");
    assert_eq!(properties.content_type().as_ref().unwrap().as_str(), "text/plain");
    assert_eq!(*properties.timestamp(), Some(1_700_000_000));
    assert_eq!(*properties.delivery_mode(), Some(2), "it outlives a restart");
    assert_eq!(*properties.expiration(), None, "the server would drop it after that");
    assert_eq!(ready(&channel, "copies").await, 0, "a dead letter is not sent to others");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_without_an_id_is_a_dead_letter_and_with_ids_by_header_it_is_done() {
    let server = server().await;
    let queue = Queue::create(&server.address(), RabbitOptions::new()).await;
    let numbered = |n: i32| {
        let mut headers = FieldTable::default();
        headers.insert("order".into(), AMQPValue::LongInt(n));
        BasicProperties::default().with_headers(headers)
    };
    let dir = tempfile::tempdir().unwrap();
    queue.send("k", numbered(17), "nameless").await;
    let running = Running::start(queue.source().await, dir.path(), |_| async { Ok(()) });
    running.until("it is dead", |now| now.dead == 1 && now.in_flight == 0).await;
    let counters = running.stop().await;
    assert_eq!((counters.without_id, counters.first), (1, 0));
    assert_eq!(queue.dead().await, ["nameless"]);

    let ids = [
        RabbitIds::Header("order".to_owned()),
        RabbitIds::Of(Arc::new(|delivery| Some(delivery.data.clone().into()))),
    ];
    for (ids, expected) in ids.into_iter().zip(["17", "numbered"]) {
        let named = queue.with(RabbitOptions::new().ids(ids)).await;
        named.send("k", numbered(17), "numbered").await;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let ids = Arc::clone(&seen);
        let running = Running::start(named.source().await, dir.path(), move |job: Job| {
            ids.lock().unwrap().push(String::from_utf8_lossy(job.id()).into_owned());
            async { Ok(()) }
        });
        running.until("it is done", |now| now.first == 1 && now.in_flight == 0).await;
        running.stop().await;
        assert_eq!(*seen.lock().unwrap(), [expected]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_routing_keys_or_what_was_chosen() {
    let server = server().await;
    let queue = Queue::create(&server.address(), RabbitOptions::new()).await;
    let mut headers = FieldTable::default();
    headers.insert("customer".into(), text("anna"));
    queue.send("orders.eu", named("1").with_headers(headers), "x").await;
    let keys = [
        (RabbitKeys::RoutingKey, Some("orders.eu")),
        (RabbitKeys::Header("customer".to_owned()), Some("anna")),
        (RabbitKeys::Header("nobody".to_owned()), None),
        (RabbitKeys::Of(Arc::new(|_| Some("all".into()))), Some("all")),
    ];
    for (keys, expected) in keys {
        let queue = queue.with(RabbitOptions::new().keys(keys)).await;
        let source = queue.source().await;
        let taken = source.next(ONE).await.unwrap();
        let key = taken[0].message.key.as_deref();
        assert_eq!(key, expected.map(str::as_bytes));
        source.retry_in(&taken[0].token, Duration::ZERO).await.unwrap();
        source.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lag_is_what_waits_behind_what_was_delivered() {
    let server = server().await;
    let queue = Queue::create(&server.address(), RabbitOptions::new().prefetch(5)).await;
    for n in 0..50 {
        queue.publish(&n.to_string(), "k", "x").await;
    }
    let source = queue.source().await;
    let taken = source.next(ONE).await.unwrap();
    let end = Instant::now() + LATE;
    // The server may have delivered one, and not yet the others.
    while source.lag().await.unwrap() != Some(45) {
        assert!(Instant::now() < end, "five are in the window");
        sleep(Duration::from_millis(20)).await;
    }
    drop((taken, source));
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(queue.source().await, dir.path(), |_| async { Ok(()) });
    running.until("all are done", |now| now.first == 50 && now.lag == Some(0)).await;
    running.stop().await;
}
