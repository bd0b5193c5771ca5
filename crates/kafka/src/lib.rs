//! Kafka as a source of [`firstseen_consumer`]: each effect once, whoever is killed.

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
pub use record::{Place, Record};
pub use settings::KafkaStart;
pub use source::KafkaSource;
pub use transform::{KafkaTransform, TransformStep};
