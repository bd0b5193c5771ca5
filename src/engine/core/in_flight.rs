//! Commits on their way whose rows are read in the order of their sequences: the messages of topics.
//!
//! A commit takes its sequences before it locks its shards, so a higher one may be entered first. Who reads a topic in
//! order stops at its stable end: what is below it is entered, or never will be.
//!
//! Each topic has a stable end of its own. A commit that hangs holds back the readers of what it writes, and its end wakes
//! nobody else.

use crate::id::{Key, NsId};
use crate::sync::{AtomicU64, Mutex, Ordering};
use std::collections::{BTreeMap, HashMap};

/// The commits on their way: for each topic, how many of them take sequences from this number on.
#[derive(Debug, Default)]
pub(in crate::engine) struct InFlight {
    begun: Mutex<HashMap<NsId, BTreeMap<u64, usize>>>,
}

/// A commit on its way. It ends when this is dropped.
#[derive(Debug)]
pub(in crate::engine) struct Flight<'a> {
    all: &'a InFlight,
    topics: &'a [NsId],
    from: u64,
}

/// What somebody waits for in a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TopicEvent {
    /// A commit to it has ended, so there may be more to read.
    Ended,
    /// Messages were removed from it, so there may be room.
    Removed,
}

impl TopicEvent {
    /// Returns the key under which it is watched. Ids of messages have another length, so it is that of no row.
    pub(in crate::engine) fn key(self, topic: NsId) -> Key<'static> {
        let id: &[u8] = match self {
            Self::Ended => b"ended",
            Self::Removed => b"removed",
        };
        Key { ns: topic, id }
    }
}

impl InFlight {
    /// Notes a commit to these topics that will take its sequences from here on.
    pub(in crate::engine) fn begin<'a>(
        &'a self,
        topics: &'a [NsId],
        next: &AtomicU64,
    ) -> Option<Flight<'a>> {
        if topics.is_empty() {
            return None;
        }
        let mut begun = self.begun.lock();
        let from = next.load(Ordering::Acquire);
        for topic in topics {
            *begun.entry(*topic).or_default().entry(from).or_default() += 1;
        }
        Some(Flight { all: self, topics, from })
    }

    /// Returns the sequence below which nothing is on its way to a topic any more.
    pub(in crate::engine) fn stable_end(&self, topic: NsId, next: &AtomicU64) -> u64 {
        let begun = self.begun.lock();
        let oldest = begun.get(&topic).and_then(|commits| commits.keys().next().copied());
        oldest.unwrap_or_else(|| next.load(Ordering::Acquire))
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let mut begun = self.all.begun.lock();
        for topic in self.topics {
            let Some(commits) = begun.get_mut(topic) else { continue };
            if let Some(count) = commits.get_mut(&self.from) {
                *count -= 1;
                if *count == 0 {
                    commits.remove(&self.from);
                }
            }
            if commits.is_empty() {
                begun.remove(topic);
            }
        }
    }
}

#[cfg(all(test, not(any(feature = "shuttle", feature = "loom"))))]
mod tests {
    use super::*;

    #[test]
    fn the_stable_end_is_the_begin_of_the_oldest_commit_on_its_way() {
        let (all, next) = (InFlight::default(), AtomicU64::new(7));
        let (one, both, other) = ([NsId(1)], [NsId(1), NsId(2)], NsId(2));
        assert_eq!(all.stable_end(NsId(1), &next), 7);
        let first = all.begin(&one, &next);
        next.store(9, Ordering::Release);
        assert_eq!(all.stable_end(other, &next), 9, "that commit is not to this topic");
        let (second, third) = (all.begin(&both, &next), all.begin(&one, &next));
        next.store(12, Ordering::Release);
        assert_eq!((all.stable_end(NsId(1), &next), all.stable_end(other, &next)), (7, 9));
        drop(first);
        assert_eq!(all.stable_end(NsId(1), &next), 9);
        drop(second);
        assert_eq!(all.stable_end(NsId(1), &next), 9, "another one has begun there");
        assert_eq!(all.stable_end(other, &next), 12);
        drop(third);
        assert_eq!(all.stable_end(NsId(1), &next), 12);
        assert!(all.begun.lock().is_empty(), "nothing is left behind");
        assert!(all.begin(&[], &next).is_none());
    }
}
