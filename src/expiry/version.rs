//! A version: what one record says about a key, and the order that decides which of several counts.
//!
//! Several records of a key may exist at once: an expired claim not yet swept and its successor, a claim and its
//! extension, copies made by log compaction, a tombstone, a row and the one it replaced. Runs are merged, healed and
//! replayed in any order, so the choice must not depend on where or in which order records are found. Versions of one
//! key therefore form a join semilattice: [`Version::join`] picks the greater one, and applying a record twice changes
//! nothing.

use crate::expiry::generation::end_liveness;
use crate::expiry::{Class, GenId, Horizon, Liveness};
use crate::time::{Moment, Timestamp, Ttl};

/// What one record says about a key.
///
/// | | claim | row |
/// |---|---|---|
/// | `rank` | when the id was first seen, in ms; for a tombstone, when the claim was cancelled | its sequence number |
/// | `step` | even: a claim, odd: the tombstone that cancels it | 0: a row, 1: a tombstone |
/// | `deadline` | when it ends; for a tombstone, until when it must be kept (the end of what it cancels) | the same |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version {
    /// Decides first which of two versions of a key counts.
    pub(crate) rank: u64,
    pub(crate) deadline: Timestamp,
    /// The width of its generation.
    pub(crate) class: Class,
    /// Orders the events of an id within one millisecond: a claim has an even number, the tombstone that cancels it
    /// the next odd one, and so on. Timestamps alone cannot do this without inventing times.
    pub(crate) step: u16,
}

/// Whether a version says that something is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A claim or a row.
    Value,
    /// What there was has been forgotten or deleted.
    Tombstone,
}

/// The last step that can have a successor.
const STEP_MAX: u16 = u16::MAX - 2;

impl Version {
    /// Creates a claim made at `at` that lives for `ttl`.
    #[inline]
    pub(crate) fn claim(at: Timestamp, ttl: Ttl) -> Self {
        Self::claim_at(Moment { now: at, latest: at }, ttl)
    }

    /// Creates a claim made at this moment; its ttl counts from the latest time that may be right.
    #[inline]
    pub(crate) fn claim_at(at: Moment, ttl: Ttl) -> Self {
        let class = ttl.as_millis().map_or(Class::FOREVER, Class::of_ttl);
        Self { rank: at.now.as_millis(), deadline: ttl.deadline(at.latest), class, step: 0 }
    }

    /// Creates a row of the next sequence number, live until `deadline`.
    pub(crate) fn row(sequence: u64, kind: Kind, deadline: Timestamp, class: Class) -> Self {
        let step = u16::from(kind == Kind::Tombstone);
        Self { rank: sequence, deadline, class, step }
    }

    /// Returns the tombstone that says of a row that has ended what the row says.
    pub(crate) fn without_value(self) -> Self {
        Self { step: 1, ..self }
    }

    /// Returns when the id of this claim was first seen.
    #[inline]
    pub(crate) fn first_seen(&self) -> Timestamp {
        Timestamp::from_millis(self.rank)
    }

    /// Returns whether the record says that the key was forgotten or deleted.
    #[inline]
    pub(crate) fn is_tombstone(&self) -> bool {
        self.step % 2 == 1
    }

    /// Returns whether there is a live claim or row according to this record (I4).
    #[inline]
    pub(crate) fn is_live<'a>(&self, now: impl Into<Horizon<'a>>) -> bool {
        !self.is_tombstone()
            && end_liveness(self.class, self.deadline, now.into()) == Liveness::Live
    }

    /// Returns whether the record can be dropped because nothing it says matters from `now` on. Its generation
    /// decides, not its own deadline: it may supersede older records, which must not outlive it.
    pub(crate) fn is_spent<'a>(&self, now: impl Into<Horizon<'a>>) -> bool {
        self.generation().liveness(now) == Liveness::Expired
    }

    /// Returns this record as the successor of `known`: it ranks higher, and its generation ends no earlier.
    ///
    /// Dropping a record must not revive what it superseded. Otherwise a long claim that was forgotten and claimed
    /// again for a short time would be live again once the short claim is swept. So of two records of an id, the one
    /// that counts is kept at least as long as the other.
    pub(crate) fn after(mut self, known: Option<&Self>) -> Self {
        let Some(known) = known else { return self };
        if known.rank >= self.rank {
            self.rank = known.rank;
            self.step = if known.is_tombstone() { known.step + 1 } else { known.step };
        }
        let end = known.generation().end();
        while self.generation().end() < end {
            self.class =
                if end == Timestamp::NEVER { self.class.forever() } else { self.class.wider() };
        }
        self
    }

    pub(crate) fn generation(&self) -> GenId {
        GenId::of(self.class, self.deadline)
    }

    /// Returns the version that counts. A later one beats an earlier one, a tombstone beats earlier claims, and of
    /// two records of one claim the longer-lived (an extension) wins.
    pub(crate) fn join(self, other: Self) -> Self {
        if other.order() > self.order() { other } else { self }
    }

    fn order(&self) -> (u64, u16, Timestamp) {
        (self.rank, self.step, self.deadline)
    }

    /// Returns the tombstone that cancels this claim.
    pub(crate) fn tombstone(&self, now: Timestamp) -> Self {
        if now > self.first_seen() {
            Self { rank: now.as_millis(), step: 1, ..*self }
        } else if self.step < STEP_MAX {
            Self { step: self.step + 1, ..*self }
        } else {
            // Only after thirty thousand tombstones within one millisecond is a later time invented.
            Self { rank: self.rank.saturating_add(1), step: 1, ..*self }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(first_seen: u64, deadline: u64) -> Version {
        Version {
            rank: first_seen,
            deadline: Timestamp::from_millis(deadline),
            class: Class::of_ttl(deadline - first_seen),
            step: 0,
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
        let short = claim(grave.rank, 20).after(Some(&grave));
        let counts = long.join(short).join(grave);
        assert_eq!(counts, short);
        assert!(counts.is_live(Timestamp::from_millis(19)));
        assert!(!counts.is_live(Timestamp::from_millis(20)));
        assert!(!long.join(grave).is_live(Timestamp::from_millis(6)));
    }
}
