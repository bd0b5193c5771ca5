//! Reading a topic in the order of commits, and how much waits.

use crate::engine::{Engine, RestsOn, Row};
use crate::error::Result;
use crate::id::{Family, NsId};
use crate::outbox::backlog::Size;
use crate::outbox::message::{Message, MessageId, Stored};
use crate::outbox::topic::{Outbox, View};
use crate::time::Timestamp;
use std::time::Duration;

/// How many messages are looked up under one lock.
const CHUNK: usize = 1_024;

/// How much waits in a topic; see [`Outbox::pending`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pending {
    /// How many messages.
    pub count: usize,
    /// Their size in bytes, with keys and given ids.
    pub bytes: u64,
    /// The one that has waited longest.
    pub oldest: Option<OldestMessage>,
}

/// The message of a topic that has waited longest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct OldestMessage {
    /// Its id.
    pub id: MessageId,
    /// Its position.
    pub position: u64,
    /// When it was emitted.
    pub emitted: Timestamp,
    /// For how long it has waited.
    pub age: Duration,
}

impl Outbox {
    /// Reads the first messages that wait, in the order of the commits of this topic; at most `limit`. What is returned is
    /// as durable as the store's calls are.
    ///
    /// A message stays until it is [acknowledged](Self::acknowledge).
    ///
    /// # Errors
    ///
    /// As [`Store::get`](crate::Store::get), [`Repair`](crate::ErrorKind::Repair) if a message is damaged, and
    /// [`FixCall`](crate::ErrorKind::FixCall) if the replay scope of the topic was dropped.
    pub fn read(&self, limit: usize) -> Result<Vec<Message>> {
        self.read_from(None, limit)
    }

    /// Reads the first messages that wait after a position; see [`read`](Self::read). What is read later is never before
    /// what was read: nothing is entered below the position of a message that could be read.
    ///
    /// A position from before the promotion of a [replay scope](crate::replay::ReplayScope) that used the topic says nothing
    /// of what was promoted: until messages of that have been read by this handle or a clone of it, this begins at the
    /// beginning. A handle that was opened since takes any position.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn read_after(&self, position: u64, limit: usize) -> Result<Vec<Message>> {
        self.read_from(Some(position), limit)
    }

    fn read_from(&self, after: Option<u64>, limit: usize) -> Result<Vec<Message>> {
        let mut view = self.view()?;
        let (mut after, mut rests_on) = (self.place_in(&view, after), None);
        let mut messages = Vec::with_capacity(limit.min(CHUNK));
        loop {
            let count = CHUNK.min(limit - messages.len());
            let found = view.backlog.after(after, view.stable_end, count, self.engine().tag());
            let is_over = found.len() < count;
            for (position, id, copy) in found {
                let (message, on) = match copy {
                    Some(copy) => (Some(copy), None),
                    None => self.read_one(view.ns, position, id)?,
                };
                // One that was acknowledged since is not there.
                messages.extend(message);
                rests_on = on.or(rests_on);
                after = Some(position);
            }
            if is_over || messages.len() == limit {
                break;
            }
            let next = self.view()?;
            if next.ns != view.ns {
                // What was read is gone.
                messages.clear();
                after = None;
            }
            view = next;
        }
        if !messages.is_empty() {
            self.note_read_in(view.ns);
            rests_on = Some(self.engine().sync_point()?);
        }
        self.engine().await_durable(self.durability(), rests_on)?;
        Ok(messages)
    }

    /// Returns a position of the caller if it is one of this view: `None`, the beginning, if it is from before a promotion.
    pub(super) fn place_in(&self, view: &View, after: Option<u64>) -> Option<u64> {
        after.filter(|_| self.has_read_in(view.ns))
    }

    /// Returns the message at a position, from memory if there is a copy; see [`read_one`](Self::read_one).
    pub(super) fn get_one(
        &self,
        view: &View,
        position: u64,
        id: MessageId,
    ) -> Result<(Option<Message>, Option<RestsOn>)> {
        match view.backlog.copy(position, self.engine().tag()) {
            Some(copy) => Ok((Some(copy), Some(self.engine().sync_point()?))),
            None => self.read_one(view.ns, position, id),
        }
    }

    /// Reads the message at a position; `None` if it waits no more. Does not wait for what its durability rests on.
    fn read_one(
        &self,
        ns: NsId,
        position: u64,
        id: MessageId,
    ) -> Result<(Option<Message>, Option<RestsOn>)> {
        let key = Engine::row_key(Family::OUTBOX, ns.listed(), &id.0)?;
        let (row, rests_on) = self.engine().get_row_only(key)?;
        let Some(Row { value, .. }) = row.filter(|row| row.sequence == position) else {
            return Ok((None, rests_on));
        };
        let stored = Stored::decode(self.engine().dir(), id, &value)?;
        Ok((Some(stored.message(id, position, self.engine().tag())), rests_on))
    }

    /// Returns how much waits, messages of commits that have just been made included. Reads one message.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn pending(&self) -> Result<Pending> {
        let (mut view, mut gone) = (self.view()?, None);
        loop {
            let (Size { count, bytes }, oldest) = view.backlog.size(gone);
            let Some((position, id)) = oldest else {
                return Ok(Pending { count, bytes, oldest: None });
            };
            let (message, _) = self.get_one(&view, position, id)?;
            let Some(Message { emitted, .. }) = message else {
                // Not once more, so that this ends.
                gone = Some(position);
                if view.ns != self.ns() {
                    (view, gone) = (self.view()?, None);
                }
                continue;
            };
            let age = self.engine().moment().now.as_millis().saturating_sub(emitted.as_millis());
            let age = Duration::from_millis(age);
            let oldest = Some(OldestMessage { id, position, emitted, age });
            return Ok(Pending { count, bytes, oldest });
        }
    }
}
