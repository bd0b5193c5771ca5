//! Consume, transform, produce: outputs, offsets and the store's state in one transaction over both.
//!
//! Two systems commit, so one of them decides. It is Kafka: the offset that goes with the outputs carries the name of the
//! store's half, which was prepared before. Whoever takes the partition over reads it and ends that half the same way.

use crate::admission::{Committed, Positions, committed, position_of};
use crate::batch::Batch;
use crate::driver::{Driver, PipelineCounters, PipelineHandle, PipelineOptions, Settled};
use crate::group::{Client, TopicPartition};
use crate::mark::Mark;
use crate::output::Outputs;
use crate::pipeline::{failed, is_fenced, rejected};
use crate::pipeline_error::{PipelineError, WorkError};
use crate::reader::{Admission, Reader, Taken};
use crate::writer::{Progress, Writer, Written};
use firstseen::Store;
use firstseen::offsets::Owner;
use firstseen::transaction::{CommitOutcome, EndOutcome, Rejection, Transaction};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::Consumer as _;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// How often the work is run again because others were faster.
const RUNS_MAX: usize = 100;

/// For how long the absence of a committed offset means that none was committed. Later it may have expired.
const OFFSETS_KEPT: Duration = Duration::from_secs(60 * 60);

/// A step of a [`KafkaTransform`], in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TransformStep {
    /// Claims, state and offset are prepared in the store, on disk.
    Prepared,
    /// The brokers have all outputs, in a transaction that is not committed.
    Written,
    /// The offset is part of that transaction.
    OffsetAdded,
    /// Kafka has committed it: this is what decides.
    CommittedInKafka,
    /// The store has committed its half.
    CommittedInStore,
}

/// Reads topics as a member of a consumer group and writes records to others: for each batch the **outputs**, the
/// **offset** and the **store's claims and state** are committed as one.
///
/// ```no_run
/// use firstseen::Store;
/// use firstseen_kafka::{KafkaTransform, Output, PipelineOptions};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = Store::open("/var/lib/invoices/seen.db")?;
/// let totals = store.table::<u64>("totals")?;
/// let options = PipelineOptions::new();
/// let mut transform =
///     KafkaTransform::open(&store, "localhost:9092", "invoices", ["orders"], options)?;
/// transform.run(|batch, transaction, outputs| {
///     for order in batch {
///         let number = order.header("order").ok_or("an order without a number")?;
///         // The claim decides: a second order of this number makes no second invoice.
///         if transaction.claim_if_new(number)? {
///             let total = transaction.get(&totals, "all")?.unwrap_or(0) + 10;
///             transaction.put(&totals, "all", &total)?;
///             outputs.push(Output::new("invoices", "10 euros").key(&number[..]));
///         }
///     }
///     Ok(())
/// })?;
/// # Ok(())
/// # }
/// ```
///
/// # What decides, and what a crash leaves
///
/// Kafka's commit decides. The store's half is prepared before it, and ended after it; in between its ids and rows are in
/// doubt, and whoever else writes them waits. The offset in Kafka's transaction carries the name of the store's half. Whoever
/// takes the partition over first becomes its writer (`init_transactions` of the same transactional id: what was open is
/// aborted, what was being committed is completed, the old writer is fenced), reads the group's committed offset, and ends
/// what the store has prepared: committed if that offset carries its name, rolled back if it is lower.
///
/// | step | a crash after it leaves | the next owner finds | and so |
/// |---|---|---|---|
/// | work | nothing | nothing | reads the batch again |
/// | prepared in the store | claims, state and offset in doubt | a lower offset | rolls back, reads again |
/// | outputs written | the same, and an open transaction of Kafka | it is aborted: readers of committed records see nothing; a lower offset | rolls back, reads again |
/// | offset added | the same | the same | rolls back, reads again |
/// | commit asked for, no answer | the same, or as below | one of the two | as that |
/// | **committed in Kafka** | outputs that all see, claims in doubt | the offset with the name of the half | commits the half, reads on |
/// | committed in the store | nothing in doubt | nothing in doubt | reads on |
///
/// # What is promised
///
/// - Readers with `isolation.level=read_committed` see the outputs of each batch **exactly once**; the store's claims and
///   state are those of exactly these batches. Other readers may see outputs that are aborted later.
/// - Outputs and state are **not visible at the same moment**: outputs come first, the state after the store's commit. The
///   claims hold all the time.
/// - **A zombie is fenced twice**: in Kafka by its transactional id, and in the store by the epoch of the partition's owner.
/// - **Nothing is guessed.** If the group's offset is neither lower nor carries the name, or is gone after an hour and more, as
///   after its retention, the pipeline stops with [`PipelineError::InDoubt`], and what is prepared stays so.
/// - All of it is on disk: each batch costs two syncs of the store and one transaction of Kafka. Make batches large.
///
/// The transactional id of a partition is `firstseen/GROUP/TOPIC/PARTITION`: allow that prefix where access is controlled. Each
/// partition that is assigned has a producer of its own, with a few threads.
///
/// With `skip_duplicates`, outputs would be written for what is skipped; it is refused. Ask
/// [`claim_if_new`](Transaction::claim_if_new).
pub struct KafkaTransform {
    driver: Driver<InKafka>,
    after: Arc<After>,
}

