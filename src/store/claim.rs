//! Answers and options of a claim.

use crate::engine::{Answer, Durability, SeenVersion};
use crate::time::{Timestamp, Ttl};

/// The answer to a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[must_use = "whether the event is new is the point of asking"]
pub enum Claim {
    /// The id is seen for the first time, and the claim is this caller's.
    FirstSeen,
    /// The id was claimed before and its claim is live.
    Duplicate {
        /// When it was claimed.
        first_seen: Timestamp,
    },
}

impl Claim {
    /// Whether this is [`Claim::FirstSeen`].
    pub fn is_first_seen(self) -> bool {
        self == Self::FirstSeen
    }

    /// Whether this is [`Claim::Duplicate`].
    pub fn is_duplicate(self) -> bool {
        !self.is_first_seen()
    }
}

impl From<Answer> for Claim {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::FirstSeen => Self::FirstSeen,
            Answer::Duplicate { first_seen } => Self::Duplicate { first_seen },
        }
    }
}

/// A live claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Seen {
    /// When it was made.
    pub first_seen: Timestamp,
    /// When it ends: the id is a duplicate while the engine's time is before this. [`Timestamp::NEVER`]
    /// for a claim without ttl.
    pub deadline: Timestamp,
}

impl From<SeenVersion> for Seen {
    fn from(SeenVersion { first_seen, deadline }: SeenVersion) -> Self {
        Self { first_seen, deadline }
    }
}

/// Settings for one call; what is not set is as in namespace and store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClaimOptions {
    pub(super) ttl: Option<Ttl>,
    pub(super) durability: Option<Durability>,
}

impl ClaimOptions {
    /// Nothing set.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long the claim lives, if it is a first.
    #[must_use]
    pub fn ttl(self, ttl: impl Into<Ttl>) -> Self {
        Self { ttl: Some(ttl.into()), ..self }
    }

    /// What the answer promises when it is heard.
    #[must_use]
    pub fn durability(self, durability: Durability) -> Self {
        Self { durability: Some(durability), ..self }
    }
}
