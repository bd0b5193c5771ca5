//! The command line as written. What an option means, and whether options go together, is decided where they are used.

pub(crate) mod history;
pub(crate) mod ledger;
pub(crate) mod offsets;
pub(crate) mod outbox;
pub(crate) mod prepared;
pub(crate) mod replay;
pub(crate) mod snapshot;
pub(crate) mod table;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgGroup, Parser, Subcommand, ValueEnum};
use firstseen::limits::ID_BYTES_MAX;
use firstseen::{Durability, Ttl};

use history::HistoryArgs;
use ledger::{DeadLetterCommand, LedgerCommand};
use offsets::OffsetsArgs;
use outbox::OutboxCommand;
use prepared::PreparedCommand;
use replay::ReplayCommand;
use snapshot::{RestoreArgs, SnapshotArgs};
use table::TableCommand;

const EXIT_CODES: &str = "\
Exit codes:
  0  done, or: the id was seen
  1  the id was not seen (get, forget); an id is a duplicate (claim);
     there is no such record (ledger show), none that can be changed so (ledger settle, cancel),
     or no such dead letter (dead-letter show, redrive, purge);
     the key has no value (table get); a message does not wait (outbox ack), or is not dead
     (outbox redrive, purge);
     the transaction is not known, or has ended the other way (prepared commit, rollback);
     the scope has ended the other way (replay promote, drop); the log knows nothing (history)
  2  the call is wrong
  3  the data or the disk is wrong, or the store is in use
  130, 143  ended by SIGINT or SIGTERM, in order (dedup)
  141  the reader of standard output closed it early (dedup, import, export, history,
       offsets, table scan, dead-letter show, completions, man, and every list)";

/// Remembers which ids were seen, and says of each whether it is the first time.
///
/// A store is a folder. One process at a time may have it open.
#[derive(Debug, Parser)]
#[command(name = "firstseen", version, max_term_width = 100, after_help = EXIT_CODES)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Dedup(DedupArgs),
    Claim(ClaimArgs),
    Get(IdArgs),
    Forget(ForgetArgs),
    Stats(StatsArgs),
    Verify(VerifyArgs),
    Repair(RepairArgs),
    Snapshot(SnapshotArgs),
    Restore(RestoreArgs),
    Export(ExportArgs),
    Import(ImportArgs),
    /// Shows the records of ledgers: which ids are in work, waiting, held, completed or dead; settles or
    /// cancels one.
    ///
    /// A ledger is what a program keeps with this library beside its claims, in a namespace of the same name: how far
    /// the effect of each id has come. No other process may have the store open.
    #[command(subcommand)]
    Ledger(LedgerCommand),
    /// Shows the dead letters of ledgers, lets them be tried again, or removes them.
    ///
    /// A dead letter is an id that a ledger has given up, or holds until an operator has found out whether its effect
    /// happened. No other process may have the store open.
    #[command(subcommand)]
    DeadLetter(DeadLetterCommand),
    /// Shows the values of state tables.
    ///
    /// A table is what a program keeps with this library beside its claims: values by key, each with the version of its
    /// last write. No other process may have the store open.
    #[command(subcommand)]
    Table(TableCommand),
    Offsets(OffsetsArgs),
    /// Shows the messages that wait in the topics of the outbox, and acknowledges them.
    ///
    /// A message is written in one commit with what it tells of, and waits until it is acknowledged. No other
    /// process may have the store open.
    #[command(subcommand)]
    Outbox(OutboxCommand),
    /// Shows the transactions that a coordinator has prepared, commits one, or rolls one back.
    ///
    /// For a transaction whose coordinator does not come back: what it holds cannot be claimed or written until it
    /// ends. No other process may have the store open.
    #[command(subcommand)]
    Prepared(PreparedCommand),
    /// Shows replay scopes, puts what is inside one in the place of what is outside, or throws it away.
    ///
    /// A scope is where a program processes old events again: inside they are first again, and outside nothing
    /// changes. No other process may have the store open.
    #[command(subcommand)]
    Replay(ReplayCommand),
    History(HistoryArgs),
    Bench(BenchArgs),
    /// Prints a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Prints the manual page, in the format of man(7).
    Man {
        /// The page of this subcommand, such as `dedup` or `ledger list`.
        subcommand: Vec<String>,
    },
}

