//! What is kept in memory of a message that waits.

use crate::limits;
use crate::outbox::message::{Message, MessageId, Stored};
use crate::sync::{Arc, AtomicU64, Ordering};
use std::collections::BTreeMap;

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: MessageId,
    /// The hash of its ordering key; `None` if it has none. Two keys with one hash are taken for one, which delays the
    /// messages of one behind those of the other and does no other harm.
    pub(super) key: Option<u64>,
    /// Size of its row.
    pub(super) bytes: u32,
    /// A copy of its row, as long as there is room for copies: what is read soon is not read from the log.
    pub(super) copy: Option<Copied>,
}

/// The messages of a topic, by position.
pub(super) type Entries = BTreeMap<u64, Entry>;

impl Entry {
    /// Returns the message at this position in the store of this tag, if there is a copy.
    pub(super) fn message(&self, position: u64, store: u64) -> Option<Message> {
        Some(Stored::take(&self.copy.as_ref()?.bytes).ok()?.message(self.id, position, store))
    }
}

/// Counts the bytes of all copies of a store.
#[derive(Debug, Default)]
pub(super) struct Copies {
    bytes: Arc<AtomicU64>,
}

/// A copy of a row. Dropping it makes room for others.
#[derive(Debug)]
pub(super) struct Copied {
    bytes: Box<[u8]>,
    all: Arc<AtomicU64>,
}

impl Copies {
    /// Copies a row if it is short and there is room. The oldest messages have copies, and they are read first.
    pub(super) fn of(&self, row: &[u8]) -> Option<Copied> {
        if row.len() > limits::OUTBOX_COPY_BYTES_MAX {
            return None;
        }
        let len = row.len() as u64;
        let before = self.bytes.fetch_add(len, Ordering::Relaxed);
        if before + len > limits::OUTBOX_COPIES_BYTES_MAX {
            self.bytes.fetch_sub(len, Ordering::Relaxed);
            return None;
        }
        Some(Copied { bytes: row.into(), all: Arc::clone(&self.bytes) })
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes.len() as u64, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(any(feature = "shuttle", feature = "loom"))))]
mod tests {
    use super::*;

    #[test]
    fn copies_take_no_more_room_than_they_may_and_give_it_back() {
        let copies = Copies::default();
        let large = vec![7; limits::OUTBOX_COPY_BYTES_MAX];
        let most = limits::OUTBOX_COPIES_BYTES_MAX as usize / large.len();
        let all: Vec<Copied> =
            (0..most).map(|_| copies.of(&large).expect("there is room")).collect();
        assert!(copies.of(&[1]).is_none());
        drop(all);
        assert_eq!(copies.bytes.load(Ordering::Relaxed), 0);
        assert!(copies.of(&large).is_some());
    }

    #[test]
    fn i9_a_long_row_is_not_copied_under_the_locks_of_a_commit() {
        let copies = Copies::default();
        assert!(copies.of(&vec![7; limits::OUTBOX_COPY_BYTES_MAX + 1]).is_none());
        assert_eq!(copies.bytes.load(Ordering::Relaxed), 0);
    }
}
