//! `firstseen repair`: saves what can be saved (I11).

use firstseen::Store;

use crate::args::StoreArgs;
use crate::output::{self, Exit, Failure};

pub(super) fn run(args: &StoreArgs) -> Result<Exit, Failure> {
    let report = super::waiting(args.wait, || Store::repair(&args.dir))?;
    output::report(&report, args.json)?;
    Ok(Exit::Done)
}
