//! What an attempt hears when it may not do what it asks, and what the work says when it fails.

use crate::error::Error;
use crate::ledger::record::Record;
use std::fmt;
use std::time::Duration;

/// Why an attempt cannot do what it asks.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttemptError {
    /// Somebody else has the record now: its lease ended and another attempt took over, or an operator cancelled,
    /// redrove or purged it. Nothing was written. Stop the work, and do not acknowledge the message for it.
    #[error("another attempt or an operator has taken the record over: {}", of(record.as_deref()))]
    Fenced {
        /// The record as it is now; `None` if it is gone.
        record: Option<Box<Record>>,
    },
    /// This attempt has already said how it went. If that was in a transaction that is prepared, its record is in progress
    /// until that is committed.
    #[error("the attempt is over: it has said how it went, and the record is {} now", record.state)]
    Over {
        /// The record as it is now.
        record: Box<Record>,
    },
    /// The lease has ended, and an ended lease is not renewed. If nobody has taken over, the attempt may still say how
    /// it went.
    #[error("the lease has ended")]
    LeaseEnded,
    /// A result or a saved stage is too long. Nothing was written: store it elsewhere, and a reference to it here.
    #[error("{what} of {bytes} bytes: it has at most {bytes_max}")]
    TooLarge {
        /// What is too long.
        what: &'static str,
        /// Its length.
        bytes: usize,
        /// The longest that is stored.
        bytes_max: usize,
    },
    /// The stages are not those that an earlier attempt saved. Nothing was written or run.
    #[error(
        "stage {number} is {stored:?} in the record and {asked:?} in this program: the list of stages has changed since; begin with a fresh redrive, or with the program that saved them"
    )]
    StageOrder {
        /// The number of the stage, from zero.
        number: u32,
        /// The name that was saved.
        stored: String,
        /// The name that this program asks for.
        asked: String,
    },
    /// Two stages of one attempt have the same name.
    #[error("two stages are called {name:?}: each needs a name of its own")]
    StageTwice {
        /// The name.
        name: String,
    },
    /// A transaction is to save a stage that is saved already, with what belongs to it. Ask
    /// [`saved_stage`](crate::ledger::Attempt::saved_stage) before its work.
    #[error("stage {name:?} is saved already: ask `saved_stage` before its work")]
    StageSaved {
        /// The name of the stage.
        name: String,
    },
    /// Another stage of the attempt is under way. Stages are done one after the other: their order tells them apart.
    #[error(
        "stage {name:?} begins while another is under way: stages are done one after the other"
    )]
    StageOpen {
        /// The name of the stage that was refused.
        name: String,
    },
    /// A value cannot be turned into bytes, or stored bytes are not such a value.
    #[error("{what}: {why}")]
    Value {
        /// Which value.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Error),
}

impl AttemptError {
    /// Returns an error that says the same.
    fn twin(&self) -> Self {
        match self {
            Self::Fenced { record } => Self::Fenced { record: record.clone() },
            Self::Over { record } => Self::Over { record: record.clone() },
            Self::LeaseEnded => Self::LeaseEnded,
            Self::TooLarge { what, bytes, bytes_max } => {
                Self::TooLarge { what, bytes: *bytes, bytes_max: *bytes_max }
            }
            Self::StageOrder { number, stored, asked } => {
                Self::StageOrder { number: *number, stored: stored.clone(), asked: asked.clone() }
            }
            Self::StageTwice { name } => Self::StageTwice { name: name.clone() },
            Self::StageSaved { name } => Self::StageSaved { name: name.clone() },
            Self::StageOpen { name } => Self::StageOpen { name: name.clone() },
            Self::Value { what, why } => Self::Value { what, why: why.clone() },
            Self::Store(error) => Self::Store(error.twin()),
        }
    }

    /// Returns whether the attempt cannot say how it went, so that it is no failure of the work.
    pub(super) fn ends_attempt(&self) -> bool {
        matches!(self, Self::Fenced { .. } | Self::Over { .. } | Self::LeaseEnded | Self::Store(_))
    }
}

fn of(record: Option<&Record>) -> String {
    match record {
        None => "it is gone".to_owned(),
        Some(record) => format!("it is {}", record.state),
    }
}

/// How work has failed, and what is to follow.
///
/// Every error of the standard library's trait becomes one, so `?` works in the work itself. Such an error does not say
/// whether the effect happened: it is tried again, but held for an operator where the policy is
/// [`OnLeaseEnd::Hold`](crate::ledger::OnLeaseEnd::Hold). If the effect surely did not happen, say
/// [`retry`](Self::retry).
#[derive(Debug)]
pub struct Failure {
    pub(super) kind: FailureKind,
    pub(super) reason: String,
}

pub(super) enum FailureKind {
    Retry(Option<Duration>),
    /// Nothing was said: the policy for the end of a lease decides.
    Unsaid,
    Final,
    Hold,
    Replay(Vec<u8>),
    /// The attempt itself cannot go on.
    Attempt(AttemptError),
}

impl fmt::Debug for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retry(after) => f.debug_tuple("Retry").field(after).finish(),
            Self::Unsaid => f.write_str("Unsaid"),
            Self::Final => f.write_str("Final"),
            Self::Hold => f.write_str("Hold"),
            Self::Replay(result) => {
                f.debug_struct("Replay").field("result_bytes", &result.len()).finish()
            }
            Self::Attempt(error) => f.debug_tuple("Attempt").field(error).finish(),
        }
    }
}

