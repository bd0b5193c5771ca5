//! The loop, on the broker in memory: what each delivery comes to, whatever goes wrong.

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod checks;
mod crashes;
mod deaths;
mod durable;
mod life;
mod limits;
mod reserving;
mod shared;
mod support;
