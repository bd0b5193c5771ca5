//! One record of a ledger, as people and programs see it.

use std::borrow::Cow;
use std::fmt;

use firstseen::Timestamp;
use firstseen::ledger::{AttemptEnd, DeadCause, PastAttempt, Record, State};
use serde::Serialize;

use super::record::to_hex;
use crate::output::{counted, grouped, printable};
use crate::table::Table;
use crate::utc;

/// A record, and what is known besides.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) ledger: &'a str,
    pub(super) record: &'a Record,
    /// Whether an attempt works on it: its lease has not ended, and its process is not gone.
    pub(super) is_in_progress: bool,
    /// Since when it is dead or held.
    pub(super) since: Option<Timestamp>,
    /// The length of its payload.
    pub(super) payload_bytes: Option<usize>,
}

/// An id in JSON: as text, or in hexadecimal digits if it is not UTF-8.
#[derive(Debug, Serialize)]
pub(super) struct Id<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id_hex: Option<String>,
}

impl<'a> Id<'a> {
    pub(super) fn of(id: &'a [u8]) -> Self {
        match std::str::from_utf8(id) {
            Ok(text) => Self { id: Some(text), id_hex: None },
            Err(_) => Self { id: None, id_hex: Some(to_hex(id)) },
        }
    }
}

/// The JSON output. The fields are documented in `--help`.
#[derive(Debug, Serialize)]
pub(super) struct Object<'a> {
    ledger: &'a str,
    #[serde(flatten)]
    id: Id<'a>,
    state: &'static str,
    until: Option<u64>,
    until_utc: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since_utc: Option<String>,
    cause: Option<&'static str>,
    is_failure: Option<bool>,
    result: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result_hex: Option<String>,
    attempts: u32,
    redrives: u32,
    first_begun: u64,
    first_begun_utc: String,
    ends: Option<u64>,
    ends_utc: Option<String>,
    token: u64,
    worker: &'a str,
    version: u32,
    stages: u32,
    fingerprint: Option<String>,
    has_payload: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_bytes: Option<usize>,
    history: Vec<Past<'a>>,
    history_dropped: u32,
}

/// An attempt that has ended, in JSON.
#[derive(Debug, Serialize)]
struct Past<'a> {
    token: u64,
    worker: &'a str,
    started: u64,
    started_utc: String,
    ended: u64,
    ended_utc: String,
    end: &'static str,
    reason: &'a str,
}

impl<'a> Past<'a> {
    fn of(past: &'a PastAttempt) -> Self {
        Self {
            token: past.token,
            worker: &past.worker,
            started: past.started.as_millis(),
            started_utc: utc::text(past.started),
            ended: past.ended.as_millis(),
            ended_utc: utc::text(past.ended),
            end: end_name(past.end),
            reason: &past.reason,
        }
    }
}

