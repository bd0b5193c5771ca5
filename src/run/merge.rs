//! Merging: combines several sources in hash order into one and keeps, for each id, the record that counts. Used for
//! merging runs, scans and export.

use crate::blocks::BlockFault;
use crate::expiry::Version;
use crate::id::{Family, IdHash, IdHasher, Key, NsId};
use crate::memtable::{Memtable, MemtableEntry};
use crate::run::entry::{Merged, MergedEntries};
use crate::run::reader::RunReader;
use crate::wal::Lsn;

/// Entries in memory: one part of a source at a time.
#[derive(Debug, Default)]
struct Part {
    bytes: Vec<u8>,
    entries: Vec<PartEntry>,
    /// Position in hash order and index of the entry, sorted.
    sorted: Vec<(u32, u32)>,
    next: usize,
    /// Entries before this index, in hash order, have been prefetched.
    touched: usize,
}

/// Entries prefetched together. In hash order they are scattered in memory.
const GROUP: usize = 16;

/// An entry of one cache line.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct PartEntry {
    hash: IdHash,
    ns: NsId,
    at: u32,
    len: u16,
    version: Version,
    /// Zero means that the location is unknown: no id ends at the start of a segment.
    location: Lsn,
    /// Size of a row's item.
    item_len: u32,
}

const NOWHERE: Lsn = Lsn(0);
const _: () = assert!(size_of::<PartEntry>() == 64, "one cache line");

impl Part {
    fn reserve(&mut self, entries: usize, bytes: usize) {
        self.bytes.reserve_exact(bytes);
        self.entries.reserve_exact(entries);
        self.sorted.reserve_exact(entries);
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
        self.sorted.clear();
        self.next = 0;
        self.touched = 0;
    }

    fn push(&mut self, entry: Merged<'_>) {
        let Merged { hash, key, version, location, item_len } = entry;
        let (at, len) = (self.bytes.len() as u32, key.id.len() as u16);
        self.sorted.push((hash.order(), self.entries.len() as u32));
        self.bytes.extend_from_slice(key.id);
        let location = location.unwrap_or(NOWHERE);
        self.entries.push(PartEntry { hash, ns: key.ns, at, len, version, location, item_len });
    }

    fn copy(
        &mut self,
        set: &Memtable,
        hasher: IdHasher,
        keep: impl Fn(&MemtableEntry<'_>) -> bool,
    ) {
        self.reserve(set.len(), set.id_bytes());
        for entry in set.iter().filter(|e| keep(e)) {
            let (hash, location) = (hasher.hash(entry.key), Some(entry.lsn));
            let item_len = entry.len;
            self.push(Merged { hash, key: entry.key, version: entry.version, location, item_len });
        }
        self.sort();
    }

    fn key(&self, entry: &PartEntry) -> Key<'_> {
        let at = entry.at as usize;
        Key { ns: entry.ns, id: &self.bytes[at..at + usize::from(entry.len)] }
    }

    /// Sorts small pairs rather than entries. Keys at the same position in hash order, which are rare, are sorted by
    /// key, so that equal keys of several sources meet.
    fn sort(&mut self) {
        let mut sorted = std::mem::take(&mut self.sorted);
        sorted.sort_unstable();
        for same in sorted.chunk_by_mut(|a, b| a.0 == b.0).filter(|same| same.len() > 1) {
            same.sort_unstable_by_key(|(_, i)| self.key(&self.entries[*i as usize]));
        }
        self.sorted = sorted;
    }

    fn order(&self) -> Option<u32> {
        self.sorted.get(self.next).map(|(order, _)| *order)
    }

    fn peek(&self) -> Option<Merged<'_>> {
        let (_, i) = self.sorted.get(self.next)?;
        let entry = &self.entries[*i as usize];
        let PartEntry { hash, version, location, item_len, .. } = *entry;
        let location = (location != NOWHERE).then_some(location);
        Some(Merged { hash, key: self.key(entry), version, location, item_len })
    }

    /// Prefetches the next entries and then their ids, a group at a time. A memtable of megabytes does not fit the
    /// near caches; waiting for each entry and each id separately took two fifths of the flush.
    #[inline]
    fn prefetch_ahead(&mut self) {
        if self.next < self.touched {
            return;
        }
        let end = self.sorted.len().min(self.next + GROUP);
        let group = &self.sorted[self.next..end];
        let mut starts = [0; GROUP];
        for (start, (_, i)) in starts.iter_mut().zip(group) {
            *start = self.entries[*i as usize].at;
        }
        let byte = |at: &u32| self.bytes.get(*at as usize).copied().unwrap_or_default();
        let ids = starts[..group.len()].iter().fold(0, |sum, at| sum ^ byte(at));
        // Use the value, or the compiler drops the loads.
        std::hint::black_box(ids);
        self.touched = end;
    }
}

