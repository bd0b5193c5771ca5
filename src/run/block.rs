//! A block: the ids of one bucket of one run, a few kilobytes, stored as one value in the block store.
//!
//! Layout: the head and columns of `columns.rs`, then the ids back to back.

use crate::blocks::BlockId;
use crate::expiry::{Class, Version};
#[cfg(any(test, feature = "fuzzing"))]
use crate::id::NsId;
use crate::id::{Key, Seed};
#[cfg(any(test, feature = "fuzzing"))]
use crate::run::columns::crc;
use crate::run::columns::{
    BlockDamage, Columns, Entries, Kind, count_of, expected, outward, put_checksum,
};
use crate::wal::ItemAt;

/// Collects the entries of one block.
#[derive(Debug, Default)]
pub(crate) struct BlockWriter {
    ids: Vec<u8>,
    entries: Entries,
}

impl BlockWriter {
    pub(crate) fn push(&mut self, key: Key<'_>, version: Version) {
        self.ids.extend_from_slice(key.id);
        self.entries.push(key, version);
    }

    /// Adds a row, whose item is at this location.
    pub(crate) fn push_row(&mut self, key: Key<'_>, version: Version, at: ItemAt) {
        self.ids.extend_from_slice(key.id);
        self.entries.push_row(key, version, at);
    }

    /// Returns the encoded block and the non-id part of its entries, which stays valid until [`clear`](Self::clear).
    pub(super) fn block(&self, id: BlockId, seed: Seed) -> (Vec<u8>, &Entries) {
        let mut out = self.entries.encode(id, self.ids.len());
        out.extend_from_slice(&self.ids);
        put_checksum(seed, &mut out);
        (out, &self.entries)
    }

    pub(super) fn clear(&mut self) {
        self.ids.clear();
        self.entries.clear();
    }

    /// Encodes the block and starts the next one.
    pub(crate) fn finish(&mut self, id: BlockId, seed: Seed) -> Vec<u8> {
        let (out, _) = self.block(id, seed);
        self.clear();
        out
    }
}

/// Returns a guess at the byte offset of an id in a block, assuming all ids have this length. Used for prefetching.
#[inline]
pub(super) fn likely_at(block: &[u8], position: u32, id_bytes: usize) -> usize {
    let count = count_of(block);
    let ids = block.len().saturating_sub(count.saturating_mul(id_bytes));
    ids + expected(position, count) * id_bytes
}

/// A validated block.
#[derive(Debug, Clone)]
pub(crate) struct BlockReader<'a> {
    columns: Columns<'a>,
    one_length: Option<usize>,
}

impl<'a> BlockReader<'a> {
    /// Validates the bytes stored under `id`. `class` is that of the run's generation.
    pub(crate) fn open(
        bytes: &'a [u8],
        id: BlockId,
        class: Class,
        seed: Seed,
    ) -> Result<Self, BlockDamage> {
        Self::of(Columns::open(bytes, Kind::Block, id, class, seed)?)
    }

    /// Opens bytes that [`open`](Self::open) has already validated.
    #[inline]
    pub(crate) fn open_checked(
        bytes: &'a [u8],
        id: BlockId,
        class: Class,
    ) -> Result<Self, BlockDamage> {
        let bytes = bytes.get(4..).unwrap_or_default();
        Self::of(Columns::parse(bytes, Kind::Block, id, class)?)
    }

    fn of(columns: Columns<'a>) -> Result<Self, BlockDamage> {
        let one_length = columns.one_length();
        // Reject ids of length zero: no id is empty, and otherwise a count of billions would need no bytes at all.
        let is_endless = one_length == Some(0) && columns.count > 0;
        if is_endless || columns.id_bytes() != Some(columns.rest.len()) {
            return Err(BlockDamage("its columns do not fit its length"));
        }
        Ok(Self { columns, one_length })
    }

    /// Finds an id, comparing byte for byte (I3). The search starts at `position`, the hash's estimate of where the
    /// id lies in the block, in units of 1/2^32 of its length.
    #[inline]
    pub(crate) fn find(&self, key: Key<'_>, position: u32) -> Option<Version> {
        Some(self.columns.version_at(self.index_of(key, position)?))
    }

    /// Finds a row as [`find`](Self::find) does; `None` also if this is a block of claims.
    pub(crate) fn find_row(&self, key: Key<'_>, position: u32) -> Option<(Version, ItemAt)> {
        let i = self.index_of(key, position)?;
        Some((self.columns.version_at(i), self.columns.item_at(i)?))
    }

    #[inline]
    fn index_of(&self, key: Key<'_>, position: u32) -> Option<usize> {
        let (columns, ids) = (&self.columns, self.columns.rest);
        match self.one_length {
            Some(len) if len != key.id.len() => None,
            Some(len) => {
                // Compare the last eight bytes as one integer: a register comparison rather than a call for each of
                // two hundred ids. The last bytes rather than the first, because ids often share a prefix.
                let tail = tail(key.id);
                let at = expected(position, columns.count);
                outward(at, columns.count).find(|i| {
                    let id = &ids[i * len..(i + 1) * len];
                    self::tail(id) == tail && id == key.id && columns.ns_at(*i) == key.ns
                })
            }
            None => {
                let mut at = 0;
                (0..columns.count).find(|i| {
                    let id = &ids[at..at + columns.len_at(*i)];
                    at += id.len();
                    id == key.id && columns.ns_at(*i) == key.ns
                })
            }
        }
    }

    /// Returns the number of entries.
    pub(super) fn count(&self) -> usize {
        self.columns.count
    }

