//! Background work that saves space: flush, merge, expire, compact, remove.
//!
//! It learns that there is work from the signals of the core, and runs again after a pause without any.

mod compactor;
mod flush;
mod folder;
mod garbage;
mod latest_rows;
mod merger;
mod scope_sweep;
mod steps;
mod sweeper;

#[cfg(feature = "testing")]
pub(in crate::engine) use flush::freeze_all;
pub(in crate::engine) use steps::{Upkeep, note_trouble};
