//! A locator: the entries of one block without their ids, each with the location of its id in the log instead.
//!
//! Less than half the size of its block and parallel to it: same run, same bucket, same entries in the same order,
//! written in the same pass. A duplicate is recognised by comparing byte for byte (I3) with the id in the log, and an
//! id whose tag is not among the entries is not in the block.
//!
//! The log bytes are read without verifying the record's checksum, which may cover a whole batch. A tag therefore
//! includes a checksum of the id, so an id that rotted into another one is not accepted. A tag that matches while the
//! id does not proves nothing: read the block.
//!
//! Layout: the head and columns of `columns.rs`, then:
//!
//! ```text
//! block    u32   the checksum of the block
//! segment  u32   the first segment that a location names
//! tags     u16 each, a checksum of the id and eight bits of its hash
//! locations of the width in the head: segment minus the first, times 2^24, plus offset, plus one; zero: unknown
//! ```

use crate::blocks::BlockId;
use crate::codec::Reader;
use crate::expiry::{Class, Version};
use crate::id::{IdHash, Key, Seed};
use crate::limits::SEGMENT_BYTES;
use crate::run::columns::{
    BlockDamage, Columns, Entries, Kind, expected, outward, put_checksum, put_column, uint, width,
};
use crate::wal::{IdsInLog, Lsn};

/// Bits of an offset in a segment.
const OFFSET_BITS: u32 = 24;
const _: () = assert!(SEGMENT_BYTES as usize <= 1 << OFFSET_BITS, "an offset has its bits");

/// Collects locations; [`BlockWriter`](crate::run::BlockWriter) collects the rest.
#[derive(Debug, Default)]
pub(super) struct LocatorWriter {
    tags: Vec<u16>,
    locations: Vec<Option<Lsn>>,
}

impl LocatorWriter {
    pub(super) fn push(&mut self, key: Key<'_>, hash: IdHash, location: Option<Lsn>) {
        self.tags.push(tag(key, hash));
        self.locations.push(location.filter(|location| location.offset() < 1 << OFFSET_BITS));
    }

    /// Encodes the locator of these entries and starts the next one. `block` is the block with the same entries.
    pub(super) fn finish(&mut self, entries: &Entries, seed: Seed, block: &[u8]) -> Vec<u8> {
        debug_assert_eq!(entries.len(), self.locations.len(), "one location for each entry");
        let first =
            self.locations.iter().flatten().map(|location| location.segment()).min().unwrap_or(0);
        let number = |location: &Option<Lsn>| {
            let from_first = |location: Lsn| u64::from(location.segment() - first) << OFFSET_BITS;
            location.map_or(0, |location| (from_first(location) | u64::from(location.offset())) + 1)
        };
        let width = width(self.locations.iter().map(number).max().unwrap_or(0));
        let more = 8 + self.tags.len() * (2 + width) + 8;
        let mut out = entries.of_locator(block, width as u8, more);
        out.extend_from_slice(&block[..4]);
        out.extend_from_slice(&first.to_le_bytes());
        self.tags.iter().for_each(|tag| out.extend_from_slice(&tag.to_le_bytes()));
        put_column(&mut out, width, self.locations.iter().map(number));
        put_checksum(seed, &mut out);
        self.tags.clear();
        self.locations.clear();
        out
    }
}

/// Tells the ids of a locator apart, and an id from copies of it with a few flipped bits.
fn tag(key: Key<'_>, hash: IdHash) -> u16 {
    u16::from_le_bytes([crc8(key.id), hash.tag()])
}

/// CRC-8 with the polynomial 0x2f: detects one flipped bit in any id, and three in up to 14 bytes. (Koopman and
/// Chakravarty, 2004.) Takes eight bytes at once, whose tables do not wait for each other.
fn crc8(bytes: &[u8]) -> u8 {
    let (eights, rest) = bytes.as_chunks::<8>();
    let crc = eights.iter().fold(0xff, |crc, [first, others @ ..]| {
        let first = CRC8[7][usize::from(crc ^ first)];
        (CRC8[..7].iter().rev().zip(others))
            .fold(first, |crc, (table, byte)| crc ^ table[usize::from(*byte)])
    });
    rest.iter().fold(crc, |crc, byte| CRC8[0][usize::from(crc ^ byte)])
}

/// What a byte does to the checksum with that many bytes after it.
const CRC8: [[u8; 256]; 8] = {
    let mut tables = [crc8_of_bytes(); 8];
    let mut after = 1;
    while after < tables.len() {
        let mut i = 0;
        while i < 256 {
            tables[after][i] = tables[0][tables[after - 1][i] as usize];
            i += 1;
        }
        after += 1;
    }
    tables
};

