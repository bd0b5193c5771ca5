//! Room in topics for the messages of a commit on its way.

use crate::engine::{Bells, OwnedRow, RowChange, TopicEvent};
use crate::error::Result;
use crate::id::{Family, NsId};
use crate::outbox::backlog::Backlog;
use crate::outbox::planned::PlannedMessage;
use crate::outbox::topic::{OnFull, Outbox, backlogs};
use crate::store::Store;
use crate::sync::{Arc, instant_in};
use std::time::{Duration, Instant};

/// Messages that were admitted. If their commit is not [`made`](Self::made), dropping this takes it back and wakes who
/// waits for room: not under a lock (I9).
#[derive(Debug)]
pub(crate) struct Admission {
    store: Store,
    topics: Vec<(NsId, Arc<Backlog>, usize)>,
}

/// A topic without room for the messages of a commit.
#[derive(Debug)]
pub(crate) struct Full {
    pub(crate) outbox: Outbox,
    /// How many messages wait, or are on their way.
    pub(crate) pending: usize,
    /// How many the commit emits to it.
    count: usize,
}

impl Admission {
    /// Admits the messages of a commit: all, or none and all topics that are full.
    pub(crate) fn of<'a>(
        store: &Store,
        topics: &[Outbox],
        messages: impl Iterator<Item = &'a PlannedMessage>,
    ) -> std::result::Result<Self, Vec<Full>> {
        let mut counts = vec![0; topics.len()];
        messages.for_each(|message| counts[message.topic] += 1);
        let mut admission = Self { store: store.clone(), topics: Vec::new() };
        let mut full = Vec::new();
        for (outbox, count) in topics.iter().zip(counts).filter(|(_, count)| *count > 0) {
            match outbox.backlog.admit(count, outbox.options.pending_max) {
                Ok(()) => admission.topics.push((outbox.ns(), outbox.backlog.clone(), count)),
                Err(pending) => full.push(Full { outbox: outbox.clone(), pending, count }),
            }
        }
        if full.is_empty() { Ok(admission) } else { Err(full) }
    }

    /// Admits messages that cannot be refused any more.
    pub(crate) fn without_bound(store: &Store, rows: &[OwnedRow]) -> Result<Self> {
        let mut admission = Self { store: store.clone(), topics: Vec::new() };
        let is_message =
            |row: &&OwnedRow| row.ns.family() == Family::OUTBOX && row.change != RowChange::Delete;
        for row in rows.iter().filter(is_message) {
            let backlog = backlogs(store)?.of(row.ns);
            backlog.admit(1, usize::MAX).ok();
            admission.topics.push((row.ns, backlog, 1));
        }
        Ok(admission)
    }

    /// Admits one message whatever waits.
    pub(crate) fn of_one(outbox: &Outbox) -> Self {
        outbox.backlog.admit(1, usize::MAX).ok();
        let topics = vec![(outbox.ns(), outbox.backlog.clone(), 1)];
        Self { store: outbox.store.clone(), topics }
    }

    /// Says that the commit was made: its messages wait.
    pub(crate) fn made(mut self) {
        self.topics.clear();
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut bells = Bells::default();
        for (topic, backlog, count) in &self.topics {
            backlog.give_back(*count);
            self.store.engine().tell_topic(*topic, TopicEvent::Removed, &mut bells);
        }
    }
}

impl Full {
    /// Waits for room in topics that are full, where all of them let a commit wait. Returns whether there may be some now:
    /// others may take it first. `until` is the end of the wait, once it has begun.
    pub(crate) fn wait_for_room(all: &[Self], until: &mut Option<Instant>) -> Result<bool> {
        let most = |full: &Self| match full.outbox.options.on_full {
            OnFull::Wait(most) if full.count <= full.outbox.options.pending_max => Some(most),
            _ => None,
        };
        let Some(waits) = all.iter().map(most).collect::<Option<Vec<Duration>>>() else {
            return Ok(false);
        };
        let Some(shortest) = waits.into_iter().min() else { return Ok(false) };
        let until = *until.get_or_insert_with(|| instant_in(shortest));
        all.first().map_or(Ok(false), |full| full.wait(until))
    }

    fn wait(&self, until: Instant) -> Result<bool> {
        let Outbox { backlog, options, .. } = &self.outbox;
        let watch = self.outbox.engine().watch_topic(self.outbox.ns(), TopicEvent::Removed);
        loop {
            let heard = watch.bell().rings();
            // Says that the store has stopped.
            self.outbox.horizon()?;
            if backlog.has_room(self.count, options.pending_max) {
                return Ok(true);
            }
            if !watch.bell().wait_until(heard, until) && instant_in(Duration::ZERO) >= until {
                return Ok(false);
            }
        }
    }
}
