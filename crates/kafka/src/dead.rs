//! Dead letters: records that are written to a topic of their own, with the reason.

use crate::client::LogContext;
use crate::error::KafkaError;
use crate::record::Record;
use bytes::Bytes;
use rdkafka::config::ClientConfig;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long the brokers may take for a dead letter, unless `message.timeout.ms` is set. The loop waits for ten seconds.
const LETTER_MAX_MS: &str = "8000";

/// How long a dead letter waits for room in the client's queue.
const ROOM_MAX: Duration = Duration::from_secs(5);

/// Writes dead letters to a topic.
pub(crate) struct DeadLetters {
    topic: String,
    /// The group that gives records up: others may write to the same topic.
    group: String,
    config: ClientConfig,
    /// Built anew after an error that ends it: brokers may forget what an idempotent producer has written.
    producer: Mutex<FutureProducer<LogContext>>,
}

impl DeadLetters {
    pub(crate) fn open(
        topic: &str,
        group: &str,
        mut config: ClientConfig,
    ) -> Result<Self, KafkaError> {
        if config.get("message.timeout.ms").is_none() && config.get("delivery.timeout.ms").is_none()
        {
            config.set("message.timeout.ms", LETTER_MAX_MS);
        }
        // What was read can be written: the brokers say what is too large.
        config.set("message.max.bytes", "1000000000");
        let producer = Mutex::new(create(&config)?);
        let (topic, group) = (topic.to_owned(), group.to_owned());
        Ok(Self { topic, group, config, producer })
    }

    fn producer(&self) -> Result<FutureProducer<LogContext>, KafkaError> {
        let mut producer = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((code, why)) = producer.client().fatal_error() {
            tracing::warn!(%code, why, "the producer of dead letters has ended: it is built anew");
            *producer = create(&self.config)?;
        }
        Ok(producer.clone())
    }

    /// Writes a dead letter. Returns once all replicas have it.
    pub(crate) async fn write(
        &self,
        record: &Record,
        id: Option<&Bytes>,
        reason: &str,
    ) -> Result<(), KafkaError> {
        let producer = self.producer()?;
        let letter = self.letter(record, id, reason, record.payload.as_ref());
        let mut written = producer.send(letter, ROOM_MAX).await.map_err(|(error, _)| error);
        let is_too_large = written.as_ref().is_err_and(|error| {
            error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageSizeTooLarge)
        });
        if is_too_large {
            let reason = format!("{reason} (its payload is too large for this topic)");
            let letter = self.letter(record, id, &reason, None);
            written = producer.send(letter, ROOM_MAX).await.map_err(|(error, _)| error);
        }
        written.map(drop).map_err(KafkaError::client("writing a dead letter"))
    }

    fn letter<'a>(
        &'a self,
        record: &'a Record,
        id: Option<&Bytes>,
        reason: &str,
        payload: Option<&'a Bytes>,
    ) -> FutureRecord<'a, [u8], [u8]> {
        let mut letter =
            FutureRecord::to(&self.topic).headers(headers(record, &self.group, id, reason));
        (letter.key, letter.payload) = (record.key.as_deref(), payload.map(|bytes| &bytes[..]));
        letter
    }
}

fn create(config: &ClientConfig) -> Result<FutureProducer<LogContext>, KafkaError> {
    config.create_with_context(LogContext).map_err(KafkaError::client("creating the producer"))
}

/// Those of the record, but for those of an earlier death.
fn headers(record: &Record, group: &str, id: Option<&Bytes>, reason: &str) -> OwnedHeaders {
    let mut headers = OwnedHeaders::new();
    for (key, value) in record.headers.iter().filter(|(name, _)| !name.starts_with("firstseen-")) {
        headers = headers.insert(Header { key, value: value.as_deref() });
    }
    let place = &record.place;
    let (partition, offset) = (place.partition.to_string(), place.offset.to_string());
    for (key, value) in [
        ("firstseen-reason", reason.as_bytes()),
        ("firstseen-group", group.as_bytes()),
        ("firstseen-topic", place.topic.as_bytes()),
        ("firstseen-partition", partition.as_bytes()),
        ("firstseen-offset", offset.as_bytes()),
    ] {
        headers = headers.insert(Header { key, value: Some(value) });
    }
    match id {
        Some(id) => headers.insert(Header { key: "firstseen-message-id", value: Some(&id[..]) }),
        None => headers,
    }
}
