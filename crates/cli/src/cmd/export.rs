//! `firstseen export`: every claim as a line of NDJSON.

use std::io;

use firstseen::ExportEntry;

use crate::args::ExportArgs;
use crate::output::{Exit, Failure};
use crate::sink::Sink;

use super::{Opened, record};

pub(super) fn run(args: &ExportArgs) -> Result<Exit, Failure> {
    let store = Opened::to_read(&args.store, args.wait)?;
    if let Some(name) = &args.namespace {
        store.check_namespace(name)?;
    }
    let mut out = Sink::stdout(b'\n')?;
    let mut line = Vec::new();
    let mut failed = None;
    let visit = |entry: ExportEntry<'_>| {
        if args.namespace.as_deref().is_some_and(|wanted| wanted != entry.namespace) {
            return Ok(());
        }
        record::write(&entry, &mut line)?;
        // Keep our own failure aside: the engine would report it as an error in one of its files.
        out.put(&line).map_err(|failure| {
            failed = Some(failure);
            io::ErrorKind::Other.into()
        })
    };
    let exported = match &store {
        Opened::Whole(store) => store.export(visit),
        Opened::ReadOnly(store) => store.export(visit),
    };
    if let Some(failure) = failed {
        return Err(failure);
    }
    exported?;
    out.flush()?;
    if let Opened::Whole(store) = store {
        store.close()?;
    }
    Ok(Exit::Done)
}
