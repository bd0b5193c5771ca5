//! Durability: what an answer promises when it is heard (I6).

use crate::engine::Engine;
use crate::error::Result;
use crate::wal::{AppendLevel, Lsn};

/// What survives what, once an answer was heard. Holds for `Duplicate` as well as for `FirstSeen`: the
/// claim that made it a duplicate is as safe as the caller asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize)]
pub enum Durability {
    /// Up to a flush interval of claims may be lost when the process dies.
    Buffered,
    /// Nothing is lost when the process is killed. A power cut may lose what no sync had covered.
    #[default]
    Process,
    /// Nothing is lost when the power goes. One shared `fdatasync` serves all callers that wait.
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

/// The record that an answer rests on: durable once the log is, up to here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RestsOn {
    pub(crate) lsn: Lsn,
    /// Whether this call appended it. One of somebody else may be there at a lower level only.
    pub(crate) appended: bool,
}

impl RestsOn {
    /// A record that somebody else has appended.
    pub(crate) fn others(lsn: Lsn) -> Self {
        Self { lsn, appended: false }
    }

    /// A record of this call.
    pub(crate) fn own(lsn: Lsn) -> Self {
        Self { lsn, appended: true }
    }
}

impl Engine {
    /// Returns when the record that an answer rests on is as durable as asked; at once if there is none.
    #[inline]
    pub(crate) fn await_durable(&self, level: Durability, rests_on: Option<RestsOn>) -> Result<()> {
        let Some(RestsOn { lsn, appended }) = rests_on else { return Ok(()) };
        match level {
            Durability::Buffered => Ok(()),
            // A record of this call went out with its append; one of somebody else may be in the buffer.
            Durability::Process if appended || self.log.is_mapped() => Ok(()),
            Durability::Process => self.log.flush(),
            Durability::Disk => self.log.sync_for_caller(lsn),
        }
    }

    /// Lifts everything before this call to [`Durability::Disk`].
    pub(crate) fn sync(&self) -> Result<()> {
        self.health.check()?;
        self.check_folder_now()?;
        self.log.sync_for_caller(self.log.end())
    }
}
