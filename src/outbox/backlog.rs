//! The messages that wait, in memory: where they are in their topics. Their payloads are in the log.
//!
//! Told by the engine of every message that is entered and removed. Nobody asks it for what is at the stable end of the topic
//! or above: of that a part may be missing.

use crate::engine::{Replay, RowChanged, RowState};
use crate::id::{Family, Key, NsId};
use crate::outbox::entry::{Copies, Entries, Entry};
use crate::outbox::message::{Message, MessageId, Stored};
use crate::outbox::schedule::{Fate, Next, Schedule, Taken, Want};
use crate::sync::{Arc, AtomicBool, Mutex, Ordering, RwLock};
use crate::time::Timestamp;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

/// The backlogs of all topics of a store.
#[derive(Debug, Default)]
pub(super) struct Backlogs {
    topics: RwLock<HashMap<NsId, Arc<Backlog>>>,
    hasher: RandomState,
    copies: Copies,
    /// Not set while all that waits is read for the first time: it may be much more than there is room for, and the
    /// readers may be far behind.
    keeps_copies: AtomicBool,
}

impl Backlogs {
    /// Keeps copies of messages that are entered from now on.
    pub(super) fn keep_copies(&self) {
        self.keeps_copies.store(true, Ordering::Relaxed);
    }

    /// Returns that of a topic, by the key space of its rows.
    pub(super) fn of(&self, topic: NsId) -> Arc<Backlog> {
        if let Some(backlog) = self.topics.read().get(&topic) {
            return Arc::clone(backlog);
        }
        Arc::clone(self.topics.write().entry(topic).or_default())
    }
}

impl Backlogs {
    /// Returns what is kept of a message, and its position.
    fn entry(&self, id: MessageId, row: RowState<'_>, keeps_copies: bool) -> (u64, Entry) {
        // One that cannot be decoded is met by who reads it.
        let key = Stored::take(row.value).map(|stored| stored.key).unwrap_or_default();
        let key = (!key.is_empty()).then(|| self.hasher.hash_one(key));
        let copy = keeps_copies.then(|| self.copies.of(row.value)).flatten();
        (row.sequence, Entry { id, key, bytes: row.value.len() as u32, copy })
    }
}

impl Replay for Backlogs {
    fn family(&self) -> Family {
        Family::OUTBOX
    }

    fn apply(&self, key: Key<'_>, row: Option<RowState<'_>>, replaced: Option<u64>) {
        self.apply_all(&mut std::iter::once(RowChanged { key, row, replaced }));
    }

    fn apply_all(&self, changes: &mut dyn Iterator<Item = RowChanged<'_>>) {
        let keeps_copies = self.keeps_copies.load(Ordering::Relaxed);
        let mut changes = changes.peekable();
        while let Some(first) = changes.peek() {
            // Those of a topic come one after the other, nearly always.
            let topic = first.key.ns;
            let backlog = self.of(topic);
            let mut state = backlog.state.lock();
            while let Some(change) = changes.next_if(|change| change.key.ns == topic) {
                let RowChanged { key, row, replaced } = change;
                let Ok(id) = key.id.try_into().map(MessageId) else { continue };
                state.apply(row.map(|row| self.entry(id, row, keeps_copies)), replaced);
            }
        }
    }

    fn forget(&self, is_gone: &dyn Fn(NsId) -> bool) {
        let forgotten: Vec<_> =
            self.topics.write().extract_if(|topic, _| is_gone(*topic)).collect();
        // Not under the lock: there may be a million messages, and commits wait for it.
        drop(forgotten);
    }
}

/// The messages of a topic that wait.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    entries: Entries,
    bytes: u64,
    /// Messages of commits on their way that were admitted. Each that is entered is one less.
    admitted: usize,
    /// What the relays of this process do with them.
    schedule: Schedule,
}

/// How much waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) count: usize,
    pub(super) bytes: u64,
}

