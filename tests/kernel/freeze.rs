//! Holds up threads at any instruction for a while, as a busy machine does now and then: what stands between two
//! instructions for nanoseconds otherwise, and would be met by one kill of thousands, stands there for milliseconds.
//!
//! There is no safe way to handle a signal.
#![allow(unsafe_code)]

use crate::dice::Dice;
use crate::report::pause;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

const HELD_UP_NS: i64 = 2_000_000;

/// On average. With [`HELD_UP_NS`], about every second of eight threads is held up.
const EVERY_US: u64 = 500;

extern "C" fn hold_up(_: libc::c_int) {
    let time = libc::timespec { tv_sec: 0, tv_nsec: HELD_UP_NS };
    // SAFETY: a handler may call `nanosleep`; it reads `time`, and writes no rest. The signal is blocked meanwhile, so
    // that the sleep is not interrupted and leaves `errno` as it was.
    unsafe { libc::nanosleep(&raw const time, std::ptr::null_mut()) };
}

/// The threads that may be held up.
#[derive(Default)]
pub(crate) struct Threads(Mutex<Vec<libc::pthread_t>>);

impl Threads {
    /// Lets this thread be held up during `work`.
    pub(crate) fn with(&self, work: impl FnOnce()) {
        // SAFETY: it has no conditions.
        let own = unsafe { libc::pthread_self() };
        let list = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        list().push(own);
        work();
        list().retain(|other| *other != own);
    }

    /// Holds up one after the other until `stop`.
    pub(crate) fn hold_up(&self, mut dice: Dice, stop: &AtomicBool) {
        // SAFETY: all zeros are a valid `sigaction`, with an empty mask; the handler is a function of that type.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = hold_up as extern "C" fn(libc::c_int) as usize;
            action.sa_flags = libc::SA_RESTART;
            let set = libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut());
            assert_eq!(set, 0, "a handler");
        }
        while !stop.load(Ordering::Acquire) {
            pause(dice.below(2 * EVERY_US));
            let list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(thread) = list.get(dice.below(list.len() as u64) as usize) {
                // SAFETY: a thread leaves the list, which is locked, before it ends.
                unsafe { libc::pthread_kill(*thread, libc::SIGUSR1) };
            }
        }
    }
}
