//! NATS JetStream as a source of [`firstseen_consumer`].

mod options;
mod source;

pub use options::{NatsIds, NatsKeys, NatsOptions, Read};
pub use source::{NatsError, NatsSource, NatsToken};
