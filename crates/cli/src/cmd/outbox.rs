//! `firstseen outbox`: the messages that wait in topics.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::ops::ControlFlow;
use std::slice;

use firstseen::outbox::{DeadMessage, DeadMessageCause, Message, Outbox};
use serde::Serialize;

use super::bytes::{Digits, shown, text_or_hex, value_or_hex};
use super::entry::OTHER;
use super::names::{self, Kind, NAMES_MAX, some_of};
use super::outbox_dead::{self, Step};
use crate::args::outbox::{OutboxAckArgs, OutboxCommand, OutboxListArgs};
use crate::output::{self, Exit, Failure, grouped, printable};
use crate::table::Listing;
use crate::utc;

pub(super) fn run(command: OutboxCommand) -> Result<Exit, Failure> {
    match command {
        OutboxCommand::List(args) => list(&args),
        OutboxCommand::Ack(args) => acknowledge(&args),
        OutboxCommand::Redrive(args) => outbox_dead::run(&args, Step::Redrive),
        OutboxCommand::Purge(args) => outbox_dead::run(&args, Step::Purge),
    }
}

/// Messages read at a time: one may have 4 MiB.
const PAGE: usize = 64;

/// Passes the messages of a topic to `visit`, in order, until that says stop.
fn visit_all(
    topic: &Outbox,
    mut visit: impl FnMut(Message) -> ControlFlow<()>,
) -> firstseen::Result<()> {
    let (mut after, mut limit) = (None, PAGE);
    loop {
        let page = match after {
            None => topic.read(limit),
            Some(position) => topic.read_after(position, limit),
        };
        let page = match page {
            // Those before one that cannot be read are passed on, too.
            Err(_) if limit > 1 => {
                limit = 1;
                continue;
            }
            page => page?,
        };
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.position);
        if page.into_iter().try_for_each(&mut visit).is_break() {
            return Ok(());
        }
    }
}

/// The JSON output for a message. The fields are documented in `--help`.
#[derive(Debug, Serialize)]
struct Object<'a> {
    topic: &'a str,
    id: String,
    given_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    given_id_hex: Option<String>,
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_hex: Option<String>,
    position: u64,
    emitted: u64,
    emitted_utc: String,
    payload_bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_hex: Option<String>,
    #[serde(flatten)]
    death: Option<Death<'a>>,
}

/// Why a message is dead, in JSON.
#[derive(Debug, Serialize)]
struct Death<'a> {
    since: u64,
    since_utc: String,
    cause: &'static str,
    attempts: u32,
    reason: &'a str,
}

impl<'a> Death<'a> {
    fn of(dead: &'a DeadMessage) -> Self {
        Self {
            since: dead.since.as_millis(),
            since_utc: utc::text(dead.since),
            cause: cause_name(dead.cause),
            attempts: dead.attempts,
            reason: &dead.reason,
        }
    }
}

impl<'a> Object<'a> {
    fn of(topic: &'a str, message: &'a Message, has_payload: bool) -> Self {
        let optional = |bytes: &'a [u8]| match bytes {
            [] => (None, None),
            bytes => text_or_hex(bytes),
        };
        let (given_id, given_id_hex) = optional(&message.given_id);
        let (key, key_hex) = optional(&message.key);
        let (payload, payload_hex) = if has_payload {
            value_or_hex(&message.payload, Digits::WhereNeeded)
        } else {
            (None, None)
        };
        Self {
            topic,
            id: message.id.to_string(),
            given_id,
            given_id_hex,
            key,
            key_hex,
            position: message.position,
            emitted: message.emitted.as_millis(),
            emitted_utc: utc::text(message.emitted),
            payload_bytes: message.payload.len(),
            payload,
            payload_hex,
            death: None,
        }
    }
}

/// The columns of `outbox list`.
const TITLES: [&str; 7] = ["TOPIC", "POSITION", "EMITTED", "ID", "KEY", "GIVEN-ID", "BYTES"];

/// The columns that --payload adds.
const PAYLOAD_TITLES: [&str; 1] = ["PAYLOAD"];

/// The columns that --dead adds.
const DEATH_TITLES: [&str; 4] = ["SINCE", "CAUSE", "ATTEMPTS", "REASON"];

