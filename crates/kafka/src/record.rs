//! A record, and its place.

use bytes::Bytes;
use rdkafka::Timestamp;
use rdkafka::message::{BorrowedMessage, Headers, Message as _};
use std::fmt;
use std::sync::Arc;

/// Where a record is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition of the topic.
    pub partition: i32,
    /// The offset in the partition.
    pub offset: i64,
}

/// A record as the broker delivers it. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// Where it is.
    pub place: Place,
    /// Its key.
    pub key: Option<Bytes>,
    /// What it says; `None` for a tombstone.
    pub payload: Option<Bytes>,
    /// Its headers, in their order. A name may come more than once.
    pub headers: Arc<[(String, Option<Bytes>)]>,
    /// Its time, in milliseconds since 1970, as its producer or broker has set it.
    pub timestamp: Option<i64>,
}

impl Record {
    pub(crate) fn of(message: &BorrowedMessage<'_>, topic: &Arc<str>) -> Self {
        let headers = message.headers().map_or_else(Vec::new, |headers| {
            let header = |header: rdkafka::message::Header<'_, &[u8]>| {
                (header.key.to_owned(), header.value.map(Bytes::copy_from_slice))
            };
            headers.iter().map(header).collect()
        });
        Self {
            place: Place {
                topic: Arc::clone(topic),
                partition: message.partition(),
                offset: message.offset(),
            },
            key: message.key().map(Bytes::copy_from_slice),
            payload: message.payload().map(Bytes::copy_from_slice),
            headers: headers.into(),
            timestamp: match message.timestamp() {
                Timestamp::NotAvailable => None,
                Timestamp::CreateTime(ms) | Timestamp::LogAppendTime(ms) => Some(ms),
            },
        }
    }

    /// Returns the payload; of a tombstone, nothing.
    pub fn payload(&self) -> &[u8] {
        self.payload.as_deref().unwrap_or_default()
    }

    /// Returns the value of the last header of this name.
    pub fn header(&self, name: &str) -> Option<&Bytes> {
        self.headers.iter().rev().find(|(found, _)| found == name)?.1.as_ref()
    }

    /// Returns an id that follows from the place of the record and its time: the same at each delivery, and another for a
    /// record at the same offset of a topic that was deleted and created anew.
    pub fn place_id(&self) -> String {
        let Place { topic, partition, offset } = &self.place;
        let timestamp = self.timestamp.map_or_else(String::new, |ms| ms.to_string());
        format!("{topic}/{partition}/{offset}/{timestamp}")
    }

    /// Returns about how many bytes it takes.
    pub(crate) fn bytes(&self) -> usize {
        let len = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers = self.headers.iter().map(|(name, value)| name.len() + len(value));
        len(&self.key) + len(&self.payload) + headers.sum::<usize>()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, partition, offset } = self;
        write!(f, "offset {offset} of {topic}[{partition}]")
    }
}
