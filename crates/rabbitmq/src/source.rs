//! A quorum queue of RabbitMQ, as a [`Source`].

use crate::error::RabbitError;
use crate::fields::number_of;
use crate::hold::{Holder, requeue};
use crate::letter::Origin;
use crate::link::{Link, address, connect, in_time};
use crate::options::RabbitOptions;
use crate::publisher::Publisher;
use crate::queue::Queues;
use crate::version::major_version;
use bytes::Bytes;
use firstseen_consumer::{Delivery, Message, Source, Want};
use futures_util::{FutureExt, StreamExt};
use lapin::Acker;
use lapin::options::BasicAckOptions;
use lapin::uri::AMQPUri;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// A quorum queue of RabbitMQ.
///
/// - A delivery that is dropped without an answer comes again after [`RabbitOptions::unanswered_delay`].
/// - After an error the next call connects anew; what was in flight on the lost connection comes again.
/// - A stop gives back what was delivered ahead, and what waits for a retry.
pub struct RabbitSource {
    uri: AMQPUri,
    queues: Queues,
    options: RabbitOptions,
    link: Mutex<Option<Link>>,
    publisher: Publisher,
    holder: Holder,
    is_stopped: AtomicBool,
}

/// What RabbitMQ wants back in an acknowledgement, and what a dead letter takes along. If it is dropped without an answer, the
/// message is given back.
#[derive(Debug)]
pub struct RabbitToken {
    acker: Acker,
    origin: Origin,
    holder: Holder,
    unanswered_delay: Duration,
    is_answered: AtomicBool,
}

impl RabbitToken {
    /// Fails if it was answered before, or its connection is lost.
    fn ensure_open(&self) -> Result<(), RabbitError> {
        self.acker.usable().then_some(()).ok_or(RabbitError::Gone)
    }

    fn set_answered(&self) {
        self.is_answered.store(true, Ordering::Release);
    }

    async fn acknowledge(&self) -> Result<(), RabbitError> {
        self.set_answered();
        let told = self.acker.ack(BasicAckOptions::default()).await;
        let is_told = told.map_err(RabbitError::of("acknowledging a message"))?;
        is_told.then_some(()).ok_or(RabbitError::Gone)
    }
}

impl Drop for RabbitToken {
    fn drop(&mut self) {
        // The server does not deliver again by time.
        if !*self.is_answered.get_mut() && self.acker.usable() {
            self.holder.hold(Instant::now() + self.unanswered_delay, self.acker.clone());
        }
    }
}

impl RabbitSource {
    /// Connects to a server and opens a queue. Creates it, and that for dead letters, if it is not there; an exchange and
    /// bindings are the producer's to declare.
    ///
    /// The address is `amqp://USER:PASSWORD@HOST:PORT/VHOST`, where the virtual host `/` is written `%2f`. For `amqps`, the
    /// program depends on `lapin` with the feature `rustls`.
    ///
    /// # Errors
    ///
    /// The server did not answer, or the queue that is there is not one that loses nothing: it must be a durable quorum
    /// queue, without a time to live, a length at which it drops messages, and a delivery limit, unless
    /// [`RabbitOptions::delivery_limit`] names it. Limits that a policy sets cannot be seen from here.
    pub async fn open(
        url: &str,
        queue: impl Into<String>,
        options: RabbitOptions,
    ) -> Result<Self, RabbitError> {
        let uri = address(url, options.heartbeat)?;
        let version = in_time("asking the server for its version", major_version(&uri)).await?;
        let queues = Queues::new(&queue.into(), &options, version)?;
        in_time("declaring the queues", async {
            let connection = connect(&uri, &queues.queue, "setup").await?;
            let channel = connection.create_channel().await;
            let channel = channel.map_err(RabbitError::of("opening a channel"))?;
            queues.declare(&channel).await
        })
        .await?;
        let link = Link::open(&uri, &queues, options.prefetch).await?;
        Ok(Self {
            link: Mutex::new(Some(link)),
            publisher: Publisher::new(uri.clone()),
            holder: Holder::start(),
            is_stopped: AtomicBool::new(false),
            uri,
            queues,
            options,
        })
    }

