//! `firstseen dead-letter`: what ledgers have given up, or hold for an operator.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use firstseen::ledger::{DeadFilter, DeadLetter, DeadLetters, Swept};
use serde::Serialize;

use super::entry::{Entry, Id, shown_id};
use super::ledger;
use crate::args::ledger::{DeadLetterCommand, DeadListArgs, DeadShowArgs, FilterArgs, SweepArgs};
use crate::output::{self, Exit, Failure, grouped};
use crate::table::Listing;

pub(super) fn run(command: DeadLetterCommand) -> Result<Exit, Failure> {
    match command {
        DeadLetterCommand::List(args) => list(&args),
        DeadLetterCommand::Show(args) => show(&args),
        DeadLetterCommand::Redrive(args) => {
            let step = if args.fresh { Step::RedriveFresh } else { Step::Redrive };
            sweep(args.sweep, step)
        }
        DeadLetterCommand::Purge(args) => sweep(args.sweep, Step::Purge),
    }
}

/// Dead letters read at a time.
const PAGE: usize = 4096;

/// What was passed on.
#[derive(Debug, Default)]
struct Visited {
    letters: usize,
    /// Those that could not be read, and are on standard error.
    unreadable: usize,
}

/// Passes dead letters to `visit`, the oldest first; returns how many.
fn visit_all(
    letters: &DeadLetters,
    filter: &DeadFilter,
    limit: usize,
    mut visit: impl FnMut(DeadLetter) -> Result<(), Failure>,
) -> Result<Visited, Failure> {
    let mut visited = Visited::default();
    let mut next = Some(filter.clone());
    while let Some(filter) = next.filter(|_| visited.letters < limit) {
        let page = letters.list(&filter.limit(PAGE.min(limit - visited.letters)))?;
        next = page.next;
        visited.letters += page.letters.len();
        visited.unreadable += page.unreadable.len();
        page.letters.into_iter().try_for_each(&mut visit)?;
        // One that cannot be read keeps nobody from the others.
        for (id, error) in page.unreadable {
            tell_failure(&id, error);
        }
    }
    Ok(visited)
}

fn list(args: &DeadListArgs) -> Result<Exit, Failure> {
    let store = super::open_existing(&args.store)?;
    let ledgers = ledger::chosen(&store, args.ledger.as_deref())?;
    let mut listing = Listing::new(&Entry::DEAD_TITLES, args.store.json)?;
    let filter = args.filter.unlimited();
    let mut left = args.filter.limit.unwrap_or(usize::MAX);
    let mut exit = Exit::Done;
    for ledger in &ledgers {
        let visited = visit_all(&ledger.dead_letters(), &filter, left, |letter| {
            let DeadLetter { since, record, .. } = &letter;
            let since = Some(*since);
            let (ledger, is_in_progress) = (ledger.name(), false);
            let entry = Entry { ledger, record, is_in_progress, since, payload_bytes: None };
            listing.add(|| entry.dead_row(), || entry.object())
        })?;
        left -= visited.letters;
        if visited.unreadable > 0 {
            exit = Exit::Data;
        }
    }
    drop(ledgers);
    store.close()?;
    listing.finish()?;
    Ok(exit)
}

fn show(args: &DeadShowArgs) -> Result<Exit, Failure> {
    let is_stdout = args.payload_to.as_deref() == Some(Path::new("-"));
    if is_stdout && args.id.store.json {
        return Err(Failure::call("--payload-to - prints the payload alone; leave out --json"));
    }
    let (store, ledger, id) = ledger::open_for_id(&args.id)?;
    let letter = ledger.dead_letters().get(&id)?;
    let payload = ledger.payload(&id)?;
    drop(ledger);
    store.close()?;
    let Some(letter) = letter else {
        let message = "neither dead nor held";
        if is_stdout {
            output::complain(&format!("{} is {message}", shown_id(&id)));
        } else if !args.id.store.json {
            output::print(message)?;
        }
        return Ok(Exit::NotSeen);
    };
    if let Some(path) = &args.payload_to {
        let Some(payload) = &payload else {
            output::complain(&format!("{} has no payload", shown_id(&id)));
            return Ok(Exit::NotSeen);
        };
        if is_stdout {
            output::print_bytes(payload)?;
            return Ok(Exit::Done);
        }
        save(path, payload)?;
    }
    let (since, payload_bytes) = (Some(letter.since), payload.map(|payload| payload.len()));
    let (ledger, record, is_in_progress) = (&args.id.ledger[..], &letter.record, false);
    let entry = Entry { ledger, record, is_in_progress, since, payload_bytes };
    ledger::print(&entry, args.id.store.json)?;
    Ok(Exit::Done)
}

