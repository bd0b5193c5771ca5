//! The command lines of `firstseen ledger` and `firstseen dead-letter`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Parser, Subcommand, ValueEnum};
use firstseen::Ttl;
use firstseen::ledger::{DeadCause, DeadFilter, State};

use super::{StoreArgs, parse_duration, parse_limit, says};

const RECORD_JSON: &str = "\
With --json, each record is an object on a line of its own:
  ledger        name of its ledger
  id            its id; \"id_hex\" in its place if it is not UTF-8
  state         running, lease-ended, waiting, held, completed or dead; lease-ended if an attempt
                was begun and never ended, and its lease is over or its process is gone
  until         running: when the lease ends; waiting: when the next attempt may start
  cause         dead: attempts, final, lease-ended or cancelled
  is_failure    completed: whether the result is a failure
  result        completed: what is replayed; \"result_hex\" has it if it is not UTF-8
  attempts      how many were started, and not handed back, since it was last redriven
  redrives      how often it was redriven
  first_begun   when it was begun for the first time
  ends          when the record ends by itself
  token         fencing token of the last attempt, 0 if that may say nothing any more
  worker        whom the last attempt named
  version       version of the program that last began it
  stages        how many stages are saved
  fingerprint   of the input, in hexadecimal digits
  has_payload   whether it has a payload
  history       attempts that have ended, the oldest first: token, worker, started, ended,
                reason, and end: completed, failed, final, lease-ended, process-ended, dropped,
                released, cancelled or settled
  history_dropped  how many ended before those
Of a dead or held record, except with `ledger list`:
  since         since when it is dead or held
With `show`, if there is a payload:
  payload_bytes its length
With `show`, nothing is printed if there is no record.
Times are milliseconds since 1970-01-01 UTC; beside each is the same as text, such as \"ends_utc\".
What does not apply is null.";

const REDRIVE_JSON: &str = "\
With --json, for each id: {\"id\":\"order-1\",\"redriven\":true}; \"id_hex\" if it is not UTF-8.
With --all: {\"redriven\":3,\"failed\":0}; what failed is on standard error, and the exit code is 3.";

const PURGE_JSON: &str = "\
With --json, for each id: {\"id\":\"order-1\",\"purged\":true}; \"id_hex\" if it is not UTF-8.
With --all: {\"purged\":3,\"failed\":0}; what failed is on standard error, and the exit code is 3.";

const SETTLE_JSON: &str = "\
With --json: {\"id\":\"order-1\",\"settled\":true,\"state\":\"completed\"}; \"id_hex\" if it is not UTF-8. \
`state` is that after the call, and null if there is no record.

Example: the bank has the payment, but the program died before it heard so:
    firstseen ledger settle order-17 --ledger payments --store seen \\
        --result 'receipt 4711' --reason 'found in the statement of 3 May'";

const CANCEL_JSON: &str = "\
With --json: {\"id\":\"order-1\",\"cancelled\":true,\"state\":\"dead\"}; \"id_hex\" if it is not UTF-8. \
`state` is that after the call, and null if there is no record.";

/// What to do with the records of ledgers.
#[derive(Debug, Subcommand)]
pub(crate) enum LedgerCommand {
    List(LedgerListArgs),
    Show(LedgerShowArgs),
    Settle(SettleArgs),
    Cancel(CancelArgs),
}

/// Lists the records of one ledger or of all, in no meaningful order; exit code 3 if one of them cannot be
/// read.
///
/// What is wrong with such a one is on standard error, and the others are listed all the same. An id that is not printable UTF-8 is shown as 0x and hexadecimal digits.
#[derive(Debug, Parser)]
#[command(after_long_help = RECORD_JSON)]
#[command(mut_arg("json", says("Print one JSON object for each record")))]
pub(crate) struct LedgerListArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,

    /// Only the records of this ledger.
    #[arg(long, value_name = "NAME")]
    pub(crate) ledger: Option<String>,

    /// Only records in this state.
    #[arg(long, value_name = "STATE", value_enum)]
    pub(crate) state: Option<StateName>,

    /// At most so many records.
    #[arg(long, value_name = "N", value_parser = parse_limit, allow_hyphen_values = true)]
    pub(crate) limit: Option<usize>,
}

/// Shows everything that a ledger knows of an id; exit code 1 if it has no record of it.
#[derive(Debug, Parser)]
#[command(after_long_help = RECORD_JSON)]
pub(crate) struct LedgerShowArgs {
    #[command(flatten)]
    pub(crate) id: LedgerIdArgs,
}

/// One id of one ledger.
#[derive(Debug, clap::Args)]
pub(crate) struct LedgerIdArgs {
    /// The id: the bytes of the argument as they are, with `--` in front of one that begins with a hyphen.
    #[arg(value_name = "ID")]
    pub(crate) id: OsString,

    #[command(flatten)]
    pub(crate) store: StoreArgs,

    /// Ledger of the id.
    #[arg(long, value_name = "NAME")]
    pub(crate) ledger: String,

    /// The id is given in hexadecimal digits, two for each byte.
    #[arg(long)]
    pub(crate) hex: bool,
}

/// Says that an id was done after all, and with what result; exit code 1 if there is no such record, it is
/// completed, or an attempt works on it.
///
/// For what is held, dead or waits, or was in work when the program ended, once you have found out that its
/// effect happened: the program then gets this result as if the work had returned it. A program that uses `run` needs
/// a value: see --as-value. `dead-letter redrive` is for
/// what did not happen, and `ledger cancel` for what is not to happen any more.
#[derive(Debug, Parser)]
#[command(after_long_help = SETTLE_JSON)]
pub(crate) struct SettleArgs {
    #[command(flatten)]
    pub(crate) id: LedgerIdArgs,

    /// The result: the bytes of the argument as they are, as `complete` stores them.
    #[arg(long, value_name = "TEXT", required_unless_present = "result_hex")]
    pub(crate) result: Option<OsString>,

    /// The result in hexadecimal digits, two for each byte.
    #[arg(long, value_name = "DIGITS", conflicts_with = "result")]
    pub(crate) result_hex: Option<OsString>,

    /// The result is stored as a value of the type String, for a program whose work returns one to `run`. Results of
    /// other types are settled in the program, with `Ledger::settle_value`.
    #[arg(long, conflicts_with = "result_hex")]
    pub(crate) as_value: bool,

    /// How you know, for those who read the record.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,

    /// How long the result is kept, such as 12h, 7d, or forever [default: the namespace's own].
    #[arg(long, value_parser = parse_kept)]
    pub(crate) ttl: Option<Ttl>,
}

/// Gives an id up: it becomes a dead letter; exit code 1 if there is no such record, or it is completed or dead.
///
/// `dead-letter redrive` lets it be tried again after all.
#[derive(Debug, Parser)]
#[command(after_long_help = CANCEL_JSON)]
pub(crate) struct CancelArgs {
    #[command(flatten)]
    pub(crate) id: LedgerIdArgs,

    /// Why, for those who read the record.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,

    /// How long the dead letter is kept, such as 30d [default: forever].
    #[arg(long, value_parser = parse_kept)]
    pub(crate) ttl: Option<Ttl>,
}

/// The state of a record, without what belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StateName {
    /// An attempt works on it: its lease outlives its process, and has not ended.
    Running,
    /// An attempt was begun and never ended; its lease is over, or its process is gone.
    LeaseEnded,
    /// It failed or was handed back, and waits for its next attempt.
    Waiting,
    /// An operator is to find out whether the effect happened.
    Held,
    /// Done, with a result.
    Completed,
    /// Given up.
    Dead,
}

