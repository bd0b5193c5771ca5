//! The outside record: one line a write, appended by every thread of every child and by the parent. It is the only
//! witness of what was begun, done and acknowledged.

use crate::report::Verdict;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

/// Whose line it is: an attempt of a child. Children are numbered as they start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Who {
    pub(crate) child: u64,
    pub(crate) id: u64,
    pub(crate) token: u64,
}

/// What an attempt did. Times are those of the wall clock, in microseconds; leases end at a time of the store, in
/// milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// `begin` was asked and answered "started" between these times.
    Started { asked_us: u64, at_us: u64, until_ms: u64 },
    /// The work of a stage, which nobody takes back. A guarded one was let through by the resource.
    Effect { stage: u64 },
    /// The resource has refused a guarded effect: it knows a higher token.
    Stale,
    /// A stage was acknowledged as saved.
    Saved { stage: u64, asked_us: u64, until_ms: u64 },
    /// Its lease was acknowledged as extended.
    Renewed { asked_us: u64, until_ms: u64 },
    /// It is about to say how it went, or to be dropped.
    Ending { at_us: u64 },
    /// A completion was acknowledged; these attempts did its stages.
    Completed { asked_us: u64, by: [u64; 2] },
    /// It is about to be completed with these.
    Completing { by: [u64; 2] },
    /// It is about to hand the record back, which is not charged.
    Released,
    /// Something that it said was refused: another has taken over.
    Fenced,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    By(Who, What),
    /// The parent has seen the end of a child.
    Killed(u64),
    /// A child has opened the store.
    Open(u64),
    /// An operator is about to redrive an id.
    Redrive(u64),
    /// A child has heard that every id has ended.
    AllEnded(u64),
}

/// A line without this was cut off by a kill.
const END: &str = " .";

impl Line {
    fn text(&self) -> String {
        let (name, numbers): (&str, Vec<u64>) = match *self {
            Self::Killed(child) => ("killed", vec![child]),
            Self::Open(child) => ("open", vec![child]),
            Self::Redrive(id) => ("redrive", vec![id]),
            Self::AllEnded(child) => ("all-ended", vec![child]),
            Self::By(Who { child, id, token }, what) => {
                let (name, more) = match what {
                    What::Started { asked_us, at_us, until_ms } => {
                        ("started", vec![asked_us, at_us, until_ms])
                    }
                    What::Effect { stage } => ("effect", vec![stage]),
                    What::Stale => ("stale", vec![]),
                    What::Saved { stage, asked_us, until_ms } => {
                        ("saved", vec![stage, asked_us, until_ms])
                    }
                    What::Renewed { asked_us, until_ms } => ("renewed", vec![asked_us, until_ms]),
                    What::Ending { at_us } => ("ending", vec![at_us]),
                    What::Completed { asked_us, by } => ("completed", vec![asked_us, by[0], by[1]]),
                    What::Completing { by } => ("completing", by.to_vec()),
                    What::Released => ("released", vec![]),
                    What::Fenced => ("fenced", vec![]),
                };
                (name, [vec![child, id, token], more].concat())
            }
        };
        let numbers: Vec<String> = numbers.iter().map(u64::to_string).collect();
        format!("{name} {}", numbers.join(" "))
    }

    fn parse(text: &str) -> Option<Self> {
        let (name, numbers) = text.split_once(' ')?;
        let numbers = numbers.split(' ').map(|word| word.parse().ok());
        let numbers = numbers.collect::<Option<Vec<u64>>>()?;
        let (who, more) = match (name, &numbers[..]) {
            ("killed", [child]) => return Some(Self::Killed(*child)),
            ("open", [child]) => return Some(Self::Open(*child)),
            ("redrive", [id]) => return Some(Self::Redrive(*id)),
            ("all-ended", [child]) => return Some(Self::AllEnded(*child)),
            (_, [child, id, token, more @ ..]) => {
                (Who { child: *child, id: *id, token: *token }, more)
            }
            _ => return None,
        };
        let what = match (name, more) {
            ("started", &[asked_us, at_us, until_ms]) => {
                What::Started { asked_us, at_us, until_ms }
            }
            ("effect", &[stage]) => What::Effect { stage },
            ("stale", []) => What::Stale,
            ("saved", &[stage, asked_us, until_ms]) => What::Saved { stage, asked_us, until_ms },
            ("renewed", &[asked_us, until_ms]) => What::Renewed { asked_us, until_ms },
            ("ending", &[at_us]) => What::Ending { at_us },
            ("completed", &[asked_us, one, two]) => What::Completed { asked_us, by: [one, two] },
            ("completing", &[one, two]) => What::Completing { by: [one, two] },
            ("released", []) => What::Released,
            ("fenced", []) => What::Fenced,
            _ => return None,
        };
        Some(Self::By(who, what))
    }
}

pub(crate) struct Book(File);

impl Book {
    pub(crate) fn open(path: &Path) -> Self {
        let file = OpenOptions::new().create(true).append(true).open(path);
        Self(file.expect("the record opens"))
    }

    /// Appends a line with one system call.
    pub(crate) fn write(&self, line: Line) {
        let text = format!("{}{END}\n", line.text());
        (&self.0).write_all(text.as_bytes()).expect("the record takes a line");
    }

    /// Ends a line that a kill has cut off, and notes the end of the child.
    pub(crate) fn write_killed(&self, child: u64) {
        (&self.0).write_all(b"\n").expect("the record takes a line");
        self.write(Line::Killed(child));
    }
}

/// Reads the record. Of the lines before the end of a child, each thread's last may be cut off.
pub(crate) fn read(path: &Path) -> Verdict<Vec<Line>> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("the record: {e}"))?;
    let whole = text.lines().filter_map(|line| line.strip_suffix(END));
    let parsed = whole.map(|line| Line::parse(line).ok_or_else(|| format!("no line: {line:?}")));
    parsed.collect()
}

/// Returns the wall clock in the unit of the store, as a time that is not over yet.
pub(crate) fn ms_of(us: u64) -> u64 {
    us / 1_000 + 1
}
