//! Partitions that are read for pipelines: their offsets are the store's to keep, not the broker's.

use crate::batch::Batch;
use crate::error::KafkaError;
use crate::group::{Alarm, Assignment, Client, Queue, TopicPartition};
use crate::pipeline_error::PipelineError;
use crate::record::Record;
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Takes partitions over.
pub(crate) trait Admission: Send + Sync + Sized + 'static {
    /// What the owner of a partition has.
    type Seat: Send + Sync + 'static;

    /// Takes a partition over, so that nobody who owned it before can commit, and says where to read on.
    fn admit(
        &self,
        client: &Client<Reader<Self>>,
        partition: &TopicPartition,
    ) -> Result<(Self::Seat, i64), PipelineError>;

    /// What to write beside the offsets that are committed to the brokers for display; `None`: none are.
    fn mark(&self) -> Option<String>;
}

/// A partition that is assigned.
pub(crate) struct Seat<A: Admission> {
    pub(crate) partition: TopicPartition,
    pub(crate) of: A::Seat,
    /// It has another owner, or will have one.
    is_revoked: AtomicBool,
}

impl<A: Admission> Seat<A> {
    pub(crate) fn is_revoked(&self) -> bool {
        self.is_revoked.load(Ordering::Acquire)
    }
}

/// A batch, and the partition that it is from.
pub(crate) struct Taken<A: Admission> {
    pub(crate) batch: Batch,
    pub(crate) seat: Arc<Seat<A>>,
}

/// How much is taken at a time, and how often offsets are committed for display.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) records: usize,
    pub(crate) bytes: usize,
    pub(crate) display_every: Duration,
}

/// The partitions that are assigned.
pub(crate) struct Reader<A: Admission> {
    admission: Arc<A>,
    limits: Limits,
    state: Mutex<State<A>>,
    /// Wakes whoever waits for records.
    pub(crate) bell: Arc<Alarm>,
}

struct State<A: Admission> {
    partitions: BTreeMap<TopicPartition, Partition<A>>,
    error: Option<PipelineError>,
    is_over: bool,
    turn: usize,
    displayed: Option<Instant>,
}

struct Partition<A: Admission> {
    seat: Arc<Seat<A>>,
    queue: Option<Queue<Reader<A>>>,
    /// Committed in the store.
    done: i64,
    /// Committed at the brokers, for display.
    displayed: i64,
}

impl<A: Admission> Reader<A> {
    pub(crate) fn new(admission: Arc<A>, limits: Limits, bell: Arc<Alarm>) -> Self {
        let state = State {
            partitions: BTreeMap::new(),
            error: None,
            is_over: false,
            turn: 0,
            displayed: None,
        };
        Self { admission, limits, state: Mutex::new(state), bell }
    }

