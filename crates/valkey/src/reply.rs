//! What scripts answer.

use crate::fault;
use firstseen_shared::{
    AttemptEnd, Begun, DeadCause, Error, ErrorKind, Fingerprint, MoveError, PastAttempt, Record,
    Result, State, Timestamp,
};
use redis::Value;

/// The answer of a script about a record: a word, and what comes with it.
pub(crate) struct Told {
    what: &'static str,
    word: Vec<u8>,
    rest: Vec<Value>,
}

/// The fields of a record, in the order of `FIELDS_AND_RESULT` in `record.lua`.
struct Fields(Vec<Option<Vec<u8>>>);

impl Told {
    pub(crate) fn of(what: &'static str, answer: Value) -> Result<Self> {
        let mut all = list(what, answer)?.into_iter();
        let word = all.next().and_then(bytes).ok_or_else(|| fault::strange(what))?;
        Ok(Self { what, word, rest: all.collect() })
    }

    pub(crate) fn begun(self) -> Result<Begun> {
        if self.word == b"started" {
            let numbers: Option<Vec<u64>> =
                self.rest.into_iter().map(|value| number(&bytes(value)?)).collect();
            return match numbers.as_deref() {
                Some(&[token, attempt]) => Ok(Begun::Started { token, attempt: attempt as u32 }),
                _ => Err(fault::strange(self.what)),
            };
        }
        let begun = match &self.word[..] {
            b"progress" => Begun::InProgress,
            b"completed" => Begun::Completed,
            b"retry" => Begun::RetryAt,
            b"held" => Begun::Held,
            b"dead" => Begun::Dead,
            b"mismatch" => return Ok(Begun::Mismatch(self.hidden_record()?)),
            _ => return Err(fault::strange(self.what)),
        };
        self.record().map(begun)
    }

    pub(crate) fn moved(self) -> Result<(), MoveError> {
        match &self.word[..] {
            b"done" => Ok(()),
            b"lease" => Err(MoveError::LeaseEnded),
            b"fenced" if self.rest.is_empty() => Err(MoveError::Fenced(None)),
            b"fenced" => Err(MoveError::Fenced(Some(self.record()?.into()))),
            b"over" => Err(MoveError::Over(self.record()?.into())),
            _ => Err(fault::strange(self.what).into()),
        }
    }

    pub(crate) fn shown(self) -> Result<Option<Record>> {
        match &self.word[..] {
            b"none" => Ok(None),
            b"found" => self.record().map(Some),
            _ => Err(fault::strange(self.what)),
        }
    }

    fn record(self) -> Result<Record> {
        let what = self.what;
        let (fields, read) = self.fields()?;
        fields.record(read, false).ok_or_else(|| damaged(what))
    }

    /// The record as somebody may see it whose input is another. What attempts said of their failures may be part of the
    /// answer, too.
    fn hidden_record(self) -> Result<Record> {
        let what = self.what;
        let (fields, read) = self.fields()?;
        let mut record = fields.record(read, true).ok_or_else(|| damaged(what))?;
        record.history.iter_mut().for_each(|past| past.reason.clear());
        Ok(record)
    }

    fn fields(self) -> Result<(Fields, Timestamp)> {
        let what = self.what;
        let mut rest = self.rest.into_iter();
        let (Some(read), Some(fields), None) = (rest.next(), rest.next(), rest.next()) else {
            return Err(fault::strange(what));
        };
        let read =
            bytes(read).and_then(|text| number(&text)).ok_or_else(|| fault::strange(what))?;
        let fields = list(what, fields)?.into_iter().map(bytes).collect();
        Ok((Fields(fields), Timestamp::from_millis(read)))
    }
}

impl Fields {
    fn get(&self, index: usize) -> Option<&[u8]> {
        self.0.get(index)?.as_deref()
    }

    fn number(&self, index: usize) -> Option<u64> {
        number(self.get(index)?)
    }

    fn record(mut self, read: Timestamp, hides_result: bool) -> Option<Record> {
        let until = self.number(1).map(Timestamp::from_millis);
        let state = match self.get(0)? {
            b"r" => State::Running { until: until? },
            b"w" => State::Waiting { until: until? },
            b"h" => State::Held,
            b"c" if hides_result => State::Completed { result: None, is_failure: false },
            b"c" => {
                let result = Some(self.0.get_mut(12)?.take()?);
                State::Completed { result, is_failure: self.get(9)? == b"1" }
            }
            b"d" => State::Dead { cause: cause_of(self.get(10)?)? },
            _ => return None,
        };
        let fingerprint = match self.get(7) {
            None => None,
            Some(bytes) => Some(Fingerprint::from_bytes(bytes.try_into().ok()?)),
        };
        Some(Record {
            state,
            attempts: self.number(3)?.try_into().ok()?,
            token: self.number(4)?,
            worker: text(self.get(6)?)?,
            fingerprint,
            first_begun: Timestamp::from_millis(self.number(5)?),
            history: history_of(self.get(11).unwrap_or_default())?,
            read,
        })
    }
}

