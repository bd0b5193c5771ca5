//! Processor time of this process. Benches use this file, too.

use std::time::Duration;

/// Returns the time that all threads of this process have had, user and system, those that have ended included.
pub(crate) fn time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    // It is never negative.
    Duration::try_from(time).unwrap_or_default()
}
