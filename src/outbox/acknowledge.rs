//! Acknowledging messages: they have been delivered, and are removed from their topic.

use crate::engine::{
    Bells, Durability, Engine, Expect, RowChange, RowWrite, SetCommitted, WriteSet,
};
use crate::error::{Error, Result};
use crate::id::{Family, Key};
use crate::outbox::message::{Message, MessageId};
use crate::outbox::topic::Outbox;
use crate::time::Ttl;

/// How many messages are removed by one commit: so many locks of shards are held briefly, and all fit into a record.
const CHUNK: usize = 16_384;

/// Which writes of a commit were refused, by number, in order. Nothing was written if there are any.
#[derive(Debug, Default)]
pub(super) struct Refused {
    all: Vec<usize>,
    /// Those of them that a prepared transaction holds.
    in_doubt: Vec<usize>,
}

impl Refused {
    pub(super) fn is_nothing(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn in_doubt(&self) -> &[usize] {
        &self.in_doubt
    }

    /// Keeps of `items`, one for each write from the number `first` on, those that were not refused.
    pub(super) fn retain_others<T>(&self, items: &mut Vec<T>, first: usize) {
        let mut number = first;
        items.retain(|_| {
            number += 1;
            self.all.binary_search(&(number - 1)).is_err()
        });
    }
}

impl Outbox {
    /// Acknowledges messages: they have been delivered, and wait no more. Returns how many of them waited. One that was
    /// acknowledged before is no error.
    ///
    /// When the call returns this is as durable as the store's calls are. After a crash before that some of them may be
    /// read again, with the same ids. More than 16,384 messages are several commits.
    ///
    /// # Errors
    ///
    /// As [`Store::claim`](crate::Store::claim), [`Retry`](crate::ErrorKind::Retry) if a prepared transaction
    /// acknowledges one of them: the others are removed, and [`FixCall`](crate::ErrorKind::FixCall) for a message of
    /// another store: none is removed.
    pub fn acknowledge(&self, messages: &[Message]) -> Result<usize> {
        self.check_own(messages)?;
        let messages = messages.iter().map(|message| (message.position, message.id));
        let mut messages: Vec<_> = messages.collect();
        if !messages.is_sorted_by(|(before, _), (after, _)| before < after) {
            messages.sort_unstable();
            messages.dedup();
        }
        self.remove(messages.chunks(CHUNK))
    }

    /// Acknowledges every message up to a position that could be read when this was called; see
    /// [`acknowledge`](Self::acknowledge). What arrives meanwhile stays, and so does what was not readable.
    ///
    /// A position from before the promotion of a [replay scope](crate::replay::ReplayScope) that used the topic says nothing
    /// of what was promoted, so it is refused until messages of that have been read by this handle or a clone of it. A handle
    /// that was opened since takes any position.
    ///
    /// # Errors
    ///
    /// As [`acknowledge`](Self::acknowledge), and [`Replaced`](Error::Replaced) if a promotion has put another topic in the
    /// place of the one that was read: none is removed. Read on, and acknowledge what that tells.
    pub fn acknowledge_through(&self, position: u64) -> Result<usize> {
        let view = self.view()?;
        if !self.has_read_in(view.ns) {
            return Err(Error::Replaced);
        }
        let end = view.stable_end.min(position.saturating_add(1));
        let mut after = None;
        // A chunk at a time: commits wait for the backlog meanwhile, and hold the locks of their shards.
        let chunks = std::iter::from_fn(|| {
            let chunk = view.backlog.ids_below(after, end, CHUNK);
            after = chunk.last().map(|(position, _)| *position);
            after.is_some().then_some(chunk)
        });
        self.remove(chunks)
    }

    /// Checks that messages are of this store.
    pub(super) fn check_own(&self, messages: &[Message]) -> Result<()> {
        let tag = self.engine().tag();
        match messages.iter().find(|message| message.store != tag) {
            Some(Message { id, .. }) => {
                Err(Error::invalid(format!("the message {id} is one of another store")))
            }
            None => Ok(()),
        }
    }

    /// Removes messages, each chunk with one commit.
    fn remove(
        &self,
        chunks: impl Iterator<Item = impl AsRef<[(u64, MessageId)]>>,
    ) -> Result<usize> {
        let (mut removed, mut is_in_doubt) = (0, false);
        for chunk in chunks {
            let removals = chunk.as_ref().iter().map(|(position, id)| self.removal(*position, id));
            let (made, in_doubt) =
                self.commit_removals(removals.collect::<Result<_>>()?, self.durability())?;
            removed += made;
            is_in_doubt |= in_doubt;
        }
        if is_in_doubt { Err(Error::InDoubt) } else { Ok(removed) }
    }

    /// Returns the write that removes a message from its topic.
    pub(super) fn removal<'a>(&self, position: u64, id: &'a MessageId) -> Result<RowWrite<'a>> {
        let key = Engine::row_key(Family::OUTBOX, self.info.id(), &id.0)?;
        Ok(removal(key, position))
    }

    /// Makes writes that remove messages. Left out are those that wait no more, and those that a prepared transaction
    /// holds. Returns how many were made, and whether it holds any.
    fn commit_removals(
        &self,
        mut removals: Vec<RowWrite<'_>>,
        durability: Durability,
    ) -> Result<(usize, bool)> {
        let mut is_in_doubt = false;
        // Each time something moves, somebody else has acknowledged it, so there is less left.
        for _ in 0..=removals.len() {
            if removals.is_empty() {
                return Ok((0, is_in_doubt));
            }
            let refused = self.try_commit(&removals, durability)?;
            if refused.is_nothing() {
                return Ok((removals.len(), is_in_doubt));
            }
            is_in_doubt |= !refused.in_doubt.is_empty();
            refused.retain_others(&mut removals, 0);
        }
        Err(Error::bug("messages that are gone came back"))
    }

    /// Makes writes, or none and returns which do not find what they expect or are held by a prepared transaction.
    pub(super) fn try_commit(
        &self,
        writes: &[RowWrite<'_>],
        durability: Durability,
    ) -> Result<Refused> {
        let mut bells = Bells::default();
        let refusals =
            match self.engine().commit(WriteSet::of(&[], writes), durability, &mut bells)? {
                SetCommitted::Done(_) => return Ok(Refused::default()),
                SetCommitted::Refused(refusals) => refusals,
                SetCommitted::Reserved(_) => return Err(Error::bug("a row cannot be reserved")),
            };
        let moved: Vec<usize> = refusals.moved.into_iter().map(|(number, _)| number).collect();
        let mut in_doubt = refusals.in_doubt;
        in_doubt.retain(|number| moved.binary_search(number).is_err());
        let mut all = moved;
        all.extend_from_slice(&in_doubt);
        all.sort_unstable();
        Ok(Refused { all, in_doubt })
    }
}

fn removal(key: Key<'_>, position: u64) -> RowWrite<'_> {
    let expect = Expect::Sequence(position);
    RowWrite { key, change: RowChange::Delete, ttl: Ttl::FOREVER, expect, is_quiet: false }
}
