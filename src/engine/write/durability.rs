//! Durability: what an answer guarantees once it is returned (I6).

use crate::engine::core::{Core, Durability};
use crate::error::Result;
use crate::wal::Lsn;

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

/// Waits until the record that an answer depends on is as durable as asked; returns at once if there is none.
#[inline]
pub(in crate::engine) fn await_durable(
    core: &Core,
    level: Durability,
    rests_on: Option<RestsOn>,
) -> Result<()> {
    let Some(RestsOn { lsn, appended }) = rests_on else { return Ok(()) };
    match level {
        Durability::Buffered => Ok(()),
        // A record of this call was written out on append; another caller's may still be buffered.
        Durability::Process if appended || core.log.is_mapped() => Ok(()),
        Durability::Process => core.log.flush(),
        Durability::Disk => core.log.sync_for_caller(lsn),
    }
}

/// Raises everything before this call to [`Durability::Disk`].
pub(in crate::engine) fn sync(core: &Core) -> Result<()> {
    await_durable(core, Durability::Disk, Some(sync_point(core)?))
}

/// Returns the end of what is before this call.
pub(in crate::engine) fn sync_point(core: &Core) -> Result<RestsOn> {
    core.health.check()?;
    core.check_folder_now()?;
    Ok(RestsOn::others(core.log.end()))
}
