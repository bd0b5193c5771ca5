//! A durable pull consumer of a JetStream stream, as a [`Source`].

use crate::options::{NatsIds, NatsKeys, NatsOptions};
use async_nats::datetime::DateTime;
use async_nats::jetstream::consumer::pull::{Config, Stream};
use async_nats::jetstream::consumer::{AckPolicy, PullConsumer};
use async_nats::jetstream::message::{Info, PublishMessage};
use async_nats::jetstream::{self, AckKind, Context};
use async_nats::{HeaderMap, Subject, header};
use bytes::Bytes;
use firstseen_consumer::{Delivery, Message, Source, Want};
use futures_util::{FutureExt, StreamExt};
use std::error::Error as StdError;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;

/// A durable pull consumer of a JetStream stream.
///
/// - Acknowledgements are **double**: [`acknowledge`](Source::acknowledge) returns once the server has confirmed it.
/// - Idle heartbeats tell a quiet stream from a broken one; after an error the next call builds it anew, and the durable
///   consumer with it, if somebody has deleted that.
/// - A stop gives back what was fetched ahead.
pub struct NatsSource {
    context: Context,
    stream: String,
    durable: String,
    options: NatsOptions,
    /// When the stream was created, in nanoseconds, as this process knows: it may have been deleted and made again since.
    created: AtomicI64,
    /// What the server's consumer says, which may have been there before.
    ack_wait: Duration,
    deliveries: Mutex<Option<Box<Stream>>>,
    is_stopped: AtomicBool,
}

/// What JetStream wants back in an acknowledgement, and what a dead letter takes along.
#[derive(Debug)]
pub struct NatsToken {
    reply: Subject,
    subject: Subject,
    place: String,
    /// When the stream was created that it comes from, as far as was known then.
    created: i64,
    headers: Option<HeaderMap>,
}

/// What goes wrong with a [`NatsSource`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NatsError {
    /// The server, or the way to it.
    #[error("{what}: {source}")]
    Server {
        /// What was asked of it.
        what: &'static str,
        /// What the client says.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The consumer exists, and would lose messages.
    #[error("the consumer {durable} of the stream {stream} {why}")]
    Unsuitable {
        /// The stream.
        stream: String,
        /// The consumer.
        durable: String,
        /// What is wrong, and what to do.
        why: String,
    },
    /// The stream of deliveries has ended; the next call builds another.
    #[error("the stream of deliveries has ended")]
    Ended,
}

impl fmt::Debug for NatsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("NatsSource");
        shown.field("stream", &self.stream).field("durable", &self.durable);
        shown.field("options", &self.options).finish_non_exhaustive()
    }
}

impl NatsError {
    fn of(what: &'static str) -> impl FnOnce(Box<dyn StdError + Send + Sync>) -> Self {
        move |source| Self::Server { what, source }
    }
}

impl NatsSource {
    /// Opens a durable consumer of a stream, which exists; creates the consumer if it does not.
    ///
    /// # Errors
    ///
    /// The server did not answer, there is no such stream, or the consumer that is there cannot be used: it must
    /// acknowledge explicitly, and have no `max_deliver`, with which the server would drop messages that the ledger has
    /// not given up. Or no stream keeps the subject of dead letters.
    pub async fn open(
        context: Context,
        stream: impl Into<String>,
        durable: impl Into<String>,
        options: NatsOptions,
    ) -> Result<Self, NatsError> {
        let mut source = Self {
            context,
            stream: stream.into(),
            durable: durable.into(),
            ack_wait: options.ack_wait,
            options,
            created: AtomicI64::new(0),
            deliveries: Mutex::new(None),
            is_stopped: AtomicBool::new(false),
        };
        let (consumer, created) = source.consumer().await?;
        source.ack_wait = consumer.cached_info().config.ack_wait;
        source.created = AtomicI64::new(created);
        if let Some(subject) = &source.options.dead_letters {
            // Otherwise each dead letter would come again for ever.
            let kept = source.context.stream_by_subject(subject.clone()).await;
            let why = |error| {
                format!("has no stream for dead letters on {subject:?} ({error}): create one")
            };
            kept.map_err(|error| source.unsuitable(why(error)))?;
        }
        Ok(source)
    }

    /// Connects to a server and opens a durable consumer; see [`open`](Self::open).
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub async fn connect(
        url: &str,
        stream: impl Into<String>,
        durable: impl Into<String>,
        options: NatsOptions,
    ) -> Result<Self, NatsError> {
        let client = async_nats::connect(url).await;
        let client = client.map_err(|e| NatsError::of("connecting")(e.into()))?;
        Self::open(jetstream::new(client), stream, durable, options).await
    }

