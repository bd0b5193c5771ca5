//! Whether a replay scope is about to end, and the wait until it has.

use crate::sync::{Condvar, Mutex};
use std::time::Instant;

/// Commits on what a scope leaves behind are refused from before its end is written until handles lead elsewhere. Those
/// who were refused may wait until that is over.
#[derive(Debug, Default)]
pub(in crate::engine) struct Ending {
    is_under_way: Mutex<bool>,
    over: Condvar,
}

/// An end that is under way. It is over when this is dropped, whatever has come of it.
pub(in crate::engine) struct UnderWay<'a>(&'a Ending);

impl Ending {
    /// Begins an end, before anybody is refused. The caller keeps others from beginning one.
    pub(in crate::engine) fn begin(&self) -> UnderWay<'_> {
        *self.is_under_way.lock() = true;
        UnderWay(self)
    }

    /// Waits until none is under way, for so long at most (I12). Returns whether none is.
    pub(in crate::engine) fn wait(&self, until: Instant) -> bool {
        let mut is_under_way = self.is_under_way.lock();
        while *is_under_way {
            if self.over.wait_until(&mut is_under_way, until).timed_out() {
                return !*is_under_way;
            }
        }
        true
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        *self.0.is_under_way.lock() = false;
        self.0.over.notify_all();
    }
}