impl<'a> Entry<'a> {
    /// Returns what programs see.
    pub(super) fn object(&self) -> Object<'a> {
        let record = self.record;
        let until = self.until();
        let ends = Some(record.ends).filter(|ends| *ends != Timestamp::NEVER);
        let result = record.result().unwrap_or_default();
        let text = std::str::from_utf8(result);
        let is_failure = match record.state {
            State::Completed { is_failure, .. } => Some(is_failure),
            _ => None,
        };
        Object {
            ledger: self.ledger,
            id: Id::of(&record.id),
            state: state_name(&record.state, self.is_in_progress),
            until: until.map(Timestamp::as_millis),
            until_utc: until.map(utc::text),
            since: self.since.map(Timestamp::as_millis),
            since_utc: self.since.map(utc::text),
            cause: cause(&record.state).map(cause_name),
            is_failure,
            result: text.ok().filter(|_| record.result().is_some()),
            result_hex: text.is_err().then(|| to_hex(result)),
            attempts: record.attempts,
            redrives: record.redrives,
            first_begun: record.first_begun.as_millis(),
            first_begun_utc: utc::text(record.first_begun),
            ends: ends.map(Timestamp::as_millis),
            ends_utc: ends.map(utc::text),
            token: record.token,
            worker: &record.worker,
            version: record.version,
            stages: record.stages,
            fingerprint: record.fingerprint.map(|fingerprint| fingerprint.to_string()),
            has_payload: record.has_payload,
            payload_bytes: self.payload_bytes,
            history: record.history.iter().map(Past::of).collect(),
            history_dropped: record.history_dropped,
        }
    }

    /// The columns of `ledger list`.
    pub(super) const TITLES: [&'static str; 6] =
        ["LEDGER", "STATE", "ATTEMPTS", "FIRST BEGUN", "ID", "DETAIL"];

    /// Returns its row in `ledger list`.
    pub(super) fn row(&self) -> Vec<String> {
        let record = self.record;
        let detail = match &record.state {
            State::Running { .. } if !self.is_in_progress => "no attempt works on it".to_owned(),
            State::Running { until } => format!("lease until {}", utc::text(*until)),
            State::Waiting { until } => format!("next attempt from {}", utc::text(*until)),
            State::Completed { is_failure: true, .. } => "with a failure".to_owned(),
            State::Dead { cause } => cause.to_string(),
            _ => String::new(),
        };
        vec![
            printable(self.ledger),
            state_name(&record.state, self.is_in_progress).to_owned(),
            record.attempts.to_string(),
            utc::text(record.first_begun),
            shown_id(&record.id).into_owned(),
            detail,
        ]
    }

    /// The columns of `dead-letter list`.
    pub(super) const DEAD_TITLES: [&'static str; 6] =
        ["LEDGER", "SINCE", "CAUSE", "ATTEMPTS", "ID", "REASON"];

    /// Returns its row in `dead-letter list`.
    pub(super) fn dead_row(&self) -> Vec<String> {
        let record = self.record;
        let reason = record.history.last().map_or("", |past| past.reason.as_str());
        vec![
            printable(self.ledger),
            self.since.map(utc::text).unwrap_or_default(),
            cause(&record.state).map_or("held", cause_name).to_owned(),
            record.attempts.to_string(),
            shown_id(&record.id).into_owned(),
            printable(reason),
        ]
    }

    /// Returns when the lease ends or the next attempt may start.
    fn until(&self) -> Option<Timestamp> {
        match self.record.state {
            State::Running { until } => Some(until).filter(|_| self.is_in_progress),
            State::Waiting { until } => Some(until),
            _ => None,
        }
    }

    fn write_history(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let record = self.record;
        if record.history.is_empty() {
            return Ok(());
        }
        writeln!(f)?;
        let mut table = Table::new(&["STARTED", "ENDED", "TOKEN", "WORKER", "END", "REASON"]);
        for past in &record.history {
            table.add(vec![
                utc::text(past.started),
                utc::text(past.ended),
                past.token.to_string(),
                printable(&past.worker),
                end_name(past.end).to_owned(),
                printable(&past.reason),
            ]);
        }
        write!(f, "\n{}", table.take_lines().trim_end())?;
        if record.history_dropped > 0 {
            let more = counted(record.history_dropped.into(), "attempt");
            write!(f, "\n({more} before these)")?;
        }
        Ok(())
    }
}

/// Everything, for people; without the line end.
impl fmt::Display for Entry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let record = self.record;
        let mut table = Table::default();
        let mut line = |name: &str, value: String| table.add(vec![name.to_owned(), value]);
        line("ledger", printable(self.ledger));
        line("id", shown_id(&record.id).into_owned());
        match &record.state {
            State::Running { .. } if !self.is_in_progress => {
                line("state", "its lease has ended, and nobody has begun it again".to_owned());
            }
            state => line("state", state.to_string()),
        }
        match &record.state {
            State::Running { until } if self.is_in_progress => {
                line("lease until", utc::text(*until));
            }
            State::Waiting { until } => line("next attempt", utc::text(*until)),
            _ => {}
        }
        if let Some(since) = self.since {
            line("since", utc::text(since));
        }
        if let Some(result) = record.result() {
            line("result", shown_result(result));
        }
        line("first begun", utc::text(record.first_begun));
        line(
            "kept until",
            match record.ends {
                Timestamp::NEVER => "forever".to_owned(),
                ends => utc::text(ends),
            },
        );
        line("attempts", grouped(record.attempts.into()));
        line("redrives", grouped(record.redrives.into()));
        line("stages", grouped(record.stages.into()));
        line("token", record.token.to_string());
        if !record.worker.is_empty() {
            line("worker", printable(&record.worker));
        }
        line("version", record.version.to_string());
        if let Some(fingerprint) = record.fingerprint {
            line("fingerprint", fingerprint.to_string());
        }
        line(
            "payload",
            match self.payload_bytes {
                Some(bytes) => counted(bytes as u64, "byte"),
                None => "none".to_owned(),
            },
        );
        f.write_str(table.take_lines().trim_end())?;
        self.write_history(f)
    }
}

fn cause(state: &State) -> Option<DeadCause> {
    match state {
        State::Dead { cause } => Some(*cause),
        _ => None,
    }
}

/// Not known to this binary: a newer library has it.
pub(super) const OTHER: &str = "other";

/// Returns the name of a state. What no attempt works on any more is not running, whatever its record says.
pub(super) fn state_name(state: &State, is_in_progress: bool) -> &'static str {
    match state {
        State::Running { .. } if is_in_progress => "running",
        State::Running { .. } => "lease-ended",
        State::Waiting { .. } => "waiting",
        State::Held => "held",
        State::Completed { .. } => "completed",
        State::Dead { .. } => "dead",
        _ => OTHER,
    }
}

fn cause_name(cause: DeadCause) -> &'static str {
    match cause {
        DeadCause::Attempts => "attempts",
        DeadCause::Final => "final",
        DeadCause::LeaseEnded => "lease-ended",
        DeadCause::Cancelled => "cancelled",
        _ => OTHER,
    }
}

fn end_name(end: AttemptEnd) -> &'static str {
    match end {
        AttemptEnd::Completed => "completed",
        AttemptEnd::Failed => "failed",
        AttemptEnd::Final => "final",
        AttemptEnd::LeaseEnded => "lease-ended",
        AttemptEnd::ProcessEnded => "process-ended",
        AttemptEnd::Dropped => "dropped",
        AttemptEnd::Released => "released",
        AttemptEnd::Cancelled => "cancelled",
        AttemptEnd::Settled => "settled",
        _ => OTHER,
    }
}

/// Returns an id for people: as text if all of it can be printed, or its bytes as hexadecimal digits, which --hex takes.
pub(super) fn shown_id(id: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(id) {
        Ok(text) if !text.chars().any(char::is_control) => Cow::Borrowed(text),
        _ => Cow::Owned(format!("0x{}", to_hex(id))),
    }
}

fn shown_result(result: &[u8]) -> String {
    match std::str::from_utf8(result) {
        Ok(text) => printable(text),
        Err(_) => format!("0x{}", to_hex(result)),
    }
}