const DEDUP_EXAMPLES: &str = "\
Examples:
  Print each line the first time it is ever seen:
      firstseen dedup access.log --store seen
  Follow a log, remembering lines for a week:
      tail -F app.log | firstseen dedup --store seen --ttl 7d
  Events by their id, bad ones passed on and not lost:
      firstseen dedup events.ndjson --store seen --key /event/id --on-bad-input pass
  The second column of a tab-separated file, the column `email` of a CSV file:
      firstseen dedup users.tsv --store seen --field 2
      firstseen dedup users.csv --store seen --csv email
  File names, safe for any name:
      find . -print0 | firstseen dedup --store seen --null";

/// Prints each line that is seen for the first time, unchanged and in the order of the input.
///
/// The id is the whole line without its line end, unless --key, --field or --csv says otherwise. A
/// line is claimed only after it was written out: killed at any moment and run again over the same
/// input, no line is lost, and at most the lines in flight are printed twice (with `>> FILE` a line
/// torn by the kill is set apart from what follows).
///
/// A line ends at a line feed and nowhere else; a carriage return before it is part of the line, see
/// --trim. A byte order mark is never part of an id, and that of the first input is printed. If
/// the last line of the input has no line end, none is added, unless another line follows. Lines whose
/// id is empty or cannot be found are bad input, see --on-bad-input. An id of more than 1024 bytes is
/// remembered by its BLAKE3 hash (256 bits); shorter ones are compared byte for byte.
#[derive(Debug, Parser)]
#[command(after_long_help = DEDUP_EXAMPLES, group(ArgGroup::new("id")))]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct DedupArgs {
    /// Files to read, one after the other; `-`, or none, is standard input.
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,

    /// Folder of the store; it is created if it is not there.
    #[arg(long, value_name = "DIR")]
    pub(crate) store: PathBuf,

    /// Lines are JSON, and the id is what this JSON pointer names: the bytes of a string, or the
    /// text of a number as it is written.
    ///
    /// --key, --field and --csv may be given more than once: then all the values together are the id,
    /// with a unit separator (0x1f) between them. `get` takes it as $'one\x1ftwo'. In a value, a
    /// unit separator or an escape (0x1b) has an escape put in front of it.
    #[arg(long, value_name = "/JSON/POINTER", group = "id")]
    pub(crate) key: Vec<String>,

    /// The id is the N-th field of the line, counted from 1. A carriage return at the end of the line is
    /// not part of it.
    #[arg(long, value_name = "N", group = "id")]
    pub(crate) field: Vec<usize>,

    /// The input is CSV, and the id is this column: a name from its header line, or a number counted
    /// from 1.
    ///
    /// Quoted fields may hold line ends. The header line of the first file is printed first (unless
    /// standard output adds to a file that already has content); other files must have the same header.
    #[arg(long, value_name = "COLUMN", group = "id", conflicts_with = "null")]
    pub(crate) csv: Vec<String>,

    /// Field separator, one byte [default: a tab for --field, a comma for --csv].
    #[arg(long, value_name = "C", conflicts_with = "key")]
    pub(crate) delimiter: Option<String>,

    /// How long a claim lives, such as 90s, 12h, 1d12h, 7d, 1y, or forever [default: the namespace's own].
    #[arg(long, value_parser = parse_ttl)]
    pub(crate) ttl: Option<Ttl>,

    /// Namespace of the ids; the same id may be seen once in each.
    #[arg(long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,

    /// What a claim survives before its line counts as done.
    #[arg(long, value_name = "LEVEL", value_enum, default_value_t = Level::Process)]
    pub(crate) durability: Level,

    /// Adds the lines that are not printed, because they were seen before, to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) duplicates_to: Option<PathBuf>,

    /// What to do with a line that has no usable id.
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = BadInput::Error)]
    pub(crate) on_bad_input: BadInput,

    /// The summary on standard error is one JSON object. In it `output_closed` says whether the reader of
    /// standard output went away before the end, as `head` does.
    #[arg(long)]
    pub(crate) json: bool,

    /// Lines end with a NUL byte instead of a line feed, in the input and in the output.
    #[arg(long, short = '0')]
    pub(crate) null: bool,

    /// Fields of --field are separated by runs of blanks and tabs, as in awk.
    #[arg(long, requires = "field", conflicts_with = "delimiter")]
    pub(crate) blanks: bool,

    /// A carriage return at the end of a line is not part of its id; the line is printed as it is.
    #[arg(long, conflicts_with_all = ["key", "field", "csv", "null"])]
    pub(crate) trim: bool,

    /// Leave out lines of nothing but blanks, instead of taking them for bad input.
    #[arg(long)]
    pub(crate) skip_empty: bool,

    /// Longest id, such as 1024 or 64K: a line with a longer one is bad input.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) max_id: Option<usize>,

    /// Memory for unflushed ids and cached blocks, such as 64M or 1G. The process needs 60 to 80 MB and
    /// 2.5 bytes per id on top.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) memory: Option<usize>,

    #[command(flatten)]
    pub(crate) wait: WaitArgs,

    /// Prints what a run would print, but claims nothing and creates no store.
    ///
    /// An existing store is opened as usual, so its folder must be writable. New ids are kept in memory.
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// A duplicate moves the end of its claim to a full ttl from then.
    #[arg(long)]
    pub(crate) sliding: bool,

    /// The CSV input has no header line; --csv gives the number of the column.
    #[arg(long, requires = "csv")]
    pub(crate) no_header: bool,

    /// Print the lines whose id was seen before, instead of the others. Those are claimed all the same.
    #[arg(long, conflicts_with = "duplicates_to")]
    pub(crate) repeated: bool,

    /// Prefix each first-seen line with how often its id occurred in this run, like `uniq -c`.
    ///
    /// Lines are printed, and their ids claimed, at the end of the input. Until then all new ones are kept in
    /// memory.
    #[arg(long, conflicts_with = "repeated")]
    pub(crate) count: bool,

    /// No summary; errors are still printed.
    #[arg(long, short, conflicts_with = "json")]
    pub(crate) quiet: bool,
}

