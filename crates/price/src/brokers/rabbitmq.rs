//! RabbitMQ: a quorum queue.

use super::{Broker, UNCONFIRMED_MAX, id, payload};
use crate::Result;
use crate::arguments::Arguments;
use firstseen_rabbitmq::lapin::options::{
    BasicPublishOptions, ConfirmSelectOptions, QueueDeleteOptions,
};
use firstseen_rabbitmq::lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use firstseen_rabbitmq::{RabbitOptions, RabbitSource};
use firstseen_servers::{Server, rabbitmq};

pub(crate) struct Rabbit(Server);

impl Rabbit {
    async fn channel(&self) -> Result<(Channel, Connection)> {
        let url = rabbitmq::url(&self.0);
        let connection = Connection::connect(&url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok((channel, connection))
    }
}

impl Broker for Rabbit {
    const KEY: &'static str = "rabbitmq";
    const NAME: &'static str = "RabbitMQ, quorum queue";

    type Source = RabbitSource;

    async fn start() -> Self {
        Self(rabbitmq::start().await)
    }

    async fn fill(&self, queue: &str, arguments: &Arguments) -> Result<()> {
        // It makes the queue, and takes nothing.
        drop(self.source(queue).await?);
        let (channel, _connection) = self.channel().await?;
        let (payload, mut sent) = (payload(arguments), Vec::new());
        for n in 0..arguments.messages {
            // 2: kept in files.
            let properties =
                BasicProperties::default().with_message_id(id(n).into()).with_delivery_mode(2);
            let options = BasicPublishOptions::default();
            let payload = payload.as_bytes();
            sent.push(
                channel
                    .basic_publish("".into(), queue.into(), options, payload, properties)
                    .await?,
            );
            if sent.len() == UNCONFIRMED_MAX {
                for confirmed in sent.drain(..) {
                    confirmed.await?;
                }
            }
        }
        for confirmed in sent {
            confirmed.await?;
        }
        Ok(())
    }

    async fn source(&self, queue: &str) -> Result<RabbitSource> {
        let options = RabbitOptions::new();
        Ok(RabbitSource::open(&rabbitmq::url(&self.0), queue, options).await?)
    }

    async fn empty(&self, queue: &str) -> Result<()> {
        let (channel, _connection) = self.channel().await?;
        channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await?;
        Ok(())
    }
}
