//! Dead letters of a topic: messages that could not be delivered.
//!
//! ```text
//! version u8 | cause u8 | since | attempts | position | length, reason | the row of the message
//! ```
//!
//! Integers are varints, the time is in ms since the epoch. The key of the row is the message's id.

use crate::codec::{Reader, Undecodable, put_bytes, put_varint, stored};
use crate::engine::{Bells, Committed, Engine, Expect, Row, RowChange, RowWrite};
use crate::error::{Error, Result};
use crate::id::{Family, Key};
use crate::limits;
use crate::outbox::admission::Admission;
use crate::outbox::message::{Message, MessageId, Stored};
use crate::outbox::topic::Outbox;
use crate::time::{Timestamp, Ttl};
use std::collections::BTreeMap;
use std::path::Path;

/// The dead letters of a topic; see [`Outbox::dead_letters`]. There is one for each id of a message: if the same event is
/// processed again and its message dies again, the later one is kept.
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
        let numbers = [self.since.as_millis(), self.attempts.into(), self.position];
        numbers.into_iter().for_each(|number| put_varint(&mut out, number));
        put_bytes(&mut out, &self.reason.as_bytes()[..cut]);
        out.extend_from_slice(self.message);
        out
    }

    fn decode(dir: &Path, id: MessageId, bytes: &'a [u8]) -> Result<Self> {
        Self::take(bytes).map_err(|why| {
            why.error(dir, FORMAT, format!("the dead letter {id} cannot be decoded"))
        })
    }

    fn take(bytes: &'a [u8]) -> std::result::Result<Self, Undecodable> {
        Self::take_fields(&mut stored(bytes, FORMAT)?).ok_or(Undecodable::Damaged)
    }

    fn take_fields(r: &mut Reader<'a>) -> Option<Self> {
        let cause = match r.u8()? {
            REFUSED => DeadMessageCause::Refused,
            EXHAUSTED => DeadMessageCause::Exhausted,
            _ => return None,
        };
        let (since, attempts) = (Timestamp::from_millis(r.varint()?), r.varint_u32()?);
        let (position, reason) = (r.varint()?, std::str::from_utf8(r.sized()?).ok()?);
        Some(Self { cause, since, attempts, position, reason, message: r.rest() })
    }
}

/// How many ids are collected at a time for a call on all dead letters. Each time reads all of them.
const PAGE: usize = 65_536;

/// The oldest dead letters after a page, at most so many, with what is kept of each.
struct Oldest<T> {
    after: Option<DeadMessageCursor>,
    most: usize,
    found: BTreeMap<(DeadMessageCursor, MessageId), T>,
}

impl<T> Oldest<T> {
    fn new(after: Option<DeadMessageCursor>, most: usize) -> Self {
        Self { after, most, found: BTreeMap::new() }
    }

    fn add(&mut self, cursor: DeadMessageCursor, id: MessageId, kept: T) {
        if self.after.is_some_and(|after| cursor <= after) {
            return;
        }
        self.found.insert((cursor, id), kept);
        if self.found.len() > self.most {
            self.found.pop_last();
        }
    }

    fn last(&self) -> Option<DeadMessageCursor> {
        self.found.last_key_value().map(|((cursor, _), _)| *cursor)
    }

    fn ids(&self) -> impl Iterator<Item = MessageId> {
        self.found.keys().map(|(_, id)| *id)
    }

    fn into_values(self) -> Vec<T> {
        self.found.into_values().collect()
    }
}

