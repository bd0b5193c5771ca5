//! Horizons: what counts as "now" when it is judged whether something has ended. Claims and most rows end by the engine's
//! time; rows on the axis of a namespace's event time end by that namespace's watermark, and by nothing else.
//!
//! The axis is part of a version's class and deadline, so runs, tallies and generations keep axes apart by themselves.

use crate::expiry::Liveness;
use crate::sync::RwLock;
use crate::time::Timestamp;
use std::collections::BTreeMap;

/// Event time is counted in units of this many milliseconds (log2) where only space depends on it.
const UNIT_LOG2: u32 = 10;

/// Bits of an end on an axis that count units; the namespace is above them.
const UNIT_BITS: u32 = 38;

/// The highest count of units.
const UNITS_MAX: u64 = (1 << UNIT_BITS) - 1;

/// An end on the axis of a namespace's event time, as it stands in the deadline of a version.
///
/// | bits | use |
/// |---|---|
/// | 38 to 63 | number of the namespace |
/// | 0 to 37 | event time in units of 1,024 ms, rounded up |
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EventEnd(u64);

impl EventEnd {
    /// Returns the end of what ends when the watermark of a namespace has reached `at`.
    pub(crate) fn of(ns: u32, at: Timestamp) -> Self {
        let units = at.as_millis().div_ceil(1 << UNIT_LOG2).min(UNITS_MAX - 1);
        Self(u64::from(ns) << UNIT_BITS | units)
    }

    /// Returns the end that a version holds as its deadline.
    pub(crate) fn from_deadline(deadline: Timestamp) -> Self {
        Self(deadline.as_millis())
    }

    /// Returns it as the deadline of a version.
    pub(crate) fn as_deadline(self) -> Timestamp {
        Timestamp::from_millis(self.0)
    }

    /// Returns it rounded up to whole widths of `1 << width_log2` milliseconds, counted in widths.
    pub(super) fn slot(self, width_log2: u32) -> u64 {
        let shift = width_log2 - UNIT_LOG2;
        let units = self.units();
        let widths = (units >> shift) + u64::from(units & ((1 << shift) - 1) != 0);
        self.0 & !UNITS_MAX | widths
    }

    /// Returns the end of a slot.
    pub(super) fn of_slot(slot: u64, width_log2: u32) -> Self {
        let units = (slot & UNITS_MAX) << (width_log2 - UNIT_LOG2);
        Self(slot & !UNITS_MAX | units.min(UNITS_MAX))
    }

    fn ns(self) -> u32 {
        (self.0 >> UNIT_BITS) as u32
    }

    fn units(self) -> u64 {
        self.0 & UNITS_MAX
    }
}

/// The watermarks of all namespaces with event time, as far as they have been written. They only grow.
#[derive(Debug, Default)]
pub(crate) struct Watermarks {
    by_namespace: RwLock<BTreeMap<u32, u64>>,
}

impl Watermarks {
    /// Notes that the watermark of a namespace is at least this.
    pub(crate) fn raise(&self, ns: u32, watermark: Timestamp) {
        let mut all = self.by_namespace.write();
        let known = all.entry(ns).or_default();
        *known = (*known).max(watermark.as_millis());
    }

    /// Returns the watermark of a namespace; zero if it has none.
    pub(crate) fn of(&self, ns: u32) -> Timestamp {
        Timestamp::from_millis(self.by_namespace.read().get(&ns).copied().unwrap_or_default())
    }
}

/// The times by which it is judged whether something has ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Horizon<'a> {
    now: Timestamp,
    /// `None` where they are not known: then nothing on an axis of event time has ended.
    watermarks: Option<&'a Watermarks>,
}

impl<'a> Horizon<'a> {
    pub(crate) fn new(now: Timestamp, watermarks: &'a Watermarks) -> Self {
        Self { now, watermarks: Some(watermarks) }
    }

    /// Returns the engine's time.
    #[inline]
    pub(super) fn now(self) -> Timestamp {
        self.now
    }

    /// Returns whether something that ends by event time is live.
    pub(super) fn liveness_of(self, end: EventEnd) -> Liveness {
        let reached = |watermarks: &Watermarks| {
            end.units() <= watermarks.of(end.ns()).as_millis() >> UNIT_LOG2
        };
        let has_ended = end.units() < UNITS_MAX && self.watermarks.is_some_and(reached);
        if has_ended { Liveness::Expired } else { Liveness::Live }
    }
}

/// A horizon for what ends by the engine's time.
impl From<Timestamp> for Horizon<'_> {
    #[inline]
    fn from(now: Timestamp) -> Self {
        Self { now, watermarks: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expiry::{Class, GenId, Kind, Version};

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    fn row(ns: u32, ends: u64, lives: u64) -> Version {
        let class = Class::of_ttl(lives).by_event_time();
        Version::row(1, Kind::Value, EventEnd::of(ns, at(ends)).as_deadline(), class)
    }

    #[test]
    fn i14_a_row_by_event_time_ends_by_the_watermark_of_its_namespace_and_nothing_else() {
        let watermarks = Watermarks::default();
        let (far, here) = (at(u64::MAX - 1), Horizon::new(at(u64::MAX - 1), &watermarks));
        let row = row(7, 10_000, 5_000);
        assert!(row.is_live(here) && !row.is_spent(here), "no watermark, no end");
        watermarks.raise(8, far);
        watermarks.raise(6, far);
        assert!(row.is_live(here), "the watermarks of others do not count");
        watermarks.raise(7, at(9_999));
        assert!(row.is_live(here));
        watermarks.raise(7, at(10_240));
        assert!(!row.is_live(here));
        assert!(row.is_live(far), "and without watermarks nothing has ended");
        watermarks.raise(7, at(3));
        assert_eq!(watermarks.of(7), at(10_240), "it never goes back");
    }

    #[test]
    fn i14_a_generation_by_event_time_never_dies_before_its_rows() {
        let mut x = 88_172_645_463_325_252u64;
        for _ in 0..100_000 {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            let lives = 1 + (x >> 20) % (1 << (x % 40));
            let (ns, ends) = ((x >> 38) as u32, x % (1 << 47));
            let row = row(ns, ends, lives);
            let watermarks = Watermarks::default();
            watermarks.raise(ns, at(ends - ends.min(1)));
            let before = Horizon::new(at(0), &watermarks);
            assert!(row.is_live(before) && !row.is_spent(before), "{ns} {ends} {lives}");
            watermarks.raise(ns, at(ends + lives / 4 + 2048));
            let after = Horizon::new(at(0), &watermarks);
            assert!(!row.is_live(after) && row.is_spent(after), "{ns} {ends} {lives}");
        }
    }

    #[test]
    fn successors_by_event_time_are_kept_as_long_as_what_they_replace() {
        let long = row(7, 1 << 40, 1 << 40);
        let short = Version { rank: 2, ..row(7, 10_000, 5_000) }.after(Some(&long));
        assert!(short.generation().end() >= long.generation().end());
        let forever = Version { deadline: Timestamp::NEVER, ..long };
        let short = Version { rank: 2, ..row(7, 10_000, 5_000) }.after(Some(&forever));
        assert_eq!(short.generation().end(), Timestamp::NEVER);
        let watermarks = Watermarks::default();
        watermarks.raise(7, at(1 << 46));
        let horizon = Horizon::new(at(0), &watermarks);
        assert!(!short.is_live(horizon) && !short.is_spent(horizon));
        assert_ne!(short.generation(), GenId::FOREVER, "it stays on its axis");
    }
}
