//! Durability: what an answer guarantees once it is returned (I6).

use crate::engine::Engine;
use crate::error::Result;
use crate::wal::{AppendLevel, Lsn};

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
            Self::Process | Self::Disk => AppendLevel::Process,
        }
    }
}

/// The record that an answer depends on: durable once the log is, up to here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RestsOn {
    pub(crate) lsn: Lsn,
    /// Whether this call appended it. Another caller's record may have been appended at a lower level.
    pub(crate) appended: bool,
}

impl RestsOn {
    /// Names a record appended by another call.
    pub(crate) fn others(lsn: Lsn) -> Self {
        Self { lsn, appended: false }
    }

    /// Names a record appended by this call.
    pub(crate) fn own(lsn: Lsn) -> Self {
        Self { lsn, appended: true }
    }
}

impl Engine {
    /// Waits until the record that an answer depends on is as durable as asked; returns at once if there is none.
    #[inline]
    pub(crate) fn await_durable(&self, level: Durability, rests_on: Option<RestsOn>) -> Result<()> {
        let Some(RestsOn { lsn, appended }) = rests_on else { return Ok(()) };
        match level {
            Durability::Buffered => Ok(()),
            // A record of this call was written out on append; another caller's may still be buffered.
            Durability::Process if appended || self.log.is_mapped() => Ok(()),
            Durability::Process => self.log.flush(),
            Durability::Disk => self.log.sync_for_caller(lsn),
        }
    }

    /// Raises everything before this call to [`Durability::Disk`].
    pub(crate) fn sync(&self) -> Result<()> {
        self.health.check()?;
        self.check_folder_now()?;
        self.log.sync_for_caller(self.log.end())
    }
}