type After = dyn Fn(TransformStep) + Send + Sync;

/// Offsets in transactions of Kafka, and in the store.
pub(crate) struct InKafka {
    positions: Positions,
    producer: ClientConfig,
}

/// The owner of a partition, and its writer.
pub(crate) struct Hand {
    owner: Owner,
    writer: Writer,
    /// The transactional id.
    name: String,
    /// How many transactions it has prepared.
    count: AtomicU64,
    /// The brokers were seen to keep what stands beside a committed offset.
    is_proven: AtomicBool,
}

impl Admission for InKafka {
    type Seat = Hand;

    fn admit(
        &self,
        client: &Client<Reader<Self>>,
        partition: &TopicPartition,
    ) -> Result<(Hand, i64), PipelineError> {
        let name = format!("firstseen/{}/{}/{}", self.positions.group, partition.0, partition.1);
        // First: after this, no earlier writer changes what the group has committed.
        let writer = Writer::open(self.producer.clone(), &name)?;
        let committed = committed(client, partition)?;
        self.end_prepared(&name, &committed)?;
        let (owner, next) = self.positions.take_over(client, partition, committed)?;
        let (count, is_proven) = (AtomicU64::new(0), AtomicBool::new(false));
        Ok((Hand { owner, writer, name, count, is_proven }, next))
    }

    fn mark(&self) -> Option<String> {
        None
    }
}

impl InKafka {
    /// Ends what earlier owners of a partition have prepared and not ended.
    fn end_prepared(&self, name: &str, committed: &Committed) -> Result<(), PipelineError> {
        for prepared in self.positions.store.prepared()? {
            let Some(end) = end_of(name, &prepared.gid) else { continue };
            let gid = String::from_utf8_lossy(&prepared.gid).into_owned();
            match verdict(&gid, end, prepared.age, committed) {
                Verdict::Commit => self.end(&gid, true)?,
                Verdict::RollBack => self.end(&gid, false)?,
                Verdict::Unknown => return Err(PipelineError::InDoubt { gid }),
            }
            tracing::info!(gid, "what a crash had left prepared is ended");
        }
        Ok(())
    }

    /// Ends a prepared transaction as Kafka has decided. Somebody else may have done so.
    fn end(&self, gid: &str, is_committed: bool) -> Result<(), PipelineError> {
        let store = &self.positions.store;
        let ended =
            if is_committed { store.commit_prepared(gid) } else { store.rollback_prepared(gid) };
        match ended? {
            EndOutcome::Done | EndOutcome::AlreadyDone => Ok(()),
            EndOutcome::EndedOtherwise | EndOutcome::Unknown => {
                Err(PipelineError::InDoubt { gid: gid.to_owned() })
            }
        }
    }

