//! The settings of a source.

use crate::entry::{EntryId, RedisEntry};
use bytes::Bytes;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The settings of a [`RedisSource`](crate::RedisSource).
#[derive(Debug, Clone)]
pub struct RedisOptions {
    pub(crate) ids: RedisIds,
    pub(crate) keys: RedisKeys,
    pub(crate) payload: RedisPayload,
    pub(crate) start: RedisStart,
    pub(crate) creates_stream: bool,
    pub(crate) consumer: Option<String>,
    pub(crate) min_idle: Duration,
    pub(crate) claim_every: Option<Duration>,
    pub(crate) consumers_expire: Duration,
    pub(crate) dead_letters: Option<String>,
    pub(crate) answer_max: Duration,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            ids: RedisIds::default(),
            keys: RedisKeys::None,
            payload: RedisPayload::default(),
            start: RedisStart::Beginning,
            creates_stream: false,
            consumer: None,
            min_idle: Duration::from_secs(30),
            claim_every: None,
            consumers_expire: Duration::from_secs(60 * 60),
            dead_letters: None,
            answer_max: Duration::from_secs(5),
        }
    }
}

impl RedisOptions {
    /// Creates options with the defaults, which stand at each setting.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets where ids come from: the field `id`.
    #[must_use]
    pub fn ids(self, ids: RedisIds) -> Self {
        Self { ids, ..self }
    }

    /// Sets which entries are kept in order, if the loop is asked to: [`RedisKeys::None`].
    #[must_use]
    pub fn keys(self, keys: RedisKeys) -> Self {
        Self { keys, ..self }
    }

    /// Sets what of an entry is the payload: the field `payload`.
    #[must_use]
    pub fn payload(self, payload: RedisPayload) -> Self {
        Self { payload, ..self }
    }

    /// Sets where the group begins if it is created: [`RedisStart::Beginning`].
    #[must_use]
    pub fn start(self, start: RedisStart) -> Self {
        Self { start, ..self }
    }

    /// Sets whether the stream is created, empty, if it is not there (`MKSTREAM`): no. Without it a mistyped key is an
    /// error, and no empty stream that nobody adds to.
    #[must_use]
    pub fn create_stream(self, creates_stream: bool) -> Self {
        Self { creates_stream, ..self }
    }

    /// Names this consumer of the group: otherwise it is given a name that no other has. With a name, what the process had
    /// when it died is delivered at once when it starts again, and not only after [`min_idle`](Self::min_idle). **Only one
    /// process at a time may have a name**: a second one would be given what the first is working on.
    #[must_use]
    pub fn consumer(self, name: impl Into<String>) -> Self {
        Self { consumer: Some(name.into()), ..self }
    }

    /// Sets for how long nothing must have been heard of an entry before another consumer takes it: 30 seconds, and at
    /// least 10 milliseconds. The loop is heard of each third of it, so it need not cover the longest work. Retries with a
    /// delay up to this one are kept by the server; see the [crate's first page](crate). All consumers of a group should
    /// have the same.
    #[must_use]
    pub fn min_idle(self, min_idle: Duration) -> Self {
        Self { min_idle: min_idle.max(Duration::from_millis(10)), ..self }
    }

    /// Sets how often the pending list is searched for what others have left: four times in [`min_idle`](Self::min_idle). A
    /// search walks through the whole list.
    #[must_use]
    pub fn claim_every(self, every: Duration) -> Self {
        Self { claim_every: Some(every), ..self }
    }

    /// Sets after how long a consumer is removed from the group that was given its name here, has nothing pending, and was
    /// not heard of: an hour.
    #[must_use]
    pub fn expire_consumers(self, after: Duration) -> Self {
        Self { consumers_expire: after, ..self }
    }

    /// Sets the stream that dead letters are added to; it is created with the first. Without one they are only
    /// acknowledged: they stay where the stream keeps them, and in the ledger.
    ///
    /// A dead letter has the fields of its entry, and `firstseen-reason`, `firstseen-stream`, `firstseen-group`,
    /// `firstseen-entry` (its id in the stream) and `firstseen-id` (its message id). It is added once, in the step that
    /// acknowledges the entry; see the [crate's first page](crate) for clusters.
    #[must_use]
    pub fn dead_letters(self, stream: impl Into<String>) -> Self {
        Self { dead_letters: Some(stream.into()), ..self }
    }

