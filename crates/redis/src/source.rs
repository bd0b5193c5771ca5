//! A consumer group of a stream, as a [`Source`].

use crate::counters::RedisWatch;
use crate::dead::DeadLetters;
use crate::delays::Delays;
use crate::entry::RedisEntry;
use crate::error::RedisError;
use crate::group::{Group, Kept};
use crate::hands::InHand;
use crate::intake::{Intake, Signals, Taken};
use crate::keeper::{self, idle_for};
use crate::link::{Link, Server};
use crate::lock::lock;
use crate::options::{RedisIds, RedisKeys, RedisOptions, RedisPayload};
use bytes::Bytes;
use firstseen_consumer::{Delivery, Message, Source, Want};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// The server counts idle times in milliseconds of its own clock.
const DUE_MARGIN: Duration = Duration::from_millis(2);

/// A consumer of a group of a stream.
///
/// - [`acknowledge`](Source::acknowledge) returns once the server has confirmed it.
/// - It has two connections: one that waits for entries, and one for all else. Both are made anew when they break.
/// - A stop gives back what was taken ahead.
pub struct RedisSource {
    group: Arc<Group>,
    delays: Arc<Mutex<Delays>>,
    signals: Arc<Signals>,
    dead: Option<DeadLetters>,
    intake: tokio::sync::Mutex<Intake>,
    keeper: JoinHandle<()>,
}

/// What an answer needs, and what a dead letter takes along.
#[derive(Debug)]
pub struct RedisToken {
    entry: Arc<RedisEntry>,
    deliveries: u32,
    /// It is not in the stream any more, and that was told.
    is_gone: AtomicBool,
    /// Until it is put off.
    in_hand: Mutex<Option<InHand>>,
}

impl RedisToken {
    /// Returns the entry.
    pub fn entry(&self) -> &RedisEntry {
        &self.entry
    }
}

impl fmt::Debug for RedisSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("RedisSource");
        shown.field("stream", &self.group.stream).field("group", &self.group.name);
        shown.field("consumer", &self.group.consumer);
        shown.field("options", &self.group.options).finish_non_exhaustive()
    }
}

impl Drop for RedisSource {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl RedisSource {
    /// Opens a group of a stream at a server, and creates the group if it is not there. Call it in a runtime of tokio.
    ///
    /// # Errors
    ///
    /// The server did not answer, or is older than Redis 7.0. There is no such stream
    /// ([`RedisOptions::create_stream`]), or a key is not a stream.
    pub async fn open(
        client: redis::Client,
        stream: impl Into<String>,
        group: impl Into<String>,
        options: RedisOptions,
    ) -> Result<Self, RedisError> {
        Self::start(Server::One(client), stream.into(), group.into(), options).await
    }

    /// Connects to a server, such as `redis://localhost:6379`, and opens a group; see [`open`](Self::open).
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), or the url is none.
    pub async fn connect(
        url: &str,
        stream: impl Into<String>,
        group: impl Into<String>,
        options: RedisOptions,
    ) -> Result<Self, RedisError> {
        let client = redis::Client::open(url).map_err(RedisError::of("reading the url"))?;
        Self::open(client, stream, group, options).await
    }

