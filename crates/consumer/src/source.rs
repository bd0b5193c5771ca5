//! What a broker has to do for the loop: five short calls.

use bytes::Bytes;
use std::fmt;
use std::future::Future;
use std::time::Duration;

/// A queue of a broker that delivers at least once.
///
/// An adapter translates these calls into those of a client and decides nothing: which delivery is done again, when, and
/// which is a dead letter, is the loop's to say. What must hold is written at each call, and
/// [`check_source`](crate::testkit::check_source) tries it against the real broker.
///
/// All calls may come at the same time, from many tasks.
pub trait Source: Send + Sync + 'static {
    /// What the broker wants back in an acknowledgement.
    type Token: Send + Sync + 'static;
    /// What goes wrong with the broker.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Returns the next deliveries, in the order in which the broker has them, as soon as there is one, and at most
    /// `want.count`. An empty list: nothing came within `want.wait`.
    ///
    /// After an error the loop calls again, with growing pauses: build whatever is broken anew then. The future is
    /// dropped when the loop stops, or if it takes much longer than `want.wait`; what it has taken from the broker must then
    /// be returned by the next call or by [`stop`](Self::stop), or come again by itself.
    fn next(
        &self,
        want: Want,
    ) -> impl Future<Output = Result<Vec<Delivery<Self::Token>>, Self::Error>> + Send;

    /// Has the broker forget this delivery: it is done. Returns once the broker has confirmed that, where it can.
    fn acknowledge(
        &self,
        token: &Self::Token,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Has the broker deliver this again, not before the delay has passed.
    fn retry_in(
        &self,
        token: &Self::Token,
        delay: Duration,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Puts this among the dead letters of the broker, with the reason, and never delivers it again. It may be called
    /// twice for a message, since its answer may be lost: use [`Message::id`] to put it there once.
    fn dead_letter(
        &self,
        message: &Message,
        token: &Self::Token,
        reason: &str,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Tells the broker that this delivery is still worked on, so that it waits [`patience`](Self::patience) from now.
    fn working(
        &self,
        _token: &Self::Token,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send {
        std::future::ready(Ok(()))
    }

    /// Returns how long the broker waits for an answer before it delivers again; `None` if it does not do so by time.
    fn patience(&self) -> Option<Duration> {
        None
    }

    /// Returns how many messages wait behind those that were delivered; `None` if nobody knows.
    fn lag(&self) -> impl Future<Output = Result<Option<u64>, Self::Error>> + Send {
        std::future::ready(Ok(None))
    }

    /// Takes nothing more, and gives back what was taken and not returned by [`next`](Self::next). Called once, when the
    /// loop asks for no more deliveries; those that are in flight are answered after it.
    fn stop(&self) -> impl Future<Output = Result<(), Self::Error>> + Send {
        std::future::ready(Ok(()))
    }
}

/// How much the loop can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// Deliveries, at least one.
    pub count: usize,
    /// Bytes of payloads, at least one. A source that cannot count bytes may return more.
    pub bytes: usize,
    /// How long to wait for the first delivery.
    pub wait: Duration,
}

/// A message, and what its broker wants back.
#[derive(Debug)]
pub struct Delivery<T> {
    /// The message.
    pub message: Message,
    /// The broker's own handle of this delivery.
    pub token: T,
}

/// A message as it was delivered. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// What tells it from all other messages, the same at every delivery; `None` if its producer has given it nothing. The
    /// loop makes no id up: see [`ConsumerOptions::ids`](crate::ConsumerOptions::ids).
    pub id: Option<Bytes>,
    /// What it says.
    pub payload: Bytes,
    /// Messages of one key are handled in order, if the loop is asked to.
    pub key: Option<Bytes>,
    /// How often it was delivered, this time included; `None` if the broker does not count. A broker that only marks
    /// redeliveries says at least two.
    pub deliveries: Option<u32>,
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("id", &self.id)
            .field("payload_bytes", &self.payload.len())
            .field("key", &self.key)
            .field("deliveries", &self.deliveries)
            .finish()
    }
}

impl Message {
    /// Creates a message with an id. Key and count can be set on it.
    pub fn new(id: impl Into<Bytes>, payload: impl Into<Bytes>) -> Self {
        Self { id: Some(id.into()), payload: payload.into(), key: None, deliveries: None }
    }

    /// Creates a message that its producer has given no id.
    pub fn without_id(payload: impl Into<Bytes>) -> Self {
        Self { id: None, payload: payload.into(), key: None, deliveries: None }
    }

    /// Sets the key for order.
    #[must_use]
    pub fn key(self, key: impl Into<Bytes>) -> Self {
        Self { key: Some(key.into()), ..self }
    }

    /// Sets how often it was delivered.
    #[must_use]
    pub fn deliveries(self, deliveries: u32) -> Self {
        Self { deliveries: Some(deliveries), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_of_a_message_holds_no_payload() {
        let shown = format!("{:?}", Message::new("a", "4111"));
        assert!(shown.contains("payload_bytes: 4") && !shown.contains("4111"), "{shown}");
    }
}
