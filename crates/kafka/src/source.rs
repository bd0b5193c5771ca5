//! A member of a consumer group, as a [`Source`].

use crate::dead::DeadLetters;
use crate::deliveries::{ANSWER_MAX, Deliveries, KafkaToken};
use crate::error::KafkaError;
use crate::group::{Client, Member, TopicPartition};
use crate::options::KafkaOptions;
use crate::settings::KafkaStart;
use firstseen_consumer::{Delivery, Message, Source, Want};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::Consumer as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// A member of a consumer group.
///
/// - The committed offset of a partition is behind the last record before which all are done. librdkafka commits nothing by
///   itself.
/// - [`retry_in`](Source::retry_in) keeps the record in memory and delivers it again: a consumer cannot give one record back.
/// - When a partition goes to another member, what is worked on is waited for as long as
///   [`revoke_wait`](KafkaOptions::revoke_wait) says, and what is done is committed. Acknowledgements that come after that
///   are answered by [`KafkaError::Revoked`] and commit nothing: the new owner delivers the record again.
pub struct KafkaSource {
    joined: Mutex<Joined>,
    config: ClientConfig,
    topics: Vec<String>,
    options: KafkaOptions,
    dead_letters: Option<DeadLetters>,
    is_stopped: AtomicBool,
}

/// A membership. Built anew after an error that ends the client.
#[derive(Clone)]
struct Joined {
    member: Arc<Member<Deliveries>>,
    deliveries: Arc<Deliveries>,
}

impl fmt::Debug for KafkaSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("KafkaSource");
        shown.field("topics", &self.topics).field("options", &self.options).finish_non_exhaustive()
    }
}

impl KafkaSource {
    /// Joins a group that reads these topics, which exist.
    ///
    /// `brokers` is a list such as `localhost:9092,localhost:9093`. A topic that begins with `^` is a regular expression.
    ///
    /// # Errors
    ///
    /// A setting is refused, no broker has answered, or there is no such topic, that of dead letters included.
    pub async fn open(
        brokers: &str,
        group: &str,
        topics: impl IntoIterator<Item = impl Into<String>>,
        options: KafkaOptions,
    ) -> Result<Self, KafkaError> {
        options.settings.check()?;
        let topics: Vec<String> = topics.into_iter().map(Into::into).collect();
        let config = options.settings.consumer(brokers, group, options.start);
        let dead_letters = options.dead_letters.as_ref();
        let dead_letters = dead_letters
            .map(|topic| DeadLetters::open(topic, group, options.settings.producer(brokers)))
            .transpose()?;
        let joined = Joined::join(&config, &topics, &options)?;
        let source = Self {
            joined: Mutex::new(joined),
            config,
            topics,
            dead_letters,
            options,
            is_stopped: AtomicBool::new(false),
        };
        let named = source.topics.iter().filter(|topic| !topic.starts_with('^'));
        for topic in named.chain(&source.options.dead_letters) {
            source.check_topic(topic.clone()).await?;
        }
        Ok(source)
    }

