//! The settings of librdkafka: those that are ours, those that the user may set, and those that would lose messages.

use crate::error::KafkaError;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use std::collections::BTreeMap;

/// Where reading begins in a partition of which nothing was committed, or whose committed offset is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KafkaStart {
    /// At the oldest record that is kept: nothing is left out.
    #[default]
    Earliest,
    /// At the end: what was written before the first start is left out, and, if the retention of the topic has overtaken
    /// the consumer, what was written until then, too.
    Latest,
    /// Nowhere: an error of the source until somebody commits an offset.
    Fail,
}

impl KafkaStart {
    fn as_setting(self) -> &'static str {
        match self {
            Self::Earliest => "earliest",
            Self::Latest => "latest",
            Self::Fail => "error",
        }
    }
}

/// Settings of librdkafka by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings(BTreeMap<String, String>);

/// What a user may not set, and why.
const REFUSED: [(&str, &str); 11] = [
    (
        "enable.auto.commit",
        "an offset is committed once the work before it is done, never by time; leave it out",
    ),
    (
        "enable.auto.offset.store",
        "an offset is committed once the work before it is done; leave it out",
    ),
    ("auto.commit.interval.ms", "nothing is committed by time alone; leave it out"),
    ("auto.offset.reset", "say where to start with `start` of the options"),
    ("bootstrap.servers", "name the brokers where the source is opened"),
    ("metadata.broker.list", "name the brokers where the source is opened"),
    ("group.id", "name the group where the source is opened"),
    ("enable.partition.eof", "the end of a partition is no event here; leave it out"),
    (
        "transactional.id",
        "it follows from group, topic and partition, so that each partition has one writer",
    ),
    ("enable.idempotence", "it is always on; leave it out"),
    ("acks", "all replicas have to confirm; leave it out"),
];

impl Settings {
    pub(crate) fn set(&mut self, name: String, value: String) {
        self.0.insert(name, value);
    }

    /// Returns an error for the first setting that may not be set.
    pub(crate) fn check(&self) -> Result<(), KafkaError> {
        for name in self.0.keys() {
            if let Some((_, why)) = REFUSED.iter().find(|(refused, _)| refused == name) {
                return Err(KafkaError::Setting { name: name.clone(), why });
            }
        }
        Ok(())
    }

    /// Returns what a consumer of a group is made of.
    pub(crate) fn consumer(&self, brokers: &str, group: &str, start: KafkaStart) -> ClientConfig {
        let mut config = base(brokers);
        // What is fetched ahead of the loop waits in memory: less of it than librdkafka's 64 MiB for each partition.
        config.set("queued.min.messages", "1000").set("queued.max.messages.kbytes", "8192");
        self.add_to(&mut config);
        config.set("group.id", group).set("auto.offset.reset", start.as_setting());
        config.set("enable.auto.commit", "false").set("enable.auto.offset.store", "false");
        config
    }

    /// Returns what a producer is made of.
    pub(crate) fn producer(&self, brokers: &str) -> ClientConfig {
        let mut config = base(brokers);
        config.set("linger.ms", "2");
        self.add_to(&mut config);
        config.set("enable.idempotence", "true");
        config
    }

    /// librdkafka ignores what is for the other kind of client.
    fn add_to(&self, config: &mut ClientConfig) {
        config.extend(self.0.iter().map(|(name, value)| (name.clone(), value.clone())));
    }
}

fn base(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set_log_level(RDKafkaLogLevel::Warning);
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_would_lose_messages_are_refused_by_name_with_a_word_on_what_to_do() {
        for (name, _) in REFUSED {
            let mut settings = Settings::default();
            settings.set(name.to_owned(), "true".to_owned());
            let error = settings.check().unwrap_err();
            assert!(matches!(&error, KafkaError::Setting { name: named, .. } if named == name));
        }
        let mut settings = Settings::default();
        settings.set("session.timeout.ms".to_owned(), "10000".to_owned());
        settings.check().unwrap();
    }

    #[test]
    fn nothing_is_committed_by_librdkafka_itself_whatever_is_set() {
        let mut settings = Settings::default();
        settings.set("enable.auto.commit".to_owned(), "true".to_owned());
        let config = settings.consumer("b:9092", "g", KafkaStart::Earliest);
        assert_eq!(config.get("enable.auto.commit"), Some("false"));
        assert_eq!(config.get("enable.auto.offset.store"), Some("false"));
        assert_eq!(config.get("auto.offset.reset"), Some("earliest"));
    }
}
