//! The command lines of `firstseen snapshot` and `firstseen restore`.

use std::path::PathBuf;

use clap::Parser;

use super::StoreArgs;

const SNAPSHOT_HELP: &str = "\
With --json:
  number          number of the snapshot in its folder
  epoch           epoch of the store, 0 if it was never restored
  segments        log segments in the snapshot
  segments_sent   of those, the ones that were not in the folder before
  bytes           bytes of log in the snapshot
  bytes_sent      bytes of log that were written
  removed         older snapshots removed";

/// Copies a store into a folder of snapshots.
///
/// Only what is not there yet is written. The snapshot exists once all of it is on disk; until then, those before it are as
/// they were. Give each store a folder of its own. No other process may have the store open: a program that has it
/// open takes snapshots itself, while it goes on (`Store::snapshot` in the library).
#[derive(Debug, Parser)]
#[command(after_long_help = SNAPSHOT_HELP)]
pub(crate) struct SnapshotArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,

    /// Folder of the snapshots; it is created if it is not there.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) to: PathBuf,

    /// Keep so many snapshots, the new one included, and remove older ones [default: keep all].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) keep_last: Option<u64>,
}

const RESTORE_HELP: &str = "\
With --json:
  number     number of the snapshot
  taken_ms   when it was taken, in milliseconds since 1970
  epoch      epoch of the restored store
  segments   log segments written
  bytes      bytes of log written";

/// Makes a store of a snapshot, in a new or empty folder.
///
/// Every byte is checked first; exit code 3 if any is damaged or missing. Interrupted, it leaves a folder that is no store:
/// run it again. The restored store knows nothing that happened after the snapshot, so the original must not go on beside
/// it; see --epoch.
#[derive(Debug, Parser)]
#[command(after_long_help = RESTORE_HELP)]
pub(crate) struct RestoreArgs {
    /// Folder of the snapshots.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) from: PathBuf,

    /// Folder of the store to make.
    #[arg(long, value_name = "DIR")]
    pub(crate) store: PathBuf,

    /// Restore this snapshot [default: the newest].
    #[arg(long, value_name = "N")]
    pub(crate) number: Option<u64>,

    /// Epoch of the restored store: greater than that of every other copy. Its fencing tokens begin at this number times
    /// 2^42 [default: the next after that of the snapshot].
    #[arg(long, value_name = "N")]
    pub(crate) epoch: Option<u64>,

    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}