const fn crc8_of_bytes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut i = 0;
    while i < table.len() {
        let (mut crc, mut bit) = (i as u8, 0);
        while bit < 8 {
            crc = if crc & 0x80 == 0 { crc << 1 } else { (crc << 1) ^ 0x2f };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
}

/// The result of looking up an id in a locator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Probe {
    /// The id is in the run.
    Found(Version),
    /// The id is not in the run.
    Absent,
    /// A candidate is no longer in the log, or is damaged there: read the block.
    Unknown,
}

/// A validated locator.
#[derive(Debug)]
pub(super) struct LocatorReader<'a> {
    columns: Columns<'a>,
    block: u32,
    first: u32,
    tags: &'a [u8],
    locations: &'a [u8],
}

impl<'a> LocatorReader<'a> {
    /// Validates the bytes stored under `id`. `class` is that of the run's generation.
    pub(super) fn open(
        bytes: &'a [u8],
        id: BlockId,
        class: Class,
        seed: Seed,
    ) -> Result<Self, BlockDamage> {
        let columns = Columns::open(bytes, Kind::Locator, id, class, seed)?;
        let (count, width) = (columns.count, columns.location_width);
        let mut r = Reader::new(columns.rest);
        let mut parse = || {
            let (block, first) = (r.u32()?, r.u32()?);
            let tags = r.bytes(count.checked_mul(2)?)?;
            let locations = r.bytes(count.checked_mul(width)?)?;
            r.is_empty().then_some((block, first, tags, locations))
        };
        let parsed = parse().ok_or(BlockDamage("its locations do not fit its length"));
        parsed.map(|(block, first, tags, locations)| Self {
            columns,
            block,
            first,
            tags,
            locations,
        })
    }

    /// Returns whether it was written together with this block: a block healed since then may have other entries.
    pub(super) fn is_of(&self, block: &[u8]) -> bool {
        block.get(..4) == Some(&self.block.to_le_bytes()[..])
    }

    pub(super) fn count(&self) -> usize {
        self.columns.count
    }

    /// Looks up an id. The search starts at `position`, the hash's estimate in units of 1/2^32 of the length.
    pub(super) fn find(&self, key: Key<'_>, hash: IdHash, position: u32, ids: &IdsInLog) -> Probe {
        let (columns, tag) = (&self.columns, tag(key, hash).to_le_bytes());
        let at = expected(position, columns.count);
        let may_be = |i: &usize| {
            self.tags[2 * i..2 * i + 2] == tag
                && columns.len_at(*i) == key.id.len()
                && columns.ns_at(*i) == key.ns
        };
        let mut probe = Probe::Absent;
        for i in outward(at, columns.count).filter(may_be) {
            match self.location_at(i).and_then(|location| ids.stands_before(location, key.id)) {
                Some(true) => return Probe::Found(columns.version_at(i)),
                Some(false) | None => probe = Probe::Unknown,
            }
        }
        probe
    }

    pub(super) fn location_at(&self, i: usize) -> Option<Lsn> {
        let width = self.columns.location_width;
        let number = uint(&self.locations[i * width..(i + 1) * width]).checked_sub(1)?;
        let segment = self.first.checked_add(u32::try_from(number >> OFFSET_BITS).ok()?)?;
        Some(Lsn::new(segment, number as u32 & ((1 << OFFSET_BITS) - 1)))
    }
}

