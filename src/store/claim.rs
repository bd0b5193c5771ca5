//! The options of a claim.

use crate::engine::Durability;
use crate::time::Ttl;
use std::time::Duration;

/// Settings for one call: a claim, a reservation or a forget. Unset ones come from the namespace and then the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClaimOptions {
    pub(super) ttl: Option<Ttl>,
    pub(super) durability: Option<Durability>,
    pub(super) wait: Option<Duration>,
    pub(super) sliding: Option<bool>,
}

impl ClaimOptions {
    /// Creates options with nothing set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how long the claim lives if the id is first seen.
    #[must_use]
    pub fn ttl(self, ttl: impl Into<Ttl>) -> Self {
        Self { ttl: Some(ttl.into()), ..self }
    }

    /// Sets what the returned answer guarantees.
    #[must_use]
    pub fn durability(self, durability: Durability) -> Self {
        Self { durability: Some(durability), ..self }
    }

    /// Sets whether a duplicate moves the end of its claim to a full ttl from now.
    #[must_use]
    pub fn sliding(self, sliding: bool) -> Self {
        Self { sliding: Some(sliding), ..self }
    }

    /// Sets how long the call may wait for another caller's reservation or for memory, instead of the store's
    /// [`wait_max`](crate::Builder::wait_max). After that it fails with [`Retry`](crate::ErrorKind::Retry) or, if it
    /// waited for memory and flushing has failed, with that error. Nothing was claimed. Zero never waits.
    ///
    /// File reads and writes do not count as waits, and neither does the sync at [`Durability::Disk`]. For a
    /// reservation, this applies to `reserve` itself and to each `confirm`.
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
