//! What is kept in memory of a message that waits.

use crate::outbox::message::MessageId;
use std::collections::BTreeMap;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) id: MessageId,
    /// The hash of its ordering key; `None` if it has none. Two keys with one hash are taken for one, which delays the
    /// messages of one behind those of the other and does no other harm.
    pub(super) key: Option<u64>,
    /// Size of its row.
    pub(super) bytes: u32,
}

/// The messages of a topic, by position.
pub(super) type Entries = BTreeMap<u64, Entry>;
