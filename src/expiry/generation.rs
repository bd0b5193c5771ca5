//! Generations: claims grouped by when they end, so that a whole group can be dropped at once.

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

    /// Returns the class with generations twice as long; the widest is the one that never ends.
    pub(crate) fn wider(self) -> Self {
        if self.0 < 63 { Self(self.0 + 1) } else { Self::FOREVER }
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

    #[inline]
    pub(crate) fn of(class: Class, deadline: Timestamp) -> Self {
        // No ttl gives a class beyond 63; treat it as "never ends", which keeps the data (I11).
        if deadline == Timestamp::NEVER || class.0 > 63 {
            return Self::FOREVER;
        }
        let width_mask = (1u64 << class.0) - 1;
        let ms = deadline.as_millis();
        Self { class, slot: (ms >> class.0) + u64::from(ms & width_mask != 0) }
    }

    /// Returns the time from which nothing in it is live.
    pub(crate) fn end(self) -> Timestamp {
        if self.class.0 > 63 || self.slot > u64::MAX >> self.class.0 {
            return Timestamp::NEVER;
        }
        Timestamp::from_millis(self.slot << self.class.0)
    }

    pub(crate) fn liveness(self, now: Timestamp) -> Liveness {
        liveness(self.end(), now)
    }

    pub(crate) fn class(self) -> Class {
        self.class
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
