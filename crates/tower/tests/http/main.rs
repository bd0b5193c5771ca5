//! The layer on an axum server, asked by an HTTP client over loopback.
//!
//! `FIRSTSEEN_KILLS` sets how often the server is killed (a few times by default), `FIRSTSEEN_KILLS_SEED` when.

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]
#![allow(clippy::disallowed_macros, reason = "a line of what was tried is printed")]

mod bodies;
mod call;
mod fates;
mod faulty;
mod gone;
mod keys;
mod kills;
mod load;
mod principals;
mod replay;
mod running;
mod shared;
mod site;
mod store;
