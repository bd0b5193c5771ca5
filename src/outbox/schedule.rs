//! Which messages of a topic the workers of its relays may deliver next.
//!
//! The messages of one key form a lane: of a lane only one batch is out at a time, and what failed is first again. So
//! messages of a key are delivered in order, whatever the number of workers, and a key that waits for its retry holds up
//! nothing but its own later messages. A message without a key is a lane of its own.
//!
//! All of it is in memory. After a restart every message that waits counts as never tried.

use crate::outbox::entry::{Entries, Entry};
use crate::outbox::message::MessageId;
use crate::time::Timestamp;
use std::collections::hash_map::Entry as Slot;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

/// How many messages are looked at under one lock.
const SCANNED_MAX: usize = 8_192;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum LaneId {
    /// Of the messages with this hash of their key.
    Key(u64),
    /// Of the message at this position.
    Message(u64),
}

/// Messages that wait for each other, in order.
#[derive(Debug, Default)]
struct Lane {
    waiting: VecDeque<u64>,
    /// How often the first one has failed.
    attempts: u32,
    /// The batch that is out with messages of this lane.
    out: Option<u64>,
}

/// What the workers do, and what they wait for.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    /// Every message below this position was taken, or waits in a lane.
    scanned: u64,
    lanes: HashMap<LaneId, Lane>,
    /// Lanes whose first message may be delivered.
    ready: VecDeque<LaneId>,
    /// Lanes that wait for a time.
    due: BTreeSet<(Timestamp, LaneId)>,
    batches: u64,
    paused: Option<Timestamp>,
    /// How often all was paused since something was delivered.
    pauses: u32,
}

/// How much a worker takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Want {
    pub(super) count: usize,
    pub(super) bytes: usize,
}

/// What a worker has to do.
#[derive(Debug)]
pub(super) enum Next {
    Deliver(Taken),
    /// There is nothing to do before this time.
    Idle(Option<Timestamp>),
    /// Messages were passed over; there may be more.
    Again,
}

/// Messages that one worker has to deliver. They must be settled.
#[derive(Debug)]
pub(super) struct Taken {
    batch: u64,
    pub(super) messages: Vec<TakenMessage>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct TakenMessage {
    pub(super) position: u64,
    pub(super) id: MessageId,
    pub(super) lane: LaneId,
    /// How often it has failed.
    pub(super) attempts: u32,
}

/// What became of a message that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It waits no more.
    Gone,
    /// It counts as never taken.
    Untried,
    /// It was tried, and is to be tried again at this time.
    Failed(Timestamp),
}

/// A batch as it is put together.
struct Filling {
    taken: Taken,
    left: Want,
}

impl Filling {
    fn is_full(&self) -> bool {
        self.left.count == 0 || self.left.bytes == 0
    }

    /// Returns whether it takes a message. One that is too long for any batch is taken alone.
    fn takes(&self, entry: &Entry) -> bool {
        self.taken.messages.is_empty()
            || (!self.is_full() && entry.bytes as usize <= self.left.bytes)
    }

    fn push(&mut self, position: u64, entry: &Entry, lane: LaneId, attempts: u32) {
        self.left.count = self.left.count.saturating_sub(1);
        self.left.bytes = self.left.bytes.saturating_sub(entry.bytes as usize);
        self.taken.messages.push(TakenMessage { position, id: entry.id, lane, attempts });
    }
}

impl Schedule {
    /// Takes what may be delivered now, of what is below the stable end.
    pub(super) fn take(
        &mut self,
        entries: &Entries,
        stable_end: u64,
        now: Timestamp,
        want: Want,
    ) -> Next {
        if let Some(until) = self.paused.filter(|until| *until > now) {
            return Next::Idle(Some(until));
        }
        self.paused = None;
        while let Some((_, lane)) = self.due.first().copied().filter(|(at, _)| *at <= now) {
            self.due.pop_first();
            self.ready.push_back(lane);
        }
        self.batches += 1;
        let taken = Taken { batch: self.batches, messages: Vec::new() };
        let mut filling = Filling { taken, left: want };
        let is_whole = self.take_ready(entries, &mut filling);
        let is_scanned = is_whole || self.scan(entries, stable_end, &mut filling);
        if !filling.taken.messages.is_empty() {
            return Next::Deliver(filling.taken);
        }
        if !is_scanned {
            return Next::Again;
        }
        Next::Idle(self.due.first().map(|(at, _)| *at))
    }