impl Failure {
    /// Tried again, after the delay of the ledger's backoff.
    pub fn retry(reason: impl fmt::Display) -> Self {
        Self { kind: FailureKind::Retry(None), reason: reason.to_string() }
    }

    /// Tried again after this delay.
    pub fn retry_after(reason: impl fmt::Display, delay: Duration) -> Self {
        Self { kind: FailureKind::Retry(Some(delay)), reason: reason.to_string() }
    }

    /// Never tried again: a dead letter.
    pub fn last(reason: impl fmt::Display) -> Self {
        Self { kind: FailureKind::Final, reason: reason.to_string() }
    }

    /// Held for an operator, whatever the policy: nobody knows whether the effect happened.
    pub fn hold(reason: impl fmt::Display) -> Self {
        Self { kind: FailureKind::Hold, reason: reason.to_string() }
    }

    /// Never tried again: this result is replayed to everybody who asks, marked as a failure. For a refusal that is an
    /// answer, like "no such account".
    pub fn replayed(reason: impl fmt::Display, result: impl Into<Vec<u8>>) -> Self {
        Self { kind: FailureKind::Replay(result.into()), reason: reason.to_string() }
    }

    /// Returns what the work said.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Returns whether the work is never tried again by itself: [`last`](Self::last), [`hold`](Self::hold) and
    /// [`replayed`](Self::replayed).
    pub fn is_final(&self) -> bool {
        matches!(self.kind, FailureKind::Final | FailureKind::Hold | FailureKind::Replay(_))
    }

    /// Returns whether an operator is asked, whatever the policy: [`hold`](Self::hold).
    pub fn is_held(&self) -> bool {
        matches!(self.kind, FailureKind::Hold)
    }

    /// Returns whether nothing was said of what is to follow, as by an error that came with `?`: the policy for the end of
    /// a lease decides.
    pub fn is_unsaid(&self) -> bool {
        matches!(self.kind, FailureKind::Unsaid | FailureKind::Attempt(_))
    }

    /// Returns the result of [`replayed`](Self::replayed); `None` if it is another failure.
    pub fn result(&self) -> Option<&[u8]> {
        match &self.kind {
            FailureKind::Replay(result) => Some(result),
            _ => None,
        }
    }

    /// Returns the delay of [`retry_after`](Self::retry_after); `None` if none was given.
    pub fn delay(&self) -> Option<Duration> {
        match self.kind {
            FailureKind::Retry(delay) => delay,
            _ => None,
        }
    }

    /// Returns an error of the standard library's trait, for code between a stage and the ledger that has error types of
    /// its own. As the source of any of those it becomes this failure again.
    pub fn into_error(self) -> FailureError {
        FailureError(self)
    }

    fn twin(&self) -> Self {
        let kind = match &self.kind {
            FailureKind::Retry(after) => FailureKind::Retry(*after),
            FailureKind::Unsaid => FailureKind::Unsaid,
            FailureKind::Final => FailureKind::Final,
            FailureKind::Hold => FailureKind::Hold,
            FailureKind::Replay(result) => FailureKind::Replay(result.clone()),
            FailureKind::Attempt(error) => FailureKind::Attempt(error.twin()),
        };
        Self { kind, reason: self.reason.clone() }
    }
}

/// A [`Failure`] as an error; see [`Failure::into_error`].
#[derive(Debug)]
pub struct FailureError(Failure);

impl fmt::Display for FailureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.reason)
    }
}

impl std::error::Error for FailureError {}

impl<E: std::error::Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        let reason = error.to_string();
        // It may be wrapped in the errors of others.
        let first: &(dyn std::error::Error + 'static) = &error;
        for source in std::iter::successors(Some(first), |error| error.source()) {
            if let Some(error) = source.downcast_ref::<AttemptError>() {
                return Self { kind: FailureKind::Attempt(error.twin()), reason };
            }
            if let Some(FailureError(failure)) = source.downcast_ref() {
                return Self { reason, ..failure.twin() };
            }
        }
        Self { kind: FailureKind::Unsaid, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_tells_what_follows() {
        let delay = Duration::from_secs(1);
        for (failure, is_final, after) in [
            (Failure::retry("no"), false, None),
            (Failure::retry_after("no", delay), false, Some(delay)),
            (Failure::from(fmt::Error), false, None),
            (Failure::last("no"), true, None),
            (Failure::hold("no"), true, None),
            (Failure::replayed("no", "404"), true, None),
        ] {
            assert_eq!((failure.is_final(), failure.delay()), (is_final, after), "{failure:?}");
        }
    }

    #[test]
    fn a_failure_tells_whom_it_is_left_to() {
        for (failure, is_held, is_unsaid, result) in [
            (Failure::retry("no"), false, false, None),
            (Failure::from(fmt::Error), false, true, None),
            (Failure::from(AttemptError::LeaseEnded), false, true, None),
            (Failure::last("no"), false, false, None),
            (Failure::hold("no"), true, false, None),
            (Failure::replayed("no", "404"), false, false, Some(&b"404"[..])),
        ] {
            let told = (failure.is_held(), failure.is_unsaid(), failure.result());
            assert_eq!(told, (is_held, is_unsaid, result), "{failure:?}");
        }
    }
}