/// One source of entries.
#[derive(Debug)]
pub(crate) struct Source<'a> {
    run: Option<RunReader<'a>>,
    bucket: u32,
    part: Part,
}

impl<'a> Source<'a> {
    pub(crate) fn run(run: RunReader<'a>) -> Self {
        Self { run: Some(run), bucket: 0, part: Part::default() }
    }

    /// Copies the entries of one family in a memtable, so no lock need be held.
    pub(crate) fn memtable(set: &Memtable, hasher: IdHasher, family: Family) -> Self {
        let mut part = Part::default();
        part.copy(set, hasher, |entry| entry.key.ns.family() == family);
        Self { run: None, bucket: 0, part }
    }

    /// Makes sure that the part holds the next entry, if there is one.
    fn fill(&mut self) -> Result<(), BlockFault> {
        while self.part.next == self.part.sorted.len() {
            let Some(run) = self.run.as_ref().filter(|run| self.bucket < run.buckets()) else {
                return Ok(());
            };
            self.part.clear();
            let part = &mut self.part;
            run.bucket(self.bucket, |entry| part.push(entry))?;
            self.bucket += 1;
            // Blocks are written in this order; sort again because a healed block may not be.
            self.part.sort();
        }
        Ok(())
    }
}

impl MergedEntries for MergeCursor<'_> {
    fn for_each<E: From<BlockFault>>(
        self,
        visit: impl FnMut(Merged<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        Self::for_each(self, visit)
    }
}

/// Iterates over several sources as one.
#[derive(Debug)]
pub(crate) struct MergeCursor<'a> {
    sources: Vec<Source<'a>>,
}

impl<'a> MergeCursor<'a> {
    pub(crate) fn new(sources: Vec<Source<'a>>) -> Self {
        Self { sources }
    }

    /// Visits each id once, in hash order, with the record that counts.
    pub(crate) fn for_each<E: From<BlockFault>>(
        mut self,
        mut visit: impl FnMut(Merged<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut id = Vec::new();
        loop {
            for source in &mut self.sources {
                source.fill()?;
            }
            let orders = self.sources.iter().map(|s| s.part.order());
            let Some(least) = orders.clone().flatten().min() else { return Ok(()) };
            let mut at_least = orders.enumerate().filter(|(_, o)| *o == Some(least));
            let first = at_least.next().map_or(0, |(i, _)| i);
            if at_least.next().is_none() {
                // The common case: a single source has this position, so no other source has a record of this id.
                self.visit_one(first, &mut visit)?;
                continue;
            }
            let tied = self.sources.iter().filter(|s| s.part.order() == Some(least));
            let lowest = tied.filter_map(|s| s.part.peek()).min_by_key(|entry| entry.key);
            let Some(lowest) = lowest else { return Ok(()) };
            let ns = lowest.key.ns;
            id.clear();
            id.extend_from_slice(lowest.key.id);
            let key = Key { ns, id: &id };
            let Merged { hash, version, location, item_len, .. } = lowest;
            let mut joined = Merged { hash, key, version, location, item_len };
            for source in &mut self.sources {
                if let Some(other) = source.part.peek()
                    && other.key == key
                {
                    joined = joined.join(other);
                    source.part.next += 1;
                }
            }
            visit(joined)?;
        }
    }

    /// Visits the next entry of one source, then its other entries in memory that precede the next entry of any other
    /// source.
    fn visit_one<E>(
        &mut self,
        source: usize,
        visit: &mut impl FnMut(Merged<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let others = self.sources.iter().enumerate().filter(|(i, _)| *i != source);
        let bound = others.filter_map(|(_, s)| s.part.order()).min();
        let part = &mut self.sources[source].part;
        loop {
            part.prefetch_ahead();
            let Some(entry) = part.peek() else { break };
            if bound.is_some_and(|bound| entry.hash.order() >= bound) {
                break;
            }
            visit(entry)?;
            part.next += 1;
        }
        Ok(())
    }
}
