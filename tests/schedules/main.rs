//! Schedules: the whole engine under a schedule explorer. Each scenario starts two to five threads on a store on a
//! simulated disk, and at every lock, atomic and wait the explorer decides which thread runs next.
//!
//! A deadlock fails the scenario (I12): waits are so long that the explorer never times them out, except in scenarios
//! about deadlines (src/sync/explored.rs).
//!
//! `FIRSTSEEN_SCHEDULES` sets the total number of schedules, `FIRSTSEEN_SCHEDULE_SEED` the seed. A failure writes its
//! schedule to a file and prints the command that replays it.

#![allow(clippy::disallowed_macros, reason = "a table line of what was tried is printed")]

mod claims;
mod closing;
mod commit;
mod event_time;
mod expiry;
mod explore;
mod flushing;
mod forgetting;
mod futures;
mod healing;
mod merging;
mod outbox;
mod promoting;
mod reservations;
mod rows;
mod scene;