/// Returns the row of a message in `outbox list`.
fn row(topic: &str, message: &Message, has_payload: bool) -> Vec<String> {
    let text = |bytes| shown(bytes, Digits::WhereNeeded).into_owned();
    let mut row = vec![
        printable(topic),
        message.position.to_string(),
        utc::text(message.emitted),
        message.id.to_string(),
        text(&message.key),
        text(&message.given_id),
        message.payload.len().to_string(),
    ];
    if has_payload {
        row.push(text(&message.payload));
    }
    row
}

fn dead_row(topic: &str, dead: &DeadMessage, has_payload: bool) -> Vec<String> {
    let mut row = row(topic, &dead.message, has_payload);
    let cause = cause_name(dead.cause).to_owned();
    row.extend([utc::text(dead.since), cause, dead.attempts.to_string(), printable(&dead.reason)]);
    row
}

fn cause_name(cause: DeadMessageCause) -> &'static str {
    match cause {
        DeadMessageCause::Refused => "refused",
        DeadMessageCause::Exhausted => "exhausted",
        _ => OTHER,
    }
}

fn list(args: &OutboxListArgs) -> Result<Exit, Failure> {
    let store = super::open_existing(&args.store)?;
    let names = names::chosen(&store, args.topic.as_deref(), Kind::Topic)?;
    let mut titles = TITLES.to_vec();
    if args.payload {
        titles.extend(PAYLOAD_TITLES);
    }
    if args.dead {
        titles.extend(DEATH_TITLES);
    }
    let mut listing = Listing::new(&titles, args.store.json)?;
    let mut left = args.limit.unwrap_or(usize::MAX);
    let mut exit = Exit::Done;
    for name in &names {
        if left == 0 {
            break;
        }
        let topic = store.outbox(name)?;
        let unreadable = if args.dead {
            add_dead(&topic, args.payload, &mut left, &mut listing)?
        } else {
            add_waiting(&topic, args.payload, &mut left, &mut listing)?
        };
        // What cannot be read keeps nobody from the others.
        for error in unreadable {
            output::ended(Err(Failure::from(error).about(name)));
            exit = Exit::Data;
        }
    }
    store.close()?;
    listing.finish()?;
    Ok(exit)
}

