//! Dead letters of a topic: messages that could not be delivered.
//!
//! ```text
//! version u8 | cause u8 | since | attempts | position | length, reason | the row of the message
//! ```
//!
//! Integers are varints, the time is in ms since the epoch. The key of the row is the message's id.

use crate::codec::{Reader, put_varint};
use crate::engine::{Bells, Committed, Engine, Expect, Row, RowChange, RowWrite};
use crate::error::{Error, Result};
use crate::id::{Family, Key};
use crate::limits;
use crate::outbox::admission::Admission;
use crate::outbox::message::{Message, MessageId, Stored};
use crate::outbox::topic::Outbox;
use crate::time::{Timestamp, Ttl};
use std::path::Path;

/// The dead letters of a topic; see [`Outbox::dead_letters`].
#[derive(Debug, Clone)]
pub struct DeadMessages {
    outbox: Outbox,
}

/// Why a message is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeadMessageCause {
    /// The sink said that it can never be delivered.
    Refused,
    /// It has failed as often as the relay allows.
    Exhausted,
}

/// A message that could not be delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadMessage {
    /// The message, with the position that it had.
    pub message: Message,
    /// Why it is dead.
    pub cause: DeadMessageCause,
    /// What the sink said last; cut after 1,024 bytes.
    pub reason: String,
    /// How often it was tried.
    pub attempts: u32,
    /// Since when it is dead.
    pub since: Timestamp,
}

/// Some dead letters, the oldest first.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct DeadMessagePage {
    /// Those that could be read.
    pub messages: Vec<DeadMessage>,
    /// Those that could not, with the reason: they keep nobody from the others. On the first page only.
    pub unreadable: Vec<(MessageId, Error)>,
    /// What to ask for next; `None` if there are no more.
    pub next: Option<DeadMessageCursor>,
}

/// Where a page of dead letters ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeadMessageCursor {
    since: Timestamp,
    position: u64,
}

const FORMAT: u8 = 1;

const REFUSED: u8 = 1;
const EXHAUSTED: u8 = 2;

/// A stored dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StoredDead<'a> {
    pub(super) cause: DeadMessageCause,
    pub(super) since: Timestamp,
    pub(super) attempts: u32,
    pub(super) position: u64,
    pub(super) reason: &'a str,
    /// The row of the message.
    pub(super) message: &'a [u8],
}

impl<'a> StoredDead<'a> {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut cut = self.reason.len().min(limits::OUTBOX_REASON_BYTES_MAX);
        while !self.reason.is_char_boundary(cut) {
            cut -= 1;
        }
        let cause = match self.cause {
            DeadMessageCause::Refused => REFUSED,
            DeadMessageCause::Exhausted => EXHAUSTED,
        };
        let mut out = Vec::with_capacity(40 + cut + self.message.len());
        out.extend_from_slice(&[FORMAT, cause]);
        let numbers = [self.since.as_millis(), self.attempts.into(), self.position, cut as u64];
        numbers.into_iter().for_each(|number| put_varint(&mut out, number));
        out.extend_from_slice(&self.reason.as_bytes()[..cut]);
        out.extend_from_slice(self.message);
        out
    }

    fn decode(dir: &Path, id: MessageId, bytes: &'a [u8]) -> Result<Self> {
        if let Some(&newer) = bytes.first().filter(|version| **version > FORMAT) {
            let (path, found) = (dir.to_owned(), newer.into());
            return Err(Error::FromTheFuture { path, found, known: FORMAT.into() });
        }
        let damaged = || Error::corrupt(dir, 0, format!("the dead letter {id} cannot be decoded"));
        Self::take(bytes).ok_or_else(damaged)
    }

    fn take(bytes: &'a [u8]) -> Option<Self> {
        let mut r = Reader::new(bytes.strip_prefix(&[FORMAT])?);
        let cause = match r.u8()? {
            REFUSED => DeadMessageCause::Refused,
            EXHAUSTED => DeadMessageCause::Exhausted,
            _ => return None,
        };
        let (since, attempts) = (Timestamp::from_millis(r.varint()?), r.varint_u32()?);
        let (position, len) = (r.varint()?, usize::try_from(r.varint()?).ok()?);
        let reason = std::str::from_utf8(r.bytes(len)?).ok()?;
        Some(Self { cause, since, attempts, position, reason, message: r.rest() })
    }
}

