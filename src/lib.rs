// The README links to files that rustdoc does not have. The first definition of a link wins.
//! [docs/OPERATIONS.md]: crate::guide::operations
//! [docs/GUARANTEES.md]: crate::guide::guarantees
//! [docs/LEDGER.md]: crate::guide::ledger
//! [docs/PIPELINES.md]: crate::guide::pipelines
//! [docs/RELIABILITY.md]: crate::guide::reliability
//! [docs/BENCHMARKS.md]: crate::guide
//! [docs/SCALING.md]: crate::guide::scaling
//! [docs/SCALE_OUT.md]: crate::guide::scale_out
//! [docs/DESIGN.md]: crate::guide::design
//! [docs/INVARIANTS.md]: crate::guide::invariants
//! [docs/FORMATS.md]: crate::guide::formats
//! [docs/CRASH_POINTS.md]: crate::guide::crash_points
#![doc = include_str!("../README.md")]

// Bottom up: a module imports only from those before it (docs/DESIGN.md, "Arrows"; tests/tidy.rs).
pub mod error;
mod health;
pub mod limits;
mod metrics;
mod sync;

pub mod disk;
mod id;
mod time;

mod codec;
mod expiry;

mod blocks;
mod filter;
pub mod snapshot;
mod wal;

mod memtable;
mod run;

mod shard;

mod engine;

mod store;

pub mod event_time;

pub mod ledger;
pub mod offsets;
pub mod outbox;
pub mod table;

pub mod transaction;

pub mod replay;

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;

#[cfg(feature = "testing")]
#[doc(hidden)]
pub mod testing;
// Only a table of rows attaches a family (`Engine::attach`): without this, that would count as unused.
#[cfg(not(feature = "testing"))]
#[allow(dead_code, unreachable_pub)]
mod testing;

#[cfg(feature = "testing")]
#[doc(hidden)]
pub use blocks::MemoryBlocks;
pub use engine::{
    Claim, CommitShape, Durability, ExportEntry, Held, History, HistoryEvent, HistoryKind,
    ImportEntry, LogPosition, LostBytes, MissingSegment, NamespaceStats, NamespaceSummary,
    PreparedState, RepairReport, Reserved, RowKind, Seen, Stats, StoreSummary, VerifyReport,
};
pub use error::{Error, ErrorKind, Result};
pub use store::{
    BatchReservation, Builder, ClaimOptions, Namespace, NamespaceOptions, ReadOnly, Reservation,
    Reserve, Store,
};
pub use time::{Clock, ManualClock, SystemClock, Timestamp, Ttl, days, hours, minutes, seconds};

/// The documents of the repository's docs folder, except those that need pictures.
///
/// docs/BENCHMARKS.md, with its plots, is in the repository only.
#[cfg(doc)]
pub mod guide {
    #[doc = "[GUARANTEES.md]: crate::guide::guarantees"]
    #[doc = include_str!("../docs/OPERATIONS.md")]
    pub mod operations {}
    #[doc = include_str!("../docs/LEDGER.md")]
    pub mod ledger {}
    #[doc = "[OPERATIONS.md]: crate::guide::operations"]
    #[doc = "[LEDGER.md]: crate::guide::ledger"]
    #[doc = include_str!("../docs/PIPELINES.md")]
    pub mod pipelines {}
    #[cfg(not(doctest))]
    #[doc = include_str!("../docs/GUARANTEES.md")]
    pub mod guarantees {}
    #[cfg(not(doctest))]
    #[doc = "[GUARANTEES.md]: crate::guide::guarantees"]
    #[doc = "[DESIGN.md]: crate::guide::design"]
    #[doc = include_str!("../docs/RELIABILITY.md")]
    pub mod reliability {}
    #[cfg(not(doctest))]
    #[doc = "[BENCHMARKS.md]: crate::guide"]
    #[doc = include_str!("../docs/SCALING.md")]
    pub mod scaling {}
    #[cfg(not(doctest))]
    #[doc = "[BENCHMARKS.md]: crate::guide"]
    #[doc = "[OPERATIONS.md]: crate::guide::operations"]
    #[doc = include_str!("../docs/SCALE_OUT.md")]
    pub mod scale_out {}
    #[cfg(not(doctest))]
    #[doc = "[FORMATS.md]: crate::guide::formats"]
    #[doc = "[INVARIANTS.md]: crate::guide::invariants"]
    #[doc = "[CRASH_POINTS.md]: crate::guide::crash_points"]
    #[doc = include_str!("../docs/DESIGN.md")]
    pub mod design {}
    #[cfg(not(doctest))]
    #[doc = "[DESIGN.md]: crate::guide::design"]
    #[doc = include_str!("../docs/INVARIANTS.md")]
    pub mod invariants {}
    #[cfg(not(doctest))]
    #[doc = "[DESIGN.md]: crate::guide::design"]
    #[doc = "[CRASH_POINTS.md]: crate::guide::crash_points"]
    #[doc = include_str!("../docs/FORMATS.md")]
    pub mod formats {}
    #[cfg(not(doctest))]
    #[doc = "[DESIGN.md]: crate::guide::design"]
    #[doc = "[FORMATS.md]: crate::guide::formats"]
    #[doc = include_str!("../docs/CRASH_POINTS.md")]
    pub mod crash_points {}
}
