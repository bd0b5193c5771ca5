//! The engine's own time (I5). The wall clock is weighed against `elapsed_ms`, which no one can set.
//!
//! - Ahead by more than `jump_ms_max`: the wall is *held*. Time advances with `elapsed` until the wall comes back, or
//!   has kept its new course for `settle_ms` and is followed.
//! - Ahead by less, but more often than the budget (`REFILL`) allows: also held. Small steps would add up.
//! - Behind by up to `jump_ms_max`: time stands still until the wall has caught up, so never for longer than that. A
//!   claim then lives a little longer, which is the harmless side.
//! - Behind by more: time *coasts* on `elapsed`, so that ttls keep expiring, until the wall is near.
//!
//! While the wall is held it is unknown which of the two times is right, so a deadline counts from the later one
//! ([`Moment`]): whatever is decided later, no claim ends early.

use serde::{Deserialize, Serialize};

use super::{Clock, Moment, Timestamp};
use crate::sync::{Arc, AtomicU64, Mutex, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

/// Longest step believed without checking `elapsed`.
const STEP_MS_MAX: u64 = 1_000;
/// Engine time is weighed again at each multiple of this power of two (about a minute), however busy the store, so that
/// small steps cannot add up against an old anchor.
const REVIEW_BITS: u32 = 16;
/// After a boot it is unknown how long the machine was off; a day is believed without question.
const OFF_MS_MAX: u64 = 24 * 3_600 * 1_000;
/// Forward steps are believed up to `jump_ms_max` in total, a budget that refills within a day. A day is long enough
/// that steps cannot make time run noticeably fast, and short enough that slewing by a time daemon (at most 43 s a day)
/// never uses it up.
const REFILL: u64 = 24;
/// Budget left when a store is opened while a jump is held: the mark has no field for it.
const LEFT_WHEN_HELD_MS: u64 = 60_000;
/// Engine time ends here, far below `Timestamp::NEVER`, which must stay in the future.
const ENGINE_MS_MAX: u64 = 1 << 56;

// Values of `TimeKeeper::mode`.
const FOLLOWING: u64 = 0;
const HELD: u64 = 1;
const COASTING: u64 = 2;

/// What a store records about time for its next opening.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimeMark {
    /// The highest engine time, in milliseconds since the epoch.
    pub(crate) high: u64,
    /// `elapsed_ms` of boot `boot` at that time.
    pub(crate) elapsed: u64,
    pub(crate) boot: u128,
    /// The wall clock when a jump not yet followed was first seen, else 0.
    pub(crate) suspect: u64,
    /// `elapsed_ms` at that sighting, so that short runs (cron) add up to one settling. Without a jump: the
    /// `elapsed_ms` at which the budget of forward steps is full again, else 0.
    pub(crate) suspect_elapsed: u64,
}

impl TimeMark {
    /// Returns the mark of a record: its time, in an unknown boot.
    pub(crate) fn of_record(high: u64) -> Self {
        Self { high, elapsed: 0, boot: 0, suspect: 0, suspect_elapsed: 0 }
    }
}

#[derive(Debug, Clone, Copy)]
struct Bounds {
    jump_ms_max: u64,
    settle_ms: u64,
}

impl Bounds {
    /// Returns the elapsed time in which the whole budget of forward steps refills.
    fn refill_ms(self) -> u64 {
        self.jump_ms_max.saturating_mul(REFILL)
    }
}

/// One reading of the clocks, and what was known before it. Milliseconds.
#[derive(Debug, Clone, Copy)]
struct Look {
    wall: u64,
    elapsed: u64,
    /// Highest engine time so far.
    last: u64,
    /// Engine time by `elapsed` alone; at least `last`.
    expected: u64,
    /// Wall and elapsed when a jump was first seen.
    suspect: Option<(u64, u64)>,
    /// Engine time of the last verdict, advanced by `elapsed`; anything beyond it is a forward step.
    due: u64,
    /// Time until the budget of forward steps is full again.
    refill_ms: u64,
}

