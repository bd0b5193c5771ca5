//! A pipeline whose offsets are in the store's own commit.

use crate::admission::{Positions, committed, position_of};
use crate::batch::Batch;
use crate::driver::{Driver, PipelineCounters, PipelineHandle, PipelineOptions, Settled};
use crate::group::{Client, TopicPartition};
use crate::mark::Mark;
use crate::pipeline_error::{PipelineError, WorkError};
use crate::reader::{Admission, Reader, Taken};
use firstseen::Store;
use firstseen::offsets::Owner;
use firstseen::transaction::{Rejection, Transacted, Transaction};
use std::fmt;

/// Reads topics as a member of a consumer group, and commits each batch with its effects: claims, state, messages for an
/// outbox, and **the offset**, in one transaction of the store.
///
/// ```no_run
/// use firstseen::Store;
/// use firstseen_kafka::{KafkaPipeline, PipelineOptions};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = Store::open("/var/lib/points/seen.db")?;
/// let points = store.table::<u64>("points")?;
/// let awarded = store.outbox("points-awarded")?;
/// let mut pipeline =
///     KafkaPipeline::open(&store, "localhost:9092", "points", ["orders"], PipelineOptions::new())?;
/// pipeline.run(|batch, transaction| {
///     for order in batch {
///         // The order's own number: its producer may have written it twice.
///         if transaction.claim_if_new(order.header("order").ok_or("an order without a number")?)? {
///             let customer = order.key.as_deref().ok_or("an order without a customer")?;
///             let before = transaction.get(&points, customer)?.unwrap_or(0);
///             transaction.put(&points, customer, &(before + 10))?;
///             transaction.emit_keyed(&awarded, customer, "10 points")?;
///         }
///     }
///     Ok(())
/// })?;
/// # Ok(())
/// # }
/// ```
///
/// # What is promised
///
/// - **Effects in the store are made exactly once for each offset**, whoever is killed and whenever: the offset moves with
///   them or not at all, so no record needs an entry of its own in a ledger. What two records have in common, such as a
///   number that their producer has written twice, is for the work to claim.
/// - **The store says where to read on.** The offsets that the group commits to the brokers follow, for whoever looks at its
///   lag, and decide nothing. They carry the name of the store: where *another* store has read further, the pipeline stops
///   with [`PipelineError::Elsewhere`] and does not read again what it has no state of.
/// - **An owner that was replaced commits nothing**: a partition is taken over in the store (`Source::own`) before it is read.
/// - **Nothing is skipped**: records that retention has removed are [`PipelineError::Gone`], a topic that is shorter than
///   what was read is [`PipelineError::Ahead`].
/// - With a durability below `Disk`, a power cut takes back the last commits whole: offset and effects. They are made
///   again, as one, from records that Kafka still has.
///
/// What leaves the store by an outbox is delivered at least once, with an id that stays the same. For outputs that are
/// records of Kafka, [`KafkaTransform`](crate::KafkaTransform) has a transaction over both.
///
/// Members of the group that are other processes have stores of their own: when a partition goes to one of them, its state
/// has to go, too.
pub struct KafkaPipeline {
    driver: Driver<InStore>,
}

/// Offsets in the store alone.
pub(crate) struct InStore(Positions);

impl Admission for InStore {
    type Seat = Owner;

    fn admit(
        &self,
        client: &Client<Reader<Self>>,
        partition: &TopicPartition,
    ) -> Result<(Owner, i64), PipelineError> {
        let committed = committed(client, partition)?;
        self.0.take_over(client, partition, committed)
    }

    fn mark(&self) -> Option<String> {
        Some(Mark { store: self.0.name.clone(), gid: None }.encode())
    }
}

impl fmt::Debug for KafkaPipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaPipeline").finish_non_exhaustive()
    }
}

