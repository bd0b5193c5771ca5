//! The partitions that are assigned to a source, what of them is delivered, and what is committed.
//!
//! - An answer counts only under the assignment that its record was delivered under. After a rebalance the partition has
//!   another owner, or is assigned anew; in both cases it is read from the committed offset, so the record comes again.
//! - One commit is on its way at a time, from the member's own thread. What is acknowledged meanwhile shares the next.

use crate::error::KafkaError;
use crate::group::{Alarm, Assignment, Client, Queue, TopicPartition};
use crate::options::KafkaOptions;
use crate::record::{Place, Record};
use crate::settings::KafkaStart;
use crate::window::{Held, Window};
use firstseen_consumer::{Delivery, Message, Want};
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How long an answer of the brokers is waited for.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(30);

/// After how long a commit that has failed is tried again, if no acknowledgement does it before.
const COMMIT_AGAIN: Duration = Duration::from_millis(500);

/// How long a rebalance waits for an answer before it looks again.
const ANSWERED_TICK: Duration = Duration::from_millis(20);

/// Of how many assignments that have ended it is known what was committed last.
const LEFT_MAX: usize = 256;

/// What the source wants back in an acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaToken {
    pub(crate) place: Place,
    /// Of the assignment of its partition.
    epoch: u64,
}

/// What a source has of its partitions.
pub(crate) struct Deliveries {
    state: Mutex<State>,
    /// Rung when there may be something to deliver.
    pub(crate) bell: Arc<Notify>,
    /// Rung when there is something to commit.
    pub(crate) alarm: Arc<Alarm>,
    /// Rung when a commit was answered, or partitions were let go.
    committed: Notify,
    /// Rung when a record was answered.
    answered: Condvar,
    pub(crate) options: KafkaOptions,
}

#[derive(Default)]
struct State {
    partitions: BTreeMap<TopicPartition, Partition>,
    /// Up to where assignments that have ended were committed, by epoch.
    left: BTreeMap<u64, i64>,
    commits: Commits,
    /// What the next call has to say.
    error: Option<KafkaError>,
    /// Nothing comes any more.
    is_over: bool,
    is_closing: bool,
    /// Which partition is read first.
    turn: usize,
}

struct Partition {
    epoch: u64,
    /// `None` once the client is to end.
    queue: Option<Queue<Deliveries>>,
    window: Window,
    /// The last position that the brokers have confirmed.
    committed: i64,
    /// It is about to be revoked.
    is_leaving: bool,
}

#[derive(Default)]
struct Commits {
    /// Somebody waits for the next.
    is_awaited: bool,
    /// When the last was sent.
    last: Option<Instant>,
    failures: u64,
    last_failure: Option<KafkaError>,
}

/// What the loop can still take in a call.
struct Room {
    count: usize,
    bytes: usize,
}

impl Room {
    fn is_left(&self) -> bool {
        self.count > 0 && self.bytes > 0
    }

