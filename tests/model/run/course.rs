//! Model of the engine's time (I5). It follows the wall clock, waits for one slightly behind, runs on by itself if the
//! wall clock is far off, and follows one that has stayed far ahead for a minute.

/// A jump ahead of up to this much is believed at once.
const BELIEVED_MS: u64 = 3_600_000;
/// A longer jump is believed after this long.
const SETTLE_MS: u64 = 60_000;
/// The budget for jumps refills this many times more slowly than time passes.
const REFILL: u64 = 24;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wall {
    Followed,
    /// Too far ahead, for this long.
    Ahead(u64),
    Behind,
}

/// The engine's time and its view of the wall clock. The engine is taken to look after every change of the clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Course {
    time: u64,
    wall_ms: u64,
    wall: Wall,
    /// Time until the budget for jumps is full again.
    refill_ms: u64,
}

impl Course {
    pub(crate) fn at(ms: u64) -> Self {
        Self { time: ms, wall_ms: ms, wall: Wall::Followed, refill_ms: 0 }
    }

    pub(crate) fn time(&self) -> u64 {
        self.time
    }

    pub(crate) fn wall_ms(&self) -> u64 {
        self.wall_ms
    }

    /// How far a wall clock that is not yet followed is ahead.
    pub(crate) fn held_ms(&self) -> u64 {
        if let Wall::Ahead(_) = self.wall { self.wall_ms - self.time } else { 0 }
    }

    /// The later of the engine's time and a wall clock that is held back: deadlines count from here.
    pub(crate) fn latest(&self) -> u64 {
        self.time + self.held_ms()
    }

    /// The store was reopened. The mark of a held jump does not tell how much of the budget is left: a minute is
    /// assumed.
    pub(crate) fn reopened(&mut self) {
        if let Wall::Ahead(_) = self.wall {
            self.refill_ms = (BELIEVED_MS - 60_000) * REFILL;
        }
    }

    /// What the store knew of time is lost.
    pub(crate) fn forgotten(&mut self) {
        self.refill_ms = 0;
    }

    /// The wall clock is followed and not behind.
    pub(crate) fn is_right(&self) -> bool {
        self.wall == Wall::Followed && self.wall_ms >= self.time
    }

    pub(crate) fn is_followed(&self) -> bool {
        self.wall == Wall::Followed
    }

    pub(crate) fn pass(&mut self, ms: u64) {
        self.wall_ms += ms;
        self.refill_ms = self.refill_ms.saturating_sub(ms);
        if let Wall::Ahead(_) = self.wall
            && self.is_believed(self.wall_ms, self.time + ms)
        {
            self.time += ms;
            self.step();
        }
        match &mut self.wall {
            Wall::Followed => {}
            // The engine looks only now, and the clock is no longer far behind the time it saw last.
            Wall::Behind if self.wall_ms + BELIEVED_MS >= self.time => self.wall = Wall::Followed,
            Wall::Behind => self.time += ms,
            Wall::Ahead(since) => {
                *since += ms;
                self.time += ms;
                if *since >= SETTLE_MS {
                    self.wall = Wall::Followed;
                }
            }
        }
        self.follow();
    }

    /// Sets the wall clock.
    pub(crate) fn set(&mut self, wall_ms: u64) {
        self.wall_ms = wall_ms;
        self.wall = if wall_ms > self.time && !self.is_believed(wall_ms, self.time) {
            Wall::Ahead(0)
        } else if wall_ms + BELIEVED_MS < self.time {
            Wall::Behind
        } else {
            self.step();
            Wall::Followed
        };
        self.follow();
    }

    fn is_believed(&self, wall_ms: u64, time: u64) -> bool {
        let ahead = wall_ms.saturating_sub(time);
        ahead <= BELIEVED_MS && self.refill_ms + ahead * REFILL <= BELIEVED_MS * REFILL
    }

    /// Believes the wall clock and charges its jump to the budget.
    fn step(&mut self) {
        self.refill_ms += self.wall_ms.saturating_sub(self.time) * REFILL;
        self.wall = Wall::Followed;
        self.follow();
    }

    fn follow(&mut self) {
        if self.wall == Wall::Followed {
            self.time = self.time.max(self.wall_ms);
        }
    }
}