    fn delivery(&self, delivery: lapin::message::Delivery) -> Delivery<RabbitToken> {
        let id = self.options.ids.get(&delivery);
        let key = self.options.keys.get(&delivery);
        let deliveries = deliveries_of(&delivery);
        let mut delivery = delivery;
        let payload = Bytes::from(std::mem::take(&mut delivery.data));
        let mut message = id.map_or_else(
            || Message::without_id(payload.clone()),
            |id| Message::new(id, payload.clone()),
        );
        message.key = key;
        message.deliveries = Some(deliveries);
        let token = RabbitToken {
            acker: delivery.acker.clone(),
            origin: Origin::of(delivery),
            holder: self.holder.clone(),
            unanswered_delay: self.options.unanswered_delay,
            is_answered: AtomicBool::new(false),
        };
        Delivery { message, token }
    }
}

/// Returns how often a message was delivered, this time included. The header counts the times that it came back.
fn deliveries_of(delivery: &lapin::message::Delivery) -> u32 {
    let headers = delivery.properties.headers().as_ref();
    let count = headers.and_then(|headers| headers.inner().get("x-delivery-count"));
    let back = count.and_then(number_of).and_then(|count| u32::try_from(count).ok()).unwrap_or(0);
    back.max(u32::from(delivery.redelivered)).saturating_add(1)
}

impl Source for RabbitSource {
    type Token = RabbitToken;
    type Error = RabbitError;

    async fn next(&self, want: Want) -> Result<Vec<Delivery<RabbitToken>>, RabbitError> {
        let mut open = self.link.lock().await;
        if self.is_stopped.load(Ordering::Acquire) {
            return Ok(Vec::new());
        }
        let link = match &mut *open {
            Some(link) => link,
            closed => {
                closed.insert(Link::open(&self.uri, &self.queues, self.options.prefetch).await?)
            }
        };
        let Ok(first) = tokio::time::timeout(want.wait, link.deliveries.next()).await else {
            return Ok(Vec::new());
        };
        let (mut taken, mut bytes) = (Vec::new(), 0);
        let mut next = Some(first);
        // Without a pause: what was taken from the stream is returned, also if the loop gives this call up.
        while let Some(delivery) = next {
            let delivery = match delivery {
                Some(Ok(delivery)) => delivery,
                broken => {
                    *open = None;
                    let error = broken
                        .and_then(Result::err)
                        .map_or(RabbitError::Ended, RabbitError::of("taking messages"));
                    if taken.is_empty() {
                        return Err(error);
                    }
                    tracing::warn!(%error, "the connection is built anew");
                    break;
                }
            };
            bytes += delivery.data.len();
            taken.push(self.delivery(delivery));
            if taken.len() >= want.count || bytes >= want.bytes {
                break;
            }
            next = link.deliveries.next().now_or_never();
        }
        Ok(taken)
    }

    /// Returns once this is on its way: the protocol has no answer to it. If it is lost, so is the connection, and the
    /// message comes again as a duplicate.
    async fn acknowledge(&self, token: &RabbitToken) -> Result<(), RabbitError> {
        token.acknowledge().await
    }

    async fn retry_in(&self, token: &RabbitToken, delay: Duration) -> Result<(), RabbitError> {
        token.ensure_open()?;
        token.set_answered();
        if delay.is_zero() {
            return requeue(&token.acker).await;
        }
        self.holder.hold(Instant::now() + delay.min(self.options.hold_max), token.acker.clone());
        Ok(())
    }

    async fn dead_letter(
        &self,
        message: &Message,
        token: &RabbitToken,
        reason: &str,
    ) -> Result<(), RabbitError> {
        // Not twice, if this is called twice.
        token.ensure_open()?;
        let letter = token.origin.letter(message, &self.queues, reason);
        self.publisher.bury(&self.queues, &message.payload, letter).await?;
        token.acknowledge().await
    }

    async fn lag(&self) -> Result<Option<u64>, RabbitError> {
        self.publisher.lag(&self.queues).await.map(Some)
    }

    async fn stop(&self) -> Result<(), RabbitError> {
        let mut open = self.link.lock().await;
        self.is_stopped.store(true, Ordering::Release);
        // The link stays for the answers to what is in flight. Without one, the server has everything back already.
        let Some(link) = &mut *open else { return Ok(()) };
        let cancelled = link.cancel().await;
        // First what is older, so that it comes first.
        self.holder.give_back().await;
        cancelled?;
        link.give_back().await
    }
}

impl fmt::Debug for RabbitSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("RabbitSource");
        shown.field("queues", &self.queues).field("options", &self.options);
        shown.field("link", &self.link).finish_non_exhaustive()
    }
}
