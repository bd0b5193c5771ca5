//! The payload of a commit record: typed entries of any namespaces and families, all or nothing.
//!
//! ```text
//! 1 version  ns, rank, deadline + 1 or 0 for never, class u8, step, length, id
//! 2 row      crc u32, ns, rank, deadline + 1, class u8, step, length, id, length, value
//! ```
//!
//! Each entry begins with its tag, one byte; integers are varints unless noted. The checksum of a row covers its tag
//! and what follows the checksum. It lets a value be read without the rest of a record that may be megabytes, and it
//! does not depend on where the row is: key and rank say which row it is, and no two writes have the same rank. So a
//! commit is encoded before its location is known, outside of the log's lock, and a row is copied byte for byte.

use crate::codec::{Reader, put_varint};
use crate::expiry::{GenId, Tally, Version};
use crate::id::{Key, NsId};
use crate::limits;
use crate::wal::item::{Item, put_version, take_id, take_version};
use crate::wal::joined_crc::LONG;
use crate::wal::version;
use crate::wal::{ItemAt, Lsn};

const VERSION: u8 = 1;
const ROW: u8 = 2;

/// Bytes of a row before what its checksum covers, except for the tag.
const CRC_AT: usize = 1;
const CRC_END: usize = CRC_AT + 4;

/// Largest size of a row's item besides its id and its value.
const ROW_HEAD_MAX: usize = 56;

/// As [`ROW_HEAD_MAX`], but what it is for nearly all rows.
const ROW_HEAD_USUAL: usize = 28;

/// A commit being put together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Commit {
    bytes: Vec<u8>,
    /// End and size of each entry, in order.
    entries: Vec<(usize, u32)>,
    /// The bytes of the entries by generation. Their ends may be on different axes, so none of them stands for all.
    tally: Tally,
    /// The generation of the first entry.
    first: Option<GenId>,
    /// Bytes of tombstones of rows.
    tombstones: u64,
    /// The checksum of a long payload.
    checksum: Option<u32>,
}

impl Commit {
    /// Returns an empty commit with room for so many entries, with so many bytes of ids and values.
    pub(crate) fn with_room(entries: usize, bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(entries * ROW_HEAD_USUAL + bytes + ROW_HEAD_MAX),
            entries: Vec::with_capacity(entries),
            ..Self::default()
        }
    }

    /// Adds a version of an id.
    pub(crate) fn push_version(&mut self, key: Key<'_>, version: Version) {
        let begin = self.bytes.len();
        self.bytes.push(VERSION);
        put_version(&mut self.bytes, key.ns, version);
        put_varint(&mut self.bytes, key.id.len() as u64);
        self.bytes.extend_from_slice(key.id);
        self.end_entry(begin, version.generation());
    }

    /// Adds a row; a tombstone has an empty value.
    pub(crate) fn push_row(&mut self, key: Key<'_>, version: Version, value: &[u8]) {
        let begin = self.bytes.len();
        self.bytes.reserve(ROW_HEAD_MAX + key.id.len() + value.len());
        self.bytes.push(ROW);
        self.bytes.extend_from_slice(&[0; CRC_END - CRC_AT]);
        put_version(&mut self.bytes, key.ns, version);
        put_varint(&mut self.bytes, key.id.len() as u64);
        self.bytes.extend_from_slice(key.id);
        put_varint(&mut self.bytes, value.len() as u64);
        self.bytes.extend_from_slice(value);
        let item = &mut self.bytes[begin..];
        let crc = crc(item);
        item[CRC_AT..CRC_END].copy_from_slice(&crc.to_le_bytes());
        if version.is_tombstone() {
            self.tombstones += (self.bytes.len() - begin) as u64;
        }
        self.end_entry(begin, version.generation());
    }

    fn end_entry(&mut self, begin: usize, generation: GenId) {
        self.checksum = None;
        self.entries.push((self.bytes.len(), (self.bytes.len() - begin) as u32));
        self.tally.add(generation, (self.bytes.len() - begin) as u64);
        self.first.get_or_insert(generation);
    }

    /// Computes the checksum of a long payload ahead of the append, which holds the lock of the log.
    pub(crate) fn seal(&mut self) {
        self.checksum = (self.bytes.len() >= LONG).then(|| crc32c::crc32c(&self.bytes));
    }

    pub(super) fn checksum(&self) -> Option<u32> {
        self.checksum
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn tombstones(&self) -> u64 {
        self.tombstones
    }

    /// Adds the bytes of its record to what a segment holds: those of each entry to the generation of that entry, and the
    /// head of the record to that of the first.
    pub(super) fn count(&self, tally: &mut Tally, record_bytes: u64) {
        let head = record_bytes - self.bytes.len() as u64;
        tally.add(self.first.unwrap_or(GenId::FOREVER), head);
        tally.add_all(&self.tally);
    }

    /// Returns where each entry is once the record that ends at `end` has been appended.
    pub(crate) fn places(&self, end: Lsn) -> impl Iterator<Item = ItemAt> + '_ {
        let len = self.bytes.len();
        self.entries.iter().map(move |(entry_end, bytes)| ItemAt {
            end: Lsn(end.0 - (len - entry_end) as u64),
            len: *bytes,
        })
    }
}

