//! The stores to damage: small ones, as a process left them, with all that is known about them.

use super::layout::{self, Record};
use crate::ops::{FOREVER, Harm, KeyNo, Level, Op, ROWS, Rng, RowPut, Setup, Want, is_row};
use crate::oracle::{End, Fact};
use crate::run::{SIMULATED_DIR, Verdict, World};
use firstseen::disk::{Disk, sim::SimDisk};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub(super) type Files = BTreeMap<PathBuf, Vec<u8>>;

/// A store that no process has open.
#[derive(Debug)]
pub(super) struct Station {
    pub(super) name: &'static str,
    pub(super) world: World,
    pub(super) disk: SimDisk,
    pub(super) end: End,
    pub(super) files: Files,
    /// Earlier contents of each file, oldest first.
    pub(super) versions: BTreeMap<PathBuf, Vec<Vec<u8>>>,
    pub(super) records: Vec<Record>,
    /// Every version an id has ever had.
    pub(super) facts: BTreeMap<KeyNo, Vec<Fact>>,
    /// The log is on disk up to this segment and offset.
    pub(super) durable: (u32, u32),
}

const SETUP: Setup = Setup {
    level: Level::Process,
    mapping: true,
    shards: 2,
    // Smaller segments would be compacted as soon as they are flushed: their headers count as garbage.
    segment_bytes: 12_288,
    memtable_bytes: 1_500,
    has_locators: true,
    lanes: false,
};

/// One to three writes of rows, as one commit.
fn commit(rng: &mut Rng) -> Op {
    let (family, id) = (ROWS + 1 + rng.below(2) as u8, rng.below(6) as u8);
    let puts = (0..=rng.below(3) as u8).map(|n| RowPut {
        row: (family, (id + n) % 6),
        want: Want::Current,
        delete: rng.below(4) == 0,
    });
    Op::Commit { puts: puts.collect(), ttl: None, level: None }
}

/// Random claims, batches, tombstones and rows, in all namespaces and families.
fn some(rng: &mut Rng, n: usize) -> Vec<Op> {
    let mut ops = Vec::new();
    for _ in 0..n {
        if rng.below(12) == 0 {
            ops.push(commit(rng));
            continue;
        }
        let (ns, id) = (rng.below(3) as u8, rng.below(24) as u8);
        let ttl = [None, Some(60_000), Some(FOREVER), Some(FOREVER)][rng.below(4) as usize];
        ops.push(match rng.below(10) {
            0..=3 => Op::Claim { key: (ns, id), ttl, level: None },
            4 | 5 => {
                let ids = (0..rng.below(6)).map(|n| ((u64::from(id) + n * 5) % 24) as u8).collect();
                Op::Batch { ns, ids, ttl, level: None }
            }
            6..=8 => Op::Forget { key: (ns, id) },
            _ => Op::Advance { ms: [1, 10, 100][rng.below(3) as usize] },
        });
    }
    ops
}

/// The life of the store: rounds that are flushed, compacted and synced, then a tail.
fn life(rng: &mut Rng, synced_tail: usize, unsynced_tail: usize) -> Vec<Op> {
    let mut ops = Vec::new();
    for round in 0..4 {
        ops.extend(some(rng, 450));
        ops.push(if round % 2 == 0 { Op::Flush } else { Op::Sync });
        if round == 0 {
            ops.extend([Op::Advance { ms: 200_000 }, Op::Flush]);
        }
    }
    // A shard whose memtable was full finishes that flush in the first and advances its mark in the second.
    ops.extend([Op::Flush, Op::Flush]);
    ops.extend(some(rng, synced_tail));
    ops.push(Op::Sync);
    ops.extend(some(rng, unsynced_tail));
    ops
}

/// The files to damage; sled's are tested elsewhere.
fn files_of(disk: &SimDisk) -> Files {
    let dir = Path::new(SIMULATED_DIR);
    let mut files = Files::new();
    let inner = ["log", "filters", "places"].map(|name| dir.join(name));
    for folder in std::iter::once(dir.to_owned()).chain(inner) {
        for name in disk.list(&folder).unwrap_or_default() {
            let path = folder.join(name);
            // Skips folders, which cannot be read, and the lock file, which is empty.
            if let Ok(bytes) = disk.read(&path)
                && !bytes.is_empty()
            {
                files.insert(path, bytes);
            }
        }
    }
    files
}

