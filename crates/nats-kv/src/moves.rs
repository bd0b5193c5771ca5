//! What each move makes of the record of an id. Nothing here asks a server.

use firstseen_shared::{
    AttemptEnd, Begun, Call, DeadCause, Ending, MoveError, OnLeaseEnd, PastAttempt, Policy, Record,
    Start, State, Timestamp, Ttl,
};
use std::time::Duration;

/// The time that never comes.
pub(crate) const NEVER_MS: u64 = u64::MAX;
/// The time at which the message is stored that carries a row, and tokens that are its sequence. What is later is counted from
/// then.
pub(crate) const STORED_MS: u64 = 1 << 62;
/// The sequence of the message that carries the row.
pub(crate) const OWN_TOKEN: u64 = u64::MAX;
/// Longest time that is counted, in milliseconds; a longer one is cut to it.
const COUNTED_MS_MAX: u64 = 1 << 56;
/// Longest reason in bytes that is kept; a longer one is cut.
const REASON_BYTES_MAX: usize = 1_024;

/// The record of an id, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) record: Record,
    pub(crate) ends_ms: u64,
    /// The call that began the attempt which works on it.
    pub(crate) by: Option<[u8; 16]>,
}

pub(crate) fn end_of(now_ms: u64, ttl: Ttl) -> u64 {
    ttl.as_millis().map_or(NEVER_MS, |ms| now_ms + ms.min(COUNTED_MS_MAX))
}

fn after(now_ms: u64, time: Duration) -> Timestamp {
    let ms = u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
    Timestamp::from_millis(now_ms + ms.min(COUNTED_MS_MAX))
}

/// Returns the answer to a begin, and the row as it is to be; `None` if nothing changes.
pub(crate) fn begin(
    row: Option<Row>,
    now_ms: u64,
    start: &Start<'_>,
    policy: &Policy,
    call: Call,
) -> (Option<Begun>, Option<Row>) {
    let Some(mut row) = row else {
        return (None, Some(Row::started(None, now_ms, start, call)));
    };
    row.record.read = Timestamp::from_millis(now_ms);
    let is_over = row.is_lease_over(now_ms);
    let is_running = matches!(row.record.state, State::Running { .. });
    if row.by.as_ref() == Some(call.as_bytes()) && is_running && !is_over {
        let Record { token, attempts, .. } = row.record;
        return (Some(Begun::Started { token, attempt: attempts }), None);
    }
    if let (Some(stored), Some(given)) = (row.record.fingerprint, start.fingerprint)
        && stored != given
    {
        return (Some(Begun::Mismatch(row.record.without_result())), None);
    }
    if is_over {
        row.note(AttemptEnd::LeaseEnded, "");
        match policy.on_lease_end {
            OnLeaseEnd::Hold => row.record.state = State::Held,
            OnLeaseEnd::Fail => row.bury(DeadCause::LeaseEnded, now_ms, policy),
            _ => row.record.state = State::Waiting { until: Timestamp::from_millis(now_ms) },
        }
    }
    let record = || row.record.clone();
    let refused = match &row.record.state {
        State::Running { .. } => Some(Begun::InProgress(record())),
        State::Completed { .. } => Some(Begun::Completed(record())),
        State::Held => Some(Begun::Held(record())),
        State::Dead { .. } => Some(Begun::Dead(record())),
        State::Waiting { until } if until.as_millis() > now_ms => Some(Begun::RetryAt(record())),
        State::Waiting { .. } => None,
    };
    if refused.is_some() {
        return (refused, is_over.then_some(row));
    }
    if row.record.attempts >= policy.attempts_max {
        row.bury(DeadCause::Attempts, now_ms, policy);
        return (Some(Begun::Dead(row.record.clone())), Some(row));
    }
    (None, Some(Row::started(Some(row), now_ms, start, call)))
}

/// Returns the row as it is after a renewal.
pub(crate) fn renew(
    row: Option<Row>,
    now_ms: u64,
    token: u64,
    lease: Duration,
) -> Result<Row, MoveError> {
    let mut row = owned(row, now_ms, token)?;
    let is_running = matches!(row.record.state, State::Running { .. });
    if !is_running || row.is_lease_over(now_ms) {
        return Err(MoveError::LeaseEnded);
    }
    row.record.state = State::Running { until: after(now_ms, lease) };
    Ok(row)
}

/// Returns the row as it is after the end of an attempt.
pub(crate) fn end(
    row: Option<Row>,
    now_ms: u64,
    token: u64,
    ending: &Ending<'_>,
    policy: &Policy,
) -> Result<Row, MoveError> {
    let mut row = owned(row, now_ms, token)?;
    let may_end = matches!(row.record.state, State::Running { .. })
        || matches!(ending, Ending::Completed { .. });
    if !may_end {
        return Err(MoveError::Fenced(Some(row.record.into())));
    }
    row.end(now_ms, ending, policy);
    Ok(row)
}