impl KafkaPipeline {
    /// Opens a pipeline over topics, which exist. The group is joined by [`run`](Self::run). Blocks the thread.
    ///
    /// The store keeps the offsets of a topic in the source `kafka/GROUP/TOPIC`.
    ///
    /// # Errors
    ///
    /// A setting is refused, no broker has answered, there is no such topic, or the store has failed.
    pub fn open(
        store: &Store,
        brokers: &str,
        group: &str,
        topics: impl IntoIterator<Item = impl Into<String>>,
        options: PipelineOptions,
    ) -> Result<Self, PipelineError> {
        let positions = InStore(Positions::open(store, group, &options, false)?);
        let topics = topics.into_iter().map(Into::into).collect();
        Ok(Self { driver: Driver::open(positions, brokers, group, topics, &options)? })
    }

    /// Returns a handle, to stop it and to read its counters.
    pub fn handle(&self) -> PipelineHandle {
        self.driver.handle.clone()
    }

    /// Runs until [`PipelineHandle::stop`] is called. Blocks the thread. May be called again, also after an error: it goes on
    /// where the store is.
    ///
    /// `work` fills a transaction with the effects of a batch; the offset is added to it. It is called again if what it has
    /// read has changed meanwhile, so it must have no effects but those of the transaction. What fails for one record only
    /// has to be dealt with there: as a message to an outbox of dead letters, say.
    ///
    /// # Errors
    ///
    /// What does not pass by itself: the work has failed, the transaction was rejected, the store cannot go on, or a
    /// partition cannot be read without losing or doubling something. Nothing of the batch was committed then. Errors
    /// of the brokers do not end it.
    pub fn run(
        &mut self,
        mut work: impl FnMut(&Batch, &mut Transaction) -> Result<(), WorkError>,
    ) -> Result<PipelineCounters, PipelineError> {
        self.driver.run(|positions, _, taken| commit(&positions.0.store, taken, &mut work))?;
        Ok(self.driver.handle.counters())
    }
}

/// Why a transaction was not even tried.
enum Failed {
    Store(firstseen::Error),
    Work(WorkError),
}

impl From<firstseen::Error> for Failed {
    fn from(error: firstseen::Error) -> Self {
        Self::Store(error)
    }
}

/// Commits the effects of a batch with its offset.
fn commit(
    store: &Store,
    taken: &Taken<InStore>,
    work: &mut impl FnMut(&Batch, &mut Transaction) -> Result<(), WorkError>,
) -> Result<Settled, PipelineError> {
    let Taken { batch, seat } = taken;
    let next = position_of(batch.next_offset())?;
    let transacted = store.transact(|transaction| {
        work(batch, transaction).map_err(Failed::Work)?;
        transaction.advance_as(&seat.of, next);
        Ok::<_, Failed>(())
    });
    match transacted {
        Ok(Transacted::Committed(())) => Ok(Settled::Committed),
        Ok(Transacted::Rejected(reasons)) if is_fenced(&seat.of, &reasons) => Ok(Settled::Fenced),
        Ok(Transacted::Rejected(reasons)) => Err(rejected(batch, reasons)),
        Err(Failed::Store(error)) => Err(error.into()),
        Err(Failed::Work(source)) => Err(failed(batch, source)),
    }
}

/// Returns whether somebody else has taken over the partition of this owner.
pub(crate) fn is_fenced(owner: &Owner, reasons: &[Rejection]) -> bool {
    reasons.iter().any(|why| {
        matches!(why, Rejection::Fenced { source, partition, .. }
            if source == owner.source().name() && *partition == owner.partition())
    })
}

pub(crate) fn rejected(batch: &Batch, reasons: Vec<Rejection>) -> PipelineError {
    let (topic, partition) = (batch.topic().to_owned(), batch.partition());
    PipelineError::Rejected { topic, partition, reasons }
}

pub(crate) fn failed(batch: &Batch, source: WorkError) -> PipelineError {
    let offset = batch.records.first().map_or(0, |record| record.place.offset);
    let (topic, partition) = (batch.topic().to_owned(), batch.partition());
    PipelineError::Work { topic, partition, offset, source }
}
