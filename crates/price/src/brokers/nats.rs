//! NATS JetStream: a stream with files, a durable consumer.

use super::{Broker, UNCONFIRMED_MAX, id, payload};
use crate::Result;
use crate::arguments::Arguments;
use async_nats::jetstream::{self, Context, message::PublishMessage, stream};
use firstseen_nats::{NatsOptions, NatsSource};
use firstseen_servers::{Server, nats};

pub(crate) struct Nats(Server);

impl Nats {
    async fn context(&self) -> Result<Context> {
        Ok(jetstream::new(async_nats::connect(nats::url(&self.0)).await?))
    }
}

impl Broker for Nats {
    const KEY: &'static str = "nats";
    const NAME: &'static str = "NATS JetStream";

    type Source = NatsSource;

    async fn start() -> Self {
        Self(nats::start().await)
    }

    async fn fill(&self, queue: &str, arguments: &Arguments) -> Result<()> {
        let context = self.context().await?;
        let subjects = vec![format!("{queue}.>")];
        let config = stream::Config { name: queue.to_owned(), subjects, ..Default::default() };
        context.create_stream(config).await?;
        let (payload, mut sent) = (payload(arguments), Vec::new());
        for n in 0..arguments.messages {
            let message = PublishMessage::build().message_id(id(n)).payload(payload.clone().into());
            sent.push(context.send_publish(format!("{queue}.{}", n % 7), message).await?);
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

    async fn source(&self, queue: &str) -> Result<NatsSource> {
        let context = self.context().await?;
        Ok(NatsSource::open(context, queue, "price", NatsOptions::new()).await?)
    }

    async fn empty(&self, queue: &str) -> Result<()> {
        self.context().await?.delete_stream(queue).await?;
        Ok(())
    }
}
