//! `firstseen offsets`: how far sources have been read.

use firstseen::offsets::Position;
use serde::Serialize;

use super::names::{self, Kind};
use crate::args::offsets::OffsetsArgs;
use crate::output::{self, Exit, Failure, printable};
use crate::table::Listing;

/// The JSON output for a partition. The fields are documented in `--help`.
#[derive(Debug, Serialize)]
struct Object<'a> {
    source: &'a str,
    partition: u32,
    next: u64,
    epoch: u64,
}

pub(super) fn run(args: &OffsetsArgs) -> Result<Exit, Failure> {
    let store = super::open_existing(&args.store)?;
    let names = names::chosen(&store, args.source.as_deref(), Kind::Source)?;
    let mut listing = Listing::new(&["SOURCE", "PARTITION", "NEXT", "EPOCH"], args.store.json)?;
    let mut left = args.limit.unwrap_or(usize::MAX);
    let mut exit = Exit::Done;
    for source in &names {
        if left == 0 {
            break;
        }
        let positions = match store.source(source)?.positions() {
            Ok(positions) => positions,
            // One that cannot be read keeps nobody from the others.
            Err(error) => {
                output::ended(Err(Failure::from(error).about(source)));
                exit = Exit::Data;
                continue;
            }
        };
        for (partition, position) in positions.into_iter().take(left) {
            let Position { next, epoch } = position;
            let row = || {
                let numbers = [u64::from(partition), next, epoch].map(|number| number.to_string());
                [printable(source)].into_iter().chain(numbers).collect()
            };
            listing.add(row, || Object { source, partition, next, epoch })?;
            left -= 1;
        }
    }
    store.close()?;
    listing.finish()?;
    Ok(exit)
}
