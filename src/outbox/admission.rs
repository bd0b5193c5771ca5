//! Room in topics for the messages of a commit on its way.

use crate::engine::{Bells, OwnedRow, RowChange, TopicEvent, Watch};
use crate::error::Result;
use crate::id::{Family, NsId};
use crate::outbox::backlog::Backlog;
use crate::outbox::planned::PlannedMessage;
use crate::outbox::topic::{OnFull, Outbox, View, backlogs};
use crate::store::Store;
use crate::sync::{Arc, instant_in};
use std::future::poll_fn;
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
            let (ns, backlog) = outbox.backlog();
            match backlog.admit(count, outbox.options.pending_max) {
                Ok(()) => admission.topics.push((ns, backlog, count)),
                Err(pending) => full.push(Full { outbox: outbox.clone(), pending, count }),
            }
        }
        if full.is_empty() { Ok(admission) } else { Err(full) }
    }

    /// Admits messages that cannot be refused any more.
    pub(crate) fn without_bound(store: &Store, rows: &[OwnedRow]) -> Result<Self> {
        let mut admission = Self { store: store.clone(), topics: Vec::new() };
        let of_topics = || rows.iter().filter(|row| row.ns.family() == Family::OUTBOX);
        if of_topics().next().is_none() {
            return Ok(admission);
        }
        // Also if messages are only removed: who reads what waits for the first time would not be told.
        let backlogs = backlogs(store)?;
        for row in of_topics().filter(|row| row.change != RowChange::Delete) {
            let backlog = backlogs.of(row.ns);
            backlog.admit(1, usize::MAX).ok();
            admission.topics.push((row.ns, backlog, 1));
        }
        Ok(admission)
    }

    /// Admits one message whatever waits.
    pub(crate) fn of_one(outbox: &Outbox) -> Self {
        let (ns, backlog) = outbox.backlog();
        backlog.admit(1, usize::MAX).ok();
        let topics = vec![(ns, backlog, 1)];
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
        let Some(until) = Self::until(all, until) else { return Ok(false) };
        all.first().map_or(Ok(false), |full| full.wait(until))
    }

    /// Returns the end of a wait for room; `None` if one of them lets nobody wait.
    fn until(all: &[Self], until: &mut Option<Instant>) -> Option<Instant> {
        let most = |full: &Self| match full.outbox.options.on_full {
            OnFull::Wait(most) if full.count <= full.outbox.options.pending_max => Some(most),
            _ => None,
        };
        let shortest =
            all.iter().map(most).collect::<Option<Vec<Duration>>>()?.into_iter().min()?;
        Some(*until.get_or_insert_with(|| instant_in(shortest)))
    }

    /// Waits for room as [`wait_for_room`](Self::wait_for_room) does, as a future.
    pub(crate) async fn room(all: &[Self], until: &mut Option<Instant>) -> Result<bool> {
        let Some(until) = Self::until(all, until) else { return Ok(false) };
        let Some(full) = all.first() else { return Ok(false) };
        let engine = full.outbox.engine();
        let mut watch = full.watch();
        loop {
            let heard = watch.bell().rings();
            if full.may_have_room(&watch)? {
                return Ok(true);
            }
            let left = until.saturating_duration_since(instant_in(Duration::ZERO));
            if left.is_zero() {
                return Ok(false);
            }
            let started = engine.alarms()?;
            // An alarm that is set for an earlier time has all look again, and set another.
            let at = engine.moment().now.as_millis().saturating_add(left.as_millis() as u64);
            watch.bell().arm(at, |alarm| {
                let mut alarm = Some(alarm);
                started.add(left, move || {
                    // Dropping it rings.
                    drop(alarm.take());
                    None
                })
            });
            poll_fn(|cx| watch.poll(heard, cx)).await;
        }
    }

    fn watch(&self) -> Watch {
        self.outbox.engine().watch_topic(self.outbox.ns(), TopicEvent::Removed)
    }

    /// Returns whether to try again. Also if a promoted replay scope has put another topic in the place of the one that is
    /// watched.
    fn may_have_room(&self, watch: &Watch) -> Result<bool> {
        // Says that the store has stopped.
        let View { ns, backlog, .. } = self.outbox.view()?;
        Ok(!watch.is_under(ns) || backlog.has_room(self.count, self.outbox.options.pending_max))
    }

    fn wait(&self, until: Instant) -> Result<bool> {
        let watch = self.watch();
        loop {
            let heard = watch.bell().rings();
            if self.may_have_room(&watch)? {
                return Ok(true);
            }
            if !watch.bell().wait_until(heard, until) && instant_in(Duration::ZERO) >= until {
                return Ok(false);
            }
        }
    }
}
