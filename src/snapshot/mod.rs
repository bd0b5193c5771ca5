//! Snapshots: a store as it was at one moment, kept elsewhere, from which it can be restored (I15).
//!
//! [`Store::snapshot`](crate::Store::snapshot) copies the log while claims go on;
//! [`Store::restore`](crate::Store::restore) makes a store of the copy. Where copies are kept is a [`SnapshotTarget`]: a
//! folder ([`FolderTarget`]), an object store (the package `firstseen-snapshot`), or your own.
//!
//! What a snapshot holds, what a restored store answers, and what the epoch is for: `docs/OPERATIONS.md`, "Backup and
//! restore".

mod folder;
mod index;
mod info;
mod options;
mod report;
mod target;

pub use folder::FolderTarget;
pub use info::{SnapshotInfo, list, verify};
pub use options::{RestoreOptions, SnapshotOptions};
pub use report::{RestoreReport, SnapshotReport};
pub use target::SnapshotTarget;

pub(crate) use index::{
    Head, Id, Index, Part, damaged, index_name, numbers, part_names, read_index, sent_in,
};