/// Returns the row of an attempt that has not said how it went: it runs, or a `begin` has found its lease ended.
fn owned(row: Option<Row>, now_ms: u64, token: u64) -> Result<Row, MoveError> {
    let Some(mut row) = row else { return Err(MoveError::Fenced(None)) };
    row.record.read = Timestamp::from_millis(now_ms);
    if row.record.is_ended_by(token) {
        return Err(MoveError::Over(row.record.into()));
    }
    let is_found_ended = matches!(row.record.state, State::Held | State::Dead { .. });
    let is_running = matches!(row.record.state, State::Running { .. });
    if token == 0 || row.record.token != token || !(is_running || is_found_ended) {
        return Err(MoveError::Fenced(Some(row.record.into())));
    }
    Ok(row)
}

/// Returns the row as it is after a redrive; `None` if it is neither dead nor held.
pub(crate) fn redrive(row: Option<Row>, now_ms: u64) -> Option<Row> {
    let mut row = row.filter(Row::is_dead_letter)?;
    row.record.state = State::Waiting { until: Timestamp::from_millis(now_ms) };
    (row.record.attempts, row.record.token, row.ends_ms) = (0, 0, NEVER_MS);
    Some(row)
}

/// Returns the row as it is after it was settled; `None` if it is not held.
pub(crate) fn settle(row: Option<Row>, now_ms: u64, result: &[u8], ttl: Ttl) -> Option<Row> {
    let mut row = row.filter(|row| row.record.state == State::Held)?;
    row.record.state = State::Completed { result: Some(result.to_vec()), is_failure: false };
    row.ends_ms = end_of(now_ms, ttl);
    Some(row)
}

impl Row {
    fn started(row: Option<Self>, now_ms: u64, start: &Start<'_>, call: Call) -> Self {
        let now = Timestamp::from_millis(now_ms);
        let mut row = row.unwrap_or_else(|| {
            let record = Record {
                state: State::Waiting { until: now },
                attempts: 0,
                token: 0,
                worker: String::new(),
                fingerprint: None,
                first_begun: now,
                history: Vec::new(),
                read: now,
            };
            Self { record, ends_ms: NEVER_MS, by: None }
        });
        row.by = Some(*call.as_bytes());
        let record = &mut row.record;
        record.state = State::Running { until: after(now_ms, start.lease) };
        record.attempts += 1;
        record.token = OWN_TOKEN;
        start.worker.clone_into(&mut record.worker);
        record.fingerprint = record.fingerprint.or(start.fingerprint);
        row
    }

    fn is_lease_over(&self, now_ms: u64) -> bool {
        matches!(self.record.state, State::Running { until } if until.as_millis() <= now_ms)
    }

    pub(crate) fn is_dead_letter(&self) -> bool {
        matches!(self.record.state, State::Held | State::Dead { .. })
    }

    /// Notes how the attempt ended. What it says itself takes the place of what was found.
    fn note(&mut self, end: AttemptEnd, reason: &str) {
        let record = &mut self.record;
        record.history.pop_if(|past| past.token == record.token);
        let len =
            (0..=REASON_BYTES_MAX.min(reason.len())).rev().find(|at| reason.is_char_boundary(*at));
        let reason = reason[..len.unwrap_or(0)].to_owned();
        let past = PastAttempt { token: record.token, worker: record.worker.clone(), end, reason };
        record.history.push(past);
        if record.history.len() > Record::HISTORY_MAX {
            record.history.remove(0);
        }
        self.by = None;
    }

    fn bury(&mut self, cause: DeadCause, now_ms: u64, policy: &Policy) {
        self.record.state = State::Dead { cause };
        self.ends_ms = end_of(now_ms, policy.dead_ttl);
    }

    fn end(&mut self, now_ms: u64, ending: &Ending<'_>, policy: &Policy) {
        self.ends_ms = NEVER_MS;
        match *ending {
            Ending::Completed { result, is_failure, ttl } => {
                self.note(AttemptEnd::Completed, "");
                let result = Some(result.to_vec());
                self.record.state = State::Completed { result, is_failure };
                self.ends_ms = end_of(now_ms, ttl);
            }
            Ending::Failed { reason, .. } if self.record.attempts >= policy.attempts_max => {
                self.note(AttemptEnd::Failed, reason);
                self.bury(DeadCause::Attempts, now_ms, policy);
            }
            Ending::Failed { retry_after, reason } => {
                self.note(AttemptEnd::Failed, reason);
                self.record.state = State::Waiting { until: after(now_ms, retry_after) };
            }
            Ending::Final { reason } => {
                self.note(AttemptEnd::Final, reason);
                self.bury(DeadCause::Final, now_ms, policy);
            }
            Ending::Held { reason } => {
                self.note(AttemptEnd::Held, reason);
                self.record.state = State::Held;
            }
            Ending::Released => {
                self.note(AttemptEnd::Released, "");
                self.record.attempts = self.record.attempts.saturating_sub(1);
                self.record.state = State::Waiting { until: Timestamp::from_millis(now_ms) };
            }
        }
    }
}
