//! `firstseen ledger`: the records of ledgers, for an operator.

use firstseen::Store;
use firstseen::ledger::{Ledger, LedgerOptions, Record};
use firstseen::limits::LEDGER_VALUE_BYTES_MAX;
use serde::Serialize;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStringExt as _;

use super::entry::{Entry, Id, shown_id, state_name};
use super::names::{self, Kind};
use crate::args::ledger::{CancelArgs, LedgerCommand, LedgerIdArgs, LedgerListArgs, SettleArgs};
use crate::output::{self, Exit, Failure};
use crate::table::Listing;

pub(super) fn run(command: LedgerCommand) -> Result<Exit, Failure> {
    match command {
        LedgerCommand::List(args) => list(&args),
        LedgerCommand::Show(args) => show(args.id),
        LedgerCommand::Settle(args) => settle(args),
        LedgerCommand::Cancel(args) => cancel(args),
    }
}

/// Opens a ledger that must exist: a misspelt name must not create one.
pub(super) fn known(store: &Store, name: &str) -> Result<Ledger, Failure> {
    known_with(store, name, LedgerOptions::new())
}

fn known_with(store: &Store, name: &str, options: LedgerOptions) -> Result<Ledger, Failure> {
    names::check(store, name, Kind::Ledger)?;
    Ok(store.ledger_with(name, options)?)
}

/// Opens the named ledger, or all of a store. Any namespace may be one; that of one that is not has no records.
pub(super) fn chosen(store: &Store, name: Option<&str>) -> Result<Vec<Ledger>, Failure> {
    match name {
        Some(name) => Ok(vec![known(store, name)?]),
        None => {
            let namespaces = store.stats().namespaces.into_iter();
            namespaces.map(|known| Ok(store.ledger(&known.name)?)).collect()
        }
    }
}

/// Opens the store and the ledger for a command on one id.
pub(super) fn open_for_id(args: &LedgerIdArgs) -> Result<(Store, Ledger, Vec<u8>), Failure> {
    open_for_id_with(args, LedgerOptions::new())
}

fn open_for_id_with(
    args: &LedgerIdArgs,
    options: LedgerOptions,
) -> Result<(Store, Ledger, Vec<u8>), Failure> {
    let id = super::checked_id(args.id.clone(), args.hex)?;
    let store = super::open_existing(&args.store)?;
    let ledger = known_with(&store, &args.ledger, options)?;
    Ok((store, ledger, id))
}

