//! `firstseen history`: what the log still knows of an id.

use firstseen::{History, HistoryEvent, HistoryKind, LostBytes, ReadOnly, RowKind, Timestamp};
use serde::Serialize;

use super::entry::OTHER;
use super::{DEFAULT, Opened};
use crate::args::history::HistoryArgs;
use crate::output::{self, Exit, Failure, counted, printable};
use crate::table::Listing;
use crate::utc;

/// The JSON output for an event. The fields are documented in `--help`.
#[derive(Debug, Serialize)]
struct Object<'a> {
    what: &'static str,
    row: Option<&'static str>,
    stage: Option<u32>,
    sequence: Option<u64>,
    bytes: Option<u64>,
    time: Option<u64>,
    time_utc: Option<String>,
    deadline: Option<u64>,
    deadline_utc: Option<String>,
    segment: u32,
    offset: u32,
    copies: u64,
    claims: u64,
    rows: u64,
    namespaces: &'a [String],
}

impl<'a> Object<'a> {
    fn of(event: &'a HistoryEvent) -> Self {
        let (what, row, sequence, bytes) = match event.what {
            HistoryKind::Claimed => ("claimed", None, None, None),
            HistoryKind::Extended => ("extended", None, None, None),
            HistoryKind::Forgotten => ("forgotten", None, None, None),
            HistoryKind::RowPut { row, sequence, bytes } => {
                ("put", Some(row), Some(sequence), Some(bytes))
            }
            HistoryKind::RowDeleted { row, sequence } => {
                ("deleted", Some(row), Some(sequence), None)
            }
            _ => (OTHER, None, None, None),
        };
        let stage = match row {
            Some(RowKind::Stage(number)) => Some(number),
            _ => None,
        };
        let deadline = event.deadline.filter(|deadline| *deadline != Timestamp::NEVER);
        Self {
            what,
            row: row.map(row_name),
            stage,
            sequence,
            bytes,
            time: event.time.map(Timestamp::as_millis),
            time_utc: event.time.map(utc::text),
            deadline: deadline.map(Timestamp::as_millis),
            deadline_utc: deadline.map(utc::text),
            segment: event.position.segment,
            offset: event.position.offset,
            copies: event.copies,
            claims: event.commit.claims,
            rows: event.commit.rows,
            namespaces: &event.commit.namespaces,
        }
    }
}

/// The columns for people.
const TITLES: [&str; 5] = ["TIME", "WHAT", "ENDS", "SEGMENT:OFFSET", "COMMIT"];

fn row(event: &HistoryEvent) -> Vec<String> {
    let object = Object::of(event);
    let what = match (object.row, object.stage) {
        (None, _) => object.what.to_owned(),
        (Some(row), None) => format!("{} {row}", object.what),
        (Some(row), Some(number)) => format!("{} {row} {number}", object.what),
    };
    let ends = match event.deadline {
        None => String::new(),
        Some(Timestamp::NEVER) => "never".to_owned(),
        Some(deadline) => utc::text(deadline),
    };
    let (claims, rows) = (counted(object.claims, "claim"), counted(object.rows, "row"));
    vec![
        object.time_utc.unwrap_or_default(),
        what,
        ends,
        format!("{}:{}", object.segment, object.offset),
        format!("{claims}, {rows}: {}", printable(&object.namespaces.join(", "))),
    ]
}

fn row_name(row: RowKind) -> &'static str {
    match row {
        RowKind::Record => "record",
        RowKind::Stage(_) => "stage",
        RowKind::Payload => "payload",
        RowKind::DeadLetter => "dead-letter",
        RowKind::State => "state",
        _ => OTHER,
    }
}

pub(super) fn run(args: HistoryArgs) -> Result<Exit, Failure> {
    let HistoryArgs { id, store: on, namespace, hex } = args;
    let as_json = on.json;
    let id = super::checked_id(id, hex)?;
    let store = Opened::to_read_around_damage(&on.dir, on.wait)?;
    let History { events, damage, .. } = match store {
        Opened::Whole(store) => {
            let namespace = super::known_namespace(&store, namespace.as_deref())?;
            let history = namespace.history(&id)?;
            drop(namespace);
            store.close()?;
            history
        }
        Opened::ReadOnly(store) => read_only(&store, namespace.as_deref(), &id)?,
    };
    if events.is_empty() {
        if !as_json && damage.is_empty() {
            output::print("nothing is known")?;
        }
    } else {
        let mut listing = Listing::new(&TITLES, as_json)?;
        for event in &events {
            listing.add(|| row(event), || Object::of(event))?;
        }
        listing.finish()?;
    }
    for lost in &damage {
        output::complain(&told(lost));
    }
    Ok(match (damage.is_empty(), events.is_empty()) {
        (false, _) => Exit::Data,
        (true, true) => Exit::NotSeen,
        (true, false) => Exit::Done,
    })
}

/// Reads the history from the log alone.
fn read_only(store: &ReadOnly, namespace: Option<&str>, id: &[u8]) -> Result<History, Failure> {
    let history = store.history(namespace.unwrap_or(DEFAULT), id)?;
    if let Some(name) = namespace.filter(|_| history.events.is_empty() && history.damage.is_empty())
    {
        super::check_read_only(store, name)?;
    }
    Ok(history)
}

/// Says what cannot be read.
fn told(lost: &LostBytes) -> String {
    let LostBytes { file, offset, bytes, .. } = lost;
    let file = file.display();
    match bytes {
        0 => format!("{file}: what follows byte {offset} is missing"),
        bytes => format!("{file}: {} at {offset} cannot be read", counted(*bytes, "byte")),
    }
}
