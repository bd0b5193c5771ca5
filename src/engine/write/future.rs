//! Calls that wait as a future: for memory, for the end of a reservation, for the disk. No thread is blocked. And calls
//! that block their thread, but wait outside of what they lock for each attempt (I9).
//!
//! Such a call is attempted as one that may not wait. If it gives up, its waker is entered where the change will be
//! told, and it is attempted again before the future is left pending: a change in between is seen, a later one wakes it.
//! An attempt that gives up has changed nothing, so a future may be dropped at any time.

use crate::engine::catalog::namespaces::NsInfo;
use crate::engine::core::{Awaited, Core, Durability};
use crate::engine::write::backpressure::{Obstruction, WaitBudget};
use crate::engine::write::batch::claim_batch_only;
use crate::engine::write::claim::{Claim, ClaimSpec, claim_only};
use crate::engine::write::durability::RestsOn;
use crate::engine::write::forget::forget_only;
use crate::engine::write::reserve::{Hold, Reserved, confirm, reserve};
use crate::error::Result;
use crate::sync::{Arc, Scheduled, Sleeper, WakerEntry, instant_in};
use crate::wal::Lsn;
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// Claims one id, like [`claim_only`].
pub(in crate::engine) async fn claim_async(
    core: &Core,
    ns: &NsInfo,
    id: &[u8],
    spec: ClaimSpec,
) -> Result<(Claim, Option<RestsOn>)> {
    in_time(core, spec.wait, |budget| claim_only(core, ns, id, spec, budget)).await
}

/// Claims a batch, like [`claim_batch_only`].
pub(in crate::engine) async fn claim_batch_async<I: AsRef<[u8]>>(
    core: &Core,
    ns: &NsInfo,
    ids: &[I],
    spec: ClaimSpec,
) -> Result<(Vec<Claim>, Option<RestsOn>)> {
    in_time(core, spec.wait, |budget| claim_batch_only(core, ns, ids, spec, budget)).await
}

/// Ends a claim, like [`forget_only`].
pub(in crate::engine) async fn forget_async(
    core: &Core,
    ns: &NsInfo,
    id: &[u8],
    spec: ClaimSpec,
) -> Result<(bool, Option<RestsOn>)> {
    in_time(core, spec.wait, |budget| forget_only(core, ns, id, spec, budget)).await
}

/// Reserves a batch, like [`reserve`].
pub(in crate::engine) async fn reserve_async<I: AsRef<[u8]>>(
    core: &Core,
    ns: &NsInfo,
    ids: &[I],
    wait: Option<Duration>,
) -> Result<(Hold, Vec<Reserved>, Option<RestsOn>)> {
    in_time(core, wait, |budget| reserve(core, ns, ids, budget)).await
}

/// Confirms a reservation, like [`confirm`].
pub(in crate::engine) async fn confirm_async(
    core: &Core,
    ns: &NsInfo,
    hold: &Hold,
    spec: ClaimSpec,
) -> Result<Option<RestsOn>> {
    in_time(core, spec.wait, |budget| confirm(core, ns, hold, spec, budget)).await
}

/// Returns what must be synced before the record that an answer depends on is as durable as asked; `None` if it is.
pub(in crate::engine) fn unsynced(
    core: &Core,
    level: Durability,
    rests_on: Option<RestsOn>,
) -> Result<Option<Lsn>> {
    match rests_on {
        Some(RestsOn { lsn, .. }) if level == Durability::Disk => {
            Ok((core.log.durable() < lsn).then_some(lsn))
        }
        // Copies into the page cache at most: no reason to wait.
        other => super::await_durable(core, level, other).map(|()| None),
    }
}

/// Returns once everything before `lsn` is on disk. The job that syncs for futures must have been started.
pub(in crate::engine) async fn synced(core: &Core, lsn: Lsn) -> Result<()> {
    core.log.synced(lsn, || core.signals.sync.raise()).await
}

