//! The command line of `firstseen history`.

use std::ffi::OsString;

use clap::Parser;

use super::{StoreArgs, says};

const HISTORY_JSON: &str = "\
With --json, each event is an object on a line of its own:
  what          claimed, extended, forgotten, put or deleted
  row           put, deleted: of what: record, stage, payload, dead-letter or state
  stage         stage: its number
  sequence      put, deleted: number of the write; numbers only grow
  bytes         put: size of the value
  time          when, null where the log does not say: it does so of claimed and forgotten
  deadline      when the claim or row ends from then on, null if it does not, or is gone
  segment       the segment of the log where it stands
  offset        the byte in it after the entry
  copies        how many copies of it follow in the log
  claims        how many claims were written in one step with it
  rows          how many rows were
  namespaces    the namespaces that these are in; `scope/name` inside a replay scope
Times are milliseconds since 1970-01-01 UTC; beside each is the same as text, such as \"time_utc\".
What does not apply is null.";

/// Prints what the log still knows of an id: its claim, then what a ledger or table keeps for it; exit code 1 if
/// nothing, 3 if parts of the log cannot be read.
///
/// What happened long ago may be gone: compaction removes what does not count any more. Those parts that cannot be read
/// are on standard error, and the rest is told all the same. Reads the whole log; also answers where the folder cannot be
/// written to.
#[derive(Debug, Parser)]
#[command(after_long_help = HISTORY_JSON)]
#[command(mut_arg("json", says("Print one JSON object for each event")))]
pub(crate) struct HistoryArgs {
    /// The id: the bytes of the argument as they are, with `--` in front of one that begins with a hyphen.
    #[arg(value_name = "ID")]
    pub(crate) id: OsString,

    #[command(flatten)]
    pub(crate) store: StoreArgs,

    /// Namespace of the id; that of a ledger or table has the same name.
    #[arg(long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,

    /// The id is given in hexadecimal digits, two for each byte.
    #[arg(long)]
    pub(crate) hex: bool,
}
