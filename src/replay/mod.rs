//! Replay: events go through the same code once more, in a world of their own, and what comes out can take the place of
//! what there was.
//!
//! A [`ReplayScope`] is names under a name. Inside it, every event is first seen again; outside, nothing changes. When the
//! replay is done, [`promote`](ReplayScope::promote) puts what is inside in the place of what is outside, or
//! [`discard`](ReplayScope::discard) throws it away. Both are one record of the log, whatever the scope holds.
//!
//! ```
//! use firstseen::Store;
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("seen.db");
//! let store = Store::open(&path)?;
//! let payments = store.namespace("payments")?;
//! assert!(payments.claim("order-1")?.is_first_seen());
//!
//! let replay = store.replay("2026-11 fees")?;
//! let again = replay.namespace("payments")?;
//! assert!(again.claim("order-1")?.is_first_seen(), "inside it is new");
//! assert!(again.claim("order-2")?.is_first_seen());
//! let count = replay.count()?;
//! assert_eq!((count.ids(), count.duplicates(), count.new_ids()), (2, 1, 1));
//! assert!(!payments.contains("order-2")?, "outside nothing has changed");
//!
//! replay.promote()?;
//! assert!(payments.contains("order-2")?, "handles follow");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Events come from a [`RetainedSource`]: something that keeps them and gives them again from an offset or a time.
//! [`NdjsonSegments`] is one, and [`drive`] feeds a scope from any.

mod count;
mod json;
mod ndjson;
mod rfc3339;
mod scope;
mod source;

pub use count::{NamespaceCount, ScopeCount};
pub use ndjson::{NdjsonError, NdjsonSegments};
pub use scope::{ReplayScope, ReplayState, ReplaySummary};
pub use source::{DriveError, Driven, Retained, RetainedSource, StartAt, drive};
