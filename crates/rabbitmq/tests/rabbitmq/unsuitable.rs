//! Queues of which the server would drop messages, and servers that are not there.

use crate::queue::{arguments, connect, durable, quorum, server, text, url};
use firstseen_rabbitmq::lapin::options::QueueDeclareOptions;
use firstseen_rabbitmq::lapin::types::{AMQPValue, FieldTable};
use firstseen_rabbitmq::{RabbitError, RabbitOptions, RabbitSource};
use firstseen_servers::{free_port, nats, rabbitmq};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_of_which_the_server_would_drop_messages_is_refused() {
    let server = server().await;
    let number = AMQPValue::LongLongInt;
    let with = |name: &str, value| arguments(&[("x-queue-type", text("quorum")), (name, value)]);
    let automatic = QueueDeclareOptions { auto_delete: true, ..durable() };
    let queues = [
        ("classic", durable(), FieldTable::default(), "x-queue-type"),
        ("transient", QueueDeclareOptions::default(), FieldTable::default(), "durable"),
        ("automatic", automatic, FieldTable::default(), "auto_delete"),
        ("limited", durable(), with("x-delivery-limit", number(5)), "x-delivery-limit"),
        ("expiring", durable(), with("x-expires", number(600_000)), "x-expires"),
        ("timed", durable(), with("x-message-ttl", number(600_000)), "x-message-ttl"),
        ("short", durable(), with("x-max-length", number(10)), "x-max-length"),
    ];
    for (name, options, arguments, word) in queues {
        let (channel, _connection) = connect(&server.address()).await;
        channel.queue_declare(name.into(), options, arguments).await.unwrap();
        let opened = RabbitSource::open(&rabbitmq::url(server), name, RabbitOptions::new()).await;
        let error = opened.unwrap_err();
        assert!(
            matches!(&error, RabbitError::Unsuitable { queue, .. } if queue == name),
            "{error}"
        );
        let error = error.to_string();
        assert!(error.contains(word) && error.contains("durable quorum queue"), "{name}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_with_a_delivery_limit_is_taken_if_it_is_named_and_is_the_same() {
    let server = server().await;
    let (channel, _connection) = connect(&server.address()).await;
    let limit = ("x-delivery-limit", AMQPValue::LongLongInt(1_000));
    let limited = arguments(&[("x-queue-type", text("quorum")), limit]);
    channel.queue_declare("limited-to-1000".into(), durable(), limited).await.unwrap();
    let open = async |limit| {
        let options = RabbitOptions::new().delivery_limit(limit);
        RabbitSource::open(&rabbitmq::url(server), "limited-to-1000", options).await
    };
    open(1_000).await.unwrap();
    assert!(matches!(open(2_000).await, Err(RabbitError::Unsuitable { .. })), "it is lower");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_of_dead_letters_of_which_the_server_would_drop_some_is_refused() {
    let server = server().await;
    let (channel, _connection) = connect(&server.address()).await;
    channel.queue_declare("refused".into(), durable(), quorum()).await.unwrap();
    channel.queue_declare("refused.dead".into(), durable(), FieldTable::default()).await.unwrap();
    let options = RabbitOptions::new().dead_letters("refused.dead");
    let opened = RabbitSource::open(&rabbitmq::url(server), "refused", options).await;
    let error = opened.unwrap_err();
    assert!(
        matches!(&error, RabbitError::Unsuitable { queue, .. } if queue == "refused.dead"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_rabbitmq_is_an_error_soon() {
    let nats = nats::start().await;
    let nobody = format!("127.0.0.1:{}", free_port());
    let urls = [url(&nats.address()), url(&nobody), "http://127.0.0.1/".to_owned()];
    for url in urls {
        let opened = RabbitSource::open(&url, "orders", RabbitOptions::new()).await;
        let error = opened.unwrap_err();
        assert!(matches!(error, RabbitError::Server { .. }), "{url}: {error:?}");
    }
}
