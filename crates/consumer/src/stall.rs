//! Notices when nothing more is taken although nobody works: everything that has a place waits.

use crate::counters::{Live, count};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::time::Instant;

/// How long nothing must have moved.
pub(crate) const STILL: Duration = Duration::from_secs(1);

/// Between two warnings.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// A time in which the loop took nothing, and what was said of such times.
#[derive(Debug, Default)]
pub(crate) struct Stall {
    since: Option<Instant>,
    is_counted: bool,
    warned: Option<Instant>,
}

impl Stall {
    /// Something moves.
    pub(crate) fn over(&mut self) {
        (self.since, self.is_counted) = (None, false);
    }

    /// There was no room for the time of [`STILL`], and nothing has landed in it.
    pub(crate) fn without_room(&mut self, counters: &Live) {
        if all_wait(counters) {
            self.note(
                counters,
                "all that is in flight waits for its retry, for an operator, or behind such a message of its key",
            );
        }
    }

    /// The source had nothing. The lag is as old as `lag_every` says, so it is believed only after twice that time.
    pub(crate) fn without_deliveries(&mut self, counters: &Live, lag_every: Duration) {
        if !all_wait(counters) || counters.lag().is_none_or(|lag| lag == 0) {
            return self.over();
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        if since.elapsed() >= STILL.max(lag_every.saturating_mul(2)) {
            self.note(
                counters,
                "the broker has messages and gives none: what was put off may fill its window",
            );
        }
    }

    fn note(&mut self, counters: &Live, why: &str) {
        if !self.is_counted {
            self.is_counted = true;
            count(&counters.stalled);
        }
        if self.warned.is_none_or(|warned| warned.elapsed() >= WARN_EVERY) {
            self.warned = Some(Instant::now());
            let in_flight = counters.in_flight.load(Relaxed);
            tracing::warn!(in_flight, lag = counters.lag(), "nothing more is taken: {why}");
        }
    }
}

/// Returns whether nobody works on anything that is in flight.
fn all_wait(counters: &Live) -> bool {
    counters.waiting.load(Relaxed) >= counters.in_flight.load(Relaxed)
}