/// Which store, how the answer is printed, and what to do while another process has the store open: what nearly every
/// command takes.
#[derive(Debug, clap::Args)]
#[command(mut_arg("wait", |arg| arg.display_order(LAST + 1)))]
pub(crate) struct StoreArgs {
    /// Folder of the store.
    #[arg(long = "store", id = "store", value_name = "DIR")]
    pub(crate) dir: PathBuf,

    /// Print one JSON object.
    #[arg(long, display_order = LAST)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

/// Place in the help of what every command has: behind its own options.
const LAST: usize = 900;

/// What an option of [`StoreArgs`] means for one command, where that is more than the usual.
fn says(help: &'static str) -> impl FnOnce(Arg) -> Arg {
    move |arg| arg.help(help)
}

/// What to do while another process has the store open.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct WaitArgs {
    /// Wait up to this long for another process to close the store, such as 30s or 5m.
    #[arg(long, value_name = "DURATION", value_parser = parse_wait)]
    pub(crate) wait: Option<Duration>,
}

/// How durable a claim must be.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Level {
    /// A kill may lose the claims of the last moments, whose lines are then printed again.
    Buffered,
    /// Nothing is lost when the process is killed; a power cut may lose the latest claims.
    Process,
    /// Nothing is lost when the power goes.
    Disk,
}

impl From<Level> for Durability {
    fn from(level: Level) -> Self {
        match level {
            Level::Buffered => Self::Buffered,
            Level::Process => Self::Process,
            Level::Disk => Self::Disk,
        }
    }
}

