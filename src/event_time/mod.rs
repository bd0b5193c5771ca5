//! Event time.
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
