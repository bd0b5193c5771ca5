//! The programs of `examples/`, killed by SIGKILL at random moments, the pipelines also at each of their steps. A program runs
//! in a child process: this test binary again, which runs the program if an environment variable is set.
//!
//! `FIRSTSEEN_PIPELINE_KILLS` sets how often each is killed at random, `FIRSTSEEN_CRASH_SEED` the seed. Each of these tests
//! prints a line `proof | row | count | unit | details`.

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]
#![allow(clippy::disallowed_macros, reason = "a line of what was tried is printed")]

mod claim;
mod close;
mod email_once;
mod harness;
mod idempotency_key;
mod loyalty;
mod order_pipeline;
mod page_views;
mod payment_stages;
mod poison_message;
mod queue;
mod reserve;
mod tokio_consumer;
mod two_phase;
mod two_phase_postgres;
