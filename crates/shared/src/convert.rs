//! Records and errors of the embedded store, in the words of the trait.

use crate::error::{Error, ErrorKind, MoveError};
use crate::record::{AttemptEnd, PastAttempt, Record, State};
use firstseen::ledger::{self, AttemptError, Ledger};
use firstseen::{ErrorKind as CoreKind, Timestamp};

/// Returns what the trait says for an error of the store.
pub(crate) fn error_of(what: &'static str) -> impl Fn(firstseen::Error) -> Error {
    move |error| {
        let kind = match error.kind() {
            CoreKind::Retry => ErrorKind::Unavailable,
            CoreKind::FixCall => ErrorKind::Invalid,
            CoreKind::Repair => ErrorKind::Damaged,
            _ => ErrorKind::Environment,
        };
        Error::new(kind, what, error)
    }
}

/// Returns what an attempt is told that was refused.
pub(crate) fn refused(
    what: &'static str,
    ledger: &Ledger,
    token: u64,
    error: AttemptError,
) -> MoveError {
    match error {
        AttemptError::Fenced { record: None } => MoveError::Fenced(None),
        AttemptError::Fenced { record: Some(record) } | AttemptError::Over { record } => {
            let record = Box::new(record_of(ledger, *record));
            if record.is_ended_by(token) {
                MoveError::Over(record)
            } else {
                MoveError::Fenced(Some(record))
            }
        }
        AttemptError::LeaseEnded => MoveError::LeaseEnded,
        AttemptError::Store(error) => error_of(what)(error).into(),
        error => Error::new(ErrorKind::Invalid, what, error).into(),
    }
}

/// Returns a record as the trait shows it.
pub(crate) fn record_of(ledger: &Ledger, record: ledger::Record) -> Record {
    let token = token_of(&record);
    let last = record.history.len().saturating_sub(1);
    let is_held = record.state == ledger::State::Held;
    let is_completed = matches!(record.state, ledger::State::Completed { .. });
    let history = record.history.into_iter().enumerate();
    let mut history: Vec<_> = history
        // Without a token it tells what an operator did.
        .filter(|(_, past)| past.token != 0)
        .map(|(n, past)| {
            let end = match past.end {
                ledger::AttemptEnd::Failed if is_held && n == last => AttemptEnd::Held,
                // A failure that is replayed is a result.
                ledger::AttemptEnd::Final if is_completed && n == last => AttemptEnd::Completed,
                ledger::AttemptEnd::Completed => AttemptEnd::Completed,
                ledger::AttemptEnd::Final => AttemptEnd::Final,
                ledger::AttemptEnd::Settled => AttemptEnd::Held,
                ledger::AttemptEnd::LeaseEnded | ledger::AttemptEnd::ProcessEnded => {
                    AttemptEnd::LeaseEnded
                }
                ledger::AttemptEnd::Released => AttemptEnd::Released,
                _ => AttemptEnd::Failed,
            };
            let is_said = !matches!(end, AttemptEnd::LeaseEnded | AttemptEnd::Released);
            let reason = if is_said { past.reason } else { String::new() };
            PastAttempt { token: past.token, worker: past.worker, end, reason }
        })
        .collect();
    history.drain(..history.len().saturating_sub(Record::HISTORY_MAX));
    Record {
        state: state_of(record.state),
        attempts: record.attempts,
        token,
        worker: record.worker,
        fingerprint: record.fingerprint,
        first_begun: record.first_begun,
        history,
        read: now(ledger),
    }
}

fn state_of(state: ledger::State) -> State {
    match state {
        ledger::State::Running { until } => State::Running { until },
        ledger::State::Waiting { until } => State::Waiting { until },
        ledger::State::Completed { result, is_failure } => State::Completed { result, is_failure },
        ledger::State::Dead { cause } => State::Dead { cause },
        // What a later release may add is for a person to look at.
        _ => State::Held,
    }
}

/// Returns the token of the last attempt. The store keeps it in the record only while the attempt may still end it.
fn token_of(record: &ledger::Record) -> u64 {
    let Some(last) = record.history.last().filter(|_| record.token == 0) else {
        return record.token;
    };
    let is_redriven = record.redrives > 0
        && record.attempts == 0
        && matches!(record.state, ledger::State::Waiting { .. })
        && last.end != ledger::AttemptEnd::Released;
    if is_redriven { 0 } else { last.token }
}

/// Returns the store's time: what is left until the end of all time tells it.
fn now(ledger: &Ledger) -> Timestamp {
    let left = ledger.time_until(Timestamp::NEVER).as_millis();
    Timestamp::from_millis(u64::MAX - u64::try_from(left).unwrap_or(u64::MAX))
}
