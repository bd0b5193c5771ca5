//! The settings of a loop.

use crate::source::Message;
use bytes::Bytes;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The settings of a [`Consumer`](crate::Consumer). How often work is tried, with which pauses and leases, is the
/// ledger's to say: `firstseen::ledger::LedgerOptions`.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "settings, each apart from the others")]
pub struct ConsumerOptions {
    pub(crate) workers: u32,
    pub(crate) in_flight_max: usize,
    pub(crate) bytes_max: usize,
    pub(crate) is_ordered: bool,
    pub(crate) ids: Ids,
    pub(crate) keeps_payload: bool,
    pub(crate) checks_payload: bool,
    pub(crate) syncs: bool,
    pub(crate) busy_delay: Duration,
    pub(crate) held_delay: Duration,
    pub(crate) work_max: Duration,
    pub(crate) grace: Duration,
    pub(crate) answer_max: Duration,
    pub(crate) poll: Duration,
    pub(crate) lag_every: Duration,
    pub(crate) worker: String,
}

impl Default for ConsumerOptions {
    fn default() -> Self {
        Self {
            workers: 32,
            in_flight_max: 256,
            bytes_max: 64 << 20,
            is_ordered: false,
            ids: Ids::Broker,
            keeps_payload: true,
            checks_payload: false,
            syncs: true,
            busy_delay: Duration::from_secs(1),
            held_delay: Duration::from_secs(60),
            work_max: Duration::from_secs(15 * 60),
            grace: Duration::from_secs(30),
            answer_max: Duration::from_secs(10),
            poll: Duration::from_millis(500),
            lag_every: Duration::from_secs(5),
            worker: String::new(),
        }
    }
}

impl ConsumerOptions {
    /// Creates options with the defaults, which stand at each setting.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how many handlers run at the same time: 32. A message whose last attempt ended with its process runs alone.
    #[must_use]
    pub fn workers(self, workers: usize) -> Self {
        Self { workers: workers.clamp(1, u32::MAX as usize >> 3) as u32, ..self }
    }

    /// Sets how many deliveries may be in flight, from the broker to the acknowledgement: 256. No more are asked for
    /// before a quarter of the places is free. In [order](Self::ordered), those that wait for a retry or an operator keep
    /// their places, and so do those of their keys that are behind them; otherwise they go back to the broker.
    #[must_use]
    pub fn in_flight_max(self, deliveries: usize) -> Self {
        Self { in_flight_max: deliveries.max(1), ..self }
    }

    /// Sets how many bytes of payloads may be in flight: 64 MiB. One payload that is larger comes alone.
    #[must_use]
    pub fn bytes_max(self, bytes: usize) -> Self {
        Self { bytes_max: bytes.max(1), ..self }
    }

    /// Sets that messages of one key are handled one after the other, in the order of delivery: no. One that fails is
    /// tried again where it is, and those of its key wait for it; messages without a key wait for nobody.
    ///
    /// All that wait so are in flight. When they leave less than a quarter of [`in_flight_max`](Self::in_flight_max) or
    /// [`bytes_max`](Self::bytes_max) free, the other keys stand still, too, until some are done or dead: one message
    /// that is held for an operator, or whose backoff is an hour, can do that with those behind it. They are not given back,
    /// since no broker promises to deliver them again in order. [`Counters::stalled`](crate::Counters::stalled) tells of it.
    ///
    /// The order is that of the deliveries of one run. After a crash, a broker that delivers again by time may deliver
    /// an older message after a newer one; if that matters, have it deliver one message of a key at a time, or compare
    /// versions in the handler.
    #[must_use]
    pub fn ordered(self, is_ordered: bool) -> Self {
        Self { is_ordered, ..self }
    }

    /// Sets where ids come from: [`Ids::Broker`].
    #[must_use]
    pub fn ids(self, ids: Ids) -> Self {
        Self { ids, ..self }
    }

