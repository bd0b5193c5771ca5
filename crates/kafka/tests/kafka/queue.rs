//! A topic at the real server, with one for its dead letters.

use firstseen_consumer::testkit::Fixture;
use firstseen_kafka::{KafkaOptions, KafkaSource};
use firstseen_servers::Server;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers as _, Message as _, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};
use tokio::time::{Instant, sleep};

/// How long anything may take on a machine with other work.
pub(crate) const LATE: Duration = Duration::from_secs(120);

/// How long one call of a client waits: nobody asks again what the server did not answer in time.
const CALL: Duration = Duration::from_secs(30);

/// Brokers for a test: a server of its own, or those that `FIRSTSEEN_KAFKA` names.
pub(crate) struct Brokers {
    address: String,
    _server: Option<Server>,
}

impl Brokers {
    pub(crate) fn address(&self) -> String {
        self.address.clone()
    }
}

pub(crate) async fn brokers() -> Brokers {
    if let Ok(address) = std::env::var("FIRSTSEEN_KAFKA") {
        return Brokers { address, _server: None };
    }
    let server = firstseen_servers::kafka::start().await;
    Brokers { address: server.address(), _server: Some(server) }
}

pub(crate) struct Queue {
    pub(crate) brokers: String,
    pub(crate) topic: String,
    pub(crate) group: String,
    pub(crate) options: KafkaOptions,
    pub(crate) producer: FutureProducer,
}

impl Queue {
    /// Creates a topic of its own at a server that many share.
    pub(crate) async fn create(brokers: &str, partitions: i32, options: KafkaOptions) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // Brokers that outlive a test have topics of earlier ones.
        #[expect(clippy::disallowed_methods, reason = "names a topic that no earlier run has made")]
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
        let name = format!("q{now}-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        Self::named(brokers, &name, partitions, options).await
    }

    /// Opens a topic, and creates it if it is not there.
    pub(crate) async fn named(
        brokers: &str,
        name: &str,
        partitions: i32,
        options: KafkaOptions,
    ) -> Self {
        let dead = format!("{name}-dead");
        create_topic(brokers, name, partitions).await;
        create_topic(brokers, &dead, 1).await;
        Self::at(brokers, name, options.dead_letters(dead))
    }

    /// Opens a topic that is there.
    pub(crate) fn at(brokers: &str, name: &str, options: KafkaOptions) -> Self {
        let options = options
            .set("session.timeout.ms", "10000")
            .set("heartbeat.interval.ms", "200")
            .set("topic.metadata.refresh.interval.ms", "1000")
            .set("reconnect.backoff.max.ms", "300")
            .set("fetch.wait.max.ms", "100");
        Self {
            brokers: brokers.to_owned(),
            topic: name.to_owned(),
            group: format!("{name}-workers"),
            options,
            producer: config(brokers).create().unwrap(),
        }
    }

    pub(crate) fn dead_topic(&self) -> String {
        format!("{}-dead", self.topic)
    }

    pub(crate) async fn open(&self) -> Result<KafkaSource, firstseen_kafka::KafkaError> {
        KafkaSource::open(&self.brokers, &self.group, [&self.topic], self.options.clone()).await
    }

    /// Writes a record to a partition; returns its offset once the server has it.
    pub(crate) async fn write(&self, partition: Option<i32>, id: &str, payload: &str) -> i64 {
        let record = Written { partition, id, key: id, payload };
        write(&self.producer, &self.topic, &record).await.1
    }

    /// Returns the committed offset of a partition; `None` if nothing was committed.
    pub(crate) fn committed(&self, partition: i32) -> Result<Option<i64>, KafkaError> {
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.topic, partition);
        let client: BaseConsumer = config(&self.brokers).set("group.id", &self.group).create()?;
        let known = client.committed_offsets(list, CALL)?;
        let found = known.find_partition(&self.topic, partition).unwrap();
        found.error()?;
        Ok(match found.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        })
    }

    /// Returns the offset behind the last record of a partition.
    pub(crate) fn end(&self, partition: i32) -> Result<i64, KafkaError> {
        let client: BaseConsumer = config(&self.brokers).create()?;
        client.fetch_watermarks(&self.topic, partition, CALL).map(|(_, high)| high)
    }
}

impl Fixture for Queue {
    type Source = KafkaSource;

