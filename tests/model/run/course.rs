//! What the engine's time must be, told from what was done to the clock (I5): it follows the wall clock,
//! waits for one that is a little behind, goes on by itself beside one that is far off, and follows one
//! that has stayed far ahead for a minute.

/// How far ahead a clock may be set and be believed at once.
const BELIEVED_MS: u64 = 3_600_000;
/// How long a clock that is further ahead must stay there.
const SETTLE_MS: u64 = 60_000;
/// What is believed at once refills this much more slowly than time passes.
const REFILL: u64 = 24;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wall {
    Followed,
    /// Too far ahead, for so long.
    Ahead(u64),
    /// Too far behind.
    Behind,
}

/// The engine's time and its view of the wall clock. It looks after everything that happens to the clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Course {
    time: u64,
    wall_ms: u64,
    wall: Wall,
    /// How long it takes until as much as ever is believed at once.
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

    /// How far a wall clock that is not followed yet is ahead.
    pub(crate) fn held_ms(&self) -> u64 {
        if let Wall::Ahead(_) = self.wall { self.wall_ms - self.time } else { 0 }
    }

    /// The later of the engine's time and that of a wall clock that is held: deadlines count from here.
    pub(crate) fn latest(&self) -> u64 {
        self.time + self.held_ms()
    }

    /// The store was closed and is opened again. While a jump is held its mark cannot say how much is left to
    /// believe: a minute.
    pub(crate) fn reopened(&mut self) {
        if let Wall::Ahead(_) = self.wall {
            self.refill_ms = (BELIEVED_MS - 60_000) * REFILL;
        }
    }

    /// What the store knew of time is lost.
    pub(crate) fn forgotten(&mut self) {
        self.refill_ms = 0;
    }

    /// The wall clock is followed and not waited for.
    pub(crate) fn is_right(&self) -> bool {
        self.wall == Wall::Followed && self.wall_ms >= self.time
    }

    pub(crate) fn is_followed(&self) -> bool {
        self.wall == Wall::Followed
    }

    /// Time passes.
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
            // Nobody has looked meanwhile, and it is not behind what was seen last any more.
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

    /// Somebody sets the wall clock.
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

    /// The wall clock is believed, and so is how far it is ahead.
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
