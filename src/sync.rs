//! Locks and padding come from here, so that one place decides which ones (and a schedule explorer can
//! take their place).

pub(crate) use crossbeam::utils::CachePadded;
pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};
pub(crate) use std::sync::Arc;
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A bell for a background thread: raised by anyone, heard once, with a deadline on the wait (I12).
#[derive(Debug, Default)]
pub(crate) struct Signal {
    raised: Mutex<bool>,
    heard: Condvar,
}

impl Signal {
    /// Wakes the thread that waits, or the next one to wait.
    pub(crate) fn raise(&self) {
        *self.raised.lock() = true;
        self.heard.notify_all();
    }

    /// Waits until raised, or until `timeout` is over. Lowers the signal.
    pub(crate) fn wait(&self, timeout: std::time::Duration) {
        let mut raised = self.raised.lock();
        if !*raised {
            self.heard.wait_for(&mut raised, timeout);
        }
        *raised = false;
    }
}