/// Fuzzing entry point: decodes bytes as a locator, once as given and once with a valid checksum.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz_locator(data: &[u8]) {
    use crate::disk::sim::SimDisk;
    let (id, seed) = (BlockId { run: 0, bucket: 0 }, Seed([7; 16]));
    let mut good = data.to_vec();
    if good.len() >= 4 {
        put_checksum(seed, &mut good);
    }
    // The log is empty, so an id is either absent or unknown.
    let ids = IdsInLog::new(crate::sync::Arc::new(SimDisk::new()), "/log".into());
    let key = Key { ns: crate::id::NsId(0), id: b"fuzzed-id-of-16b" };
    let hash = crate::id::IdHasher::new(seed).hash(key);
    for bytes in [data, &good] {
        if let Ok(reader) = LocatorReader::open(bytes, id, Class(20), seed) {
            (0..reader.count()).for_each(|i| _ = reader.location_at(i));
            for position in [0, u32::MAX / 3, u32::MAX] {
                let probe = reader.find(key, hash, position, &ids);
                assert!(!matches!(probe, Probe::Found(_)), "nothing is there");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Disk;
    use crate::disk::sim::SimDisk;
    use crate::expiry::Version;
    use crate::id::{IdHasher, NsId};
    use crate::run::block::BlockWriter;
    use crate::sync::Arc;
    use crate::time::{Timestamp, Ttl};
    use std::path::{Path, PathBuf};

    /// Bit by bit, as FORMATS.md has it.
    #[test]
    fn the_checksum_of_an_id_is_the_same_however_many_bytes_are_taken_at_once() {
        let slow = |bytes: &[u8]| {
            bytes.iter().fold(0xff_u8, |crc, byte| {
                (0..8).fold(crc ^ byte, |crc, _| (crc << 1) ^ if crc >= 0x80 { 0x2f } else { 0 })
            })
        };
        let bytes: Vec<u8> = (0..=255_u8).map(|n| n.wrapping_mul(37) ^ 0x5a).collect();
        for len in 0..=64 {
            for at in [0, 1, 77, 150] {
                let id = &bytes[at..at + len];
                assert_eq!(crc8(id), slow(id), "{id:?}");
            }
        }
    }

    const ID: BlockId = BlockId { run: 5, bucket: 0 };
    const SEED: Seed = Seed([4; 16]);

    /// A locator and the log it refers to; each segment holds a few ids.
    struct Scene {
        disk: SimDisk,
        ids: IdsInLog,
        hasher: IdHasher,
        locator: Vec<u8>,
        block: Vec<u8>,
        keys: Vec<(u32, Vec<u8>)>,
        versions: Vec<Version>,
        locations: Vec<Option<Lsn>>,
    }

    fn segment(number: u32) -> PathBuf {
        PathBuf::from(format!("/log/{number:010}.seg"))
    }

    impl Scene {
        /// Every fifth id has no location.
        fn new(count: u32, width: usize) -> Self {
            let disk = SimDisk::new();
            disk.create_dir_all(Path::new("/log")).expect("makes a folder");
            let hasher = IdHasher::new(SEED);
            let mut keys: Vec<(u32, Vec<u8>)> = (0..count)
                .map(|n| (n % 3, n.to_le_bytes().repeat(1 + n as usize % width)))
                .collect();
            keys.sort_by_key(|(ns, id)| hasher.hash(Key { ns: NsId(*ns), id }).order());
            let (mut writer, mut locations) = (BlockWriter::default(), LocatorWriter::default());
            let mut all = Vec::new();
            let mut versions = Vec::new();
            for (n, (ns, id)) in keys.iter().enumerate() {
                let number = 7 + n as u32 / 10;
                let file = disk.open(&segment(number));
                let file = file.or_else(|_| disk.create_new(&segment(number))).expect("a file");
                let at = file.len().expect("has a length").max(4096);
                file.write_all_at(id, at).expect("writes");
                let key = Key { ns: NsId(*ns), id };
                let version = Version::claim(
                    Timestamp::from_millis(1_000 + n as u64),
                    Ttl::from_millis(60_000),
                );
                let location = Lsn::new(number, at as u32 + id.len() as u32);
                all.push((n % 5 != 0).then_some(location));
                versions.push(version);
                writer.push(key, version);
                locations.push(key, hasher.hash(key), all[n]);
            }
            let (block, entries) = writer.block(ID, SEED);
            let locator = locations.finish(entries, SEED, &block);
            let ids = IdsInLog::new(Arc::new(disk.clone()), PathBuf::from("/log"));
            Self { disk, ids, hasher, locator, block, keys, versions, locations: all }
        }

        fn reader(&self) -> LocatorReader<'_> {
            LocatorReader::open(&self.locator, ID, self.versions[0].class, SEED).expect("whole")
        }

        fn find(&self, ns: u32, id: &[u8]) -> Probe {
            let key = Key { ns: NsId(ns), id };
            let hash = self.hasher.hash(key);
            self.reader().find(key, hash, hash.position_in_block(1), &self.ids)
        }
    }

    #[test]
    fn i3_ids_are_recognised_where_they_stand_in_the_log() {
        for (count, width) in [(0, 1), (1, 1), (20, 1), (if cfg!(miri) { 20 } else { 180 }, 40)] {
            let scene = Scene::new(count, width);
            if count == 0 {
                assert_eq!(scene.locator.len(), crate::run::columns::HEAD + 8, "no columns");
                continue;
            }
            for (n, (ns, id)) in scene.keys.iter().enumerate() {
                let location = scene.locations[n];
                assert_eq!(scene.reader().location_at(n), location);
                let probe = if location.is_some() {
                    Probe::Found(scene.versions[n])
                } else {
                    Probe::Unknown
                };
                assert_eq!(scene.find(*ns, id), probe, "id {n}");
                assert_eq!(scene.find(ns + 3, id), Probe::Absent, "another namespace");
                let (here, other) = (NsId(*ns), NsId(ns + 3));
                let hash = scene.hasher.hash(Key { ns: here, id });
                let probe = scene.reader().find(Key { ns: other, id }, hash, 0, &scene.ids);
                assert_eq!(probe, Probe::Absent, "another namespace of the same hash");
            }
            for n in 1_000..1_100u32 {
                assert_eq!(scene.find(n % 3, &n.to_le_bytes()), Probe::Absent);
            }
            assert!(scene.reader().is_of(&scene.block));
            assert!(!scene.reader().is_of(b"another block"));
        }
    }

    #[test]
    fn i10_i11_what_is_gone_or_damaged_in_the_log_is_left_to_the_block() {
        let scene = Scene::new(if cfg!(miri) { 6 } else { 60 }, 1);
        for (n, (ns, id)) in scene.keys.iter().enumerate() {
            let Some(location) = scene.locations[n] else { continue };
            // After a bit flip in the log neither the id nor what it became is found.
            let file = scene.disk.open(&segment(location.segment())).expect("is there");
            for bit in 0..id.len() * 8 {
                let mut rotten = id.clone();
                rotten[bit / 8] ^= 1 << (bit % 8);
                let at = u64::from(location.offset()) - id.len() as u64;
                file.write_all_at(&rotten, at).expect("writes");
                assert_eq!(scene.find(*ns, id), Probe::Unknown, "id {n}, bit {bit}");
                let is_another = scene.keys.iter().any(|key| *key == (*ns, rotten.clone()));
                if !is_another {
                    let probe = scene.find(*ns, &rotten);
                    assert!(!matches!(probe, Probe::Found(_)), "id {n}, bit {bit}");
                }
                file.write_all_at(id, at).expect("writes");
            }
            assert_eq!(scene.find(*ns, id), Probe::Found(scene.versions[n]));
        }
        // In a long id, flip a bit of the last byte.
        let long = Scene::new(40, 40);
        for (n, (ns, id)) in long.keys.iter().enumerate() {
            let Some(location) = long.locations[n] else { continue };
            let file = long.disk.open(&segment(location.segment())).expect("is there");
            let last = id.last().expect("not empty") ^ 1;
            file.write_all_at(&[last], u64::from(location.offset()) - 1).expect("writes");
            assert_eq!(long.find(*ns, id), Probe::Unknown, "id {n} of {} bytes", id.len());
        }
        let (n, location) = (1, scene.locations[1].expect("has a location"));
        scene.disk.remove(&segment(location.segment())).expect("removes");
        scene.ids.forget(location.segment());
        assert_eq!(scene.find(scene.keys[n].0, &scene.keys[n].1), Probe::Unknown);
    }

    #[test]
    fn i10_damaged_misplaced_and_foreign_locators_are_noticed() {
        let scene = Scene::new(4, 2);
        let class = scene.versions[0].class;
        let open = |bytes: &[u8], id, seed| LocatorReader::open(bytes, id, class, seed).is_ok();
        let good = &scene.locator;
        assert!(open(good, ID, SEED));
        assert!(!open(good, BlockId { run: 4, ..ID }, SEED));
        assert!(!open(good, BlockId { bucket: 7, ..ID }, SEED));
        assert!(!open(good, ID, Seed([9; 16])));
        assert!(!open(&scene.block, ID, SEED), "a block is no locator");
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
    fn i10_hostile_locators_do_not_panic() {
        let scene = Scene::new(4, 2);
        for at in 4..scene.locator.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bad = scene.locator.clone();
                bad[at] = value;
                put_checksum(SEED, &mut bad);
                let opened = LocatorReader::open(&bad, ID, scene.versions[0].class, SEED);
                let Ok(reader) = opened else { continue };
                for (ns, id) in &scene.keys {
                    let key = Key { ns: NsId(*ns), id };
                    reader.find(key, scene.hasher.hash(key), 0, &scene.ids);
                }
                (0..reader.count()).for_each(|i| _ = reader.location_at(i));
            }
        }
    }
}
