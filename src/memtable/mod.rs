//! The memtable: ids not yet flushed, held in memory and exact.
//!
//! Entries are stored back to back in one buffer, indexed by a hash table of 32-bit offsets. Adding a first-seen id
//! touches one cache line of the table and the end of the buffer.
//!
//! ```text
//! rank u64 | deadline u64 | lsn u64 | namespace u32 | id length u16 | class u8 | flags u8 | step u16 | id
//! ```
//!
//! The id of a row is followed by the size in the log of the item that holds its value (u32).
//!
//! Memory per id: 34 bytes, the id, and eight bytes of table; four bytes more for a row.

mod offset_table;

use crate::expiry::{Class, Horizon, Tally, Version};
use crate::id::{IdHash, IdHasher, Key, NsId};
use crate::memtable::offset_table::OffsetTable;
use crate::time::Timestamp;
use crate::wal::{ItemAt, Lsn};

const HEAD: usize = 34;
/// Bytes of an item's size, which only rows have.
const LEN_BYTES: usize = size_of::<u32>();
/// Offset of the flags in the head.
const FLAGS_AT: usize = 31;
/// Removed from the table; the bytes stay until the memtable is cleared.
const FLAG_REMOVED: u8 = 1;

/// Size of the entry buffer allocated with the first entry.
const BYTES_FIRST: usize = 32 << 10;
/// How much of it is written ahead.
const BYTES_STEP: usize = 16 << 10;

/// Bytes of table per entry when the memtable is full.
const TABLE_BYTES: usize = offset_table::BYTES_PER_ENTRY;

/// A decoded entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MemtableEntry<'a> {
    pub(crate) key: Key<'a>,
    pub(crate) version: Version,
    /// The location just past its id, or past the item of a row, in the record that set this version.
    pub(crate) lsn: Lsn,
    /// Size of a row's item in the log; zero for a claim.
    pub(crate) len: u32,
}

/// Offset of an entry; valid until the memtable is cleared.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct EntryOffset(u32);

/// Ids and their versions, in memory.
#[derive(Debug)]
pub(crate) struct Memtable {
    table: OffsetTable,
    /// Entries up to `end`; leftover bytes after it.
    bytes: Vec<u8>,
    end: usize,
    bytes_max: usize,
    hasher: IdHasher,
    /// Entries by generation. Replaced versions stay counted: this only decides when to flush early.
    tally: Tally,
}

impl Memtable {
    /// Creates an empty memtable that is full at about `bytes_max` bytes of memory.
    pub(crate) fn new(hasher: IdHasher, bytes_max: usize) -> Self {
        // Size the table for 16-byte ids.
        let table = OffsetTable::with_capacity(bytes_max / (HEAD + 16 + TABLE_BYTES));
        Self { table, bytes: Vec::new(), end: 0, bytes_max, hasher, tally: Tally::default() }
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// Returns whether it holds no bytes; removed entries may still hold some.
    pub(crate) fn is_empty(&self) -> bool {
        self.end == 0
    }

    /// Returns the memory attributable to the entries, in bytes.
    pub(crate) fn memory(&self) -> usize {
        self.end + self.table.len() * TABLE_BYTES
    }

    /// Returns the total size of the ids in bytes, including removed ones.
    pub(crate) fn id_bytes(&self) -> usize {
        self.end.saturating_sub(self.table.len() * HEAD)
    }

    /// Returns whether most entries have expired, so that a flush would free most of the memory.
    pub(crate) fn is_mostly_dead<'a>(&self, now: impl Into<Horizon<'a>>) -> bool {
        let now = now.into();
        self.tally.dead(now) > self.tally.live(now)
    }

    /// Returns whether `ids` more ids of `id_bytes` bytes in total would exceed the bound.
    #[inline]
    pub(crate) fn is_full_for(&self, ids: usize, id_bytes: usize) -> bool {
        self.memory() + ids * (HEAD + TABLE_BYTES) + id_bytes > self.bytes_max
    }