impl StateName {
    /// Returns whether a record in `state` is meant.
    pub(crate) fn is_of(self, state: &State, is_in_progress: bool) -> bool {
        match self {
            Self::Running => matches!(state, State::Running { .. }) && is_in_progress,
            Self::LeaseEnded => matches!(state, State::Running { .. }) && !is_in_progress,
            Self::Waiting => matches!(state, State::Waiting { .. }),
            Self::Held => matches!(state, State::Held),
            Self::Completed => matches!(state, State::Completed { .. }),
            Self::Dead => matches!(state, State::Dead { .. }),
        }
    }
}

/// What to do with dead letters.
#[derive(Debug, Subcommand)]
pub(crate) enum DeadLetterCommand {
    List(DeadListArgs),
    Show(DeadShowArgs),
    Redrive(RedriveArgs),
    Purge(PurgeArgs),
}

/// Lists the dead letters of one ledger or of all; in each ledger, the oldest first. Exit code 3 if one of them
/// cannot be read.
///
/// What is wrong with such a one is on standard error, and the others are listed all the same. An id that is not printable UTF-8 is shown as 0x and hexadecimal digits.
#[derive(Debug, Parser)]
#[command(after_long_help = RECORD_JSON)]
#[command(mut_arg("json", says("Print one JSON object for each dead letter")))]
pub(crate) struct DeadListArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,

    /// Only the dead letters of this ledger.
    #[arg(long, value_name = "NAME")]
    pub(crate) ledger: Option<String>,

    #[command(flatten)]
    pub(crate) filter: FilterArgs,
}

