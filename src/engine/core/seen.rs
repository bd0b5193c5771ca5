//! What a look-up answers.

use crate::time::Timestamp;

/// A live claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SeenVersion {
    pub(crate) first_seen: Timestamp,
    pub(crate) deadline: Timestamp,
}
