//! The settings of a source.

use crate::record::Record;
use crate::settings::{KafkaStart, Settings};
use bytes::Bytes;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The settings of a [`KafkaSource`](crate::KafkaSource).
#[derive(Debug, Clone)]
pub struct KafkaOptions {
    pub(crate) ids: KafkaIds,
    pub(crate) start: KafkaStart,
    pub(crate) dead_letters: Option<String>,
    pub(crate) answer_wait: Duration,
    pub(crate) revoke_wait: Duration,
    pub(crate) commit_every: Duration,
    pub(crate) open_max: usize,
    pub(crate) open_bytes_max: usize,
    pub(crate) settings: Settings,
}

impl KafkaOptions {
    /// Creates options with the defaults, which stand at each setting. Where ids come from has none: Kafka knows no id of a
    /// message, so say what its producers do.
    pub fn new(ids: KafkaIds) -> Self {
        Self {
            ids,
            start: KafkaStart::Earliest,
            dead_letters: None,
            answer_wait: Duration::from_secs(30),
            revoke_wait: Duration::from_secs(5),
            commit_every: Duration::ZERO,
            open_max: 10_000,
            open_bytes_max: 64 << 20,
            settings: Settings::default(),
        }
    }

    /// Sets where reading begins in a partition of which the group has committed nothing: [`KafkaStart::Earliest`].
    #[must_use]
    pub fn start(self, start: KafkaStart) -> Self {
        Self { start, ..self }
    }

    /// Sets the topic that dead letters are written to; it has to exist. Without one they are kept by the ledger alone.
    ///
    /// A dead letter has the key, payload and headers of the record; the headers `firstseen-reason`, `firstseen-group`,
    /// `firstseen-topic`, `firstseen-partition`, `firstseen-offset` and `firstseen-message-id` are added. If the brokers refuse
    /// it as too large, it is written without its payload. The record is acknowledged once all replicas have the letter, so a
    /// crash in between writes it again: group, topic, partition and offset tell which are one.
    #[must_use]
    pub fn dead_letters(self, topic: impl Into<String>) -> Self {
        Self { dead_letters: Some(topic.into()), ..self }
    }

    /// Sets after how long a record that the loop has not answered is delivered again: 30 seconds. The loop says each third
    /// of it that work goes on, so it need not cover the longest work. It concerns what is lost inside the process, such as
    /// an acknowledgement that the loop has given up; what a crash interrupts is delivered again by the broker.
    #[must_use]
    pub fn answer_wait(self, wait: Duration) -> Self {
        Self { answer_wait: wait.max(Duration::from_millis(1)), ..self }
    }

    /// Sets how long a rebalance waits for work on the partitions that go to somebody else: 5 seconds. What is done by then is
    /// committed; what is not is delivered to the new owner, too, while it goes on here.
    #[must_use]
    pub fn revoke_wait(self, wait: Duration) -> Self {
        Self { revoke_wait: wait, ..self }
    }

    /// Sets the least time between two commits: none. Then an acknowledgement waits for the commit that covers it, and
    /// those that come meanwhile share the next. With a time, acknowledgements wait for nothing, brokers have less to do,
    /// and more comes again after a crash.
    #[must_use]
    pub fn commit_every(self, every: Duration) -> Self {
        Self { commit_every: every, ..self }
    }

    /// Sets how many records of a partition may be open, or done behind one that is open: 10,000. When there are as many,
    /// nothing more is read from the partition until the oldest is done. A record that waits for a retry or an operator
    /// holds up the commit of all behind it, and after this many it holds up the partition.
    #[must_use]
    pub fn open_max(self, records: usize) -> Self {
        Self { open_max: records.max(1), ..self }
    }

    /// Sets how many bytes the open records of a partition may take: 64 MiB. One record that is larger comes alone.
    #[must_use]
    pub fn open_bytes_max(self, bytes: usize) -> Self {
        Self { open_bytes_max: bytes.max(1), ..self }
    }

    /// Sets a setting of librdkafka by its name, such as `security.protocol`, `session.timeout.ms`, `group.instance.id` or
    /// `partition.assignment.strategy`. Those that would commit what is not done are refused where the source is opened.
    #[must_use]
    pub fn set(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.set(name.into(), value.into());
        self
    }
}

/// Where the id of a record comes from. A record that has none is a dead letter.
#[derive(Clone)]
#[non_exhaustive]
pub enum KafkaIds {
    /// A header that the producer sets, such as `ce_id` of CloudEvents. It is the same when the producer writes twice.
    Header(String),
    /// The key of the record, where a key comes once: one record for each order.
    Key,
    /// Topic, partition, offset and time of the record. For producers that set no id: redeliveries are recognised, and a
    /// record that is written twice is two.
    Place,
    /// A function of the record. See also `firstseen_consumer::Ids::of`.
    Of(Arc<Read>),
}

/// Reads something from a record.
pub type Read = dyn Fn(&Record) -> Option<Bytes> + Send + Sync;

impl KafkaIds {
    /// Takes ids from a header of this name.
    pub fn header(name: impl Into<String>) -> Self {
        Self::Header(name.into())
    }

    /// Takes ids from a function. It must say the same at every delivery, and something else for every other record.
    pub fn of<I: Into<Bytes>>(id: impl Fn(&Record) -> Option<I> + Send + Sync + 'static) -> Self {
        Self::Of(Arc::new(move |record| id(record).map(Into::into)))
    }

    pub(crate) fn get(&self, record: &Record) -> Option<Bytes> {
        match self {
            Self::Header(name) => record.header(name).cloned(),
            Self::Key => record.key.clone(),
            Self::Place => Some(record.place_id().into()),
            Self::Of(id) => id(record),
        }
    }
}

impl fmt::Debug for KafkaIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => f.debug_tuple("Header").field(name).finish(),
            Self::Key => f.write_str("Key"),
            Self::Place => f.write_str("Place"),
            Self::Of(_) => f.write_str("Of(..)"),
        }
    }
}
