//! A message: its id, and its row.
//!
//! ```text
//! version u8 | emitted, in ms since the epoch | length, key | length, given id | payload
//! ```
//!
//! Integers are varints. The key of the row is the message's id. The order of a topic is that of the sequences of its
//! rows.

use crate::codec::{Undecodable, put_bytes, put_varint, stored};
use crate::error::{Error, Result};
use crate::id::ShortId;
use crate::limits;
use crate::time::Timestamp;
use std::fmt;
use std::path::Path;
use std::sync::LazyLock;

/// The id of a message: 16 bytes that follow from the claimed id or what becomes of a record that the message belongs to, and
/// its number among their messages. The same event processed again, by this store or another, emits messages of the same ids.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub(crate) [u8; 16]);

impl MessageId {
    /// Returns the id that these bytes are, such as one that was kept elsewhere.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Returns the id as bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Returns the id of the first message to a topic that belongs to an event: a claim or an attempt, the name of its
    /// namespace or ledger, and its id. Namespaces and ledgers may share a name.
    pub(crate) fn derived(topic: &str, (kind, owner, id): (&str, &str, &[u8])) -> Self {
        static CONTEXT: LazyLock<blake3::Hasher> =
            LazyLock::new(|| blake3::Hasher::new_derive_key("firstseen message of an event"));
        Self::hash(&CONTEXT, &[topic.as_bytes(), kind.as_bytes(), owner.as_bytes(), id])
    }

    /// Returns the id of a later message that belongs to the same. Two hashes so close together that the ids of their
    /// messages meet are as unlikely as two that are equal, but for the factor of their number.
    pub(crate) fn later(self, number: u32) -> Self {
        Self(u128::from_be_bytes(self.0).wrapping_add(number.into()).to_be_bytes())
    }

    /// Returns the id of a message whose id is given.
    pub(crate) fn given(topic: &str, id: &[u8]) -> Self {
        static CONTEXT: LazyLock<blake3::Hasher> =
            LazyLock::new(|| blake3::Hasher::new_derive_key("firstseen message of a given id"));
        Self::hash(&CONTEXT, &[topic.as_bytes(), id])
    }

    fn hash(context: &blake3::Hasher, parts: &[&[u8]]) -> Self {
        // In one piece: the hasher is slower with several short ones than copying them is.
        let bytes = parts.iter().map(|part| size_of::<u64>() + part.len()).sum();
        let mut all = Vec::with_capacity(bytes);
        for part in parts {
            all.extend_from_slice(&(part.len() as u64).to_be_bytes());
            all.extend_from_slice(part);
        }
        let hash = context.clone().update(&all).finalize();
        let mut id = [0; 16];
        id.copy_from_slice(&hash.as_bytes()[..16]);
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

/// A message that waits in a topic.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// Its id, the same however often it is delivered: receivers recognise a repetition by it.
    pub id: MessageId,
    /// The id that [`emit_as`](crate::transaction::Transaction::emit_as) gave it; empty if it was derived.
    pub given_id: Vec<u8>,
    /// Its ordering key; empty for none.
    pub key: Vec<u8>,
    /// What it says.
    pub payload: Vec<u8>,
    /// Its position: grows in the order of the commits of a topic, with gaps.
    pub position: u64,
    /// When its transaction was committed or prepared.
    pub emitted: Timestamp,
    /// The tag of its store: another store may have a message of the same id at the same position.
    pub(super) store: u64,
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("id", &self.id)
            .field("given_id", &ShortId(&self.given_id))
            .field("key", &ShortId(&self.key))
            .field("payload_bytes", &self.payload.len())
            .field("position", &self.position)
            .field("emitted", &self.emitted)
            .finish_non_exhaustive()
    }
}

const FORMAT: u8 = 1;

/// The fields of a stored message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stored<'a> {
    pub(super) emitted: Timestamp,
    pub(super) key: &'a [u8],
    pub(super) given_id: &'a [u8],
    pub(super) payload: &'a [u8],
}

