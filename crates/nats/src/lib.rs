//! NATS JetStream as a source of [`firstseen_consumer`]: each effect once, whoever is killed.
//!
//! ```no_run
//! use firstseen::Store;
//! use firstseen_consumer::{Consumer, Failure, Job};
//! use firstseen_nats::{NatsOptions, NatsSource};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! # async fn charge(_key: &[u8]) -> Result<(), std::io::Error> { Ok(()) }
//! let options = NatsOptions::new().dead_letters("orders-dead");
//! let source = NatsSource::connect("localhost:4222", "ORDERS", "payments", options).await?;
//! let ledger = Store::open("/var/lib/payments/seen.db")?.ledger("orders")?;
//! let consumer = Consumer::with_ledger(source, ledger, |job: Job| async move {
//!     charge(job.id()).await?;
//!     Ok::<(), Failure>(())
//! });
//! consumer.run().await?;
//! # Ok(())
//! # }
//! ```
//!
//! `examples/orders.rs` is the whole of it, from the stream to the last acknowledgement.
//!
//! # What the server does, and what is left to the ledger
//!
//! | the server | the loop |
//! |---|---|
//! | delivers again when `ack_wait` has passed | tells it that work goes on; a second delivery is put off or a duplicate |
//! | drops a second `Nats-Msg-Id` inside its window of two minutes | recognises it as long as the ledger remembers |
//! | counts deliveries | counts attempts, over crashes; `max_deliver` must be off |
//! | forgets a message once its acknowledgement is confirmed | asks for that confirmation each time |
//! | 2.9.10 was seen to deliver an acknowledged message once more, counted as its first delivery, after others were given back | a duplicate |
//!
//! Tested with nats-server 2.9.10 and file storage, with both ends killed at random.

mod options;
mod source;

pub use async_nats;
pub use options::{NatsIds, NatsKeys, NatsOptions, Read};
pub use source::{NatsError, NatsSource, NatsToken};
