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
    /// Returns the phase that it leads to.
    pub(super) fn phase(&self, now: Now) -> Phase {
        match &self.record {
            None => Phase::Absent,
            Some(_) if self.starts => Phase::Running,
            // Its attempt goes on, however short its lease is.
            Some(Record { state: State::Running { .. }, .. }) => Phase::Running,
            record => now.phase(record.as_ref()),
        }
    }

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
    /// Make this move, and tell the caller of the record that results.
    Settle(Move, Change),
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
                let held = Change::to(Record { state: State::Held, ..record });
                return Begun::Settle(Move::Hold, held);
            }
            OnLeaseEnd::Fail => {
                let dead = dead(record, DeadCause::LeaseEnded, policies);
                return Begun::Settle(Move::GiveUp, dead);
            }
        }
    }
    if record.attempts >= policies.attempts_max {
        return Begun::Settle(Move::GiveUp, dead(record, DeadCause::Attempts, policies));
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
    if let Some(payload) = &payload {
        (record.has_payload, record.payload_bytes) = (true, payload.len() as u64);
    }
    Change { starts: true, payload, ..Change::to(record) }
}

fn lease_end(now: Now, lease_ms: u64) -> Timestamp {
    Ttl::from_millis(lease_ms).deadline(now.at.latest)
}

fn dead(record: Record, cause: DeadCause, policies: &LedgerOptions) -> Change {
    let record = Record { state: State::Dead { cause }, ..record };
    Change { ttl: policies.dead_ttl, ..Change::to(record) }
}

/// A result to be stored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outcome<'a> {
    pub(super) bytes: &'a [u8],
    /// The bytes are an encoded value.
    pub(super) is_encoded: bool,
    pub(super) ttl: Ttl,
}

/// Completes a record. A failure may be stored as a result, too.
pub(super) fn complete(
    mut record: Record,
    now: Now,
    outcome: Outcome<'_>,
    failure: Option<&str>,
) -> Change {
    let end = if failure.is_some() { AttemptEnd::Final } else { AttemptEnd::Completed };
    record.end_attempt(end, failure.unwrap_or_default(), now.at.now);
    completed(record, outcome, failure.is_some())
}

/// Completes a record by the word of an operator.
pub(super) fn settle(mut record: Record, now: Now, outcome: Outcome<'_>, reason: &str) -> Change {
    record.end_attempt(AttemptEnd::Settled, reason, now.at.now);
    completed(record, outcome, false)
}

fn completed(mut record: Record, outcome: Outcome<'_>, is_failure: bool) -> Change {
    let Outcome { bytes, is_encoded, ttl } = outcome;
    (record.stages, record.stage_bytes) = (0, 0);
    (record.has_payload, record.payload_bytes) = (false, 0);
    record.token = 0;
    record.is_encoded = is_encoded;
    record.state = State::Completed { result: Some(bytes.to_vec()), is_failure };
    Change { ttl, keeps: Keeps::Nothing, ..Change::to(record) }
}

/// Returns the move of an attempt that failed and may be tried again: unless no attempt is left.
pub(super) fn retry_or_give_up(record: &Record, policies: &LedgerOptions) -> Move {
    if record.attempts >= policies.attempts_max { Move::GiveUp } else { Move::Retry }
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
    // Not from the latest time that the clock may mean: a delay that ends early does no harm, and a clock that was wrong
    // for a moment must not park the record for as long as it was wrong.
    let until = match delay {
        0 => now.at.now,
        _ => Ttl::from_millis(delay.min(crate::limits::TTL_MS_MAX)).deadline(now.at.now),
    };
    Change::to(Record { state: State::Waiting { until }, ..record })
}

/// Holds a record because nobody knows whether the effect happened. Its attempt may still say so.
pub(super) fn hold(mut record: Record, now: Now, end: AttemptEnd, reason: &str) -> Change {
    record.end_attempt(end, reason, now.at.now);
    Change::to(Record { state: State::Held, ..record })
}

/// Notes that an attempt failed for good.
pub(super) fn bury(mut record: Record, now: Now, policies: &LedgerOptions, reason: &str) -> Change {
    record.end_attempt(AttemptEnd::Final, reason, now.at.now);
    record.token = 0;
    dead(record, DeadCause::Final, policies)
}

/// Extends the lease by its length, but not to less than `least`, to which the attempt has extended it itself.
///
/// It may become shorter: one that was set while the clock was wrong must not stay as long as that.
pub(super) fn renew(record: Record, now: Now, least: Option<Timestamp>) -> Change {
    let end = lease_end(now, record.lease_ms);
    extend(record, least.map_or(end, |least| end.max(least)))
}

/// Extends the lease to another length, from now.
pub(super) fn renew_for(record: Record, now: Now, lease_ms: u64) -> Change {
    extend(record, lease_end(now, lease_ms))
}

fn extend(record: Record, until: Timestamp) -> Change {
    // Those who wait for its end have to hear of one that is shorter.
    let is_quiet = matches!(record.state, State::Running { until: before } if before <= until);
    Change { is_quiet, ..Change::to(Record { state: State::Running { until }, ..record }) }
}

/// Notes a saved stage, and extends the lease.
pub(super) fn save(record: Record, now: Now, least: Option<Timestamp>, saved: Saved) -> Change {
    let stages = record.stages.max(saved.number + 1);
    let stage_bytes = record.stage_bytes.saturating_sub(saved.bytes_before) + saved.bytes;
    renew(Record { stages, stage_bytes, ..record }, now, least)
}

/// A stage that is saved with a change.
#[derive(Debug, Clone, Copy)]
pub(super) struct Saved {
    pub(super) number: u32,
    pub(super) bytes: u64,
    /// The size of what it replaces.
    pub(super) bytes_before: u64,
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
    record.is_encoded = false;
    record.redrives = record.redrives.saturating_add(1);
    record.state = State::Waiting { until: now.at.now };
    let keeps = if fresh { Keeps::Payload } else { Keeps::All };
    if fresh {
        (record.stages, record.stage_bytes) = (0, 0);
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
