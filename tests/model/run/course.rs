//! What the engine's time must be, told from what was done to the clock (I5): it follows the wall clock,
//! waits for one that is a little behind, goes on by itself beside one that is far off, and follows one
//! that has stayed far ahead for a minute.

/// How far ahead a clock may be set and be believed at once.
const BELIEVED_MS: u64 = 3_600_000;
/// How long a clock that is further ahead must stay there.
const SETTLE_MS: u64 = 60_000;

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
}

impl Course {
    pub(crate) fn at(ms: u64) -> Self {
        Self { time: ms, wall_ms: ms, wall: Wall::Followed }
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
        self.wall = if wall_ms > self.time + BELIEVED_MS {
            Wall::Ahead(0)
        } else if wall_ms + BELIEVED_MS < self.time {
            Wall::Behind
        } else {
            Wall::Followed
        };
        self.follow();
    }

    fn follow(&mut self) {
        if self.wall == Wall::Followed {
            self.time = self.time.max(self.wall_ms);
        }
    }
}
