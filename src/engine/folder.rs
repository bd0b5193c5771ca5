//! Whether the folder of the store is still there and takes writes. A mapped log does not notice by itself: copying into
//! memory goes on although nothing of it can reach a disk any more.

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::sync::{AtomicU64, Ordering};
use std::io::ErrorKind;

/// How often the background looks.
const PAUSE_MS: u64 = 1000;

/// When the folder was looked at last.
#[derive(Debug, Default)]
pub(super) struct Looked {
    /// On the clock's elapsed time.
    at_ms: AtomicU64,
    /// Where the log ended when the disk was touched.
    end: AtomicU64,
}

impl Engine {
    /// For the background: looks once a second, and touches the disk if something was claimed since. An idle store writes
    /// nothing.
    pub(super) fn check_folder(&self) -> Result<()> {
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

    /// Stops the store if its folder, or its lock, is not there any more.
    pub(super) fn check_folder_now(&self) -> Result<()> {
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

/// A full disk, a lack of descriptors or of permission pass, or say nothing about the log.
fn is_for_good(error: &std::io::Error) -> bool {
    const IO: i32 = rustix::io::Errno::IO.raw_os_error();
    const NO_DEVICE: i32 = rustix::io::Errno::NODEV.raw_os_error();
    matches!(
        error.kind(),
        ErrorKind::ReadOnlyFilesystem | ErrorKind::StaleNetworkFileHandle | ErrorKind::NotFound
    ) || matches!(error.raw_os_error(), Some(IO | NO_DEVICE))
}