    fn lock(&self) -> MutexGuard<'_, State<A>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.lock().is_over
    }

    /// Has the group be joined anew, because of this.
    pub(crate) fn give_up(&self) {
        self.lock().is_over = true;
    }

    /// Takes the next batch of one partition, each in its turn; `None` if there is no record.
    pub(crate) fn take(&self) -> Result<Option<Taken<A>>, PipelineError> {
        let mut state = self.lock();
        if let Some(error) = state.error.take() {
            return Err(error);
        }
        let State { partitions, turn, is_over, .. } = &mut *state;
        let mut readable: Vec<(&TopicPartition, &mut Partition<A>)> =
            partitions.iter_mut().collect();
        let first = *turn % readable.len().max(1);
        readable.rotate_left(first);
        *turn = turn.wrapping_add(1);
        for ((topic, number), partition) in readable {
            let Some(queue) = &partition.queue else { continue };
            let (mut records, mut bytes) = (Vec::new(), 0);
            while records.len() < self.limits.records && bytes < self.limits.bytes {
                let Some(message) = queue.poll(Duration::ZERO) else { break };
                let message = message.map_err(|error| {
                    // The position of the partition is in doubt: everything is read again from the store's.
                    *is_over = true;
                    KafkaError::client("reading a partition")(error)
                })?;
                let record = Record::of(&message, topic);
                bytes += record.bytes();
                records.push(record);
            }
            if !records.is_empty() {
                let batch = Batch { topic: Arc::clone(topic), partition: *number, records };
                return Ok(Some(Taken { batch, seat: Arc::clone(&partition.seat) }));
            }
        }
        Ok(None)
    }

    /// Notes up to where the store has committed a partition.
    pub(crate) fn done(&self, seat: &Seat<A>, next: i64) {
        if let Some(partition) = self.lock().partitions.get_mut(&seat.partition)
            && std::ptr::eq(&raw const *partition.seat, seat)
        {
            partition.done = next;
        }
    }

    /// Commits to the brokers how far the store has come, for whoever looks at the lag of the group.
    fn display(&self, client: &Client<Self>, includes: impl Fn(&TopicPartition) -> bool) {
        let Some(mark) = self.admission.mark() else { return };
        let mut list = TopicPartitionList::new();
        for (name, partition) in &self.lock().partitions {
            if partition.done > partition.displayed && includes(name) {
                let mut element = list.add_partition(&name.0, name.1);
                // It fails only for what is no offset.
                let _ = element.set_offset(Offset::Offset(partition.done));
                element.set_metadata(&mark);
            }
        }
        if list.count() == 0 {
            return;
        }
        let answer = client.commit(&list, CommitMode::Sync);
        let mut state = self.lock();
        state.displayed = Some(Instant::now());
        if let Err(error) = answer {
            tracing::debug!(%error, "offsets were not committed for display");
            return;
        }
        for element in list.elements() {
            let name = (Arc::from(element.topic()), element.partition());
            if let (Offset::Offset(done), Some(partition)) =
                (element.offset(), state.partitions.get_mut(&name))
            {
                partition.displayed = done;
            }
        }
    }
}

impl<A: Admission> Assignment for Reader<A> {
    fn assigned(
        &self,
        client: &Client<Self>,
        partition: &TopicPartition,
        mut queue: Queue<Self>,
    ) -> Result<Offset, KafkaError> {
        let (of, next) = match self.admission.admit(client, partition) {
            Ok(admitted) => admitted,
            Err(error) => {
                let why = error.to_string();
                self.lock().error = Some(error);
                return Err(KafkaError::Ended(why));
            }
        };
        let bell = Arc::clone(&self.bell);
        queue.set_nonempty_callback(move || bell.ring());
        let seat = Seat { partition: partition.clone(), of, is_revoked: AtomicBool::new(false) };
        let kept =
            Partition { seat: Arc::new(seat), queue: Some(queue), done: next, displayed: -1 };
        let before = self.lock().partitions.insert(partition.clone(), kept);
        drop(before);
        self.bell.ring();
        Ok(Offset::Offset(next))
    }

    fn revoked(&self, client: &Client<Self>, partitions: &[TopicPartition], is_lost: bool) {
        let mut gone = Vec::new();
        if !is_lost {
            self.display(client, |partition| partitions.contains(partition));
        }
        let mut state = self.lock();
        for partition in partitions {
            if let Some(partition) = state.partitions.remove(partition) {
                partition.seat.is_revoked.store(true, Ordering::Release);
                gone.push(partition);
            }
        }
        drop(state);
        drop(gone);
    }

    fn failed(&self, error: KafkaError, is_final: bool) {
        let mut state = self.lock();
        state.is_over |= is_final;
        // What was said first is the reason.
        if state.error.is_none() {
            state.error = Some(error.into());
        }
        drop(state);
        self.bell.ring();
    }

    fn work(&self, client: &Client<Self>) {
        let displayed = self.lock().displayed;
        if displayed.is_none_or(|last| last.elapsed() >= self.limits.display_every) {
            self.display(client, |_| true);
        }
    }

    fn close(&self) {
        let mut state = self.lock();
        let queues: Vec<_> =
            state.partitions.values_mut().map(|partition| partition.queue.take()).collect();
        drop(state);
        drop(queues);
    }
}
