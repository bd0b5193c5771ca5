//! The ledger: effects once. A claim says "seen"; a ledger also knows whether somebody is working on an id, whether it
//! succeeded and with what result, how often it failed, and which of its stages are done.
//!
//! ```
//! use firstseen::Store;
//! use firstseen::ledger::Begin;
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("seen.db");
//! let store = Store::open(&path)?;
//! let ledger = store.ledger("payments")?;
//! match ledger.begin("invoice-17")? {
//!     Begin::Started(attempt) => {
//!         // The effect goes here; then:
//!         attempt.complete(b"receipt 4711")?;
//!     }
//!     Begin::Completed(record) => println!("already done: {:?}", record.result()),
//!     refused => println!("not now: {refused:?}"),
//! }
//! # let again = ledger.begin("invoice-17")?;
//! # assert_eq!(again.record().and_then(|record| record.result()), Some(&b"receipt 4711"[..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! docs/LEDGER.md is the guide: which of claim, reservation and ledger to use, what is promised, and what is not.

mod attempt;
mod begin;
mod changes;
mod dead;
mod dropped;
mod ending;
mod error;
mod fingerprint;
mod handle;
mod joined;
mod kept;
mod moves;
mod operate;
mod options;
mod progress;
mod quiet;
mod record;
mod rows;
mod run;
mod show;
mod stage;
mod sweep;
mod value;
mod wait;
mod work;

pub use attempt::Attempt;
pub use begin::Begin;
pub use dead::{DeadFilter, DeadLetter, DeadLetters, DeadPage};
pub use error::{AttemptError, Failure, FailureError};
pub use fingerprint::Fingerprint;
pub use handle::Ledger;
pub(crate) use joined::{JoinedMove, LockedMoves, MoveRefused, Operation};
pub use kept::Renewals;
pub use options::{Backoff, BeginOptions, LedgerOptions, OnLeaseEnd};
pub use record::{AttemptEnd, DeadCause, PastAttempt, Record, State};
pub use run::{Ran, RunError};
pub use stage::Cursor;
pub use sweep::{PurgeFilter, Swept};
pub(crate) use value::encode;
pub use wait::Wait;
pub(crate) use work::Unanswered;
