//! Windows over event time: aggregates per window and key, in which each event counts exactly once.
//!
//! The claim of an event and what it adds are one record, so after a crash both are there or neither, and an event that is
//! delivered again adds nothing. The result of a window is handed out when the watermark has passed its end, under a name
//! that never changes: window, key and revision. It comes again, the same, until it is acknowledged. So a sink that ignores
//! names it knows has each result exactly once.
//!
//! ```
//! use firstseen::event_time::windows::{WindowOptions, Windows};
//! use firstseen::event_time::{Event, EventTimeOptions};
//! use firstseen::{Store, Timestamp, minutes};
//! use std::time::Duration;
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("seen.db");
//! let store = Store::open(&path)?;
//! let orders = store.event_time("orders", EventTimeOptions::new(minutes(10)))?;
//! let minute = WindowOptions::tumbling(Duration::from_secs(60));
//! let revenue: Windows<u64> = orders.windows("revenue", minute)?;
//!
//! let at = |seconds: u64| Timestamp::from_millis(seconds * 1_000);
//! for (id, seconds, cents) in [("o-1", 10, 500), ("o-2", 50, 250), ("o-1", 10, 500)] {
//!     let event = Event { id: id.as_bytes(), source: "shop", time: at(seconds) };
//!     revenue.fold(event, "berlin", |sum| *sum += cents)?;
//! }
//! orders.advance("shop", at(60))?;
//! let results = revenue.take_closed(100)?;
//! assert_eq!((results[0].key.as_slice(), results[0].aggregate), (&b"berlin"[..], 750));
//! // Send them on, and then:
//! revenue.acknowledge(&results)?;
//! assert!(revenue.take_closed(100)?.is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Emit`] says whether a result waits for the allowed lateness, or comes at the end of its window and is corrected.

mod handle;
mod index;
mod options;
mod row;

pub use handle::{ClosedWindow, Windows};
pub use options::{Emit, Window, WindowOptions};
