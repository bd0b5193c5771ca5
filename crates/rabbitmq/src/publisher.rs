//! A second connection, for what a source publishes and asks.
//!
//! A server that runs out of memory or disk reads no more from connections that publish. Acknowledgements, which make room,
//! go over another one for that reason.

use crate::error::RabbitError;
use crate::link::{connect, in_time};
use crate::queue::Queues;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::uri::AMQPUri;
use lapin::{BasicProperties, Channel, Confirmation, Connection};
use tokio::sync::Mutex;

/// Publishes with confirms. Connects when it is first needed, and again when its connection or channel is lost.
pub(crate) struct Publisher {
    uri: AMQPUri,
    open: Mutex<Option<(Channel, Connection)>>,
}

impl Publisher {
    pub(crate) fn new(uri: AMQPUri) -> Self {
        Self { uri, open: Mutex::new(None) }
    }

    /// Publishes a dead letter. Returns once the server has confirmed that the queue of dead letters keeps it.
    pub(crate) async fn bury(
        &self,
        queues: &Queues,
        payload: &[u8],
        properties: BasicProperties,
    ) -> Result<(), RabbitError> {
        let channel = self.channel(queues).await?;
        let refused = |why: &str| RabbitError::Refused {
            queue: queues.dead.as_str().to_owned(),
            why: why.to_owned(),
        };
        // Mandatory: otherwise a message for a queue that somebody has deleted is confirmed, too.
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let everywhere = "".into();
        let sent =
            channel.basic_publish(everywhere, queues.dead.clone(), options, payload, properties);
        let sent = sent.await.map_err(RabbitError::of("publishing a dead letter"))?;
        match sent.await.map_err(RabbitError::of("publishing a dead letter"))? {
            Confirmation::Ack(None) => Ok(()),
            Confirmation::Ack(Some(returned)) | Confirmation::Nack(Some(returned)) => {
                Err(refused(returned.reply_text.as_str()))
            }
            Confirmation::Nack(None) => {
                Err(refused("it cannot keep it, as when the queue is full"))
            }
            Confirmation::NotRequested => Err(refused("it was not asked for a confirm")),
        }
    }

    /// Returns how many messages wait in the queue.
    pub(crate) async fn lag(&self, queues: &Queues) -> Result<u64, RabbitError> {
        let channel = self.channel(queues).await?;
        queues.expect(&channel).await
    }

    async fn channel(&self, queues: &Queues) -> Result<Channel, RabbitError> {
        let mut open = self.open.lock().await;
        if let Some((channel, _)) = &*open
            && channel.status().connected()
        {
            return Ok(channel.clone());
        }
        *open = None;
        let (channel, connection) = in_time("connecting to publish", async {
            let connection = connect(&self.uri, &queues.queue, "publisher").await?;
            let channel = connection.create_channel().await;
            let channel = channel.map_err(RabbitError::of("opening a channel"))?;
            let confirmed = channel.confirm_select(ConfirmSelectOptions::default()).await;
            confirmed.map_err(RabbitError::of("asking for confirms"))?;
            Ok((channel, connection))
        })
        .await?;
        *open = Some((channel.clone(), connection));
        Ok(channel)
    }
}
