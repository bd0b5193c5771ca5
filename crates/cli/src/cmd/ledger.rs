//! `firstseen ledger`: the records of ledgers, for an operator.

use firstseen::Store;
use firstseen::ledger::Ledger;
use std::ops::ControlFlow;

use super::entry::Entry;
use crate::args::ledger::{LedgerCommand, LedgerIdArgs, LedgerListArgs};
use crate::output::{self, Exit, Failure};
use crate::table::Listing;

pub(super) fn run(command: LedgerCommand) -> Result<Exit, Failure> {
    match command {
        LedgerCommand::List(args) => list(&args),
        LedgerCommand::Show(args) => show(args.id),
    }
}

/// Opens a ledger that must exist: a misspelt name must not create one.
pub(super) fn known(store: &Store, name: &str) -> Result<Ledger, Failure> {
    super::known_namespace(store, Some(name))?;
    Ok(store.ledger(name)?)
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
    let id = super::checked_id(args.id.clone(), args.hex)?;
    let store = super::open_existing(&args.store, args.wait)?;
    let ledger = known(&store, &args.ledger)?;
    Ok((store, ledger, id))
}

fn list(args: &LedgerListArgs) -> Result<Exit, Failure> {
    let store = super::open_existing(&args.store, args.wait)?;
    let ledgers = chosen(&store, args.ledger.as_deref())?;
    let mut listing = Listing::new(&Entry::TITLES, args.json)?;
    let mut left = args.limit.unwrap_or(usize::MAX);
    for ledger in &ledgers {
        if left == 0 {
            break;
        }
        let mut stopped = None;
        let listed = ledger.list(|record| {
            let record = match record {
                Ok(record) => record,
                Err(error) => {
                    stopped = Some(Err(error.into()));
                    return ControlFlow::Break(());
                }
            };
            if args.state.is_some_and(|state| !state.is_of(&record.state)) {
                return ControlFlow::Continue(());
            }
            let entry =
                Entry { ledger: ledger.name(), record: &record, since: None, payload_bytes: None };
            let added = listing.add(|| entry.row(), || entry.object());
            left -= 1;
            if added.is_ok() && left > 0 {
                return ControlFlow::Continue(());
            }
            stopped = Some(added);
            ControlFlow::Break(())
        });
        match stopped {
            Some(why) => why?,
            None => listed?,
        }
    }
    drop(ledgers);
    store.close()?;
    listing.finish()?;
    Ok(Exit::Done)
}

fn show(args: LedgerIdArgs) -> Result<Exit, Failure> {
    let (store, ledger, id) = open_for_id(&args)?;
    let record = ledger.get(&id)?;
    let since = ledger.dead_letters().get(&id)?.map(|letter| letter.since);
    let payload = ledger.payload(&id)?;
    drop(ledger);
    store.close()?;
    let Some(record) = record else {
        if !args.json {
            output::print("no record")?;
        }
        return Ok(Exit::NotSeen);
    };
    let payload_bytes = payload.map(|payload| payload.len());
    print(&Entry { ledger: &args.ledger, record: &record, since, payload_bytes }, args.json)?;
    Ok(Exit::Done)
}

/// Prints everything in a record.
pub(super) fn print(entry: &Entry<'_>, as_json: bool) -> Result<(), Failure> {
    if as_json { output::print_json(&entry.object()) } else { output::print(entry) }
}
