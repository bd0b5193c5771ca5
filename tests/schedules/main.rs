//! Schedules: the whole engine under a schedule explorer. Each scenario starts two to five threads on a store
//! on a simulated disk, and the explorer decides at every lock, atomic and wait who goes on.
//!
//! A deadlock is a failure of its own (I12): waits in these scenarios are so long that the explorer never
//! ends them, unless a scenario is about that (src/sync/explored.rs).
//!
//! `FIRSTSEEN_SCHEDULES` sets how many schedules in all, `FIRSTSEEN_SCHEDULE_SEED` where to begin. A failure
//! writes its schedule to a file and prints the line that replays it.

#![allow(clippy::disallowed_macros, reason = "a table line of what was tried is printed")]

mod claims;
mod closing;
mod commit;
mod expiry;
mod explore;
mod flushing;
mod forgetting;
mod healing;
mod merging;
mod reservations;
mod scene;
