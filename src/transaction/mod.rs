//! Transactions: claims, state, offsets, messages and moves of ledgers in one commit, all or nothing.
//!
//! What was read, what was decided and what goes out agree after a crash at any moment, because one record of the log
//! holds all of it.
//!
//! ```
//! use firstseen::Store;
//! use firstseen::table::Table;
//! use firstseen::transaction::CommitOutcome;
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("seen.db");
//! let store = Store::open(&path)?;
//! let (orders, points) = (store.source("orders")?, store.table::<u64>("points")?);
//! let awarded = store.outbox("points-awarded")?;
//!
//! // Order 17 of anna, read at offset 4 of partition 0: all of this, or none.
//! let mut transaction = store.transaction();
//! transaction.claim("order-17");
//! let before = transaction.get(&points, "anna")?.unwrap_or(0);
//! transaction.put(&points, "anna", &(before + 10))?;
//! transaction.emit(&awarded, "anna: 10 points")?;
//! transaction.advance(&orders, 0, 5);
//! match transaction.commit()? {
//!     CommitOutcome::Rejected(reasons) => println!("nothing was changed: {reasons:?}"),
//!     _ => println!("done"),
//! }
//! assert_eq!(points.get("anna")?.map(|entry| entry.value), Some(10));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod collect;
mod commit;
mod endings;
mod events;
mod moves;
mod outcome;
mod prepared;
mod retry;
mod twins;

pub use collect::Transaction;
pub use outcome::{CommitOutcome, DuplicateId, RefusedEvent, Rejection, Skipped};
pub use prepared::{EndOutcome, PreparedTransaction};
pub use retry::Transacted;
