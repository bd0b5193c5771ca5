//! What goes wrong.

use std::error::Error as StdError;

/// What goes wrong with a [`RabbitSource`](crate::RabbitSource).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RabbitError {
    /// The server, or the way to it.
    #[error("{what}: {source}")]
    Server {
        /// What was asked of it.
        what: &'static str,
        /// What the client says.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The server has not answered in time.
    #[error("{what}: no answer within {} seconds", CONNECT_MAX.as_secs())]
    Late {
        /// What was asked of it.
        what: &'static str,
    },
    /// The queue would lose messages, or the server does not let it be looked at.
    #[error("the queue {queue} cannot be used: {why}")]
    Unsuitable {
        /// The queue.
        queue: String,
        /// What is wrong, and what to do.
        why: String,
    },
    /// The server has not taken a dead letter. The message it is made of is not acknowledged, and comes again.
    #[error("the server has not taken a message for the queue {queue}: {why}")]
    Refused {
        /// The queue of dead letters.
        queue: String,
        /// What the server says.
        why: String,
    },
    /// The delivery was answered before, or its connection is lost and the server delivers the message again.
    #[error("the delivery is no longer open: it was answered, or its connection is lost")]
    Gone,
    /// The stream of deliveries has ended, as it does when the queue is deleted; the next call builds another.
    #[error("the stream of deliveries has ended")]
    Ended,
}

/// How long connecting, with all that is declared then, may take.
pub(crate) const CONNECT_MAX: std::time::Duration = std::time::Duration::from_secs(10);

impl RabbitError {
    pub(crate) fn of<E: Into<Box<dyn StdError + Send + Sync>>>(
        what: &'static str,
    ) -> impl FnOnce(E) -> Self {
        move |source| Self::Server { what, source: source.into() }
    }
}
