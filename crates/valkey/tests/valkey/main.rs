//! Valkey and Redis, with the real servers.

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]
#![allow(clippy::disallowed_macros, reason = "a line of what was tried is printed")]

mod answers;
mod conformance;
mod kills;
mod rules;
mod servers;
mod support;
