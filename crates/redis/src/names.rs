//! Names that are given here, and that no other process gives.

use std::hash::{BuildHasher, RandomState};

/// Names that are given to consumers begin so. Only such are removed.
pub(crate) const CONSUMER_PREFIX: &str = "firstseen-consumer-";

/// The mark of a stream is a group whose name begins so.
pub(crate) const MARK_PREFIX: &str = "firstseen-stream-";

pub(crate) fn new_consumer() -> String {
    format!("{CONSUMER_PREFIX}{}-{:016x}", std::process::id(), random())
}

/// Returns what marks a stream that has no mark.
pub(crate) fn new_mark() -> String {
    format!("{:016x}", random())
}

/// A number that no other process has.
fn random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}
