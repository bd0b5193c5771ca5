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
    /// This attempt has already said how it went.
    #[error("the attempt is over: {}", of(Some(&**record)))]
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
/// Every error of the standard library's trait becomes one that is tried again, so `?` works in the work itself.
#[derive(Debug)]
pub struct Failure {
    pub(super) kind: FailureKind,
    pub(super) reason: String,
}

#[derive(Debug)]
pub(super) enum FailureKind {
    Retry(Option<Duration>),
    Final,
    Replay(Vec<u8>),
    /// The attempt itself cannot go on.
    Attempt(AttemptError),
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

    /// Never tried again: this result is replayed to everybody who asks, marked as a failure. For a refusal that is an
    /// answer, like "no such account".
    pub fn replayed(reason: impl fmt::Display, result: impl Into<Vec<u8>>) -> Self {
        Self { kind: FailureKind::Replay(result.into()), reason: reason.to_string() }
    }

    /// Returns what the work said.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl<E: std::error::Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        let reason = error.to_string();
        let error: Box<dyn std::any::Any> = Box::new(error);
        match error.downcast::<AttemptError>() {
            Ok(error) => Self { kind: FailureKind::Attempt(*error), reason },
            Err(_) => Self { kind: FailureKind::Retry(None), reason },
        }
    }
}
