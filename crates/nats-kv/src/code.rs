//! How a claim and a record are written in a message.

use crate::moves::{NEVER_MS, OWN_TOKEN, Row, STORED_MS};
use firstseen_shared::{AttemptEnd, DeadCause, Fingerprint, PastAttempt, Record, State, Timestamp};

const VERSION: u8 = 1;

/// A claim, as it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claimed {
    pub(crate) made_ms: u64,
    pub(crate) ends_ms: u64,
    pub(crate) by: [u8; 16],
}

/// What is written: version, how far the clock is shifted, the id, and then the value; nothing for an id that is forgotten.
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn new(id: &[u8], shift_ms: u64) -> Self {
        let mut writer = Self(vec![VERSION]);
        writer.int(shift_ms);
        writer.bytes(id);
        writer
    }

    pub(crate) fn done(self) -> Vec<u8> {
        self.0
    }

    fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    fn int(&mut self, int: u64) {
        self.0.extend(int.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend(u32::try_from(bytes.len()).expect("lengths are checked").to_le_bytes());
        self.0.extend(bytes);
    }

    pub(crate) fn claim(&mut self, ends_ms: u64, by: &[u8; 16]) {
        self.int(ends_ms);
        self.0.extend(by);
    }

    pub(crate) fn row(&mut self, row: &Row) {
        let record = &row.record;
        self.int(row.ends_ms);
        self.bytes(row.by.as_ref().map_or(&[], |by| &by[..]));
        match &record.state {
            State::Running { until } => {
                self.byte(0);
                self.int(until.as_millis());
            }
            State::Waiting { until } => {
                self.byte(1);
                self.int(until.as_millis());
            }
            State::Held => self.byte(2),
            State::Completed { result, is_failure } => {
                self.byte(3);
                self.byte(u8::from(*is_failure));
                self.bytes(result.as_deref().unwrap_or_default());
            }
            State::Dead { cause } => {
                self.byte(4);
                self.byte(match cause {
                    DeadCause::Attempts => 0,
                    DeadCause::Final => 1,
                    DeadCause::LeaseEnded => 2,
                    _ => 3,
                });
            }
        }
        self.int(u64::from(record.attempts));
        self.int(record.token);
        self.bytes(record.worker.as_bytes());
        self.bytes(record.fingerprint.as_ref().map_or(&[], |print| &print.as_bytes()[..]));
        self.int(record.first_begun.as_millis());
        self.byte(record.history.len() as u8);
        for past in &record.history {
            self.int(past.token);
            self.bytes(past.worker.as_bytes());
            self.byte(match past.end {
                AttemptEnd::Completed => 0,
                AttemptEnd::Failed => 1,
                AttemptEnd::Final => 2,
                AttemptEnd::Held => 3,
                AttemptEnd::LeaseEnded => 4,
                _ => 5,
            });
            self.bytes(past.reason.as_bytes());
        }
    }
}

/// Returns whether a later version of this program has written it.
pub(crate) fn is_newer(payload: &[u8]) -> bool {
    payload.first().is_some_and(|version| *version > VERSION)
}

/// Reads what a [`Writer`] has written.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    /// When the message was stored.
    stored_ms: u64,
    sequence: u64,
}

impl<'a> Reader<'a> {
    /// Returns the id, and what reads the value.
    pub(crate) fn new(
        payload: &'a [u8],
        stored_ms: u64,
        sequence: u64,
    ) -> Option<(&'a [u8], Self)> {
        let (&version, rest) = payload.split_first()?;
        let mut reader = Self { rest, stored_ms, sequence };
        let shift_ms = (version == VERSION).then(|| reader.int())??;
        reader.stored_ms = stored_ms.saturating_add(shift_ms);
        let id = reader.bytes()?;
        Some((id, reader))
    }

    pub(crate) fn stored_ms(&self) -> u64 {
        self.stored_ms
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(byte)
    }

    fn int(&mut self) -> Option<u64> {
        let (int, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(u64::from_le_bytes(*int))
    }

    fn time(&mut self) -> Option<u64> {
        let ms = self.int()?;
        Some(match ms {
            NEVER_MS => ms,
            STORED_MS.. => (ms - STORED_MS).saturating_add(self.stored_ms),
            _ => ms,
        })
    }

    fn timestamp(&mut self) -> Option<Timestamp> {
        self.time().map(Timestamp::from_millis)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let (len, rest) = self.rest.split_first_chunk()?;
        let (bytes, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        self.rest = rest;
        Some(bytes)
    }

    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }

    pub(crate) fn claim(mut self) -> Option<Claimed> {
        let ends_ms = self.time()?;
        let (by, rest) = self.rest.split_first_chunk()?;
        rest.is_empty().then_some(Claimed { made_ms: self.stored_ms, ends_ms, by: *by })
    }

    pub(crate) fn row(mut self) -> Option<Row> {
        let ends_ms = self.time()?;
        let by = match self.bytes()? {
            [] => None,
            by => Some(by.try_into().ok()?),
        };
        let state = match self.byte()? {
            0 => State::Running { until: self.timestamp()? },
            1 => State::Waiting { until: self.timestamp()? },
            2 => State::Held,
            3 => {
                let is_failure = self.byte()? == 1;
                State::Completed { result: Some(self.bytes()?.to_vec()), is_failure }
            }
            4 => State::Dead {
                cause: match self.byte()? {
                    0 => DeadCause::Attempts,
                    1 => DeadCause::Final,
                    2 => DeadCause::LeaseEnded,
                    3 => DeadCause::Cancelled,
                    _ => return None,
                },
            },
            _ => return None,
        };
        let attempts = self.int()? as u32;
        let token = match self.int()? {
            OWN_TOKEN => self.sequence,
            token => token,
        };
        let worker = self.text()?;
        let fingerprint = match self.bytes()? {
            [] => None,
            print => Some(Fingerprint::from_bytes(print.try_into().ok()?)),
        };
        let first_begun = self.timestamp()?;
        let mut history = Vec::new();
        for _ in 0..self.byte()? {
            history.push(PastAttempt {
                token: self.int()?,
                worker: self.text()?,
                end: match self.byte()? {
                    0 => AttemptEnd::Completed,
                    1 => AttemptEnd::Failed,
                    2 => AttemptEnd::Final,
                    3 => AttemptEnd::Held,
                    4 => AttemptEnd::LeaseEnded,
                    5 => AttemptEnd::Released,
                    _ => return None,
                },
                reason: self.text()?,
            });
        }
        let read = first_begun;
        let record =
            Record { state, attempts, token, worker, fingerprint, first_begun, history, read };
        self.rest.is_empty().then_some(Row { record, ends_ms, by })
    }
}
