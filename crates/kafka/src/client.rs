//! What the clients of librdkafka say, and where it goes.

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError as ClientError;
use rdkafka::producer::{DeliveryResult, ProducerContext};

/// Has what a client says logged where the program's other events go.
pub(crate) struct LogContext;

impl ClientContext for LogContext {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        log(level, fac, message);
    }

    fn error(&self, error: ClientError, reason: &str) {
        failed(&error, reason);
    }
}

impl ProducerContext for LogContext {
    type DeliveryOpaque = ();

    /// A transaction that lacks a record cannot be committed.
    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

pub(crate) fn log(level: RDKafkaLogLevel, fac: &str, message: &str) {
    match level {
        // A client is told settings of the other kind of client, too.
        _ if fac == "CONFWARN" => tracing::debug!(fac, message),
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error => tracing::error!(fac, message),
        RDKafkaLogLevel::Warning => tracing::warn!(fac, message),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => tracing::info!(fac, message),
        RDKafkaLogLevel::Debug => tracing::debug!(fac, message),
    }
}

/// Most of these pass: librdkafka connects anew. The others come as the answer of a call, too.
pub(crate) fn failed(error: &ClientError, reason: &str) {
    tracing::debug!(%error, reason, "a client has met an error");
}
