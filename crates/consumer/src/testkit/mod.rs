//! What the tests of a source need: a broker in memory, faults by a seed, and the checks that every source has to pass.
//!
//! ```
//! use firstseen_consumer::testkit::{MemoryBroker, check_source};
//! use std::time::Duration;
//! # let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build()?;
//! # runtime.block_on(async {
//! // An adapter's test makes an empty queue at its real broker here.
//! check_source(|| async { MemoryBroker::new(Duration::from_millis(400)) }).await;
//! # });
//! # Ok::<(), std::io::Error>(())
//! ```

mod checks;
mod dice;
mod faulty;
mod memory;

pub use checks::{Fixture, check_source};
pub use dice::Dice;
pub use faulty::{Faults, Faulty};
pub use memory::{MemoryBroker, MemorySource, MemoryToken};
