//! The settings of a source.

use async_nats::jetstream::Message;
use bytes::Bytes;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The settings of a [`NatsSource`](crate::NatsSource).
#[derive(Debug, Clone)]
pub struct NatsOptions {
    pub(crate) ids: NatsIds,
    pub(crate) keys: NatsKeys,
    pub(crate) filter: String,
    pub(crate) ack_wait: Duration,
    pub(crate) ack_pending_max: i64,
    pub(crate) heartbeat: Duration,
    pub(crate) prefetch: usize,
    pub(crate) dead_letters: Option<String>,
}

impl Default for NatsOptions {
    fn default() -> Self {
        Self {
            ids: NatsIds::MessageId,
            keys: NatsKeys::Subject,
            filter: String::new(),
            ack_wait: Duration::from_secs(30),
            ack_pending_max: 1_000,
            heartbeat: Duration::from_secs(5),
            prefetch: 128,
            dead_letters: None,
        }
    }
}

impl NatsOptions {
    /// Creates options with the defaults, which stand at each setting.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets where ids come from: [`NatsIds::MessageId`].
    #[must_use]
    pub fn ids(self, ids: NatsIds) -> Self {
        Self { ids, ..self }
    }

    /// Sets which messages are kept in order, if the loop is asked to: those of one subject.
    #[must_use]
    pub fn keys(self, keys: NatsKeys) -> Self {
        Self { keys, ..self }
    }

    /// Sets the subject that the consumer filters by, where it is created: all of the stream.
    #[must_use]
    pub fn filter(self, subject: impl Into<String>) -> Self {
        Self { filter: subject.into(), ..self }
    }

    /// Sets how long the server waits for an acknowledgement, where the consumer is created: 30 seconds. The loop tells the
    /// server that work goes on each third of it, so it need not cover the longest work.
    #[must_use]
    pub fn ack_wait(self, ack_wait: Duration) -> Self {
        Self { ack_wait, ..self }
    }

    /// Sets how many messages may be out and unacknowledged, over all processes of the consumer, where it is created:
    /// 1,000. Messages that wait for a retry count.
    #[must_use]
    pub fn ack_pending_max(self, messages: i64) -> Self {
        Self { ack_pending_max: messages, ..self }
    }

    /// Sets the idle heartbeat: 5 seconds. When two are missing, the stream of deliveries is built anew.
    #[must_use]
    pub fn heartbeat(self, heartbeat: Duration) -> Self {
        Self { heartbeat, ..self }
    }

    /// Sets how many messages are asked for at a time, ahead of the loop: 128. What waits here for longer than `ack_wait`,
    /// because handlers are slow, is delivered again, and is a duplicate then.
    #[must_use]
    pub fn prefetch(self, messages: usize) -> Self {
        Self { prefetch: messages.max(1), ..self }
    }

    /// Sets the subject that dead letters are published to; a stream has to keep it. Without one, the server is told to
    /// terminate them: they stay where the stream's retention keeps them, and in the ledger.
    ///
    /// A dead letter has the payload and headers of the message; `Firstseen-Reason`, `Firstseen-Subject`,
    /// `Firstseen-Consumer` and `Firstseen-Message-Id` are added. Its `Nats-Msg-Id` follows from the consumer, the place of
    /// the message in its stream, and when it was stored there: within the duplicate window of the stream that keeps dead
    /// letters it is kept once, and never taken for that of another consumer or of a stream that had the name before.
    #[must_use]
    pub fn dead_letters(self, subject: impl Into<String>) -> Self {
        Self { dead_letters: Some(subject.into()), ..self }
    }
}

/// Where the id of a message comes from.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum NatsIds {
    /// The header `Nats-Msg-Id`, which the producer sets. It is the same when the producer publishes twice, however long
    /// after the server's own window (rule 86). A message without it has no id, and ends among the dead letters.
    #[default]
    MessageId,
    /// The place in the stream, with the time at which the message was stored there, to the nanosecond: a stream that is
    /// deleted and made again counts from one again. For producers that set no id: redeliveries are recognised, and a
    /// message that is published twice is two.
    Sequence,
    /// A function of the message. See also `firstseen_consumer::Ids::of`.
    Of(Arc<Read>),
}

/// Which messages are kept in order.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum NatsKeys {
    /// Those of one subject.
    #[default]
    Subject,
    /// Those of which this function says the same; `None`: none.
    Of(Arc<Read>),
}

/// Reads something from a message.
pub type Read = dyn Fn(&Message) -> Option<Bytes> + Send + Sync;

impl fmt::Debug for NatsIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MessageId => "MessageId",
            Self::Sequence => "Sequence",
            Self::Of(_) => "Of(..)",
        })
    }
}

impl fmt::Debug for NatsKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Subject => "Subject",
            Self::Of(_) => "Of(..)",
        })
    }
}