fn crc(item: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&item[..CRC_AT]), &item[CRC_END..])
}

/// Returns whether a segment of this version may hold entries that begin with this tag.
pub(super) fn is_entry(tag: u8, version: u16) -> bool {
    version >= version::OLDEST && matches!(tag, VERSION | ROW)
}

/// Takes the next entry of a segment of this version; `None` if it is not one that this release knows, whole and with a
/// valid checksum.
pub(super) fn take_entry<'a>(r: &mut Reader<'a>, segment_version: u16) -> Option<Item<'a>> {
    take(r, segment_version, true)
}

/// Takes the next entry as [`take_entry`] does, for who has done that before: its checksum is not looked at again.
pub(super) fn take_entry_again<'a>(r: &mut Reader<'a>, segment_version: u16) -> Option<Item<'a>> {
    take(r, segment_version, false)
}

fn take<'a>(r: &mut Reader<'a>, segment_version: u16, is_first: bool) -> Option<Item<'a>> {
    let all = r.rest();
    match r.u8()? {
        tag if !is_entry(tag, segment_version) => None,
        VERSION => {
            let (ns, version) = take_version(r)?;
            let id = take_id(r)?;
            (!ns.is_row()).then_some(Item::Version(Key { ns, id }, version))
        }
        ROW => {
            let stored = r.u32()?;
            let (ns, version) = take_version(r)?;
            let id = take_id(r)?;
            let value_len = usize::try_from(r.varint()?).ok()?;
            let value = r.bytes(value_len)?;
            let item = &all[..all.len() - r.rest().len()];
            let len = u32::try_from(item.len()).ok()?;
            let sound = is_row_of(ns)
                && version.step <= 1
                && version.rank < limits::SEQUENCE_END
                && (!is_first || stored == crc(item));
            sound.then_some(Item::Row { key: Key { ns, id }, version, value, len })
        }
        _ => None,
    }
}

/// Puts a valid checksum into each row of a payload whose fields can be told apart, so that fuzzing gets past it.
#[cfg(feature = "fuzzing")]
pub(super) fn fix_checksums(payload: &mut [u8]) {
    let mut at = 0;
    while let Some(len) = entry_len(&payload[at..]) {
        let item = &mut payload[at..at + len];
        if item[0] == ROW {
            let crc = crc(item);
            item[CRC_AT..CRC_END].copy_from_slice(&crc.to_le_bytes());
        }
        at += len;
    }
}

/// Returns the size of the entry at the start, whatever its checksum.
#[cfg(feature = "fuzzing")]
fn entry_len(bytes: &[u8]) -> Option<usize> {
    let mut r = Reader::new(bytes);
    let tag = r.u8()?;
    if tag == ROW {
        r.u32()?;
    }
    take_version(&mut r)?;
    take_id(&mut r)?;
    if tag == ROW {
        let value_len = usize::try_from(r.varint()?).ok()?;
        r.bytes(value_len)?;
    }
    Some(bytes.len() - r.rest().len())
}