/// Adds the messages that wait in a topic to a list. Returns why it could not be read to its end.
fn add_waiting(
    topic: &Outbox,
    has_payload: bool,
    left: &mut usize,
    listing: &mut Listing,
) -> Result<Vec<firstseen::Error>, Failure> {
    let (name, mut added) = (topic.name(), Ok(()));
    let visited = visit_all(topic, |message| {
        let object = || Object::of(name, &message, has_payload);
        added = listing.add(|| row(name, &message, has_payload), object);
        *left -= 1;
        if added.is_ok() && *left > 0 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    added?;
    Ok(visited.err().into_iter().collect())
}

/// Adds the dead letters of a topic to a list. Returns what is wrong with those that cannot be read.
fn add_dead(
    topic: &Outbox,
    has_payload: bool,
    left: &mut usize,
    listing: &mut Listing,
) -> Result<Vec<firstseen::Error>, Failure> {
    let name = topic.name();
    // All are read for each page, so there is one.
    let page = topic.dead_letters().list(None, *left)?;
    *left -= page.messages.len();
    for dead in &page.messages {
        let object = || {
            let death = Some(Death::of(dead));
            Object { death, ..Object::of(name, &dead.message, has_payload) }
        };
        listing.add(|| dead_row(name, dead, has_payload), object)?;
    }
    Ok(page.unreadable.into_iter().map(|(_, error)| error).collect())
}

/// The JSON output for an id.
#[derive(Debug, Serialize)]
struct One<'a> {
    id: &'a str,
    acknowledged: bool,
}

/// The JSON output of --through.
#[derive(Debug, Serialize)]
struct Through {
    acknowledged: usize,
}

fn acknowledge(args: &OutboxAckArgs) -> Result<Exit, Failure> {
    let ids = args.ids.iter().map(|id| message_id(id)).collect::<Result<Vec<_>, _>>()?;
    let store = super::open_existing(&args.store)?;
    names::check(&store, &args.topic, Kind::Topic)?;
    let topic = store.outbox(&args.topic)?;
    let done = match args.through {
        Some(position) => acknowledge_through(&topic, position, args.store.json),
        None => acknowledge_each(&topic, &ids, args),
    };
    drop(topic);
    // What was done has been told by then, and stays done.
    let closed = store.close();
    let exit = done?;
    closed?;
    Ok(exit)
}

fn acknowledge_through(topic: &Outbox, position: u64, as_json: bool) -> Result<Exit, Failure> {
    let waiting = |topic: &Outbox| topic.pending().map(|pending| pending.count);
    let before = waiting(topic);
    let (acknowledged, refused) = match topic.acknowledge_through(position) {
        Ok(acknowledged) => (acknowledged, None),
        // Nobody else has the store open, so those that wait no more were acknowledged here.
        Err(error) => match (before, waiting(topic)) {
            (Ok(before), Ok(after)) => (before.saturating_sub(after), Some(error)),
            _ => {
                let what = "some of the messages may be acknowledged";
                return Err(Failure::from(error).about(what));
            }
        },
    };
    if as_json {
        output::print_json(&Through { acknowledged })?;
    } else {
        output::print(format_args!("{} acknowledged", grouped(acknowledged as u64)))?;
    }
    match refused {
        Some(error) => Err(Failure::from(error).about(&left_below(topic, position))),
        None => Ok(if acknowledged > 0 { Exit::Done } else { Exit::NotSeen }),
    }
}

/// Returns which messages still wait up to a position, for a message.
fn left_below(topic: &Outbox, position: u64) -> String {
    let mut left = Vec::new();
    let read = visit_all(topic, |message| {
        if message.position > position || left.len() > NAMES_MAX {
            return ControlFlow::Break(());
        }
        left.push(message.id.to_string());
        ControlFlow::Continue(())
    });
    match some_of(left.into_iter()) {
        none if none.is_empty() || read.is_err() => printable(topic.name()),
        ids => ids,
    }
}

fn acknowledge_each(
    topic: &Outbox,
    ids: &[[u8; 16]],
    args: &OutboxAckArgs,
) -> Result<Exit, Failure> {
    let found = find(topic, ids).map_err(|error| {
        let name = printable(&args.topic);
        error.about(&format!("nothing was acknowledged, since {name} cannot be read to the end"))
    })?;
    let mut exit = Exit::Done;
    for (id, text) in ids.iter().zip(&args.ids) {
        let answer = found.get(id).map(|message| topic.acknowledge(slice::from_ref(message)));
        let acknowledged = match answer {
            // It waited when this began, and nobody else has the store open.
            Some(Ok(_)) => true,
            None => false,
            // The others are done all the same.
            Some(Err(error)) => {
                exit = output::ended(Err(Failure::from(error).about(text)));
                continue;
            }
        };
        if !acknowledged && exit == Exit::Done {
            exit = Exit::NotSeen;
        }
        if args.store.json {
            output::print_json(&One { id: text, acknowledged })?;
        } else if acknowledged {
            output::print(format_args!("{text} acknowledged"))?;
        } else {
            output::print(format_args!("{text} does not wait in {}", printable(&args.topic)))?;
        }
    }
    Ok(exit)
}

/// Returns the messages of these ids that wait, without what they say. Others are read on the way to them.
fn find(topic: &Outbox, ids: &[[u8; 16]]) -> Result<HashMap<[u8; 16], Message>, Failure> {
    let mut wanted: HashSet<[u8; 16]> = ids.iter().copied().collect();
    let mut found = HashMap::with_capacity(wanted.len());
    visit_all(topic, |mut message| {
        let id = *message.id.as_bytes();
        if wanted.remove(&id) {
            message.payload = Vec::new();
            found.insert(id, message);
        }
        if wanted.is_empty() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok(found)
}

/// Returns the id of a message from the command line.
pub(super) fn message_id(text: &str) -> Result<[u8; 16], Failure> {
    let bytes = super::from_hex(OsStr::new(text), &format!("the id {text:?}"))?;
    bytes.try_into().map_err(|_| {
        Failure::call(format!("the id {text:?} is none of a message: that has 32 digits"))
    })
}
