//! Records as the server sends them.

use crate::claims::timestamp;
use crate::error::damaged;
use firstseen_shared::{
    AttemptEnd, DeadCause, Ending, Error, Fingerprint, OnLeaseEnd, PastAttempt, Record, Result,
    State, Timestamp,
};
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

/// The columns of the type `told`.
pub(crate) const COLUMNS: &str = "answer, now, state, cause, attempts, until, first_begun, token, is_failure, \
     worker, fingerprint, result, past_tokens, past_ends, past_workers, past_reasons";

/// What a move has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Done,
    InProgress,
    RetryAt,
    Held,
    Completed,
    Dead,
    Mismatch,
    Fenced,
    Over,
    LeaseEnded,
}

/// An answer, and the record as the call has left it.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) answer: Answer,
    pub(crate) record: Option<Record>,
}

impl Told {
    pub(crate) fn read(what: &'static str, rows: &[Row]) -> Result<Self> {
        let [row] = rows else { return Err(damaged(what, "the server sent no row, or several")) };
        let row = Columns { what, row };
        let answer = match row.get::<i16>("answer")? {
            0 => Answer::Done,
            1 => Answer::InProgress,
            2 => Answer::RetryAt,
            3 => Answer::Held,
            4 => Answer::Completed,
            5 => Answer::Dead,
            6 => Answer::Mismatch,
            7 => Answer::Fenced,
            8 => Answer::Over,
            9 => Answer::LeaseEnded,
            code => return Err(row.unknown("answer", code)),
        };
        let record = match row.get::<Option<i16>>("state")? {
            Some(state) => Some(row.record(state)?),
            None => None,
        };
        Ok(Self { answer, record })
    }

    /// Returns the record, which comes with this answer.
    pub(crate) fn record(what: &'static str, record: Option<Record>) -> Result<Record> {
        record.ok_or_else(|| damaged(what, "the server sent no record with its answer"))
    }
}

/// A row, whose columns are read or are an error.
struct Columns<'a> {
    what: &'static str,
    row: &'a Row,
}

impl<'a> Columns<'a> {
    fn get<T: FromSql<'a>>(&self, column: &str) -> Result<T> {
        self.row.try_get(column).map_err(|error| {
            let why = std::error::Error::source(&error)
                .map_or_else(|| error.to_string(), |reason| format!("{error}: {reason}"));
            damaged(self.what, why)
        })
    }

    fn unknown(&self, column: &str, code: i16) -> Error {
        damaged(
            self.what,
            format!("the server sent {code} as {column}, which this program does not know"),
        )
    }

    fn time(&self, column: &str) -> Result<Timestamp> {
        self.get(column).map(timestamp)
    }

    fn token(&self, token: i64) -> Result<u64> {
        u64::try_from(token)
            .map_err(|_| damaged(self.what, format!("the token {token} is negative")))
    }

    fn text(&self, bytes: &[u8]) -> Result<String> {
        String::from_utf8(bytes.to_vec())
            .map_err(|_| damaged(self.what, "a stored text is not UTF-8"))
    }

    fn record(&self, state: i16) -> Result<Record> {
        let until = self.time("until")?;
        let state = match state {
            1 => State::Running { until },
            2 => State::Waiting { until },
            3 => State::Held,
            4 => State::Completed {
                result: self.get("result")?,
                is_failure: self.get("is_failure")?,
            },
            5 => State::Dead { cause: self.cause()? },
            code => return Err(self.unknown("state", code)),
        };
        let fingerprint = match self.get::<Option<&[u8]>>("fingerprint")? {
            Some(bytes) => Some(Fingerprint::from_bytes(bytes.try_into().map_err(|_| {
                damaged(self.what, format!("a fingerprint of {} bytes", bytes.len()))
            })?)),
            None => None,
        };
        let attempts = self.get::<i64>("attempts")?;
        Ok(Record {
            state,
            attempts: u32::try_from(attempts)
                .map_err(|_| damaged(self.what, format!("a record with {attempts} attempts")))?,
            token: self.token(self.get("token")?)?,
            worker: self.text(self.get("worker")?)?,
            fingerprint,
            first_begun: self.time("first_begun")?,
            history: self.history()?,
            read: self.time("now")?,
        })
    }

    fn cause(&self) -> Result<DeadCause> {
        Ok(match self.get::<i16>("cause")? {
            1 => DeadCause::Attempts,
            2 => DeadCause::Final,
            3 => DeadCause::LeaseEnded,
            4 => DeadCause::Cancelled,
            code => return Err(self.unknown("cause", code)),
        })
    }

    fn history(&self) -> Result<Vec<PastAttempt>> {
        let tokens: Vec<i64> = self.get("past_tokens")?;
        let ends: Vec<i16> = self.get("past_ends")?;
        let workers: Vec<&[u8]> = self.get("past_workers")?;
        let reasons: Vec<&[u8]> = self.get("past_reasons")?;
        if [ends.len(), workers.len(), reasons.len()].iter().any(|length| *length != tokens.len()) {
            return Err(damaged(self.what, "the parts of a history differ in length"));
        }
        let past = |n: usize| {
            Ok(PastAttempt {
                token: self.token(tokens[n])?,
                worker: self.text(workers[n])?,
                end: match ends[n] {
                    COMPLETED => AttemptEnd::Completed,
                    FAILED => AttemptEnd::Failed,
                    FINAL => AttemptEnd::Final,
                    HELD => AttemptEnd::Held,
                    LEASE_ENDED => AttemptEnd::LeaseEnded,
                    RELEASED => AttemptEnd::Released,
                    code => return Err(self.unknown("the end of an attempt", code)),
                },
                reason: self.text(reasons[n])?,
            })
        };
        (0..tokens.len()).map(past).collect()
    }
}

// How an attempt ended.
const COMPLETED: i16 = 1;
const FAILED: i16 = 2;
const FINAL: i16 = 3;
const HELD: i16 = 4;
const LEASE_ENDED: i16 = 5;
const RELEASED: i16 = 6;

/// Returns the code of an ending.
pub(crate) fn code_of(ending: &Ending<'_>) -> i32 {
    i32::from(match ending {
        Ending::Completed { .. } => COMPLETED,
        Ending::Failed { .. } => FAILED,
        Ending::Final { .. } => FINAL,
        Ending::Held { .. } => HELD,
        Ending::Released => RELEASED,
    })
}

/// Returns the code of what a policy says about ended leases; `None` for what this program does not know.
pub(crate) fn code_of_policy(on_lease_end: OnLeaseEnd) -> Option<i32> {
    match on_lease_end {
        OnLeaseEnd::Retry => Some(1),
        OnLeaseEnd::Hold => Some(2),
        OnLeaseEnd::Fail => Some(3),
        _ => None,
    }
}
