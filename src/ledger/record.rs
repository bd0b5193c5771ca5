//! The record of an id: its state, its attempts and its result, and how they are stored.

use crate::codec::{Reader, Undecodable, put_bytes, put_varint, stored};
use crate::id::ShortId;
use crate::ledger::fingerprint::Fingerprint;
use crate::ledger::moves::Phase;
use crate::time::Timestamp;
use std::fmt;

/// What a ledger knows of an id.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// The id.
    pub id: Vec<u8>,
    /// What has become of it.
    pub state: State,
    /// Attempts started and not handed back, since the first or since the last redrive.
    pub attempts: u32,
    /// When it was begun for the first time.
    pub first_begun: Timestamp,
    /// When this record ends by itself; [`Timestamp::NEVER`] unless it is completed or dead and has a ttl.
    pub ends: Timestamp,
    /// The token of the last attempt, zero if no attempt may still end it. Each attempt of a store has a higher token than
    /// all before it, so a resource that remembers the highest can refuse an older attempt.
    pub token: u64,
    /// The worker that the last attempt named.
    pub worker: String,
    /// The fingerprint of the input, if one was given.
    pub fingerprint: Option<Fingerprint>,
    /// The version of the program that last began it.
    pub version: u32,
    /// How many stages are saved.
    pub stages: u32,
    /// How often an operator has let it be tried again.
    pub redrives: u32,
    /// The attempts that have ended, the oldest first; the last [`HISTORY_MAX`](crate::limits::LEDGER_HISTORY_MAX).
    pub history: Vec<PastAttempt>,
    /// How many more attempts have ended before those.
    pub history_dropped: u32,
    /// Whether there is a payload.
    pub has_payload: bool,
    /// When the last attempt started.
    pub started: Timestamp,
    /// How long its lease is, in milliseconds.
    pub(super) lease_ms: u64,
    /// Whether its lease goes on when the process ends.
    pub outlives_process: bool,
    /// Whether the result is an encoded value, not plain bytes.
    pub(super) is_encoded: bool,
    pub(super) payload_bytes: u64,
    /// The size of all saved stages.
    pub(super) stage_bytes: u64,
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not what workers have said: a history may be long.
        f.debug_struct("Record")
            .field("id", &ShortId(&self.id))
            .field("state", &self.state)
            .field("attempts", &self.attempts)
            .field("token", &self.token)
            .field("version", &self.version)
            .field("stages", &self.stages)
            .field("redrives", &self.redrives)
            .field("history", &self.history.len())
            .finish_non_exhaustive()
    }
}

/// What has become of an id.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
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
    /// A lease has ended, and an operator is to find out whether the effect happened.
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

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running { until } => f.debug_struct("Running").field("until", until).finish(),
            Self::Waiting { until } => f.debug_struct("Waiting").field("until", until).finish(),
            Self::Held => f.write_str("Held"),
            Self::Completed { result, is_failure } => f
                .debug_struct("Completed")
                .field("result_bytes", &result.as_ref().map(Vec::len))
                .field("is_failure", is_failure)
                .finish(),
            Self::Dead { cause } => f.debug_struct("Dead").field("cause", cause).finish(),
        }
    }
}

/// Why a record is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeadCause {
    /// It failed, or its worker went away, as often as it may.
    Attempts,
    /// An attempt said that trying again is pointless.
    Final,
    /// A lease ended, and the policy of the ledger is to fail.
    LeaseEnded,
    /// An operator cancelled it.
    Cancelled,
}

/// An attempt that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PastAttempt {
    /// Its fencing token.
    pub token: u64,
    /// The worker that it named.
    pub worker: String,
    /// When it started.
    pub started: Timestamp,
    /// When it ended, or when that was noticed.
    pub ended: Timestamp,
    /// How it ended.
    pub end: AttemptEnd,
    /// What it said of that.
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
    /// Its lease ended before it said anything.
    LeaseEnded,
    /// Its process ended before it said anything.
    ProcessEnded,
    /// It was dropped: a panic, or an early return.
    Dropped,
    /// It was handed back, without a charge.
    Released,
    /// An operator said that it was done. If nobody was working on it, the token is zero.
    Settled,
    /// An operator cancelled or redrove it. If nobody was working on it, the token is zero.
    Cancelled,
}