    /// Returns the context, to publish with.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Returns the consumer, created if it is not there, and when the stream was created.
    async fn consumer(&self) -> Result<(PullConsumer, i64), NatsError> {
        let stream = self.context.get_stream(&self.stream).await;
        let stream = stream.map_err(|e| NatsError::of("asking for the stream")(e.into()))?;
        let created = nanoseconds(stream.cached_info().created);
        let config = Config {
            durable_name: Some(self.durable.clone()),
            ack_policy: AckPolicy::Explicit,
            ack_wait: self.options.ack_wait,
            // The ledger counts.
            max_deliver: -1,
            max_ack_pending: self.options.ack_pending_max,
            filter_subject: self.options.filter.clone(),
            ..Config::default()
        };
        let consumer = stream.get_or_create_consumer(&self.durable, config).await;
        let consumer: PullConsumer =
            consumer.map_err(|e| NatsError::of("asking for the consumer")(e.into()))?;
        let config = &consumer.cached_info().config;
        let why = if config.ack_policy != AckPolicy::Explicit {
            "does not acknowledge each message: set its ack policy to explicit".to_owned()
        } else if config.max_deliver > 0 {
            format!(
                "drops a message after {} deliveries, whether it was handled or not: set max_deliver to -1, the ledger counts",
                config.max_deliver
            )
        } else {
            return Ok((consumer, created));
        };
        Err(self.unsuitable(why))
    }

    fn unsuitable(&self, why: String) -> NatsError {
        let (stream, durable) = (self.stream.clone(), self.durable.clone());
        NatsError::Unsuitable { stream, durable, why }
    }

    async fn build(&self) -> Result<Box<Stream>, NatsError> {
        let (consumer, created) = self.consumer().await?;
        if self.created.swap(created, Ordering::AcqRel) != created {
            tracing::warn!(stream = %self.stream, "the stream was deleted and made again: what was delivered of the old one is answered no more");
        }
        let stream = consumer
            .stream()
            .max_messages_per_batch(self.options.prefetch)
            .expires(self.options.heartbeat * 4)
            .heartbeat(self.options.heartbeat)
            .messages()
            .await;
        stream.map(Box::new).map_err(|e| NatsError::of("asking for messages")(e.into()))
    }

    /// Returns whether an answer would find the stream that the delivery comes from. To the server an answer names a
    /// sequence number and no more: in a stream that was made again, it would acknowledge another message.
    fn is_of_this_stream(&self, token: &NatsToken) -> bool {
        token.created == self.created.load(Ordering::Acquire)
    }

    /// Sends an answer, and waits until the server has confirmed it.
    async fn confirm(&self, token: &NatsToken, answer: AckKind) -> Result<(), NatsError> {
        if !self.is_of_this_stream(token) {
            return Ok(());
        }
        let confirmed = self.context.client().request(token.reply.clone(), answer.into()).await;
        confirmed.map(drop).map_err(|e| NatsError::of("answering a message")(e.into()))
    }

    fn delivery(&self, message: jetstream::Message) -> Result<Delivery<NatsToken>, NatsError> {
        let info = message.info().map_err(NatsError::of("reading a delivery"))?;
        let (place, delivered) = (self.place(&info), info.delivered);
        let id = match &self.options.ids {
            NatsIds::MessageId => {
                let headers = message.headers.as_ref();
                let id = headers.and_then(|headers| headers.get(header::NATS_MESSAGE_ID));
                id.map(|id| Bytes::copy_from_slice(id.as_str().as_bytes()))
            }
            NatsIds::Sequence => Some(Bytes::copy_from_slice(place.as_bytes())),
            NatsIds::Of(id) => id(&message),
        };
        let key = match &self.options.keys {
            NatsKeys::Subject => Some(Bytes::copy_from_slice(message.subject.as_bytes())),
            NatsKeys::Of(key) => key(&message),
        };
        let async_nats::Message { subject, reply, payload, headers, .. } = message.message;
        // `info` has read it.
        let reply = reply.ok_or(NatsError::Ended)?;
        let mut message = id.map_or_else(
            || Message::without_id(payload.clone()),
            |id| Message::new(id, payload.clone()),
        );
        message.key = key;
        message.deliveries = Some(u32::try_from(delivered).unwrap_or(u32::MAX));
        let created = self.created.load(Ordering::Acquire);
        Ok(Delivery { message, token: NatsToken { reply, subject, place, created, headers } })
    }

    /// Returns what tells a message from all others, also from those of a stream that had its name before, which counted
    /// from one, too. When it was stored is said by each of its deliveries. When the stream was created is not: a stream that
    /// is made again while no request for messages is open, and whose consumer another process makes again, delivers here
    /// as if nothing had happened.
    fn place(&self, info: &Info<'_>) -> String {
        format!("{}.{}.{}", self.stream, info.stream_sequence, nanoseconds(info.published))
    }
}

impl Source for NatsSource {
    type Token = NatsToken;
    type Error = NatsError;

