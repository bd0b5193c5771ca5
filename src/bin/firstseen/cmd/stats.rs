//! `firstseen stats`: what a store holds.

use crate::args::StoreReportArgs;
use crate::output::{self, Exit, Failure};

pub(super) fn run(args: &StoreReportArgs) -> Result<Exit, Failure> {
    let store = super::open_existing(&args.store, args.wait)?;
    let stats = store.stats();
    store.close()?;
    output::report(&stats, args.json)?;
    Ok(Exit::Done)
}
