//! Decisions: pure functions of a record, the time and the policies. They know neither rows nor locks.

use crate::ledger::moves::{self, Move, Phase};
use crate::ledger::options::{BeginOptions, LedgerOptions, OnLeaseEnd};
use crate::ledger::record::{AttemptEnd, DeadCause, Record, State};
use crate::time::{Moment, Timestamp, Ttl};
use std::time::Duration;

/// What a decision is made from, besides the record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    pub(super) at: Moment,
    /// Tokens below this one were given by processes that are gone.
    pub(super) first_token: u64,
}

impl Now {
    pub(super) fn phase(&self, record: Option<&Record>) -> Phase {
        record.map_or(Phase::Absent, |record| record.phase(self.at.now, self.first_token))
    }
}

/// What a record becomes.
#[derive(Debug, Clone)]
pub(super) struct Change {
    /// `None`: it is removed.
    pub(super) record: Option<Record>,
    pub(super) ttl: Ttl,
    /// Whether an attempt starts, whose token is the sequence of this write.
    pub(super) starts: bool,
    /// Stored beside the record.
    pub(super) payload: Option<Vec<u8>>,
    pub(super) keeps: Keeps,
    /// Nobody who waits for the record has to hear of it: the attempt goes on.
    pub(super) is_quiet: bool,
}

/// What stays of the rows beside a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keeps {
    /// Payload and stages.
    All,
    /// The stages are to be done afresh.
    Payload,
    /// Neither is needed any more.
    Nothing,
}

impl Change {
    fn to(record: Record) -> Self {
        let (ttl, payload) = (Ttl::FOREVER, None);
        let record = Some(record);
        let (starts, keeps, is_quiet) = (false, Keeps::All, false);
        Self { record, ttl, starts, payload, keeps, is_quiet }
    }
}

/// What `begin` has decided.
#[derive(Debug)]
pub(super) enum Begun {
    /// Start an attempt.
    Start(Change),
    /// Write this, and tell the caller of the record that results.
    Settle(Change),
    /// Tell the caller of the record as it is.
    Refuse(Refusal),
}

/// Why no attempt starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    InProgress,
    Completed,
    RetryAt,
    Held,
    Dead,
    Mismatch,
    Outdated,
}

impl Refusal {
    /// Returns why a record in this phase is not started.
    pub(super) fn of(phase: Phase) -> Option<Self> {
        match phase {
            Phase::Absent | Phase::LeaseOver => None,
            Phase::Running => Some(Self::InProgress),
            Phase::Waiting => Some(Self::RetryAt),
            Phase::Held => Some(Self::Held),
            Phase::Completed => Some(Self::Completed),
            Phase::Dead => Some(Self::Dead),
        }
    }
}

/// Decides whether an attempt starts.
pub(super) fn begin(
    id: &[u8],
    found: Option<&Record>,
    now: Now,
    policies: &LedgerOptions,
    options: &BeginOptions,
) -> Begun {
    let phase = now.phase(found);
    let mut record = found.cloned().unwrap_or_else(|| Record::new(id, now.at.now));
    if let (Some(stored), Some(given)) = (record.fingerprint, options.fingerprint)
        && stored != given
    {
        // Whatever its state: somebody has used the id for something else.
        return Begun::Refuse(Refusal::Mismatch);
    }
    if moves::after(phase, Move::Begin).is_none() {
        return Begun::Refuse(Refusal::of(phase).unwrap_or(Refusal::InProgress));
    }
    if matches!(record.state, State::Waiting { until } if until > now.at.now) {
        return Begun::Refuse(Refusal::RetryAt);
    }
    if options.version < record.version {
        return Begun::Refuse(Refusal::Outdated);
    }
    if phase == Phase::LeaseOver {
        let is_orphan = !record.outlives_process && record.token < now.first_token;
        let (end, reason) = if is_orphan {
            (AttemptEnd::ProcessEnded, "its process ended before it said how it went")
        } else {
            (AttemptEnd::LeaseEnded, "its lease ended before it said how it went")
        };
        record.end_attempt(end, reason, now.at.now);
        match policies.on_lease_end {
            OnLeaseEnd::Retry => {}
            OnLeaseEnd::Hold => {
                return Begun::Settle(Change::to(Record { state: State::Held, ..record }));
            }
            OnLeaseEnd::Fail => {
                return Begun::Settle(dead(record, DeadCause::LeaseEnded, policies));
            }
        }
    }
    if record.attempts >= policies.attempts_max {
        return Begun::Settle(dead(record, DeadCause::Attempts, policies));
    }
    Begun::Start(start(record, now, policies, options))
}

fn start(mut record: Record, now: Now, policies: &LedgerOptions, options: &BeginOptions) -> Change {
    // Checked when they were set.
    let lease_ms = options.lease.unwrap_or(policies.lease).as_millis() as u64;
    record.state = State::Running { until: lease_end(now, lease_ms) };
    record.attempts = record.attempts.saturating_add(1);
    record.started = now.at.now;
    record.worker.clone_from(&options.worker);
    record.version = options.version;
    record.fingerprint = record.fingerprint.or(options.fingerprint);
    record.lease_ms = lease_ms;
    record.outlives_process = policies.outlives_process;
    let payload = options.payload.clone().filter(|_| !record.has_payload);
    record.has_payload |= payload.is_some();
    Change { starts: true, payload, ..Change::to(record) }
}

