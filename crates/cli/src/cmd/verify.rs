//! `firstseen verify`: is everything in a store sound?

use crate::args::StoreArgs;
use crate::output::{self, Exit, Failure};

use super::Opened;

pub(super) fn run(args: &StoreArgs) -> Result<Exit, Failure> {
    let report = match Opened::to_read(&args.dir, args.wait)? {
        Opened::Whole(store) => {
            let report = store.verify()?;
            store.close()?;
            report
        }
        Opened::ReadOnly(store) => {
            output::say("firstseen: the folder cannot be written to, so only the log was checked");
            store.verify()?
        }
    };
    output::report(&report, args.json)?;
    Ok(if report.problems.is_empty() { Exit::Done } else { Exit::Data })
}
