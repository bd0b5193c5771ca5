//! JetStream, with the real server: each test starts a `nats-server` on a free port of loopback, with a folder of its own,
//! and stops it by its process id. Without the program `nats-server` the tests fail.
//!
//! `FIRSTSEEN_NATS_KILLS` sets how often consumers and servers are killed (a few by default), `FIRSTSEEN_NATS_SEED` when.

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]
#![allow(clippy::disallowed_macros, reason = "a line of what was tried is printed")]

mod checks;
mod kills;
mod rules;
mod server;
