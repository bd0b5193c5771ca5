//! A thread that waits for what otherwise wakes a future.

use super::{Arc, Condvar, Mutex};
use std::task::Wake;
use std::time::Instant;

/// What a thread waits at. Woken before it waits, it does not wait.
#[derive(Debug, Default)]
pub(crate) struct Sleeper {
    is_woken: Mutex<bool>,
    woken: Condvar,
}

impl Sleeper {
    /// Waits until it is woken, and not past `until`.
    pub(crate) fn wait_until(&self, until: Instant) {
        let mut is_woken = self.is_woken.lock();
        while !*is_woken {
            if self.woken.wait_until(&mut is_woken, until).timed_out() {
                break;
            }
        }
        *is_woken = false;
    }
}

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        *self.is_woken.lock() = true;
        self.woken.notify_all();
    }
}