    /// Iterates over all entries in hash order, with the locations of rows.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key<'a>, Version, Option<ItemAt>)> + '_ {
        let mut at = 0;
        (0..self.columns.count).map(move |i| {
            let id = &self.columns.rest[at..at + self.columns.len_at(i)];
            at += id.len();
            let key = Key { ns: self.columns.ns_at(i), id };
            (key, self.columns.version_at(i), self.columns.item_at(i))
        })
    }
}

/// Returns the last eight bytes of an id as an integer, or zero if it is shorter.
#[inline]
fn tail(id: &[u8]) -> u64 {
    id.last_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Fuzzing entry point: decodes bytes as a block, once as given and once with a valid checksum.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz_block(data: &[u8]) {
    let (id, seed) = (BlockId { run: 0, bucket: 0 }, Seed([7; 16]));
    let mut good = data.to_vec();
    if good.len() >= 4 {
        let sum = crc(seed, &good[4..]);
        good[..4].copy_from_slice(&sum.to_le_bytes());
    }
    for bytes in [data, &good] {
        if let Ok(reader) = BlockReader::open(bytes, id, Class(20), seed) {
            for (key, version, _) in reader.iter() {
                // No id is empty, so a lookup need not find an empty one.
                for position in [0, u32::MAX / 3, u32::MAX] {
                    let found = key.id.is_empty() || reader.find(key, position).is_some();
                    assert!(found, "what is listed is found");
                }
                let _ = version.generation().end();
            }
            reader.find(Key { ns: NsId(1), id: b"absent" }, 7);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{Timestamp, Ttl};

    const ID: BlockId = BlockId { run: 5, bucket: 6 };
    const SEED: Seed = Seed([4; 16]);

    fn block(entries: &[(u32, &[u8], Version)]) -> Vec<u8> {
        let mut writer = BlockWriter::default();
        for (ns, id, version) in entries {
            writer.push(Key { ns: NsId(*ns), id }, *version);
        }
        writer.finish(ID, SEED)
    }

    fn check(entries: &[(u32, &[u8], Version)]) -> usize {
        let bytes = block(entries);
        let class = entries.first().map_or(Class::FOREVER, |e| e.2.class);
        let reader = BlockReader::open(&bytes, ID, class, SEED).expect("just written");
        let back: Vec<_> = reader.iter().map(|(k, v, _)| (k.ns.0, k.id, v)).collect();
        assert_eq!(back, entries);
        for (ns, id, version) in entries {
            // The position affects only where the search starts, never the result.
            for position in [0, 1 << 31, u32::MAX] {
                assert_eq!(reader.find(Key { ns: NsId(*ns), id }, position), Some(*version));
                assert_eq!(reader.find(Key { ns: NsId(ns + 1), id }, position), None);
            }
        }
        assert_eq!(reader.find(Key { ns: NsId(0), id: b"absent" }, 1 << 31), None);
        bytes.len()
    }

    #[test]
    fn blocks_round_trip_in_every_shape() {
        let at = Timestamp::from_millis;
        let forever = Version::claim(at(1_700_000_000_000), Ttl::FOREVER);
        let day = Version::claim(at(1_700_000_000_000), Ttl::from_millis(86_400_000));
        let later = Version::claim(at(1_700_000_000_999), Ttl::from_millis(86_400_000));
        check(&[]);
        check(&[(0, b"a", forever)]);
        check(&[(0, b"aa", day), (0, b"bb", later), (0, b"cc", day)]);
        check(&[(0, b"a", day), (7, b"a", later), (0, b"", day.tombstone(at(1_700_000_000_001)))]);
        let count = if cfg!(miri) { 20 } else { 180 };
        let ids: Vec<[u8; 16]> = (0..count).map(|i| [i; 16]).collect();
        let many: Vec<_> = ids.iter().map(|id| (0, &id[..], forever)).collect();
        let bytes = check(&many);
        assert!(cfg!(miri) || bytes < 180 * 17, "little more than the ids themselves");
    }

    #[test]
    fn i10_damaged_misplaced_and_foreign_blocks_are_noticed() {
        let version = Version::claim(Timestamp::from_millis(5), Ttl::from_millis(9));
        let good = block(&[(0, b"id-1", version), (3, b"id-22", version)]);
        let open =
            |bytes: &[u8], id, seed| BlockReader::open(bytes, id, version.class, seed).is_ok();
        assert!(open(&good, ID, SEED));
        assert!(!open(&good, BlockId { run: 4, ..ID }, SEED));
        assert!(!open(&good, BlockId { bucket: 7, ..ID }, SEED));
        assert!(!open(&good, ID, Seed([9; 16])));
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(!open(&bad, ID, SEED), "bit {bit}");
        }
        for len in 0..good.len() {
            assert!(!open(&good[..len], ID, SEED));
        }
    }

    /// Arbitrary bytes under a valid checksum give a result or an error, never a panic.
    #[test]
    fn i10_hostile_columns_do_not_panic() {
        let version = Version::claim(Timestamp::from_millis(5), Ttl::from_millis(9));
        let good = block(&[(0, b"id-1", version), (3, b"id-22", version)]);
        for at in 4..good.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                let sum = crc(SEED, &bad[4..]);
                bad[..4].copy_from_slice(&sum.to_le_bytes());
                if let Ok(reader) = BlockReader::open(&bad, ID, version.class, SEED) {
                    reader.find(Key { ns: NsId(0), id: b"id-1" }, 0);
                    reader.iter().for_each(drop);
                }
            }
        }
    }
}
