//! One consumer loop for any broker that delivers at least once: each effect once.

mod by_ledger;
mod by_reservation;
mod claims;
mod counters;
mod handler;
mod life;
mod options;
mod outcome;
mod phase;
mod run;
mod source;
#[cfg(feature = "testkit")]
pub mod testkit;
mod turns;

pub use by_reservation::Retries;
pub use bytes::Bytes;
pub use counters::Counters;
pub use firstseen::ledger::Failure;
pub use handler::{Answer, Handler, Job};
pub use options::{ConsumerOptions, Ids};
pub use outcome::Error;
pub use run::{Consumer, Handle};
pub use source::{Delivery, Message, Source, Want};
