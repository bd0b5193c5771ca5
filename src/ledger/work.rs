//! What an attempt and those who renew it share: the record as it was last seen, and every change that they make of it.

use crate::engine::{Bells, Durability, RestsOn, WaitBudget};
use crate::error::Error;
use crate::ledger::changes::{self, Change, Now};
use crate::ledger::ending::Ending;
use crate::ledger::error::{AttemptError, Failure};
use crate::ledger::handle::Ledger;
use crate::ledger::moves::{self, Move, Phase};
use crate::ledger::progress::Stages;
use crate::ledger::quiet::{HasBells, Quiet, QuietGuard};
use crate::ledger::record::{Record, State};
use crate::ledger::rows::{Found, StageWrite};
use crate::limits;
use crate::time::Timestamp;
use std::time::Duration;

/// What an attempt and those who renew it share. Nobody waits for memory or the disk under its lock: a task that asks the
/// attempt would block its thread meanwhile (I9).
#[derive(Debug)]
pub(super) struct Work {
    pub(super) ledger: Ledger,
    id: Vec<u8>,
    token: u64,
    pub(super) inside: Quiet<Inside>,
}

#[derive(Debug)]
pub(super) struct Inside {
    pub(super) found: Found,
    /// How far the attempt has come with its own end.
    end: End,
    /// To when the attempt has extended its lease beyond its length.
    extended_to: Option<Timestamp>,
    pub(super) stages: Stages,
    /// What the durability rests on of what was read or written since the lock was taken.
    rests_on: Option<RestsOn>,
    bells: Bells,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    /// The work may have been done, and the store may not know it; see [`Unanswered`]. Dropping the attempt then writes
    /// nothing, because the effect may have happened; a later save or end clears it up.
    InDoubt,
    /// This move was to be stored, and nobody knows whether it was. Dropping the attempt writes nothing.
    Unknown(Option<Move>),
    Over,
}

impl HasBells for Inside {
    fn bells(&mut self) -> &mut Bells {
        &mut self.bells
    }
}

impl Inside {
    /// Notes that nobody knows whether the work was done.
    pub(super) fn doubt(&mut self) {
        if self.end == End::Open {
            self.end = End::InDoubt;
        }
    }

    /// Notes that the attempt has said how it ended.
    pub(super) fn finish(&mut self) {
        self.end = End::Over;
    }

    /// Notes that the lease was renewed, to an end that the attempt has chosen if it `is_chosen`.
    pub(super) fn renewed(&mut self, is_chosen: bool) {
        if let State::Running { until } = self.found.record.state
            && is_chosen
        {
            self.extended_to = Some(until);
        }
    }

    /// Notes that a stage was saved: the work goes on.
    pub(super) fn saved(&mut self, number: u32) {
        self.stages.saved = self.stages.saved.max(number + 1);
        if self.end == End::InDoubt {
            self.end = End::Open;
        }
    }

    /// Notes what the durability rests on of what was read or written. The log only grows, so the last of it is enough.
    pub(super) fn rest_on(&mut self, rests_on: Option<RestsOn>) {
        self.rests_on = rests_on.or(self.rests_on);
    }

    /// Takes what the durability rests on of what was read and written since the lock was taken.
    fn take_rests_on(&mut self) -> Option<RestsOn> {
        self.rests_on.take()
    }
}

impl Work {
    pub(super) fn new(ledger: Ledger, id: &[u8], found: Found) -> Self {
        let token = found.record.token;
        let (end, stages) = (End::Open, Stages::new(found.record.stages));
        let (extended_to, rests_on, bells) = (None, None, Bells::default());
        let inside = Quiet::new(Inside { found, end, extended_to, stages, rests_on, bells });
        Self { ledger, id: id.to_vec(), token, inside }
    }

    /// Does something under the lock of the attempt, and waits without it: for memory, after which `act` is called again,
    /// and until the answer is as safe as the ledger asks.
    pub(super) fn locked<T>(
        &self,
        mut act: impl FnMut(&mut Inside, &mut WaitBudget) -> Result<T, AttemptError>,
    ) -> Result<T, AttemptError> {
        let engine = self.ledger.inner.store.engine();
        let attempt = |budget: &mut WaitBudget| Ok(unlocked(self.inside.lock(), budget, &mut act));
        let (done, rests_on) = engine.in_attempts(None, attempt)?;
        self.await_durable(rests_on)?;
        done
    }

