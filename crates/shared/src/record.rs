//! The record of an id.

use firstseen::Timestamp;
use firstseen::ledger::{DeadCause, Fingerprint};
use std::time::Duration;

/// What a ledger knows of an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What has become of it.
    pub state: State,
    /// Attempts started and not handed back, since the first or since the last redrive.
    pub attempts: u32,
    /// The token of the last attempt, also when that has ended; zero if there was none since a redrive.
    pub token: u64,
    /// The worker that the last attempt named.
    pub worker: String,
    /// The fingerprint of the input, if one was given.
    pub fingerprint: Option<Fingerprint>,
    /// When it was begun for the first time.
    pub first_begun: Timestamp,
    /// The attempts that have ended, the oldest first; the last [`HISTORY_MAX`](Self::HISTORY_MAX). Only attempts add to it:
    /// what an operator does is in the state.
    pub history: Vec<PastAttempt>,
    /// What the store's clock said when this was read, so that the times above can be told as durations.
    pub read: Timestamp,
}

/// What has become of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// An attempt works on it.
    Running {
        /// When its lease ends, unless it is renewed.
        until: Timestamp,
    },
    /// Waits for its next attempt.
    Waiting {
        /// When that may start.
        until: Timestamp,
    },
    /// An operator is to find out whether the effect happened.
    Held,
    /// Done.
    Completed {
        /// The stored result; `None` where it is not shown, because the fingerprint does not match.
        result: Option<Vec<u8>>,
        /// Whether the result is a failure that is replayed like a success.
        is_failure: bool,
    },
    /// Given up.
    Dead {
        /// Why.
        cause: DeadCause,
    },
}

/// An attempt that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastAttempt {
    /// Its fencing token.
    pub token: u64,
    /// The worker that it named.
    pub worker: String,
    /// How it ended.
    pub end: AttemptEnd,
    /// What it said of that; empty if nothing.
    pub reason: String,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AttemptEnd {
    /// With a result.
    Completed,
    /// It failed, and may be tried again.
    Failed,
    /// It failed for good.
    Final,
    /// It asked for an operator.
    Held,
    /// Its lease ended before it said anything.
    LeaseEnded,
    /// It was handed back before the work began.
    Released,
}

impl Record {
    /// How many attempts a record remembers.
    pub const HISTORY_MAX: usize = 8;

    /// Returns how long after it was read the record changes by itself: its lease ends, or its retry is due. Zero if that
    /// time has come, or nothing is waited for.
    pub fn time_left(&self) -> Duration {
        let (State::Running { until } | State::Waiting { until }) = self.state else {
            return Duration::ZERO;
        };
        Duration::from_millis(until.as_millis().saturating_sub(self.read.as_millis()))
    }

    /// Returns the record as somebody may see it whose input is another: without the result, its mark of a failure, and what the
    /// attempts said.
    #[must_use]
    pub fn without_result(mut self) -> Self {
        if let State::Completed { result, is_failure } = &mut self.state {
            (*result, *is_failure) = (None, false);
        }
        self.history.iter_mut().for_each(|past| past.reason.clear());
        self
    }

    /// Returns whether this is how the attempt of this token has left the record: it has said how it went, none has begun
    /// since, and no operator has changed it. Such an attempt is [`Over`](crate::MoveError::Over).
    pub fn is_ended_by(&self, token: u64) -> bool {
        let is_last = token != 0 && self.token == token;
        let Some(last) = self.history.last().filter(|past| is_last && past.token == token) else {
            return false;
        };
        match self.state {
            State::Running { .. } => false,
            State::Waiting { .. } => matches!(last.end, AttemptEnd::Failed | AttemptEnd::Released),
            State::Held => last.end == AttemptEnd::Held,
            State::Completed { .. } => last.end == AttemptEnd::Completed,
            State::Dead { .. } => last.end != AttemptEnd::LeaseEnded,
        }
    }

    /// Returns the stored result.
    pub fn result(&self) -> Option<&[u8]> {
        match &self.state {
            State::Completed { result, .. } => result.as_deref(),
            _ => None,
        }
    }
}
