//! A connection that consumes.

use crate::error::{CONNECT_MAX, RabbitError};
use crate::hold::requeue;
use crate::queue::Queues;
use futures_util::StreamExt;
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::uri::AMQPUri;
use lapin::{Channel, Connection, ConnectionProperties, Consumer};
use std::fmt;
use std::time::Duration;

/// A connection with a channel that consumes from a queue. The server delivers again what is not answered when it is dropped.
pub(crate) struct Link {
    pub(crate) deliveries: Consumer,
    channel: Channel,
    _connection: Connection,
}

impl Link {
    pub(crate) async fn open(
        uri: &AMQPUri,
        queues: &Queues,
        prefetch: u16,
    ) -> Result<Self, RabbitError> {
        in_time("connecting to consume", async {
            let connection = connect(uri, &queues.queue, "consumer").await?;
            let channel = connection.create_channel().await;
            let channel = channel.map_err(RabbitError::of("opening a channel"))?;
            queues.expect(&channel).await?;
            queues.declare(&channel).await?;
            let each = BasicQosOptions { global: false };
            let limited = channel.basic_qos(prefetch, each).await;
            limited.map_err(RabbitError::of("setting the prefetch"))?;
            let (tag, options) = (ShortString::default(), BasicConsumeOptions::default());
            let deliveries =
                channel.basic_consume(queues.queue.clone(), tag, options, FieldTable::default());
            let deliveries = deliveries.await.map_err(RabbitError::of("consuming"))?;
            Ok(Self { deliveries, channel, _connection: connection })
        })
        .await
    }

    /// Has the server deliver nothing more. Answers still find their way.
    pub(crate) async fn cancel(&self) -> Result<(), RabbitError> {
        let tag = self.deliveries.tag();
        let cancelled = self.channel.basic_cancel(tag, BasicCancelOptions::default()).await;
        cancelled.map_err(RabbitError::of("cancelling"))
    }

    /// Gives back what was delivered ahead, after [`cancel`](Self::cancel).
    pub(crate) async fn give_back(&mut self) -> Result<(), RabbitError> {
        while let Some(delivery) = self.deliveries.next().await {
            let delivery = delivery.map_err(RabbitError::of("taking messages"))?;
            requeue(&delivery.acker).await?;
        }
        Ok(())
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("deliveries", &self.deliveries).finish_non_exhaustive()
    }
}

/// Connects, under a name that an operator finds among the connections of the server.
pub(crate) async fn connect(
    uri: &AMQPUri,
    queue: &ShortString,
    role: &str,
) -> Result<Connection, RabbitError> {
    let name = format!("firstseen {role} of {queue}");
    // Reconnecting is left to the next call: what was in flight on a lost connection is not answered on another.
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let connected = Connection::connect_uri(uri.clone(), properties).await;
    connected.map_err(RabbitError::of("connecting"))
}

/// Gives up what takes longer than connecting may.
pub(crate) async fn in_time<T>(
    what: &'static str,
    work: impl Future<Output = Result<T, RabbitError>>,
) -> Result<T, RabbitError> {
    let done = tokio::time::timeout(CONNECT_MAX, work).await;
    done.unwrap_or(Err(RabbitError::Late { what }))
}

/// Reads an address, and adds the heartbeat if it names none.
pub(crate) fn address(url: &str, heartbeat: Duration) -> Result<AMQPUri, RabbitError> {
    let uri: Result<AMQPUri, String> = url.parse();
    let mut uri = uri.map_err(RabbitError::of("reading the address"))?;
    let seconds = u16::try_from(heartbeat.as_secs()).unwrap_or(u16::MAX).max(1);
    uri.query.heartbeat.get_or_insert(seconds);
    Ok(uri)
}
