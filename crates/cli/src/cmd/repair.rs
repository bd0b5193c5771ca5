//! `firstseen repair`: saves what can be saved (I11).

use firstseen::Store;

use crate::args::StoreReportArgs;
use crate::output::{self, Exit, Failure};

pub(super) fn run(args: &StoreReportArgs) -> Result<Exit, Failure> {
    let report = super::waiting(args.wait, || Store::repair(&args.store))?;
    output::report(&report, args.json)?;
    Ok(Exit::Done)
}