fn save(path: &Path, payload: &[u8]) -> Result<(), Failure> {
    let mut file = File::create(path).map_err(|error| {
        let doing = format!("open {} for writing", path.display());
        if output::is_short_of_files(&error) {
            return Failure::of_system(&doing, &error);
        }
        Failure::call(format!("cannot {doing}: {error}"))
    })?;
    file.write_all(payload)
        .map_err(|error| Failure::of_system(&format!("write to {}", path.display()), &error))
}

/// What is done with dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Redrive,
    RedriveFresh,
    Purge,
}

impl Step {
    fn one(self, letters: &DeadLetters, id: &[u8]) -> firstseen::Result<bool> {
        match self {
            Self::Redrive => letters.redrive(id),
            Self::RedriveFresh => letters.redrive_fresh(id),
            Self::Purge => letters.purge(id),
        }
    }

    fn all(self, letters: &DeadLetters, filter: &FilterArgs) -> Result<Swept, Failure> {
        let filter = filter.unlimited().limit(filter.limit.unwrap_or(usize::MAX));
        Ok(match self {
            Self::Redrive => letters.redrive_all(&filter),
            Self::RedriveFresh => letters.redrive_all_fresh(&filter),
            Self::Purge => letters.purge_all(&filter),
        }?)
    }

    /// What a person reads of one that is done.
    fn done(self) -> &'static str {
        if self == Self::Purge { "purged" } else { "redriven" }
    }

    /// Returns an answer as it is printed for a program.
    fn object<T: Serialize>(self, answer: T) -> Object<T> {
        match self {
            Self::Purge => Object::Purged(answer),
            _ => Object::Redriven(answer),
        }
    }
}

/// An answer under the name of what was done.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Object<T> {
    Redriven(T),
    Purged(T),
}

/// The JSON output for one id.
#[derive(Debug, Serialize)]
struct One<'a> {
    #[serde(flatten)]
    id: Id<'a>,
    #[serde(flatten)]
    answer: Object<bool>,
}

/// The JSON output of --all.
#[derive(Debug, Serialize)]
struct All {
    #[serde(flatten)]
    answer: Object<u64>,
    failed: usize,
}

fn sweep(args: SweepArgs, step: Step) -> Result<Exit, Failure> {
    let mut ids = Vec::with_capacity(args.ids.len());
    for id in args.ids {
        ids.push(super::checked_id(id, args.hex)?);
    }
    let store = super::open_existing(&args.store)?;
    let letters = ledger::known(&store, &args.ledger)?.dead_letters();
    if args.all {
        let swept = step.all(&letters, &args.filter)?;
        drop(letters);
        store.close()?;
        return tell_all(step, swept, args.store.json);
    }
    let answers: Vec<_> = ids.iter().map(|id| (id, step.one(&letters, id))).collect();
    drop(letters);
    store.close()?;
    tell_each(step, answers, args.store.json)
}

fn tell_all(step: Step, swept: Swept, as_json: bool) -> Result<Exit, Failure> {
    let failed = swept.failed.len();
    if as_json {
        output::print_json(&All { answer: step.object(swept.changed), failed })?;
    } else {
        output::print(format_args!("{} {}", grouped(swept.changed), step.done()))?;
    }
    let mut exit = if swept.changed > 0 { Exit::Done } else { Exit::NotSeen };
    for (id, error) in swept.failed {
        tell_failure(&id, error);
        exit = Exit::Data;
    }
    Ok(exit)
}

fn tell_each(
    step: Step,
    answers: Vec<(&Vec<u8>, firstseen::Result<bool>)>,
    as_json: bool,
) -> Result<Exit, Failure> {
    let (mut all_done, mut failed) = (true, None);
    for (id, answer) in answers {
        let is_done = match answer {
            Ok(is_done) => is_done,
            Err(error) => {
                failed = Some(tell_failure(id, error));
                continue;
            }
        };
        all_done &= is_done;
        if as_json {
            output::print_json(&One { id: Id::of(id), answer: step.object(is_done) })?;
        } else if is_done {
            output::print(format_args!("{} {}", shown_id(id), step.done()))?;
        } else {
            output::print(format_args!("{} is neither dead nor held", shown_id(id)))?;
        }
    }
    Ok(failed.unwrap_or(if all_done { Exit::Done } else { Exit::NotSeen }))
}

/// Says why one of many could not be done. The others were done all the same.
fn tell_failure(id: &[u8], error: firstseen::Error) -> Exit {
    output::ended(Err(Failure::from(error).about(&shown_id(id))))
}
