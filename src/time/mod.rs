//! Time: what a moment and a lifetime are, and the seam through which the engine is told the time.

mod keeper;
mod manual;
mod system;
mod ttl;

pub(crate) use keeper::{TimeKeeper, TimeMark};
pub use manual::ManualClock;
pub use system::SystemClock;
pub use ttl::{Ttl, days, hours, minutes, seconds};

/// A moment, in milliseconds since the Unix epoch (UTC).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The moment that never comes: the deadline of a claim without a ttl.
    pub const NEVER: Self = Self(u64::MAX);

    /// From milliseconds since the Unix epoch.
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }
}

/// What the engine's clock says at one moment (I5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    /// The engine's time.
    pub(crate) now: Timestamp,
    /// The latest time that may be right: that of a wall clock that is held back, or else `now`. Deadlines
    /// count from here, so that a claim lives its whole ttl whichever of the two it turns out to be.
    pub(crate) latest: Timestamp,
}

/// Where the engine reads the time (I5). Give your own to own time in a test; see [`ManualClock`].
///
/// The engine clamps what it hears: its own time never runs backwards, and a wall clock that jumps
/// forward further than the time that passed by `elapsed` allows is not believed at once.
pub trait Clock: std::fmt::Debug + Send + Sync {
    /// The wall clock, in milliseconds since the Unix epoch.
    fn wall(&self) -> Timestamp;

    /// A clock that only ever moves forward, also while the machine sleeps, in milliseconds since some
    /// fixed moment of this boot.
    fn elapsed_ms(&self) -> u64;

    /// Names the boot to which `elapsed_ms` belongs: values of different boots cannot be compared.
    fn boot_id(&self) -> u128;
}
