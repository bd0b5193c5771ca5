//! A process that owns some partitions, each with a store of its own.
//!
//! What is in a store belongs together and moves together: the ids that were seen, the offset up to which the input was
//! read, and the messages that wait to be delivered. So whoever restores a snapshot goes on exactly where it was taken.

use crate::coordinator::{Assignment, Coordinator};
use crate::record::Record;
use firstseen::offsets::Owner;
use firstseen::outbox::Outbox;
use firstseen::snapshot::{FolderTarget, RestoreOptions, SnapshotOptions};
use firstseen::{ErrorKind, Store};
use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Different ids in the input of a partition.
pub(crate) const IDS: u64 = 1_500;
/// Each id comes twice: the second time long after the first, when the partition has moved.
const EVENTS: u64 = IDS * 2;
/// Events between two looks at the table.
const AT_ONCE: u64 = 25;
/// Rounds between two snapshots of a partition.
const ROUNDS: u64 = 4;

/// The input, which stands for a broker: an event for each offset.
pub(crate) fn event(partition: u32, offset: u64) -> String {
    format!("{partition}-{}", (offset % IDS) * 7 % IDS)
}

/// Where the snapshots of a partition are. With `firstseen_snapshot::ObjectTarget` it is a bucket.
pub(crate) fn place(dir: &Path, partition: u32) -> FolderTarget {
    FolderTarget::new(dir.join(format!("copies/{partition}")))
}

/// A partition that this process owns.
struct Held {
    store: Store,
    path: PathBuf,
    /// The epoch guards three things: the offset in the store, the place of the snapshots, and the outside record.
    epoch: u64,
    owner: Owner,
    topic: Outbox,
    place: FolderTarget,
    rounds: u64,
}

/// What one round has found.
#[derive(PartialEq, Eq)]
enum Round {
    GoesOn,
    AllDone,
    /// Somebody else owns the partition by now.
    Fenced,
}

type Failure = Box<dyn Error>;

