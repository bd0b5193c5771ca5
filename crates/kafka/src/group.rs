//! A member of a consumer group: a client, and the thread that serves it.
//!
//! Rebalances come on that thread, and all commits go out from it, so that no commit overtakes a rebalance. Records do not
//! pass it: each assigned partition has a queue of its own, which is read only when somebody wants records. So nothing has to
//! be paused where there is no room, what librdkafka has fetched ahead is not thrown away, and however long handlers take, the
//! group hears from this member.

use crate::client;
use crate::error::KafkaError;
use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, Weak, mpsc};
use std::time::Duration;

/// How long the thread sleeps if nobody wakes it.
const TICK: Duration = Duration::from_millis(100);

/// How many events it looks for between two looks at what it has to do.
const EVENTS: usize = 8;

/// How long whoever drops a member waits until it has left its group.
const LEAVE_MAX: Duration = Duration::from_secs(5);

/// A partition of a topic.
pub(crate) type TopicPartition = (Arc<str>, i32);

/// The client of a member.
pub(crate) type Client<M> = BaseConsumer<Context<M>>;

/// The records of a partition.
pub(crate) type Queue<M> = PartitionQueue<Context<M>>;

/// What is kept of the partitions that are assigned. All calls come from the member's thread.
pub(crate) trait Assignment: Send + Sync + Sized + 'static {
    /// Takes over a partition, and says where to read on. After an error nothing is read from it, and
    /// [`failed`](Self::failed) is called.
    fn assigned(
        &self,
        client: &Client<Self>,
        partition: &TopicPartition,
        queue: Queue<Self>,
    ) -> Result<Offset, KafkaError>;

    /// Lets partitions go. `is_lost`: they have another owner already.
    fn revoked(&self, client: &Client<Self>, partitions: &[TopicPartition], is_lost: bool);

    /// Hears of an error; after one that `is_final` nothing comes any more.
    fn failed(&self, error: KafkaError, is_final: bool);

    /// Commits what is to be committed. Called now and then, and soon after the thread is woken.
    fn work(&self, client: &Client<Self>);

    /// Drops all queues: the client is to end. Partitions that are still assigned are revoked after it.
    fn close(&self);
}

/// Wakes the thread of a member.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    is_rung: Mutex<bool>,
    bell: Condvar,
}

impl Alarm {
    pub(crate) fn ring(&self) {
        *self.is_rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.bell.notify_one();
    }

    /// Waits until it is rung, but not for long.
    pub(crate) fn wait(&self) {
        let is_rung = self.is_rung.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.bell.wait_timeout_while(is_rung, TICK, |is_rung| !*is_rung);
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
    }
}

/// What librdkafka calls.
pub(crate) struct Context<M: Assignment> {
    assignment: Arc<M>,
    /// The client itself, which its queues need.
    client: OnceLock<Weak<Client<M>>>,
    topics: Mutex<Vec<Arc<str>>>,
}

/// A member of a group. Dropped, it leaves the group.
pub(crate) struct Member<M: Assignment> {
    client: Weak<Client<M>>,
    is_leaving: Arc<AtomicBool>,
    alarm: Arc<Alarm>,
    /// Closed when the thread has ended.
    ended: Mutex<mpsc::Receiver<()>>,
}

impl<M: Assignment> Member<M> {
    /// Joins the group of this configuration.
    pub(crate) fn join(
        config: &ClientConfig,
        topics: &[String],
        assignment: Arc<M>,
        alarm: Arc<Alarm>,
    ) -> Result<Self, KafkaError> {
        let context = Context {
            assignment: Arc::clone(&assignment),
            client: OnceLock::new(),
            topics: Mutex::default(),
        };
        let mut client: Client<M> = config
            .create_with_context(context)
            .map_err(KafkaError::client("creating the consumer"))?;
        let wakes = Arc::clone(&alarm);
        client.set_nonempty_callback(move || wakes.ring());
        let client = Arc::new(client);
        // It is set once, here.
        let _ = client.context().client.set(Arc::downgrade(&client));
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        client.subscribe(&topics).map_err(KafkaError::client("subscribing"))?;
        let (is_leaving, (alive, ended)) = (Arc::new(AtomicBool::new(false)), mpsc::channel());
        let weak = Arc::downgrade(&client);
        let (leaves, wakes) = (Arc::clone(&is_leaving), Arc::clone(&alarm));
        let thread = std::thread::Builder::new().name("firstseen-kafka".to_owned());
        let serve = move || {
            let served = std::panic::catch_unwind(AssertUnwindSafe(|| {
                while !leaves.load(Ordering::Acquire) && serve(&client, &*assignment) {
                    wakes.wait();
                }
            }));
            if served.is_err() {
                let why = "its thread has panicked".to_owned();
                assignment.failed(KafkaError::Ended(why), true);
            }
            // Queues keep the client alive.
            assignment.close();
            // Gives its partitions up and leaves the group; somebody else who uses the client just now does it then.
            drop(client);
            drop(alive);
        };
        thread.spawn(serve).map_err(|error| KafkaError::Ended(error.to_string()))?;
        Ok(Self { client: weak, is_leaving, alarm, ended: Mutex::new(ended) })
    }