impl Station {
    fn build(
        name: &'static str,
        end: End,
        rng: &mut Rng,
        synced: usize,
        unsynced: usize,
    ) -> Verdict<Self> {
        let mut world = World::simulated(SETUP);
        world.open().map_err(|e| format!("first open: {e}"))?;
        let live = world.disk();
        let mut versions: BTreeMap<PathBuf, Vec<Vec<u8>>> = BTreeMap::new();
        let mut facts: BTreeMap<KeyNo, Vec<Fact>> = BTreeMap::new();
        for op in life(rng, synced, unsynced) {
            world.step(&op)?;
            for (path, bytes) in files_of(&live) {
                let known = versions.entry(path).or_default();
                if known.last() != Some(&bytes) {
                    known.push(bytes);
                }
            }
            for key in &world.oracle.touched {
                let Some(fact) = world.oracle.fact(*key) else { continue };
                let known = facts.entry(*key).or_default();
                if !known.contains(fact) {
                    known.push(*fact);
                }
            }
        }
        if end == End::Closed {
            world.close()?;
        }
        let disk = live.kill();
        world.drop_store();
        let files = files_of(&disk);
        let segments =
            files.iter().filter(|(path, _)| path.extension().is_some_and(|e| e == "seg"));
        let mut records = Vec::new();
        let mut durable = (0, 0);
        for (path, bytes) in segments {
            records.extend(layout::records(path, bytes));
            durable = durable.max(layout::watermark(bytes));
        }
        if end == End::Closed {
            durable = (u32::MAX, 0);
        }
        let station = Self { name, world, disk, end, files, versions, records, facts, durable };
        station.check_that_it_is_worth_it()?;
        Ok(station)
    }

    /// The same store after it lost its manifest and was repaired, not opened since: no manifest lists a segment of its
    /// new log.
    fn repaired(self) -> Verdict<Self> {
        let disk = self.disk.kill();
        disk.remove(&Path::new(SIMULATED_DIR).join("MANIFEST")).map_err(|e| e.to_string())?;
        let world = self.world.after(disk, Harm::Dropped);
        let report = world.builder().repair().map_err(|e| format!("repair: {e}"))?;
        if !World::lost_nothing(&report, true) {
            return Err(format!("a sound log was repaired: {report}"));
        }
        let disk = world.disk().kill();
        let files = files_of(&disk);
        let segments = files.iter().filter(|(path, _)| Self::segment_no(path).is_some());
        let records = segments.flat_map(|(path, bytes)| layout::records(path, bytes)).collect();
        let versions = BTreeMap::new();
        Ok(Self { name: "repaired", world, disk, files, versions, records, ..self })
    }

    /// Checks that there is enough to damage: several segments, some flushed, runs with filters and locator files, and
    /// records on both sides of the durable mark.
    fn check_that_it_is_worth_it(&self) -> Verdict {
        let count = |ending: &str| {
            self.files.keys().filter(|path| path.to_string_lossy().ends_with(ending)).count()
        };
        let behind = self.records.iter().filter(|record| !self.is_durable(record)).count();
        let tail = (self.end == End::Closed) == (behind == 0);
        let mut whole = self.with(&BTreeMap::new(), Harm::Spared);
        whole.open().map_err(|e| format!("{}: {e}", self.name))?;
        let stats = whole.store().stats();
        // Flushed segments are not replayed at opening.
        let ids: usize = self.records.iter().map(|record| record.keys.len()).sum();
        let rows = self.records.iter().filter(|r| r.keys.iter().any(|k| is_row(*k))).count();
        let unread = stats.rebuilds == 0 && stats.replayed_records < ids as u64;
        if unread
            && count(".seg") >= 3
            && count(".flt") >= 2
            && count(".plc") >= 2
            && self.records.len() >= 40
            && rows >= 5
            && tail
        {
            return Ok(());
        }
        let (segments, filters, places) = (count(".seg"), count(".flt"), count(".plc"));
        Err(format!(
            "{}: {segments} segments, {filters} filters, {places} locator files, {} records with {ids} ids, {rows} of \
             rows, {behind} records unsynced, {} ids replayed, {} rebuilds",
            self.name,
            self.records.len(),
            stats.replayed_records,
            stats.rebuilds
        ))
    }

    /// The segment number in a file name.
    pub(super) fn segment_no(path: &Path) -> Option<u32> {
        path.file_name()?.to_str()?.strip_suffix(".seg")?.parse().ok()
    }

    pub(super) fn is_durable(&self, record: &Record) -> bool {
        let number = Self::segment_no(&record.file).unwrap_or(0);
        (number, record.end as u32) <= self.durable
    }

    /// The same store with these files changed; `None` removes one.
    pub(super) fn with(&self, changed: &BTreeMap<PathBuf, Option<Vec<u8>>>, harm: Harm) -> World {
        let disk = self.disk.kill();
        for (path, bytes) in changed {
            if self.files.contains_key(path) {
                disk.remove(path).expect("it was there");
            }
            if let Some(bytes) = bytes {
                let file = disk.create_new(path).expect("its place is free");
                file.write_all_at(bytes, 0).expect("the disk has room");
            }
        }
        self.world.after(disk, harm)
    }
}

/// A store that was closed, one that was killed, one that was killed with an unsynced tail over several segments, and
/// one that was repaired.
pub(super) fn stations(seed: u64) -> Verdict<Vec<Station>> {
    let mut rng = Rng(seed);
    Ok(vec![
        Station::build("closed", End::Closed, &mut rng, 20, 10)?,
        Station::build("killed", End::Kill, &mut rng, 25, 15)?,
        Station::build("killed with a long tail", End::Kill, &mut rng, 5, 250)?,
        Station::build("closed, and then repaired", End::Closed, &mut rng, 20, 10)?.repaired()?,
    ])
}