    fn takes(&mut self, bytes: usize) {
        self.count -= 1;
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

impl Partition {
    fn new(queue: Queue<Deliveries>) -> Self {
        // Never the same, also not in another client of this process.
        static EPOCHS: AtomicU64 = AtomicU64::new(0);
        let epoch = EPOCHS.fetch_add(1, Ordering::Relaxed);
        let window = Window::default();
        Self { epoch, queue: Some(queue), window, committed: -1, is_leaving: false }
    }

    fn has_room(&self, options: &KafkaOptions) -> bool {
        let Self { window, .. } = self;
        window.len() < options.open_max
            && (window.bytes() < options.open_bytes_max || window.bytes() == 0)
    }

    /// Returns what a commit would move forward.
    fn to_commit(&self) -> Option<i64> {
        self.window.position().filter(|position| *position > self.committed)
    }

    /// Takes the next record from the brokers, if there is one and room for it.
    fn take_new(
        &mut self,
        topic: &Arc<str>,
        options: &KafkaOptions,
        again_at: Instant,
    ) -> Result<Option<Held>, ClientError> {
        if self.is_leaving || !self.has_room(options) {
            return Ok(None);
        }
        let Some(taken) = self.queue.as_ref().and_then(|queue| queue.poll(Duration::ZERO)) else {
            return Ok(None);
        };
        let record = Record::of(&taken?, topic);
        let message = message_of(&record, options);
        if self.window.next().is_none() {
            // Up to here the group has read before.
            self.committed = record.place.offset;
        }
        let held = Held { record, message };
        self.window.take(held.clone(), again_at);
        if !self.has_room(options) {
            tracing::warn!(
                %topic, open = self.window.len(), oldest = self.window.position(),
                "a partition is not read on before its oldest open record is done"
            );
        }
        Ok(Some(held))
    }
}

fn message_of(record: &Record, options: &KafkaOptions) -> Message {
    // A record that makes the function of the user panic must not stop the queue.
    let id = std::panic::catch_unwind(AssertUnwindSafe(|| options.ids.get(record)));
    let id = id.unwrap_or_else(|_| {
        tracing::warn!(place = %record.place, "the id function has panicked: a record without an id");
        None
    });
    let payload = record.payload.clone().unwrap_or_default();
    let mut message = id.map_or_else(
        || Message::without_id(payload.clone()),
        |id| Message::new(id, payload.clone()),
    );
    message.key.clone_from(&record.key);
    message
}

impl Deliveries {
    pub(crate) fn new(options: KafkaOptions) -> Self {
        Self {
            state: Mutex::default(),
            bell: Arc::default(),
            alarm: Arc::default(),
            committed: Notify::new(),
            answered: Condvar::new(),
            options,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn again_at(&self) -> Instant {
        Instant::now() + self.options.answer_wait
    }

    /// Returns whether nothing comes any more.
    pub(crate) fn is_over(&self) -> bool {
        self.lock().is_over
    }

    /// Returns what is due to be delivered again, and then what is new, a record of each partition in turn.
    pub(crate) fn take(&self, want: Want) -> Result<Vec<Delivery<KafkaToken>>, KafkaError> {
        let mut state = self.lock();
        let State { partitions, error, is_over, turn, .. } = &mut *state;
        if let Some(error) = error.take() {
            return Err(error);
        }
        let (now, again_at) = (Instant::now(), self.again_at());
        let mut room = Room { count: want.count, bytes: want.bytes };
        let mut taken = Vec::new();
        let mut add = |held: Held, epoch: u64, room: &mut Room| {
            room.takes(held.record.payload().len());
            let token = KafkaToken { place: held.record.place, epoch };
            taken.push(Delivery { message: held.message, token });
        };
        for partition in partitions.values_mut().filter(|partition| !partition.is_leaving) {
            while room.is_left()
                && let Some(held) = partition.window.take_due(now, again_at)
            {
                add(held, partition.epoch, &mut room);
            }
        }
        let mut readable: Vec<(&TopicPartition, &mut Partition)> = partitions.iter_mut().collect();
        let first = *turn % readable.len().max(1);
        readable.rotate_left(first);
        *turn = turn.wrapping_add(1);
        while room.is_left() && !readable.is_empty() {
            readable.retain_mut(|((topic, _), partition)| {
                if !room.is_left() {
                    return false;
                }
                match partition.take_new(topic, &self.options, again_at) {
                    Ok(Some(held)) => {
                        add(held, partition.epoch, &mut room);
                        true
                    }
                    Ok(None) => false,
                    Err(why) => {
                        *is_over |= ends_partition(&why);
                        *error = Some(KafkaError::client("reading a partition")(why));
                        false
                    }
                }
            });
        }
        match error.take_if(|_| taken.is_empty()) {
            Some(error) => Err(error),
            None => Ok(taken),
        }
    }

    /// Returns when something is due to be delivered again.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let state = self.lock();
        let staying = state.partitions.values().filter(|partition| !partition.is_leaving);
        staying.filter_map(|partition| partition.window.next_due()).min()
    }

    /// Returns an open record; `None` if it is done.
    pub(crate) fn open(&self, token: &KafkaToken) -> Result<Option<Held>, KafkaError> {
        let mut state = self.lock();
        let partition = state.owned(token).ok_or_else(|| revoked(token))?;
        Ok(partition.window.get(token.place.offset).cloned())
    }

    /// Has a record delivered again at this time; `is_out`: somebody works on it until then. Returns whether its partition
    /// is still assigned; if not, its new owner has it.
    pub(crate) fn set(&self, token: &KafkaToken, at: Instant, is_out: bool) -> bool {
        let is_owned = match self.lock().owned(token) {
            Some(partition) => {
                partition.window.set(token.place.offset, at, is_out);
                true
            }
            None => false,
        };
        if !is_out {
            self.answered.notify_all();
            self.bell.notify_waiters();
        }
        is_owned
    }

    /// Has a record delivered again if it is not answered within the time for answers from now on.
    pub(crate) fn work_on(&self, token: &KafkaToken) -> bool {
        self.set(token, self.again_at(), true)
    }

    /// Marks a record as done, and commits what may be. Returns once the brokers have confirmed that, or at once if a record
    /// before it is open: the commit of that one covers it.
    pub(crate) async fn acknowledge(&self, token: &KafkaToken) -> Result<(), KafkaError> {
        let failures = {
            let mut state = self.lock();
            if let Some(partition) = state.owned(token) {
                let was_full = !partition.has_room(&self.options);
                partition.window.done(token.place.offset);
                if was_full && partition.has_room(&self.options) {
                    self.bell.notify_waiters();
                }
            }
            state.commits.failures
        };
        self.answered.notify_all();
        loop {
            let mut rung = std::pin::pin!(self.committed.notified());
            // Before the look, so that no answer is missed.
            rung.as_mut().enable();
            if self.is_settled(token, failures)? {
                return Ok(());
            }
            let waited = tokio::time::timeout(ANSWER_MAX, rung).await;
            waited.map_err(|_| KafkaError::Silent { what: "committing", after: ANSWER_MAX })?;
        }
    }

    /// Returns whether an acknowledgement has nothing more to wait for; asks for a commit if it has.
    fn is_settled(&self, token: &KafkaToken, failures: u64) -> Result<bool, KafkaError> {
        let mut state = self.lock();
        let offset = token.place.offset;
        let Some(partition) = state.owned(token) else {
            let was_committed = state.left.get(&token.epoch).is_some_and(|left| *left > offset);
            return if was_committed { Ok(true) } else { Err(revoked(token)) };
        };
        let is_behind_others = partition.window.position().is_none_or(|first| first <= offset);
        if is_behind_others || partition.committed > offset || !self.options.commit_every.is_zero()
        {
            return Ok(true);
        }
        if state.commits.failures != failures {
            return Err(state.commits.last_failure.clone().unwrap_or_else(|| revoked(token)));
        }
        state.commits.is_awaited = true;
        drop(state);
        self.alarm.ring();
        Ok(false)
    }

    /// Returns the partitions, and the offset behind what was taken from each.
    pub(crate) fn positions(&self) -> Vec<(TopicPartition, Option<i64>)> {
        let state = self.lock();
        let position = |(partition, kept): (&TopicPartition, &Partition)| {
            (partition.clone(), kept.window.next())
        };
        state.partitions.iter().map(position).collect()
    }

    /// Commits what may be of some partitions, and waits for the answer. Returns whether something was committed.
    fn commit(&self, client: &Client<Self>, includes: impl Fn(&TopicPartition) -> bool) -> bool {
        let list = {
            let mut state = self.lock();
            (state.commits.is_awaited, state.commits.last) = (false, Some(Instant::now()));
            state.to_commit(includes)
        };
        if list.count() == 0 {
            return false;
        }
        // An error of one partition is the answer for all: those that were committed are committed again.
        let answer = client.commit(&list, CommitMode::Sync);
        let is_committed = answer.is_ok();
        let mut state = self.lock();
        match answer {
            Ok(()) => state.confirm(&list),
            Err(error) => {
                tracing::debug!(%error, "a commit has failed");
                state.commits.failures += 1;
                state.commits.last_failure = Some(KafkaError::client("committing")(error));
            }
        }
        drop(state);
        self.committed.notify_waiters();
        is_committed
    }

    /// Waits for the work on partitions that are about to be revoked, but not for long, and commits what is done.
    fn commit_while_worked_on(&self, client: &Client<Self>, partitions: &[TopicPartition]) {
        let end = Instant::now() + self.options.revoke_wait;
        loop {
            self.commit(client, |partition| partitions.contains(partition));
            let state = self.lock();
            let mut kept = partitions.iter().filter_map(|name| state.partitions.get(name));
            let is_worked_on = kept.any(|kept| kept.window.out() > 0);
            let left = end.saturating_duration_since(Instant::now());
            if state.is_closing || !is_worked_on || left.is_zero() {
                drop(state);
                // What was answered since the last one.
                self.commit(client, |partition| partitions.contains(partition));
                return;
            }
            // Rung at each answer. One that came just before is seen now and then.
            let wait = left.min(ANSWERED_TICK);
            drop(self.answered.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Where the group has committed nothing and reading is to begin at the end: commits that end. Otherwise what comes
    /// before the first commit would be left out after a crash.
    fn begin_at_the_end(
        client: &Client<Self>,
        (topic, number): &TopicPartition,
    ) -> Result<Offset, KafkaError> {
        let asked = |what| KafkaError::client(what);
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, *number);
        let known = client.committed_offsets(list, ANSWER_MAX);
        let known = known.map_err(asked("asking for the committed offset"))?;
        if let Some(element) = known.find_partition(topic, *number) {
            element.error().map_err(asked("asking for the committed offset"))?;
            if let Offset::Offset(_) = element.offset() {
                return Ok(element.offset());
            }
        }
        let end = client.fetch_watermarks(topic, *number, ANSWER_MAX);
        let (_, end) = end.map_err(asked("asking for the end of a partition"))?;
        let mut list = TopicPartitionList::new();
        let added = list.add_partition_offset(topic, *number, Offset::Offset(end));
        added.map_err(asked("committing where to begin"))?;
        let committed = client.commit(&list, CommitMode::Sync);
        committed.map_err(asked("committing where to begin"))?;
        Ok(Offset::Offset(end))
    }
}

fn revoked(token: &KafkaToken) -> KafkaError {
    KafkaError::Revoked(token.place.clone())
}

/// Returns whether nothing more comes from a partition after this: the client has to be built anew.
fn ends_partition(error: &ClientError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange)
    )
}

impl State {
    /// Returns the partition of a token, if it is still assigned as it was then.
    fn owned(&mut self, token: &KafkaToken) -> Option<&mut Partition> {
        let Place { topic, partition, .. } = &token.place;
        let partition = self.partitions.get_mut(&(Arc::clone(topic), *partition))?;
        (partition.epoch == token.epoch).then_some(partition)
    }

    /// Returns the positions that a commit would move forward.
    fn to_commit(&self, includes: impl Fn(&TopicPartition) -> bool) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for (partition, kept) in self.partitions.iter().filter(|(partition, _)| includes(partition))
        {
            if let Some(position) = kept.to_commit() {
                let place = (&partition.0, partition.1);
                // It fails only for what is no offset.
                let _ = list.add_partition_offset(place.0, place.1, Offset::Offset(position));
            }
        }
        list
    }

    /// Notes what the brokers have confirmed.
    fn confirm(&mut self, list: &TopicPartitionList) {
        for element in list.elements() {
            let Offset::Offset(position) = element.offset() else { continue };
            let place = (Arc::from(element.topic()), element.partition());
            if let Some(partition) = self.partitions.get_mut(&place) {
                partition.committed = partition.committed.max(position);
            }
        }
    }
}

impl Assignment for Deliveries {
    fn assigned(
        &self,
        client: &Client<Self>,
        partition: &TopicPartition,
        mut queue: Queue<Self>,
    ) -> Result<Offset, KafkaError> {
        let begin = match self.options.start {
            KafkaStart::Latest => Self::begin_at_the_end(client, partition)?,
            // Where the group has committed last, or where the setting says.
            KafkaStart::Earliest | KafkaStart::Fail => Offset::Stored,
        };
        let bell = Arc::clone(&self.bell);
        queue.set_nonempty_callback(move || bell.notify_waiters());
        let before = self.lock().partitions.insert(partition.clone(), Partition::new(queue));
        drop(before);
        self.bell.notify_waiters();
        Ok(begin)
    }

    fn revoked(&self, client: &Client<Self>, partitions: &[TopicPartition], is_lost: bool) {
        let mut state = self.lock();
        for partition in partitions {
            if let Some(kept) = state.partitions.get_mut(partition) {
                kept.is_leaving = true;
            }
        }
        drop(state);
        // Of what is lost, nothing that is committed here may go over what the new owner commits.
        if !is_lost {
            self.commit_while_worked_on(client, partitions);
        }
        let mut state = self.lock();
        let mut gone = Vec::new();
        for partition in partitions {
            let Some(kept) = state.partitions.remove(partition) else { continue };
            state.left.insert(kept.epoch, kept.committed);
            gone.push(kept);
        }
        while state.left.len() > LEFT_MAX {
            state.left.pop_first();
        }
        drop(state);
        drop(gone);
        self.committed.notify_waiters();
    }

    fn failed(&self, error: KafkaError, is_final: bool) {
        let mut state = self.lock();
        state.is_over |= is_final;
        state.error = Some(error);
        drop(state);
        self.bell.notify_waiters();
    }

    fn work(&self, client: &Client<Self>) {
        loop {
            let state = self.lock();
            let pause = self.options.commit_every.max(COMMIT_AGAIN);
            let is_time = state.commits.last.is_none_or(|last| last.elapsed() >= pause);
            let is_awaited = state.commits.is_awaited;
            drop(state);
            // What was acknowledged meanwhile goes with the next one.
            if !(is_awaited || is_time) || !self.commit(client, |_| true) {
                return;
            }
        }
    }

    fn close(&self) {
        let mut state = self.lock();
        state.is_closing = true;
        let queues: Vec<_> =
            state.partitions.values_mut().map(|partition| partition.queue.take()).collect();
        drop(state);
        drop(queues);
    }
}
