//! Fail-stop (I7): after a failed log write or sync nothing is acknowledged until the store is reopened.

use crate::error::{Error, Result};
use crate::sync::{AtomicBool, HomeProcess, Mutex, Ordering};

/// One sticky flag for the whole store. Every append and every claim checks it, so no call site can forget to. It
/// also tells whether this process opened the store: a forked child must not touch it.
#[derive(Debug, Default)]
pub(crate) struct Health {
    stopped: AtomicBool,
    why: Mutex<Option<String>>,
    home: HomeProcess,
}

impl Health {
    /// Fails if the store has stopped or this is a forked child. Two loads on the path of every claim.
    #[inline]
    pub(crate) fn check(&self) -> Result<()> {
        let is_well = self.home.is_here() && !self.stopped.load(Ordering::Acquire);
        if is_well { Ok(()) } else { Err(self.error()) }
    }

    /// Returns whether this process opened the store. A forked child must not use any part of it, not even a lock: a
    /// thread that does not exist in the child may hold it.
    #[inline]
    pub(crate) fn is_home(&self) -> bool {
        self.home.is_here()
    }

    /// Stops the store for good. Keeps the first reason: later ones are its consequences.
    pub(crate) fn stop(&self, why: impl Into<String>) {
        let why = why.into();
        tracing::error!(why, "the store stops acknowledging");
        self.why.lock().get_or_insert(why);
        self.stopped.store(true, Ordering::Release);
    }

    /// Stops the store without a reason, so that later calls report "closed".
    pub(crate) fn close(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    #[cold]
    fn error(&self) -> Error {
        if !self.is_home() {
            return Error::Forked;
        }
        match &*self.why.lock() {
            Some(why) => Error::Stopped { why: why.clone() },
            None => Error::Closed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i7_the_first_reason_sticks() {
        let health = Health::default();
        assert!(health.check().is_ok());
        health.stop("sync failed");
        health.stop("then this");
        assert!(matches!(health.check(), Err(Error::Stopped { why }) if why == "sync failed"));
    }

    #[test]
    fn closed_is_told_apart_from_failed() {
        let health = Health::default();
        health.close();
        assert!(matches!(health.check(), Err(Error::Closed)));
    }
}
