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

/// An end that is under way. It is over when this is dropped, whatever has come of it, a panic included.
pub(in crate::engine) struct UnderWay<'a, F: Fn()> {
    ending: &'a Ending,
    admit: F,
}

impl Ending {
    /// Begins an end, before anybody is refused. The caller keeps others from beginning one. `admit` ends the refusals.
    pub(in crate::engine) fn begin<F: Fn()>(&self, admit: F) -> UnderWay<'_, F> {
        *self.is_under_way.lock() = true;
        UnderWay { ending: self, admit }
    }

    pub(in crate::engine) fn is_under_way(&self) -> bool {
        *self.is_under_way.lock()
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

impl<F: Fn()> Drop for UnderWay<'_, F> {
    fn drop(&mut self) {
        (self.admit)();
        *self.ending.is_under_way.lock() = false;
        self.ending.over.notify_all();
    }
}
