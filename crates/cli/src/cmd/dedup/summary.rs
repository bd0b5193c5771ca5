//! What a run of `dedup` reports at its end.

use firstseen::{Clock as _, SystemClock};
use serde::Serialize;

use crate::args::DedupArgs;
use crate::output::{self, Exit, Failure, counted, grouped};

/// What was done with the lines so far.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) lines: u64,
    pub(super) first_seen: u64,
    pub(super) duplicates: u64,
    pub(super) bad: u64,
    /// Empty lines left out on request.
    pub(super) skipped: u64,
    pub(super) bytes: u64,
    pub(super) first_bad: Option<String>,
}

impl Tally {
    /// Adds the tally of a batch.
    pub(super) fn add(&mut self, batch: Self) {
        self.lines += batch.lines;
        self.first_seen += batch.first_seen;
        self.duplicates += batch.duplicates;
        self.bad += batch.bad;
        self.skipped += batch.skipped;
        self.bytes += batch.bytes;
        if self.first_bad.is_none() {
            self.first_bad = batch.first_bad;
        }
    }
}

/// Measures how long a run takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stopwatch {
    start_ms: u64,
}

impl Stopwatch {
    pub(super) fn start() -> Self {
        Self { start_ms: SystemClock.elapsed_ms() }
    }

    pub(super) fn ms(self) -> u64 {
        SystemClock.elapsed_ms().saturating_sub(self.start_ms)
    }
}

/// The summary as JSON.
#[derive(Debug, Serialize)]
struct Summary<'a> {
    lines: u64,
    first_seen: u64,
    duplicates: u64,
    bad: u64,
    skipped: u64,
    bytes: u64,
    seconds: f64,
    lines_per_second: u64,
    /// Whether the reader of standard output went away before the end.
    output_closed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped_by: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_bad: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

/// How a run reports at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Voice {
    /// A sentence.
    Sentence,
    /// One JSON object.
    Json,
    /// Errors only.
    Quiet,
}

impl Voice {
    pub(super) fn of(args: &DedupArgs) -> Self {
        match (args.json, args.quiet) {
            (true, _) => Self::Json,
            (_, true) => Self::Quiet,
            _ => Self::Sentence,
        }
    }

    /// Returns whether there is somebody to see a progress bar.
    pub(super) fn is_for_people(self) -> bool {
        self == Self::Sentence
    }
}

/// Reports how a run ended: for a person the summary and then the error, if there was one; with `--json` one object
/// that holds both.
pub(super) fn finish(
    tally: &Tally,
    watch: Stopwatch,
    voice: Voice,
    result: Result<(), Failure>,
) -> Result<Exit, Failure> {
    let ms = watch.ms();
    let per_second = u64::try_from(u128::from(tally.lines) * 1000 / u128::from(ms.max(1)));
    let lines_per_second = per_second.unwrap_or(u64::MAX);
    if voice != Voice::Json {
        let worth_it = match result {
            Ok(()) | Err(Failure::Stopped(_)) => true,
            Err(Failure::Told { .. }) => tally.lines > 0,
            Err(Failure::Closed) => false,
        };
        if voice == Voice::Sentence && worth_it {
            // Print the error that ends the run only once.
            let is_error = |bad: &&String| matches!(&result, Err(Failure::Told { message, .. }) if message == *bad);
            let first_bad = tally.first_bad.as_ref().filter(|bad| !is_error(bad));
            output::say(&sentence(tally, first_bad, ms, lines_per_second));
        }
        return result.map(|()| Exit::Done);
    }
    let (closed, error, exit) = match &result {
        Ok(()) => (false, None, Exit::Done),
        Err(Failure::Closed) => (true, None, Exit::Closed),
        Err(Failure::Stopped(exit)) => (false, None, *exit),
        Err(Failure::Told { exit, message }) => (false, Some(message.as_str()), *exit),
    };
    let summary = Summary {
        lines: tally.lines,
        first_seen: tally.first_seen,
        duplicates: tally.duplicates,
        bad: tally.bad,
        skipped: tally.skipped,
        bytes: tally.bytes,
        seconds: ms as f64 / 1000.0,
        lines_per_second,
        output_closed: closed,
        stopped_by: match exit {
            Exit::Interrupted => Some("SIGINT"),
            Exit::Terminated => Some("SIGTERM"),
            _ => None,
        },
        first_bad: tally.first_bad.as_deref(),
        error,
    };
    output::say(&output::json(&summary)?);
    Ok(exit)
}

fn sentence(tally: &Tally, first_bad: Option<&String>, ms: u64, lines_per_second: u64) -> String {
    let [first, bad] = [tally.first_seen, tally.bad].map(grouped);
    let [lines, duplicates] =
        [counted(tally.lines, "line"), counted(tally.duplicates, "duplicate")];
    let mut text = format!(
        "firstseen: {lines}, {first} first seen, {duplicates}, {bad} bad; \
         {}.{:02} s, {} lines/s",
        ms / 1000,
        ms % 1000 / 10,
        grouped(lines_per_second)
    );
    if tally.skipped > 0 {
        text.push_str("; ");
        text.push_str(&grouped(tally.skipped));
        text.push_str(" empty skipped");
    }
    if let Some(first_bad) = first_bad {
        text.push_str("; the first bad one: ");
        text.push_str(first_bad);
    }
    text
}
