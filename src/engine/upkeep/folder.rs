//! Whether the folder of the store still exists and takes writes. A mapped log does not notice by itself: copying into
//! memory keeps working when nothing can reach a disk any more.

use crate::engine::core::Core;
use crate::error::Result;
use crate::sync::{AtomicU64, Ordering};
use std::io::ErrorKind;

/// How often the background work checks.
const PAUSE_MS: u64 = 1000;

/// When the folder was last checked.
#[derive(Debug, Default)]
pub(super) struct FolderCheck {
    /// In the clock's elapsed time.
    at_ms: AtomicU64,
    /// Where the log ended when the disk was last touched.
    end: AtomicU64,
}

impl FolderCheck {
    /// Checks once a second, for the background work, and touches the disk if the log has grown since. An idle store
    /// writes nothing.
    pub(super) fn check_folder(&self, core: &Core) -> Result<()> {
        let now = core.settings.clock.elapsed_ms();
        let before = self.at_ms.load(Ordering::Relaxed);
        if before != 0 && now.saturating_sub(before) < PAUSE_MS {
            return Ok(());
        }
        self.at_ms.store(now.max(1), Ordering::Relaxed);
        core.check_folder_now()?;
        let end = core.log.end().0;
        if self.end.load(Ordering::Relaxed) == end {
            return Ok(());
        }
        self.end.store(end, Ordering::Relaxed);
        match core.lock.lock().as_ref().map(|lock| lock.touch()) {
            Some(Err(e)) if is_for_good(&e) => {
                Err(core.stop_on_folder(format!("its file system is read-only or gone: {e}")))
            }
            _ => Ok(()),
        }
    }
}

/// Returns whether the error is permanent. A full disk, too few descriptors or missing permissions may pass, or say
/// nothing about the log.
fn is_for_good(error: &std::io::Error) -> bool {
    const IO: i32 = rustix::io::Errno::IO.raw_os_error();
    const NO_DEVICE: i32 = rustix::io::Errno::NODEV.raw_os_error();
    matches!(
        error.kind(),
        ErrorKind::ReadOnlyFilesystem | ErrorKind::StaleNetworkFileHandle | ErrorKind::NotFound
    ) || matches!(error.raw_os_error(), Some(IO | NO_DEVICE))
}