impl State {
    fn apply(&mut self, entry: Option<(u64, Entry)>, replaced: Option<u64>) {
        if let Some(gone) = replaced.and_then(|replaced| self.entries.remove(&replaced)) {
            self.bytes -= u64::from(gone.bytes);
        }
        if let Some((position, entry)) = entry {
            self.bytes += u64::from(entry.bytes);
            self.entries.insert(position, entry);
            self.admitted = self.admitted.saturating_sub(1);
        }
    }
}

impl Backlog {
    /// Admits so many messages of a commit, unless more than `most` would wait then. Returns how many do if not.
    pub(super) fn admit(&self, count: usize, most: usize) -> Result<(), usize> {
        let mut state = self.state.lock();
        let waiting = state.entries.len() + state.admitted;
        if waiting.saturating_add(count) > most {
            return Err(waiting);
        }
        state.admitted += count;
        Ok(())
    }

    /// Returns whether so many would be admitted.
    pub(super) fn has_room(&self, count: usize, most: usize) -> bool {
        let state = self.state.lock();
        (state.entries.len() + state.admitted).saturating_add(count) <= most
    }

    /// Takes back that so many were admitted, because they are not committed.
    pub(super) fn give_back(&self, count: usize) {
        let mut state = self.state.lock();
        state.admitted = state.admitted.saturating_sub(count);
    }

    /// Returns how much waits, and the oldest after a position.
    pub(super) fn size(&self, after: Option<u64>) -> (Size, Option<(u64, MessageId)>) {
        let state = self.state.lock();
        let mut found = between(&state.entries, after, u64::MAX);
        let oldest = found.next().map(|(position, entry)| (position, entry.id));
        drop(found);
        (Size { count: state.entries.len(), bytes: state.bytes }, oldest)
    }

    /// Returns the first that wait after a position and before the stable end, in order; at most so many.
    pub(super) fn ids_below(
        &self,
        after: Option<u64>,
        stable_end: u64,
        limit: usize,
    ) -> Vec<(u64, MessageId)> {
        let state = self.state.lock();
        let found = between(&state.entries, after, stable_end).take(limit);
        found.map(|(position, entry)| (position, entry.id)).collect()
    }

    /// Returns what waits after this position and before the stable end, in order: the message in the store of this tag, if
    /// there is a copy of it.
    pub(super) fn after(
        &self,
        after: Option<u64>,
        stable_end: u64,
        limit: usize,
        store: u64,
    ) -> Vec<(u64, MessageId, Option<Message>)> {
        let state = self.state.lock();
        let found = between(&state.entries, after, stable_end).take(limit);
        found
            .map(|(position, entry)| (position, entry.id, entry.message(position, store)))
            .collect()
    }

    /// Returns the message at a position in the store of this tag, if there is a copy of it.
    pub(super) fn copy(&self, position: u64, store: u64) -> Option<Message> {
        self.state.lock().entries.get(&position)?.message(position, store)
    }

    /// Returns whether something does.
    pub(super) fn has_after(&self, after: Option<u64>, stable_end: u64) -> bool {
        between(&self.state.lock().entries, after, stable_end).next().is_some()
    }

    /// Takes what a worker of a relay may deliver now.
    pub(super) fn take(&self, stable_end: u64, now: Timestamp, want: Want) -> Next {
        let mut state = self.state.lock();
        let State { entries, schedule, .. } = &mut *state;
        schedule.take(entries, stable_end, now, want)
    }

    /// Says what became of what was taken. Returns whether another worker may have something to do because of it.
    pub(super) fn settle(&self, taken: &Taken, fates: &[Fate]) -> bool {
        self.state.lock().schedule.settle(taken, fates)
    }

    /// Lets nobody take anything before a time that `pause` chooses by how often this was done since something was
    /// delivered.
    pub(super) fn pause(&self, pause: impl FnOnce(u32) -> Timestamp) {
        self.state.lock().schedule.pause(pause);
    }

    /// Notes that the receiver works.
    pub(super) fn resume(&self) {
        self.state.lock().schedule.resume();
    }
}