/// What becomes of a line without a usable id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BadInput {
    /// Say where it is and stop with exit code 3; the lines before it are done.
    Error,
    /// Print it, every time it comes.
    Pass,
    /// Leave it out; the summary counts it.
    Drop,
}

/// Says when an id was first seen and how long that is remembered; exit code 1 if it was not seen.
#[derive(Debug, Parser)]
#[command(after_help = "Put `--` in front of an id that begins with a hyphen.")]
pub(crate) struct IdArgs {
    /// The id: the bytes of the argument as they are.
    #[arg(value_name = "ID")]
    pub(crate) id: OsString,

    #[command(flatten)]
    pub(crate) store: StoreArgs,

    /// Namespace of the id.
    #[arg(long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,

    /// The id is given in hexadecimal digits, two for each byte.
    #[arg(long)]
    pub(crate) hex: bool,
}

/// Claims ids and says of each whether it is the first time; exit code 1 if one of them is a duplicate.
///
/// What `SET key 1 NX` is for Redis. All ids are claimed in one step, before the answers are printed: where
/// they cannot be written (exit code 3), the ids are claimed all the same.
#[derive(Debug, Parser)]
#[command(after_help = "Put `--` in front of an id that begins with a hyphen.")]
#[command(mut_arg("store", says("Folder of the store; it is created if it is not there")))]
#[command(mut_arg("json", says("Print one JSON object for each id")))]
pub(crate) struct ClaimArgs {
    /// The ids: the bytes of the arguments as they are.
    #[arg(value_name = "ID", required = true)]
    pub(crate) ids: Vec<OsString>,

    #[command(flatten)]
    pub(crate) store: StoreArgs,

    /// How long the claims live, such as 90s, 12h, 1d12h, 7d, 1y, or forever [default: the namespace's own].
    #[arg(long, value_parser = parse_ttl)]
    pub(crate) ttl: Option<Ttl>,

    /// Namespace of the ids.
    #[arg(long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,

    /// What the claims survive once they are answered.
    #[arg(long, value_name = "LEVEL", value_enum, default_value_t = Level::Process)]
    pub(crate) durability: Level,

    /// The ids are given in hexadecimal digits, two for each byte.
    #[arg(long)]
    pub(crate) hex: bool,
}

/// Forgets an id, or all ids of a namespace, so that they are seen for the first time again; exit code
/// 1 if there was nothing to forget.
#[derive(Debug, Parser)]
#[command(group(ArgGroup::new("which").required(true)))]
pub(crate) struct ForgetArgs {
    /// The id: the bytes of the argument as they are.
    #[arg(value_name = "ID", group = "which")]
    pub(crate) id: Option<OsString>,

    /// Forget all ids of the namespace, one after the other. Killed before its end, it has forgotten some
    /// of them; run it again.
    #[arg(long, group = "which", conflicts_with = "hex", requires = "namespace")]
    pub(crate) all: bool,

    #[command(flatten)]
    pub(crate) store: StoreArgs,

    /// Namespace of the id.
    #[arg(long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,

    /// The id is given in hexadecimal digits, two for each byte.
    #[arg(long)]
    pub(crate) hex: bool,
}

/// Shows what a store holds. Only reads.
#[derive(Debug, Parser)]
pub(crate) struct StatsArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// Reads everything in a store and says whether it is sound; exit code 3 if it is not.
#[derive(Debug, Parser)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// Saves what can be saved of a damaged store, and says what it saved and what is lost.
#[derive(Debug, Parser)]
pub(crate) struct RepairArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

