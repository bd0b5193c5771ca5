//! `firstseen export`: every claim as a line of NDJSON.

use std::io;

use crate::args::ExportArgs;
use crate::output::{Exit, Failure};
use crate::sink::Sink;

use super::record;

pub(super) fn run(args: &ExportArgs) -> Result<Exit, Failure> {
    let store = super::open_existing(&args.store, args.wait)?;
    let mut out = Sink::stdout(b'\n')?;
    let mut line = Vec::new();
    let mut failed = None;
    let exported = store.export(|entry| {
        if args.namespace.as_deref().is_some_and(|wanted| wanted != entry.namespace) {
            return Ok(());
        }
        record::write(&entry, &mut line)?;
        // Our own failure is kept aside: the engine would report it as one of its files.
        out.put(&line).map_err(|failure| {
            failed = Some(failure);
            io::ErrorKind::Other.into()
        })
    });
    if let Some(failure) = failed {
        return Err(failure);
    }
    exported?;
    out.flush()?;
    store.close()?;
    Ok(Exit::Done)
}