    /// Returns the partitions that are assigned to it now.
    pub fn assignment(&self) -> Vec<(String, i32)> {
        let positions = self.joined().deliveries.positions().into_iter();
        positions.map(|((topic, partition), _)| (topic.to_string(), partition)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Joined> {
        self.joined.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn joined(&self) -> Joined {
        self.lock().clone()
    }

    fn client(&self) -> Result<(Arc<Client<Deliveries>>, Arc<Deliveries>), KafkaError> {
        let Joined { member, deliveries } = self.joined();
        let ended = || KafkaError::Ended("it is built anew by the next call".to_owned());
        Ok((member.client().ok_or_else(ended)?, deliveries))
    }

    async fn check_topic(&self, topic: String) -> Result<(), KafkaError> {
        let (client, _) = self.client()?;
        blocking("asking for a topic", move || {
            let metadata = client.fetch_metadata(Some(&topic), ANSWER_MAX);
            let metadata = metadata.map_err(KafkaError::client("asking for a topic"))?;
            let found = metadata.topics().iter().find(|found| found.name() == topic);
            match found {
                Some(found) if found.error().is_none() && !found.partitions().is_empty() => Ok(()),
                _ => Err(KafkaError::NoTopic(topic)),
            }
        })
        .await
    }

    /// Joins anew if the client has ended.
    fn rejoin(&self) -> Result<Joined, KafkaError> {
        let mut joined = self.lock();
        if joined.deliveries.is_over() {
            tracing::warn!("the client has ended: it is built anew");
            *joined = Joined::join(&self.config, &self.topics, &self.options)?;
        }
        Ok(joined.clone())
    }
}

impl Joined {
    fn join(
        config: &ClientConfig,
        topics: &[String],
        options: &KafkaOptions,
    ) -> Result<Self, KafkaError> {
        let deliveries = Arc::new(Deliveries::new(options.clone()));
        let member =
            Member::join(config, topics, Arc::clone(&deliveries), Arc::clone(&deliveries.alarm))?;
        Ok(Self { member: Arc::new(member), deliveries })
    }
}

/// Runs a call of the client that blocks.
async fn blocking<T: Send + 'static>(
    what: &'static str,
    call: impl FnOnce() -> Result<T, KafkaError> + Send + 'static,
) -> Result<T, KafkaError> {
    let done = tokio::task::spawn_blocking(call).await;
    done.unwrap_or_else(|error| Err(KafkaError::Ended(format!("{what}: {error}"))))
}

impl Source for KafkaSource {
    type Token = KafkaToken;
    type Error = KafkaError;

    async fn next(&self, want: Want) -> Result<Vec<Delivery<KafkaToken>>, KafkaError> {
        if self.is_stopped.load(Ordering::Acquire) {
            return Ok(Vec::new());
        }
        let Joined { deliveries, .. } = self.rejoin()?;
        let end = Instant::now() + want.wait;
        loop {
            let mut rung = std::pin::pin!(deliveries.bell.notified());
            // Before the look, so that no bell is missed.
            rung.as_mut().enable();
            let taken = deliveries.take(want)?;
            if !taken.is_empty() || Instant::now() >= end {
                return Ok(taken);
            }
            let until = deliveries.next_due().map_or(end, |due| due.min(end));
            // Whichever comes first, it looks again.
            let _ = tokio::time::timeout_at(until, rung).await;
        }
    }

    async fn acknowledge(&self, token: &KafkaToken) -> Result<(), KafkaError> {
        let Joined { deliveries, .. } = self.joined();
        deliveries.acknowledge(token).await
    }

    async fn retry_in(&self, token: &KafkaToken, delay: Duration) -> Result<(), KafkaError> {
        // If it has another owner, that one delivers it again.
        let _ = self.joined().deliveries.set(token, Instant::now() + delay, false);
        Ok(())
    }

    async fn dead_letter(
        &self,
        message: &Message,
        token: &KafkaToken,
        reason: &str,
    ) -> Result<(), KafkaError> {
        let Joined { deliveries, .. } = self.joined();
        // What is done already is not written again.
        if let (Some(held), Some(letters)) = (deliveries.open(token)?, &self.dead_letters) {
            deliveries.work_on(token);
            letters.write(&held.record, message.id.as_ref(), reason).await?;
        }
        deliveries.acknowledge(token).await
    }

    async fn working(&self, token: &KafkaToken) -> Result<(), KafkaError> {
        let is_owned = self.joined().deliveries.work_on(token);
        if is_owned { Ok(()) } else { Err(KafkaError::Revoked(token.place.clone())) }
    }

    fn patience(&self) -> Option<Duration> {
        Some(self.options.answer_wait)
    }

    async fn lag(&self) -> Result<Option<u64>, KafkaError> {
        let (client, deliveries) = self.client()?;
        let (positions, start) = (deliveries.positions(), self.options.start);
        let ask = move || {
            let behind = |(partition, next)| behind(&client, &partition, next, start);
            positions.into_iter().map(behind).sum::<Result<u64, KafkaError>>()
        };
        blocking("asking for the lag", ask).await.map(Some)
    }

    async fn stop(&self) -> Result<(), KafkaError> {
        // It stays in the group until it is dropped: what is in flight is acknowledged after this.
        self.is_stopped.store(true, Ordering::Release);
        Ok(())
    }
}

/// Returns how many offsets of a partition are behind the last that was taken.
fn behind(
    client: &Client<Deliveries>,
    (topic, number): &TopicPartition,
    next: Option<i64>,
    start: KafkaStart,
) -> Result<u64, KafkaError> {
    const ASKING: &str = "asking for the lag";
    let watermarks = client.fetch_watermarks(topic, *number, ANSWER_MAX);
    let (low, high) = watermarks.map_err(KafkaError::client(ASKING))?;
    let next = match next {
        Some(next) => next,
        None => {
            let mut list = TopicPartitionList::new();
            list.add_partition(topic, *number);
            let known = client.committed_offsets(list, ANSWER_MAX);
            let known = known.map_err(KafkaError::client(ASKING))?;
            let committed = known.find_partition(topic, *number).map(|element| element.offset());
            match (committed, start) {
                (Some(Offset::Offset(committed)), _) => committed,
                (_, KafkaStart::Latest) => high,
                (_, KafkaStart::Earliest | KafkaStart::Fail) => low,
            }
        }
    };
    Ok(u64::try_from(high - next.max(low)).unwrap_or(0))
}
