//! One consumer loop for any broker that delivers at least once: each effect once.
//!
//! Brokers deliver again: after a crash, a lost acknowledgement, a timeout, a producer's retry. This loop takes messages from a
//! [`Source`], asks a `firstseen` ledger whether there is work to do, runs your handler with bounded concurrency, and
//! acknowledges only once the outcome is on disk. What fails is tried again with backoff and ends among the dead letters; what was
//! done before is acknowledged without work.
//!
//! ```
//! use firstseen::{Store, ledger::LedgerOptions};
//! use firstseen_consumer::{Consumer, ConsumerOptions, Failure, Job, Message, testkit::MemoryBroker};
//! use std::time::Duration;
//!
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("seen.db");
//! # async fn charge(_key: &[u8]) -> Result<String, std::io::Error> { Ok("receipt 4711".to_owned()) }
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
//! # runtime.block_on(async {
//! // A broker in memory, in the place of a real one: the order is delivered twice.
//! let broker = MemoryBroker::new(Duration::from_secs(30));
//! broker.send(Message::new("order-17", "10 euros, anna"));
//! broker.send(Message::new("order-17", "10 euros, anna"));
//!
//! let ledger = Store::open(&path)?.ledger_with("orders", LedgerOptions::new().attempts_max(5))?;
//! let consumer = Consumer::with_ledger(broker.connect(), ledger.clone(), |job: Job| async move {
//!     // The effect. `?` means: failed, try again later. The id is a good idempotency key.
//!     let receipt = charge(job.id()).await?;
//!     Ok::<_, Failure>(receipt)
//! });
//! let consumer = consumer.options(ConsumerOptions::new().workers(16));
//! let handle = consumer.handle(); // stops it, and reads its counters at any time
//! # let stops = handle.clone();
//! # let until_empty = async {
//! #     while broker.left() > 0 { tokio::time::sleep(Duration::from_millis(5)).await; }
//! #     stops.stop();
//! #     std::future::pending::<()>().await
//! # };
//! # let counters = tokio::select! { ran = consumer.run() => ran?, () = until_empty => unreachable!() };
//! # /*
//! let counters = consumer.run().await?; // until somebody calls handle.stop()
//! # */
//! assert_eq!((counters.first, counters.duplicates), (1, 1));
//! let record = ledger.get("order-17")?.expect("it was done");
//! assert_eq!(record.result(), Some(&b"receipt 4711"[..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is promised
//!
//! - **Nothing is lost.** A message is acknowledged after its outcome is on disk ([`ConsumerOptions::sync`]), or it is a dead
//!   letter, or it comes again.
//! - **An effect is made again only around a crash**, between the effect and the record of it, and after a lease that ended
//!   because the machine stood still. Under `OnLeaseEnd::Hold` it is not even then: an operator is asked. Effects that take the id as
//!   idempotency key, or compare the attempt's token, close the gap; the store cannot.
//! - **A message that fails, panics, hangs or kills its process ends** among the dead letters after as many attempts as the ledger
//!   allows, and the queue goes on. One whose last attempt ended with its process is tried alone, while the other workers
//!   wait: if it kills the process again, no neighbour is charged for that. With reservations, one that kills its process ends
//!   only where the broker counts, after [`Retries::deliveries_max`] deliveries.
//! - **The queue goes on beside messages that wait** for a retry or an operator only as long as they leave room. Each keeps its
//!   place among those that the broker gives out unanswered: 1,000 at JetStream (`ack_pending_max`), 256 at RabbitMQ
//!   (`prefetch`), 10,000 of a partition of Kafka with all that is done behind it (`open_max`). [In
//!   order](ConsumerOptions::ordered), it and those of its key that were taken behind it also keep theirs in
//!   [`ConsumerOptions::in_flight_max`] and [`ConsumerOptions::bytes_max`]: one held message with enough behind it stops all
//!   keys. [`Counters::stalled`] counts that, and a warning says so, at most once a minute. Where many may wait for long, raise
//!   these limits, or have them end as dead letters, to be done again from there.
//! - **Nothing waits for ever**: handlers end after [`ConsumerOptions::work_max`], calls of the broker after
//!   [`ConsumerOptions::answer_max`], a stop after [`ConsumerOptions::grace`].
//! - **No more is in flight** than [`ConsumerOptions::in_flight_max`] and [`ConsumerOptions::bytes_max`] say.
//!
//! The steps of a delivery, and what a kill after each of them leaves, are the table at the top of `src/life.rs`; why it is so,
//! docs/rfcs/0010-consumer.md.
//!
//! # On several machines
//!
//! A ledger is in one process. Where consumers on several machines take messages of one queue, `Consumer::with_shared` (feature
//! `shared`) has the same loop over a ledger on a store that they share: `firstseen-valkey`, `firstseen-postgres`.
//!
//! # A broker of your own
//!
//! Implement [`Source`], nine short functions of which four may be left out, and have a test call
//! `testkit::check_source` (feature `testkit`) against the real broker. The broker in memory in `src/testkit/memory.rs` is one
//! to copy from; `firstseen-nats` is one for JetStream.

mod by_ledger;
mod by_reservation;
#[cfg(feature = "shared")]
mod by_shared;
mod claims;
mod counters;
mod handler;
mod life;
mod options;
mod outcome;
mod phase;
mod run;
mod source;
mod stall;
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
