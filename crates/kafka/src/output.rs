//! Records that a transform writes.

use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::BaseRecord;

/// The records that a transform writes for a batch, in their order.
#[derive(Debug, Clone, Default)]
pub struct Outputs(pub(crate) Vec<Output>);

impl Outputs {
    /// Adds a record.
    pub fn push(&mut self, output: Output) {
        self.0.push(output);
    }
}

/// A record that is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    topic: String,
    partition: Option<i32>,
    key: Option<Vec<u8>>,
    payload: Option<Vec<u8>>,
    headers: Vec<(String, Vec<u8>)>,
}

impl Output {
    /// Creates a record for a topic.
    pub fn new(topic: impl Into<String>, payload: impl Into<Vec<u8>>) -> Self {
        Self { payload: Some(payload.into()), ..Self::tombstone(topic) }
    }

    /// Creates a record without a payload, by which a compacted topic forgets a key.
    pub fn tombstone(topic: impl Into<String>) -> Self {
        let (topic, headers) = (topic.into(), Vec::new());
        Self { topic, partition: None, key: None, payload: None, headers }
    }

    /// Sets its key, from which its partition follows.
    #[must_use]
    pub fn key(self, key: impl Into<Vec<u8>>) -> Self {
        Self { key: Some(key.into()), ..self }
    }

    /// Sets its partition.
    #[must_use]
    pub fn partition(self, partition: i32) -> Self {
        Self { partition: Some(partition), ..self }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub(crate) fn as_record(&self) -> BaseRecord<'_, [u8], [u8]> {
        let headers = self.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header { key, value: Some(value) })
        });
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&self.topic).headers(headers);
        (record.partition, record.key, record.payload) =
            (self.partition, self.key.as_deref(), self.payload.as_deref());
        record
    }
}
