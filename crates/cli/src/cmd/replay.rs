//! `firstseen replay`: replay scopes, listed, promoted or dropped.

use firstseen::replay::{NamespaceCount, ReplayState, ReplaySummary, ScopeCount};
use firstseen::{Store, Timestamp};
use serde::Serialize;

use super::names::some_of;
use crate::args::replay::{ReplayCommand, ReplayEndArgs, ReplayListArgs};
use crate::output::{self, Exit, Failure, printable};
use crate::table::Listing;
use crate::utc;

pub(super) fn run(command: ReplayCommand) -> Result<Exit, Failure> {
    match command {
        ReplayCommand::List(args) => list(&args),
        ReplayCommand::Promote(args) => end(&args, ReplayState::Promoted),
        ReplayCommand::Drop(args) => end(&args, ReplayState::Dropped),
    }
}

/// The JSON output for a scope. The fields are documented in `--help`.
#[derive(Debug, Serialize)]
struct Object<'a> {
    name: &'a str,
    state: &'static str,
    created: u64,
    created_utc: String,
    ended: Option<u64>,
    ended_utc: Option<String>,
    names: &'a [String],
    #[serde(flatten)]
    count: Option<Count<'a>>,
}

/// What is inside a scope, in JSON.
#[derive(Debug, Serialize)]
struct Count<'a> {
    ids: u64,
    duplicates: u64,
    new_ids: u64,
    counts: Vec<CountOfName<'a>>,
}

/// What is inside a scope under one name, in JSON.
#[derive(Debug, Serialize)]
struct CountOfName<'a> {
    namespace: &'a str,
    claims: u64,
    claims_outside: u64,
    records: u64,
    records_outside: u64,
}

impl<'a> CountOfName<'a> {
    fn of(count: &'a NamespaceCount) -> Self {
        Self {
            namespace: &count.namespace,
            claims: count.claims,
            claims_outside: count.claims_outside,
            records: count.records,
            records_outside: count.records_outside,
        }
    }
}

impl<'a> Object<'a> {
    fn of(scope: &'a ReplaySummary, count: Option<&'a ScopeCount>) -> Self {
        Self {
            name: &scope.name,
            state: state_name(scope.state),
            created: scope.created.as_millis(),
            created_utc: utc::text(scope.created),
            ended: scope.ended.map(Timestamp::as_millis),
            ended_utc: scope.ended.map(utc::text),
            names: &scope.names,
            count: count.map(|count| Count {
                ids: count.ids(),
                duplicates: count.duplicates(),
                new_ids: count.new_ids(),
                counts: count.namespaces.iter().map(CountOfName::of).collect(),
            }),
        }
    }
}

/// The columns of `replay list`; the last is left out without --count.
const TITLES: [&str; 6] = ["CREATED", "STATE", "ENDED", "NAMES", "SCOPE", "IDS"];

fn row(scope: &ReplaySummary, count: Option<&ScopeCount>) -> Vec<String> {
    let mut row = vec![
        utc::text(scope.created),
        state_name(scope.state).to_owned(),
        scope.ended.map(utc::text).unwrap_or_default(),
        scope.names.len().to_string(),
        printable(&scope.name),
    ];
    row.extend(
        count
            .map(|count| format!("{}, of which {} known outside", count.ids(), count.duplicates())),
    );
    row
}

fn state_name(state: ReplayState) -> &'static str {
    match state {
        ReplayState::Open => "open",
        ReplayState::Promoted => "promoted",
        ReplayState::Dropped => "dropped",
    }
}

fn list(args: &ReplayListArgs) -> Result<Exit, Failure> {
    let store = super::open_existing(&args.store)?;
    let mut scopes = store.replays()?;
    scopes.truncate(args.limit.unwrap_or(usize::MAX));
    let titles = if args.count { &TITLES[..] } else { &TITLES[..TITLES.len() - 1] };
    let mut listing = Listing::new(titles, args.store.json)?;
    for scope in &scopes {
        let is_counted = args.count && scope.state == ReplayState::Open;
        let open = store.find_replay(&scope.name).filter(|_| is_counted);
        let count = open.map(|scope| scope.count()).transpose()?;
        listing.add(|| row(scope, count.as_ref()), || Object::of(scope, count.as_ref()))?;
    }
    store.close()?;
    listing.finish()?;
    Ok(Exit::Done)
}

/// The JSON output for a scope that was to end.
#[derive(Debug, Serialize)]
struct Ended<'a> {
    name: &'a str,
    state: &'static str,
    changed: bool,
}

fn end(args: &ReplayEndArgs, wanted: ReplayState) -> Result<Exit, Failure> {
    let store = super::open_existing(&args.store)?;
    let name = &args.name;
    let (state, changed) = carry_out(&store, name, wanted)?;
    store.close()?;
    let before = if changed { "" } else { " before" };
    let was = if changed { "" } else { "was " };
    if args.store.json {
        output::print_json(&Ended { name, state: state_name(state), changed })?;
    } else {
        let (name, state) = (printable(name), state_name(state));
        output::print(format_args!("{name} {was}{state}{before}"))?;
    }
    Ok(if state == wanted { Exit::Done } else { Exit::NotSeen })
}

/// Ends a scope. Returns how it has ended, and whether it was ended here.
fn carry_out(
    store: &Store,
    name: &str,
    wanted: ReplayState,
) -> Result<(ReplayState, bool), Failure> {
    let Some(scope) = store.find_replay(name) else {
        let scopes = store.replays()?;
        // One that was dropped has given its name back.
        if scopes.iter().any(|scope| scope.name == name) {
            return Ok((ReplayState::Dropped, false));
        }
        let known: Vec<String> = scopes.into_iter().map(|scope| scope.name).collect();
        let known = match known.len() {
            0 => "there are none in this store".to_owned(),
            _ => format!("there are: {}", some_of(known.into_iter())),
        };
        return Err(Failure::call(format!("there is no replay scope {name:?}; {known}")));
    };
    match (scope.state(), wanted) {
        (ReplayState::Open, ReplayState::Promoted) => Ok((wanted, scope.promote()?)),
        (ReplayState::Open, _) => Ok((wanted, scope.discard()?)),
        (ended, _) => Ok((ended, false)),
    }
}