/// Which dead letters are meant.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct FilterArgs {
    /// Only those that died of this.
    #[arg(long, value_name = "CAUSE", value_enum)]
    pub(crate) cause: Option<Cause>,

    /// Those that are held for an operator, in place of those that are dead.
    #[arg(long, conflicts_with = "cause")]
    pub(crate) held: bool,

    /// Only those that have been dead or held at least this long, such as 90s, 12h or 7d.
    #[arg(long, value_name = "DURATION", value_parser = parse_age)]
    pub(crate) older_than: Option<Duration>,

    /// At most so many, the oldest.
    #[arg(long, value_name = "N", value_parser = parse_limit, allow_hyphen_values = true)]
    pub(crate) limit: Option<usize>,
}

impl FilterArgs {
    /// Returns the filter, without the limit.
    pub(crate) fn unlimited(&self) -> DeadFilter {
        let mut filter = DeadFilter::new();
        if let Some(cause) = self.cause {
            filter = filter.cause(cause.into());
        }
        if self.held {
            filter = filter.held();
        }
        match self.older_than {
            Some(age) => filter.older_than(age),
            None => filter,
        }
    }
}

/// Why a record is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Cause {
    /// It failed, or its worker went away, as often as it may.
    Attempts,
    /// An attempt said that trying again is pointless.
    Final,
    /// A lease ended, and the ledger's policy is to fail.
    LeaseEnded,
    /// An operator cancelled it.
    Cancelled,
}

impl From<Cause> for DeadCause {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Attempts => Self::Attempts,
            Cause::Final => Self::Final,
            Cause::LeaseEnded => Self::LeaseEnded,
            Cause::Cancelled => Self::Cancelled,
        }
    }
}

/// Shows everything about a dead or held id, and saves its payload; exit code 1 if it is neither.
#[derive(Debug, Parser)]
#[command(after_long_help = RECORD_JSON)]
pub(crate) struct DeadShowArgs {
    #[command(flatten)]
    pub(crate) id: LedgerIdArgs,

    /// Write the payload to this file, over what it holds; `-` prints the payload and nothing else. Exit code 1 if
    /// there is no payload.
    #[arg(long, value_name = "FILE")]
    pub(crate) payload_to: Option<PathBuf>,
}

/// Lets dead or held ids be tried again, as often as new ones; exit code 1 if one of them is neither, or
/// with --all if there are none.
///
/// The program that uses the ledger begins them again, when it next comes to them. Their history stays.
#[derive(Debug, Parser)]
#[command(after_long_help = REDRIVE_JSON)]
pub(crate) struct RedriveArgs {
    #[command(flatten)]
    pub(crate) sweep: SweepArgs,

    /// Saved stages are dropped, so that all stages are done again.
    #[arg(long)]
    pub(crate) fresh: bool,
}

/// Removes dead or held ids with their payloads and history, so that they count as never begun; exit
/// code 1 if one of them is neither, or with --all if there are none.
///
/// `dead-letter list` with the same --cause, --held, --older-than and --limit says what --all will remove.
#[derive(Debug, Parser)]
#[command(after_long_help = PURGE_JSON)]
pub(crate) struct PurgeArgs {
    #[command(flatten)]
    pub(crate) sweep: SweepArgs,
}

/// Some dead letters, or all that a filter means.
#[derive(Debug, clap::Args)]
#[command(group(ArgGroup::new("which").required(true)))]
#[command(mut_arg(
    "json",
    says("Print one JSON object for each id, or with --all one with their number")
))]
pub(crate) struct SweepArgs {
    /// The ids: the bytes of the arguments as they are, with `--` in front of one that begins with a hyphen.
    #[arg(
        value_name = "ID",
        group = "which",
        conflicts_with_all = ["cause", "held", "older_than", "limit"]
    )]
    pub(crate) ids: Vec<OsString>,

    /// All dead letters of the ledger that --cause, --held, --older-than and --limit mean, one after the
    /// other. Killed before its end, it has done some of them; run it again.
    #[arg(long, group = "which", conflicts_with = "hex")]
    pub(crate) all: bool,

    #[command(flatten)]
    pub(crate) store: StoreArgs,

    /// Ledger of the ids.
    #[arg(long, value_name = "NAME")]
    pub(crate) ledger: String,

    #[command(flatten)]
    pub(crate) filter: FilterArgs,

    /// The ids are given in hexadecimal digits, two for each byte.
    #[arg(long)]
    pub(crate) hex: bool,
}

/// Parses how long something is kept.
fn parse_kept(text: &str) -> Result<Ttl, String> {
    let ttl = parse_duration(text)?;
    if ttl.as_millis() == Some(0) {
        return Err("what is kept for no time is gone at once".to_owned());
    }
    Ok(ttl)
}

/// Parses an age: like a ttl, but it has an end.
fn parse_age(text: &str) -> Result<Duration, String> {
    let ttl = parse_duration(text)?;
    let ms = ttl.as_millis().ok_or("nothing is older than forever")?;
    Ok(Duration::from_millis(ms))
}