    /// Does something as [`locked`](Self::locked) does, as a future.
    pub(super) async fn locked_async<T>(
        &self,
        mut act: impl FnMut(&mut Inside, &mut WaitBudget) -> Result<T, AttemptError>,
    ) -> Result<T, AttemptError> {
        let engine = self.ledger.inner.store.engine();
        let attempt = |budget: &mut WaitBudget| Ok(unlocked(self.inside.lock(), budget, &mut act));
        let (done, rests_on) = engine.in_time(attempt).await?;
        self.durable(rests_on).await?;
        done
    }

    /// Reads something under the lock of the attempt, and returns without waiting for it what the answer rests on.
    pub(super) fn locked_only<T>(
        &self,
        act: impl FnOnce(&mut Inside, &mut WaitBudget) -> Result<T, AttemptError>,
    ) -> (Result<T, AttemptError>, Option<RestsOn>) {
        unlocked(self.inside.lock(), &mut WaitBudget::of_one_attempt(), act)
    }

    /// Waits until what an answer rests on is as safe as the ledger asks.
    pub(super) fn await_durable(&self, rests_on: Option<RestsOn>) -> Result<(), AttemptError> {
        let engine = self.ledger.inner.store.engine();
        let waited = engine.await_durable(self.durability(), rests_on);
        Ok(waited.inspect_err(|_| self.inside.lock().doubt())?)
    }

    /// Waits as [`await_durable`](Self::await_durable) does, as a future.
    pub(super) async fn durable(&self, rests_on: Option<RestsOn>) -> Result<(), AttemptError> {
        let waited = self.ledger.inner.store.durable(self.durability(), rests_on).await;
        Ok(waited.inspect_err(|_| self.inside.lock().doubt())?)
    }

    fn durability(&self) -> Durability {
        self.ledger.rows().durability
    }

    /// Returns how an attempt ends that has this result.
    pub(super) fn completion(&self, bytes: impl Into<Vec<u8>>, is_encoded: bool) -> Ending {
        let (bytes, ttl) = (bytes.into(), self.ledger.result_ttl());
        Ending::Complete { bytes, is_encoded, ttl, failure: None }
    }

    pub(super) fn ending_of(&self, failure: Failure) -> Result<Ending, AttemptError> {
        Ending::of(failure, &self.ledger.inner.options, self.ledger.result_ttl())
    }

    /// Says how the attempt ended.
    pub(super) fn end(&self, ending: &Ending) -> Result<(), AttemptError> {
        let unanswered = Unanswered::of(self);
        self.locked(|inside, budget| self.end_only(inside, ending, budget))?;
        unanswered.answered();
        Ok(())
    }

    /// Says how the attempt ended, as a future.
    pub(super) async fn end_async(&self, ending: &Ending) -> Result<(), AttemptError> {
        let unanswered = Unanswered::of(self);
        self.locked_async(|inside, budget| self.end_only(inside, ending, budget)).await?;
        unanswered.answered();
        Ok(())
    }

    /// Says how the attempt ended, unless it has said so, or tried to. If that takes a wait, the record is returned as it
    /// last was, for a later try that is not this attempt's: that has nothing to say any more, also in a transaction.
    pub(super) fn last_word(
        &self,
        ending: &Ending,
        budget: &mut WaitBudget,
    ) -> Result<Option<Found>, AttemptError> {
        let mut inside = self.inside.lock();
        if inside.end != End::Open {
            return Ok(None);
        }
        let ended = self.end_only(&mut inside, ending, budget);
        if budget.has_given_up() {
            inside.finish();
            return Ok(Some(inside.found.clone()));
        }
        ended.map(|()| None)
    }

    fn end_only(
        &self,
        inside: &mut Inside,
        ending: &Ending,
        budget: &mut WaitBudget,
    ) -> Result<(), AttemptError> {
        let policies = &self.ledger.inner.options;
        ending.check(policies)?;
        let asked = ending.step(&inside.found.record, policies);
        let step = |record: &Record| ending.step(record, policies);
        let change = |record, now| ending.change(record, now, policies);
        let ended = match self.make(inside, budget, step, None, change) {
            // The call before this one was made after all, and asked for the same.
            Err(AttemptError::Over { record })
                if inside.end == End::Unknown(asked)
                    && is_result_of(
                        &change(inside.found.record.clone(), self.ledger.now()),
                        &record,
                    ) =>
            {
                inside.found.record = *record;
                Ok(())
            }
            other => other,
        };
        inside.end = match &ended {
            Ok(()) | Err(AttemptError::Fenced { .. } | AttemptError::Over { .. }) => End::Over,
            // Nothing was written.
            Err(AttemptError::LeaseEnded) => inside.end,
            Err(_) if budget.has_given_up() => inside.end,
            Err(_) => End::Unknown(asked),
        };
        ended
    }

