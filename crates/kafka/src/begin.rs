//! Where to read on in a partition: what the store says, what the group has committed, and what the brokers still have.

use crate::mark::Mark;
use crate::settings::KafkaStart;

/// What is known of a partition that is about to be read.
#[derive(Debug, Clone)]
pub(crate) struct Known<'a> {
    /// The next offset that the store says; `None`: it knows nothing of the partition.
    pub(crate) stored: Option<i64>,
    /// The offset that the group has committed, and what stands beside it.
    pub(crate) committed: Option<(i64, Option<Mark>)>,
    /// The oldest offset that the brokers have, and the one behind the last.
    pub(crate) low: i64,
    pub(crate) high: i64,
    /// The name of the store, if it may be behind what it has committed to the group itself.
    pub(crate) store: Option<&'a str>,
}

/// Where to read on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Begin {
    /// At this offset, which the store knows.
    At(i64),
    /// At this offset, which the store is to know before anything is read.
    First(i64),
    /// Nowhere.
    Refused(Refusal),
}

/// Why a partition is not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Another store has read further.
    Elsewhere { stored: Option<i64>, committed: i64 },
    /// What would come next is gone.
    Gone { stored: i64, low: i64 },
    /// The store has read what the brokers do not have.
    Ahead { stored: i64, high: i64 },
    /// Nothing says where to begin.
    Nowhere,
}

impl Known<'_> {
    /// Decides where to read on. `adopts`: where another consumer of the group has stopped is as good.
    pub(crate) fn begin(&self, start: KafkaStart, adopts: bool) -> Begin {
        let Self { stored, low, high, .. } = *self;
        let of_others = self.committed.as_ref().filter(|(committed, mark)| {
            // What this store has committed itself it has read; if it is behind that, it has lost its last moments.
            let is_own = mark.as_ref().is_some_and(|mark| Some(&*mark.store) == self.store);
            stored.is_none_or(|stored| *committed > stored) && !is_own
        });
        match of_others {
            Some((committed, _)) if adopts => return Begin::First(*committed),
            Some((committed, _)) => {
                return Begin::Refused(Refusal::Elsewhere { stored, committed: *committed });
            }
            None => {}
        }
        let Some(stored) = stored else {
            return match start {
                KafkaStart::Earliest => Begin::First(low),
                KafkaStart::Latest => Begin::First(high),
                KafkaStart::Fail => Begin::Refused(Refusal::Nowhere),
            };
        };
        if stored < low {
            return Begin::Refused(Refusal::Gone { stored, low });
        }
        if stored > high {
            return Begin::Refused(Refusal::Ahead { stored, high });
        }
        Begin::At(stored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(stored: Option<i64>, committed: Option<(i64, &str)>) -> Known<'static> {
        let mark =
            |store: &str| (!store.is_empty()).then(|| Mark { store: store.to_owned(), gid: None });
        let committed = committed.map(|(offset, store)| (offset, mark(store)));
        Known { stored, committed, low: 10, high: 100, store: Some("mine") }
    }

    #[test]
    fn the_store_says_where_to_read_on_whatever_the_group_has_committed_for_it() {
        for committed in [None, Some((20, "mine")), Some((90, "mine")), Some((40, "other"))] {
            let begin = known(Some(50), committed).begin(KafkaStart::Latest, false);
            assert_eq!(begin, Begin::At(50), "{committed:?}");
        }
    }

    #[test]
    fn what_another_store_has_read_is_not_read_again_by_one_that_knows_nothing_of_it() {
        for by in ["other", ""] {
            for stored in [None, Some(50)] {
                let known = known(stored, Some((60, by)));
                let refused = Refusal::Elsewhere { stored, committed: 60 };
                assert_eq!(known.begin(KafkaStart::Earliest, false), Begin::Refused(refused));
                assert_eq!(known.begin(KafkaStart::Earliest, true), Begin::First(60), "adopted");
            }
        }
    }

    #[test]
    fn a_store_that_never_loses_its_last_moments_is_not_behind_the_group() {
        let known = Known { store: None, ..known(Some(50), Some((60, "mine"))) };
        let refused = Refusal::Elsewhere { stored: Some(50), committed: 60 };
        assert_eq!(known.begin(KafkaStart::Earliest, false), Begin::Refused(refused));
    }

    #[test]
    fn a_partition_that_nobody_has_read_begins_where_the_options_say() {
        let known = known(None, None);
        assert_eq!(known.begin(KafkaStart::Earliest, false), Begin::First(10));
        assert_eq!(known.begin(KafkaStart::Latest, false), Begin::First(100));
        assert_eq!(known.begin(KafkaStart::Fail, false), Begin::Refused(Refusal::Nowhere));
    }

    #[test]
    fn what_is_gone_is_said_and_not_skipped() {
        let begin = |stored| known(Some(stored), None).begin(KafkaStart::Earliest, false);
        assert_eq!(begin(9), Begin::Refused(Refusal::Gone { stored: 9, low: 10 }));
        assert_eq!(begin(10), Begin::At(10));
        assert_eq!(begin(100), Begin::At(100));
        assert_eq!(begin(101), Begin::Refused(Refusal::Ahead { stored: 101, high: 100 }));
    }
}
