//! Time: timestamps, lifetimes, and the interface through which the engine gets the time.

mod keeper;
mod manual;
mod system;
mod ttl;

pub(crate) use keeper::{TimeKeeper, TimeMark};
pub use manual::ManualClock;
pub use system::SystemClock;
pub use ttl::{Ttl, days, hours, minutes, seconds};

/// A point in time, in milliseconds since the Unix epoch (UTC).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The time that never comes: the deadline of a claim without a ttl.
    pub const NEVER: Self = Self(u64::MAX);

    /// Creates a timestamp from milliseconds since the Unix epoch.
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms)
    }

    /// Returns the milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }
}

/// A reading of the engine's clock (I5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    /// The engine's time.
    pub(crate) now: Timestamp,
    /// The latest time that may be right: that of a held wall clock, or else `now`. Deadlines count from here, so that
    /// a claim lives its whole ttl whichever of the two proves right.
    pub(crate) latest: Timestamp,
}

/// The engine's source of time (I5). Supply your own to control time in a test; see [`ManualClock`].
///
/// The engine clamps what it reads: its own time never runs backwards, and a wall clock that jumps further forward than
/// `elapsed` allows is not believed at once.
pub trait Clock: std::fmt::Debug + Send + Sync {
    /// Returns the wall clock, in milliseconds since the Unix epoch.
    fn wall(&self) -> Timestamp;

    /// Returns a clock that only moves forward, also while the machine sleeps, in milliseconds since some fixed point
    /// of this boot.
    fn elapsed_ms(&self) -> u64;

    /// Identifies the boot to which `elapsed_ms` belongs: values of different boots cannot be compared.
    fn boot_id(&self) -> u128;
}
