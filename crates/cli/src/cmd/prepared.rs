//! `firstseen prepared`: transactions that wait for the word of their coordinator.

use firstseen::transaction::{EndOutcome, PreparedTransaction};
use firstseen::{Store, Timestamp};
use serde::Serialize;
use std::time::Duration;

use super::bytes::{Digits, shown, text_or_hex};
use crate::args::prepared::{PreparedCommand, PreparedEndArgs, PreparedListArgs};
use crate::output::{self, Exit, Failure};
use crate::table::Listing;
use crate::utc;

pub(super) fn run(command: PreparedCommand) -> Result<Exit, Failure> {
    match command {
        PreparedCommand::List(args) => list(&args),
        PreparedCommand::Commit(args) => end(args, End::Commit),
        PreparedCommand::Rollback(args) => end(args, End::Rollback),
    }
}

/// The JSON output for a transaction. The fields are documented in `--help`.
#[derive(Debug, Serialize)]
struct Object<'a> {
    #[serde(flatten)]
    gid: Gid<'a>,
    since: u64,
    since_utc: String,
    age_ms: u64,
    claims: usize,
    rows: usize,
}

/// The name of a transaction, in JSON.
#[derive(Debug, Serialize)]
struct Gid<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    gid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gid_hex: Option<String>,
}

impl<'a> Gid<'a> {
    fn of(gid: &'a [u8]) -> Self {
        let (gid, gid_hex) = text_or_hex(gid);
        Self { gid, gid_hex }
    }
}

fn list(args: &PreparedListArgs) -> Result<Exit, Failure> {
    let store = super::open_existing(&args.store)?;
    let all = store.prepared()?;
    store.close()?;
    let mut listing = Listing::new(&["SINCE", "AGE", "CLAIMS", "ROWS", "GID"], args.store.json)?;
    for PreparedTransaction { gid, since, age, claims, rows } in
        all.iter().take(args.limit.unwrap_or(usize::MAX))
    {
        let row = || {
            let gid = shown(gid, Digits::WhereNeeded).into_owned();
            vec![utc::text(*since), age_text(*age), claims.to_string(), rows.to_string(), gid]
        };
        listing.add(row, || Object {
            gid: Gid::of(gid),
            since: Timestamp::as_millis(*since),
            since_utc: utc::text(*since),
            age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
            claims: *claims,
            rows: *rows,
        })?;
    }
    listing.finish()?;
    Ok(Exit::Done)
}

/// Returns an age in its two largest units: `3d4h`, `5m12s`.
fn age_text(age: Duration) -> String {
    let seconds = age.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{}s", seconds % 60),
        (0, _, _) => format!("{hours}h{}m", minutes % 60),
        _ => format!("{days}d{}h", hours % 24),
    }
}

/// How a transaction is to end.
#[derive(Debug, Clone, Copy)]
enum End {
    Commit,
    Rollback,
}

impl End {
    fn carry_out(self, store: &Store, gid: &[u8]) -> firstseen::Result<EndOutcome> {
        match self {
            Self::Commit => store.commit_prepared(gid),
            Self::Rollback => store.rollback_prepared(gid),
        }
    }

    fn state(self) -> State {
        match self {
            Self::Commit => State::Committed,
            Self::Rollback => State::RolledBack,
        }
    }

    fn other(self) -> State {
        match self {
            Self::Commit => State::RolledBack,
            Self::Rollback => State::Committed,
        }
    }
}

/// How a transaction has ended.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    Committed,
    RolledBack,
}

impl State {
    fn words(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::RolledBack => "rolled back",
        }
    }
}

/// The JSON output for a transaction that was to end.
#[derive(Debug, Serialize)]
struct Ended<'a> {
    #[serde(flatten)]
    gid: Gid<'a>,
    state: Option<State>,
    changed: bool,
}

fn end(args: PreparedEndArgs, end: End) -> Result<Exit, Failure> {
    let gid = super::key_bytes(args.gid, args.hex, "the gid")?;
    let store = super::open_existing(&args.store)?;
    let outcome = end.carry_out(&store, &gid);
    let outcome =
        outcome.map_err(|error| Failure::from(error).about(&shown(&gid, Digits::WhereNeeded)))?;
    let state = match outcome {
        EndOutcome::Done | EndOutcome::AlreadyDone => Some(end.state()),
        EndOutcome::EndedOtherwise => Some(end.other()),
        EndOutcome::Unknown => None,
    };
    let changed = outcome == EndOutcome::Done;
    if args.store.json {
        output::print_json(&Ended { gid: Gid::of(&gid), state, changed })?;
    } else {
        let gid = shown(&gid, Digits::WhereNeeded);
        match state.map(State::words) {
            Some(state) if changed => output::print(format_args!("{gid} {state}"))?,
            Some(state) => output::print(format_args!("{gid} was {state} before"))?,
            None => output::print(format_args!("{gid} is no known transaction"))?,
        }
    }
    // After its end was told: that holds, whatever becomes of this.
    store.close()?;
    Ok(match outcome {
        EndOutcome::Done | EndOutcome::AlreadyDone => Exit::Done,
        EndOutcome::EndedOtherwise | EndOutcome::Unknown => Exit::NotSeen,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_has_its_two_largest_units() {
        let ages = [(0, "0s"), (59, "59s"), (312, "5m12s"), (7_260, "2h1m"), (273_600, "3d4h")];
        for (seconds, text) in ages {
            assert_eq!(age_text(Duration::from_secs(seconds)), text);
        }
    }
}
