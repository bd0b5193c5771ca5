//! `firstseen verify`: is everything in a store sound?

use crate::args::StoreReportArgs;
use crate::output::{self, Exit, Failure};

pub(super) fn run(args: &StoreReportArgs) -> Result<Exit, Failure> {
    let store = super::open_existing(&args.store, args.wait)?;
    let report = store.verify()?;
    store.close()?;
    output::report(&report, args.json)?;
    Ok(if report.problems.is_empty() { Exit::Done } else { Exit::Data })
}
