//! Values of a table, and their versions.

use crate::engine::Expect;
use crate::time::Timestamp;

/// A live value of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<V> {
    /// The value.
    pub value: V,
    /// The version that its write gave it.
    pub version: Version,
    /// When it ends; [`Timestamp::NEVER`] if it does not.
    pub ends: Timestamp,
}

/// Which write a value is of. Versions only grow, over all keys of a store, over restarts and repairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub(crate) u64);

impl Version {
    /// Returns the version as a number.
    pub fn as_u64(self) -> u64 {
        self.0
    }

    /// Returns the version of this number, such as one that was handed to a client.
    pub fn from_u64(number: u64) -> Self {
        Self(number)
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

pub(crate) fn expectation(version: Option<Version>) -> Expect {
    version.map_or(Expect::Absent, |version| Expect::Sequence(version.0))
}

/// Returns the value in the bytes that a write of this process stores.
pub(crate) fn without_format(stored: &[u8]) -> Vec<u8> {
    stored.get(1..).unwrap_or_default().to_vec()
}
