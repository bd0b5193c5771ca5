//! Turns a decision into one record: lock the shard, look the id up, decide, append, enter, and then wait for as much
//! durability as was asked.
//!
//! A future does the same without blocking its thread (`future.rs`).
//!
//! Functions over the core. A damaged block is healed through [`Healer`](crate::engine::core::Healer), and work for the
//! background is left by raising a signal, so nothing here knows recovery or upkeep.

mod backpressure;
mod batch;
mod claim;
mod commit;
mod commit_lookup;
mod decide;
mod durability;
mod forget;
mod future;
mod held;
mod import;
mod intent;
mod lock_set;
mod lookup;
mod pending;
mod plan;
mod prepare;
mod reserve;
mod rows;
mod scan;
mod scopes;
mod walk;
mod write_set;

pub use claim::Claim;
#[allow(unreachable_pub, reason = "public with the feature `testing`")]
pub use commit::Committed;
pub use held::Held;
pub use import::ImportEntry;
pub use intent::PreparedState;
pub use reserve::Reserved;
#[allow(unreachable_pub, reason = "public with the feature `testing`")]
pub use write_set::Expect;

pub(crate) use claim::ClaimSpec;
pub(crate) use durability::RestsOn;
#[cfg(feature = "fuzzing")]
pub(crate) use intent::fuzz_prepared;
pub(crate) use intent::{Intent, Prepared};
pub(crate) use plan::{Refusals, SetCommitted};
pub(crate) use reserve::Hold;
pub(crate) use rows::Row;
pub(crate) use write_set::{ClaimWrite, OwnedRow, Phase, RowChange, RowWrite, WriteSet};

pub(crate) use backpressure::WaitBudget;
pub(in crate::engine) use batch::claim_batch;
pub(in crate::engine) use claim::claim;
pub(in crate::engine) use commit::{
    await_release, commit, commit_only, commit_rows, refusals_only,
};
pub(in crate::engine) use durability::{await_durable, sync, sync_point};
pub(in crate::engine) use forget::{forget, forget_key};
pub(in crate::engine) use future::{
    claim_async, claim_batch_async, confirm_async, forget_async, in_attempts, in_time,
    reserve_async, scope_end, synced, unsynced,
};
pub(in crate::engine) use held::held;
pub(in crate::engine) use import::import;
pub(in crate::engine) use lookup::get;
pub(in crate::engine) use prepare::{hold_prepared, release_prepared};
pub(in crate::engine) use reserve::{confirm, release, reserve};
pub(in crate::engine) use rows::{
    attach, attach_once, get_row, get_row_only, list_rows, note_flushed_watermarks, row_key,
};
pub(in crate::engine) use scan::scan_rows;
pub(in crate::engine) use scopes::{
    end_scope, is_live, load_scopes, mark_swept, open_scope, scope_namespace,
};
