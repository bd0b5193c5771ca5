//! Answers and options of a claim.

use crate::engine::{Answer, Durability, SeenVersion};
use crate::time::{Timestamp, Ttl};
use std::time::Duration;

/// The answer to a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[must_use = "whether the event is new is the point of asking"]
pub enum Claim {
    /// The id is seen for the first time, and the claim is this caller's.
    FirstSeen,
    /// The id was claimed before and its claim is live.
    Duplicate {
        /// When it was claimed.
        first_seen: Timestamp,
    },
}

impl Claim {
    /// Whether this is [`Claim::FirstSeen`].
    pub fn is_first_seen(self) -> bool {
        self == Self::FirstSeen
    }

    /// Whether this is [`Claim::Duplicate`].
    pub fn is_duplicate(self) -> bool {
        !self.is_first_seen()
    }
}

impl From<Answer> for Claim {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::FirstSeen => Self::FirstSeen,
            Answer::Duplicate { first_seen } => Self::Duplicate { first_seen },
        }
    }
}

/// A live claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Seen {
    /// When it was made.
    pub first_seen: Timestamp,
    /// When it ends: the id is a duplicate while the engine's time is before this. [`Timestamp::NEVER`]
    /// for a claim without ttl.
    pub deadline: Timestamp,
}

impl From<SeenVersion> for Seen {
    fn from(SeenVersion { first_seen, deadline }: SeenVersion) -> Self {
        Self { first_seen, deadline }
    }
}

/// Settings for one call: a claim, a reservation, or the end of a claim. What is not set is as in namespace and store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClaimOptions {
    pub(super) ttl: Option<Ttl>,
    pub(super) durability: Option<Durability>,
    pub(super) wait: Option<Duration>,
    pub(super) sliding: Option<bool>,
}

impl ClaimOptions {
    /// Nothing set.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long the claim lives, if it is a first.
    #[must_use]
    pub fn ttl(self, ttl: impl Into<Ttl>) -> Self {
        Self { ttl: Some(ttl.into()), ..self }
    }

    /// What the answer promises when it is heard.
    #[must_use]
    pub fn durability(self, durability: Durability) -> Self {
        Self { durability: Some(durability), ..self }
    }

    /// Whether the claim of a duplicate is moved to end a full ttl from now.
    #[must_use]
    pub fn sliding(self, sliding: bool) -> Self {
        Self { sliding: Some(sliding), ..self }
    }

    /// How long the call may wait for a reservation of somebody else or for room in memory, instead of the
    /// store's [`wait_max`](crate::Builder::wait_max). Then it ends with [`Retry`](crate::ErrorKind::Retry),
    /// or, if the wait was for memory and flushing has failed, with that error. Nothing was claimed. Zero means not to wait: for callers that must not block, such as async tasks.
    ///
    /// Reads and writes of files are no waits in this sense, and neither is the sync at
    /// [`Durability::Disk`]. Of a reservation, it is the wait of `reserve` itself and of each `confirm`.
    ///
    /// ```
    /// use firstseen::{ClaimOptions, ErrorKind, Reserve};
    /// use std::time::Duration;
    /// # let dir = tempfile::tempdir()?;
    /// # let store = firstseen::Store::open(dir.path().join("seen.db"))?;
    /// let held = store.reserve("evt-1")?;
    /// let now = ClaimOptions::new().wait(Duration::ZERO);
    /// let busy = store.claim_with("evt-1", now).unwrap_err();
    /// assert_eq!(busy.kind(), ErrorKind::Retry);
    /// # drop(held);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn wait(self, wait: Duration) -> Self {
        Self { wait: Some(wait), ..self }
    }
}