    /// Takes from the lanes that are ready. Returns whether nothing else may join the batch.
    fn take_ready(&mut self, entries: &Entries, filling: &mut Filling) -> bool {
        while !filling.is_full() {
            let Some(id) = self.ready.pop_front() else { return false };
            let Some(lane) = self.lanes.get_mut(&id) else { continue };
            while lane.waiting.front().is_some_and(|first| !entries.contains_key(first)) {
                // Somebody else has acknowledged it.
                lane.waiting.pop_front();
                lane.attempts = 0;
            }
            // What has failed goes alone, so that it cannot take others along a second time.
            if lane.attempts > 0 && !filling.taken.messages.is_empty() {
                self.ready.push_front(id);
                return true;
            }
            let most = if lane.attempts > 0 { 1 } else { usize::MAX };
            let before = filling.taken.messages.len();
            while let Some(&position) = lane.waiting.front()
                && filling.taken.messages.len() - before < most
            {
                if let Some(entry) = entries.get(&position) {
                    if !filling.takes(entry) {
                        break;
                    }
                    filling.push(position, entry, id, lane.attempts);
                }
                lane.waiting.pop_front();
            }
            if filling.taken.messages.len() > before {
                lane.out = Some(filling.taken.batch);
                if lane.attempts > 0 {
                    return true;
                }
            } else if lane.waiting.is_empty() {
                self.lanes.remove(&id);
            } else {
                self.ready.push_front(id);
                return true;
            }
        }
        true
    }

    /// Takes from what nobody has looked at. Returns whether there is no more of it.
    fn scan(&mut self, entries: &Entries, stable_end: u64, filling: &mut Filling) -> bool {
        let batch = filling.taken.batch;
        if self.scanned >= stable_end {
            return true;
        }
        for (number, (&position, entry)) in entries.range(self.scanned..stable_end).enumerate() {
            if number == SCANNED_MAX || !filling.takes(entry) {
                return false;
            }
            self.scanned = position + 1;
            let Some(key) = entry.key else {
                filling.push(position, entry, LaneId::Message(position), 0);
                continue;
            };
            let id = LaneId::Key(key);
            match self.lanes.entry(id) {
                Slot::Occupied(mut lane) => {
                    let lane = lane.get_mut();
                    if lane.out == Some(batch) && lane.waiting.is_empty() && lane.attempts == 0 {
                        filling.push(position, entry, id, 0);
                    } else {
                        lane.waiting.push_back(position);
                    }
                }
                Slot::Vacant(slot) => {
                    slot.insert(Lane { out: Some(batch), ..Lane::default() });
                    filling.push(position, entry, id, 0);
                }
            }
        }
        self.scanned = stable_end;
        true
    }

    /// Says what became of each message of a batch. Of a lane at most one has failed, and nothing after that is gone.
    /// Returns whether there may be something to do because of it.
    pub(super) fn settle(&mut self, taken: &Taken, fates: &[Fate]) -> bool {
        let mut lanes = HashSet::new();
        let mut failed = Vec::new();
        for (message, fate) in taken.messages.iter().zip(fates).rev() {
            let (id, position) = (message.lane, message.position);
            if lanes.insert(id)
                && let Some(lane) = self.lanes.get_mut(&id)
            {
                // Those of what is first from now on.
                lane.attempts = 0;
            }
            match fate {
                Fate::Gone => {}
                Fate::Untried => {
                    let lane = self.lanes.entry(id).or_default();
                    lane.waiting.push_front(position);
                    lane.attempts = message.attempts;
                }
                Fate::Failed(until) => {
                    let lane = self.lanes.entry(id).or_default();
                    lane.waiting.push_front(position);
                    lane.attempts = message.attempts + 1;
                    failed.push((*until, id));
                }
            }
        }
        let has_failed = !failed.is_empty();
        for (until, id) in failed {
            lanes.remove(&id);
            self.due.insert((until, id));
            self.lanes.entry(id).or_default().out = None;
        }
        let mut has_more = has_failed;
        for message in &taken.messages {
            // In the order of their positions.
            let id = message.lane;
            if !lanes.remove(&id) {
                continue;
            }
            let Some(lane) = self.lanes.get_mut(&id) else { continue };
            lane.out = None;
            if lane.waiting.is_empty() {
                self.lanes.remove(&id);
            } else {
                self.ready.push_back(id);
                has_more = true;
            }
        }
        has_more
    }

    pub(super) fn pause(&mut self, pause: impl FnOnce(u32) -> Timestamp) {
        self.pauses = self.pauses.saturating_add(1);
        self.paused = Some(pause(self.pauses));
    }

    pub(super) fn resume(&mut self) {
        self.pauses = 0;
    }
}
