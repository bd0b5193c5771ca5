//! The command line of `firstseen prepared`.

use std::ffi::OsString;

use clap::{Parser, Subcommand};

use super::{StoreArgs, parse_limit, says};

const PREPARED_JSON: &str = "\
With --json, each transaction is an object on a line of its own:
  gid           the name that its coordinator gave it; \"gid_hex\" in its place if it is not UTF-8
  since         when it was prepared
  age_ms        for how long it has been, in milliseconds
  claims        how many ids it will claim
  rows          how many rows it will write: values, offsets, messages, records of ledgers
Times are milliseconds since 1970-01-01 UTC; beside each is the same as text, such as \"since_utc\".";

const END_JSON: &str = "\
With --json: {\"gid\":\"transfer-1\",\"state\":\"committed\",\"changed\":true}; \"gid_hex\" if it is not UTF-8.
`state` is that after the call: committed, rolled-back, or null if no such transaction is known.
`changed` is whether this call has done it; where it was done before, the exit code is 0, too.";

/// What to do with prepared transactions.
#[derive(Debug, Subcommand)]
pub(crate) enum PreparedCommand {
    List(PreparedListArgs),
    /// Commits a prepared transaction: all of it, on disk; exit code 1 if it was rolled back, or is not known.
    ///
    /// May be repeated: what was committed before is done. How a transaction ended is known for a week. Ask its
    /// coordinator first: commit here what is committed elsewhere, and nothing else.
    Commit(PreparedEndArgs),
    /// Rolls a prepared transaction back: nothing of it happens; exit code 1 if it was committed, or is not known.
    ///
    /// May be repeated: what was rolled back before is done. How a transaction ended is known for a week. Ask its
    /// coordinator first: roll back here what is rolled back elsewhere, and nothing else.
    Rollback(PreparedEndArgs),
}

/// Lists the transactions that are prepared, and neither committed nor rolled back, the oldest first.
///
/// What they hold answers to nobody until they end: the store never ends one itself. A gid that is not printable UTF-8
/// is shown as 0x and hexadecimal digits.
#[derive(Debug, Parser)]
#[command(after_long_help = PREPARED_JSON)]
#[command(mut_arg("json", says("Print one JSON object for each transaction")))]
pub(crate) struct PreparedListArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,

    /// At most so many transactions, the oldest.
    #[arg(long, value_name = "N", value_parser = parse_limit, allow_hyphen_values = true)]
    pub(crate) limit: Option<usize>,
}

#[derive(Debug, Parser)]
#[command(after_long_help = END_JSON)]
pub(crate) struct PreparedEndArgs {
    /// The gid, which `prepared list` prints: the bytes of the argument as they are, with `--` in front of one that
    /// begins with a hyphen.
    #[arg(value_name = "GID")]
    pub(crate) gid: OsString,

    #[command(flatten)]
    pub(crate) store: StoreArgs,

    /// The gid is given in hexadecimal digits, two for each byte.
    #[arg(long)]
    pub(crate) hex: bool,
}
