//! How an attempt ends: what it asks for, as a value, so that it can be made alone or in a transaction.

use crate::ledger::changes::{self, Change, Now, Outcome};
use crate::ledger::error::{AttemptError, Failure, FailureKind};
use crate::ledger::moves::Move;
use crate::ledger::options::{LedgerOptions, OnLeaseEnd};
use crate::ledger::record::{AttemptEnd, Record, State};
use crate::ledger::value::check_size;
use crate::time::Ttl;
use std::time::Duration;

/// What an attempt says at its end.
#[derive(Debug, Clone)]
pub(super) enum Ending {
    Complete {
        bytes: Vec<u8>,
        is_encoded: bool,
        ttl: Ttl,
        /// Why it is a failure, if it is one that is replayed like a result.
        failure: Option<String>,
    },
    Retry {
        reason: String,
        after: Option<Duration>,
    },
    Bury {
        reason: String,
    },
    Hold {
        reason: String,
    },
    Release,
    /// It was dropped, and the policy decides.
    Drop {
        reason: &'static str,
    },
}

impl Ending {
    /// Returns how an attempt ends that failed like this.
    ///
    /// # Errors
    ///
    /// The error of the attempt itself, if that is what the work failed of: it cannot say how it ends then.
    pub(super) fn of(
        failure: Failure,
        policies: &LedgerOptions,
        result_ttl: Ttl,
    ) -> Result<Self, AttemptError> {
        let Failure { kind, reason } = failure;
        Ok(match kind {
            FailureKind::Retry(after) => Self::Retry { reason, after },
            FailureKind::Final => Self::Bury { reason },
            FailureKind::Hold => Self::Hold { reason },
            FailureKind::Replay(bytes) => {
                let (ttl, failure) = (result_ttl, Some(reason));
                Self::Complete { bytes, is_encoded: false, ttl, failure }
            }
            FailureKind::Attempt(error) if error.ends_attempt() => return Err(error),
            // An error that came with `?`, or a call that cannot be: it says nothing of the effect.
            FailureKind::Unsaid | FailureKind::Attempt(_) => match policies.on_lease_end {
                OnLeaseEnd::Hold => Self::Hold { reason },
                _ => Self::Retry { reason, after: None },
            },
        })
    }

    /// Returns what the ids of messages follow from that are emitted with it: what becomes of the record, and a number that
    /// tells this from the same at another time.
    pub(super) fn event(&self, record: &Record, token: u64) -> (&'static str, u32) {
        match self {
            // Happens once, whichever attempt says it, until the record is redriven.
            Self::Complete { .. } => ("completed", record.redrives),
            Self::Retry { .. } => ("failed", record.ended_before(token)),
            Self::Bury { .. } => ("buried", record.ended_before(token)),
            Self::Hold { .. } => ("held", record.ended_before(token)),
            Self::Release => ("released", record.ended_before(token)),
            Self::Drop { .. } => ("dropped", record.ended_before(token)),
        }
    }

    /// Checks what does not depend on the record.
    pub(super) fn check(&self, policies: &LedgerOptions) -> Result<(), AttemptError> {
        if let Self::Complete { bytes, ttl, .. } = self {
            ttl.check()?;
            check_size("a result", bytes.len(), policies.result_bytes_max)?;
        }
        Ok(())
    }

    /// Returns the move for a record; `None` if there is none to make.
    pub(super) fn step(&self, record: &Record, policies: &LedgerOptions) -> Option<Move> {
        Some(match self {
            Self::Complete { .. } => Move::Complete,
            Self::Bury { .. } => Move::Bury,
            Self::Hold { .. } => Move::Hold,
            Self::Release => Move::Release,
            // Silence does not lift a hold.
            Self::Drop { .. } if record.state == State::Held => return None,
            Self::Drop { .. } if policies.on_lease_end == OnLeaseEnd::Hold => Move::Hold,
            Self::Retry { .. } | Self::Drop { .. } => changes::retry_or_give_up(record, policies),
        })
    }

    /// Returns what the record becomes.
    pub(super) fn change(&self, record: Record, now: Now, policies: &LedgerOptions) -> Change {
        match self {
            Self::Complete { bytes, is_encoded, ttl, failure } => {
                let outcome = Outcome { bytes, is_encoded: *is_encoded, ttl: *ttl };
                changes::complete(record, now, outcome, failure.as_deref())
            }
            Self::Retry { reason, after } => {
                changes::retry(record, now, policies, AttemptEnd::Failed, reason, *after)
            }
            Self::Bury { reason } => changes::bury(record, now, policies, reason),
            Self::Hold { reason } => changes::hold(record, now, AttemptEnd::Failed, reason),
            Self::Release => changes::release(record, now, "released"),
            Self::Drop { reason } if policies.on_lease_end == OnLeaseEnd::Hold => {
                changes::hold(record, now, AttemptEnd::Dropped, reason)
            }
            Self::Drop { reason } => {
                changes::retry(record, now, policies, AttemptEnd::Dropped, reason, None)
            }
        }
    }
}
