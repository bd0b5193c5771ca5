//! How durable an answer is.

use crate::wal::AppendLevel;

/// What survives what, once a call has returned. Applies to `Duplicate` as well as to `FirstSeen`: the claim that made
/// it a duplicate is as safe as the caller asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize)]
pub enum Durability {
    /// Up to one flush interval of claims may be lost when the process dies.
    Buffered,
    /// Nothing is lost when the process is killed. A power cut may lose what was not synced yet.
    #[default]
    Process,
    /// Nothing is lost in a power cut. One shared `fdatasync` serves all waiting callers.
    Disk,
}

impl Durability {
    pub(crate) fn append_level(self) -> AppendLevel {
        match self {
            Self::Buffered => AppendLevel::Buffered,
            Self::Process => AppendLevel::Process,
            Self::Disk => AppendLevel::Disk,
        }
    }
}
