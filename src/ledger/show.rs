//! How states are written for people.

use crate::ledger::record::{AttemptEnd, DeadCause, State};
use std::fmt;

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running { .. } => f.write_str("in progress"),
            Self::Waiting { .. } => f.write_str("waiting for its next attempt"),
            Self::Held => f.write_str("held for an operator"),
            Self::Completed { is_failure: false, .. } => f.write_str("completed"),
            Self::Completed { is_failure: true, .. } => f.write_str("completed with a failure"),
            Self::Dead { cause } => write!(f, "dead: {cause}"),
        }
    }
}

impl fmt::Display for DeadCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Attempts => "all attempts used up",
            Self::Final => "failed for good",
            Self::LeaseEnded => "its lease ended",
            Self::Cancelled => "cancelled",
        })
    }
}

impl fmt::Display for AttemptEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Final => "failed for good",
            Self::LeaseEnded => "lease ended",
            Self::ProcessEnded => "process ended",
            Self::Dropped => "dropped",
            Self::Released => "released",
            Self::Settled => "settled",
            Self::Cancelled => "cancelled",
        })
    }
}
