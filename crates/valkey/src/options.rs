//! The settings of a store.

use std::time::Duration;

/// Ids of one call of a script: the server does nothing else while it runs.
const CALL_IDS_MAX: usize = 256;

/// What an answer rests on. The server's own settings come on top: see the [table](crate#when-a-server-dies).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Durability {
    /// The server has done it, and keeps it as it is set up to.
    #[default]
    Server,
    /// So many replicas have it, too, in memory (`WAIT`). Calls of one connection then wait for each other: see
    /// [`connections`](ValkeyOptions::connections).
    Replicas(u32),
    /// It is on the server's disk, and on those of so many replicas (`WAITAOF`). Needs `appendonly yes`, and Redis 7.2 or
    /// Valkey. Each call of a connection waits for a sync of its own, up to a second with `everysec`; so take more
    /// [`connections`](ValkeyOptions::connections). Without replicas, a server with `appendfsync always` gives the same at
    /// [`Server`](Self::Server), and many calls share its syncs.
    Disk {
        /// How many replicas; may be zero.
        replicas: u32,
    },
}

/// The settings of a [`ValkeyStore`](crate::ValkeyStore).
#[derive(Debug, Clone)]
pub struct ValkeyOptions {
    pub(crate) prefix: String,
    pub(crate) answer_max: Duration,
    pub(crate) wait_max: Duration,
    pub(crate) result_bytes_max: usize,
    pub(crate) connections: usize,
    pub(crate) durability: Durability,
    pub(crate) accepts_eviction: bool,
    pub(crate) ids_per_call: usize,
    pub(crate) clock: crate::clock::Clock,
}

impl Default for ValkeyOptions {
    fn default() -> Self {
        Self {
            prefix: "fs".to_owned(),
            answer_max: Duration::from_secs(5),
            wait_max: Duration::from_secs(1),
            result_bytes_max: 1 << 20,
            connections: 1,
            durability: Durability::Server,
            accepts_eviction: false,
            ids_per_call: CALL_IDS_MAX,
            clock: crate::clock::Clock::default(),
        }
    }
}

impl ValkeyOptions {
    /// Creates options with the defaults, which each setting names.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets what the names of all keys begin with: `fs`. Stores with different prefixes know nothing of each other. One to 64
    /// letters, digits, `-`, `_` and `.`.
    #[must_use]
    pub fn prefix(self, prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), ..self }
    }

    /// Sets after how long a call that has no answer is an error of kind [`Unavailable`](crate::ErrorKind::Unavailable),
    /// connecting again included: 5 seconds. A batch has this time for each 16,384 of its ids.
    #[must_use]
    pub fn answer_max(self, answer_max: Duration) -> Self {
        Self { answer_max, ..self }
    }

    /// Sets what an answer rests on: [`Durability::Server`].
    #[must_use]
    pub fn durability(self, durability: Durability) -> Self {
        Self { durability, ..self }
    }

    /// Sets how long the server may wait for replicas and disks: one second. It is at most half of
    /// [`answer_max`](Self::answer_max). If too few have confirmed by then, the call is an error of kind
    /// [`Unavailable`](crate::ErrorKind::Unavailable), although the server has done it: repeat it with the same
    /// [`Call`](crate::Call).
    #[must_use]
    pub fn wait_max(self, wait_max: Duration) -> Self {
        Self { wait_max, ..self }
    }

    /// Sets the longest result in bytes: 1 MiB. At most 64 MiB.
    #[must_use]
    pub fn result_bytes_max(self, result_bytes_max: usize) -> Self {
        Self { result_bytes_max, ..self }
    }

    /// Sets how many connections take turns: one, which carries any number of calls at the same time. More are of use where
    /// an answer waits for replicas or disks, because the server does nothing else for a connection meanwhile. At most 64.
    #[must_use]
    pub fn connections(self, connections: usize) -> Self {
        Self { connections, ..self }
    }

    /// Sets that a server may be used although it removes keys when its memory is full (a `maxmemory-policy` other than
    /// `noeviction`, or one that cannot be seen). An id whose claim it removes is first again.
    #[must_use]
    pub fn accept_eviction(self) -> Self {
        Self { accepts_eviction: true, ..self }
    }

    /// Sets how many ids one call of a script claims, to measure that.
    #[cfg(feature = "testing")]
    #[doc(hidden)]
    #[must_use]
    pub fn ids_per_call(self, ids_per_call: usize) -> Self {
        Self { ids_per_call, ..self }
    }

    /// Sets the clock of a test.
    #[cfg(feature = "testing")]
    #[doc(hidden)]
    #[must_use]
    pub fn clock(self, clock: crate::clock::Clock) -> Self {
        Self { clock, ..self }
    }
}