impl Record {
    /// Returns a record that nobody has worked on.
    pub(super) fn new(id: &[u8], now: Timestamp) -> Self {
        Self {
            id: id.to_vec(),
            state: State::Waiting { until: now },
            attempts: 0,
            first_begun: now,
            ends: Timestamp::NEVER,
            token: 0,
            worker: String::new(),
            fingerprint: None,
            version: 0,
            stages: 0,
            redrives: 0,
            history: Vec::new(),
            history_dropped: 0,
            has_payload: false,
            started: now,
            lease_ms: 0,
            outlives_process: false,
            is_encoded: false,
            payload_bytes: 0,
            stage_bytes: 0,
        }
    }

    /// Returns the stored result; `None` if it is not completed.
    pub fn result(&self) -> Option<&[u8]> {
        match &self.state {
            State::Completed { result, .. } => result.as_deref(),
            _ => None,
        }
    }

    /// Returns the size of what is kept beside the record: payload and saved stages.
    pub(super) fn kept_bytes(&self) -> u64 {
        self.payload_bytes + self.stage_bytes
    }

    /// Returns the phase at a moment. Tokens below `first_token` were given by processes that are gone.
    pub(super) fn phase(&self, now: Timestamp, first_token: u64) -> Phase {
        match self.state {
            State::Running { until } => {
                let is_orphan = !self.outlives_process && self.token < first_token;
                if is_orphan || until <= now { Phase::LeaseOver } else { Phase::Running }
            }
            State::Waiting { .. } => Phase::Waiting,
            State::Held => Phase::Held,
            State::Completed { .. } => Phase::Completed,
            State::Dead { .. } => Phase::Dead,
        }
    }

    /// Notes how the current attempt ended. What it says itself replaces what others had noted of it.
    pub(super) fn end_attempt(&mut self, end: AttemptEnd, reason: &str, now: Timestamp) {
        if self.token != 0 {
            self.history.pop_if(|past| past.token == self.token);
        }
        let reason = cut(reason, crate::limits::LEDGER_REASON_BYTES_MAX).to_owned();
        let (token, worker, started) = (self.token, self.worker.clone(), self.started);
        self.history.push(PastAttempt { token, worker, started, ended: now, end, reason });
        if self.history.len() > crate::limits::LEDGER_HISTORY_MAX {
            self.history.remove(0);
            self.history_dropped = self.history_dropped.saturating_add(1);
        }
    }

    /// Returns how many attempts have ended before the one with this token, since the record was begun for the first time.
    /// Not the number of the attempt: that begins anew with a redrive, and an attempt that was handed back has none.
    pub(super) fn ended_before(&self, token: u64) -> u32 {
        let others = self.history.iter().filter(|past| past.token != token).count();
        self.history_dropped.saturating_add(others as u32)
    }

    /// Returns the record as somebody may see it whose input is another. What attempts said of their failures may be part
    /// of the answer, too.
    pub(super) fn without_result(mut self) -> Self {
        if let State::Completed { result, is_failure } = &mut self.state {
            (*result, *is_failure) = (None, false);
        }
        self.history.iter_mut().for_each(|past| past.reason.clear());
        self
    }
}

/// Returns the longest start of a text that has at most so many bytes.
fn cut(text: &str, bytes_max: usize) -> &str {
    let end = (0..=bytes_max.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or_default()]
}

const VERSION: u8 = 1;

const RUNNING: u8 = 1;
const WAITING: u8 = 2;
const HELD: u8 = 3;
const COMPLETED: u8 = 4;
const DEAD: u8 = 5;

// Bits of the flags.
const OUTLIVES: u8 = 1;
const IS_FAILURE: u8 = 2;
const HAS_FINGERPRINT: u8 = 4;
const HAS_PAYLOAD: u8 = 8;
const IS_ENCODED: u8 = 16;
const FLAGS: u8 = OUTLIVES | IS_FAILURE | HAS_FINGERPRINT | HAS_PAYLOAD | IS_ENCODED;