    /// Returns the client; `None` if it has ended.
    pub(crate) fn client(&self) -> Option<Arc<Client<M>>> {
        self.client.upgrade()
    }
}

impl<M: Assignment> Drop for Member<M> {
    fn drop(&mut self) {
        self.is_leaving.store(true, Ordering::Release);
        self.alarm.ring();
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        if ended.recv_timeout(LEAVE_MAX) == Err(mpsc::RecvTimeoutError::Timeout) {
            tracing::warn!("a member has not left its group within {LEAVE_MAX:?}");
        }
    }
}

/// Serves a client once. Returns whether it goes on.
fn serve<M: Assignment>(client: &Client<M>, assignment: &M) -> bool {
    assignment.work(client);
    for _ in 0..EVENTS {
        let why = match client.poll(Duration::ZERO) {
            None => continue,
            // Its position has moved past a record that nobody has.
            Some(Ok(_)) => "a record came beside the queue of its partition".to_owned(),
            Some(Err(ClientError::MessageConsumptionFatal(code))) => code.to_string(),
            Some(Err(error)) => {
                if is_passing(&error) {
                    tracing::debug!(%error, "the way to a broker is broken");
                } else {
                    assignment.failed(KafkaError::client("consuming")(error), false);
                }
                continue;
            }
        };
        assignment.failed(KafkaError::Ended(why), true);
        return false;
    }
    true
}

/// Returns whether librdkafka looks after this itself, by connecting anew.
fn is_passing(error: &ClientError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::Resolve
                | RDKafkaErrorCode::OperationTimedOut
        )
    )
}

impl<M: Assignment> Context<M> {
    /// Returns the name of a topic as one allocation for all its records.
    fn topic(&self, name: &str) -> Arc<str> {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = topics.iter().find(|known| ***known == *name) {
            return Arc::clone(known);
        }
        let topic: Arc<str> = name.into();
        topics.push(Arc::clone(&topic));
        topic
    }

    fn partitions(&self, list: &TopicPartitionList) -> Vec<TopicPartition> {
        let partition = |element: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| {
            (self.topic(element.topic()), element.partition())
        };
        list.elements().iter().map(partition).collect()
    }

    /// Takes over partitions. Those that cannot be are left out, and said.
    fn take_over(&self, client: &Client<M>, list: &TopicPartitionList) -> TopicPartitionList {
        let mut taken = TopicPartitionList::new();
        for partition in self.partitions(list) {
            let (topic, number) = &partition;
            // Its queue is split off before anything can come.
            let queue = self.client.get().and_then(Weak::upgrade);
            let queue = queue.and_then(|client| client.split_partition_queue(topic, *number));
            let begin = queue
                .ok_or_else(|| KafkaError::Ended("a partition has no queue".to_owned()))
                .and_then(|queue| self.assignment.assigned(client, &partition, queue))
                .and_then(|begin| {
                    let added = taken.add_partition_offset(topic, *number, begin);
                    added.map_err(KafkaError::client("assigning a partition"))
                });
            if let Err(error) = begin {
                self.assignment.failed(error, true);
            }
        }
        taken
    }
}

impl<M: Assignment> ClientContext for Context<M> {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        client::log(level, fac, message);
    }

    fn error(&self, error: ClientError, reason: &str) {
        client::failed(&error, reason);
    }
}

impl<M: Assignment> ConsumerContext for Context<M> {
    fn rebalance(&self, client: &Client<M>, event: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let is_incremental = matches!(client.rebalance_protocol(), RebalanceProtocol::Cooperative);
        let done = if event == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            let taken = self.take_over(client, list);
            if is_incremental { client.incremental_assign(&taken) } else { client.assign(&taken) }
        } else {
            self.assignment.revoked(client, &self.partitions(list), client.assignment_lost());
            if is_incremental { client.incremental_unassign(list) } else { client.unassign() }
        };
        if let Err(error) = done {
            self.assignment.failed(KafkaError::client("rebalancing")(error), true);
        }
    }
}
