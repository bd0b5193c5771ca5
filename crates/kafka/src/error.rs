//! What goes wrong with Kafka.

use crate::record::Place;
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use std::time::Duration;

/// What goes wrong with Kafka, or the way to it.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum KafkaError {
    /// The client, or the brokers behind it.
    #[error("{what}: {source}")]
    Client {
        /// What was asked of it.
        what: &'static str,
        /// What it says.
        source: ClientError,
    },
    /// A setting that would lose or double messages, or that has another place.
    #[error("the setting {name} cannot be used: {why}")]
    Setting {
        /// Its name, as librdkafka has it.
        name: String,
        /// What is wrong, and what to do.
        why: &'static str,
    },
    /// There is no such topic. Nothing is created by reading, nor by the first dead letter.
    #[error("there is no topic {0:?}: create it, or correct its name")]
    NoTopic(String),
    /// The partition has another owner, or was assigned anew. It delivers the message again, to that owner.
    #[error("{0} belongs to an assignment that has ended, so that it is delivered again")]
    Revoked(Place),
    /// No answer has come in time.
    #[error("{what}: no answer within {after:?}")]
    Silent {
        /// What was asked.
        what: &'static str,
        /// How long it was waited for.
        after: Duration,
    },
    /// The client has ended; the next call builds another.
    #[error("the client has ended: {0}")]
    Ended(String),
}

impl KafkaError {
    /// Returns whether the same may succeed later, without anybody doing something about it.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Setting { .. } | Self::NoTopic(_) => false,
            Self::Client { source, .. } => !matches!(
                source.rdkafka_error_code(),
                Some(
                    RDKafkaErrorCode::MessageSizeTooLarge
                        | RDKafkaErrorCode::UnknownPartition
                        | RDKafkaErrorCode::UnknownTopic
                        | RDKafkaErrorCode::InvalidTopic
                        | RDKafkaErrorCode::TopicAuthorizationFailed
                        | RDKafkaErrorCode::GroupAuthorizationFailed
                        | RDKafkaErrorCode::TransactionalIdAuthorizationFailed
                        | RDKafkaErrorCode::ClusterAuthorizationFailed
                        | RDKafkaErrorCode::InvalidTransactionTimeout
                )
            ),
            Self::Revoked(_) | Self::Silent { .. } | Self::Ended(_) => true,
        }
    }

    pub(crate) fn client(what: &'static str) -> impl FnOnce(ClientError) -> Self {
        move |source| Self::Client { what, source }
    }
}