fn list(args: &LedgerListArgs) -> Result<Exit, Failure> {
    let store = super::open_existing(&args.store)?;
    let ledgers = chosen(&store, args.ledger.as_deref())?;
    let mut listing = Listing::new(&Entry::TITLES, args.store.json)?;
    let mut left = args.limit.unwrap_or(usize::MAX);
    let mut exit = Exit::Done;
    for ledger in &ledgers {
        if left == 0 {
            break;
        }
        let mut added = Ok(());
        ledger.list(|id, record| {
            let record = match record {
                Ok(record) => record,
                // One that cannot be read keeps nobody from the others.
                Err(error) => {
                    let what = format!("{}: {}", ledger.name(), shown_id(id));
                    output::ended(Err(Failure::from(error).about(&what)));
                    exit = Exit::Data;
                    return ControlFlow::Continue(());
                }
            };
            let is_in_progress = ledger.is_in_progress(&record);
            if args.state.is_some_and(|state| !state.is_of(&record.state, is_in_progress)) {
                return ControlFlow::Continue(());
            }
            let (name, record) = (ledger.name(), &record);
            let entry =
                Entry { ledger: name, record, is_in_progress, since: None, payload_bytes: None };
            added = listing.add(|| entry.row(), || entry.object());
            left -= 1;
            if added.is_ok() && left > 0 {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })?;
        added?;
    }
    drop(ledgers);
    store.close()?;
    listing.finish()?;
    Ok(exit)
}

fn show(args: LedgerIdArgs) -> Result<Exit, Failure> {
    let (store, ledger, id) = open_for_id(&args)?;
    let record = ledger.get(&id)?;
    let (since, exit) = match ledger.dead_letters().get(&id) {
        Ok(letter) => (letter.map(|letter| letter.since), Exit::Done),
        // Since when it is dead cannot be read; the record could.
        Err(error) => {
            output::ended(Err(Failure::from(error).about(&shown_id(&id))));
            (None, Exit::Data)
        }
    };
    let payload = ledger.payload(&id)?;
    let is_in_progress = record.as_ref().is_some_and(|record| ledger.is_in_progress(record));
    drop(ledger);
    store.close()?;
    let Some(record) = record else {
        if !args.store.json {
            output::print("no record")?;
        }
        return Ok(Exit::NotSeen);
    };
    let payload_bytes = payload.map(|payload| payload.len());
    let (ledger, record) = (&args.ledger[..], &record);
    print(&Entry { ledger, record, is_in_progress, since, payload_bytes }, args.store.json)?;
    Ok(exit)
}

fn settle(args: SettleArgs) -> Result<Exit, Failure> {
    let SettleArgs { id: args, result, result_hex, as_value, reason, ttl } = args;
    let result = match (result, result_hex) {
        (_, Some(digits)) => super::from_hex(&digits, "the result")?,
        (result, None) => result.unwrap_or_default().into_vec(),
    };
    let value = as_value.then(|| String::from_utf8(result.clone())).transpose();
    let value = value.map_err(|_| Failure::call("a result that is no UTF-8 is no string"))?;
    let mut options = LedgerOptions::new().result_bytes_max(LEDGER_VALUE_BYTES_MAX);
    if let Some(ttl) = ttl {
        options = options.result_ttl(ttl);
    }
    operate(&args, options, Answer::Settled, |ledger, id| match &value {
        Some(text) => ledger.settle_value(id, text, &reason),
        None => ledger.settle(id, result, &reason),
    })
}

fn cancel(args: CancelArgs) -> Result<Exit, Failure> {
    let CancelArgs { id: args, reason, ttl } = args;
    let options = ttl.map_or_else(LedgerOptions::new, |ttl| LedgerOptions::new().dead_ttl(ttl));
    operate(&args, options, Answer::Cancelled, |ledger, id| ledger.cancel(id, &reason))
}

/// Whether it was done, under the name of what was done.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Settled(bool),
    Cancelled(bool),
}

/// The JSON output for a changed record.
#[derive(Debug, Serialize)]
struct Operated<'a> {
    #[serde(flatten)]
    id: Id<'a>,
    #[serde(flatten)]
    answer: Answer,
    state: Option<&'static str>,
}

/// Changes one record, and tells what became of it.
fn operate(
    args: &LedgerIdArgs,
    options: LedgerOptions,
    answer: impl FnOnce(bool) -> Answer,
    change: impl FnOnce(&Ledger, &[u8]) -> firstseen::Result<Option<Record>>,
) -> Result<Exit, Failure> {
    let (store, ledger, id) = open_for_id_with(args, options)?;
    // Nobody else has the store open, so what is different was changed here.
    let before = ledger.get(&id)?;
    let after = change(&ledger, &id)?;
    let name = |record: &Record| state_name(&record.state, ledger.is_in_progress(record));
    let state = after.as_ref().map(name);
    drop(ledger);
    store.close()?;
    let is_done = after != before;
    let answer = answer(is_done);
    if args.store.json {
        output::print_json(&Operated { id: Id::of(&id), answer, state })?;
    } else {
        let id = shown_id(&id);
        match (after, answer) {
            (None, _) => output::print("no record")?,
            (_, Answer::Settled(true)) => output::print(format_args!("{id} settled"))?,
            (_, Answer::Cancelled(true)) => output::print(format_args!("{id} cancelled"))?,
            (Some(record), _) => output::print(format_args!("{id} is {}", record.state))?,
        }
    }
    Ok(if is_done { Exit::Done } else { Exit::NotSeen })
}

/// Prints everything in a record.
pub(super) fn print(entry: &Entry<'_>, as_json: bool) -> Result<(), Failure> {
    if as_json { output::print_json(&entry.object()) } else { output::print(entry) }
}