impl Look {
    /// Returns what is left to refill when engine time advances to `ms`.
    fn refill_after(&self, ms: u64) -> u64 {
        self.refill_ms.saturating_add(ms.saturating_sub(self.due).saturating_mul(REFILL))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ClockJudgement {
    /// Plausible: engine time follows the wall, or waits for it if it is a little behind.
    Believe,
    /// Too far behind to wait for.
    Coast,
    /// Ahead on a course not seen before.
    Jumped,
    /// Still on the course of the jump, not yet for long enough.
    Held,
    /// On that course for long enough: it is right, and followed.
    Settled,
}

fn judge(look: &Look, bounds: Bounds) -> ClockJudgement {
    let is_small = look.wall <= look.expected.saturating_add(bounds.jump_ms_max);
    let is_step = look.wall > look.due;
    if !is_small || (is_step && look.refill_after(look.wall) > bounds.refill_ms()) {
        let Some((wall, elapsed)) = look.suspect else { return ClockJudgement::Jumped };
        let since = look.elapsed.saturating_sub(elapsed);
        if look.wall.abs_diff(wall.saturating_add(since)) > bounds.jump_ms_max {
            ClockJudgement::Jumped
        } else if since < bounds.settle_ms {
            ClockJudgement::Held
        } else {
            ClockJudgement::Settled
        }
    } else if look.wall.saturating_add(bounds.jump_ms_max) < look.last {
        ClockJudgement::Coast
    } else {
        ClockJudgement::Believe
    }
}

/// Judges the wall clock at an opening by what the last closing (or the last record) recorded.
fn judge_resume(
    mark: TimeMark,
    clocks: (u64, u64, u128),
    bounds: Bounds,
) -> (Look, ClockJudgement) {
    let (wall, elapsed, boot) = clocks;
    let last = mark.high.min(ENGINE_MS_MAX);
    let refill_ms = if mark.suspect == 0 {
        mark.suspect_elapsed.saturating_sub(mark.elapsed)
    } else {
        bounds.jump_ms_max.saturating_sub(LEFT_WHEN_HELD_MS).saturating_mul(REFILL)
    };
    // The age of a mark made in another boot is unknown.
    let since = if boot == mark.boot { elapsed.saturating_sub(mark.elapsed) } else { 0 };
    let refill_ms = refill_ms.saturating_sub(since);
    // After a boot, the time the machine was off is not a step.
    let mut look =
        Look { wall, elapsed, last, expected: last, suspect: None, due: wall, refill_ms };
    let judgement = if boot == mark.boot {
        look.expected = last.saturating_add(elapsed.saturating_sub(mark.elapsed));
        look.due = look.expected;
        look.suspect = (mark.suspect != 0).then_some((mark.suspect, mark.suspect_elapsed));
        judge(&look, bounds)
    } else if mark.suspect != 0 && wall >= mark.suspect {
        ClockJudgement::Settled // the newer time was seen before a boot and after it
    } else {
        judge(&look, Bounds { jump_ms_max: bounds.jump_ms_max.max(OFF_MS_MAX), ..bounds })
    };
    (look, judgement)
}

/// The engine's time: monotone over all threads and openings. Lock-free, except when its mode changes.
#[derive(Debug)]
pub(crate) struct TimeKeeper {
    clock: Arc<dyn Clock>,
    /// Boot of the opening: a test may reboot its clock before it drops the store.
    boot: u128,
    bounds: Bounds,
    last: AtomicU64,
    mode: AtomicU64,
    /// Engine time minus elapsed time as an `i64`: one word, so that no reader sees half an anchor.
    offset: AtomicU64,
    suspect_wall: AtomicU64,
    suspect_elapsed: AtomicU64,
    /// Like `offset`, for `Look::due`: from the highest engine time, not from a wall that is waited for.
    due_offset: AtomicU64,
    /// `elapsed` at which the budget of forward steps is full again.
    full_at: AtomicU64,
    jumps: AtomicU64,
    /// Held to change `mode`, the offsets, the suspect or the budget.
    turn: Mutex<()>,
}

impl TimeKeeper {
    pub(crate) fn new(
        clock: Arc<dyn Clock>,
        resume: Option<TimeMark>,
        jump_ms_max: u64,
        settle_ms: u64,
    ) -> Self {
        let bounds = Bounds { jump_ms_max, settle_ms };
        let wall = clock.wall().as_millis().min(ENGINE_MS_MAX);
        let (elapsed, boot) = (clock.elapsed_ms(), clock.boot_id());
        let (look, judgement) = match resume {
            Some(mark) => judge_resume(mark, (wall, elapsed, boot), bounds),
            None => {
                let look = Look {
                    wall,
                    elapsed,
                    last: 0,
                    expected: 0,
                    suspect: None,
                    due: wall,
                    refill_ms: 0,
                };
                (look, ClockJudgement::Believe)
            }
        };
        let [mode, offset, suspect_wall, suspect_elapsed, jumps, due_offset, full_at] =
            Default::default();
        let (last, turn) = (AtomicU64::new(look.last), Mutex::new(()));
        let keeper = Self {
            clock,
            boot,
            bounds,
            last,
            mode,
            offset,
            suspect_wall,
            suspect_elapsed,
            due_offset,
            full_at,
            jumps,
            turn,
        };
        keeper.carry_out(judgement, &look);
        keeper
    }

    /// Returns the engine's time, never less than any thread was given before.
    pub(crate) fn now(&self) -> Timestamp {
        self.moment().now
    }

    /// Returns the engine's time, and the time from which a deadline counts.
    #[inline]
    pub(crate) fn moment(&self) -> Moment {
        let wall = self.wall();
        let last = self.last.load(Relaxed);
        let following = self.mode.load(Acquire) == FOLLOWING;
        let now = Timestamp::from_millis(
            if following && wall <= last && last - wall <= self.bounds.jump_ms_max {
                last
            } else if following
                && wall > last
                && wall - last <= STEP_MS_MAX
                && wall >> REVIEW_BITS == last >> REVIEW_BITS
            {
                self.raise(wall)
            } else {
                return self.weigh();
            },
        );
        Moment { now, latest: now }
    }

    /// Returns what to record for the next opening.
    pub(crate) fn mark(&self) -> TimeMark {
        let high = self.now().as_millis();
        let _turn = self.turn.lock();
        let suspect = self.suspect_wall.load(Relaxed);
        let since = if suspect == 0 { &self.full_at } else { &self.suspect_elapsed };
        TimeMark {
            high,
            elapsed: self.clock.elapsed_ms(),
            boot: self.boot,
            suspect,
            suspect_elapsed: since.load(Relaxed),
        }
    }

    /// Returns the number of forward jumps of the wall clock that were not followed at once.
    pub(crate) fn jumps(&self) -> u64 {
        self.jumps.load(Relaxed)
    }

    /// Returns how far a held wall clock is ahead of engine time, else 0.
    pub(crate) fn held_ms(&self) -> u64 {
        let now = self.now().as_millis();
        let held = self.mode.load(Acquire) == HELD;
        if held { self.wall().saturating_sub(now) } else { 0 }
    }

    fn wall(&self) -> u64 {
        self.clock.wall().as_millis().min(ENGINE_MS_MAX)
    }

    fn raise(&self, ms: u64) -> u64 {
        self.last.fetch_max(ms, Relaxed).max(ms)
    }

    /// Returns the time when the wall cannot be believed as is.
    ///
    /// A hold may last a minute and a coast years, so continuing either takes no lock.
    #[cold]
    fn weigh(&self) -> Moment {
        let mode = self.mode.load(Acquire);
        if mode != FOLLOWING {
            let look = self.look();
            match judge(&look, self.bounds) {
                ClockJudgement::Held if mode == HELD => {
                    return Self::told(self.raise(look.expected), look.wall);
                }
                ClockJudgement::Coast if mode == COASTING => {
                    return Self::told(self.raise(look.expected), 0);
                }
                _ => {}
            }
        }
        let _turn = self.turn.lock();
        let look = self.look();
        self.carry_out(judge(&look, self.bounds), &look)
    }

    /// Returns the moment; `held` is a wall clock that may be right.
    fn told(now: u64, held: u64) -> Moment {
        let at = Timestamp::from_millis;
        Moment { now: at(now), latest: at(now.max(held)) }
    }

    fn look(&self) -> Look {
        // Wall first: a pause between the two readings then makes the wall look late, not ahead.
        let wall = self.wall();
        let elapsed = self.clock.elapsed_ms();
        let last = self.last.load(Relaxed);
        let by_elapsed = elapsed.saturating_add_signed(self.offset.load(Relaxed).cast_signed());
        let expected = by_elapsed.min(ENGINE_MS_MAX).max(last);
        let suspect = (self.suspect_wall.load(Relaxed), self.suspect_elapsed.load(Relaxed));
        let suspect = (suspect.0 != 0).then_some(suspect);
        let due = elapsed.saturating_add_signed(self.due_offset.load(Relaxed).cast_signed());
        let refill_ms = self.full_at.load(Relaxed).saturating_sub(elapsed);
        Look { wall, elapsed, last, expected, suspect, due, refill_ms }
    }

    /// Applies the verdict and returns the time. The caller holds the turn (or is `new`).
    fn carry_out(&self, judgement: ClockJudgement, look: &Look) -> Moment {
        let (mode, engine, suspect) = match judgement {
            ClockJudgement::Believe | ClockJudgement::Settled => (FOLLOWING, look.wall, None),
            ClockJudgement::Coast => (COASTING, look.expected, None),
            ClockJudgement::Jumped => (HELD, look.expected, Some((look.wall, look.elapsed))),
            ClockJudgement::Held => (HELD, look.expected, look.suspect),
        };
        let (wall_ms, engine_ms) = (look.wall, look.expected);
        let news = self.mode.load(Relaxed) != mode || judgement == ClockJudgement::Jumped;
        if news && mode == HELD {
            self.jumps.fetch_add(1, Relaxed);
            tracing::warn!(wall_ms, engine_ms, "the wall clock jumped ahead; not followed yet");
        } else if news && mode == COASTING {
            tracing::warn!(wall_ms, engine_ms, "the wall clock is far behind; going on without it");
        }
        if judgement == ClockJudgement::Settled {
            tracing::info!(wall_ms, engine_ms, "the wall clock kept to its jump and is followed");
        }
        let (suspect_wall, suspect_elapsed) = suspect.unwrap_or_default();
        self.offset.store(engine.wrapping_sub(look.elapsed), Relaxed);
        self.suspect_wall.store(suspect_wall, Relaxed);
        self.suspect_elapsed.store(suspect_elapsed, Relaxed);
        let now = self.raise(engine);
        // Settling is not a step: the wall clock was seen to be right.
        let due = if judgement == ClockJudgement::Settled { look.due } else { now };
        self.full_at.store(look.elapsed.saturating_add(look.refill_after(due)), Relaxed);
        self.due_offset.store(now.wrapping_sub(look.elapsed), Relaxed);
        self.mode.store(mode, Release);
        Self::told(now, if mode == HELD { look.wall } else { 0 })
    }
}

#[cfg(test)]
mod tests;
