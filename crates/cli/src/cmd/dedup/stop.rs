//! SIGINT and SIGTERM: finish the current batch, sync the claims, print the summary.
//!
//! A thread waits for the signal, because the main thread may be waiting for input. A second signal ends the process as
//! if nobody had caught it, which loses no line either.

use std::process;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;

use crate::output::{self, Exit, Failure};

use super::live::Live;

/// How long the current batch may take: the reader of a pipe may have stopped reading.
const BATCH_WAIT: Duration = Duration::from_secs(10);

/// The run in progress, until somebody ends it.
pub(super) type Shared = Arc<Mutex<Option<Live>>>;

/// Starts a thread that ends the run on a signal.
pub(super) fn watch(shared: &Shared) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::of_system("wait for signals", &error);
    let signals: Vec<i32> = [SIGINT, SIGTERM].into_iter().filter(|s| !is_ignored(*s)).collect();
    let caught = Arc::new(AtomicBool::new(false));
    for signal in &signals {
        // In this order: the first signal finds the flag unset, and sets it.
        flag::register_conditional_default(*signal, Arc::clone(&caught)).map_err(failed)?;
        flag::register(*signal, Arc::clone(&caught)).map_err(failed)?;
    }
    let mut signals = Signals::new(signals).map_err(failed)?;
    let shared = Arc::clone(shared);
    let wait = move || {
        let Some(signal) = signals.forever().next() else { return };
        let exit = if signal == SIGINT { Exit::Interrupted } else { Exit::Terminated };
        let Some(mut live) = shared.try_lock_for(BATCH_WAIT) else { process::exit(exit as i32) };
        if let Some(live) = live.take() {
            process::exit(output::ended(live.end(Err(Failure::Stopped(exit)))) as i32);
        } // otherwise the run is already ending
    };
    let started = thread::Builder::new().name("signals".to_owned()).spawn(wait);
    let no_thread = |error| Failure::of_system("start a thread that waits for signals", &error);
    started.map(drop).map_err(no_thread)
}

/// Takes the run to end it; does not return if a signal was faster.
pub(super) fn take(shared: &Shared) -> Live {
    loop {
        let taken = shared.lock().take();
        match taken {
            Some(live) => return live,
            None => thread::park(),
        }
    }
}

/// Calls `act` with the run; does not return if a signal has ended it.
pub(super) fn with<T>(shared: &Shared, act: impl FnOnce(&mut Live) -> T) -> T {
    let mut live = shared.lock();
    if let Some(live) = live.as_mut() {
        return act(live);
    }
    drop(live);
    loop {
        thread::park();
    }
}

/// Returns whether the caller wants this signal ignored, as a shell does with SIGINT for background jobs.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    (mask >> (signal - 1)) & 1 == 1
}
