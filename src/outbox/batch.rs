//! One batch of a relay: taken, read, delivered, and settled with what the sink says.

use crate::engine::{Bells, Durability, RestsOn, RowWrite, TopicEvent};
use crate::error::{Error, Result};
use crate::ledger::Backoff;
use crate::outbox::dead::{DeadMessageCause, StoredDead};
use crate::outbox::message::{Message, Stored};
use crate::outbox::schedule::{Fate, Next, Taken, TakenMessage, Want};
use crate::outbox::sink::{Delivery, Verdict};
use crate::outbox::topic::{Outbox, View};
use crate::time::Timestamp;
use std::collections::HashSet;

/// What decides what becomes of a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Policies {
    pub(super) want: Want,
    pub(super) attempts_max: u32,
    pub(super) backoff: Backoff,
    pub(super) durability: Durability,
}

/// What a worker has to do.
#[derive(Debug)]
pub(super) enum Work {
    Deliver(Batch),
    /// There is nothing to do before this time.
    Idle(Option<Timestamp>),
}

/// Messages that one worker has to deliver. Dropped before it is settled, it counts as never taken.
#[derive(Debug)]
pub(super) struct Batch {
    outbox: Outbox,
    /// What they were taken from. Kept: a promoted replay scope may put something else in its place meanwhile.
    view: View,
    taken: Taken,
    pub(super) messages: Vec<Message>,
    /// Which of those that were taken each message is.
    numbers: Vec<usize>,
    /// Of those that were taken.
    fates: Vec<Fate>,
    /// What the durability of the messages rests on.
    pub(super) rests_on: Option<RestsOn>,
}

/// What became of the messages of a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) delivered: u64,
    pub(super) retried: u64,
    pub(super) dead: u64,
}

/// A message that is to be a dead letter.
struct Dead {
    /// Which of those that were taken it is.
    number: usize,
    value: Vec<u8>,
}

/// What is to be written of a batch.
#[derive(Default)]
struct Outcome {
    /// Which of those that were taken were delivered.
    delivered: Vec<usize>,
    dead: Vec<Dead>,
    retried: u64,
}

impl Outcome {
    /// Leaves out the messages with these numbers.
    fn leave_out(&mut self, numbers: &HashSet<usize>) {
        self.delivered.retain(|number| !numbers.contains(number));
        self.dead.retain(|dead| !numbers.contains(&dead.number));
    }
}

/// Takes and reads what a worker may deliver now.
pub(super) fn take(outbox: &Outbox, policies: &Policies) -> Result<Work> {
    loop {
        let view = outbox.view()?;
        let now = outbox.engine().moment().now;
        let taken = match view.backlog.take(view.stable_end, now, policies.want) {
            Next::Deliver(taken) => taken,
            Next::Idle(until) => return Ok(Work::Idle(until)),
            Next::Again => continue,
        };
        let fates = vec![Fate::Untried; taken.messages.len()];
        let mut batch = Batch {
            outbox: outbox.clone(),
            view,
            taken,
            messages: Vec::new(),
            numbers: Vec::new(),
            fates,
            rests_on: None,
        };
        batch.read(policies)?;
        if !batch.messages.is_empty() {
            return Ok(Work::Deliver(batch));
        }
    }
}

