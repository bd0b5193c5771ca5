//! What the binary prints and how it ends: the only file that prints messages, and the only one that knows what an exit
//! code means.

use std::fmt::Display;
use std::io::{self, Write as _};
use std::process::ExitCode;

use firstseen::ErrorKind;
use serde::Serialize;

/// How the process ends. Scripts branch on these numbers, so they never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done, or the id was seen.
    Done = 0,
    /// The id was not seen; there is no such record.
    NotSeen = 1,
    /// The call is wrong; the same call fails again.
    Call = 2,
    /// The data, the disk or the machine is at fault; the call is right.
    Data = 3,
    /// The reader of standard output went away before the end. The number that a shell shows for a program killed by
    /// SIGPIPE, as most others are in this case.
    Closed = 141,
    /// SIGINT ended the run, in order. The number that a shell shows for a program killed by it.
    Interrupted = 130,
    /// SIGTERM ended the run, in order.
    Terminated = 143,
}

impl Exit {
    /// An id was a duplicate (`claim`).
    pub(crate) const DUPLICATE: Self = Self::NotSeen;
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command stopped early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The reader of standard output went away.
    Closed,
    /// A signal ended the run, in order.
    Stopped(Exit),
    /// A fault, with its one-line message.
    Told {
        /// How the process ends.
        exit: Exit,
        /// What went wrong, for a person, without the program name in front.
        message: String,
    },
}

/// Returns whether the process has as many files open as it may (EMFILE).
pub(crate) fn is_short_of_files(error: &io::Error) -> bool {
    error.raw_os_error() == Some(24)
}

impl Failure {
    /// Reports a refusal by the operating system and, if too many files are open, how to allow more.
    pub(crate) fn of_system(doing: &str, error: &io::Error) -> Self {
        let more = "; raise the limit on open files of this process (`ulimit -n`)";
        let hint = if is_short_of_files(error) { more } else { "" };
        Self::data(format!("cannot {doing}: {error}{hint}"))
    }

    /// Reports a wrong call.
    pub(crate) fn call(message: impl Into<String>) -> Self {
        Self::Told { exit: Exit::Call, message: message.into() }
    }

    /// Says in front of the message what it is about.
    pub(crate) fn about(self, what: &str) -> Self {
        match self {
            Self::Told { exit, message } => {
                Self::Told { exit, message: format!("{what}: {message}") }
            }
            other => other,
        }
    }

    /// Reports a fault of the data or the disk.
    pub(crate) fn data(message: impl Into<String>) -> Self {
        Self::Told { exit: Exit::Data, message: message.into() }
    }
}

impl From<firstseen::Error> for Failure {
    /// Converts an engine error; the one place where it becomes an exit code.
    fn from(error: firstseen::Error) -> Self {
        let mut message = error.to_string();
        if let firstseen::Error::Io { doing, source, .. } = &error
            && !matches!(*doing, "open" | "read" | "list")
            && matches!(
                source.kind(),
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
            )
        {
            message.push_str(" (this command writes to the folder of the store)");
        }
        if error.kind() == ErrorKind::Locked {
            message.push_str("; --wait DURATION waits for it");
        }
        if matches!(error, firstseen::Error::InDoubt) {
            message.push_str("; `firstseen prepared list` shows them");
        }
        match error.kind() {
            ErrorKind::FixCall => Self::call(message),
            // A store in use, a full disk, damage, a stopped store: the call was right.
            _ => Self::data(message),
        }
    }
}

/// Returns how the process ends, and prints what went wrong.
pub(crate) fn ended(result: Result<Exit, Failure>) -> Exit {
    match result {
        Ok(exit) | Err(Failure::Stopped(exit)) => exit,
        // The reader of our output wanted no more: no fault, so print nothing, but not everything was done either.
        Err(Failure::Closed) => Exit::Closed,
        Err(Failure::Told { exit, message }) => {
            complain(&message);
            exit
        }
    }
}

/// Prints one line on standard error.
///
/// A failed write is ignored: if standard error is gone, there is nobody left to tell.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Prints what went wrong, in one line whatever the message holds: file names and ids are foreign text, and a control
/// character in them must not reach the terminal.
pub(crate) fn complain(message: &str) {
    say(&format!("firstseen: {}", printable(&message.replace('\n', " "))));
}

/// Returns foreign text with its control characters escaped.
pub(crate) fn printable(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

/// Prints a short answer and a line end on standard output.
///
/// A reader that has gone away is no failure here: the exit code carries the answer, too.
pub(crate) fn print(answer: impl Display) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{answer}")
        .and_then(|()| out.flush())
        .map_err(|error| stdout_failure(&error))
    {
        Ok(()) | Err(Failure::Closed) => Ok(()),
        Err(failure) => Err(failure),
    }
}

/// Prints bytes as they are on standard output.
pub(crate) fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| stdout_failure(&error))
}

/// Prints an answer for a program: one JSON object on its own line.
pub(crate) fn print_json(answer: &impl Serialize) -> Result<(), Failure> {
    print(json(answer)?)
}

/// Prints an answer for a person or, with `--json`, for a program.
pub(crate) fn report<T: Display + Serialize>(answer: &T, as_json: bool) -> Result<(), Failure> {
    if as_json { print_json(answer) } else { print(answer) }
}

/// Returns the JSON text of an answer.
pub(crate) fn json(answer: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(answer)
        .map_err(|error| Failure::data(format!("cannot write JSON: {error}")))
}

/// Returns the failure for a failed write to standard output: a quiet one if its reader went away.
pub(crate) fn stdout_failure(error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        Failure::Closed
    } else {
        Failure::data(format!("cannot write to standard output: {error}"))
    }
}

/// Formats a number and what is counted, in the plural unless it is one.
pub(crate) fn counted(number: u64, what: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{} {what}{s}", grouped(number))
}

/// Formats a number with its thousands separated, for people.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3 + 1);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Failure, grouped};
    use std::io;

    #[test]
    fn a_store_that_cannot_be_written_says_why_that_matters() {
        for kind in [io::ErrorKind::PermissionDenied, io::ErrorKind::ReadOnlyFilesystem] {
            let (doing, path) = ("create", "seen.db/MANIFEST.new".into());
            let error = firstseen::Error::Io { doing, path, source: kind.into() };
            let failure = format!("{:?}", Failure::from(error));
            assert!(failure.contains("writes to the folder"), "{failure}");
        }
    }

    #[test]
    fn groups_thousands() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1000), "1,000");
        assert_eq!(grouped(12_345_678), "12,345,678");
        assert_eq!(grouped(u64::MAX), "18,446,744,073,709,551,615");
    }
}
