//! One record of one id, and the order that decides which record of it counts.
//!
//! Several records of an id may exist at once: an expired claim not yet swept and its successor, a claim
//! and its extension, copies made by log compaction, a tombstone. Which one counts must not depend on
//! where or in which order they are found, because runs are merged, healed and replayed in any order. So
//! records of one id form a join semilattice: [`Version::join`] picks the greater one, and applying a
//! record twice changes nothing.

use crate::expiry::{Class, GenId, Verdict, verdict};
use crate::time::{Timestamp, Ttl};

/// What one record says of one id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version {
    /// When the claim was made; for a tombstone, a moment after every claim that it cancels.
    pub(crate) first_seen: Timestamp,
    /// When the claim ends; for a tombstone, until when it must be kept (the end of what it cancels).
    pub(crate) deadline: Timestamp,
    /// The width of its generation.
    pub(crate) class: Class,
    /// A tombstone: the id was forgotten.
    pub(crate) forgotten: bool,
}

impl Version {
    /// A claim made at `at` that lives for `ttl`.
    #[inline]
    pub(crate) fn claim(at: Timestamp, ttl: Ttl) -> Self {
        let class = ttl.as_millis().map_or(Class::FOREVER, Class::of_ttl);
        Self { first_seen: at, deadline: ttl.deadline(at), class, forgotten: false }
    }

    /// Whether the id is a duplicate by this record (I4).
    #[inline]
    pub(crate) fn is_live(&self, now: Timestamp) -> bool {
        !self.forgotten && verdict(self.deadline, now) == Verdict::Live
    }

    /// Whether the record can be dropped: nothing it says can matter from `now` on. Its generation
    /// decides, not its own deadline: it may stand before older records, which must go no later.
    pub(crate) fn is_spent(&self, now: Timestamp) -> bool {
        self.generation().verdict(now) == Verdict::Expired
    }

    /// The same record, in a generation that ends no earlier than that of the record it comes after.
    ///
    /// Dropping a record must not bring back what it stood before. A long claim that was forgotten and
    /// claimed again for a short time would otherwise be live again once the short claim is swept. So of
    /// two records of one id, the one that counts is kept at least as long as the other.
    pub(crate) fn after(mut self, known: Option<&Self>) -> Self {
        let Some(end) = known.map(|known| known.generation().end()) else { return self };
        while self.generation().end() < end {
            self.class = if end == Timestamp::NEVER { Class::FOREVER } else { self.class.wider() };
        }
        self
    }

    pub(crate) fn generation(&self) -> GenId {
        GenId::of(self.class, self.deadline)
    }

    /// The record that counts. A later claim beats an earlier one, a tombstone beats what was claimed
    /// before it, and of two records of one claim the longer-lived (an extension) wins.
    pub(crate) fn join(self, other: Self) -> Self {
        if other.rank() > self.rank() { other } else { self }
    }

    /// When a forgotten id is claimed again in the same millisecond, tombstone and claim share a moment;
    /// the claim came later, so it ranks higher.
    fn rank(&self) -> (Timestamp, bool, Timestamp) {
        (self.first_seen, !self.forgotten, self.deadline)
    }

    /// The tombstone that cancels this claim.
    pub(crate) fn tombstone(&self, now: Timestamp) -> Self {
        let after = Timestamp::from_millis(self.first_seen.as_millis().saturating_add(1));
        Self { first_seen: now.max(after), forgotten: true, ..*self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(first_seen: u64, deadline: u64) -> Version {
        Version {
            first_seen: Timestamp::from_millis(first_seen),
            deadline: Timestamp::from_millis(deadline),
            class: Class::of_ttl(deadline - first_seen),
            forgotten: false,
        }
    }

    #[test]
    fn join_is_commutative_associative_and_idempotent() {
        let now = Timestamp::from_millis(5);
        let all =
            [claim(5, 50), claim(5, 90), claim(5, 50).tombstone(now), claim(6, 9), claim(70, 80)];
        for a in all {
            assert_eq!(a.join(a), a);
            for b in all {
                assert_eq!(a.join(b), b.join(a));
                for c in all {
                    assert_eq!(a.join(b).join(c), a.join(b.join(c)));
                }
            }
        }
    }

    #[test]
    fn a_record_is_kept_as_long_as_those_it_stands_before() {
        let forever = Version::claim(Timestamp::from_millis(5), Ttl::FOREVER);
        for long in [claim(5, 9_000), claim(5, 1 << 40), forever] {
            let grave = long.tombstone(Timestamp::from_millis(6));
            let short = claim(7, 20).after(Some(&grave));
            let third = claim(30, 40).after(Some(&short));
            for version in [short, third] {
                assert!(version.generation().end() >= long.generation().end());
                assert_eq!(version.is_spent(long.deadline), long.is_spent(long.deadline));
            }
            assert!(!short.is_live(Timestamp::from_millis(20)));
        }
        assert_eq!(claim(7, 90).after(Some(&claim(5, 6))), claim(7, 90));
    }

    #[test]
    fn a_forgotten_long_claim_does_not_come_back_when_its_short_successor_ends() {
        let long = claim(5, 1000);
        let grave = long.tombstone(Timestamp::from_millis(5));
        let short = claim(grave.first_seen.as_millis(), 20);
        let counts = long.join(short).join(grave);
        assert_eq!(counts, short);
        assert!(counts.is_live(Timestamp::from_millis(19)));
        assert!(!counts.is_live(Timestamp::from_millis(20)));
        assert!(!long.join(grave).is_live(Timestamp::from_millis(6)));
    }
}
