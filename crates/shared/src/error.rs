//! What goes wrong with a store.

use crate::record::Record;
use std::error::Error as StdError;

/// A fault of a store. Expected outcomes (duplicate, in progress) are answers, never errors.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub struct Error {
    kind: ErrorKind,
    /// What was asked.
    what: &'static str,
    source: Box<dyn StdError + Send + Sync>,
}

/// The result of a call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What to do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The store did not answer, or refused for now. Nobody knows whether the call did anything: repeat it with the same
    /// [`Call`](crate::Call).
    Unavailable,
    /// The call is wrong; repeating it unchanged cannot succeed.
    Invalid,
    /// The store has another layout than this program knows.
    Schema,
    /// What is stored cannot be read.
    Damaged,
    /// The store needs a person: permissions, a full disk, a server that evicts what it must keep.
    Environment,
}

impl Error {
    /// Creates an error.
    pub fn new(
        kind: ErrorKind,
        what: &'static str,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self { kind, what, source: source.into() }
    }

    /// Returns what to do about it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

/// Why an attempt cannot do what it asks.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MoveError {
    /// Somebody else has the record now, or it is gone: another attempt has begun, or an operator has redriven, settled or
    /// forgotten it. Nothing was written: stop the work.
    #[error("another attempt or an operator has taken the record over")]
    Fenced(Option<Box<Record>>),
    /// This attempt has already said how it went, and none has begun since. The record is as it is now.
    #[error("the attempt is over")]
    Over(Box<Record>),
    /// The lease has ended, and an ended lease is not renewed. If nobody has taken over, the attempt may still say how it
    /// went.
    #[error("the lease has ended")]
    LeaseEnded,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Error),
}
