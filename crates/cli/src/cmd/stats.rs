//! `firstseen stats`: what a store holds. The store is only read.

use crate::args::StoreReportArgs;
use crate::output::{self, Exit, Failure};

pub(super) fn run(args: &StoreReportArgs) -> Result<Exit, Failure> {
    let store = super::open_read_only(&args.store, args.wait)?;
    output::report(&store.summary()?, args.json)?;
    Ok(Exit::Done)
}