impl Record {
    /// Encodes the record. The token of an attempt that starts with this write is the sequence of its row, which is not
    /// known yet: it is stored as zero.
    pub(super) fn encode(&self, starts: bool) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        let (tag, until, result) = match &self.state {
            State::Running { until } => (RUNNING, until.as_millis(), None),
            State::Waiting { until } => (WAITING, until.as_millis(), None),
            State::Held => (HELD, 0, None),
            State::Completed { result, .. } => (COMPLETED, 0, result.as_deref()),
            State::Dead { cause } => (DEAD, u64::from(cause.code()), None),
        };
        let flag = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
        let is_failure = matches!(self.state, State::Completed { is_failure: true, .. });
        out.extend_from_slice(&[
            VERSION,
            tag,
            flag(self.outlives_process, OUTLIVES)
                | flag(is_failure, IS_FAILURE)
                | flag(self.fingerprint.is_some(), HAS_FINGERPRINT)
                | flag(self.has_payload, HAS_PAYLOAD)
                | flag(self.is_encoded, IS_ENCODED),
        ]);
        put_varint(&mut out, until);
        put_varint(&mut out, if starts { 0 } else { self.token });
        // Zero means "the sequence of this row": a record whose token was taken away says so here.
        out.push(u8::from(!starts && self.token == 0));
        for number in [
            u64::from(self.attempts),
            self.first_begun.as_millis(),
            self.started.as_millis(),
            self.lease_ms,
            u64::from(self.version),
            u64::from(self.stages),
            self.payload_bytes,
            self.stage_bytes,
            u64::from(self.redrives),
            u64::from(self.history_dropped),
        ] {
            put_varint(&mut out, number);
        }
        if let Some(fingerprint) = &self.fingerprint {
            out.extend_from_slice(fingerprint.as_bytes());
        }
        put_bytes(&mut out, self.worker.as_bytes());
        put_varint(&mut out, self.history.len() as u64);
        for past in &self.history {
            put_varint(&mut out, past.token);
            put_bytes(&mut out, past.worker.as_bytes());
            put_varint(&mut out, past.started.as_millis());
            put_varint(&mut out, past.ended.as_millis());
            out.push(past.end.code());
            put_bytes(&mut out, past.reason.as_bytes());
        }
        out.extend_from_slice(result.unwrap_or_default());
        out
    }

    /// Decodes the record of a row.
    pub(super) fn decode(
        id: &[u8],
        bytes: &[u8],
        sequence: u64,
        ends: Timestamp,
    ) -> Result<Self, Undecodable> {
        let record = take_record(&mut stored(bytes, VERSION)?, id, sequence, ends);
        record.ok_or(Undecodable::Damaged)
    }
}

fn take_record(r: &mut Reader<'_>, id: &[u8], sequence: u64, ends: Timestamp) -> Option<Record> {
    let (tag, flags) = (r.u8()?, r.u8()?);
    if flags & !FLAGS != 0 {
        return None;
    }
    let until = r.varint()?;
    let token = r.varint()?;
    let token = match (token, r.u8()?) {
        (0, 0) => sequence,
        (0, 1) => 0,
        (token, 0) => token,
        _ => return None,
    };
    let attempts = r.varint_u32()?;
    let first_begun = Timestamp::from_millis(r.varint()?);
    let started = Timestamp::from_millis(r.varint()?);
    let lease_ms = r.varint()?;
    let (version, stages) = (r.varint_u32()?, r.varint_u32()?);
    let (payload_bytes, stage_bytes) = (r.varint()?, r.varint()?);
    let (redrives, history_dropped) = (r.varint_u32()?, r.varint_u32()?);
    let fingerprint = match flags & HAS_FINGERPRINT {
        0 => None,
        _ => Some(Fingerprint::from_bytes(r.array()?)),
    };
    let worker = take_text(r)?;
    let mut history = Vec::new();
    for _ in 0..r.varint()? {
        history.push(PastAttempt {
            token: r.varint()?,
            worker: take_text(r)?,
            started: Timestamp::from_millis(r.varint()?),
            ended: Timestamp::from_millis(r.varint()?),
            end: AttemptEnd::of_code(r.u8()?)?,
            reason: take_text(r)?,
        });
    }
    let result = r.rest();
    if tag != COMPLETED && !result.is_empty() {
        return None;
    }
    let time = Timestamp::from_millis(until);
    let state = match tag {
        RUNNING => State::Running { until: time },
        WAITING => State::Waiting { until: time },
        HELD => State::Held,
        COMPLETED => {
            State::Completed { result: Some(result.to_vec()), is_failure: flags & IS_FAILURE != 0 }
        }
        DEAD => State::Dead { cause: DeadCause::of_code(until)? },
        _ => return None,
    };
    Some(Record {
        id: id.to_vec(),
        state,
        attempts,
        first_begun,
        ends,
        token,
        worker,
        fingerprint,
        version,
        stages,
        redrives,
        history,
        history_dropped,
        has_payload: flags & HAS_PAYLOAD != 0,
        started,
        lease_ms,
        outlives_process: flags & OUTLIVES != 0,
        is_encoded: flags & IS_ENCODED != 0,
        payload_bytes,
        stage_bytes,
    })
}

