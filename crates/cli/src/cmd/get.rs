//! `firstseen get`: when was an id first seen?

use firstseen::{Seen, Timestamp};
use serde::Serialize;

use crate::args::IdArgs;
use crate::output::{self, Exit, Failure};
use crate::utc;

use super::{DEFAULT, Opened};

/// The JSON output. Missing times are null.
#[derive(Debug, Serialize)]
struct Answer {
    seen: bool,
    first_seen: Option<u64>,
    first_seen_utc: Option<String>,
    deadline: Option<u64>,
    deadline_utc: Option<String>,
}

impl Answer {
    fn of(seen: Option<&Seen>) -> Self {
        let first_seen = seen.map(|seen| seen.first_seen);
        let deadline = seen.map(|seen| seen.deadline).filter(|end| *end != Timestamp::NEVER);
        Self {
            seen: seen.is_some(),
            first_seen: first_seen.map(Timestamp::as_millis),
            first_seen_utc: first_seen.map(utc::text),
            deadline: deadline.map(Timestamp::as_millis),
            deadline_utc: deadline.map(utc::text),
        }
    }
}

pub(super) fn run(args: IdArgs) -> Result<Exit, Failure> {
    let as_json = args.store.json;
    let id = super::checked_id(args.id, args.hex)?;
    let store = Opened::to_read(&args.store.dir, args.store.wait)?;
    if let Some(name) = &args.namespace {
        store.check_namespace(name)?;
    }
    let seen = match store {
        Opened::Whole(store) => {
            let seen = super::known_namespace(&store, args.namespace.as_deref())?.get(&id)?;
            store.close()?;
            seen
        }
        Opened::ReadOnly(store) => store.get(args.namespace.as_deref().unwrap_or(DEFAULT), &id)?,
    };
    if as_json {
        output::print_json(&Answer::of(seen.as_ref()))?;
    } else if let Some(seen) = &seen {
        output::print(format_args!("first seen  {}", moment(seen.first_seen)))?;
        output::print(format_args!("until       {}", moment(seen.deadline)))?;
    } else {
        output::print("not seen")?;
    }
    Ok(if seen.is_some() { Exit::Done } else { Exit::NotSeen })
}

fn moment(moment: Timestamp) -> String {
    if moment == Timestamp::NEVER {
        return "forever".to_owned();
    }
    format!("{}  ({} ms)", utc::text(moment), moment.as_millis())
}