    /// Sets how long the server may take for an answer, and for a connection: 5 seconds. After that the connection is made
    /// anew.
    #[must_use]
    pub fn answer_max(self, answer_max: Duration) -> Self {
        Self { answer_max, ..self }
    }

    pub(crate) fn claim_pause(&self) -> Duration {
        self.claim_every.unwrap_or(self.min_idle / 4)
    }
}

/// Where the id of a message comes from.
#[derive(Clone)]
#[non_exhaustive]
pub enum RedisIds {
    /// A field that the producer sets. It is the same when the producer adds the entry twice. An entry without it has no id,
    /// and ends among the dead letters.
    Field(String),
    /// The entry's id, with the stream's key and a mark that tells the stream from one that had its key before. For
    /// producers that set no id: redeliveries are recognised, and an event that is added twice is two.
    ///
    /// The mark is a consumer group that nobody reads from, named `firstseen-stream-...`: Redis does not tell when a stream
    /// was made, and ids that producers choose begin again with it. Do not remove that group: all entries that are still
    /// there would have other ids. It costs one call for each batch.
    Entry,
    /// A function of the entry. See also `firstseen_consumer::Ids::of`.
    Of(Arc<Read>),
}

impl RedisIds {
    /// Takes ids from a function of the entry. `None`: it has none.
    pub fn of(read: impl Fn(&RedisEntry) -> Option<Bytes> + Send + Sync + 'static) -> Self {
        Self::Of(Arc::new(read))
    }
}

impl Default for RedisIds {
    fn default() -> Self {
        Self::Field("id".to_owned())
    }
}

/// Which entries are kept in order.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum RedisKeys {
    /// None.
    #[default]
    None,
    /// Those that have the same in this field.
    Field(String),
    /// Those of which this function says the same; `None`: none.
    Of(Arc<Read>),
}

impl RedisKeys {
    /// Takes keys from a function of the entry. `None`: it has none.
    pub fn of(read: impl Fn(&RedisEntry) -> Option<Bytes> + Send + Sync + 'static) -> Self {
        Self::Of(Arc::new(read))
    }
}

/// What of an entry is the payload.
#[derive(Clone)]
#[non_exhaustive]
pub enum RedisPayload {
    /// This field. An entry without it is given no id either, so that it ends among the dead letters.
    Field(String),
    /// All fields and values, which [`read_fields`](crate::read_fields) reads from the payload.
    Entry,
    /// A function of the entry. `None`: as an entry without the field.
    Of(Arc<Read>),
}

impl RedisPayload {
    /// Takes payloads from a function of the entry.
    pub fn of(read: impl Fn(&RedisEntry) -> Option<Bytes> + Send + Sync + 'static) -> Self {
        Self::Of(Arc::new(read))
    }
}

impl Default for RedisPayload {
    fn default() -> Self {
        Self::Field("payload".to_owned())
    }
}

/// Where a group begins that is created. One that is there goes on where it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RedisStart {
    /// With the first entry that the stream has.
    #[default]
    Beginning,
    /// With the next one that is added.
    End,
    /// With the first after this one.
    After(EntryId),
}

/// Reads something from an entry.
pub type Read = dyn Fn(&RedisEntry) -> Option<Bytes> + Send + Sync;

impl fmt::Debug for RedisIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, "Field({name:?})"),
            Self::Entry => f.write_str("Entry"),
            Self::Of(_) => f.write_str("Of(..)"),
        }
    }
}

impl fmt::Debug for RedisKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Field(name) => write!(f, "Field({name:?})"),
            Self::Of(_) => f.write_str("Of(..)"),
        }
    }
}

impl fmt::Debug for RedisPayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, "Field({name:?})"),
            Self::Entry => f.write_str("Entry"),
            Self::Of(_) => f.write_str("Of(..)"),
        }
    }
}
