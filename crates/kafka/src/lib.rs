//! Kafka as a source of [`firstseen_consumer`]: each effect once, whoever is killed.

mod dead;
mod deliveries;
mod error;
mod group;
mod options;
mod record;
mod settings;
mod source;
mod window;

pub use deliveries::KafkaToken;
pub use error::KafkaError;
pub use options::{KafkaIds, KafkaOptions, Read};
pub use record::{Place, Record};
pub use settings::KafkaStart;
pub use source::KafkaSource;
