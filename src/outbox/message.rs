//! A message: its id, and its row.
//!
//! ```text
//! version u8 | length, key | length, given id | payload
//! ```
//!
//! The key of the row is the message's id. The order of a topic is that of the sequences of its rows.

use crate::codec::put_varint;
use crate::engine::{Engine, Expect, OwnedRow, RowChange};
use crate::error::Result;
use crate::id::{Family, Key};
use crate::outbox::Outbox;
use crate::time::Ttl;
use std::fmt;

/// The id of a message: 16 bytes that follow from the claimed id or the attempt that the message belongs to, and its number
/// among their messages. The same event processed again, by this store or another, emits messages of the same ids.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub(crate) [u8; 16]);

impl MessageId {
    /// Returns the id as bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Returns the id of the message of this number that belongs to an id of a namespace or ledger.
    pub(crate) fn derived(topic: &str, owner: &str, id: &[u8], number: u32) -> Self {
        let parts = [topic.as_bytes(), owner.as_bytes(), id, &number.to_be_bytes()];
        Self::hash("firstseen message of an event", &parts)
    }

    /// Returns the id of a message whose id is given.
    pub(crate) fn given(topic: &str, id: &[u8]) -> Self {
        Self::hash("firstseen message of a given id", &[topic.as_bytes(), id])
    }

    fn hash(context: &str, parts: &[&[u8]]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(context);
        for part in parts {
            hasher.update(&(part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        let mut id = [0; 16];
        hasher.finalize_xof().fill(&mut id);
        Self(id)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MessageId({self})")
    }
}

/// A message that is to be committed with others.
#[derive(Debug, Clone)]
pub(crate) struct PlannedMessage {
    pub(crate) outbox: Outbox,
    pub(crate) id: MessageId,
    /// The id that the caller gave it; empty if it was derived.
    pub(crate) given_id: Vec<u8>,
    /// Messages of one key stay in order; empty for none.
    pub(crate) key: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

const FORMAT: u8 = 1;

impl PlannedMessage {
    /// Returns its row. No message of this id may wait.
    pub(crate) fn row(&self) -> Result<OwnedRow> {
        let mut value = Vec::with_capacity(8 + self.key.len() + self.payload.len());
        value.push(FORMAT);
        for bytes in [&self.key, &self.given_id] {
            put_varint(&mut value, bytes.len() as u64);
            value.extend_from_slice(bytes);
        }
        value.extend_from_slice(&self.payload);
        let Key { ns, id } = Engine::row_key(Family::OUTBOX, self.outbox.info.id, &self.id.0)?;
        Ok(OwnedRow {
            ns,
            id: id.to_vec(),
            change: RowChange::Put(value),
            ttl: Ttl::FOREVER,
            expect: Expect::Absent,
            is_quiet: true,
        })
    }
}
