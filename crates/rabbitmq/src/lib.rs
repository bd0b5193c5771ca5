//! RabbitMQ quorum queues as a source of [`firstseen_consumer`]: each effect once, whoever is killed.
//!
//! ```no_run
//! use firstseen::Store;
//! use firstseen_consumer::{Consumer, Failure, Job};
//! use firstseen_rabbitmq::{RabbitOptions, RabbitSource};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! # async fn charge(_key: &[u8]) -> Result<(), std::io::Error> { Ok(()) }
//! let url = "amqp://guest:guest@localhost:5672/%2f";
//! let source = RabbitSource::open(url, "orders", RabbitOptions::new()).await?;
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
//! `examples/orders.rs` is the whole of it, from the queue to the last acknowledgement.
//!
//! # What the server does, and what is left to the source and the loop
//!
//! | the server | source and loop |
//! |---|---|
//! | delivers again when a connection or channel is lost, never by time | recognise it: a duplicate, or put off |
//! | keeps a delivery that nobody answers | the source gives it back after a second |
//! | cannot put a message off (before 4.3) | the source holds it and gives it back in time; it never leaves its queue |
//! | puts what is given back at the end of the queue, or near its head if that has a delivery limit, however high | in order of a key, the loop tries again where it is and gives nothing back |
//! | has no answer to an acknowledgement | one that is lost with its connection makes a duplicate |
//! | counts deliveries, with `x-delivery-limit` up to a limit at which it drops; 4.0 and later have one of 20 by default | the ledger counts attempts, over crashes; a queue with a limit is refused unless it is named |
//! | closes a channel on which a delivery waits longer than `consumer_timeout`, 30 minutes by default | hold nothing for longer than 10 minutes; keep the loop's `work_max` below it |
//! | stops reading from connections that publish when memory or disk run out | dead letters have a connection of their own, so that acknowledgements arrive |
//! | confirms a message that no queue takes | dead letters are mandatory; one that is returned is an error, and its message comes again |
//!
//! Dead letters are published by the source, with a confirm before the acknowledgement: at least once. A policy that sets a
//! limit or a time to live cannot be seen by a client: set none on these queues.
//!
//! Tested with RabbitMQ 3.10.8, a cluster of one, with both ends killed at random.

mod error;
mod fields;
mod hold;
mod letter;
mod link;
mod options;
mod publisher;
mod queue;
mod source;
mod version;

pub use error::RabbitError;
/// The client, for types of options and functions of messages.
pub use lapin;
pub use options::{RabbitIds, RabbitKeys, RabbitOptions, Read};
pub use source::{RabbitSource, RabbitToken};
