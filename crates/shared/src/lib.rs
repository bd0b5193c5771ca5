//! One trait for dedup stores, whether one process has them or many machines share them.
//!
//! [`DedupStore`] is what a store must do: claims, and the moves of a ledger, each of them one atomic step. The embedded store
//! implements it ([`Embedded`]), and so do `firstseen-valkey` and `firstseen-postgres`. What a caller wants on top is
//! written once, for all of them: [`Dedup`] repeats calls whose answer was lost, [`SharedLedger`] has policies, attempts and
//! renewals, and [`Near`] answers from memory what is known to be a duplicate.
//!
//! `firstseen-conformance` is the suite that every implementation passes.

mod attempt;
mod convert;
mod dedup;
mod embedded;
mod error;
mod known;
mod ledger;
mod near;
mod record;
mod renewals;
mod repeat;
mod run;
mod store;

pub use attempt::Attempt;
pub use dedup::Dedup;
pub use embedded::Embedded;
pub use error::{Error, ErrorKind, MoveError, Result};
pub use firstseen::ledger::{Backoff, DeadCause, Failure, Fingerprint, OnLeaseEnd};
pub use firstseen::{Claim, Timestamp, Ttl};
pub use ledger::{Begin, LedgerOptions, SharedLedger};
pub use near::{Near, NearCounters};
pub use record::{AttemptEnd, PastAttempt, Record, State};
pub use renewals::{Lost, Renewals};
pub use run::{Ran, RunError};
pub use store::{Begun, Call, DedupStore, Ending, Policy, Start, Stats};