    #[inline]
    pub(crate) fn get(&self, key: Key<'_>, hash: IdHash) -> Option<MemtableEntry<'_>> {
        let found = self.table.find(hash.table(), |at| self.key_at(at) == key)?;
        Some(self.entry(found))
    }

    /// Touches the cache line that [`get`](Self::get) reads first. The value is meaningless.
    #[inline]
    pub(crate) fn prefetch(&self, hash: IdHash) -> u64 {
        self.table.prefetch(hash.table())
    }

    /// Touches the id that [`get`](Self::get) compares first, if any. Call it after [`prefetch`](Self::prefetch).
    #[inline]
    pub(crate) fn prefetch_entry(&self, hash: IdHash) -> u64 {
        let entry = self.table.first(hash.table());
        entry.and_then(|at| self.bytes.get(at as usize + HEAD)).map_or(0, |byte| u64::from(*byte))
    }

    /// Touches the place where the next entry will end, so that the thread that unlocks the shard does not wait for
    /// that write.
    #[inline]
    pub(crate) fn prefetch_end(&self) -> u64 {
        self.bytes.get(self.end + HEAD + 16).map_or(0, |byte| u64::from(*byte))
    }

    /// Adds an id or replaces its version and returns the entry's offset. The caller has checked that this version
    /// counts.
    #[inline]
    pub(crate) fn put(
        &mut self,
        key: Key<'_>,
        hash: IdHash,
        version: Version,
        lsn: Lsn,
    ) -> EntryOffset {
        let found = self.table.find(hash.table(), |at| self.key_at(at) == key);
        let Some(at) = found else { return self.insert_new(key, hash, version, lsn) };
        self.put_at(EntryOffset(at), version, lsn);
        EntryOffset(at)
    }

    /// Adds a row or replaces its version. The caller has checked that this version counts.
    pub(crate) fn put_row(&mut self, key: Key<'_>, hash: IdHash, version: Version, at: ItemAt) {
        debug_assert!(key.ns.is_row(), "claims have no item of their own in the log");
        let found = self.table.find(hash.table(), |at| self.key_at(at) == key);
        let offset = match found {
            Some(offset) => {
                self.put_at(EntryOffset(offset), version, at.end);
                offset
            }
            None => self.insert_new(key, hash, version, at.end).0,
        };
        let at_len = offset as usize + HEAD + key.id.len();
        self.bytes[at_len..at_len + LEN_BYTES].copy_from_slice(&at.len.to_le_bytes());
    }

    /// Replaces the version of an entry.
    #[inline]
    pub(crate) fn put_at(&mut self, offset: EntryOffset, version: Version, lsn: Lsn) {
        let at = offset.0 as usize;
        self.tally.add(version.generation(), 1);
        put_version(&mut self.bytes[at..at + HEAD], version, lsn);
    }

    /// Adds an id known to be absent and returns the entry's offset.
    #[inline]
    pub(crate) fn insert_new(
        &mut self,
        key: Key<'_>,
        hash: IdHash,
        version: Version,
        lsn: Lsn,
    ) -> EntryOffset {
        let (at, end) = (self.end, self.end + entry_bytes(key));
        if end > self.bytes.len() {
            self.grow(end);
        }
        let (head, id) = self.bytes[at..at + HEAD + key.id.len()].split_at_mut(HEAD);
        head[24..28].copy_from_slice(&key.ns.0.to_le_bytes());
        head[28..30].copy_from_slice(&(key.id.len() as u16).to_le_bytes());
        head[FLAGS_AT] = 0;
        put_version(head, version, lsn);
        id.copy_from_slice(key.id);
        self.end = end;
        self.tally.add(version.generation(), 1);
        let (bytes, hasher) = (&self.bytes, self.hasher);
        self.table.insert(hash.table(), at as u32, |at| hasher.hash(key_in(bytes, at)).table());
        EntryOffset(at as u32)
    }

    /// Makes the buffer at least this long.
    #[cold]
    fn grow(&mut self, least: usize) {
        assert!(u32::try_from(least).is_ok(), "a memtable stays under 4 GB");
        if least > self.bytes.capacity() {
            // Allocate a little for a store that is hardly used, then the full size at once: growing in steps would stall
            // some claim each time. Untouched pages of a large allocation cost no memory yet.
            let next = match self.bytes.capacity() {
                0 => BYTES_FIRST.min(self.bytes_max),
                now if now < self.bytes_max => self.bytes_max,
                now => now * 2,
            };
            let mut larger = Vec::with_capacity(next.max(least));
            larger.extend_from_slice(&self.bytes[..self.end]);
            self.bytes = larger;
        }
        // A page that is read before it is written is mapped twice, and the second time interrupts all other processors of
        // the process. So nothing that may be read lies beyond what was written.
        let len = least.max(self.end + BYTES_STEP).min(self.bytes.capacity());
        self.bytes.resize(len, 0);
    }

    /// Removes an id. Memory is freed only if it is the last entry, so undo several additions in reverse order.
    pub(crate) fn remove(&mut self, key: Key<'_>, hash: IdHash) {
        let bytes = &self.bytes;
        let Some(at) = self.table.remove(hash.table(), |at| key_in(bytes, at) == key) else {
            return;
        };
        self.tally.take(self.entry(at).version.generation(), 1);
        let at = at as usize;
        if at + entry_bytes(key) == self.end {
            self.end = at;
        } else {
            self.bytes[at + FLAGS_AT] |= FLAG_REMOVED;
        }
    }

    /// Iterates over all entries in insertion order, a sequential scan of the buffer.
    pub(crate) fn iter(&self) -> impl Iterator<Item = MemtableEntry<'_>> {
        self.iter_places().map(|(_, entry)| entry)
    }