/// Works until all partitions are done.
pub(crate) fn work(dir: &Path, name: &str) -> Result<(), Failure> {
    let coordinator = Coordinator::new(dir.join("assignments"))?;
    let record = Record::new(dir.join("record"))?;
    let mut held: BTreeMap<u32, Held> = BTreeMap::new();
    loop {
        let table = coordinator.table()?;
        if table.values().all(|to| to.is_done) {
            return Ok(());
        }
        for (partition, to) in &table {
            let is_mine = to.owner == name && !to.is_done;
            // What was taken away, and what was given again by another epoch, is let go of.
            if held.get(partition).is_some_and(|own| !is_mine || own.epoch != to.epoch) {
                held.remove(partition);
            }
            if is_mine && !held.contains_key(partition) {
                match take_over(dir, name, &record, *partition, to) {
                    Ok(own) => held.extend(own.map(|own| (*partition, own))),
                    // A snapshot that is removed while it is read, or a place whose writer has not let go of it yet.
                    Err(error) if is_passing(&*error) => {}
                    Err(error) => return Err(error),
                }
            }
            let Some(own) = held.get_mut(partition) else { continue };
            let is_over = match own.round(*partition, &record) {
                Ok(Round::GoesOn) if to.wanted == name => false,
                Ok(Round::GoesOn) => own.hand_over(*partition, &record, &coordinator)?,
                Ok(Round::AllDone) => {
                    coordinator.finish(*partition, own.epoch)?;
                    true
                }
                Ok(Round::Fenced) => true,
                Err(error) if is_passing(&*error) => false,
                Err(error) => return Err(error),
            };
            if is_over {
                held.remove(partition);
            }
        }
        // So that a partition moves more than once before its input ends.
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

fn is_passing(error: &(dyn Error + 'static)) -> bool {
    let kind = error.downcast_ref::<firstseen::Error>().map(firstseen::Error::kind);
    matches!(kind, Some(ErrorKind::Retry | ErrorKind::Environment | ErrorKind::Repair))
}

/// Restores a partition and goes on with it. `None` if somebody else has taken it over meanwhile.
fn take_over(
    dir: &Path,
    name: &str,
    record: &Record,
    partition: u32,
    to: &Assignment,
) -> Result<Option<Held>, Failure> {
    // First: after this, no effect of an earlier owner is taken, so nothing is missed by what is restored.
    if !record.begin(partition, to.epoch)? {
        return Ok(None);
    }
    let path = dir.join(format!("stores/{name}-{partition}-{}", to.epoch));
    match std::fs::remove_dir_all(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let place = place(dir, partition);
    match Store::restore_with(&place, &path, RestoreOptions::new().epoch(to.epoch)) {
        Ok(_) => {}
        // A later owner has stored a snapshot there.
        Err(error) if error.kind() == ErrorKind::FixCall => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let store = Store::open(&path)?;
    let Some(owner) = store.source("input")?.own_as(partition, to.epoch)? else { return Ok(None) };
    let topic = store.outbox("effects")?;
    let own = Held { store, path, epoch: to.epoch, owner, topic, place, rounds: 0 };
    // Before any work: from here on, earlier owners store no snapshot.
    Ok(own.snapshot()?.then_some(own))
}

impl Held {
    /// Stores a snapshot; returns whether this is still the copy that goes on.
    fn snapshot(&self) -> Result<bool, Failure> {
        match self.store.snapshot_with(&self.place, SnapshotOptions::new().keep_last(3)) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::FixCall => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Processes some events, and delivers what they have sent.
    fn round(&mut self, partition: u32, record: &Record) -> Result<Round, Failure> {
        let next = self.next(partition)?;
        for offset in next..EVENTS.min(next + AT_ONCE) {
            let id = event(partition, offset);
            // The id, the offset and the effect are one commit. Of an id that was seen only the offset is left.
            let mut transaction = self.store.transaction();
            transaction.skip_duplicates().claim(&id).emit(&self.topic, &id)?;
            transaction.advance_as(&self.owner, offset + 1);
            let outcome = transaction.commit()?;
            if !outcome.is_committed() {
                return Err(format!("{id} at {offset}: {outcome:?}").into());
            }
        }
        if !self.deliver(partition, record)? {
            return Ok(Round::Fenced);
        }
        self.rounds += 1;
        if self.rounds.is_multiple_of(ROUNDS) && !self.snapshot()? {
            return Ok(Round::Fenced);
        }
        let is_over = self.next(partition)? == EVENTS && self.topic.read(1)?.is_empty();
        Ok(if is_over { Round::AllDone } else { Round::GoesOn })
    }

    fn next(&self, partition: u32) -> Result<u64, Failure> {
        Ok(self.store.source("input")?.position(partition)?.map_or(0, |at| at.next))
    }

    /// Delivers the messages that wait; returns whether the outside record still takes them from this epoch.
    fn deliver(&self, partition: u32, record: &Record) -> Result<bool, Failure> {
        loop {
            let messages = self.topic.read(100)?;
            if messages.is_empty() {
                return Ok(true);
            }
            // The id of a message follows from that of its event: whoever processes the event again sends the same.
            let texts: Vec<(String, String)> = messages
                .iter()
                .map(|m| (m.id.to_string(), String::from_utf8_lossy(&m.payload).into_owned()))
                .collect();
            if !record.take(partition, self.epoch, &texts)? {
                return Ok(false);
            }
            self.topic.acknowledge(&messages)?;
        }
    }

    /// Hands the partition over, with all that has happened in it.
    fn hand_over(
        &mut self,
        partition: u32,
        record: &Record,
        coordinator: &Coordinator,
    ) -> Result<bool, Failure> {
        // Most is sent while the work goes on, so that the partition stands still for the last segment only.
        if !self.snapshot()? || self.round(partition, record)? == Round::Fenced {
            return Ok(true);
        }
        if self.snapshot()? {
            coordinator.hand_over(partition, self.epoch)?;
        }
        Ok(true)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Nobody opens it again: a copy that was replaced would grant ids a second time.
        std::fs::remove_dir_all(&self.path).ok();
    }
}
