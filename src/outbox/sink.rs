//! Where a relay delivers messages to: the code of the user.

use crate::error::{Error, Result};
use crate::outbox::message::Message;
use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

/// Delivers messages somewhere: a broker, a mail server, another store. A function `Fn(&[Message]) -> Delivery` is one.
///
/// It must deliver the messages of one key in the order of the batch. Several workers call it at once, with messages of
/// different keys. A message may come again, with the same id: after a crash between its delivery and the end of the call,
/// and if the answer says that it was not delivered.
///
/// If it panics, no message of the batch counts as delivered, and each counts as tried. What has failed once comes alone
/// from then on, so a message that makes it panic soon is the only one of its batch.
pub trait Sink: Send + Sync {
    /// Delivers a batch, and says what became of each message.
    fn deliver(&self, batch: &[Message]) -> Delivery;
}

impl<F: Fn(&[Message]) -> Delivery + Send + Sync> Sink for F {
    fn deliver(&self, batch: &[Message]) -> Delivery {
        self(batch)
    }
}

/// Delivers messages somewhere without blocking its thread; see [`Sink`].
pub trait AsyncSink: Send + Sync {
    /// Delivers a batch, and says what became of each message.
    fn deliver(&self, batch: &[Message]) -> impl Future<Output = Delivery> + Send;
}

/// What became of the messages of a batch.
///
/// A message after one of the same key that was not delivered counts as not delivered, whatever is said of it, and comes
/// again: messages of a key arrive in order.
///
/// Of a message that the batch does not have nothing can be said: the relay ends with
/// [`FixCall`](crate::ErrorKind::FixCall), and the batch counts as never tried.
#[derive(Debug, Clone)]
#[must_use = "it says what was delivered"]
pub struct Delivery {
    /// So many from the first on were delivered.
    first: usize,
    rest: Rest,
    others: BTreeMap<usize, Verdict>,
}

#[derive(Debug, Clone)]
enum Rest {
    /// The next one failed, those after it were not tried.
    Failed(String),
    /// None was tried: there is nobody to deliver to.
    Unavailable(String),
    Panicked,
}

/// What became of one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Delivered,
    Untried,
    Retry { pause: Option<Duration>, reason: String },
    Final { reason: String },
}

impl Delivery {
    /// All were delivered.
    pub fn all() -> Self {
        Self::up_to(usize::MAX, "")
    }

    /// The first `count` were delivered, the next one failed, those after it were not tried. The one that failed is tried
    /// again after a while, until it has failed as often as the relay allows; the others as soon as possible. With a count
    /// of all or more, all were delivered.
    pub fn up_to(count: usize, reason: impl Into<String>) -> Self {
        Self { first: count, rest: Rest::Failed(reason.into()), others: BTreeMap::new() }
    }

    /// The first `count` were delivered. For the others there is nobody to deliver to, as while a broker is down: they are
    /// tried again after a while, as often as it takes, and none of them counts as failed. Meanwhile the relay delivers
    /// nothing, also if there are no others.
    pub fn unavailable(count: usize, reason: impl Into<String>) -> Self {
        Self { first: count, rest: Rest::Unavailable(reason.into()), others: BTreeMap::new() }
    }

    /// All count as tried.
    pub(super) fn panicked() -> Self {
        Self { first: 0, rest: Rest::Panicked, others: BTreeMap::new() }
    }

    /// Says that this message of the batch failed, and is to be tried again after a while, until it has failed as often as
    /// the relay allows. Overrides what was said of it.
    pub fn retry(mut self, index: usize, reason: impl Into<String>) -> Self {
        self.others.insert(index, Verdict::Retry { pause: None, reason: reason.into() });
        self
    }

    /// Says that this message of the batch failed, and is to be tried again after this long; see [`retry`](Self::retry).
    pub fn retry_in(mut self, index: usize, pause: Duration, reason: impl Into<String>) -> Self {
        self.others.insert(index, Verdict::Retry { pause: Some(pause), reason: reason.into() });
        self
    }

    /// Says that this message of the batch can never be delivered: it becomes a dead letter. Overrides what was said of it.
    pub fn refuse(mut self, index: usize, reason: impl Into<String>) -> Self {
        self.others.insert(index, Verdict::Final { reason: reason.into() });
        self
    }

    /// Checks that it is about a batch of so many messages.
    pub(super) fn check(&self, messages: usize) -> Result<()> {
        match self.others.last_key_value() {
            Some((index, _)) if *index >= messages => Err(Error::invalid(format!(
                "a sink said what became of message {index} of a batch of {messages}: they are counted from 0"
            ))),
            _ => Ok(()),
        }
    }

    /// Returns what became of a message of the batch.
    pub(super) fn verdict(&self, index: usize) -> Verdict {
        if let Some(verdict) = self.others.get(&index) {
            return verdict.clone();
        }
        let retry = |reason: &str| Verdict::Retry { pause: None, reason: reason.to_owned() };
        match &self.rest {
            _ if index < self.first => Verdict::Delivered,
            Rest::Failed(reason) if index == self.first => retry(reason),
            Rest::Failed(_) | Rest::Unavailable(_) => Verdict::Untried,
            Rest::Panicked => retry("the sink panicked"),
        }
    }

    /// Returns why there is nobody to deliver to.
    pub(super) fn outage(&self) -> Option<&str> {
        match &self.rest {
            Rest::Unavailable(reason) => Some(reason),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(delivery: &Delivery) -> Vec<char> {
        let letter = |n| match delivery.verdict(n) {
            Verdict::Delivered => 'd',
            Verdict::Untried => 'u',
            Verdict::Retry { pause: None, .. } => 'r',
            Verdict::Retry { pause: Some(_), .. } => 'R',
            Verdict::Final { .. } => 'f',
        };
        (0..4).map(letter).collect()
    }

    #[test]
    fn a_delivery_says_what_became_of_each_message() {
        assert_eq!(verdicts(&Delivery::all()), ['d'; 4]);
        assert_eq!(verdicts(&Delivery::up_to(2, "no")), ['d', 'd', 'r', 'u']);
        assert_eq!(verdicts(&Delivery::unavailable(1, "down")), ['d', 'u', 'u', 'u']);
        assert_eq!(verdicts(&Delivery::panicked()), ['r'; 4]);
        let mixed = Delivery::all().retry(0, "no").refuse(2, "never");
        let mixed = mixed.retry_in(3, Duration::from_secs(1), "later");
        assert_eq!(verdicts(&mixed), ['r', 'd', 'f', 'R']);
    }
}
