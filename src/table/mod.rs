//! State tables: values by key, each with the version of its last write.
//!
//! A table holds what a consumer knows: points of a user, the last price of a share. Written by a
//! [transaction](crate::transaction), it agrees with what was claimed and how far was read, after a crash at any moment.
//! It may be larger than memory: a value is read from the log where it stands.
//!
//! ```
//! use firstseen::Store;
//! use firstseen::table::Table;
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("seen.db");
//! let store = Store::open(&path)?;
//! let points: Table<u64> = store.table("points")?;
//! points.put("anna", &40)?;
//! let entry = points.get("anna")?.expect("was put");
//! assert_eq!(entry.value, 40);
//! // Replaces the value only if nobody else has changed it.
//! assert!(points.put_if("anna", Some(entry.version), &55)?.is_some());
//! assert!(points.put_if("anna", Some(entry.version), &70)?.is_none());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Keys have 1 to 1,024 bytes. There are no ranges of keys: who needs sorted ones keeps them in an ordered store, and
//! feeds it from an outbox.

mod entry;
mod raw;
mod typed;
mod values;

pub use entry::{Entry, Version};
pub use raw::RawTable;
pub use typed::Table;
pub use values::Values;

pub(crate) use entry::{expectation, without_format};
pub(crate) use raw::PlannedWrite;
