//! The write-ahead log: the source of truth, from which everything else in a store's folder can be rebuilt.
//!
//! A sequence of segments, files of a fixed preallocated size. Every record is checksummed and is in the log before any
//! caller is told "first seen". On-disk format: `segment.rs` and `record.rs`.

mod active_format;
mod append;
mod commit;
mod durable;
mod folder;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzz;
mod group_commit;
mod holes;
mod ids;
mod image;
mod item;
mod joined_crc;
mod lanes;
mod read_only;
mod record;
mod record_rewriter;
mod recover;
mod retention;
mod salvage;
mod segment;
mod slots;
mod spare;
mod spare_segment;
mod sync_future;
#[cfg(feature = "testing")]
mod validate;
mod version;
mod writer;

pub(crate) use commit::{Commit, decode_row};
pub(crate) use folder::{
    check_headers, find_seed, is_segment, remove_segments, seeds, segment_path,
};
pub(crate) use ids::IdsInLog;
pub(crate) use image::{Cut, check_image};
pub(crate) use item::{Item, NamespaceRecord};
pub(crate) use lanes::UseLanes;
pub(crate) use read_only::{LogRead, read_only};
pub(crate) use record_rewriter::RecordRewriter;
pub(crate) use recover::{ReadSegment, Recovered, ReplayPlan};
#[cfg(test)]
pub(crate) use retention::Contents;
pub(crate) use retention::SegmentMeta;
pub(crate) use salvage::{Salvaged, SalvagedMissing, ScanDamage, salvage};
#[cfg(any(test, feature = "testing"))]
pub(crate) use version::NEXT as NEXT_VERSION;
pub(crate) use version::VERSION;
pub(crate) use writer::{AppendLevel, Log, LogConfig};

use serde::{Deserialize, Serialize};

/// Where the item of a row is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ItemAt {
    /// The location just past it.
    pub(crate) end: Lsn,
    /// Its size in bytes.
    pub(crate) len: u32,
}

/// Location of an item in a record: the end of the record and the end of the item itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct At {
    pub(crate) record: Lsn,
    pub(crate) item: Lsn,
}

/// A location in the log: segment number and offset within it. Locations order records.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub(crate) struct Lsn(pub(crate) u64);

impl Lsn {
    pub(crate) fn new(segment: u32, offset: u32) -> Self {
        Self(u64::from(segment) << 32 | u64::from(offset))
    }

    pub(crate) fn segment(self) -> u32 {
        (self.0 >> 32) as u32
    }

    pub(crate) fn offset(self) -> u32 {
        self.0 as u32
    }
}