    /// As [`iter`](Self::iter), with the offset of each.
    pub(crate) fn iter_places(&self) -> impl Iterator<Item = (EntryOffset, MemtableEntry<'_>)> {
        let mut at = 0;
        let entries = std::iter::from_fn(move || {
            let entry = (at < self.end).then(|| (at, self.entry(at as u32)))?;
            at += entry_bytes(entry.1.key);
            Some(entry)
        });
        entries
            .filter(|(at, _)| self.bytes[at + FLAGS_AT] & FLAG_REMOVED == 0)
            .map(|(at, entry)| (EntryOffset(at as u32), entry))
    }

    /// Returns the entry at this offset.
    #[inline]
    pub(crate) fn entry_at(&self, offset: EntryOffset) -> MemtableEntry<'_> {
        self.entry(offset.0)
    }

    /// Touches the lines of an entry with an id of up to 64 bytes. The value is meaningless.
    #[inline]
    pub(crate) fn prefetch_at(&self, offset: EntryOffset) -> u8 {
        let byte = |at: usize| self.bytes.get(at).copied().unwrap_or_default();
        byte(offset.0 as usize) ^ byte(offset.0 as usize + HEAD + 15)
    }

    /// Removes all entries but keeps the allocation.
    pub(crate) fn clear(&mut self) {
        self.table.clear();
        self.end = 0;
        self.tally = Tally::default();
    }

    /// Recounts the table: each entry is found and there are no more, and none is missing in the tally.
    #[cfg(feature = "testing")]
    pub(crate) fn validate(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        let (mut entries, mut tally) = (0, Tally::default());
        for entry in self.iter() {
            entries += 1;
            tally.add(entry.version.generation(), 1);
            if self.get(entry.key, self.hasher.hash(entry.key)) != Some(entry) {
                complaints.push(format!("is not found in memory: {entry:?}"));
            }
            if entry.key.ns.is_row() == (entry.len == 0) {
                complaints.push(format!("only rows have an item in the log: {entry:?}"));
            }
        }
        if entries != self.len() {
            complaints.push(format!("{entries} entries in memory, {} in the table", self.len()));
        }
        // Replaced versions stay counted, so the tally may count more, never less.
        let counted = self.tally.sums();
        let has = |(generation, n)| counted.iter().any(|(g, sum)| *g == generation && *sum >= n);
        if !tally.sums().into_iter().all(has) {
            complaints.push(format!("{tally:?} in memory, {:?} in the tally", self.tally));
        }
        complaints
    }

    #[inline]
    fn key_at(&self, at: u32) -> Key<'_> {
        key_in(&self.bytes, at)
    }

    fn entry(&self, at: u32) -> MemtableEntry<'_> {
        let head = &self.bytes[at as usize..at as usize + HEAD];
        let version = Version {
            rank: u64_in(head, 0),
            deadline: Timestamp::from_millis(u64_in(head, 8)),
            class: Class(head[30]),
            step: u16::from_le_bytes([head[32], head[33]]),
        };
        let key = self.key_at(at);
        let len = if key.ns.is_row() {
            let at_len = at as usize + HEAD + key.id.len();
            let bytes = self.bytes[at_len..at_len + LEN_BYTES].try_into();
            u32::from_le_bytes(bytes.expect("four bytes"))
        } else {
            0
        };
        MemtableEntry { key, version, lsn: Lsn(u64_in(head, 16)), len }
    }
}

/// Returns the size of an entry.
#[inline]
fn entry_bytes(key: Key<'_>) -> usize {
    HEAD + key.id.len() + if key.ns.is_row() { LEN_BYTES } else { 0 }
}

#[inline]
fn put_version(head: &mut [u8], version: Version, lsn: Lsn) {
    head[..8].copy_from_slice(&version.rank.to_le_bytes());
    head[8..16].copy_from_slice(&version.deadline.as_millis().to_le_bytes());
    head[16..24].copy_from_slice(&lsn.0.to_le_bytes());
    head[30] = version.class.0;
    head[32..34].copy_from_slice(&version.step.to_le_bytes());
}