    /// Handles a batch: both halves, and what becomes of them.
    fn settle(
        &self,
        client: &Client<Reader<Self>>,
        taken: &Taken<Self>,
        work: &mut impl FnMut(&Batch, &mut Transaction, &mut Outputs) -> Result<(), WorkError>,
        after: &After,
    ) -> Result<Settled, PipelineError> {
        let (batch, hand) = (&taken.batch, &taken.seat.of);
        let next = batch.next_offset();
        let number = hand.count.fetch_add(1, Ordering::Relaxed);
        let gid = format!("{}#{}.{number}#{next}", hand.name, hand.owner.epoch());
        let Some(outputs) = self.prepare(taken, &gid, work)? else { return Ok(Settled::Fenced) };
        after(TransformStep::Prepared);
        let mark = Mark { store: self.positions.name.clone(), gid: Some(gid.clone()) }.encode();
        let written = match client.group_metadata() {
            Some(group) => {
                let partition = &taken.seat.partition;
                let progress = Progress { partition, next, mark: &mark, group: &group };
                hand.writer.write(&outputs.0, &progress, after)
            }
            None => Written::Unknown(crate::KafkaError::Ended("the group was left".to_owned())),
        };
        match written {
            Written::Committed => {
                after(TransformStep::CommittedInKafka);
                // If the store cannot say so now, taking the partition over anew does.
                if let Err(error) = self.end(&gid, true) {
                    return Ok(Settled::InDoubt(error));
                }
                after(TransformStep::CommittedInStore);
                prove(client, taken, &gid)?;
                Ok(Settled::Committed)
            }
            Written::Aborted(why) => match self.end(&gid, false) {
                Ok(()) => Err(why.into()),
                Err(error) => Ok(Settled::InDoubt(error)),
            },
            Written::Unknown(why) => Ok(Settled::InDoubt(why.into())),
        }
    }

    /// Runs the work and prepares the store's half. Returns the outputs; `None`: the partition has another owner.
    fn prepare(
        &self,
        taken: &Taken<Self>,
        gid: &str,
        work: &mut impl FnMut(&Batch, &mut Transaction, &mut Outputs) -> Result<(), WorkError>,
    ) -> Result<Option<Outputs>, PipelineError> {
        let (batch, owner) = (&taken.batch, &taken.seat.of.owner);
        let next = position_of(batch.next_offset())?;
        let mut runs = 0;
        loop {
            runs += 1;
            let (mut transaction, mut outputs) =
                (self.positions.store.transaction(), Outputs::default());
            work(batch, &mut transaction, &mut outputs).map_err(|error| failed(batch, error))?;
            transaction.advance_as(owner, next);
            match transaction.prepare(gid)? {
                CommitOutcome::Committed => return Ok(Some(outputs)),
                CommitOutcome::CommittedWithout(_) | CommitOutcome::CommittedWith { .. } => {
                    self.end(gid, false)?;
                    let why = "skip_duplicates cannot be used here, since outputs would be written for what is skipped: \
                               ask claim_if_new";
                    return Err(failed(batch, why.into()));
                }
                CommitOutcome::Rejected(reasons) if is_fenced(owner, &reasons) => return Ok(None),
                CommitOutcome::Rejected(reasons) if runs < RUNS_MAX && have_moved(&reasons) => {}
                CommitOutcome::Rejected(reasons) => return Err(rejected(batch, reasons)),
            }
        }
    }
}

/// Looks once whether the brokers keep the name of a transaction beside its offset: without that, what a crash leaves could not
/// be decided.
fn prove(
    client: &Client<Reader<InKafka>>,
    Taken { batch, seat }: &Taken<InKafka>,
    gid: &str,
) -> Result<(), PipelineError> {
    if seat.of.is_proven.load(Ordering::Relaxed) {
        return Ok(());
    }
    // An owner that has come meanwhile may have committed more.
    match committed(client, &seat.partition) {
        Ok(Some((offset, None))) if offset == batch.next_offset() => {
            Err(PipelineError::Unmarked { gid: gid.to_owned() })
        }
        Ok(Some((_, Some(_)))) => {
            seat.of.is_proven.store(true, Ordering::Relaxed);
            Ok(())
        }
        // With the next batch, then.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Returns whether others were faster, so that the work may say something else if it is run again.
fn have_moved(reasons: &[Rejection]) -> bool {
    reasons.iter().all(|why| matches!(why, Rejection::Moved { .. } | Rejection::Duplicate(_)))
}

/// What is to become of a prepared transaction.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Commit,
    RollBack,
    Unknown,
}

/// Decides what is to become of a prepared transaction that ends at this offset, once no earlier writer can commit any more.
fn verdict(gid: &str, end: i64, age: Duration, committed: &Committed) -> Verdict {
    match committed {
        Some((_, Some(Mark { gid: Some(by), .. }))) if by == gid => Verdict::Commit,
        Some((offset, _)) if *offset < end => Verdict::RollBack,
        None if age < OFFSETS_KEPT => Verdict::RollBack,
        _ => Verdict::Unknown,
    }
}

/// Returns where the batch of a prepared transaction ends; `None` if it is of no writer of this name.
fn end_of(name: &str, gid: &[u8]) -> Option<i64> {
    let rest = std::str::from_utf8(gid).ok()?.strip_prefix(name)?.strip_prefix('#')?;
    let (number, end) = rest.split_once('#')?;
    let (epoch, count) = number.split_once('.')?;
    (epoch.parse::<u64>().is_ok() && count.parse::<u64>().is_ok()).then(|| end.parse().ok())?
}

impl fmt::Debug for KafkaTransform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaTransform").finish_non_exhaustive()
    }
}

