//! Versions of the log's format.

/// The version that this release writes. A segment is not rewritten when a later release opens it: its version tells
/// how to read its records, until compaction removes it.
pub(crate) const VERSION: u16 = 2;
/// The oldest version that it reads.
pub(super) const OLDEST: u16 = 2;
/// The version after that, which exists in tests only: they upgrade stores to it.
#[cfg(any(test, feature = "testing"))]
pub(crate) const NEXT: u16 = VERSION + 1;
#[cfg(any(test, feature = "testing"))]
pub(super) const NEWEST: u16 = NEXT;
#[cfg(not(any(test, feature = "testing")))]
pub(super) const NEWEST: u16 = VERSION;
