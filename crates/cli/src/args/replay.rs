//! The command line of `firstseen replay`.

use clap::{Parser, Subcommand};

use super::{StoreArgs, parse_limit, says};

const SCOPE_JSON: &str = "\
With --json, each scope is an object on a line of its own:
  name          its name
  state         open, promoted or dropped
  created       when it began
  ended         when it was promoted or dropped, null while it is open
  names         the names that were used inside
With --count, of open scopes:
  ids           how many ids there are inside, claims and records of ledgers
  duplicates    how many of them would have been duplicates outside
  new_ids       how many of them are new outside
  counts        the same by name: namespace, claims, claims_outside, records, records_outside
Times are milliseconds since 1970-01-01 UTC; beside each is the same as text, such as \"created_utc\".";

const END_JSON: &str = "\
With --json: {\"name\":\"fixed-prices\",\"state\":\"promoted\",\"changed\":true}.
`state` is that after the call: promoted or dropped. `changed` is whether this call has done it;
where it was done before, the exit code is 0, too.";

/// What to do with replay scopes.
#[derive(Debug, Subcommand)]
pub(crate) enum ReplayCommand {
    List(ReplayListArgs),
    /// Puts every name used inside a scope in the place of the one outside, in one step; exit code 1 if the scope
    /// was dropped.
    ///
    /// What stood outside under these names is gone: claims, records of ledgers, tables, offsets and messages. A name
    /// that was not used inside stays as it is. `replay list --count` says beforehand what is inside. May be repeated:
    /// what was promoted before is done.
    Promote(ReplayEndArgs),
    /// Throws away what is inside a scope, in one step; exit code 1 if it was promoted.
    ///
    /// Outside nothing changes. May be repeated: what was dropped before is done.
    Drop(ReplayEndArgs),
}

/// Lists all replay scopes that there were, in the order of their beginning.
#[derive(Debug, Parser)]
#[command(after_long_help = SCOPE_JSON)]
#[command(mut_arg("json", says("Print one JSON object for each scope")))]
pub(crate) struct ReplayListArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,

    /// At most so many scopes, the oldest.
    #[arg(long, value_name = "N", value_parser = parse_limit, allow_hyphen_values = true)]
    pub(crate) limit: Option<usize>,

    /// Count the ids inside open scopes, and how many of them are known outside. Reads the whole index.
    #[arg(long)]
    pub(crate) count: bool,
}

#[derive(Debug, Parser)]
#[command(after_long_help = END_JSON)]
pub(crate) struct ReplayEndArgs {
    /// Name of the scope.
    #[arg(value_name = "NAME")]
    pub(crate) name: String,

    #[command(flatten)]
    pub(crate) store: StoreArgs,
}
