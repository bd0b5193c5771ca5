//! Acknowledging messages: they have been delivered, and are removed from their topic.

use crate::engine::{Bells, Committed, Durability, Engine, Expect, RowChange, RowWrite};
use crate::error::{Error, Result};
use crate::id::{Family, Key};
use crate::outbox::message::{Message, MessageId};
use crate::outbox::topic::Outbox;
use crate::time::Ttl;

/// How many messages are removed by one commit: so many locks of shards are held briefly, and all fit into a record.
const CHUNK: usize = 16_384;

impl Outbox {
    /// Acknowledges messages: they have been delivered, and wait no more. Returns how many of them waited. One that was
    /// acknowledged before is no error.
    ///
    /// When the call returns this is as durable as the store's calls are. After a crash before that some of them may be
    /// read again, with the same ids. More than 16,384 messages are several commits.
    ///
    /// # Errors
    ///
    /// As [`Store::claim`](crate::Store::claim), and [`Retry`](crate::ErrorKind::Retry) if a prepared transaction
    /// acknowledges one of them.
    pub fn acknowledge(&self, messages: &[Message]) -> Result<usize> {
        let messages = messages.iter().map(|message| (message.position, message.id));
        self.remove(messages, self.durability())
    }

    /// Acknowledges every message up to a position that could be read when this was called; see
    /// [`acknowledge`](Self::acknowledge). What arrives meanwhile stays, and so does what was not readable.
    ///
    /// # Errors
    ///
    /// As [`acknowledge`](Self::acknowledge).
    pub fn acknowledge_through(&self, position: u64) -> Result<usize> {
        let end = self.horizon()?.min(position.saturating_add(1));
        self.remove(self.backlog().ids_below(end).into_iter(), self.durability())
    }

    fn remove(
        &self,
        messages: impl Iterator<Item = (u64, MessageId)>,
        durability: Durability,
    ) -> Result<usize> {
        let mut messages: Vec<_> = messages.collect();
        if !messages.is_sorted_by(|(before, _), (after, _)| before < after) {
            messages.sort_unstable();
            messages.dedup();
        }
        let mut removed = 0;
        for chunk in messages.chunks(CHUNK) {
            let removals = chunk.iter().map(|(position, id)| self.removal(*position, id));
            removed += self.commit_removals(removals.collect::<Result<_>>()?, durability)?;
        }
        Ok(removed)
    }

    /// Returns the write that removes a message from its topic.
    pub(super) fn removal<'a>(&self, position: u64, id: &'a MessageId) -> Result<RowWrite<'a>> {
        let key = Engine::row_key(Family::OUTBOX, self.info.id(), &id.0)?;
        Ok(removal(key, position))
    }

    /// Makes writes that remove messages. Those that wait no more are left out. Returns how many were made.
    pub(super) fn commit_removals(
        &self,
        mut removals: Vec<RowWrite<'_>>,
        durability: Durability,
    ) -> Result<usize> {
        // Each time something moves, somebody else has acknowledged it, so there is less left.
        for _ in 0..=removals.len() {
            if removals.is_empty() {
                return Ok(0);
            }
            let moved = self.try_commit(&removals, durability)?;
            if moved.is_empty() {
                return Ok(removals.len());
            }
            let (mut moved, mut number) = (moved.into_iter().peekable(), 0);
            removals.retain(|_| {
                number += 1;
                moved.next_if_eq(&(number - 1)).is_none()
            });
        }
        Err(Error::bug("messages that are gone came back"))
    }

    /// Makes writes, or none and returns which do not find what they expect.
    pub(super) fn try_commit(
        &self,
        writes: &[RowWrite<'_>],
        durability: Durability,
    ) -> Result<Vec<usize>> {
        let mut bells = Bells::default();
        Ok(match self.engine().commit_rows(writes, durability, &mut bells)? {
            Committed::Done(_) => Vec::new(),
            Committed::Moved(moved) => moved.into_iter().map(|(number, _)| number).collect(),
        })
    }
}

fn removal(key: Key<'_>, position: u64) -> RowWrite<'_> {
    let expect = Expect::Sequence(position);
    RowWrite { key, change: RowChange::Delete, ttl: Ttl::FOREVER, expect, is_quiet: false }
}
