//! Which windows there are, and when their results are told.

use crate::error::{Error, Result};
use crate::limits;
use crate::time::Timestamp;
use std::time::Duration;

/// When the result of a window is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Emit {
    /// Once, when the watermark has passed the end of the window and the allowed lateness: no event can change it any
    /// more.
    #[default]
    WhenComplete,
    /// Once, when the watermark has passed the end of the window. What comes later is claimed and does not change what was
    /// told; [`Windows::ignored`](crate::event_time::windows::Windows::ignored) counts it.
    AtEnd,
    /// When the watermark has passed the end of the window, and again with the next revision for what comes later.
    AtEndAndCorrected,
}

/// The windows over the event time of a namespace. They begin at multiples of their distance since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowOptions {
    pub(super) size_ms: u64,
    pub(super) every_ms: u64,
    pub(super) emit: Emit,
}

/// A window: event times from `start` up to, and without, `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Window {
    /// The first event time in it.
    pub start: Timestamp,
    /// The first event time behind it.
    pub end: Timestamp,
}

impl WindowOptions {
    /// Creates windows of this size, side by side: each event is in one.
    pub fn tumbling(size: Duration) -> Self {
        Self::sliding(size, size)
    }

    /// Creates windows of this size, of which one begins `every` so often: an event is in as many as overlap.
    pub fn sliding(size: Duration, every: Duration) -> Self {
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self { size_ms: ms(size), every_ms: ms(every), emit: Emit::default() }
    }

    /// Sets when results are told.
    #[must_use]
    pub fn emit(self, emit: Emit) -> Self {
        Self { emit, ..self }
    }

    pub(super) fn check(&self) -> Result<()> {
        let Self { size_ms, every_ms, .. } = *self;
        if size_ms == 0 || every_ms == 0 || size_ms > limits::EVENT_TIME_MS_MAX {
            return Err(Error::invalid(format!(
                "windows of {size_ms} ms every {every_ms} ms: both are from 1 ms to {} ms",
                limits::EVENT_TIME_MS_MAX
            )));
        }
        if every_ms > size_ms {
            return Err(Error::invalid(format!(
                "windows of {size_ms} ms every {every_ms} ms would leave events out"
            )));
        }
        if size_ms.div_ceil(every_ms) > limits::WINDOWS_PER_EVENT_MAX {
            return Err(Error::invalid(format!(
                "windows of {size_ms} ms every {every_ms} ms: an event would be in more than {} of them",
                limits::WINDOWS_PER_EVENT_MAX
            )));
        }
        Ok(())
    }

    /// Returns the windows that an event time is in, the earliest first.
    pub(super) fn windows_of(self, time: Timestamp) -> impl Iterator<Item = Window> {
        let time = time.as_millis();
        let last = time - time % self.every_ms;
        // The first one that begins after `time - size`.
        let behind = (time + 1).saturating_sub(self.size_ms);
        let first = behind.div_ceil(self.every_ms) * self.every_ms;
        (first..=last).step_by(self.every_ms as usize).map(move |start| self.window(start))
    }

    /// Returns the window that begins at this time.
    pub(super) fn window(&self, start_ms: u64) -> Window {
        let end_ms = start_ms.saturating_add(self.size_ms);
        Window { start: Timestamp::from_millis(start_ms), end: Timestamp::from_millis(end_ms) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn an_event_is_in_every_window_that_covers_it_and_in_no_other() {
        for (size, every) in [(10, 10), (10, 5), (10, 3), (7, 1), (1, 1)] {
            let options = WindowOptions::sliding(ms(size), ms(every));
            assert!(options.check().is_ok());
            for time in 0..60 {
                let found: Vec<u64> = options
                    .windows_of(Timestamp::from_millis(time))
                    .map(|window| window.start.as_millis())
                    .collect();
                let covers = |start: &u64| (*start..start + size).contains(&time);
                let all = (0..=time).filter(|start| start % every == 0);
                assert_eq!(found, all.filter(covers).collect::<Vec<_>>(), "{size} {every} {time}");
            }
        }
    }

    #[test]
    fn windows_that_make_no_sense_are_refused() {
        for (size, every) in [(0, 0), (0, 1), (1, 0), (5, 6), (100_000, 1), (u64::MAX, u64::MAX)] {
            assert!(WindowOptions::sliding(ms(size), ms(every)).check().is_err(), "{size} {every}");
        }
    }
}
