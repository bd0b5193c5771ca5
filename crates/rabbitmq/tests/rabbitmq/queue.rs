//! A queue at a real server.

use firstseen_consumer::Source;
use firstseen_consumer::testkit::Fixture;
use firstseen_rabbitmq::lapin::message::Delivery;
use firstseen_rabbitmq::lapin::options::{
    BasicGetOptions, BasicNackOptions, BasicPublishOptions, ConfirmSelectOptions,
    ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use firstseen_rabbitmq::lapin::types::{AMQPValue, FieldTable};
use firstseen_rabbitmq::lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind,
};
use firstseen_rabbitmq::{RabbitOptions, RabbitSource};
use firstseen_servers::{Server, rabbitmq};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, OnceCell};
use tokio::time::{Instant, sleep, timeout};

/// How long anything may take on a machine with other work.
pub(crate) const LATE: Duration = Duration::from_secs(300);

/// The server that all tests share that do it no harm. It ends with the process.
pub(crate) async fn server() -> &'static Server {
    static SERVER: OnceCell<Server> = OnceCell::const_new();
    SERVER.get_or_init(rabbitmq::start).await
}

/// A queue that an exchange of its own leads to, by any routing key.
pub(crate) struct Queue {
    pub(crate) address: String,
    pub(crate) name: String,
    pub(crate) options: RabbitOptions,
    publisher: Mutex<Option<(Channel, Connection)>>,
    /// After which time a message is sent once more that the server has not confirmed.
    confirm_max: Duration,
}

pub(crate) fn url(address: &str) -> String {
    format!("amqp://guest:guest@{address}/%2f")
}

/// Connects, also if the server is away for a while.
pub(crate) async fn connect(address: &str) -> (Channel, Connection) {
    let end = Instant::now() + LATE;
    loop {
        let opened = timeout(Duration::from_secs(30), try_connect(address)).await;
        match opened {
            Ok(Ok(opened)) => return opened,
            error => assert!(Instant::now() < end, "the server is not back: {error:?}"),
        }
        sleep(Duration::from_millis(50)).await;
    }
}

async fn try_connect(address: &str) -> firstseen_rabbitmq::lapin::Result<(Channel, Connection)> {
    let connection = Connection::connect(&url(address), ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok((channel, connection))
}

pub(crate) fn arguments(values: &[(&str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in values {
        table.insert((*name).into(), value.clone());
    }
    table
}

pub(crate) fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

pub(crate) fn quorum() -> FieldTable {
    arguments(&[("x-queue-type", text("quorum"))])
}

pub(crate) fn durable() -> QueueDeclareOptions {
    QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() }
}

/// Waits until the queue holds this many messages, delivered ones included.
pub(crate) async fn until_left(queue: &Queue, count: u64) {
    let end = Instant::now() + LATE;
    loop {
        let left = rabbitmq::messages(&queue.address, &queue.name).await;
        if left == Some(count) {
            return;
        }
        assert!(Instant::now() < end, "{left:?} messages are left, not {count}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// How many messages of a queue wait to be delivered.
pub(crate) async fn ready(channel: &Channel, queue: &str) -> u32 {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let queue = channel.queue_declare(queue.into(), options, FieldTable::default()).await;
    queue.unwrap().message_count()
}

impl Queue {
    pub(crate) async fn create(address: &str, options: RabbitOptions) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("q{}", NEXT.fetch_add(1, Ordering::Relaxed));
        // None is sent twice because the machine has other work.
        Self { confirm_max: LATE, ..Self::open(address, &name, options).await }
    }

    /// Opens a queue of this name, and creates it if it is not there. For a server that may be killed: what it has not
    /// confirmed is soon sent again.
    pub(crate) async fn open(address: &str, name: &str, options: RabbitOptions) -> Self {
        let end = Instant::now() + LATE;
        loop {
            let (channel, connection) = connect(address).await;
            let (kind, exchange) = (ExchangeKind::Topic, ExchangeDeclareOptions::default());
            let exchange = ExchangeDeclareOptions { durable: true, ..exchange };
            let none = FieldTable::default;
            let bound = async {
                channel.exchange_declare(name.into(), kind, exchange, none()).await?;
                // The source creates the queue, with its arguments.
                let source = RabbitSource::open(&url(address), name, options.clone()).await;
                source
                    .map_err(std::io::Error::other)?
                    .stop()
                    .await
                    .map_err(std::io::Error::other)?;
                let options = QueueBindOptions::default();
                channel.queue_bind(name.into(), name.into(), "#".into(), options, none()).await
            };
            match timeout(Duration::from_secs(60), bound).await {
                Ok(Ok(())) => {
                    let publisher = Mutex::new(Some((channel, connection)));
                    let (address, name) = (address.to_owned(), name.to_owned());
                    let confirm_max = Duration::from_secs(2);
                    return Self { address, name, options, publisher, confirm_max };
                }
                error => assert!(Instant::now() < end, "no queue: {error:?}"),
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// The same queue, for other sources.
    pub(crate) async fn with(&self, options: RabbitOptions) -> Self {
        let confirm_max = self.confirm_max;
        Self { confirm_max, ..Self::open(&self.address, &self.name, options).await }
    }

    pub(crate) fn dead_letters(&self) -> String {
        format!("{}.dead", self.name)
    }

    /// Publishes until the server has confirmed it, also if it is away for a while.
    pub(crate) async fn send(&self, key: &str, properties: BasicProperties, payload: &str) {
        let end = Instant::now() + LATE;
        let mut publisher = self.publisher.lock().await;
        loop {
            if publisher.is_none() {
                *publisher = Some(connect(&self.address).await);
            }
            let (channel, _) = publisher.as_ref().unwrap();
            let options = BasicPublishOptions::default();
            let (exchange, properties) = (self.name.as_str().into(), properties.clone());
            let sent = async {
                let payload = payload.as_bytes();
                channel
                    .basic_publish(exchange, key.into(), options, payload, properties)
                    .await?
                    .await
            };
            if let Ok(Ok(confirmed)) = timeout(self.confirm_max, sent).await
                && confirmed.is_ack()
            {
                return;
            }
            *publisher = None;
            assert!(Instant::now() < end, "the server does not take messages");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Reads all messages of a queue, and leaves them there.
    pub(crate) async fn read_all(&self, queue: &str) -> Vec<Delivery> {
        let (channel, _connection) = connect(&self.address).await;
        let mut all = Vec::new();
        let options = BasicGetOptions::default();
        while let Some(message) = channel.basic_get(queue.into(), options).await.unwrap() {
            all.push(message.delivery);
        }
        for message in &all {
            let back = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
            assert!(message.nack(back).await.unwrap());
        }
        all
    }
}

pub(crate) fn named(id: &str) -> BasicProperties {
    BasicProperties::default().with_message_id(id.into()).with_delivery_mode(2)
}

impl Fixture for Queue {
    type Source = RabbitSource;

    async fn source(&self) -> RabbitSource {
        let end = Instant::now() + LATE;
        loop {
            match RabbitSource::open(&url(&self.address), &self.name, self.options.clone()).await {
                Ok(source) => return source,
                Err(error) => assert!(Instant::now() < end, "{error}"),
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn publish(&self, id: &str, key: &str, payload: &str) {
        self.send(key, named(id), payload).await;
    }

    async fn dead(&self) -> Vec<String> {
        let letters = self.read_all(&self.dead_letters()).await;
        letters.iter().map(|letter| String::from_utf8_lossy(&letter.data).into_owned()).collect()
    }
}