fn take_text(r: &mut Reader<'_>) -> Option<String> {
    String::from_utf8(r.sized()?.to_vec()).ok()
}

impl DeadCause {
    const ALL: [Self; 4] = [Self::Attempts, Self::Final, Self::LeaseEnded, Self::Cancelled];

    pub(super) fn code(self) -> u8 {
        match self {
            Self::Attempts => 1,
            Self::Final => 2,
            Self::LeaseEnded => 3,
            Self::Cancelled => 4,
        }
    }

    pub(super) fn of_code(code: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| u64::from(cause.code()) == code)
    }
}

impl AttemptEnd {
    const ALL: [Self; 9] = [
        Self::Completed,
        Self::Failed,
        Self::Final,
        Self::LeaseEnded,
        Self::ProcessEnded,
        Self::Dropped,
        Self::Released,
        Self::Cancelled,
        Self::Settled,
    ];

    /// Returns whether the attempt itself said so.
    pub(super) fn is_told(self) -> bool {
        !matches!(self, Self::LeaseEnded | Self::ProcessEnded | Self::Cancelled | Self::Settled)
    }

    fn code(self) -> u8 {
        match self {
            Self::Completed => 1,
            Self::Failed => 2,
            Self::Final => 3,
            Self::LeaseEnded => 4,
            Self::ProcessEnded => 5,
            Self::Dropped => 6,
            Self::Released => 7,
            Self::Cancelled => 8,
            Self::Settled => 9,
        }
    }

    fn of_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|end| end.code() == code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Record {
        let now = Timestamp::from_millis(1_700_000_000_000);
        let mut record = Record::new(b"evt", now);
        record.token = 77;
        record.worker = "w1".to_owned();
        record.attempts = 3;
        record.fingerprint = Some(Fingerprint::of_bytes(b"input"));
        record.has_payload = true;
        record.outlives_process = true;
        record.lease_ms = 30_000;
        for end in AttemptEnd::ALL {
            record.token += 1;
            record.end_attempt(end, "why", now);
        }
        record
    }

    fn states() -> Vec<State> {
        let time = Timestamp::from_millis(9);
        let done = |result: &[u8], is_failure| State::Completed {
            result: Some(result.to_vec()),
            is_failure,
        };
        let mut states = vec![
            State::Running { until: time },
            State::Waiting { until: time },
            State::Held,
            done(b"", false),
            done(b"result", true),
        ];
        states.extend(DeadCause::ALL.map(|cause| State::Dead { cause }));
        states
    }

    #[test]
    fn every_state_comes_back() {
        for state in states() {
            let record = Record { state, ..full() };
            let read = Record::decode(b"evt", &record.encode(false), 99, Timestamp::NEVER);
            assert_eq!(read, Ok(record.clone()));
            let read = Record::decode(b"evt", &record.encode(true), 99, Timestamp::NEVER);
            assert_eq!(read.map(|record| record.token), Ok(99), "the sequence of its row");
            let without = Record { token: 0, ..record };
            let read = Record::decode(b"evt", &without.encode(false), 99, Timestamp::NEVER);
            assert_eq!(read.map(|record| record.token), Ok(0), "taken away");
        }
    }

    #[test]
    fn an_unknown_state_is_an_error_and_never_completed() {
        let good = full().encode(false);
        for (at, byte) in [(0, 0), (1, 0), (1, 6), (2, 0xff)] {
            let mut bad = good.clone();
            bad[at] = byte;
            let read = Record::decode(b"evt", &bad, 1, Timestamp::NEVER);
            assert_eq!(read, Err(Undecodable::Damaged), "byte {at} is {byte}");
        }
        let mut newer = good.clone();
        newer[0] = VERSION + 1;
        let read = Record::decode(b"evt", &newer, 1, Timestamp::NEVER);
        assert_eq!(read, Err(Undecodable::Newer(VERSION + 1)));
        for len in 0..good.len() {
            assert!(Record::decode(b"evt", &good[..len], 1, Timestamp::NEVER).is_err());
        }
    }

    #[test]
    fn the_history_is_bounded_and_says_so() {
        let mut record = full();
        for _ in 0..100 {
            record.token += 1;
            record.end_attempt(AttemptEnd::Failed, &"é".repeat(10_000), Timestamp::NEVER);
        }
        assert_eq!(record.history.len(), crate::limits::LEDGER_HISTORY_MAX);
        assert_eq!(record.history.len() as u32 + record.history_dropped, 109);
        assert!(record.encode(false).len() < 64 << 10);
    }
}
