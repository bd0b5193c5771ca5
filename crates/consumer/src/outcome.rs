//! What becomes of a delivery, and why a loop ends.

use std::time::Duration;

/// What becomes of a delivery: what its broker is told.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Done now. Acknowledged.
    First,
    /// Done before. Acknowledged, or it would stay in the queue for ever.
    Duplicate,
    /// Never done again. A dead letter.
    Dead(String),
    /// Comes again.
    Later(Duration, Why),
}

/// Why a delivery comes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// Its work failed.
    Failed,
    /// Somebody works on the id.
    Busy,
    /// It came too early: its retry is not due, an operator has it, or the store is busy.
    Early,
    /// Its work went on after somebody else had taken the id over.
    Fenced,
    /// The loop stops.
    Stopping,
}

/// Why a loop ends before it is stopped. What was in flight then comes again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store cannot go on: nothing that it has not kept is acknowledged. Its kind says what to do.
    #[error("the store failed, so the loop has stopped: {0}")]
    Store(#[from] firstseen::Error),
    /// The shared store cannot go on: nothing that it has not kept is acknowledged. One that only does not answer ends no
    /// loop.
    #[cfg(feature = "shared")]
    #[error("the shared store failed, so the loop has stopped: {0}")]
    Shared(#[from] firstseen_shared::Error),
    /// A call of the ledger that cannot fail has failed.
    #[error("the ledger refused what it should not, so the loop has stopped: {0}")]
    Attempt(firstseen::ledger::AttemptError),
    /// The adapter has panicked; its message is in the text.
    #[error("the source panicked, so the loop has stopped: {0}")]
    Panicked(String),
}

/// Why the loop has ended a handler. None of these says whether the effect happened, so the policy of the ledger decides.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Cut {
    #[error("the handler panicked: {0}")]
    Panicked(String),
    #[error("the handler took longer than {0:?}")]
    TooLong(Duration),
    #[error("the loop was stopped, and the handler took longer than the grace")]
    Stopped,
}

/// Returns what a panic said.
pub(crate) fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no text".to_owned())
}
