//! What a look-up answers.

use crate::time::Timestamp;

/// A live claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Seen {
    /// When it was made.
    pub first_seen: Timestamp,
    /// When it ends: the id is a duplicate while the store's time is before this. [`Timestamp::NEVER`] for a claim
    /// without a ttl.
    pub deadline: Timestamp,
}
