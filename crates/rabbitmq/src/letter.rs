//! What a dead letter says of itself.

use crate::queue::Queues;
use firstseen_consumer::Message;
use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable, ShortString};

/// A reason in a header is cut after so many bytes: all headers of a message have to fit into one frame.
const REASON_MAX: usize = 4 << 10;

/// The delivery mode of what outlives a restart.
const PERSISTENT: u8 = 2;

/// What the producer has said about a message, besides its payload.
#[derive(Debug)]
pub(crate) struct Origin {
    exchange: ShortString,
    routing_key: ShortString,
    properties: BasicProperties,
}

impl Origin {
    pub(crate) fn of(delivery: Delivery) -> Self {
        let Delivery { exchange, routing_key, properties, .. } = delivery;
        Self { exchange, routing_key, properties }
    }

    /// Returns the properties of the dead letter for this message.
    pub(crate) fn letter(
        &self,
        message: &Message,
        queues: &Queues,
        reason: &str,
    ) -> BasicProperties {
        let mut headers = FieldTable::default();
        for (name, value) in self.properties.headers().iter().flatten() {
            // The server would send it to these, too; and it counts deliveries of this queue, not of that one.
            if !["CC", "BCC", "x-delivery-count"].contains(&name.as_str()) {
                headers.insert(name.clone(), value.clone());
            }
        }
        let reason = reason.as_bytes();
        let reason = &reason[..reason.len().min(REASON_MAX)];
        let mut add = |name: &str, value: &[u8]| {
            headers.insert(name.into(), AMQPValue::LongString(value.into()));
        };
        add("Firstseen-Reason", reason);
        add("Firstseen-Queue", queues.queue.as_str().as_bytes());
        add("Firstseen-Exchange", self.exchange.as_str().as_bytes());
        add("Firstseen-Routing-Key", self.routing_key.as_str().as_bytes());
        if let Some(id) = &message.id {
            add("Firstseen-Message-Id", id);
        }
        self.lasting_properties().with_headers(headers)
    }

    /// Returns the properties without headers, and without those that hold for the first publishing only: the expiration,
    /// and the user, who must be the one that publishes.
    fn lasting_properties(&self) -> BasicProperties {
        type With = fn(BasicProperties, ShortString) -> BasicProperties;

        let own = &self.properties;
        let mut kept = BasicProperties::default().with_delivery_mode(PERSISTENT);
        let texts: [(&Option<ShortString>, With); 7] = [
            (own.content_type(), BasicProperties::with_content_type),
            (own.content_encoding(), BasicProperties::with_content_encoding),
            (own.correlation_id(), BasicProperties::with_correlation_id),
            (own.reply_to(), BasicProperties::with_reply_to),
            (own.message_id(), BasicProperties::with_message_id),
            (own.kind(), BasicProperties::with_type),
            (own.app_id(), BasicProperties::with_app_id),
        ];
        for (value, with) in texts {
            if let Some(value) = value {
                kept = with(kept, value.clone());
            }
        }
        if let Some(priority) = *own.priority() {
            kept = kept.with_priority(priority);
        }
        if let Some(timestamp) = *own.timestamp() {
            kept = kept.with_timestamp(timestamp);
        }
        kept
    }
}