impl Outbox {
    /// Returns the dead letters of this topic: those that its relay could not deliver.
    ///
    /// There is one for each id of a message. If the same event is processed again, and its message dies again, the later
    /// dead letter takes the place of the earlier one, with its payload, cause, reason and attempts. Nothing tells that
    /// there was another: read or redrive dead letters before their events are processed again.
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
        // One more says whether there are more.
        let mut found = Oldest::new(after, limit.saturating_add(1));
        self.visit(|id, read| match read {
            Ok(dead) => found.add(dead.cursor(), id, dead),
            Err(error) if after.is_none() => page.unreadable.push((id, error)),
            Err(_) => {}
        })?;
        page.messages = found.into_values();
        let has_more = page.messages.len() > limit;
        page.messages.truncate(limit);
        page.next = page.messages.last().filter(|_| has_more).map(DeadMessage::cursor);
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
        self.all(PAGE, |id| self.redrive(id))
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
        self.all(PAGE, |id| self.purge(id))
    }

    /// Does something with all that are dead now, the oldest first, of which so many ids at a time are in memory.
    fn all(&self, page: usize, one: impl Fn(MessageId) -> Result<bool>) -> Result<usize> {
        // What is redriven and dies again has a later position: this ends.
        let end = self.outbox.view()?.stable_end;
        let (mut after, mut changed) = (None, 0);
        loop {
            let mut found = Oldest::new(after, page);
            self.visit(|id, read| {
                if let Ok(dead) = read
                    && dead.message.position < end
                {
                    found.add(dead.cursor(), id, ());
                }
            })?;
            let Some(last) = found.last() else { return Ok(changed) };
            for id in found.ids() {
                changed += usize::from(one(id)?);
            }
            after = Some(last);
        }
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

    fn visit(&self, mut visit: impl FnMut(MessageId, Result<DeadMessage>)) -> Result<()> {
        let ns = self.outbox.view()?.ns.listed().rows(Family::OUTBOX_DEAD);
        self.engine().list_rows(Family::OUTBOX_DEAD, |key, row| {
            if let Ok(id) = key.id.try_into().map(MessageId)
                && key.ns == ns
            {
                visit(id, row.and_then(|row| self.decode(id, &row)));
            }
            Ok(())
        })
    }

    fn decode(&self, id: MessageId, row: &Row) -> Result<DeadMessage> {
        let dir = self.engine().dir();
        let dead = StoredDead::decode(dir, id, &row.value)?;
        let message =
            Stored::decode(dir, id, dead.message)?.message(id, dead.position, self.engine().tag());
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

#[cfg(all(test, not(any(feature = "shuttle", feature = "loom"))))]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use crate::outbox::{Delivery, RelayOptions};

    #[test]
    fn i12_the_oldest_dead_letters_are_found_without_holding_more_than_are_asked_for() {
        let cursor = |n: u64| DeadMessageCursor { since: Timestamp::from_millis(n), position: 1 };
        let mut found = Oldest::new(Some(cursor(2)), 3);
        for n in [9, 4, 1, 8, 2, 7, 3, 5] {
            found.add(cursor(n), MessageId([n as u8; 16]), n);
            assert!(found.found.len() <= 3, "{n}");
        }
        assert_eq!(found.last(), Some(cursor(5)));
        assert_eq!(found.into_values(), [3, 4, 5]);
    }

    #[test]
    fn i12_a_call_on_all_dead_letters_goes_through_them_in_pages_and_ends_though_they_die_again() {
        let dir = tempfile::tempdir().expect("makes a folder");
        let store = crate::Store::open(dir.path().join("s")).expect("opens");
        let topic = store.outbox("t").expect("opens");
        let mut transaction = store.transaction();
        transaction.claim("all");
        for n in 0..7 {
            transaction.emit(&topic, [n]).expect("collects");
        }
        assert!(transaction.commit().expect("answers").is_committed());
        let relay = topic.relay(RelayOptions::new()).expect("is made");
        let refuses = |batch: &[Message]| {
            (0..batch.len()).fold(Delivery::all(), |delivery, n| delivery.refuse(n, "never"))
        };
        relay.drain(&refuses).expect("works");
        let dead = topic.dead_letters();
        let redriven = dead.all(3, |id| {
            let was_dead = dead.redrive(id)?;
            relay.drain(&refuses)?;
            Ok(was_dead)
        });
        assert_eq!((redriven.expect("redrives"), relay.report().dead), (7, 14));
        assert_eq!(dead.list(None, 10).expect("lists").messages.len(), 7);
        assert_eq!(dead.all(2, |id| dead.purge(id)).expect("purges"), 7);
        assert_eq!(dead.list(None, 10).expect("lists").messages.len(), 0);
    }

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
