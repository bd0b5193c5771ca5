//! RabbitMQ, with the real server: each test starts one on a free port of loopback, with a folder of its own, and stops it by
//! its process id. Without it the tests fail, and say how to install it.
//!
//! `FIRSTSEEN_KILLS` sets how often consumers and servers are killed (a few times by default), `FIRSTSEEN_KILLS_SEED` when.

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod checks;
mod kills;
mod lost;
mod queue;
mod rules;
mod running;
mod unsuitable;