fn is_row_of(ns: NsId) -> bool {
    ns.is_row() && !ns.is_hashed()
}

/// Decodes the item of one row, as read on its own from a segment of this version.
pub(crate) fn decode_row(item: &[u8], segment_version: u16) -> Option<(Key<'_>, Version, &[u8])> {
    let mut r = Reader::new(item);
    match take_entry(&mut r, segment_version)? {
        Item::Row { key, version, value, .. } if r.is_empty() => Some((key, version, value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expiry::{Class, Kind};
    use crate::id::Family;
    use crate::time::Timestamp;

    fn row(sequence: u64) -> Version {
        Version::row(sequence, Kind::Value, Timestamp::NEVER, Class::FOREVER)
    }

    fn key(id: &[u8]) -> Key<'_> {
        Key { ns: NsId(7).rows(Family(3)), id }
    }

    fn decode_row(item: &[u8]) -> Option<(Key<'_>, Version, &[u8])> {
        super::decode_row(item, version::VERSION)
    }

    fn item(value: &[u8]) -> Vec<u8> {
        let mut commit = Commit::default();
        commit.push_row(key(b"k"), row(9), value);
        commit.bytes
    }

    #[test]
    fn rows_and_versions_come_back_in_order() {
        let claim = Version::claim(Timestamp::from_millis(5), crate::time::Ttl::from_millis(10));
        let id = Key { ns: NsId(2), id: b"evt" };
        let grave = Version::row(4, Kind::Tombstone, Timestamp::NEVER, Class::FOREVER);
        let mut commit = Commit::default();
        commit.push_row(key(b"a"), row(3), b"value");
        commit.push_version(id, claim);
        commit.push_row(key(b"b"), grave, b"");
        let mut r = Reader::new(commit.bytes());
        let mut entries = Vec::new();
        while !r.is_empty() {
            entries.push(take_entry(&mut r, version::VERSION).expect("just written"));
        }
        let places: Vec<ItemAt> = commit.places(Lsn::new(1, 5000)).collect();
        assert_eq!(places.last().map(|at| at.end), Some(Lsn::new(1, 5000)));
        let len = |n: usize| places[n].len;
        assert_eq!(
            entries,
            [
                Item::Row { key: key(b"a"), version: row(3), value: b"value", len: len(0) },
                Item::Version(id, claim),
                Item::Row { key: key(b"b"), version: grave, value: b"", len: len(2) },
            ]
        );
        assert_eq!(places[0].end, Lsn::new(1, 5000 - len(1) - len(2)));
        let mut tally = Tally::default();
        commit.count(&mut tally, commit.bytes().len() as u64 + 7);
        let late = Timestamp::from_millis(u64::MAX - 1);
        let forever = u64::from(7 + len(0) + len(2));
        assert_eq!((tally.live(late), tally.dead(late)), (forever, u64::from(len(1))));
    }

    #[test]
    fn i11_every_flipped_bit_and_every_cut_of_a_row_is_noticed() {
        let good = item(b"the value of a row");
        assert_eq!(decode_row(&good), Some((key(b"k"), row(9), &b"the value of a row"[..])));
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode_row(&bad), None, "bit {bit}");
        }
        for len in 0..good.len() {
            assert_eq!(decode_row(&good[..len]), None);
        }
        assert_eq!(decode_row(&[&good[..], b"x"].concat()), None);
        let older = super::decode_row(&good, version::OLDEST - 1);
        assert_eq!(older, None, "there were no rows before");
    }

    #[test]
    fn the_head_of_a_row_is_bounded() {
        let longest = Version {
            rank: u64::MAX,
            deadline: Timestamp::from_millis(u64::MAX - 1),
            class: Class(63),
            step: 1,
        };
        let ns = NsId(NsId::MAX).rows(Family(Family::MAX));
        let mut commit = Commit::default();
        commit.push_row(Key { ns, id: &[1; 1024] }, longest, &vec![0; 1 << 22]);
        assert!(commit.bytes().len() <= ROW_HEAD_MAX + 1024 + (1 << 22));
    }
}
