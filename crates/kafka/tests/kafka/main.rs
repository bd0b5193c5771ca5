//! Kafka as a source, at a real server.

mod checks;
mod queue;