/// Returns what is after a position and before the stable end.
fn between(
    entries: &Entries,
    after: Option<u64>,
    stable_end: u64,
) -> impl Iterator<Item = (u64, &Entry)> {
    let from = after.map_or(0, |after| after.saturating_add(1));
    // An empty range, not one that ends before it begins.
    entries.range(from..stable_end.max(from)).map(|(position, entry)| (*position, entry))
}

#[cfg(all(test, not(any(feature = "shuttle", feature = "loom"))))]
mod tests {
    use super::*;

    fn entry(id: u8) -> Entry {
        Entry { id: MessageId([id; 16]), key: None, bytes: 10, copy: None }
    }

    #[test]
    fn what_is_admitted_counts_once_while_it_is_on_its_way_and_once_it_waits() {
        let backlog = Backlog::default();
        assert_eq!(backlog.admit(2, 3), Ok(()));
        assert_eq!(backlog.admit(2, 3), Err(2));
        backlog.state.lock().apply(Some((5, entry(1))), None);
        assert_eq!(backlog.admit(1, 3), Ok(()), "one waits, one is on its way");
        backlog.state.lock().apply(Some((6, entry(2))), None);
        assert_eq!(backlog.admit(1, 3), Err(3));
        backlog.give_back(1);
        backlog.state.lock().apply(None, Some(5));
        assert_eq!(backlog.admit(2, 3), Ok(()));
        assert_eq!(backlog.size(None).0, Size { count: 1, bytes: 10 });
    }

    #[test]
    fn the_backlog_of_a_topic_that_is_gone_is_forgotten_and_its_copies_make_room() {
        let all = Backlogs::default();
        all.keep_copies();
        let topics = [3, 4].map(|n| NsId(n).rows(Family::OUTBOX));
        let value = Stored {
            emitted: Timestamp::from_millis(1),
            key: b"",
            given_id: b"",
            payload: &vec![7; 50_000],
        };
        let value = value.encode().expect("fits");
        let put = |topic: usize, n: u64| {
            let id = n.to_be_bytes().repeat(2);
            let key = Key { ns: topics[topic], id: &id };
            let row =
                RowState { value: &value, sequence: n, deadline: Timestamp::from_millis(u64::MAX) };
            all.apply(key, Some(row), None);
        };
        let mut n = 0;
        while n == 0 || all.of(topics[0]).copy(n, 0).is_some() {
            n += 1;
            put(0, n);
        }
        put(1, n + 1);
        assert!(all.of(topics[1]).copy(n + 1, 0).is_none(), "there is no room");
        all.forget(&|ns| ns == topics[0]);
        assert_eq!(all.topics.read().keys().collect::<Vec<_>>(), [&topics[1]]);
        put(1, n + 2);
        assert!(all.of(topics[1]).copy(n + 2, 0).is_some());
        assert_eq!(all.of(topics[1]).size(None).0.count, 2);
    }

    #[test]
    fn nothing_is_told_at_the_stable_end_or_above() {
        let backlog = Backlog::default();
        for position in [3, 5, 9] {
            backlog.state.lock().apply(Some((position, entry(position as u8))), None);
        }
        let positions = |after, stable_end| {
            let found = backlog.after(after, stable_end, 10, 0);
            assert_eq!(backlog.has_after(after, stable_end), !found.is_empty());
            found.into_iter().map(|(position, ..)| position).collect::<Vec<_>>()
        };
        assert_eq!(positions(None, 9), [3, 5]);
        assert_eq!(positions(Some(3), 10), [5, 9]);
        assert_eq!(positions(Some(9), 5), [0; 0]);
        assert_eq!(positions(Some(u64::MAX), 5), [0; 0]);
        assert_eq!(backlog.after(None, 10, 1, 0).len(), 1);
        let ids = |after, stable_end, limit| {
            let found = backlog.ids_below(after, stable_end, limit);
            found.into_iter().map(|(position, _)| position).collect::<Vec<_>>()
        };
        assert_eq!((ids(None, 9, 10), ids(None, 10, 2)), (vec![3, 5], vec![3, 5]));
        assert_eq!((ids(Some(5), 10, 2), ids(Some(9), 10, 2)), (vec![9], vec![]));
    }
}
