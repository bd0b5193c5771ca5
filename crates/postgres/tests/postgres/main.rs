//! With the real server: one that all tests share, each in a schema of its own, and servers of their own for tests that kill,
//! freeze or set up theirs. Without Postgres the tests fail.
//!
//! `FIRSTSEEN_KILLS` sets how often something is killed in each test of `kills` (six times by default),
//! `FIRSTSEEN_KILLS_SEED` when.

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]
#![allow(clippy::disallowed_macros, reason = "a line of what was tried is printed")]

mod answers;
mod claims;
mod conformance;
mod durability;
mod errors;
mod failover;
mod joined;
mod kills;
mod maintenance;
mod races;
mod schema;
mod support;