    async fn source(&self) -> KafkaSource {
        let end = Instant::now() + LATE;
        loop {
            match self.open().await {
                Ok(source) => return source,
                Err(error) => assert!(Instant::now() < end, "{error}"),
            }
        }
    }

    async fn publish(&self, id: &str, key: &str, payload: &str) {
        let record = Written { partition: None, id, key, payload };
        write(&self.producer, &self.topic, &record).await;
    }

    async fn dead(&self) -> Vec<String> {
        payloads(&read_all(&self.brokers, &self.dead_topic()).await)
    }
}

pub(crate) fn config(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("reconnect.backoff.max.ms", "300");
    config.set("message.timeout.ms", "30000");
    config.set("linger.ms", "0").set("enable.auto.commit", "false");
    config
}

pub(crate) async fn create_topic(brokers: &str, name: &str, partitions: i32) {
    let admin: AdminClient<DefaultClientContext> = config(brokers).create().unwrap();
    let end = Instant::now() + LATE;
    loop {
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        let created = admin.create_topics(&[topic], &AdminOptions::new()).await;
        match created.map(|mut created| created.remove(0)) {
            Ok(Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => return,
            why => assert!(Instant::now() < end, "{why:?}"),
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// A record to be written.
pub(crate) struct Written<'a> {
    pub(crate) partition: Option<i32>,
    pub(crate) id: &'a str,
    pub(crate) key: &'a str,
    pub(crate) payload: &'a str,
}

/// Writes until the server has it, also if it is away for a while. Returns partition and offset.
pub(crate) async fn write(
    producer: &FutureProducer,
    topic: &str,
    record: &Written<'_>,
) -> (i32, i64) {
    let Written { partition, id, key, payload } = *record;
    let end = Instant::now() + LATE;
    loop {
        let headers = OwnedHeaders::new().insert(Header { key: "id", value: Some(id) });
        let mut record = FutureRecord::to(topic).key(key).payload(payload).headers(headers);
        record.partition = partition;
        match producer.send(record, CALL).await {
            Ok(delivery) => return (delivery.partition, delivery.offset),
            Err((error, _)) => assert!(Instant::now() < end, "the server takes nothing: {error}"),
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Returns all records of partition 0 of a topic that are committed.
pub(crate) async fn read_all(brokers: &str, topic: &str) -> Vec<OwnedMessage> {
    read_all_as(brokers, topic, "read_committed").await
}

/// Returns all records of partition 0 of a topic, with this isolation level.
pub(crate) async fn read_all_as(
    brokers: &str,
    topic: &str,
    isolation: &'static str,
) -> Vec<OwnedMessage> {
    read_partition(brokers, topic, 0, isolation).await
}

/// Returns all records of a partition, with this isolation level.
pub(crate) async fn read_partition(
    brokers: &str,
    topic: &str,
    partition: i32,
    isolation: &'static str,
) -> Vec<OwnedMessage> {
    let end = Instant::now() + LATE;
    loop {
        let (brokers, topic) = (brokers.to_owned(), topic.to_owned());
        let read = move || try_read_partition(&brokers, &topic, partition, isolation);
        let read = tokio::task::spawn_blocking(read);
        match read.await.unwrap() {
            Ok(all) => return all,
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
    }
}

fn try_read_partition(
    brokers: &str,
    topic: &str,
    partition: i32,
    isolation: &str,
) -> Result<Vec<OwnedMessage>, KafkaError> {
    let mut config = config(brokers);
    config.set("group.id", "readers").set("isolation.level", isolation);
    let client: BaseConsumer = config.set("enable.partition.eof", "true").create()?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Beginning)?;
    client.assign(&list)?;
    let mut all = Vec::new();
    loop {
        match client.poll(CALL) {
            Some(Ok(message)) => all.push(message.detach()),
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(all),
            Some(Err(error)) => return Err(error),
            None => return Err(KafkaError::NoMessageReceived),
        }
    }
}

pub(crate) fn payloads(messages: &[OwnedMessage]) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    messages.iter().map(|message| text(message.payload().unwrap_or_default())).collect()
}

/// Returns the value of a header.
pub(crate) fn header(message: &OwnedMessage, name: &str) -> Option<String> {
    let found = message.headers()?.iter().find(|header| header.key == name)?;
    Some(String::from_utf8_lossy(found.value?).into_owned())
}
