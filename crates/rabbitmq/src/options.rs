//! The settings of a source.

use crate::fields::text_of;
use bytes::Bytes;
use lapin::message::Delivery;
use lapin::types::AMQPValue;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The settings of a [`RabbitSource`](crate::RabbitSource).
#[derive(Debug, Clone)]
pub struct RabbitOptions {
    pub(crate) ids: RabbitIds,
    pub(crate) keys: RabbitKeys,
    pub(crate) prefetch: u16,
    pub(crate) dead_letters: Option<String>,
    pub(crate) delivery_limit: Option<u32>,
    pub(crate) arguments: Vec<(String, AMQPValue)>,
    pub(crate) hold_max: Duration,
    pub(crate) unanswered_delay: Duration,
    pub(crate) heartbeat: Duration,
}

impl Default for RabbitOptions {
    fn default() -> Self {
        Self {
            ids: RabbitIds::MessageId,
            keys: RabbitKeys::RoutingKey,
            prefetch: 256,
            dead_letters: None,
            delivery_limit: None,
            arguments: Vec::new(),
            hold_max: Duration::from_secs(10 * 60),
            unanswered_delay: Duration::from_secs(1),
            heartbeat: Duration::from_secs(10),
        }
    }
}

impl RabbitOptions {
    /// Creates options with the defaults, which stand at each setting.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets where ids come from: [`RabbitIds::MessageId`].
    #[must_use]
    pub fn ids(self, ids: RabbitIds) -> Self {
        Self { ids, ..self }
    }

    /// Sets which messages are kept in order, if the loop is asked to: those of one routing key.
    #[must_use]
    pub fn keys(self, keys: RabbitKeys) -> Self {
        Self { keys, ..self }
    }

    /// Sets how many messages the server may have delivered to this source and not had answered: 256. Messages that wait
    /// for a retry count, so that a consumer whose messages all fail takes no more of them.
    #[must_use]
    pub fn prefetch(self, messages: u16) -> Self {
        // The protocol's zero is no limit.
        Self { prefetch: messages.max(1), ..self }
    }

    /// Sets the queue for dead letters: the name of the queue, followed by `.dead`. It is a durable quorum queue, and is
    /// created if it is not there.
    ///
    /// A dead letter has the payload, the properties and the headers of the message. `Firstseen-Reason`,
    /// `Firstseen-Queue`, `Firstseen-Exchange`, `Firstseen-Routing-Key` and, if it has an id, `Firstseen-Message-Id` are
    /// added; an expiration, a user id and lists of further recipients are left out. It is published with a confirm before
    /// the message is acknowledged, so that it is there at least once.
    #[must_use]
    pub fn dead_letters(self, queue: impl Into<String>) -> Self {
        Self { dead_letters: Some(queue.into()), ..self }
    }

    /// Accepts a queue that has `x-delivery-limit`, with this value: none is accepted. The server drops a message, or gives
    /// it to its own dead-letter exchange, once it has come back that often. Retries, stops and lost connections count,
    /// not only failures, so the limit has to be far above the ledger's attempts, and with reservations above
    /// [`Retries::deliveries_max`](firstseen_consumer::Retries::deliveries_max). With one, such as a billion, the server
    /// puts what is given back near the head of the queue, and without one at its end.
    #[must_use]
    pub fn delivery_limit(self, deliveries: u32) -> Self {
        Self { delivery_limit: Some(deliveries), ..self }
    }

    /// Adds an argument that the queue has, such as `x-single-active-consumer`: none. All must be named, or the server
    /// does not let the queue be used; those by which it would drop messages are refused.
    #[must_use]
    pub fn argument(mut self, name: impl Into<String>, value: AMQPValue) -> Self {
        self.arguments.push((name.into(), value));
        self
    }

    /// Sets how long a message that is to be tried again is held at most: 10 minutes. After a longer delay than this, the
    /// message is given back early and the ledger puts it off again. It must be below `consumer_timeout` of the server, which
    /// is 30 minutes by default; the loop's `work_max` must be, too.
    #[must_use]
    pub fn hold_max(self, hold_max: Duration) -> Self {
        Self { hold_max, ..self }
    }

    /// Sets after how long a delivery comes again that nobody has answered, because the loop has dropped it or could not
    /// publish a dead letter: a second.
    #[must_use]
    pub fn unanswered_delay(self, delay: Duration) -> Self {
        Self { unanswered_delay: delay, ..self }
    }

    /// Sets the heartbeat of connections, in whole seconds: 10. A connection on which nothing has come for twice as long is
    /// given up, and another one built.
    #[must_use]
    pub fn heartbeat(self, heartbeat: Duration) -> Self {
        Self { heartbeat, ..self }
    }
}

/// Where the id of a message comes from.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum RabbitIds {
    /// The property `message_id`, which the producer sets. It is the same when the producer publishes twice. A message
    /// without it has no id, and ends among the dead letters.
    #[default]
    MessageId,
    /// A header of this name: text, bytes, or a whole number in decimal. A message without it has no id.
    Header(String),
    /// A function of the message. See also `firstseen_consumer::Ids::of`.
    Of(Arc<Read>),
}

/// Which messages are kept in order.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum RabbitKeys {
    /// Those of one routing key.
    #[default]
    RoutingKey,
    /// Those with the same value of this header; those without it wait for nobody.
    Header(String),
    /// Those of which this function says the same; `None`: none.
    Of(Arc<Read>),
}

/// Reads something from a message.
pub type Read = dyn Fn(&Delivery) -> Option<Bytes> + Send + Sync;

impl RabbitIds {
    pub(crate) fn get(&self, delivery: &Delivery) -> Option<Bytes> {
        let id = match self {
            Self::MessageId => {
                let id = delivery.properties.message_id().as_ref();
                id.map(|id| Bytes::copy_from_slice(id.as_str().as_bytes()))
            }
            Self::Header(name) => header(delivery, name),
            Self::Of(id) => id(delivery),
        };
        id.filter(|id| !id.is_empty())
    }
}

impl RabbitKeys {
    pub(crate) fn get(&self, delivery: &Delivery) -> Option<Bytes> {
        match self {
            Self::RoutingKey => {
                Some(Bytes::copy_from_slice(delivery.routing_key.as_str().as_bytes()))
            }
            Self::Header(name) => header(delivery, name),
            Self::Of(key) => key(delivery),
        }
    }
}

fn header(delivery: &Delivery, name: &str) -> Option<Bytes> {
    let headers = delivery.properties.headers().as_ref()?;
    text_of(headers.inner().get(name)?)
}

impl fmt::Debug for RabbitIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MessageId => f.write_str("MessageId"),
            Self::Header(name) => f.debug_tuple("Header").field(name).finish(),
            Self::Of(_) => f.write_str("Of(..)"),
        }
    }
}

impl fmt::Debug for RabbitKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RoutingKey => f.write_str("RoutingKey"),
            Self::Header(name) => f.debug_tuple("Header").field(name).finish(),
            Self::Of(_) => f.write_str("Of(..)"),
        }
    }
}
