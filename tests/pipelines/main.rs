//! The pipelines of `examples/`, killed: at each of their steps, and by SIGKILL at random moments. A program runs in a child
//! process: this test binary again, which runs the program if an environment variable is set.
//!
//! `FIRSTSEEN_PIPELINE_KILLS` sets how often each is killed at random, `FIRSTSEEN_CRASH_SEED` the seed. Each of these tests
//! prints a line `proof | row | count | unit | details`.

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]
#![allow(clippy::disallowed_macros, reason = "a line of what was tried is printed")]

mod close;
mod harness;
mod loyalty;
mod order_pipeline;
mod page_views;
mod two_phase;
mod two_phase_postgres;