    pub(super) fn renew(&self) -> Result<(), AttemptError> {
        self.locked(|inside, budget| self.renew_as(inside, budget, Move::Renew))
    }

    pub(super) fn renew_for(&self, lease_ms: u64) -> Result<(), AttemptError> {
        self.locked(|inside, budget| {
            let renew = |record, now| changes::renew_for(record, now, lease_ms);
            self.make(inside, budget, |_| Some(Move::Renew), None, renew)?;
            inside.renewed(true);
            Ok(())
        })
    }

    /// Renews the lease, also one that has ended while nobody has taken over, as saving a stage does: the work goes on.
    /// Does not wait for a call of the attempt itself, and hardly for memory: others have to be renewed, too.
    pub(super) fn keep(&self) -> Kept {
        let renew = |inside: &mut Inside, budget: &mut WaitBudget| {
            self.renew_as(inside, budget, Move::Save)
        };
        let attempt = |budget: &mut WaitBudget| {
            Ok(match self.inside.try_lock() {
                None => Err(Kept::Busy),
                Some(inside) if inside.end == End::Over => Err(Kept::Over),
                Some(inside) => Ok(unlocked(inside, budget, renew)),
            })
        };
        let engine = self.ledger.inner.store.engine();
        let (renewed, rests_on) = match engine.in_attempts(Some(KEEP_WAIT), attempt) {
            Ok(Ok(done)) => done,
            Ok(Err(kept)) => return kept,
            Err(error) => return Kept::Failed(error),
        };
        match renewed.and_then(|()| self.await_durable(rests_on)) {
            // Held, perhaps: it may still say how it ended.
            Ok(()) | Err(AttemptError::LeaseEnded) => Kept::Renewed,
            Err(AttemptError::Store(Error::Timeout { .. })) => Kept::Full,
            Err(AttemptError::Store(error)) => Kept::Failed(error),
            Err(_) => Kept::Over,
        }
    }

    /// Gives the lease its length again, if the commit that began the attempt took longer than it.
    pub(super) fn keep_if_over(&self) -> Result<(), AttemptError> {
        self.locked(|inside, budget| self.renew_if_over(inside, budget))
    }

    /// Does what [`keep_if_over`](Self::keep_if_over) does, as a future.
    pub(super) async fn keep_if_over_async(&self) -> Result<(), AttemptError> {
        self.locked_async(|inside, budget| self.renew_if_over(inside, budget)).await
    }

    fn renew_if_over(
        &self,
        inside: &mut Inside,
        budget: &mut WaitBudget,
    ) -> Result<(), AttemptError> {
        match self.ledger.now().phase(Some(&inside.found.record)) {
            Phase::Running => Ok(()),
            _ => self.renew_as(inside, budget, Move::Save),
        }
    }

    fn renew_as(
        &self,
        inside: &mut Inside,
        budget: &mut WaitBudget,
        step: Move,
    ) -> Result<(), AttemptError> {
        let least = inside.extended_to;
        let renew = |record, now| changes::renew(record, now, least);
        self.make(inside, budget, |_| Some(step), None, renew)
    }

    /// Returns what a renewal makes of the record: to its length, or to `lease_ms` from now.
    pub(super) fn decide_renewal(
        &self,
        inside: &mut Inside,
        now: Now,
        lease_ms: Option<u64>,
    ) -> Result<Change, AttemptError> {
        let least = inside.extended_to;
        let renew = |record, now| match lease_ms {
            None => changes::renew(record, now, least),
            Some(lease_ms) => changes::renew_for(record, now, lease_ms),
        };
        self.decide(inside, now, |_| Some(Move::Renew), renew)
    }