/// Waits until no replay scope is about to end, and not past `until` (I12). Returns whether none is.
pub(in crate::engine) async fn scope_end(core: &Core, until: Instant) -> Result<bool> {
    let ending = &core.namespaces.ending;
    let (place, mut alarm) = (ending.place(), None);
    poll_fn(move |cx| {
        // Before the look: an end that is over after it finds the waker.
        place.enter(cx.waker());
        if !ending.is_under_way() {
            return Poll::Ready(Ok(true));
        }
        if until <= instant_in(Duration::ZERO) {
            return Poll::Ready(Ok(false));
        }
        match Alarm::set(&mut alarm, core, cx.waker(), until) {
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    })
    .await
}

/// Attempts a call until it need not wait, up to the deadline that it has as a blocking one.
pub(in crate::engine) async fn in_time<T>(
    core: &Core,
    wait: Option<Duration>,
    mut attempt: impl FnMut(&mut WaitBudget) -> Result<T>,
) -> Result<T> {
    let mut waiting = Waiting::of(core, WaitBudget::of_future(wait));
    poll_fn(move |cx| waiting.poll(cx, &mut attempt)).await
}

/// Attempts a call as [`in_time`] does, and blocks the thread between the attempts: whatever an attempt locks is free
/// while the call waits.
pub(in crate::engine) fn in_attempts<T>(
    core: &Core,
    wait: Option<Duration>,
    mut attempt: impl FnMut(&mut WaitBudget) -> Result<T>,
) -> Result<T> {
    let mut waiting = Waiting::of(core, WaitBudget::of_attempts(wait));
    let sleeper = Arc::new(Sleeper::default());
    let waker = Waker::from(Arc::clone(&sleeper));
    loop {
        match waiting.attempt(&waker, &mut attempt) {
            Attempted::Done(done) => return done,
            // Lets the others go on, too, if it takes too long.
            Attempted::Obstructed(Awaited::Compaction, until) => core.wait_for_compaction(until),
            Attempted::Obstructed(_, until) => sleeper.wait_until(until),
        }
    }
}

/// What came of an attempt.
enum Attempted<T> {
    Done(Result<T>),
    /// The waker is entered where the change of this will be told. To be attempted again then, and at this time.
    Obstructed(Awaited, Instant),
}

/// The wait of one call. Dropping it leaves nothing behind.
struct Waiting<'a> {
    core: &'a Core,
    budget: WaitBudget,
    /// What the last attempt gave up for, and the place in which it waits for that.
    at: Option<(Obstruction, WakerEntry<'a, Awaited>)>,
    alarm: Option<Alarm>,
}

impl<'a> Waiting<'a> {
    fn of(core: &'a Core, budget: WaitBudget) -> Self {
        Self { core, budget, at: None, alarm: None }
    }

    fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        attempt: &mut impl FnMut(&mut WaitBudget) -> Result<T>,
    ) -> Poll<Result<T>> {
        match self.attempt(cx.waker(), attempt) {
            Attempted::Done(done) => Poll::Ready(done),
            Attempted::Obstructed(_, until) => {
                match Alarm::set(&mut self.alarm, self.core, cx.waker(), until) {
                    Ok(()) => Poll::Pending,
                    Err(error) => Poll::Ready(Err(error)),
                }
            }
        }
    }

    fn attempt<T>(
        &mut self,
        waker: &Waker,
        attempt: &mut impl FnMut(&mut WaitBudget) -> Result<T>,
    ) -> Attempted<T> {
        loop {
            // Before the attempt: whatever changes after it finds the waker.
            if let Some((_, place)) = &self.at {
                place.enter(waker);
            }
            let done = attempt(&mut self.budget);
            let Some((obstruction, until)) = self.budget.take_obstruction() else {
                return Attempted::Done(done);
            };
            if self.at.as_ref().is_some_and(|(before, _)| *before == obstruction) {
                return Attempted::Obstructed(obstruction.1, until);
            }
            let (shard, what) = obstruction;
            self.at = Some((obstruction, self.core.shards[shard].futures.place(what)));
        }
    }
}

/// A wake-up at a deadline, unless it is dropped before.
struct Alarm {
    until: Instant,
    waker: Waker,
    _task: Scheduled,
}

impl Alarm {
    /// Schedules a wake-up at the deadline, unless `slot` has it already.
    fn set(slot: &mut Option<Self>, core: &Core, waker: &Waker, until: Instant) -> Result<()> {
        let is_set = |alarm: &Self| alarm.until == until && alarm.waker.will_wake(waker);
        if slot.as_ref().is_some_and(is_set) {
            return Ok(());
        }
        let started = core.start(&core.alarms)?;
        let (waker, wakes) = (waker.clone(), waker.clone());
        let pause = until.saturating_duration_since(instant_in(Duration::ZERO));
        let task = started.add(pause, move || {
            wakes.wake_by_ref();
            None
        });
        *slot = Some(Self { until, waker, _task: task });
        Ok(())
    }
}
