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

mod chunks;
mod filter;
mod log;

mod exact;

mod shard;

mod engine;

mod store;

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;

#[doc(hidden)]
pub use chunks::MemoryChunks;
pub use engine::{
    Durability, ExportEntry, Held, ImportEntry, LostBytes, NamespaceStats, RepairReport, Stats,
    VerifyReport,
};
pub use error::{Error, ErrorKind, Result};
pub use store::{
    BatchReservation, Builder, Claim, ClaimOptions, Namespace, NamespaceOptions, Reservation,
    Reserve, Reserved, Seen, Store,
};
pub use time::{Clock, ManualClock, SystemClock, Timestamp, Ttl, days, hours, minutes, seconds};