fn lease_end(now: Now, lease_ms: u64) -> Timestamp {
    Ttl::from_millis(lease_ms).deadline(now.at.latest)
}

fn dead(record: Record, cause: DeadCause, policies: &LedgerOptions) -> Change {
    let record = Record { state: State::Dead { cause }, ..record };
    Change { ttl: policies.dead_ttl, ..Change::to(record) }
}

/// Completes a record. A failure may be stored as a result, too.
pub(super) fn complete(
    mut record: Record,
    now: Now,
    ttl: Ttl,
    result: &[u8],
    failure: Option<&str>,
) -> Change {
    let end = if failure.is_some() { AttemptEnd::Final } else { AttemptEnd::Completed };
    record.end_attempt(end, failure.unwrap_or_default(), now.at.now);
    completed(record, ttl, result, failure.is_some())
}

/// Completes a record by the word of an operator.
pub(super) fn settle(
    mut record: Record,
    now: Now,
    ttl: Ttl,
    result: &[u8],
    reason: &str,
) -> Change {
    record.end_attempt(AttemptEnd::Settled, reason, now.at.now);
    completed(record, ttl, result, false)
}

fn completed(mut record: Record, ttl: Ttl, result: &[u8], is_failure: bool) -> Change {
    record.stages = 0;
    record.has_payload = false;
    record.token = 0;
    record.state = State::Completed { result: Some(result.to_vec()), is_failure };
    Change { ttl, keeps: Keeps::Nothing, ..Change::to(record) }
}

/// Notes that an attempt failed and may be tried again, unless no attempt is left.
pub(super) fn retry(
    mut record: Record,
    now: Now,
    policies: &LedgerOptions,
    end: AttemptEnd,
    reason: &str,
    after: Option<Duration>,
) -> Change {
    let chance = record.token;
    record.end_attempt(end, reason, now.at.now);
    record.token = 0;
    if record.attempts >= policies.attempts_max {
        return dead(record, DeadCause::Attempts, policies);
    }
    let delay = match after {
        Some(after) => u64::try_from(after.as_millis()).unwrap_or(u64::MAX),
        None => policies.backoff.delay_ms(record.attempts, chance),
    };
    let until = match delay {
        0 => now.at.now,
        _ => Ttl::from_millis(delay.min(crate::limits::TTL_MS_MAX)).deadline(now.at.latest),
    };
    Change::to(Record { state: State::Waiting { until }, ..record })
}

/// Holds a record whose attempt is gone without a word: nobody knows whether the effect happened. It may still say so.
pub(super) fn hold(mut record: Record, now: Now, reason: &str) -> Change {
    record.end_attempt(AttemptEnd::Dropped, reason, now.at.now);
    Change::to(Record { state: State::Held, ..record })
}

/// Notes that an attempt failed for good.
pub(super) fn bury(mut record: Record, now: Now, policies: &LedgerOptions, reason: &str) -> Change {
    record.end_attempt(AttemptEnd::Final, reason, now.at.now);
    record.token = 0;
    dead(record, DeadCause::Final, policies)
}

/// Extends the lease, by its length or by another one. Its own length never shortens one that was extended further.
pub(super) fn renew(record: Record, now: Now, lease_ms: Option<u64>) -> Change {
    let until = match (lease_ms, &record.state) {
        (Some(lease_ms), _) => lease_end(now, lease_ms),
        (None, State::Running { until }) => lease_end(now, record.lease_ms).max(*until),
        (None, _) => lease_end(now, record.lease_ms),
    };
    let record = Record { state: State::Running { until }, ..record };
    // One that may be shorter is told to those who wait for its end.
    Change { is_quiet: lease_ms.is_none(), ..Change::to(record) }
}

/// Hands the record back. The attempt is not charged.
pub(super) fn release(mut record: Record, now: Now, reason: &str) -> Change {
    record.end_attempt(AttemptEnd::Released, reason, now.at.now);
    record.attempts = record.attempts.saturating_sub(1);
    record.token = 0;
    Change::to(Record { state: State::Waiting { until: now.at.now }, ..record })
}

/// Lets a record be tried again, from now on and as often as a new one. Its history stays, and so do its stages, unless
/// they are to be done afresh.
pub(super) fn redrive(mut record: Record, now: Now, fresh: bool) -> Change {
    if now.phase(Some(&record)) == Phase::LeaseOver {
        record.end_attempt(AttemptEnd::Cancelled, "redriven", now.at.now);
    }
    record.attempts = 0;
    record.token = 0;
    record.redrives = record.redrives.saturating_add(1);
    record.state = State::Waiting { until: now.at.now };
    let keeps = if fresh { Keeps::Payload } else { Keeps::All };
    if fresh {
        record.stages = 0;
    }
    Change { keeps, ..Change::to(record) }
}

/// Ends a record without a result. Its attempt, if there is one, is fenced from now on.
pub(super) fn cancel(
    mut record: Record,
    now: Now,
    policies: &LedgerOptions,
    reason: &str,
) -> Change {
    record.end_attempt(AttemptEnd::Cancelled, reason, now.at.now);
    record.token = 0;
    dead(record, DeadCause::Cancelled, policies)
}

/// Removes a record and all that belongs to it.
pub(super) fn purge() -> Change {
    let (record, ttl, payload) = (None, Ttl::FOREVER, None);
    let (starts, keeps, is_quiet) = (false, Keeps::Nothing, false);
    Change { record, ttl, starts, payload, keeps, is_quiet }
}
