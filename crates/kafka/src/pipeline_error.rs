//! Why a pipeline stops.

use crate::begin::Refusal;
use crate::error::KafkaError;
use crate::group::TopicPartition;
use firstseen::ErrorKind;
use firstseen::transaction::Rejection;

/// What the work of a pipeline returns when it cannot go on.
pub type WorkError = Box<dyn std::error::Error + Send + Sync>;

/// Why a pipeline stops. Nothing of the batch that it was about is committed, unless said otherwise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PipelineError {
    /// Kafka: what does not pass by itself, such as a topic that is not there, an output that is too large, or a right that
    /// is missing. A pipeline that runs tries again after all others.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// The store. Its kind says what to do.
    #[error("the store: {0}")]
    Store(#[from] firstseen::Error),
    /// The transaction was rejected, for reasons that stay. A duplicate is one unless the work asks
    /// `claim_if_new` first, or sets `skip_duplicates`.
    #[error("the transaction of a batch of {topic}[{partition}] was rejected: {reasons:?}")]
    Rejected {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// All of the reasons.
        reasons: Vec<Rejection>,
    },
    /// Another store has read further: this one has not the state of the partition. Restore what that store had, or say
    /// [`adopt`](crate::PipelineOptions::adopt) if there is no state to miss.
    #[error(
        "{topic}[{partition}] was read up to {committed} by somebody else, and this store knows it up to {stored:?}: restore \
         the state of the partition, or adopt what the group has committed"
    )]
    Elsewhere {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The next offset that the store says; `None` if it knows nothing of the partition.
        stored: Option<i64>,
        /// The offset that the group has committed.
        committed: i64,
    },
    /// The records that would come next are gone: the retention of the topic has overtaken the pipeline.
    #[error(
        "{topic}[{partition}] is to be read on at {stored}, and the oldest record that is left is at {low}: what is between is lost"
    )]
    Gone {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The next offset that the store says.
        stored: i64,
        /// The oldest that the brokers have.
        low: i64,
    },
    /// The store has read more than the brokers have: the topic was created anew, or the brokers have lost its end.
    #[error(
        "{topic}[{partition}] was read up to {stored}, and the brokers have it up to {high}: was the topic created anew?"
    )]
    Ahead {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The next offset that the store says.
        stored: i64,
        /// The offset behind the last record.
        high: i64,
    },
    /// Nothing says where to begin, and the options want a word.
    #[error("nobody has read {topic}[{partition}], and the options do not say where to begin")]
    Nowhere {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// A transaction is prepared in the store, and nothing says any more whether its other half was committed in Kafka.
    /// Look whether its outputs are there, and end it by `Store::commit_prepared` or `Store::rollback_prepared`.
    #[error(
        "the transaction {gid:?} is prepared, and the group's committed offset does not tell whether Kafka has committed it: \
         end it by hand"
    )]
    InDoubt {
        /// The name of the prepared transaction.
        gid: String,
    },
    /// The brokers do not keep what is written beside a committed offset, so that nobody could tell what a crash has left. The
    /// batch of this transaction is committed, in Kafka and in the store.
    #[error(
        "{gid:?} is committed, but the brokers have not kept its name beside the offset (offset.metadata.max.bytes?): after a \
         crash nothing would tell whether a transaction was committed"
    )]
    Unmarked {
        /// The name of the transaction.
        gid: String,
    },
    /// The work has failed.
    #[error("the work on {topic}[{partition}] from offset {offset} failed: {source}")]
    Work {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The first offset of the batch.
        offset: i64,
        /// What the work said.
        source: WorkError,
    },
}

impl PipelineError {
    pub(crate) fn refused((topic, partition): &TopicPartition, why: Refusal) -> Self {
        let (topic, partition) = (topic.to_string(), *partition);
        match why {
            Refusal::Elsewhere { stored, committed } => {
                Self::Elsewhere { topic, partition, stored, committed }
            }
            Refusal::Gone { stored, low } => Self::Gone { topic, partition, stored, low },
            Refusal::Ahead { stored, high } => Self::Ahead { topic, partition, stored, high },
            Refusal::Nowhere => Self::Nowhere { topic, partition },
        }
    }

    /// Returns whether the same may succeed later, without anybody doing something about it.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Kafka(error) => error.may_pass(),
            Self::Store(error) => {
                matches!(error.kind(), ErrorKind::Retry | ErrorKind::StorageFull)
            }
            Self::Rejected { reasons, .. } => reasons.iter().all(|why| {
                matches!(
                    why,
                    Rejection::Moved { .. }
                        | Rejection::InDoubt { .. }
                        | Rejection::OutboxFull { .. }
                        | Rejection::Fenced { .. }
                )
            }),
            _ => false,
        }
    }
}