impl Outbox {
    /// Returns the dead letters of this topic.
    pub fn dead_letters(&self) -> DeadMessages {
        DeadMessages { outbox: self.clone() }
    }

    /// Returns the write of a dead letter.
    pub(super) fn dead_write<'a>(
        &self,
        id: &'a MessageId,
        value: &'a [u8],
    ) -> Result<RowWrite<'a>> {
        let key = Engine::row_key(Family::OUTBOX_DEAD, self.info.id(), &id.0)?;
        Ok(write(key, RowChange::Put(value), Expect::Anything))
    }
}

impl DeadMessages {
    /// Lists dead letters, the oldest first; at most `limit` of those after a page. The cost depends on the number of dead
    /// letters of the store.
    ///
    /// # Errors
    ///
    /// As [`Store::get`](crate::Store::get).
    pub fn list(&self, after: Option<DeadMessageCursor>, limit: usize) -> Result<DeadMessagePage> {
        let mut page = DeadMessagePage::default();
        let mut found = Vec::new();
        self.visit(|id, read| match read {
            Ok((dead, _)) if after.is_none_or(|after| dead.cursor() > after) => {
                found.push(dead);
            }
            Err(error) if after.is_none() => page.unreadable.push((id, error)),
            _ => {}
        })?;
        found.sort_unstable_by_key(DeadMessage::cursor);
        let has_more = found.len() > limit;
        found.truncate(limit);
        page.next = found.last().filter(|_| has_more).map(DeadMessage::cursor);
        page.messages = found;
        Ok(page)
    }

    /// Returns the dead letter of a message; `None` if it is not dead.
    ///
    /// # Errors
    ///
    /// As [`Store::get`](crate::Store::get), and [`Repair`](crate::ErrorKind::Repair) if it is damaged.
    pub fn get(&self, id: MessageId) -> Result<Option<DeadMessage>> {
        let key = self.key(&id)?;
        let row = self.engine().get_row(key, self.outbox.durability())?;
        row.map(|row| self.decode(id, &row)).transpose()
    }

    /// Has a dead letter delivered: it waits in its topic again, behind all others, and counts as never tried. Returns
    /// whether it was dead; `false` also if a message of its id waits in the topic.
    ///
    /// # Errors
    ///
    /// As [`Store::claim`](crate::Store::claim), and as [`get`](Self::get).
    pub fn redrive(&self, id: MessageId) -> Result<bool> {
        let key = self.key(&id)?;
        let Some(row) = self.engine().get_row(key, self.outbox.durability())? else {
            return Ok(false);
        };
        let dead = StoredDead::decode(self.engine().dir(), id, &row.value)?;
        let to = Engine::row_key(Family::OUTBOX, self.outbox.info.id(), &id.0)?;
        self.commit(&[
            write(key, RowChange::Delete, Expect::Sequence(row.sequence)),
            write(to, RowChange::Put(dead.message), Expect::Absent),
        ])
    }

    /// Redrives all dead letters, the oldest first; see [`redrive`](Self::redrive). Returns how many. Those that cannot be
    /// read stay.
    ///
    /// # Errors
    ///
    /// As [`redrive`](Self::redrive); those before it have been redriven.
    pub fn redrive_all(&self) -> Result<usize> {
        self.all(|id| self.redrive(id))
    }

    /// Removes a dead letter. Returns whether it was dead.
    ///
    /// # Errors
    ///
    /// As [`Store::claim`](crate::Store::claim).
    pub fn purge(&self, id: MessageId) -> Result<bool> {
        let row = write(self.key(&id)?, RowChange::Delete, Expect::Anything);
        let mut bells = Bells::default();
        match self.engine().commit_rows(&[row], self.outbox.durability(), &mut bells)? {
            Committed::Done(sequences) => Ok(sequences.iter().any(Option::is_some)),
            Committed::Moved(_) => Err(Error::bug("a purge expects nothing")),
        }
    }

