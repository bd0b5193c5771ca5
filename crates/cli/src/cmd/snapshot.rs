//! `firstseen snapshot` and `firstseen restore`: backups.

use firstseen::Store;
use firstseen::snapshot::{FolderTarget, RestoreOptions, SnapshotOptions};

use crate::args::snapshot::{RestoreArgs, SnapshotArgs};
use crate::output::{self, Exit, Failure};

pub(super) fn take(args: &SnapshotArgs) -> Result<Exit, Failure> {
    let store = super::open_existing(&args.store)?;
    let options = SnapshotOptions::new();
    let options = args.keep_last.map_or(options, |keep| options.keep_last(keep));
    let taken = store.snapshot_with(&FolderTarget::new(&args.to), options);
    let report =
        taken.map_err(|error| Failure::from(error).about(&args.to.display().to_string()))?;
    store.close()?;
    output::report(&report, args.store.json)?;
    Ok(Exit::Done)
}

pub(super) fn restore(args: &RestoreArgs) -> Result<Exit, Failure> {
    let options = RestoreOptions::new();
    let options = args.number.map_or(options, |number| options.number(number));
    let options = args.epoch.map_or(options, |epoch| options.epoch(epoch));
    let restored = Store::restore_with(&FolderTarget::new(&args.from), &args.store, options);
    // The names in its errors are those of a snapshot, inside the folder.
    let report =
        restored.map_err(|error| Failure::from(error).about(&args.from.display().to_string()))?;
    output::report(&report, args.json)?;
    Ok(Exit::Done)
}