/// Reads the ended attempts as `record.lua` writes them.
fn history_of(mut rest: &[u8]) -> Option<Vec<PastAttempt>> {
    let mut history = Vec::new();
    while !rest.is_empty() {
        let token = u64::from_be_bytes(take(&mut rest, 8)?.try_into().ok()?);
        let end = end_of(take(&mut rest, 1)?[0])?;
        let worker = text(take_sized(&mut rest)?)?;
        let reason = text(take_sized(&mut rest)?)?;
        history.push(PastAttempt { token, worker, end, reason });
    }
    Some(history)
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(count)?;
    *rest = left;
    Some(taken)
}

fn take_sized<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let size = u16::from_be_bytes(take(rest, 2)?.try_into().ok()?);
    take(rest, usize::from(size))
}

fn end_of(code: u8) -> Option<AttemptEnd> {
    Some(match code {
        1 => AttemptEnd::Completed,
        2 => AttemptEnd::Failed,
        3 => AttemptEnd::Final,
        4 => AttemptEnd::Held,
        5 => AttemptEnd::LeaseEnded,
        6 => AttemptEnd::Released,
        _ => return None,
    })
}

fn cause_of(code: &[u8]) -> Option<DeadCause> {
    Some(match code {
        b"a" => DeadCause::Attempts,
        b"f" => DeadCause::Final,
        b"l" => DeadCause::LeaseEnded,
        _ => return None,
    })
}

fn text(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok()
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn damaged(what: &'static str) -> Error {
    let why = "the record of this id cannot be read: look at it, and forget it";
    Error::new(ErrorKind::Damaged, what, why)
}

pub(crate) fn list(what: &'static str, answer: Value) -> Result<Vec<Value>> {
    match answer {
        Value::Array(all) => Ok(all),
        _ => Err(fault::strange(what)),
    }
}

/// Returns the bytes of a text; `None` of nothing, or anything else.
pub(crate) fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        _ => None,
    }
}

pub(crate) fn int(what: &'static str, answer: &Value) -> Result<i64> {
    match answer {
        Value::Int(number) => Ok(*number),
        _ => Err(fault::strange(what)),
    }
}

/// Returns the only answer of a call.
pub(crate) fn only(what: &'static str, answers: Vec<Value>) -> Result<Value> {
    let mut answers = answers.into_iter();
    match (answers.next(), answers.next()) {
        (Some(answer), None) => Ok(answer),
        _ => Err(fault::strange(what)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> Vec<Option<Vec<u8>>> {
        let history = [&[0, 0, 0, 0, 0, 0, 1, 2, 5, 0, 1][..], b"w", &[0, 2], b"no"].concat();
        [
            Some("r"),
            Some("1700"),
            None,
            Some("3"),
            Some("77"),
            Some("1600"),
            Some("w"),
            None,
            None,
            None,
            None,
        ]
        .map(|field| field.map(|text| text.as_bytes().to_vec()))
        .into_iter()
        .chain([Some(history), None])
        .collect()
    }

    fn read(fields: Vec<Option<Vec<u8>>>) -> Option<Record> {
        Fields(fields).record(Timestamp::from_millis(1_650), false)
    }

    #[test]
    fn a_record_is_read() {
        let record = read(fields()).expect("is right");
        assert_eq!(record.state, State::Running { until: Timestamp::from_millis(1_700) });
        assert_eq!((record.attempts, record.token), (3, 77));
        let past = PastAttempt {
            token: 258,
            worker: "w".into(),
            end: AttemptEnd::LeaseEnded,
            reason: "no".into(),
        };
        assert_eq!(record.history, [past]);
    }

    /// Rule 11: an unknown state is an error, and never "completed".
    #[test]
    fn what_cannot_be_read_is_no_record() {
        let set = |index: usize, value: Option<&[u8]>| {
            let mut fields = fields();
            fields[index] = value.map(<[u8]>::to_vec);
            read(fields)
        };
        let long = [7; 31];
        let cases: [(usize, Option<&[u8]>); 14] = [
            (0, None),
            (0, Some(b"x")),
            (0, Some(b"c")),
            (0, Some(b"d")),
            (1, None),
            (1, Some(b"soon")),
            (3, Some(b"99999999999")),
            (4, Some(b"-1")),
            (5, None),
            (6, None),
            (6, Some(b"\xff")),
            (7, Some(&long)),
            (11, Some(b"short")),
            (11, Some(&[0, 0, 0, 0, 0, 0, 0, 1, 99, 0, 0, 0, 0])),
        ];
        for (index, value) in cases {
            assert_eq!(set(index, value), None, "field {index} is {value:?}");
        }
        assert_eq!(read(Vec::new()), None);
    }
}
