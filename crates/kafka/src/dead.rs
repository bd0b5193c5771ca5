//! Dead letters: records that are written to a topic of their own, with the reason.

use crate::deliveries::ANSWER_MAX;
use crate::error::KafkaError;
use crate::group;
use crate::record::Record;
use bytes::Bytes;
use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};

/// How long the brokers may take for a dead letter, unless `message.timeout.ms` is set. The loop waits for ten seconds.
const LETTER_MAX_MS: &str = "8000";

pub(crate) struct LogContext;

impl ClientContext for LogContext {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        group::log(level, fac, message);
    }

    fn error(&self, error: ClientError, reason: &str) {
        tracing::debug!(%error, reason, "the client has met an error");
    }
}

/// Writes dead letters to a topic.
pub(crate) struct DeadLetters {
    topic: String,
    producer: FutureProducer<LogContext>,
}

impl DeadLetters {
    pub(crate) fn open(topic: &str, mut config: ClientConfig) -> Result<Self, KafkaError> {
        if config.get("message.timeout.ms").is_none() && config.get("delivery.timeout.ms").is_none()
        {
            config.set("message.timeout.ms", LETTER_MAX_MS);
        }
        // What was read can be written: the brokers say what is too large.
        config.set("message.max.bytes", "1000000000");
        let producer = config.create_with_context(LogContext);
        let producer = producer.map_err(KafkaError::client("creating the producer"))?;
        Ok(Self { topic: topic.to_owned(), producer })
    }

    /// Writes a dead letter. Returns once all replicas have it.
    pub(crate) async fn write(
        &self,
        record: &Record,
        id: Option<&Bytes>,
        reason: &str,
    ) -> Result<(), KafkaError> {
        let written = self.send(record, id, reason, record.payload.as_ref()).await;
        let written = match written {
            Err(error)
                if error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageSizeTooLarge) =>
            {
                let reason =
                    format!("{reason} (its payload is too large for the topic of dead letters)");
                self.send(record, id, &reason, None).await
            }
            written => written,
        };
        written.map_err(KafkaError::client("writing a dead letter"))
    }

    async fn send(
        &self,
        record: &Record,
        id: Option<&Bytes>,
        reason: &str,
        payload: Option<&Bytes>,
    ) -> Result<(), ClientError> {
        let mut letter: FutureRecord<'_, [u8], [u8]> =
            FutureRecord::to(&self.topic).headers(headers(record, id, reason));
        if let Some(key) = &record.key {
            letter = letter.key(&key[..]);
        }
        if let Some(payload) = payload {
            letter = letter.payload(&payload[..]);
        }
        self.producer.send(letter, ANSWER_MAX).await.map(drop).map_err(|(error, _)| error)
    }
}

/// Those of the record, but for those of an earlier death.
fn headers(record: &Record, id: Option<&Bytes>, reason: &str) -> OwnedHeaders {
    let mut headers = OwnedHeaders::new();
    for (key, value) in record.headers.iter().filter(|(name, _)| !name.starts_with("firstseen-")) {
        headers = headers.insert(Header { key, value: value.as_deref() });
    }
    let place = &record.place;
    let (partition, offset) = (place.partition.to_string(), place.offset.to_string());
    for (key, value) in [
        ("firstseen-reason", reason.as_bytes()),
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