impl KafkaTransform {
    /// Opens a transform over topics, which exist. The group is joined by [`run`](Self::run). Blocks the thread.
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
        let positions = Positions::open(store, group, &options, true)?;
        let in_kafka = InKafka { positions, producer: options.settings.producer(brokers) };
        let topics = topics.into_iter().map(Into::into).collect();
        let driver = Driver::open(in_kafka, brokers, group, topics, &options)?;
        Ok(Self { driver, after: Arc::new(|_| ()) })
    }

    /// Has this called after each step of a batch: to trace them, or for a test to die there.
    #[must_use]
    pub fn after_step(self, after: impl Fn(TransformStep) + Send + Sync + 'static) -> Self {
        Self { after: Arc::new(after), ..self }
    }

    /// Returns a handle, to stop it and to read its counters.
    pub fn handle(&self) -> PipelineHandle {
        self.driver.handle.clone()
    }

    /// Runs until [`PipelineHandle::stop`] is called; see [`KafkaPipeline::run`](crate::KafkaPipeline::run). What the work
    /// pushes to the outputs is written in the order of the pushes.
    ///
    /// # Errors
    ///
    /// As [`KafkaPipeline::run`](crate::KafkaPipeline::run), and [`PipelineError::InDoubt`].
    pub fn run(
        &mut self,
        mut work: impl FnMut(&Batch, &mut Transaction, &mut Outputs) -> Result<(), WorkError>,
    ) -> Result<PipelineCounters, PipelineError> {
        let after = Arc::clone(&self.after);
        self.driver
            .run(|in_kafka, client, taken| in_kafka.settle(client, taken, &mut work, &*after))?;
        Ok(self.driver.handle.counters())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_prepared_is_ended_as_the_committed_offset_says_or_not_at_all() {
        let mark = |gid: Option<&str>| {
            Some(Mark { store: "mine".to_owned(), gid: gid.map(str::to_owned) })
        };
        let of = |committed| verdict("w#1.0#20", 20, Duration::from_secs(5), &committed);
        assert_eq!(of(Some((20, mark(Some("w#1.0#20"))))), Verdict::Commit);
        assert_eq!(of(Some((10, mark(Some("w#0.3#10"))))), Verdict::RollBack);
        assert_eq!(of(Some((19, None))), Verdict::RollBack, "of another program");
        assert_eq!(of(None), Verdict::RollBack, "the first of all");
        // Somebody else has read these records: whether ours was committed before, nobody can tell.
        assert_eq!(of(Some((20, mark(Some("w#2.0#20"))))), Verdict::Unknown);
        assert_eq!(of(Some((30, mark(None)))), Verdict::Unknown);
        assert_eq!(of(Some((20, None))), Verdict::Unknown);
        let late = verdict("w#1.0#20", 20, OFFSETS_KEPT, &None);
        assert_eq!(late, Verdict::Unknown, "the offset may have expired");
    }

    #[test]
    fn a_writer_ends_only_what_writers_of_its_name_have_prepared() {
        assert_eq!(end_of("firstseen/g/t/1", b"firstseen/g/t/1#7.3#250"), Some(250));
        for other in [
            "firstseen/g/t/10#7.3#250",
            "firstseen/g/t/1#x/t/1#7.3#250",
            "firstseen/g/t/1#7#250",
            "firstseen/g/t/1#7.3#",
            "by hand",
        ] {
            assert_eq!(end_of("firstseen/g/t/1", other.as_bytes()), None, "{other}");
        }
    }
}