    async fn next(&self, want: Want) -> Result<Vec<Delivery<NatsToken>>, NatsError> {
        let mut open = self.deliveries.lock().await;
        if self.is_stopped.load(Ordering::Acquire) {
            return Ok(Vec::new());
        }
        let deliveries = match &mut *open {
            Some(deliveries) => deliveries,
            closed => closed.insert(self.build().await?),
        };
        let Ok(first) = tokio::time::timeout(want.wait, deliveries.next()).await else {
            return Ok(Vec::new());
        };
        let (mut taken, mut bytes) = (Vec::new(), 0);
        let mut next = Some(first);
        // Without a pause: what was taken from the stream is returned, also if the loop gives this call up.
        while let Some(message) = next {
            let message = match message {
                Some(Ok(message)) => message,
                broken => {
                    *open = None;
                    let error = broken.and_then(Result::err).map_or(NatsError::Ended, |error| {
                        NatsError::of("taking messages")(error.into())
                    });
                    if taken.is_empty() {
                        return Err(error);
                    }
                    tracing::warn!(%error, "the stream of deliveries is built anew");
                    break;
                }
            };
            bytes += message.payload.len();
            taken.push(self.delivery(message)?);
            if taken.len() >= want.count || bytes >= want.bytes {
                break;
            }
            next = deliveries.next().now_or_never();
        }
        Ok(taken)
    }

    async fn acknowledge(&self, token: &NatsToken) -> Result<(), NatsError> {
        self.confirm(token, AckKind::Ack).await
    }

    async fn retry_in(&self, token: &NatsToken, delay: Duration) -> Result<(), NatsError> {
        let delay = (!delay.is_zero()).then_some(delay);
        self.confirm(token, AckKind::Nak(delay)).await
    }

    async fn dead_letter(
        &self,
        message: &Message,
        token: &NatsToken,
        reason: &str,
    ) -> Result<(), NatsError> {
        if let Some(subject) = &self.options.dead_letters {
            let mut headers = token.headers.clone().unwrap_or_default();
            headers.insert("Firstseen-Subject", token.subject.as_str());
            headers.insert("Firstseen-Consumer", self.durable.as_str());
            headers.insert("Firstseen-Reason", one_line(reason));
            if let Some(id) = message.id.as_deref().map(String::from_utf8_lossy) {
                headers.insert("Firstseen-Message-Id", one_line(&id));
            }
            // What the producer expected of its stream says nothing of this one. Its id is of this message and this consumer
            // alone, so that a letter that the server calls a duplicate is this one, written before.
            let letter = PublishMessage::build()
                .payload(message.payload.clone())
                .headers(without_expectations(headers))
                .message_id(format!("dead.{}.{}", self.durable, token.place));
            let sent = self.context.send_publish(subject.clone(), letter).await;
            let sent = sent.map_err(|e| NatsError::of("publishing a dead letter")(e.into()))?;
            sent.await.map_err(|e| NatsError::of("publishing a dead letter")(e.into()))?;
        }
        self.confirm(token, AckKind::Term).await
    }

    async fn working(&self, token: &NatsToken) -> Result<(), NatsError> {
        if !self.is_of_this_stream(token) {
            return Ok(());
        }
        let client = self.context.client();
        let told = client.publish(token.reply.clone(), AckKind::Progress.into()).await;
        told.map_err(|e| NatsError::of("telling that work goes on")(e.into()))
    }

    fn patience(&self) -> Option<Duration> {
        Some(self.ack_wait)
    }

    async fn lag(&self) -> Result<Option<u64>, NatsError> {
        let consumer = self.context.get_consumer_from_stream(&self.durable, &self.stream).await;
        let consumer: PullConsumer =
            consumer.map_err(|e| NatsError::of("asking for the lag")(e.into()))?;
        Ok(Some(consumer.cached_info().num_pending))
    }

    async fn stop(&self) -> Result<(), NatsError> {
        let mut open = self.deliveries.lock().await;
        self.is_stopped.store(true, Ordering::Release);
        let Some(mut deliveries) = open.take() else { return Ok(()) };
        while let Some(Some(Ok(message))) = deliveries.next().now_or_never() {
            // Otherwise it comes again after `ack_wait`.
            message.ack_with(AckKind::Nak(None)).await.map_err(NatsError::of("giving back"))?;
        }
        let client = self.context.client();
        client.flush().await.map_err(|e| NatsError::of("giving back")(e.into()))
    }
}

/// Since 1970. An `i64` lasts until 2262.
fn nanoseconds(time: DateTime) -> i64 {
    i64::try_from(time.unix_timestamp_nanos()).unwrap_or(i64::MAX)
}

/// A header has one line.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn without_expectations(headers: HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::new();
    for (name, values) in headers.iter().filter(|(name, _)| {
        let name: &str = name.as_ref();
        !name.to_ascii_lowercase().starts_with("nats-")
    }) {
        for value in values {
            kept.append(name.clone(), value.clone());
        }
    }
    kept
}
