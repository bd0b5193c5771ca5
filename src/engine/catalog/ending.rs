//! Whether a replay scope is about to end, and who waits until it has.

use crate::sync::{Arc, Mutex, Sleeper, WakerEntry, Wakers, instant_in};
use std::task::Waker;
use std::time::{Duration, Instant};

/// Commits on what a scope leaves behind are refused from before its end is written until handles lead elsewhere. Those
/// who were refused may wait until that is over.
#[derive(Debug, Default)]
pub(in crate::engine) struct Ending {
    is_under_way: Mutex<bool>,
    waiting: Wakers<()>,
}

/// An end that is under way. It is over when this is dropped, whatever has come of it, a panic included.
pub(in crate::engine) struct UnderWay<'a, F: Fn()> {
    ending: &'a Ending,
    admit: F,
}

/// Wakes who waits when it is dropped.
pub(in crate::engine) struct Wakes<'a>(&'a Ending);

impl Ending {
    /// Begins an end, before anybody is refused. The caller keeps others from beginning one. `admit` ends the refusals.
    pub(in crate::engine) fn begin<F: Fn()>(&self, admit: F) -> UnderWay<'_, F> {
        *self.is_under_way.lock() = true;
        UnderWay { ending: self, admit }
    }

    /// Wakes who waits once this is dropped, which must be after the end is over and with no lock held: a waker may be
    /// code of the user (I9).
    pub(in crate::engine) fn wakes(&self) -> Wakes<'_> {
        Wakes(self)
    }

    pub(in crate::engine) fn is_under_way(&self) -> bool {
        *self.is_under_way.lock()
    }

    /// Returns an entry for a waker: enter it, then look.
    pub(in crate::engine) fn place(&self) -> WakerEntry<'_, ()> {
        self.waiting.place(())
    }

    /// Waits until none is under way, for so long at most (I12). Returns whether none is. Blocks the thread.
    pub(in crate::engine) fn wait(&self, until: Instant) -> bool {
        let sleeper = Arc::new(Sleeper::default());
        let (place, waker) = (self.place(), Waker::from(Arc::clone(&sleeper)));
        loop {
            place.enter(&waker);
            if !self.is_under_way() {
                return true;
            }
            if until <= instant_in(Duration::ZERO) {
                return false;
            }
            sleeper.wait_until(until);
        }
    }
}

impl<F: Fn()> Drop for UnderWay<'_, F> {
    fn drop(&mut self) {
        (self.admit)();
        *self.ending.is_under_way.lock() = false;
    }
}

impl Drop for Wakes<'_> {
    fn drop(&mut self) {
        self.0.waiting.wake_all();
    }
}
