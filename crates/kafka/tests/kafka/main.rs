//! Kafka as a source, at a real server.

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]
#![allow(clippy::cast_sign_loss, reason = "counts of a test")]

mod checks;
mod kills;
mod pipelines;
mod queue;
mod rebalance;
mod rules;
mod transforms;