    /// Returns what saving a stage makes of the record.
    pub(super) fn decide_save(
        &self,
        inside: &mut Inside,
        now: Now,
        saved: changes::Saved,
    ) -> Result<Change, AttemptError> {
        let least = inside.extended_to;
        let save = |record, now| changes::save(record, now, least, saved);
        self.decide(inside, now, |_| Some(Move::Save), save)
    }

    /// Saves a stage: one commit with the record, whose lease it extends.
    pub(super) fn save(
        &self,
        inside: &mut Inside,
        budget: &mut WaitBudget,
        stage: StageWrite<'_>,
        bytes_before: u64,
    ) -> Result<(), AttemptError> {
        let StageWrite { number, value } = stage;
        let saved = changes::Saved { number, bytes: value.len() as u64, bytes_before };
        let least = inside.extended_to;
        let save = |record, now| changes::save(record, now, least, saved);
        self.make(inside, budget, |_| Some(Move::Save), Some(stage), save)?;
        inside.saved(number);
        Ok(())
    }

    /// Returns an error if the attempt cannot save a stage any more. Reads the record, which costs
    /// little beside an effect that would come to nothing.
    pub(super) fn check_open(&self, inside: &mut Inside) -> Result<(), AttemptError> {
        if inside.end == End::Over {
            return Err(self.over(inside));
        }
        self.refresh(inside)?;
        match moves::after(self.ledger.now().phase(Some(&inside.found.record)), Move::Save) {
            Some(_) => Ok(()),
            None => Err(AttemptError::LeaseEnded),
        }
    }

    pub(super) fn check(&self, inside: &mut Inside) -> Result<(), AttemptError> {
        self.refresh(inside)?;
        match moves::after(self.ledger.now().phase(Some(&inside.found.record)), Move::Renew) {
            Some(_) => Ok(()),
            None => Err(AttemptError::LeaseEnded),
        }
    }

    /// Reads the record again. An error if it is another's.
    pub(super) fn refresh(&self, inside: &mut Inside) -> Result<(), AttemptError> {
        match self.look(inside)? {
            Some(found) if found.record.token == self.token => {
                inside.found = found;
                Ok(())
            }
            Some(Found { record, .. }) if self.is_told_in(&record) => {
                Err(AttemptError::Over { record: record.into() })
            }
            other => Err(AttemptError::Fenced { record: other.map(|found| found.record.into()) }),
        }
    }

    /// Reads the record, and does not wait until it is as safe as the ledger asks: the caller does, without the lock.
    fn look(&self, inside: &mut Inside) -> crate::Result<Option<Found>> {
        let (found, rests_on) = self.ledger.rows().look(&self.id)?;
        inside.rest_on(rests_on);
        Ok(found)
    }

    /// Returns whether the last thing in the history is how this attempt said it went.
    fn is_told_in(&self, record: &Record) -> bool {
        let last = record.history.last().filter(|past| past.token == self.token);
        last.is_some_and(|past| past.end.is_told())
    }

    /// Makes a change of the record, as long as it is this attempt's (I8). The token is compared in the commit: what is
    /// written expects the sequence of the row in which the token was seen.
    fn make(
        &self,
        inside: &mut Inside,
        budget: &mut WaitBudget,
        step: impl Fn(&Record) -> Option<Move>,
        stage: Option<StageWrite<'_>>,
        change: impl Fn(Record, Now) -> Change,
    ) -> Result<(), AttemptError> {
        let rows = self.ledger.rows();
        for _ in 0..limits::RACES_MAX {
            let now = self.ledger.now();
            let change = self.decide(inside, now, &step, &change)?;
            let Inside { found: before, bells, .. } = inside;
            let written = rows.write_only(
                (&self.id, Some(before)),
                &change,
                stage,
                now.at.now,
                bells,
                budget,
            );
            let (found, rests_on) = written?;
            inside.rest_on(rests_on);
            if let Some(found) = found {
                inside.found = found;
                return Ok(());
            }
            self.refresh(inside)?;
        }
        Err(Error::Timeout { what: "a record that others change again and again" }.into())
    }

