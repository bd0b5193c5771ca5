//! The policies of a namespace with event time.

use crate::engine::Durability;
use crate::error::{Error, Result};
use crate::limits;
use crate::time::{Timestamp, Ttl};
use std::time::Duration;

/// What is answered about an event that is later than the allowed lateness and whose id is not remembered: whether it was
/// seen before cannot be known any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum OnLate {
    /// [`TooLate`](crate::event_time::EventClaim::TooLate). Nothing is claimed.
    #[default]
    TooLate,
    /// [`FirstSeen`](crate::event_time::EventClaim::FirstSeen). The id is claimed, and remembered as if its event time
    /// were the watermark. An event that was seen before may be first seen again.
    Claim,
    /// An error of the kind [`FixCall`](crate::ErrorKind::FixCall). Nothing is claimed.
    Fail,
}

/// The policies of a namespace with event time. Only the allowed lateness is stored: see
/// [`allowed_lateness`](Self::allowed_lateness).
///
/// # Events from the far future
///
/// Event times up to the year 4199 are taken as they are, unless [`ahead_max`](Self::ahead_max) is set; later ones are
/// always refused. One event of a wrong clock, in the year 3000, puts the watermark of its source there. Events of that
/// source are judged as before while another active source is behind: the least counts. If none is, the watermark of the
/// namespace goes there, for good: all remembered ids end, and every event of the present is too late from then on.
///
/// What helps:
///
/// - Set `ahead_max` where clocks are not trusted. It is checked before anything is heard or claimed.
/// - While another source holds the watermark back, [`retire`](crate::event_time::EventTime::retire) the wrong one: it
///   begins anew with its next event.
/// - Once the watermark is there, replay what still matters into
///   [`ReplayScope::event_time`](crate::replay::ReplayScope::event_time) and promote the scope, or use another namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventTimeOptions {
    window: Ttl,
    allowed_lateness: Duration,
    out_of_orderness: Duration,
    idle_after: Option<Duration>,
    ahead_max: Option<Duration>,
    step: Option<Duration>,
    pub(super) on_late: OnLate,
    pub(super) durability: Option<Durability>,
}

/// The longest step by which the watermark is written, unless another one is asked for, in milliseconds.
const STEP_MS_MAX: u64 = 10_000;

/// Into how many steps a window is split.
const STEPS: u64 = 64;

impl EventTimeOptions {
    /// Creates the policies of a namespace that remembers an id for `window` after the greatest event time seen for it:
    /// no lateness allowed, every source in order, sources never idle, events however far ahead, [`OnLate::TooLate`], the
    /// store's durability.
    pub fn new(window: impl Into<Ttl>) -> Self {
        Self {
            window: window.into(),
            allowed_lateness: Duration::ZERO,
            out_of_orderness: Duration::ZERO,
            idle_after: None,
            ahead_max: None,
            step: None,
            on_late: OnLate::default(),
            durability: None,
        }
    }

    /// Sets how far behind the watermark an event may be and still be claimed. Ids are remembered that much longer.
    ///
    /// It is stored and can be lowered later, but not raised: by the shorter one, ids have ended already.
    #[must_use]
    pub fn allowed_lateness(self, lateness: Duration) -> Self {
        Self { allowed_lateness: lateness, ..self }
    }

    /// Sets how far the events of one source may be out of order: its watermark is the greatest event time seen from it,
    /// minus this.
    #[must_use]
    pub fn out_of_orderness(self, bound: Duration) -> Self {
        Self { out_of_orderness: bound, ..self }
    }

    /// Sets after how long a source that says nothing does not hold the watermark back any more, by the engine's time. It
    /// counts again with its next event. After an opening each source counts for this long.
    ///
    /// A rejected transaction with its events says that a source is there, and no more than that: it holds the watermark
    /// back at what it had reached, so that its events are not too late once they are let in. One whose transactions are
    /// rejected for ever holds it back for ever: have them
    /// [skip duplicates](crate::transaction::Transaction::skip_duplicates), or
    /// [retire](crate::event_time::EventTime::retire) the source. A source of which nothing has ever been committed does
    /// not count, and neither do events that are only prepared, or too late.
    #[must_use]
    pub fn idle_after(self, after: Duration) -> Self {
        Self { idle_after: Some(after), ..self }
    }

    /// Sets how far ahead of the engine's time the time of an event may be. What is beyond is refused with an error of the
    /// kind [`FixCall`](crate::ErrorKind::FixCall), and neither claimed nor heard, so that one wrong clock does not move the
    /// watermark there. It counts for [`advance`](crate::event_time::EventTime::advance), too, and refuses a whole batch:
    /// claim events that may be wrong one by one, or leave out those that the error names. By default there is no limit.
    #[must_use]
    pub fn ahead_max(self, ahead: Duration) -> Self {
        Self { ahead_max: Some(ahead), ..self }
    }

