//! The Kafka half of a transaction: outputs, and the offset that they were made from.

use crate::client::LogContext;
use crate::driver::CALL_MAX;
use crate::error::KafkaError;
use crate::group::TopicPartition;
use crate::output::Output;
use crate::transform::TransformStep;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::producer::{Producer as _, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::time::Duration;

/// How often a call is repeated of which the client says that it may be.
const CALLS_MAX: u32 = 5;

/// Writes in the name of one partition. Whoever writes in its name next makes this one void.
pub(crate) struct Writer {
    producer: ThreadedProducer<LogContext>,
}

/// What has become of a transaction of Kafka.
pub(crate) enum Written {
    /// It is committed.
    Committed,
    /// It is aborted: no reader of committed records sees any of it.
    Aborted(KafkaError),
    /// It is one or the other, or will be aborted; only the committed offset tells.
    Unknown(KafkaError),
}

/// An offset to be committed in a transaction.
pub(crate) struct Progress<'a> {
    pub(crate) partition: &'a TopicPartition,
    pub(crate) next: i64,
    pub(crate) mark: &'a str,
    pub(crate) group: &'a ConsumerGroupMetadata,
}

impl Writer {
    /// Becomes the writer of this name. Returns once what earlier ones had begun is committed or aborted, and they are fenced.
    pub(crate) fn open(mut config: ClientConfig, name: &str) -> Result<Self, KafkaError> {
        let config = config.set("transactional.id", name);
        let producer = config.create_with_context(LogContext);
        let producer: ThreadedProducer<LogContext> =
            producer.map_err(KafkaError::client("creating the producer"))?;
        let began = repeated(|| producer.init_transactions(CALL_MAX));
        began.map_err(KafkaError::client("taking a transactional id over"))?;
        Ok(Self { producer })
    }

    /// Writes outputs and an offset in one transaction.
    pub(crate) fn write(
        &self,
        outputs: &[Output],
        progress: &Progress<'_>,
        after: impl Fn(TransformStep),
    ) -> Written {
        if let Err(error) = self.producer.begin_transaction() {
            return Written::Unknown(KafkaError::client("beginning a transaction")(error));
        }
        match self.fill(outputs, progress, &after) {
            Ok(()) => {}
            Err(error) => return self.abort(error),
        }
        match repeated(|| self.producer.commit_transaction(CALL_MAX)) {
            Ok(()) => Written::Committed,
            // librdkafka says so only before it has asked for the commit.
            Err(error) if is_to_be_aborted(&error) => {
                self.abort(KafkaError::client("committing a transaction")(error))
            }
            Err(error) => Written::Unknown(KafkaError::client("committing a transaction")(error)),
        }
    }

    fn fill(
        &self,
        outputs: &[Output],
        progress: &Progress<'_>,
        after: &impl Fn(TransformStep),
    ) -> Result<(), KafkaError> {
        for output in outputs {
            self.send(output)?;
        }
        let written = self.producer.flush(CALL_MAX);
        written.map_err(KafkaError::client("writing outputs"))?;
        after(TransformStep::Written);
        let Progress { partition: (topic, number), next, mark, group } = progress;
        let mut list = TopicPartitionList::new();
        let mut element = list.add_partition(topic, *number);
        let set = element.set_offset(Offset::Offset(*next));
        set.map_err(KafkaError::client("adding the offset to a transaction"))?;
        element.set_metadata(mark);
        let sent = repeated(|| self.producer.send_offsets_to_transaction(&list, group, CALL_MAX));
        sent.map_err(KafkaError::client("adding the offset to a transaction"))?;
        after(TransformStep::OffsetAdded);
        Ok(())
    }

    fn send(&self, output: &Output) -> Result<(), KafkaError> {
        let mut tries = 0;
        let mut record = output.as_record();
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((error, back)) => {
                    tries += 1;
                    let is_full = error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull);
                    if !is_full || tries > CALLS_MAX {
                        return Err(KafkaError::client("writing outputs")(error));
                    }
                    record = back;
                    // What is queued goes out meanwhile.
                    let _ = self.producer.flush(Duration::from_secs(5));
                }
            }
        }
    }

    fn abort(&self, why: KafkaError) -> Written {
        match repeated(|| self.producer.abort_transaction(CALL_MAX)) {
            Ok(()) => Written::Aborted(why),
            Err(error) => {
                tracing::debug!(%error, "a transaction could not be aborted");
                Written::Unknown(why)
            }
        }
    }
}

/// Repeats a call as long as the client says that it may be.
fn repeated(call: impl Fn() -> Result<(), ClientError>) -> Result<(), ClientError> {
    let mut calls = 0;
    loop {
        calls += 1;
        match call() {
            Err(ClientError::Transaction(error)) if error.is_retriable() && calls < CALLS_MAX => {}
            done => return done,
        }
    }
}

fn is_to_be_aborted(error: &ClientError) -> bool {
    matches!(error, ClientError::Transaction(error) if error.txn_requires_abort())
}
