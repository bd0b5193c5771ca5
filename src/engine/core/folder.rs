//! Whether the folder of the store is still there.

use crate::engine::core::Core;
use crate::error::{Error, Result};

impl Core {
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

    pub(in crate::engine) fn stop_on_folder(&self, why: String) -> Error {
        self.health.stop(why.clone());
        self.wake_waiters();
        Error::Stopped { why }
    }
}
