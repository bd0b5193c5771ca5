//! The child's reports to its parent, one line each. A line is one system call and shorter than what a pipe takes
//! atomically, so lines of several threads do not mix and only the last one can be cut off.

use crate::report::Verdict;
use std::fmt::Write as _;

/// Keeps every line well below the 4,096 bytes that a pipe takes atomically.
pub(crate) const IDS_PER_LINE_MAX: u64 = 100;

/// Ids are of three families, about which the oracle can tell different things.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Family {
    /// Claimed without ttl, by any thread.
    Ever,
    /// Claimed with a ttl of [`SHORT_MS`](crate::subject::SHORT_MS), by any thread.
    Short,
    /// Claimed without ttl, by any thread, in a namespace of its own.
    Beside,
    /// Claimed and forgotten by one thread only, so that the order of events is known.
    Own,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Process,
    Disk,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Claim,
    Reserve,
    Confirm,
    Forget,
    Contains,
    Sync,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) verb: Verb,
    pub(crate) family: Family,
    pub(crate) level: Level,
    pub(crate) ids: Vec<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The id is claimed by this call; reserved, in reply to `Reserve`.
    First,
    /// With the time of the first claim, in milliseconds.
    Duplicate(u64),
    InProgress,
    Yes,
    No,
}

/// An error, by what it tells about the requested claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No space; nothing was claimed.
    Full,
    /// Timed out; nothing was claimed.
    Retry,
    /// The store has stopped; the claim may or may not exist.
    Stopped(String),
    /// Another process has the store open.
    Locked(String),
    /// The store is damaged and must be repaired.
    Damaged(String),
    /// Any other error: no test here should cause one.
    Other(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Asked {
        thread: u64,
        at_us: u64,
        question: Question,
    },
    Answered {
        thread: u64,
        at_us: u64,
        answers: Result<Vec<Answer>, Refusal>,
    },
    /// State of the child: `opening`, `open`, `repairing`, `repaired`, `closed`, `refused ...`.
    Note(String),
}

const VERBS: [(Verb, &str); 6] = [
    (Verb::Claim, "claim"),
    (Verb::Reserve, "reserve"),
    (Verb::Confirm, "confirm"),
    (Verb::Forget, "forget"),
    (Verb::Contains, "contains"),
    (Verb::Sync, "sync"),
];
const FAMILIES: [(Family, &str); 4] = [
    (Family::Ever, "ever"),
    (Family::Short, "short"),
    (Family::Beside, "beside"),
    (Family::Own, "own"),
];
const LEVELS: [(Level, &str); 2] = [(Level::Process, "process"), (Level::Disk, "disk")];

fn name_of<T: Copy + PartialEq>(table: &[(T, &'static str)], value: T) -> &'static str {
    table.iter().find(|(own, _)| *own == value).expect("the table is complete").1
}

fn by_name<T: Copy>(table: &[(T, &str)], name: &str) -> Option<T> {
    table.iter().find(|(_, own)| *own == name).map(|(value, _)| *value)
}

impl Family {
    pub(crate) fn name(self) -> &'static str {
        name_of(&FAMILIES, self)
    }
}

impl Refusal {
    fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::Full => ("full", ""),
            Self::Retry => ("retry", ""),
            Self::Stopped(what) => ("stopped", what),
            Self::Locked(what) => ("locked", what),
            Self::Damaged(what) => ("damaged", what),
            Self::Other(what) => ("other", what),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (kind, what) = text.split_once(' ')?;
        let what = what.to_owned();
        Some(match kind {
            "full" => Self::Full,
            "retry" => Self::Retry,
            "stopped" => Self::Stopped(what),
            "locked" => Self::Locked(what),
            "damaged" => Self::Damaged(what),
            "other" => Self::Other(what),
            _ => return None,
        })
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (kind, what) = self.parts();
        write!(f, "{kind} {}", what.replace('\n', " "))
    }
}

fn answer_text(answer: Answer) -> String {
    match answer {
        Answer::First => "F".to_owned(),
        Answer::Duplicate(ms) => format!("D{ms}"),
        Answer::InProgress => "P".to_owned(),
        Answer::Yes => "Y".to_owned(),
        Answer::No => "N".to_owned(),
    }
}

fn parse_answer(text: &str) -> Option<Answer> {
    Some(match text {
        "F" => Answer::First,
        "P" => Answer::InProgress,
        "Y" => Answer::Yes,
        "N" => Answer::No,
        other => Answer::Duplicate(other.strip_prefix('D')?.parse().ok()?),
    })
}

fn joined<T>(items: &[T], text: impl Fn(&T) -> String) -> String {
    items.iter().map(text).collect::<Vec<_>>().join(",")
}

impl Event {
    pub(crate) fn write(&self, line: &mut String) {
        line.clear();
        match self {
            Self::Asked { thread, at_us, question: Question { verb, family, level, ids } } => {
                let (verb, level) = (name_of(&VERBS, *verb), name_of(&LEVELS, *level));
                let ids = joined(ids, u64::to_string);
                write!(line, "> {thread} {at_us} {verb} {} {level} {ids}", family.name())
            }
            Self::Answered { thread, at_us, answers: Ok(answers) } => {
                let answers = joined(answers, |answer| answer_text(*answer));
                write!(line, "< {thread} {at_us} ok {answers}")
            }
            Self::Answered { thread, at_us, answers: Err(refusal) } => {
                write!(line, "< {thread} {at_us} no {refusal}")
            }
            Self::Note(what) => write!(line, "! {what}"),
        }
        .expect("a string takes it");
        line.push('\n');
    }

    /// `None` for the output of the test runner.
    pub(crate) fn parse(line: &str) -> Verdict<Option<Self>> {
        let parsed = match line.as_bytes().first() {
            Some(b'>') => Self::parse_asked(line),
            Some(b'<') => Self::parse_answered(line),
            Some(b'!') => Some(Self::Note(line[2..].to_owned())),
            _ => return Ok(None),
        };
        parsed.map(Some).ok_or_else(|| format!("the child wrote what nobody understands: {line}"))
    }

    fn parse_asked(line: &str) -> Option<Self> {
        let mut words = line[2..].split(' ');
        let thread = words.next()?.parse().ok()?;
        let at_us = words.next()?.parse().ok()?;
        let verb = by_name(&VERBS, words.next()?)?;
        let family = by_name(&FAMILIES, words.next()?)?;
        let level = by_name(&LEVELS, words.next()?)?;
        let ids = words.next()?.split(',').filter(|id| !id.is_empty());
        let ids = ids.map(|id| id.parse().ok()).collect::<Option<Vec<u64>>>()?;
        Some(Self::Asked { thread, at_us, question: Question { verb, family, level, ids } })
    }

    fn parse_answered(line: &str) -> Option<Self> {
        let mut words = line[2..].splitn(4, ' ');
        let thread = words.next()?.parse().ok()?;
        let at_us = words.next()?.parse().ok()?;
        let answers = match (words.next()?, words.next()?) {
            ("ok", list) => {
                let list = list.split(',').filter(|answer| !answer.is_empty());
                Ok(list.map(parse_answer).collect::<Option<Vec<_>>>()?)
            }
            ("no", refusal) => Err(Refusal::parse(refusal)?),
            _ => return None,
        };
        Some(Self::Answered { thread, at_us, answers })
    }
}
