//! Expiry: when a claim ends (I4), which of two records of an id counts, and which claims end together.

mod generation;
mod horizon;
mod tally;
mod version;

pub(crate) use generation::{Class, GenId};
pub(crate) use horizon::{EventEnd, Horizon, Watermarks};
pub(crate) use tally::Tally;
pub(crate) use version::{Kind, Version};

use crate::time::Timestamp;

/// Whether a claim has ended by the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Liveness {
    /// The claim is live: the same id is a duplicate.
    Live,
    /// The claim has ended: the same id is first seen again.
    Expired,
}

/// A claim is live while `now < deadline` (I4), whether or not it was swept.
#[inline]
pub(crate) fn liveness(deadline: Timestamp, now: Timestamp) -> Liveness {
    if now < deadline { Liveness::Live } else { Liveness::Expired }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i4_live_while_now_is_before_the_deadline() {
        let at = Timestamp::from_millis;
        assert_eq!(liveness(at(10), at(9)), Liveness::Live);
        assert_eq!(liveness(at(10), at(10)), Liveness::Expired);
        assert_eq!(liveness(Timestamp::NEVER, at(u64::MAX - 1)), Liveness::Live);
    }
}