    /// Connects to a cluster by some of its nodes, and opens a group; see [`open`](Self::open).
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), or a url is none.
    #[cfg(feature = "cluster")]
    pub async fn connect_cluster(
        urls: impl IntoIterator<Item = String>,
        stream: impl Into<String>,
        group: impl Into<String>,
        options: RedisOptions,
    ) -> Result<Self, RedisError> {
        let server = crate::link::cluster(urls, options.answer_max)?;
        Self::start(server, stream.into(), group.into(), options).await
    }

    async fn start(
        server: Server,
        stream: String,
        name: String,
        options: RedisOptions,
    ) -> Result<Self, RedisError> {
        let link = || Link::new(server.clone(), options.answer_max);
        let (link, waiting) = (link(), link());
        let group = Arc::new(Group::new(link, waiting, stream, name, options));
        group.ensure().await?;
        let dead = match &group.options.dead_letters {
            Some(stream) => Some(DeadLetters::open(&group, stream).await?),
            None => None,
        };
        let mark = match group.options.ids {
            RedisIds::Entry => Some(group.mark().await?),
            _ => None,
        };
        let delays = Arc::new(Mutex::new(Delays::default()));
        let signals = Arc::new(Signals::default());
        let intake =
            Intake::new(Arc::clone(&group), Arc::clone(&delays), Arc::clone(&signals), mark);
        let keeper = tokio::spawn(keeper::keep(Arc::clone(&group), Arc::clone(&delays)));
        let intake = tokio::sync::Mutex::new(intake);
        Ok(Self { group, delays, signals, dead, intake, keeper })
    }

    /// Returns what reads the counters of this source while a loop has it.
    pub fn watch(&self) -> RedisWatch {
        self.group.watch.clone()
    }

    /// Returns the name of this consumer in its group.
    pub fn consumer(&self) -> &str {
        &self.group.consumer
    }

    fn delivery(&self, taken: Taken, mark: Option<&str>) -> Delivery<RedisToken> {
        let Taken { entry, deliveries, is_gone, in_hand, .. } = taken;
        let is_gone = AtomicBool::new(is_gone);
        let options = &self.group.options;
        let payload = match &options.payload {
            RedisPayload::Field(name) => entry.get(name).cloned(),
            RedisPayload::Entry => Some(entry.to_payload()),
            RedisPayload::Of(read) => read(&entry),
        };
        let id = match &options.ids {
            RedisIds::Field(name) => entry.get(name).cloned(),
            RedisIds::Entry => mark.map(|mark| place(&entry, mark)),
            RedisIds::Of(read) => read(&entry),
        };
        let mut message = match (id, payload) {
            (Some(id), Some(payload)) => Message::new(id, payload),
            (None, Some(payload)) => Message::without_id(payload),
            (_, None) => {
                tracing::warn!(entry = %entry.id, "an entry has no payload, so that it is given no id");
                Message::without_id(Bytes::new())
            }
        };
        message.key = match &options.keys {
            RedisKeys::None => None,
            RedisKeys::Field(name) => entry.get(name).cloned(),
            RedisKeys::Of(read) => read(&entry),
        };
        message.deliveries = Some(deliveries);
        let token = RedisToken { entry, deliveries, is_gone, in_hand: Mutex::new(Some(in_hand)) };
        Delivery { message, token }
    }

    /// Tells once that the entry is not in the stream any more, and that this process has it still.
    fn note_gone(&self, token: &RedisToken) {
        if !token.is_gone.swap(true, Ordering::AcqRel) {
            self.group.watch.trimmed_in_hand(token.entry.id);
        }
    }

    /// Sets the idle time of an entry that is delivered.
    async fn keep(
        &self,
        what: &'static str,
        token: &RedisToken,
        idle: Duration,
    ) -> Result<Kept, RedisError> {
        if token.is_gone.load(Ordering::Acquire) {
            return Ok(Kept::Gone);
        }
        let kept = self.group.keep_one(what, token.entry.id, idle).await?;
        match kept {
            Kept::Taken => Err(RedisError::Taken { entry: token.entry.id }),
            Kept::Gone => {
                self.note_gone(token);
                Ok(kept)
            }
            Kept::Ours | Kept::Acknowledged => Ok(kept),
        }
    }
}

/// Returns what tells an entry from all others, also from those of a stream that had its key before.
fn place(entry: &RedisEntry, mark: &str) -> Bytes {
    format!("{}.{mark}.{}", entry.stream, entry.id).into()
}

impl Source for RedisSource {
    type Token = RedisToken;
    type Error = RedisError;

    async fn next(&self, want: Want) -> Result<Vec<Delivery<RedisToken>>, RedisError> {
        let mut intake = self.intake.lock().await;
        self.group.watch.tell(&self.group.stream)?;
        let taken = intake.next(want).await?;
        let mark = intake.mark();
        Ok(taken.into_iter().map(|taken| self.delivery(taken, mark)).collect())
    }

    async fn acknowledge(&self, token: &RedisToken) -> Result<(), RedisError> {
        self.group.acknowledge(token.entry.id).await
    }

    async fn retry_in(&self, token: &RedisToken, delay: Duration) -> Result<(), RedisError> {
        let min_idle = self.group.options.min_idle;
        // If it is trimmed from now on, nobody has it.
        drop(lock(&token.in_hand).take());
        let kept = self.keep("putting off", token, idle_for(min_idle, delay)).await?;
        let due = Instant::now() + delay + DUE_MARGIN;
        match kept {
            Kept::Ours => {
                lock(&self.delays).put_off(token.entry.id, due, delay > min_idle);
            }
            Kept::Gone if self.signals.is_stopped() => {
                self.group.watch.trimmed(&[token.entry.id]);
                return self.group.watch.tell(&self.group.stream);
            }
            Kept::Gone => {
                lock(&self.delays).hold(Arc::clone(&token.entry), token.deliveries, due);
            }
            Kept::Taken | Kept::Acknowledged => return Ok(()),
        }
        self.signals.put_off.notify_one();
        Ok(())
    }

    async fn dead_letter(
        &self,
        message: &Message,
        token: &RedisToken,
        reason: &str,
    ) -> Result<(), RedisError> {
        match &self.dead {
            Some(dead) => dead.bury(&self.group, &token.entry, message.id.as_deref(), reason).await,
            None => self.group.acknowledge(token.entry.id).await,
        }
    }

    async fn working(&self, token: &RedisToken) -> Result<(), RedisError> {
        self.keep("telling that work goes on", token, Duration::ZERO).await.map(drop)
    }

    fn patience(&self) -> Option<Duration> {
        Some(self.group.options.min_idle)
    }

    async fn lag(&self) -> Result<Option<u64>, RedisError> {
        self.group.lag().await
    }

    async fn stop(&self) -> Result<(), RedisError> {
        self.signals.stop();
        self.group.link.wake(&self.group.waiting, self.group.answer_max()).await;
        self.intake.lock().await.give_back().await
    }
}