    /// Removes all dead letters that can be read. Returns how many.
    ///
    /// # Errors
    ///
    /// As [`purge`](Self::purge); those before it have been removed.
    pub fn purge_all(&self) -> Result<usize> {
        self.all(|id| self.purge(id))
    }

    fn all(&self, one: impl Fn(MessageId) -> Result<bool>) -> Result<usize> {
        let listed = self.list(None, usize::MAX)?.messages;
        let mut changed = 0;
        for dead in listed {
            changed += usize::from(one(dead.message.id)?);
        }
        Ok(changed)
    }

    /// Moves one message back, unless something has changed.
    fn commit(&self, rows: &[RowWrite<'_>; 2]) -> Result<bool> {
        let admission = Admission::of_one(&self.outbox);
        let mut bells = Bells::default();
        match self.engine().commit_rows(rows, self.outbox.durability(), &mut bells)? {
            Committed::Done(_) => {
                admission.made();
                Ok(true)
            }
            Committed::Moved(_) => Ok(false),
        }
    }

    fn visit(&self, mut visit: impl FnMut(MessageId, Result<(DeadMessage, u64)>)) -> Result<()> {
        let ns = self.outbox.view()?.ns.listed().rows(Family::OUTBOX_DEAD);
        self.engine().list_rows(Family::OUTBOX_DEAD, |key, row| {
            if let Ok(id) = key.id.try_into().map(MessageId)
                && key.ns == ns
            {
                visit(id, row.and_then(|row| Ok((self.decode(id, &row)?, row.sequence))));
            }
            Ok(())
        })
    }

    fn decode(&self, id: MessageId, row: &Row) -> Result<DeadMessage> {
        let dir = self.engine().dir();
        let dead = StoredDead::decode(dir, id, &row.value)?;
        let message = Stored::decode(dir, id, dead.message)?.message(id, dead.position);
        let StoredDead { cause, since, attempts, reason, .. } = dead;
        Ok(DeadMessage { message, cause, reason: reason.to_owned(), attempts, since })
    }

    fn key<'a>(&self, id: &'a MessageId) -> Result<Key<'a>> {
        Engine::row_key(Family::OUTBOX_DEAD, self.outbox.info.id(), &id.0)
    }

    fn engine(&self) -> &Engine {
        self.outbox.engine()
    }
}

impl DeadMessage {
    fn cursor(&self) -> DeadMessageCursor {
        DeadMessageCursor { since: self.since, position: self.message.position }
    }
}

fn write<'a>(key: Key<'a>, change: RowChange<&'a [u8]>, expect: Expect) -> RowWrite<'a> {
    RowWrite { key, change, ttl: Ttl::FOREVER, expect, is_quiet: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn a_dead_letter_comes_back_and_half_of_it_or_a_newer_one_is_an_error() {
        let dead = StoredDead {
            cause: DeadMessageCause::Exhausted,
            since: Timestamp::from_millis(1_700_000_000_000),
            attempts: 300,
            position: 1 << 40,
            reason: "no such user",
            message: b"",
        };
        let (bytes, id) = (dead.encode(), MessageId([7; 16]));
        let decode = |bytes| {
            let found = StoredDead::decode(Path::new("x"), id, bytes);
            found.map(|found| found == dead).map_err(|error| error.kind())
        };
        assert_eq!(decode(&bytes), Ok(true));
        for len in 0..bytes.len() {
            assert_eq!(decode(&bytes[..len]), Err(ErrorKind::Repair), "{len} bytes");
        }
        assert_eq!(decode(&[&[FORMAT + 1], &bytes[1..]].concat()), Err(ErrorKind::FixCall));
        let reason = format!("{}ü", "x".repeat(limits::OUTBOX_REASON_BYTES_MAX - 1));
        let long = StoredDead { reason: &reason, ..dead }.encode();
        let cut = StoredDead::take(&long).expect("decodes").reason.len();
        assert_eq!(cut, limits::OUTBOX_REASON_BYTES_MAX - 1, "between two characters");
    }
}
