//! Deduplication by the time of events: ids are remembered for a window of event time, and end by a watermark.
//!
//! A plain claim ends by the clock of the machine. A stream that was down for a day, or that is read again from its
//! beginning, has a clock of its own: the time in its events. A namespace with event time remembers an id until its
//! **watermark** says that no duplicate is expected any more, however long that takes by the wall.
//!
//! ```
//! use firstseen::event_time::{EventClaim, EventTimeOptions};
//! use firstseen::{Store, Timestamp, minutes};
//! use std::time::Duration;
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("seen.db");
//! let store = Store::open(&path)?;
//! let options = EventTimeOptions::new(minutes(10))
//!     .out_of_orderness(Duration::from_secs(30))
//!     .allowed_lateness(Duration::from_secs(60))
//!     .idle_after(Duration::from_secs(120));
//! let clicks = store.event_time("clicks", options)?;
//! let at = |seconds: u64| Timestamp::from_millis(seconds * 1_000);
//!
//! assert_eq!(clicks.claim_at("click-1", "partition-0", at(1_000))?, EventClaim::FirstSeen);
//! assert!(clicks.claim_at("click-1", "partition-0", at(1_000))?.is_duplicate());
//! // Half an hour of events later it has ended, and its duplicate is late.
//! assert!(clicks.claim_at("click-2", "partition-0", at(2_800))?.is_first_seen());
//! assert!(clicks.claim_at("click-1", "partition-0", at(1_000))?.is_too_late());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The watermark
//!
//! - **Of a source** (a partition, a device, a file): the greatest event time seen from it, minus
//!   [`out_of_orderness`](EventTimeOptions::out_of_orderness), by which its events may be out of order.
//! - **Of the namespace**: the least of all active sources. It never goes back, not even over a crash, as far as somebody has
//!   been answered by it. A source that comes later and is further behind finds its events late.
//! - A source that says nothing for [`idle_after`](EventTimeOptions::idle_after) does not hold it back any more. By default
//!   none is ever idle, and one that is silent stops the watermark: see [`EventTime::sources`], which says who holds it back,
//!   [`EventTime::advance`] for heartbeats, and [`EventTime::retire`]. If all are idle, the watermark stays.
//! - It is written in [steps](EventTimeOptions::watermark_step), and what is not written does not count.
//! - One event with a time far in the future moves the watermark of its source there for ever, and so that of a namespace
//!   with one source. Set [`ahead_max`](EventTimeOptions::ahead_max) where clocks are not trusted; see [`EventTimeOptions`].
//!   Other namespaces are not touched.
//!
//! # How long an id is remembered
//!
//! Until the watermark reaches the **greatest** event time seen for the id, plus window and allowed lateness. Not the first
//! event time: duplicates that are later keep it longer, and it is a duplicate all that time, also for an event that is more
//! than a window away. Until then [`Duplicate`](EventClaim::Duplicate) is the answer, however late the event. After that an
//! event less than a window away is always [`TooLate`](EventClaim::TooLate), never first seen by accident (I14).
//!
//! The space of ids that have ended is freed in the background, by watermark alone. A clock of the machine that is wrong
//! neither ends them nor keeps them.
//!
//! # State that only grows
//!
//! Ids are kept until something ends them. **A namespace that is used for plain claims without a ttl, or with a window of
//! [`Ttl::FOREVER`](crate::Ttl::FOREVER), only grows.** Opening such a namespace with event time is logged as a warning. If
//! duplicates can only come within some time, say so: by a ttl if they are delayed by the wall, by a window if by the stream.
//!
//! # Aggregates
//!
//! [`windows`] folds events into aggregates per window and key, exactly once each, and tells each result once per revision.

mod answer;
mod handle;
mod inner;
mod options;
mod plan;
mod sources;
mod value;
pub mod windows;

pub use answer::{Event, EventClaim, EventStats, SourceState};
pub use handle::EventTime;
pub use options::{EventTimeOptions, OnLate};

pub(crate) use plan::EventPlan;
