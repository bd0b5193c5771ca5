//! Turns a folder into a store: open, replay, heal, verify, repair; and reads one without opening it.

mod assemble;
mod export;
mod heal;
mod history;
mod inspect;
mod open;
mod opening;
mod repair;
mod replay;
mod snapshot;
#[cfg(feature = "testing")]
mod validate;
mod verify;

pub use export::ExportEntry;
pub use history::{CommitShape, History, HistoryEvent, HistoryKind, LogPosition, RowKind};
pub use inspect::{NamespaceSummary, StoreSummary};
pub use repair::{LostBytes, MissingSegment, RepairReport};
pub use verify::VerifyReport;

pub(crate) use inspect::Inspector;
pub(crate) use repair::repair;
pub(crate) use snapshot::restore;

pub(in crate::engine) use export::{export, visit_claims};
pub(in crate::engine) use history::history;
pub(in crate::engine) use open::open;
pub(in crate::engine) use snapshot::snapshot;
#[cfg(feature = "testing")]
pub(in crate::engine) use validate::{recount_files, validate};
pub(in crate::engine) use verify::verify;
