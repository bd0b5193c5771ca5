//! `firstseen stats`: what a store holds. The store is only read.

use crate::args::StoreArgs;
use crate::output::{self, Exit, Failure};

pub(super) fn run(args: &StoreArgs) -> Result<Exit, Failure> {
    let store = super::open_read_only(&args.dir, args.wait)?;
    output::report(&store.summary()?, args.json)?;
    Ok(Exit::Done)
}
