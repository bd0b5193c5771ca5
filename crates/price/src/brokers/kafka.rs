//! A broker that speaks Kafka's protocol: a topic of one partition.

use super::{Broker, UNCONFIRMED_MAX, id, payload};
use crate::Result;
use crate::arguments::Arguments;
use firstseen_kafka::{KafkaIds, KafkaOptions, KafkaSource};
use firstseen_servers::{Server, kafka};
use futures_util::future::try_join_all;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use std::time::Duration;

pub(crate) struct Kafka(Server);

impl Kafka {
    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.0.address());
        config
    }
}

impl Broker for Kafka {
    const KEY: &'static str = "kafka";
    const NAME: &'static str = "Kafka's protocol (noida-db)";

    type Source = KafkaSource;

    async fn start() -> Self {
        Self(kafka::start().await)
    }

    async fn fill(&self, queue: &str, arguments: &Arguments) -> Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.config().create()?;
        let topic = NewTopic::new(queue, 1, TopicReplication::Fixed(1));
        for made in admin.create_topics(&[topic], &AdminOptions::new()).await? {
            made.map_err(|(topic, error)| format!("{topic}: {error}"))?;
        }
        let producer: FutureProducer = self.config().create()?;
        let payload = payload(arguments);
        let all: Vec<u64> = (0..arguments.messages).collect();
        for some in all.chunks(UNCONFIRMED_MAX) {
            let sent = some.iter().map(|n| {
                let (producer, payload) = (&producer, &payload);
                async move {
                    let id = id(*n);
                    let headers =
                        OwnedHeaders::new().insert(Header { key: "id", value: Some(&id) });
                    let record = FutureRecord::to(queue).key(&id).payload(payload).headers(headers);
                    let sent = producer.send(record, Duration::from_secs(10)).await;
                    sent.map_err(|(error, _)| error)
                }
            });
            try_join_all(sent).await?;
        }
        Ok(())
    }

    async fn source(&self, queue: &str) -> Result<KafkaSource> {
        let options = KafkaOptions::new(KafkaIds::header("id"));
        let (brokers, group) = (self.0.address(), format!("{queue}-workers"));
        Ok(KafkaSource::open(&brokers, &group, [queue], options).await?)
    }

    /// The topic stays: to delete one is not what every such broker can do.
    async fn empty(&self, _queue: &str) -> Result<()> {
        Ok(())
    }
}
