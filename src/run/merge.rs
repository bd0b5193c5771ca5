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
        // The next position of each source that has one, and the source; the least is the last.
        let mut waiting = Vec::with_capacity(self.sources.len());
        for source in 0..self.sources.len() {
            self.let_wait(source, &mut waiting)?;
        }
        while let Some((least, first)) = waiting.pop() {
            let bound = waiting.last().map(|(order, _)| *order);
            if bound != Some(least) {
                // The common case: a single source has this position, so no other source has a record of this id.
                self.visit_one(first, bound, &mut visit)?;
                self.let_wait(first, &mut waiting)?;
                continue;
            }
            let tied = waiting.partition_point(|(order, _)| *order > least);
            let mut tied = waiting.split_off(tied);
            tied.push((least, first));
            self.visit_tied(least, &tied, &mut id, &mut visit)?;
            for (_, source) in tied {
                self.let_wait(source, &mut waiting)?;
            }
        }
        Ok(())
    }

    /// Enters the next position of a source, if it has one.
    fn let_wait(
        &mut self,
        source: usize,
        waiting: &mut Vec<(u32, usize)>,
    ) -> Result<(), BlockFault> {
        self.sources[source].fill()?;
        if let Some(order) = self.sources[source].part.order() {
            let at = waiting.partition_point(|(other, _)| *other > order);
            waiting.insert(at, (order, source));
        }
        Ok(())
    }

    /// Visits the next entry of one source, then its other entries in memory that precede `bound`, the next position of any
    /// other source.
    fn visit_one<E>(
        &mut self,
        source: usize,
        bound: Option<u32>,
        visit: &mut impl FnMut(Merged<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
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

    /// Visits the entries that several sources have at one position: each id once, in the order of the keys. `id` is a
    /// reusable buffer.
    fn visit_tied<E: From<BlockFault>>(
        &mut self,
        least: u32,
        tied: &[(u32, usize)],
        id: &mut Vec<u8>,
        visit: &mut impl FnMut(Merged<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        loop {
            for (_, source) in tied {
                self.sources[*source].fill()?;
            }
            let next = tied.iter().filter_map(|(_, source)| self.sources[*source].part.peek());
            let next = next.filter(|entry| entry.hash.order() == least);
            let Some(lowest) = next.min_by_key(|entry| entry.key) else { return Ok(()) };
            let ns = lowest.key.ns;
            id.clear();
            id.extend_from_slice(lowest.key.id);
            let key = Key { ns, id };
            let Merged { hash, version, location, item_len, .. } = lowest;
            let mut joined = Merged { hash, key, version, location, item_len };
            // It is joined with itself, too, which changes nothing.
            for (_, source) in tied {
                let part = &mut self.sources[*source].part;
                if let Some(other) = part.peek()
                    && other.key == key
                {
                    joined = joined.join(other);
                    part.next += 1;
                }
            }
            visit(joined)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{Timestamp, Ttl};
    use std::collections::BTreeMap;

    /// Many ids share a position in hash order, within a source and between them.
    #[test]
    fn an_id_of_several_sources_is_visited_once_with_the_record_that_counts() {
        let mut expected: BTreeMap<(u32, Vec<u8>), (Version, Option<Lsn>)> = BTreeMap::new();
        let source = |number: u32| {
            let mut part = Part::default();
            // Some are of all sources, some of one. Even ones share a position.
            for n in (0..300_u32).filter(|n| n % 3 == 0 || n % 5 == number) {
                let (order, id) = (n * (n % 2), n.to_le_bytes());
                let ms = 1_000 + u64::from(n * 31 % (number + 3));
                let version = Version::claim(Timestamp::from_millis(ms), Ttl::FOREVER);
                let location = (n % 3 != 0).then(|| Lsn::new(1 + number, 5_000 + n));
                let key = Key { ns: NsId(0), id: &id };
                let hash = IdHash::from_parts(0, u64::from(order));
                part.push(Merged { hash, key, version, location, item_len: 0 });
                let known = expected.entry((order, id.to_vec())).or_insert((version, location));
                *known = (known.0.join(version), known.1.max(location));
            }
            part.sort();
            Source { run: None, bucket: 0, part }
        };
        let sources: Vec<Source<'_>> = (0..5).map(source).collect();
        let mut seen = Vec::new();
        let visited = MergeCursor::new(sources).for_each(|entry| {
            let at = (entry.hash.order(), entry.key.id.to_vec());
            seen.push((at, (entry.version, entry.location)));
            Ok::<_, BlockFault>(())
        });
        visited.expect("nothing fails");
        assert_eq!(seen, expected.into_iter().collect::<Vec<_>>());
    }
}
