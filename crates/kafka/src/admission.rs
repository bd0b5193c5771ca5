//! Partitions are taken over in the store: earlier owners cannot commit any more, and the store says where to read on.

use crate::begin::{Begin, Known, Refusal};
use crate::driver::{CALL_MAX, PipelineOptions};
use crate::error::KafkaError;
use crate::group::{Assignment, Client, TopicPartition};
use crate::mark::{Mark, name_of};
use crate::pipeline_error::PipelineError;
use crate::settings::KafkaStart;
use firstseen::offsets::{Owner, Source};
use firstseen::transaction::CommitOutcome;
use firstseen::{Durability, Store};
use rdkafka::consumer::Consumer as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

/// What is needed to take partitions over.
#[derive(Debug, Clone)]
pub(crate) struct Positions {
    pub(crate) store: Store,
    /// The name of the store.
    pub(crate) name: String,
    pub(crate) group: String,
    start: KafkaStart,
    adopts: bool,
    /// Its offset is never behind what it has committed to the group.
    is_exact: bool,
}

/// The offset that a group has committed, and what stands beside it.
pub(crate) type Committed = Option<(i64, Option<Mark>)>;

impl Positions {
    pub(crate) fn open(
        store: &Store,
        group: &str,
        options: &PipelineOptions,
        is_exact: bool,
    ) -> Result<Self, PipelineError> {
        let (store, group, name) = (store.clone(), group.to_owned(), name_of(store)?);
        Ok(Self { store, name, group, start: options.start, adopts: options.adopts, is_exact })
    }

    /// Returns the offsets of a topic, as this group reads it.
    fn source(&self, topic: &str) -> firstseen::Result<Source> {
        self.store.source(&format!("kafka/{}/{topic}", self.group))
    }

    /// Takes a partition over, of which the group has committed this.
    pub(crate) fn take_over<M: Assignment>(
        &self,
        client: &Client<M>,
        partition: &TopicPartition,
        committed: Committed,
    ) -> Result<(Owner, i64), PipelineError> {
        let (topic, number) = (&*partition.0, number_of(partition)?);
        let source = self.source(topic)?;
        let stored = source.position(number)?;
        let watermarks = client.fetch_watermarks(topic, partition.1, CALL_MAX);
        let (low, high) =
            watermarks.map_err(KafkaError::client("asking for the ends of a partition"))?;
        let stored = stored.map(|position| offset_of(position.next)).transpose()?;
        let store = (!self.is_exact).then_some(&*self.name);
        let known = Known { stored, committed, low, high, store };
        let next = match known.begin(self.start, self.adopts) {
            Begin::At(next) => next,
            Begin::First(next) => {
                if stored.is_none() {
                    let mut transaction = self.store.transaction();
                    transaction.advance(&source, number, position_of(next)?);
                    // If another owner was faster, its position counts.
                    let _ = transaction.durability(Durability::Disk).commit()?;
                }
                next
            }
            Begin::Refused(why) => return Err(PipelineError::refused(partition, why)),
        };
        let owner = source.own(number)?;
        let at = offset_of(owner.next())?;
        if at >= next {
            return Ok((owner, at));
        }
        let mut transaction = self.store.transaction();
        transaction.advance_as(&owner, position_of(next)?);
        match transaction.durability(Durability::Disk).commit()? {
            CommitOutcome::Rejected(reasons) => {
                let (topic, partition) = (topic.to_owned(), partition.1);
                Err(PipelineError::Rejected { topic, partition, reasons })
            }
            _ => Ok((owner, next)),
        }
    }
}

/// Returns what a group has committed of a partition.
pub(crate) fn committed<M: Assignment>(
    client: &Client<M>,
    (topic, number): &TopicPartition,
) -> Result<Committed, KafkaError> {
    let asking = || KafkaError::client("asking for the committed offset");
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, *number);
    let known = client.committed_offsets(list, CALL_MAX).map_err(asking())?;
    let Some(element) = known.find_partition(topic, *number) else { return Ok(None) };
    element.error().map_err(asking())?;
    Ok(match element.offset() {
        Offset::Offset(offset) => Some((offset, Mark::decode(element.metadata()))),
        _ => None,
    })
}

fn number_of(partition: &TopicPartition) -> Result<u32, PipelineError> {
    u32::try_from(partition.1).map_err(|_| PipelineError::refused(partition, Refusal::Nowhere))
}

/// Returns an offset of the store as Kafka counts.
fn offset_of(position: u64) -> Result<i64, KafkaError> {
    let too_large = |_| KafkaError::Ended(format!("{position} is no offset of Kafka"));
    i64::try_from(position).map_err(too_large)
}

/// Returns an offset of Kafka as the store counts.
pub(crate) fn position_of(offset: i64) -> Result<u64, KafkaError> {
    let negative = |_| KafkaError::Ended(format!("{offset} is no offset of Kafka"));
    u64::try_from(offset).map_err(negative)
}
