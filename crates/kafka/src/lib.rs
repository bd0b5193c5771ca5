//! Kafka as a source of [`firstseen_consumer`]: each effect once, whoever is killed.
//!
//! ```no_run
//! use firstseen::Store;
//! use firstseen_consumer::{Consumer, Failure, Job};
//! use firstseen_kafka::{KafkaIds, KafkaOptions, KafkaSource};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! # async fn charge(_key: &[u8]) -> Result<(), std::io::Error> { Ok(()) }
//! // The header in which the producer gives each order its id.
//! let options = KafkaOptions::new(KafkaIds::header("order")).dead_letters("orders-dead");
//! let source = KafkaSource::open("localhost:9092", "payments", ["orders"], options).await?;
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
//! `examples/orders.rs` is the whole of it, from the topic to the last acknowledgement.
//!
//! # Three ways to read a topic
//!
//! | | effects are | an entry for each record | guarantee |
//! |---|---|---|---|
//! | [`KafkaSource`] and a ledger | anywhere: banks, mails, other services | yes: attempts, answers, dead letters | as the ledger says: made again only around a crash, or held |
//! | [`KafkaPipeline`] | in the store: state, messages of an outbox | no: **the offset is in the commit of the effects** | exactly once |
//! | [`KafkaTransform`] | in the store, and records of Kafka | no | exactly once for readers of committed records |
//!
//! # What the broker does, and what is left to the ledger
//!
//! Of a [`KafkaSource`]:
//!
//! | the broker | the loop and this adapter |
//! |---|---|
//! | keeps one number for each partition and group: the committed offset | commits only behind the last record before which all are done (rule 88), and each record of the ledger says which of those behind are done, too |
//! | knows no id of a message | takes it from a header, the key, or your function; a record without one is a dead letter |
//! | an idempotent producer drops its own retries, while it lives | recognises a second write as long as the ledger remembers |
//! | has no answer "later": what is not committed comes again after a crash or a rebalance, with all behind it | keeps what is put off in memory and delivers it after its delay; what comes again because of it is a duplicate |
//! | counts no deliveries | counts attempts, over crashes |
//! | has no dead letters | writes them to a topic, with headers that say why and where from, before the commit |
//! | gives a partition to another member and fences commits of older generations | waits a moment for what is worked on and commits it; commits nothing of an assignment that has ended |
//!
//! Members of one group that are **processes of their own have stores of their own**. When a partition goes to another process,
//! what was in flight is delivered there, and its ledger knows nothing of it. Keep members of a group in one process over one store,
//! use a store that they share, or have the state of a partition go with it.
//!
//! # Tested with
//!
//! librdkafka against Kafka-compatible brokers, with both ends killed at random; Apache Kafka itself was not available. librdkafka
//! is compiled from C without TLS and SASL; its crate has features for both.

mod admission;
mod batch;
mod begin;
mod client;
mod dead;
mod deliveries;
mod driver;
mod error;
mod group;
mod mark;
mod options;
mod output;
mod pipeline;
mod pipeline_error;
mod reader;
mod record;
mod settings;
mod source;
mod transform;
mod window;
mod writer;

pub use batch::Batch;
pub use deliveries::KafkaToken;
pub use driver::{PipelineCounters, PipelineHandle, PipelineOptions};
pub use error::KafkaError;
pub use options::{KafkaIds, KafkaOptions, Read};
pub use output::{Output, Outputs};
pub use pipeline::KafkaPipeline;
pub use pipeline_error::{PipelineError, WorkError};
pub use rdkafka;
pub use record::{Place, Record};
pub use settings::KafkaStart;
pub use source::KafkaSource;
pub use transform::{KafkaTransform, TransformStep};
