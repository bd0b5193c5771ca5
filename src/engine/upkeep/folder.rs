//! Whether the folder of the store still exists and takes writes. A mapped log does not notice by itself: copying into
//! memory keeps working when nothing can reach a disk any more.

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::sync::{AtomicU64, Ordering};
use std::io::ErrorKind;

/// How often the background work checks.
const PAUSE_MS: u64 = 1000;

/// When the folder was last checked.
#[derive(Debug, Default)]
pub(in crate::engine) struct Looked {
    /// In the clock's elapsed time.
    at_ms: AtomicU64,
    /// Where the log ended when the disk was last touched.
    end: AtomicU64,
}

impl Engine {
    /// Checks once a second, for the background work, and touches the disk if the log has grown since. An idle store
    /// writes nothing.
    pub(in crate::engine) fn check_folder(&self) -> Result<()> {
        let now = self.settings.clock.elapsed_ms();
        let before = self.looked.at_ms.load(Ordering::Relaxed);
        if before != 0 && now.saturating_sub(before) < PAUSE_MS {
            return Ok(());
        }
        self.looked.at_ms.store(now.max(1), Ordering::Relaxed);
        self.check_folder_now()?;
        let end = self.log.end().0;
        if self.looked.end.load(Ordering::Relaxed) == end {
            return Ok(());
        }
        self.looked.end.store(end, Ordering::Relaxed);
        match self.lock.lock().as_ref().map(|lock| lock.touch()) {
            Some(Err(e)) if is_for_good(&e) => {
                Err(self.stop_on_folder(format!("its file system takes no more writes: {e}")))
            }
            _ => Ok(()),
        }
    }

    /// Stops the store if its folder or its lock file was removed or replaced.
    pub(in crate::engine) fn check_folder_now(&self) -> Result<()> {
        match self.lock.lock().as_ref().map(|lock| lock.check()) {
            Some(Err(e)) => {
                let dir = self.dir.display();
                let why = format!("{dir}, or LOCK in it, was removed or replaced ({e})");
                Err(self.stop_on_folder(why))
            }
            _ => Ok(()),
        }
    }

    fn stop_on_folder(&self, why: String) -> Error {
        self.health.stop(why.clone());
        self.wake_waiters();
        Error::Stopped { why }
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
