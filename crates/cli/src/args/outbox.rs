//! The command line of `firstseen outbox`.

use clap::{ArgGroup, Parser, Subcommand};

use super::{StoreArgs, parse_limit, says};

const MESSAGE_JSON: &str = "\
With --json, each message is an object on a line of its own:
  topic         name of its topic
  id            its id, 32 hexadecimal digits, the same however often it is delivered
  given_id      the id that the program gave it; \"given_id_hex\" has it if it is not UTF-8
  key           its ordering key; \"key_hex\" has it if it is not UTF-8
  position      its place in the topic; positions grow, with gaps
  emitted       when its transaction was committed or prepared
  payload_bytes length of what it says
With --payload:
  payload       what it says; \"payload_hex\" in its place if it is not printable UTF-8
With --dead:
  since         since when it is dead
  cause         refused: it can never be delivered; exhausted: it has failed too often
  attempts      how often it was tried
  reason        what the receiver said last
Times are milliseconds since 1970-01-01 UTC; beside each is the same as text, such as \"emitted_utc\".
What it does not have is null.";

const ACK_JSON: &str = "\
With --json, for each id: {\"id\":\"9f86d081884c7d659a2feaa0c55ad015\",\"acknowledged\":true}.
With --through: {\"acknowledged\":3}.
A message that cannot be acknowledged is on standard error, and the exit code is 3; the others are
acknowledged all the same.

Example: the broker has all of them, but the program died before it heard so:
    firstseen outbox list --topic orders --store seen
    firstseen outbox ack --topic orders --through 4711 --store seen";

const REDRIVE_JSON: &str = "\
With --json, for each id: {\"id\":\"9f86d081884c7d659a2feaa0c55ad015\",\"redriven\":true}.
With --all: {\"redriven\":3}.

Example: the receiver is back:
    firstseen outbox list --dead --topic orders --store seen
    firstseen outbox redrive --all --topic orders --store seen";

const PURGE_JSON: &str = "\
With --json, for each id: {\"id\":\"9f86d081884c7d659a2feaa0c55ad015\",\"purged\":true}.
With --all: {\"purged\":3}.";

/// What to do with the topics of the outbox.
#[derive(Debug, Subcommand)]
pub(crate) enum OutboxCommand {
    List(OutboxListArgs),
    Ack(OutboxAckArgs),
    /// Has messages that could not be delivered wait again, behind all others; exit code 1 if one of the ids is not dead,
    /// or with --all if none is.
    ///
    /// For after the receiver was mended. They count as never tried. One whose id waits in the topic stays dead.
    #[command(after_long_help = REDRIVE_JSON)]
    Redrive(OutboxDeadArgs),
    /// Removes messages that could not be delivered, for good; exit code 1 if one of the ids is not dead, or with --all
    /// if none is.
    #[command(after_long_help = PURGE_JSON)]
    Purge(OutboxDeadArgs),
}

/// Lists the messages that wait in one topic or in all; in each topic, in the order in which they are delivered. Exit
/// code 3 if one of them cannot be read.
///
/// The list of a topic ends before a message that cannot be read, which is on standard error, and the other topics are
/// listed all the same. With --dead, the others of the topic are, too. Keys, given ids and payloads that are not printable UTF-8 are shown as 0x and hexadecimal digits.
#[derive(Debug, Parser)]
#[command(after_long_help = MESSAGE_JSON)]
#[command(mut_arg("json", says("Print one JSON object for each message")))]
pub(crate) struct OutboxListArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,

    /// Only the messages of this topic.
    #[arg(long, value_name = "NAME")]
    pub(crate) topic: Option<String>,

    /// Those that could not be delivered, in place of those that wait; in each topic, the oldest first.
    #[arg(long)]
    pub(crate) dead: bool,

    /// At most so many messages.
    #[arg(long, value_name = "N", value_parser = parse_limit, allow_hyphen_values = true)]
    pub(crate) limit: Option<usize>,

    /// Print what the messages say, too.
    #[arg(long)]
    pub(crate) payload: bool,
}

/// Acknowledges messages: they are not delivered any more; exit code 1 if one of the ids does not wait, or with
/// --through if none does.
///
/// For messages of which you know that they have been delivered, or that are not to be delivered at all. An id
/// that was acknowledged before does not wait.
#[derive(Debug, Parser)]
#[command(after_long_help = ACK_JSON, group(ArgGroup::new("which").required(true)))]
#[command(mut_arg(
    "json",
    says("Print one JSON object for each id, or with --through one with the number of messages")
))]
pub(crate) struct OutboxAckArgs {
    /// The ids of the messages, as `outbox list` prints them. Reads the topic up to the last of them.
    #[arg(value_name = "ID", group = "which")]
    pub(crate) ids: Vec<String>,

    /// All messages of the topic up to this position, also those that cannot be read.
    #[arg(long, value_name = "POSITION", group = "which")]
    pub(crate) through: Option<u64>,

    #[command(flatten)]
    pub(crate) store: StoreArgs,

    /// Topic of the messages.
    #[arg(long, value_name = "NAME")]
    pub(crate) topic: String,
}

/// Which messages of a topic that could not be delivered.
#[derive(Debug, Parser)]
#[command(group(ArgGroup::new("which").required(true)))]
#[command(mut_arg(
    "json",
    says("Print one JSON object for each id, or with --all one with the number of messages")
))]
pub(crate) struct OutboxDeadArgs {
    /// The ids of the messages, as `outbox list --dead` prints them.
    #[arg(value_name = "ID", group = "which")]
    pub(crate) ids: Vec<String>,

    /// All messages of the topic that are dead and can be read, the oldest first.
    #[arg(long, group = "which")]
    pub(crate) all: bool,

    #[command(flatten)]
    pub(crate) store: StoreArgs,

    /// Topic of the messages.
    #[arg(long, value_name = "NAME")]
    pub(crate) topic: String,
}
