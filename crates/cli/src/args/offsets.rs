//! The command line of `firstseen offsets`.

use clap::Parser;

use super::{StoreArgs, parse_limit, says};

const OFFSETS_JSON: &str = "\
With --json, each partition is an object on a line of its own:
  source        name of its source
  partition     its number
  next          the next offset to read
  epoch         epoch of its owner, 0 if it never had one";

/// Lists how far sources have been read: the next offset of each partition, by source; exit code 3 if those of a
/// source cannot be read.
///
/// A program that reads a source commits its offsets with this library, in one step with the effects of what it has
/// read. No other process may have the store open. What is wrong with a source is on standard error, and the others are
/// listed all the same.
#[derive(Debug, Parser)]
#[command(after_long_help = OFFSETS_JSON)]
#[command(mut_arg("json", says("Print one JSON object for each partition")))]
pub(crate) struct OffsetsArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,

    /// Only the partitions of this source.
    #[arg(long, value_name = "NAME")]
    pub(crate) source: Option<String>,

    /// At most so many partitions.
    #[arg(long, value_name = "N", value_parser = parse_limit, allow_hyphen_values = true)]
    pub(crate) limit: Option<usize>,
}
