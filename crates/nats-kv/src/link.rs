//! The stream: what is asked of the server, and how often.

use crate::options::NatsKvOptions;
use async_nats::jetstream::context::{Context, ContextBuilder, PublishErrorKind};
use async_nats::jetstream::message::{PublishMessage, StreamMessage};
use async_nats::jetstream::stream::{
    Config, DiscardPolicy, RawMessageError, RawMessageErrorKind, StorageType, Stream,
};
use bytes::Bytes;
use firstseen_shared::{Error, ErrorKind, Result};
use std::error::Error as StdError;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Mutex;

/// Longest message in bytes: a result, and what is beside it.
const PAYLOAD_BYTES_MAX: usize = 640 << 10;

/// A message, as it is kept.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) subject: String,
    pub(crate) sequence: u64,
    pub(crate) stored_ms: u64,
    pub(crate) payload: Bytes,
}

/// What came of a compare-and-set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Put {
    /// Stored with this sequence.
    Stored(u64),
    /// The subject has another last message.
    Moved,
}

/// What was asked of the server.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    pub(crate) puts: AtomicU64,
    pub(crate) gets: AtomicU64,
    pub(crate) clocks: AtomicU64,
}

#[derive(Debug, Default)]
struct Reading {
    number: u64,
    ms: u64,
}

pub(crate) struct Link {
    context: Context,
    stream: Stream<()>,
    pub(crate) options: NatsKvOptions,
    started: AtomicU64,
    reading: Mutex<Reading>,
    pub(crate) asked: Asked,
}

pub(crate) fn unavailable(
    what: &'static str,
    source: impl Into<Box<dyn StdError + Send + Sync>>,
) -> Error {
    Error::new(ErrorKind::Unavailable, what, source)
}

impl Link {
    pub(crate) async fn open(client: async_nats::Client, options: NatsKvOptions) -> Result<Self> {
        const WHAT: &str = "opening the stream";
        options.check(WHAT)?;
        let payload_max = client.server_info().max_payload;
        if payload_max < PAYLOAD_BYTES_MAX {
            let why = format!(
                "max_payload of the server is {payload_max} bytes; set it to {PAYLOAD_BYTES_MAX} at least"
            );
            return Err(Error::new(ErrorKind::Environment, WHAT, why));
        }
        let context = ContextBuilder::new()
            .timeout(options.answer_max)
            .ack_timeout(options.answer_max)
            .build(client);
        let config = Config {
            name: options.stream.clone(),
            subjects: vec![format!("{}.>", options.stream)],
            max_messages_per_subject: 1,
            discard: DiscardPolicy::New,
            storage: StorageType::File,
            num_replicas: options.replicas,
            ..Config::default()
        };
        let mut made =
            context.get_or_create_stream(config).await.map_err(|error| unavailable(WHAT, error))?;
        let config = &made.info().await.map_err(|error| unavailable(WHAT, error))?.config;
        if config.max_messages_per_subject != 1
            || config.discard != DiscardPolicy::New
            || !config.max_age.is_zero()
        {
            let why = "the stream may drop messages that are needed: it must have max_msgs_per_subject 1, discard new and no max_age";
            return Err(Error::new(ErrorKind::Environment, WHAT, why));
        }
        let stream = context
            .get_stream_no_info(&options.stream)
            .await
            .map_err(|error| unavailable(WHAT, error))?;
        Ok(Self {
            context,
            stream,
            options,
            started: AtomicU64::new(0),
            reading: Mutex::default(),
            asked: Asked::default(),
        })
    }

    /// Stores a message, if the last of its subject has this sequence; zero: if there is none.
    pub(crate) async fn put(
        &self,
        what: &'static str,
        subject: &str,
        expected: Option<u64>,
        payload: Vec<u8>,
    ) -> Result<Put> {
        self.asked.puts.fetch_add(1, Ordering::Relaxed);
        let mut message = PublishMessage::build().payload(payload.into());
        if let Some(expected) = expected {
            message = message.expected_last_subject_sequence(expected);
        }
        let sent = self.context.send_publish(subject.to_owned(), message).await;
        let stored = match sent {
            Ok(acknowledged) => acknowledged.await,
            Err(error) => Err(error),
        };
        match stored {
            Ok(stored) => Ok(Put::Stored(stored.sequence)),
            Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => Ok(Put::Moved),
            Err(error) if error.kind() == PublishErrorKind::StreamNotFound => {
                Err(Error::new(ErrorKind::Environment, what, error))
            }
            Err(error) => Err(unavailable(what, error)),
        }
    }

    /// Returns the last message of a subject, as the leader of the stream has it.
    pub(crate) async fn last(&self, what: &'static str, subject: &str) -> Result<Option<Kept>> {
        self.asked.gets.fetch_add(1, Ordering::Relaxed);
        let asked = self.stream.raw_message_builder().last_by_subject(subject);
        Self::kept(what, asked.send().await)
    }

    /// Returns the first message of these subjects from a sequence on.
    pub(crate) async fn next(
        &self,
        what: &'static str,
        subjects: &str,
        from: u64,
    ) -> Result<Option<Kept>> {
        self.asked.gets.fetch_add(1, Ordering::Relaxed);
        let asked = self.stream.raw_message_builder().next_by_subject(subjects).sequence(from);
        Self::kept(what, asked.send().await)
    }

    fn kept(
        what: &'static str,
        answer: Result<StreamMessage, RawMessageError>,
    ) -> Result<Option<Kept>> {
        match answer {
            Ok(message) => Ok(Some(Kept {
                subject: message.subject.to_string(),
                sequence: message.sequence,
                stored_ms: u64::try_from(message.time.unix_timestamp_nanos() / 1_000_000)
                    .unwrap_or_default(),
                payload: message.payload,
            })),
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(unavailable(what, error)),
        }
    }

    /// Removes the message of a subject, if it is not newer than this. It is purged, not erased: if the server dies before it has
    /// noted that, this message comes back, and not one that it took the place of.
    pub(crate) async fn remove(
        &self,
        what: &'static str,
        subject: &str,
        sequence: u64,
    ) -> Result<()> {
        let purge = self.stream.purge().sequence(sequence + 1).filter(subject);
        purge.await.map_err(|error| unavailable(what, error))?;
        Ok(())
    }

    /// Returns a time between call and answer by the clock of the server. Those who ask at once share a reading that begins after
    /// they have asked.
    pub(crate) async fn now(&self, what: &'static str) -> Result<u64> {
        let before = self.started.load(Ordering::SeqCst);
        let mut reading = self.reading.lock().await;
        if reading.number <= before {
            let number = self.started.fetch_add(1, Ordering::SeqCst) + 1;
            self.asked.clocks.fetch_add(1, Ordering::Relaxed);
            let subject = format!("{}.now", self.options.stream);
            self.put(what, &subject, None, Vec::new()).await?;
            let kept = self.last(what, &subject).await?;
            let ms = kept.ok_or_else(|| unavailable(what, "the message is gone"))?.stored_ms;
            *reading = Reading { number, ms };
        }
        Ok(reading.ms + self.shift_ms())
    }

    pub(crate) fn shift_ms(&self) -> u64 {
        self.options.shift_ms.load(Ordering::Relaxed)
    }
}
