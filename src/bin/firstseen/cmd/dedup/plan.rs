//! What a run of `dedup` is to do: the command line, checked as a whole.

use std::path::PathBuf;

use firstseen::{Durability, Ttl};

use crate::args::{BadInput, DedupArgs, WaitArgs};
use crate::input::{Ending, Source};
use crate::output::Failure;

use super::json::Pointer;

/// A run, ready to start.
#[derive(Debug)]
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
}

/// Where the id of a line stands.
#[derive(Debug)]
pub(super) enum IdRule {
    /// The line is the id.
    Line,
    /// The value that a JSON pointer names.
    Json(Pointer),
    /// A field of the line, counted from 0.
    Field { index: usize, delimiter: u8 },
    /// A column of a CSV file.
    Csv {
        /// As it was written: only the header line can say whether it is a name or a number.
        column: String,
        delimiter: u8,
    },
}

impl Plan {
    /// Checks a command line.
    pub(super) fn new(args: DedupArgs) -> Result<Self, Failure> {
        let delimiter = args.delimiter.as_deref().map(one_byte).transpose()?;
        let id = match (args.key, args.field, args.csv) {
            (Some(key), _, _) => IdRule::Json(Pointer::parse(&key)?),
            (_, Some(number), _) => IdRule::Field {
                index: number
                    .checked_sub(1)
                    .ok_or_else(|| Failure::call("--field counts from 1"))?,
                delimiter: delimiter.unwrap_or(b'\t'),
            },
            (_, _, Some(column)) => IdRule::Csv { column, delimiter: delimiter.unwrap_or(b',') },
            (None, None, None) if delimiter.is_some() => {
                return Err(Failure::call("--delimiter goes with --field or --csv"));
            }
            (None, None, None) => IdRule::Line,
        };
        let terminator = if args.null { 0 } else { b'\n' };
        match id {
            IdRule::Field { delimiter, .. } if delimiter == terminator => {
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
        })
    }

    /// What ends a record of the input.
    pub(super) fn ending(&self) -> Ending {
        match self.id {
            IdRule::Csv { delimiter, .. } => Ending::Csv { delimiter },
            _ => Ending::Byte(self.terminator),
        }
    }
}

/// A delimiter: one byte, or one of the escapes that a shell makes hard to type.
fn one_byte(text: &str) -> Result<u8, Failure> {
    match text.as_bytes() {
        [byte] => Ok(*byte),
        br"\t" => Ok(b'\t'),
        br"\0" => Ok(0),
        br"\\" => Ok(b'\\'),
        _ => Err(Failure::call(format!("--delimiter is one byte, not {text:?}"))),
    }
}
