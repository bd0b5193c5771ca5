//! What is answered about an event.

use crate::time::Timestamp;
use std::time::Duration;

/// The answer to a claim by event time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "the answer says whether the event is to be processed"]
pub enum EventClaim {
    /// The id is not remembered: the caller is the one to process the event.
    FirstSeen,
    /// The id is remembered: the event was seen before.
    Duplicate {
        /// The event time with which the id was first seen.
        first_event_time: Timestamp,
    },
    /// The id is not remembered, and the event is so late that it may have been and ended: nobody can tell, and nothing
    /// was claimed.
    TooLate {
        /// The watermark by which it is too late.
        watermark: Timestamp,
        /// How far the event is behind that watermark, the allowed lateness included.
        late_by: Duration,
    },
}

impl EventClaim {
    /// Returns whether the caller is the one to process the event.
    pub fn is_first_seen(&self) -> bool {
        matches!(self, Self::FirstSeen)
    }

    /// Returns whether the event was seen before.
    pub fn is_duplicate(&self) -> bool {
        matches!(self, Self::Duplicate { .. })
    }

    /// Returns whether the event is too late.
    pub fn is_too_late(&self) -> bool {
        matches!(self, Self::TooLate { .. })
    }
}

/// One event of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event<'a> {
    /// The id, 1 to 1,024 bytes.
    pub id: &'a [u8],
    /// Where it comes from: a name of 1 to 255 bytes.
    pub source: &'a str,
    /// When it happened.
    pub time: Timestamp,
}

/// A source as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SourceState {
    /// Its name.
    pub name: String,
    /// The greatest event time seen from it, minus the bound of its disorder.
    pub watermark: Timestamp,
    /// Whether it has said nothing for so long that it does not hold the watermark back.
    pub is_idle: bool,
    /// Whether the watermark of the namespace waits for it: no active source is further behind.
    pub holds_back: bool,
}

/// What was answered since the store was opened, and how late events were.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct EventStats {
    /// Events that were first seen.
    pub first_seen: u64,
    /// Events whose id was remembered.
    pub duplicates: u64,
    /// Events that were later than the allowed lateness and whose id was not remembered, whatever was answered.
    pub too_late: u64,
    /// Events behind the watermark, too late or not.
    pub late: u64,
    /// How far behind the watermark the latest of them was.
    pub max_lateness: Duration,
    /// Events behind the watermark by how far they were: index n counts those from 2^n ms to below 2^(n+1) ms. The last
    /// one counts all that were later than that.
    pub lateness: [u64; Self::BUCKETS],
}

impl EventStats {
    /// The number of powers of two that are told apart: up to 2^31 ms, about 25 days.
    pub const BUCKETS: usize = 32;

    /// Counts an event and its answer.
    pub(super) fn count(&mut self, answer: &EventClaim, is_too_late: bool, behind_ms: u64) {
        self.too_late += u64::from(is_too_late);
        match answer {
            EventClaim::FirstSeen => self.first_seen += 1,
            EventClaim::Duplicate { .. } => self.duplicates += 1,
            EventClaim::TooLate { .. } => {}
        }
        if let Some(power) = behind_ms.checked_ilog2() {
            self.late += 1;
            self.max_lateness = self.max_lateness.max(Duration::from_millis(behind_ms));
            self.lateness[(power as usize).min(Self::BUCKETS - 1)] += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateness_is_counted_by_powers_of_two() {
        let mut stats = EventStats::default();
        for behind in [0, 1, 2, 3, 1_024, u64::MAX] {
            stats.count(&EventClaim::FirstSeen, behind > 2, behind);
        }
        assert_eq!((stats.first_seen, stats.late, stats.too_late), (6, 5, 3));
        assert_eq!(stats.max_lateness, Duration::from_millis(u64::MAX));
        let mut expected = [0; EventStats::BUCKETS];
        (expected[0], expected[1], expected[10], expected[31]) = (1, 2, 1, 1);
        assert_eq!(stats.lateness, expected);
    }
}