    /// Returns the change that a move makes of the record, as it was last seen.
    pub(super) fn decide(
        &self,
        inside: &mut Inside,
        now: Now,
        step: impl Fn(&Record) -> Option<Move>,
        change: impl Fn(Record, Now) -> Change,
    ) -> Result<Change, AttemptError> {
        if inside.end == End::Over {
            return Err(self.over(inside));
        }
        let record = inside.found.record.clone();
        let phase = now.phase(Some(&record));
        let Some(to) = step(&record).and_then(|step| moves::after(phase, step)) else {
            // Only what was read just now counts: somebody may have taken over.
            self.refresh(inside)?;
            return Err(AttemptError::LeaseEnded);
        };
        let change = change(record, now);
        debug_assert_eq!(change.phase(now), to, "the table says what a move leads to");
        Ok(change)
    }

    /// Returns the error of an attempt that has said how it went, with the record as it is now.
    fn over(&self, inside: &mut Inside) -> AttemptError {
        match self.look(inside) {
            Ok(Some(found)) => AttemptError::Over { record: found.record.into() },
            Ok(None) => AttemptError::Over { record: inside.found.record.clone().into() },
            Err(error) => error.into(),
        }
    }

    pub(super) fn id(&self) -> &[u8] {
        &self.id
    }

    pub(super) fn token(&self) -> u64 {
        self.token
    }

    /// Returns when its lease has to be renewed: after a third of its length. `None` if it is over.
    pub(super) fn renew_every(&self) -> Option<Duration> {
        let inside = self.inside.lock();
        let third = Duration::from_millis(inside.found.record.lease_ms) / 3;
        (inside.end != End::Over).then_some(third)
    }
}

/// An attempt that says how its work went: that it ends, or that a stage is done. Unless the store answers, it is in doubt
/// (docs/LEDGER.md, section 3): the effect may have happened, and neither an error nor a future that was dropped may
/// become a failure that is tried again.
#[derive(Debug)]
#[must_use = "dropped, it leaves the attempt in doubt"]
pub(crate) struct Unanswered<'a>(Option<&'a Work>);

impl<'a> Unanswered<'a> {
    pub(super) fn of(work: &'a Work) -> Self {
        Self(Some(work))
    }

    /// Notes that the store has answered.
    pub(crate) fn answered(mut self) {
        self.0 = None;
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if let Some(work) = self.0 {
            work.inside.lock().doubt();
        }
    }
}

/// Does something under a lock, and returns what it rests on once that is released.
fn unlocked<T>(
    mut inside: QuietGuard<'_, Inside>,
    budget: &mut WaitBudget,
    act: impl FnOnce(&mut Inside, &mut WaitBudget) -> Result<T, AttemptError>,
) -> (Result<T, AttemptError>, Option<RestsOn>) {
    let done = act(&mut inside, budget);
    let rests_on = inside.take_rests_on();
    (done, rests_on)
}

/// How long one renewal waits for memory. Long enough to be there when there is some, as all who wait are woken then.
const KEEP_WAIT: Duration = Duration::from_millis(10);

/// What came of keeping an attempt alive.
#[derive(Debug)]
pub(super) enum Kept {
    Renewed,
    /// The attempt is in a call of its own.
    Busy,
    /// There is no room for it at the moment.
    Full,
    /// The store failed.
    Failed(Error),
    Over,
}

/// Returns whether a record may be what this change has made of it.
fn is_result_of(change: &Change, record: &Record) -> bool {
    let Some(made) = &change.record else { return false };
    match (&made.state, &record.state) {
        (State::Completed { .. }, State::Completed { .. }) => made.state == record.state,
        (made, stored) => std::mem::discriminant(made) == std::mem::discriminant(stored),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::changes::Outcome;
    use crate::time::Ttl;

    /// A call that failed may have landed. Only who repeats that call may be told that it did.
    #[test]
    fn a_record_is_taken_for_the_result_of_the_same_call_only() {
        let now = Timestamp::from_millis(1_700_000_000_000);
        let at = crate::time::Moment { now, latest: now };
        let now = Now { at, first_token: 0 };
        let record = Record::new(b"a", now.at.now);
        let complete = |bytes| {
            let outcome = Outcome { bytes, is_encoded: false, ttl: Ttl::FOREVER };
            changes::complete(record.clone(), now, outcome, None)
        };
        let stored = complete(b"one").record.expect("is kept");
        assert!(is_result_of(&complete(b"one"), &stored));
        assert!(!is_result_of(&complete(b"two"), &stored));
        assert!(!is_result_of(&changes::release(record.clone(), now, ""), &stored));
        assert!(!is_result_of(&changes::purge(), &stored));
    }
}
