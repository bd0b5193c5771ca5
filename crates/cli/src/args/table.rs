//! The command line of `firstseen table`.

use std::ffi::OsString;

use clap::{Parser, Subcommand};

use super::{StoreArgs, parse_limit, says};

const ENTRY_JSON: &str = "\
With --json, each value is an object on a line of its own:
  table         name of its table
  key           its key; \"key_hex\" in its place if that is not UTF-8
  value         the value; \"value_hex\" in its place if it is not printable UTF-8, and always with
                --hex-values
  version       number of the write that it is of; numbers only grow
  ends          when it ends by itself, null if it does not
Times are milliseconds since 1970-01-01 UTC; beside each is the same as text, such as \"ends_utc\".

Values are bytes. A table with values of a type (`Store::table`) holds them in bincode, which does
not say what the type is, and may look like text by chance: use --hex-values for it.";

/// What to do with state tables.
#[derive(Debug, Subcommand)]
pub(crate) enum TableCommand {
    Get(TableGetArgs),
    Scan(TableScanArgs),
}

/// Prints the value of a key, its version and its end; exit code 1 if it has none.
#[derive(Debug, Parser)]
#[command(after_long_help = ENTRY_JSON)]
#[command(mut_arg("json", says("Print one JSON object; nothing if there is no value")))]
pub(crate) struct TableGetArgs {
    /// Name of the table.
    #[arg(value_name = "TABLE")]
    pub(crate) table: String,

    /// The key: the bytes of the argument as they are, with `--` in front of one that begins with a hyphen.
    #[arg(value_name = "KEY")]
    pub(crate) key: OsString,

    #[command(flatten)]
    pub(crate) store: StoreArgs,

    /// The key is given in hexadecimal digits, two for each byte.
    #[arg(long)]
    pub(crate) hex: bool,

    /// Print the value in hexadecimal digits, also if it is text.
    #[arg(long)]
    pub(crate) hex_values: bool,
}

/// Lists the keys and values of a table, in no meaningful order; exit code 3 if one of them cannot be read.
///
/// What is wrong with such a one is on standard error, and the others are listed all the same. Keys and values that are
/// not printable UTF-8 are shown as 0x and hexadecimal digits. A value of more than 100 characters is cut; --json and
/// `table get` have all of it.
#[derive(Debug, Parser)]
#[command(after_long_help = ENTRY_JSON)]
#[command(mut_arg("json", says("Print one JSON object for each key")))]
pub(crate) struct TableScanArgs {
    /// Name of the table.
    #[arg(value_name = "TABLE")]
    pub(crate) table: String,

    #[command(flatten)]
    pub(crate) store: StoreArgs,

    /// At most so many keys.
    #[arg(long, value_name = "N", value_parser = parse_limit, allow_hyphen_values = true)]
    pub(crate) limit: Option<usize>,

    /// Print values in hexadecimal digits, also if they are text.
    #[arg(long)]
    pub(crate) hex_values: bool,
}
