//! Kafka as a source, at a real server.

mod checks;
mod kills;
mod pipelines;
mod queue;
mod rebalance;
mod rules;
mod transforms;