#[inline]
fn key_in(bytes: &[u8], at: u32) -> Key<'_> {
    let entry = &bytes[at as usize..];
    let ns = u32::from_le_bytes(entry[24..28].try_into().expect("four bytes"));
    let len = u16::from_le_bytes(entry[28..30].try_into().expect("two bytes"));
    Key { ns: NsId(ns), id: &entry[HEAD..HEAD + usize::from(len)] }
}

#[inline]
fn u64_in(head: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(head[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Seed;
    use crate::time::Ttl;

    fn version(ms: u64) -> Version {
        Version::claim(Timestamp::from_millis(ms), Ttl::from_millis(1000))
    }

    #[test]
    fn i3_ids_are_compared_byte_for_byte_also_when_every_hash_is_equal() {
        let hasher = IdHasher::new(Seed([1; 16]));
        let hash = IdHash::from_parts(7, 7);
        let mut set = Memtable::new(hasher, 1 << 20);
        // More than fit in one line of the table.
        let ids: Vec<Vec<u8>> =
            (0..40).map(|i| vec![b'a' + i % 20; 1 + usize::from(i) / 20]).collect();
        for (i, id) in ids.iter().enumerate() {
            for ns in 0..2 {
                let key = Key { ns: NsId(ns), id };
                assert_eq!(set.get(key, hash), None);
                set.put(key, hash, version(i as u64), Lsn(i as u64));
                assert_eq!(set.get(key, hash).map(|e| e.lsn), Some(Lsn(i as u64)));
            }
        }
        assert_eq!(set.len(), 80);
    }

    #[test]
    fn entries_are_replaced_removed_and_listed() {
        let hasher = IdHasher::new(Seed([1; 16]));
        let mut set = Memtable::new(hasher, 1 << 12);
        let count = if cfg!(miri) { 200 } else { 1000 };
        for i in 0..count as u32 {
            let id = i.to_le_bytes();
            let key = Key { ns: NsId(0), id: &id };
            set.put(key, hasher.hash(key), version(1), Lsn(1));
            set.put(key, hasher.hash(key), version(2), Lsn(2));
        }
        assert_eq!(set.len(), count);
        assert!(set.is_full_for(1, 4));
        assert!(set.iter().all(|e| e.version == version(2) && e.lsn == Lsn(2)));
        let key = Key { ns: NsId(0), id: &5u32.to_le_bytes() };
        set.remove(key, hasher.hash(key));
        assert_eq!(set.get(key, hasher.hash(key)), None);
        assert_eq!(set.len(), count - 1);
        assert_eq!(set.iter().count(), count - 1);
        assert!(!set.is_empty() && set.memory() > 0);

        set.clear();
        assert_eq!(set.get(key, hasher.hash(key)), None);
        assert_eq!(set.iter().count(), 0);
        for i in 0..count as u32 {
            let id = i.to_le_bytes();
            let key = Key { ns: NsId(0), id: &id };
            set.put(key, hasher.hash(key), version(3), Lsn(3));
        }
        assert_eq!(set.iter().count(), count, "what was removed before is not removed now");
    }

    /// A page that is read first is mapped twice; see [`Memtable::grow`].
    #[test]
    fn no_more_than_a_step_is_readable_beyond_what_was_written() {
        let hasher = IdHasher::new(Seed([1; 16]));
        let mut set = Memtable::new(hasher, 1 << 20);
        for number in 0..if cfg!(miri) { 1_000 } else { 5_000_u32 } {
            let bytes = number.to_le_bytes();
            let key = Key { ns: NsId(0), id: &bytes };
            set.put(key, hasher.hash(key), version(1), Lsn(1));
            assert!(set.bytes.len() <= set.end + BYTES_STEP, "{} of {}", set.end, set.bytes.len());
        }
        assert_eq!(set.bytes.capacity(), 1 << 20, "allocated at once");
    }

    #[test]
    fn what_is_removed_from_the_end_takes_no_memory() {
        let hasher = IdHasher::new(Seed([1; 16]));
        let mut set = Memtable::new(hasher, 1 << 12);
        let count = if cfg!(miri) { 50 } else { 500 };
        let ids: Vec<[u8; 4]> = (0..count).map(u32::to_le_bytes).collect();
        let ended = Timestamp::from_millis(1 << 40);
        for round in 0..3 {
            for id in &ids {
                let key = Key { ns: NsId(0), id };
                set.put(key, hasher.hash(key), version(round), Lsn(round));
            }
            assert!(set.is_mostly_dead(ended));
            for id in ids.iter().rev() {
                let key = Key { ns: NsId(0), id };
                set.remove(key, hasher.hash(key));
            }
            assert_eq!((set.len(), set.memory(), set.is_empty()), (0, 0, true));
            assert!(!set.is_mostly_dead(ended), "nothing is left to be dead");
        }
    }
}