    /// Sets by how much the watermark must move to be written with a claim, in event time. The answers and
    /// [`watermark`](crate::event_time::EventTime::watermark) know only what is written. The default is a 64th of the
    /// window, from 1 ms to 10 s. [`advance`](crate::event_time::EventTime::advance) writes any step.
    #[must_use]
    pub fn watermark_step(self, step: Duration) -> Self {
        Self { step: Some(step), ..self }
    }

    /// Sets what is answered about an event that is too late.
    #[must_use]
    pub fn on_late(self, on_late: OnLate) -> Self {
        Self { on_late, ..self }
    }

    /// Sets what a returned answer guarantees; otherwise the store's durability counts.
    #[must_use]
    pub fn durability(self, durability: Durability) -> Self {
        Self { durability: Some(durability), ..self }
    }

    pub(super) fn check(&self) -> Result<()> {
        if self.window.as_millis() == Some(0) {
            return Err(Error::invalid(
                "an event-time window of 0 would forget an id at once; give at least 1ms, or \"forever\"",
            ));
        }
        let longest = u128::from(limits::EVENT_TIME_MS_MAX);
        let window = self.window.as_millis().unwrap_or(0).into();
        let others = [self.allowed_lateness, self.out_of_orderness].map(|d| d.as_millis());
        if [window, others[0], others[1]].iter().any(|ms| *ms > longest) {
            return Err(Error::invalid(format!(
                "a window, lateness or out-of-orderness of event time is longer than the limit of {longest} ms"
            )));
        }
        if self.step.is_some_and(|step| step.is_zero()) {
            return Err(Error::invalid("a watermark step of 0; give at least 1ms"));
        }
        if self.idle_after.is_some_and(|after| after.is_zero()) {
            return Err(Error::invalid(
                "sources that are idle after 0 s would never hold the watermark back; give at least 1ms",
            ));
        }
        Ok(())
    }

    /// Returns whether ids are remembered for ever.
    pub(super) fn is_unbounded(&self) -> bool {
        self.window == Ttl::FOREVER
    }

    pub(super) fn lateness_ms(&self) -> u64 {
        millis(self.allowed_lateness)
    }

    pub(super) fn out_of_orderness_ms(&self) -> u64 {
        millis(self.out_of_orderness)
    }

    pub(super) fn idle_after_ms(&self) -> Option<u64> {
        self.idle_after.map(|after| millis(after).max(1))
    }

    pub(super) fn ahead_max_ms(&self) -> Option<u64> {
        self.ahead_max.map(millis)
    }

    pub(super) fn step_ms(&self) -> u64 {
        match (self.step, self.window.as_millis()) {
            (Some(step), _) => millis(step).max(1),
            (None, Some(window)) => (window / STEPS).clamp(1, STEP_MS_MAX),
            (None, None) => STEP_MS_MAX,
        }
    }

    /// Returns how long an id is remembered after an event.
    pub(super) fn lives(&self) -> Ttl {
        self.window.as_millis().map_or(Ttl::FOREVER, |window| {
            Ttl::from_millis(window.saturating_add(self.lateness_ms()))
        })
    }

    /// Returns the watermark that ends an id whose greatest event time this is.
    pub(super) fn end_of(&self, greatest: Timestamp) -> Timestamp {
        self.lives().deadline(greatest)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{days, seconds};

    #[test]
    fn options_that_make_no_sense_are_refused() {
        let hour = EventTimeOptions::new(Duration::from_secs(3_600));
        let long = Duration::from_millis(limits::EVENT_TIME_MS_MAX + 1);
        assert!(hour.check().is_ok());
        assert!(EventTimeOptions::new(Ttl::FOREVER).check().is_ok());
        for bad in [
            EventTimeOptions::new(Duration::ZERO),
            EventTimeOptions::new(long),
            hour.clone().allowed_lateness(long),
            hour.clone().out_of_orderness(long),
            hour.clone().watermark_step(Duration::ZERO),
            hour.clone().idle_after(Duration::ZERO),
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_step_follows_from_the_window() {
        let step = |window: Ttl| EventTimeOptions::new(window).step_ms();
        assert_eq!(step(Ttl::from_millis(5)), 1);
        assert_eq!(step(seconds(64)), 1_000);
        assert_eq!(step(days(7)), STEP_MS_MAX);
        assert_eq!(step(Ttl::FOREVER), STEP_MS_MAX);
        let own = EventTimeOptions::new(days(7)).watermark_step(Duration::from_secs(90));
        assert_eq!(own.step_ms(), 90_000);
    }
}
