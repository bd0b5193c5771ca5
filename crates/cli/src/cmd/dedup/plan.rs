//! What a run of `dedup` will do: the command line, checked as a whole.

use std::path::PathBuf;

use firstseen::{Durability, Ttl};

use crate::args::{BadInput, DedupArgs, WaitArgs};
use crate::input::{Ending, Source};
use crate::output::Failure;

use super::id::Split;
use super::json::Pointer;
use super::summary::Voice;

/// A run, ready to start.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(super) struct Plan {
    pub(super) sources: Vec<Source>,
    pub(super) store: PathBuf,
    pub(super) id: IdRule,
    pub(super) ttl: Option<Ttl>,
    pub(super) namespace: Option<String>,
    pub(super) durability: Durability,
    pub(super) duplicates_to: Option<PathBuf>,
    pub(super) on_bad_input: BadInput,
    /// The byte that ends a line.
    pub(super) terminator: u8,
    pub(super) memory: Option<usize>,
    pub(super) wait: WaitArgs,
    pub(super) show: Show,
    pub(super) sliding: bool,
    pub(super) dry_run: bool,
    pub(super) voice: Voice,
    /// Whether a carriage return at the end of a line is left out of its id.
    pub(super) trim: bool,
    pub(super) skip_empty: bool,
    /// Longest id accepted, in bytes.
    pub(super) id_bytes_max: usize,
}

/// What is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Show {
    FirstSeen,
    Repeated,
    Counts,
}

/// Where in a line its id is.
#[derive(Debug)]
pub(super) enum IdRule {
    /// The line is the id.
    Line,
    /// The values that JSON pointers name.
    Json(Vec<Pointer>),
    /// Fields of the line, counted from 0.
    Field { columns: Vec<usize>, split: Split },
    /// Columns of a CSV file.
    Csv {
        /// As written: only the header line can tell whether one is a name or a number.
        columns: Vec<String>,
        /// Counted from 0, if there is no header line.
        indices: Option<Vec<usize>>,
        delimiter: u8,
    },
}

impl Plan {
    /// Checks a command line.
    pub(super) fn new(args: DedupArgs) -> Result<Self, Failure> {
        let voice = Voice::of(&args);
        let indices = args.no_header.then(|| args.csv.iter().map(|column| column_number(column)));
        let indices = indices.map(Iterator::collect).transpose()?;
        let delimiter = args.delimiter.as_deref().map(one_byte).transpose()?;
        let id = if !args.key.is_empty() {
            IdRule::Json(args.key.iter().map(|key| Pointer::parse(key)).collect::<Result<_, _>>()?)
        } else if !args.field.is_empty() {
            let split =
                if args.blanks { Split::Blanks } else { Split::At(delimiter.unwrap_or(b'\t')) };
            let column = |number: &usize| {
                number.checked_sub(1).ok_or_else(|| Failure::call("--field counts from 1"))
            };
            let columns = args.field.iter().map(column).collect::<Result<_, _>>()?;
            IdRule::Field { columns, split }
        } else if !args.csv.is_empty() {
            IdRule::Csv { columns: args.csv, indices, delimiter: delimiter.unwrap_or(b',') }
        } else if delimiter.is_some() {
            return Err(Failure::call("--delimiter goes with --field or --csv"));
        } else {
            IdRule::Line
        };
        let terminator = if args.null { 0 } else { b'\n' };
        match id {
            IdRule::Field { split: Split::At(delimiter), .. } if delimiter == terminator => {
                return Err(Failure::call("the delimiter cannot be what ends a line"));
            }
            IdRule::Csv { delimiter: b'\n' | b'\r' | b'"', .. } => {
                return Err(Failure::call("CSV cannot be delimited by a line end or a quote"));
            }
            _ => {}
        }
        Ok(Self {
            sources: Source::all(args.files),
            store: args.store,
            id,
            ttl: args.ttl,
            namespace: args.namespace,
            durability: args.durability.into(),
            duplicates_to: args.duplicates_to,
            on_bad_input: args.on_bad_input,
            terminator,
            memory: args.memory,
            wait: args.wait,
            show: match (args.repeated, args.count) {
                (true, _) => Show::Repeated,
                (_, true) => Show::Counts,
                _ => Show::FirstSeen,
            },
            sliding: args.sliding,
            dry_run: args.dry_run,
            voice,
            trim: args.trim,
            skip_empty: args.skip_empty,
            id_bytes_max: args.max_id.unwrap_or(usize::MAX),
        })
    }

    /// Returns what ends a record of the input.
    pub(super) fn ending(&self) -> Ending {
        match self.id {
            IdRule::Csv { delimiter, .. } => Ending::Csv { delimiter },
            _ => Ending::Byte(self.terminator),
        }
    }
}

/// Parses the number of a column into its index.
fn column_number(column: &str) -> Result<usize, Failure> {
    let number = column.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
    number.ok_or_else(|| {
        Failure::call(format!("with --no-header a column has a number, from 1, not {column:?}"))
    })
}

/// Parses a delimiter: one byte, or an escape for one that is hard to type in a shell.
fn one_byte(text: &str) -> Result<u8, Failure> {
    match text.as_bytes() {
        [byte] => Ok(*byte),
        br"\t" => Ok(b'\t'),
        br"\0" => Ok(0),
        br"\\" => Ok(b'\\'),
        _ => Err(Failure::call(format!("--delimiter is one byte, not {text:?}"))),
    }
}
