//! Generations: claims grouped by when they end, so that a whole group can be dropped at once.

use crate::expiry::horizon::{EventEnd, Horizon};
use crate::expiry::{Liveness, liveness};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// How many generations a ttl is split into (log2). A generation is dropped when its last claim ends, so space is
/// reclaimed at most one generation late: a quarter of the ttl at worst, because widths are powers of two.
const SLICES_LOG2: u32 = 3;

/// Shortest generation in milliseconds (log2), so that a ttl of 10 ms does not create a run per millisecond.
const WIDTH_LOG2_MIN: u32 = 10;

/// The length of a generation, as a power of two in milliseconds. It follows from the ttl, so claims with short and
/// long ttls never share a generation, and long ones never pin the space of short ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Class(pub(crate) u8);

impl Class {
    /// The class of claims that never end.
    pub(crate) const FOREVER: Self = Self(u8::MAX);

    /// Set in the classes of what ends by event time.
    const BY_EVENT_TIME: u8 = 64;

    /// The class of what would end by event time and never does.
    const EVENT_FOREVER: Self = Self(Self::BY_EVENT_TIME | 63);

    /// Returns the class with generations twice as long; the widest is the one that never ends.
    pub(crate) fn wider(self) -> Self {
        let is_widest = self == Self::EVENT_FOREVER || self.0 >= 63 && !self.is_by_event_time();
        if is_widest { self.forever() } else { Self(self.0 + 1) }
    }

    /// Returns the class with generations as long, on an axis of event time.
    pub(crate) fn by_event_time(self) -> Self {
        if self.0 < 63 { Self(self.0 | Self::BY_EVENT_TIME) } else { Self::EVENT_FOREVER }
    }

    /// Returns the widest class on the same axis: the one that never ends.
    pub(crate) fn forever(self) -> Self {
        if self.is_by_event_time() { Self::EVENT_FOREVER } else { Self::FOREVER }
    }

    #[inline]
    pub(crate) fn is_by_event_time(self) -> bool {
        self.0 & !(Self::BY_EVENT_TIME - 1) == Self::BY_EVENT_TIME
    }

    /// Returns the width of its generations, if they are counted in event time and end.
    fn event_width(self) -> Option<u32> {
        let width = u32::from(self.0 & (Self::BY_EVENT_TIME - 1));
        (self.is_by_event_time() && self != Self::EVENT_FOREVER).then(|| width.max(WIDTH_LOG2_MIN))
    }

    /// Returns the class of claims that live for `ttl_ms`.
    pub(crate) fn of_ttl(ttl_ms: u64) -> Self {
        let ttl_log2 = u64::BITS - ttl_ms.saturating_sub(1).leading_zeros();
        Self(ttl_log2.saturating_sub(SLICES_LOG2).max(WIDTH_LOG2_MIN) as u8)
    }
}

/// A group of claims that is dropped when the last one has ended: those of one class with a deadline in `(end -
/// width, end]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct GenId {
    class: Class,
    /// The end, in widths since the epoch.
    slot: u64,
}

impl GenId {
    /// Claims that never end.
    pub(crate) const FOREVER: Self = Self { class: Class::FOREVER, slot: u64::MAX };

    /// What would end by event time and never does. Apart from [`FOREVER`](Self::FOREVER), because a block takes the axis
    /// of its entries from its run.
    const EVENT_FOREVER: Self = Self { class: Class::EVENT_FOREVER, slot: u64::MAX };

    #[inline]
    pub(crate) fn of(class: Class, deadline: Timestamp) -> Self {
        if class.is_by_event_time() {
            return Self::by_event_time(class, deadline);
        }
        // No ttl gives a class beyond 63; treat it as "never ends", which keeps the data (I11).
        if deadline == Timestamp::NEVER || class.0 > 63 {
            return Self::FOREVER;
        }
        let width_mask = (1u64 << class.0) - 1;
        let ms = deadline.as_millis();
        Self { class, slot: (ms >> class.0) + u64::from(ms & width_mask != 0) }
    }

    fn by_event_time(class: Class, deadline: Timestamp) -> Self {
        match class.event_width() {
            Some(width) if deadline != Timestamp::NEVER => {
                Self { class, slot: EventEnd::from_deadline(deadline).slot(width) }
            }
            _ => Self::EVENT_FOREVER,
        }
    }

    /// Returns the time from which nothing in it is live, on its axis.
    pub(crate) fn end(self) -> Timestamp {
        if let Some(width) = self.class.event_width() {
            return EventEnd::of_slot(self.slot, width).as_deadline();
        }
        if self.class.0 > 63 || self.slot > u64::MAX >> self.class.0 {
            return Timestamp::NEVER;
        }
        Timestamp::from_millis(self.slot << self.class.0)
    }

    pub(crate) fn liveness<'a>(self, now: impl Into<Horizon<'a>>) -> Liveness {
        end_liveness(self.class, self.end(), now.into())
    }

    pub(crate) fn class(self) -> Class {
        self.class
    }
}

/// Returns whether something with this deadline is live, on the axis of its class.
#[inline]
pub(super) fn end_liveness(class: Class, deadline: Timestamp, horizon: Horizon<'_>) -> Liveness {
    if !class.is_by_event_time() {
        return liveness(deadline, horizon.now());
    }
    match deadline {
        Timestamp::NEVER => Liveness::Live,
        deadline => horizon.liveness_of(EventEnd::from_deadline(deadline)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i4_a_generation_never_dies_before_its_claims() {
        let mut x = 88_172_645_463_325_252u64;
        for _ in 0..100_000 {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            let from = x % 4_000_000_000_000;
            let ttl = 1 + (x >> 20) % (1 << (x % 40));
            let deadline = Timestamp::from_millis(from + ttl);
            let end = GenId::of(Class::of_ttl(ttl), deadline).end();
            assert!(end >= deadline);
            let late = end.as_millis() - deadline.as_millis();
            assert!(late <= (ttl / 4).max(1 << WIDTH_LOG2_MIN), "ttl {ttl} ends {late} ms late");
        }
    }

    #[test]
    fn forever_never_dies_and_ttls_of_different_size_do_not_share() {
        let at = Timestamp::from_millis;
        assert_eq!(GenId::of(Class::FOREVER, Timestamp::NEVER), GenId::FOREVER);
        assert_eq!(GenId::FOREVER.end(), Timestamp::NEVER);
        let (minute, week) = (Class::of_ttl(60_000), Class::of_ttl(604_800_000));
        assert_ne!(GenId::of(minute, at(1 << 40)), GenId::of(week, at(1 << 40)));
        assert_eq!(GenId::of(Class(200), at(5)).end(), Timestamp::NEVER);
    }
}