    /// Sets whether the ledger keeps the payload until the work is done: yes, so that a dead letter can be done again from
    /// the ledger alone. It costs as many bytes of log. Payloads above
    /// [`LEDGER_VALUE_BYTES_MAX`](firstseen::limits::LEDGER_VALUE_BYTES_MAX) are not kept.
    #[must_use]
    pub fn keep_payload(self, keeps_payload: bool) -> Self {
        Self { keeps_payload, ..self }
    }

    /// Sets whether a second message with an id must have the payload of the first: no. If it must and has another, it
    /// is a dead letter and not taken for a duplicate.
    #[must_use]
    pub fn check_payload(self, checks_payload: bool) -> Self {
        Self { checks_payload, ..self }
    }

    /// Sets whether the store is synced before anything is acknowledged: yes. One sync serves all that wait for it.
    /// Without it, a power cut may lose what was acknowledged and done, so that a second message of the producer with
    /// the same id is done again; a process that is killed loses nothing.
    #[must_use]
    pub fn sync(self, syncs: bool) -> Self {
        Self { syncs, ..self }
    }

    /// Sets after how long a message comes again whose id somebody else works on: a second. Of a store that does not
    /// answer in time, too.
    #[must_use]
    pub fn busy_delay(self, delay: Duration) -> Self {
        Self { busy_delay: delay, ..self }
    }

    /// Sets after how long a message comes again that is held for an operator, or that a newer version of the program
    /// has begun: a minute.
    #[must_use]
    pub fn held_delay(self, delay: Duration) -> Self {
        Self { held_delay: delay, ..self }
    }

    /// Sets how long a handler may take: 15 minutes. One that takes longer is dropped, and has failed.
    #[must_use]
    pub fn work_max(self, work_max: Duration) -> Self {
        Self { work_max, ..self }
    }

    /// Sets how long a stop waits for handlers that run: 30 seconds. After that they are dropped, and have failed.
    #[must_use]
    pub fn grace(self, grace: Duration) -> Self {
        Self { grace, ..self }
    }

    /// Sets how long the broker may take for an answer: 10 seconds. An acknowledgement that takes longer counts as lost.
    #[must_use]
    pub fn answer_max(self, answer_max: Duration) -> Self {
        Self { answer_max, ..self }
    }

    /// Sets how long one call of [`Source::next`](crate::Source::next) waits: half a second.
    #[must_use]
    pub fn poll(self, poll: Duration) -> Self {
        Self { poll, ..self }
    }

    /// Sets how often the lag is asked for: every 5 seconds.
    #[must_use]
    pub fn lag_every(self, lag_every: Duration) -> Self {
        Self { lag_every, ..self }
    }

    /// Names this worker in the records of the ledger.
    #[must_use]
    pub fn worker(self, worker: impl Into<String>) -> Self {
        Self { worker: worker.into(), ..self }
    }
}

/// Where the id of a message comes from. A message without one is a dead letter: nothing is made up, since an id that
/// changes from delivery to delivery deduplicates nothing, and one that two messages share loses the second.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum Ids {
    /// The broker's id of the message, as its adapter documents it.
    #[default]
    Broker,
    /// The user's function.
    Of(Arc<IdOf>),
}

type IdOf = dyn Fn(&Message) -> Option<Bytes> + Send + Sync;

impl Ids {
    /// Takes ids from a function, such as one that reads the number of an order. `None`: the message has none. It must
    /// say the same at every delivery, and something else for every other message.
    pub fn of<I: Into<Bytes>>(id: impl Fn(&Message) -> Option<I> + Send + Sync + 'static) -> Self {
        Self::Of(Arc::new(move |message| id(message).map(Into::into)))
    }

    pub(crate) fn get(&self, message: &Message) -> Option<Bytes> {
        match self {
            Self::Broker => message.id.clone(),
            Self::Of(id) => id(message),
        }
    }
}

impl fmt::Debug for Ids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Broker => "Broker",
            Self::Of(_) => "Of(..)",
        })
    }
}