const NDJSON: &str = "\
One JSON object a line:
  {\"namespace\":\"default\",\"id\":\"evt-1\",\"first_seen\":1767225600000,\"deadline\":null}
An id that is not UTF-8 is written as \"id_hex\", one of more than 1024 bytes as \"id_blake3\".
Times are milliseconds since 1970-01-01 UTC; a null deadline means never.";

/// Prints every claim of a store as NDJSON.
#[derive(Debug, Parser)]
#[command(after_help = NDJSON)]
pub(crate) struct ExportArgs {
    /// Folder of the store.
    #[arg(long, value_name = "DIR")]
    pub(crate) store: PathBuf,

    /// Only the claims of this namespace.
    #[arg(long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,

    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

/// Adds the claims that `firstseen export` has printed; those that are there already stay as they
/// are, and those that have ended are left out.
#[derive(Debug, Parser)]
#[command(after_help = NDJSON)]
#[command(mut_arg("store", says("Folder of the store; it is created if it is not there")))]
#[command(mut_arg("json", says("The summary on standard error is one JSON object")))]
pub(crate) struct ImportArgs {
    /// Files to read, one after the other; `-`, or none, is standard input.
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,

    #[command(flatten)]
    pub(crate) store: StoreArgs,

    /// Each line is an id, and is claimed now; a carriage return at its end does not belong to it.
    #[arg(long)]
    pub(crate) lines: bool,

    /// Leave out empty lines.
    #[arg(long)]
    pub(crate) skip_empty: bool,

    /// How long the claims of --lines live [default: the namespace's own].
    #[arg(long, value_parser = parse_ttl, requires = "lines")]
    pub(crate) ttl: Option<Ttl>,

    /// Put all claims into this namespace, whatever the lines say.
    #[arg(long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
}

const BENCH_EXAMPLES: &str = "\
Examples:
  A minute on this disk, with the lines of a file as ids:
      firstseen bench --dir /var/lib/app --ids ids.txt
  Which number of threads claims most, and what a claim costs the processors:
      firstseen bench --dir /var/lib/app --threads 1,2,4,8
  The same, a million claims a run, for programs:
      firstseen bench --dir /var/lib/app --threads 1,2,4,8 --claims 1000000 --json";

/// Measures claims per second, their latency and what an id costs, on this disk and with these ids.
///
/// Makes stores of its own below --dir and removes them at the end. Without --threads, it also measures
/// the limit: a hash set and a file that is only appended to.
///
/// With --threads, it measures claims by the number of threads: single ones and batches of 1,000, without
/// a sync and with one before each answer. Every run has a new store. Rounds are interleaved: each
/// has all numbers of threads in turn, a ratio is of two runs of the same round, and the table has medians.
/// Processor time is the user and system time of all threads of the process, background threads
/// included, divided by the claims; making the ids and reading the clock are part of it. A run fails
/// unless there are exactly as many first-seen answers as different ids.
#[derive(Debug, Parser)]
#[command(after_long_help = BENCH_EXAMPLES)]
pub(crate) struct BenchArgs {
    /// Folder on the disk to measure.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) dir: PathBuf,

    /// Take the lines of this file as ids (its first GiB), in their order.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["id_bytes", "duplicates"])]
    pub(crate) ids: Option<PathBuf>,

    /// Length of a random id in bytes.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = parse_id_bytes)]
    pub(crate) id_bytes: usize,

    /// How many of a hundred random ids were seen before.
    #[arg(long, value_name = "PERCENT", default_value_t = 20, value_parser = clap::value_parser!(u8).range(0..=99))]
    pub(crate) duplicates: u8,

    /// How long to measure in all.
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub(crate) seconds: u32,

    /// Measure claims by the number of threads that make them, such as 1,2,4,8.
    #[arg(long, value_name = "LIST", value_parser = parse_threads)]
    pub(crate) threads: Option<ThreadList>,

    /// How often each number of threads is measured.
    #[arg(long, value_name = "N", default_value_t = 3, requires = "threads", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) rounds: u32,

    /// Claims of each run, divided among its threads, instead of a time. Runs in which each single claim waits
    /// for a sync make a fiftieth of it.
    #[arg(long, value_name = "N", requires = "threads", conflicts_with = "seconds", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000_000))]
    pub(crate) claims: Option<u64>,

    /// Memory for unflushed ids and cached blocks, such as 64M or 1G. The process needs 60 to 80 MB and
    /// 2.5 bytes per id on top.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) memory: Option<usize>,

    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Parses the length of an id. Shorter ones would soon all have been seen.
fn parse_id_bytes(text: &str) -> Result<usize, String> {
    let bytes = text.parse().ok().filter(|bytes| (8..=ID_BYTES_MAX).contains(bytes));
    bytes.ok_or_else(|| format!("a length from 8 to {ID_BYTES_MAX}"))
}

/// Numbers of threads, each once, in the order of the call.
#[derive(Debug, Clone)]
pub(crate) struct ThreadList(pub(crate) Vec<u64>);

/// More would measure how the system switches between them.
const THREADS_MAX: u64 = 1_024;

/// Parses numbers of threads, separated by commas.
fn parse_threads(text: &str) -> Result<ThreadList, String> {
    let mut list = Vec::new();
    for part in text.split(',') {
        let count = part.trim().parse().ok().filter(|count| (1..=THREADS_MAX).contains(count));
        let count: u64 = count.ok_or_else(|| {
            format!("write numbers of threads from 1 to {THREADS_MAX}, such as 1,2,4,8")
        })?;
        if list.contains(&count) {
            return Err(format!("{count} is there twice"));
        }
        list.push(count);
    }
    Ok(ThreadList(list))
}

/// Rejects a number alone.
fn check_unit(text: &str) -> Result<(), String> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number || text == "0" {
        return Ok(());
    }
    let units = [("d", "days"), ("h", "hours"), ("m", "minutes"), ("s", "seconds")];
    let ways = units.map(|(unit, name)| format!("{text}{unit} for {name}"));
    Err(format!("the unit is missing: write {}", ways.join(", ")))
}

/// Parses numbers with units, or "forever".
fn parse_duration(text: &str) -> Result<Ttl, String> {
    check_unit(text)?;
    text.parse().map_err(|error: firstseen::Error| error.to_string())
}

/// Parses how many are listed at most.
fn parse_limit(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| "a limit is a whole number, at least 1 to see anything".to_owned())
}

/// Parses a ttl. Rejects zero here, before a store is created for it.
fn parse_ttl(text: &str) -> Result<Ttl, String> {
    let ttl = parse_duration(text)?;
    if ttl.as_millis() == Some(0) {
        return Err("a ttl of 0 would forget a line at once".to_owned());
    }
    Ok(ttl)
}

/// Parses how long to wait: like a ttl, with 0 for not at all.
fn parse_wait(text: &str) -> Result<Duration, String> {
    if text == "0" || text == "0s" {
        return Ok(Duration::ZERO);
    }
    check_unit(text)?;
    let ttl: Ttl = text.parse().map_err(|_| {
        "write a whole number and a unit, such as 500ms, 30s or 5m, or \"forever\"".to_owned()
    })?;
    Ok(ttl.as_millis().map_or(Duration::MAX, Duration::from_millis))
}

/// Parses a number of bytes: digits, and K, M, G or T for powers of 1024.
fn parse_size(text: &str) -> Result<usize, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" | "KB" | "KIB" => 10,
        "M" | "MB" | "MIB" => 20,
        "G" | "GB" | "GIB" => 30,
        "T" | "TB" | "TIB" => 40,
        _ => return Err("write a number of bytes such as 64M or 1G".to_owned()),
    };
    let number: usize = number.parse().map_err(|_| "write a number of bytes such as 64M or 1G")?;
    number.checked_mul(1 << shift).ok_or_else(|| "more bytes than there can be".to_owned())
}

#[cfg(test)]
mod tests {
    use super::{Args, parse_size, parse_threads};
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn numbers_of_threads_are_read_strictly() {
        assert_eq!(parse_threads("1,2, 64").unwrap().0, [1, 2, 64]);
        for bad in ["", "0", "1,", "1;2", "-1", "1,2,1", "1025", "two"] {
            assert!(parse_threads(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_read_strictly() {
        assert_eq!(parse_size("4096"), Ok(4096));
        assert_eq!(parse_size("64M"), Ok(64 << 20));
        assert_eq!(parse_size("1gib"), Ok(1 << 30));
        for bad in ["", "M", "-1", "1.5G", "1X", "99999999999999T"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }
}