impl<'a> Stored<'a> {
    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(24 + self.bytes());
        out.push(FORMAT);
        put_varint(&mut out, self.emitted.as_millis());
        for bytes in [self.key, self.given_id] {
            put_bytes(&mut out, bytes);
        }
        out.extend_from_slice(self.payload);
        if self.bytes() > limits::OUTBOX_MESSAGE_BYTES_MAX {
            return Err(Error::invalid(format!(
                "a message has {} bytes; the limit is {}",
                self.bytes(),
                limits::OUTBOX_MESSAGE_BYTES_MAX
            )));
        }
        Ok(out)
    }

    fn bytes(&self) -> usize {
        self.key.len() + self.given_id.len() + self.payload.len()
    }

    /// Decodes a message of the store in this folder.
    pub(super) fn decode(dir: &Path, id: MessageId, bytes: &'a [u8]) -> Result<Self> {
        Self::take(bytes)
            .map_err(|why| why.error(dir, FORMAT, format!("the message {id} cannot be decoded")))
    }

    pub(super) fn take(bytes: &'a [u8]) -> std::result::Result<Self, Undecodable> {
        let mut r = stored(bytes, FORMAT)?;
        let mut take = || {
            let emitted = Timestamp::from_millis(r.varint()?);
            let (key, given_id) = (r.sized()?, r.sized()?);
            Some(Self { emitted, key, given_id, payload: r.rest() })
        };
        take().ok_or(Undecodable::Damaged)
    }

    /// Returns the message of this id at this position, in the store of this tag.
    pub(super) fn message(self, id: MessageId, position: u64, store: u64) -> Message {
        let Self { emitted, key, given_id, payload } = self;
        let (key, given_id, payload) = (key.to_vec(), given_id.to_vec(), payload.to_vec());
        Message { id, given_id, key, payload, position, emitted, store }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn ids_of_messages_follow_from_names_and_ids_by_a_published_function() {
        let parts: [&[u8]; 4] = [b"topic", b"claim", b"orders", &[7; 1_000]];
        let sized = |part: &[u8]| [&(part.len() as u64).to_be_bytes(), part].concat();
        let all: Vec<u8> = parts.iter().flat_map(|part| sized(part)).collect();
        let hash = blake3::derive_key("firstseen message of an event", &all);
        let id = MessageId::derived("topic", ("claim", "orders", &[7; 1_000]));
        assert_eq!(id.0, hash[..16]);
        let all = [sized(b"topic"), sized(b"17")].concat();
        let hash = blake3::derive_key("firstseen message of a given id", &all);
        assert_eq!(MessageId::given("topic", b"17").0, hash[..16]);
    }

    #[test]
    fn a_message_comes_back_and_half_of_its_head_or_a_newer_one_is_an_error() {
        let emitted = Timestamp::from_millis(1_700_000_000_000);
        let stored = Stored { emitted, key: b"anna", given_id: b"order-17", payload: b"" };
        let (bytes, id) = (stored.encode().expect("encodes"), MessageId([7; 16]));
        let decode = |bytes| {
            let found = Stored::decode(Path::new("x"), id, bytes);
            found.map(|found| found == stored).map_err(|error| error.kind())
        };
        assert_eq!(decode(&bytes), Ok(true));
        for len in 0..bytes.len() {
            assert_eq!(decode(&bytes[..len]), Err(ErrorKind::Repair), "{len} bytes");
        }
        assert_eq!(decode(&[&[FORMAT + 1], &bytes[1..]].concat()), Err(ErrorKind::FixCall));
        let payload = vec![0; limits::OUTBOX_MESSAGE_BYTES_MAX - 12];
        assert!(Stored { payload: &payload, ..stored }.encode().is_ok());
        let payload = vec![0; limits::OUTBOX_MESSAGE_BYTES_MAX - 11];
        let error = Stored { payload: &payload, ..stored }.encode().expect_err("too large");
        assert_eq!(error.kind(), ErrorKind::FixCall);
    }
}
