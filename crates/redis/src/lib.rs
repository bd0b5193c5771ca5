//! Redis.

mod counters;
mod dead;
mod delays;
mod entry;
mod error;
mod group;
mod intake;
mod keeper;
mod link;
mod options;
mod reply;
mod scripts;
mod source;

pub use counters::{RedisCounters, RedisWatch};
pub use entry::{EntryId, NoEntryId, RedisEntry, read_fields};
pub use error::RedisError;
pub use options::{Read, RedisIds, RedisKeys, RedisOptions, RedisPayload, RedisStart};
pub use source::{RedisSource, RedisToken};
