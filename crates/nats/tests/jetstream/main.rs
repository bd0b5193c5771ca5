//! JetStream, with the real server: each test starts a `nats-server` on a free port of loopback, with a folder of its own,
//! and stops it by its process id. Without the program `nats-server` the tests fail.
//!
//! `FIRSTSEEN_KILLS` sets how often consumers and servers are killed (a few times by default), `FIRSTSEEN_KILLS_SEED` when.

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod checks;
mod kills;
mod queue;
mod remade;
mod rules;