impl Batch {
    fn read(&mut self, policies: &Policies) -> Result<()> {
        self.messages.reserve(self.taken.messages.len());
        self.numbers.reserve(self.taken.messages.len());
        let mut blocked = HashSet::new();
        for number in 0..self.taken.messages.len() {
            let taken = self.taken.messages[number];
            if blocked.contains(&taken.lane) {
                continue;
            }
            match self.outbox.get_one(&self.view, taken.position, taken.id) {
                Ok((Some(message), rests_on)) => {
                    self.messages.push(message);
                    self.numbers.push(number);
                    self.rests_on = rests_on.or(self.rests_on);
                }
                // Somebody else has acknowledged it.
                Ok((None, _)) => self.fates[number] = Fate::Gone,
                // It holds up its key, and nothing else (I11).
                Err(error @ Error::Corrupt { .. }) => {
                    tracing::error!(%error, id = %taken.id, "a message of the outbox is damaged");
                    let until = self.retry_at(policies, number, None);
                    self.fates[number] = Fate::Failed(until);
                    blocked.insert(taken.lane);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Returns when a message that was taken is tried again.
    fn retry_at(
        &self,
        policies: &Policies,
        number: usize,
        pause: Option<std::time::Duration>,
    ) -> Timestamp {
        let taken = &self.taken.messages[number];
        let now = self.outbox.engine().moment().now.as_millis();
        let pause = match pause {
            Some(pause) => u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
            None => policies.backoff.delay_ms(taken.attempts + 1, taken.position ^ now),
        };
        Timestamp::from_millis(now.saturating_add(pause))
    }

    /// Writes what became of the messages. Others have what is left of their lanes once the batch is dropped. After an
    /// error all of it counts as never tried: what was delivered is delivered again.
    pub(super) fn settle(
        &mut self,
        delivery: &Delivery,
        policies: &Policies,
        durability: Durability,
    ) -> Result<Counts> {
        delivery.check(self.messages.len())?;
        let (mut fates, mut outcome) = self.judge(delivery, policies)?;
        while let Some(held) = self.commit(&outcome, durability)? {
            self.hold_up(&held, &mut fates, &mut outcome, policies);
        }
        self.fates = fates;
        let outbox = &self.outbox;
        if let Some(reason) = delivery.outage() {
            tracing::warn!(topic = outbox.name(), reason, "nobody to deliver to");
            let now = outbox.engine().moment().now.as_millis();
            self.view.backlog.pause(|times| {
                let pause = policies.backoff.delay_ms(times, now ^ u64::from(times));
                Timestamp::from_millis(now.saturating_add(pause.max(1)))
            });
        } else {
            self.view.backlog.resume();
        }
        let (delivered, dead) = (outcome.delivered.len() as u64, outcome.dead.len() as u64);
        Ok(Counts { delivered, retried: outcome.retried, dead })
    }

    /// Decides what becomes of each message that was taken.
    fn judge(&self, delivery: &Delivery, policies: &Policies) -> Result<(Vec<Fate>, Outcome)> {
        let mut fates = self.fates.clone();
        let mut outcome = Outcome::default();
        let mut blocked = HashSet::new();
        let now = self.outbox.engine().moment().now;
        for (index, (message, number)) in self.messages.iter().zip(&self.numbers).enumerate() {
            let taken = &self.taken.messages[*number];
            if blocked.contains(&taken.lane) {
                continue;
            }
            let attempts = taken.attempts.saturating_add(1);
            let (cause, reason) = match delivery.verdict(index) {
                Verdict::Delivered => {
                    fates[*number] = Fate::Gone;
                    outcome.delivered.push(*number);
                    continue;
                }
                Verdict::Untried => {
                    blocked.insert(taken.lane);
                    continue;
                }
                Verdict::Retry { pause, .. } if attempts < policies.attempts_max => {
                    fates[*number] = Fate::Failed(self.retry_at(policies, *number, pause));
                    outcome.retried += 1;
                    blocked.insert(taken.lane);
                    continue;
                }
                Verdict::Retry { reason, .. } => (DeadMessageCause::Exhausted, reason),
                Verdict::Final { reason } => (DeadMessageCause::Refused, reason),
            };
            let Message { emitted, key, given_id, payload, .. } = message;
            let stored = Stored { emitted: *emitted, key, given_id, payload }.encode()?;
            let (reason, position) = (&reason[..], taken.position);
            let dead =
                StoredDead { cause, since: now, attempts, position, reason, message: &stored };
            outcome.dead.push(Dead { number: *number, value: dead.encode() });
            fates[*number] = Fate::Gone;
        }
        Ok((fates, outcome))
    }

    /// Puts off what a prepared transaction holds: it may never be removed, or at once. Later messages of its key wait for
    /// it, whatever became of them, and come again in their order.
    fn hold_up(
        &self,
        held: &[usize],
        fates: &mut [Fate],
        outcome: &mut Outcome,
        policies: &Policies,
    ) {
        let mut lanes = HashSet::new();
        let mut left_out = HashSet::new();
        let first = held.iter().copied().min().unwrap_or_default();
        for (number, fate) in fates.iter_mut().enumerate().skip(first) {
            let lane = self.taken.messages[number].lane;
            if lanes.contains(&lane) {
                *fate = Fate::Untried;
            } else if held.contains(&number) {
                lanes.insert(lane);
                *fate = Fate::Failed(self.retry_at(policies, number, None));
                outcome.retried += 1;
            } else {
                continue;
            }
            left_out.insert(number);
        }
        outcome.leave_out(&left_out);
    }

    /// Removes what was delivered, and makes dead letters of what never will be, in one commit. If a prepared transaction
    /// holds some of them, writes nothing and returns which.
    fn commit(&self, outcome: &Outcome, durability: Durability) -> Result<Option<Vec<usize>>> {
        let (mut delivered, mut dead) =
            (outcome.delivered.clone(), outcome.dead.iter().collect::<Vec<&Dead>>());
        while !delivered.is_empty() || !dead.is_empty() {
            let removed: Vec<usize> =
                delivered.iter().copied().chain(dead.iter().map(|dead| dead.number)).collect();
            let mut rows: Vec<RowWrite<'_>> = Vec::with_capacity(removed.len() + dead.len());
            for number in &removed {
                let TakenMessage { position, id, .. } = &self.taken.messages[*number];
                rows.push(self.outbox.removal(*position, id)?);
            }
            for Dead { number, value } in &dead {
                let id = &self.taken.messages[*number].id;
                rows.push(self.outbox.dead_write(id, value)?);
            }
            let refused = self.outbox.try_commit(&rows, durability)?;
            if refused.is_nothing() {
                break;
            }
            let numbers = removed.iter().copied().chain(dead.iter().map(|dead| dead.number));
            let numbers: Vec<usize> = numbers.collect();
            let held: Vec<usize> = refused.in_doubt().iter().map(|write| numbers[*write]).collect();
            if !held.is_empty() {
                return Ok(Some(held));
            }
            // Somebody else has acknowledged these.
            let first_dead = delivered.len();
            refused.retain_others(&mut delivered, 0);
            refused.retain_others(&mut dead, first_dead);
        }
        Ok(None)
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        if self.view.backlog.settle(&self.taken, &self.fates) {
            let mut bells = Bells::default();
            self.outbox.engine().tell_topic(self.view.ns, TopicEvent::Ended, &mut bells);
        }
    }
}
