//! A segment: one preallocated file of the log.
//!
//! ```text
//! offset     0  magic "FSLG", version u16, zero u16, number u32, zero u32, base time u64 (ms),
//!               seed 16 bytes, boot id 16 bytes, crc u32 over the 56 bytes before it
//! offset   512  watermark: lsn u64, crc u32 over it
//! offset  4096  records (record.rs), then zeros
//! ```
//!
//! The watermark records how far the log was known to be on disk. It is written after a sync and never synced itself,
//! so it is true whenever it is present. Recovery uses it to tell a torn tail (after it: cut) from damage (before it:
//! an error, I11). It has its own sector, so that tearing it cannot hurt the header.
//!
//! Every segment holds the seed, so that the log alone is enough to rebuild a store.

use crate::codec::{Reader, envelope};
use crate::disk::{BootId, Disk, DiskFile};
use crate::error::{Error, Result};
use crate::id::{IdHasher, Key, NsId, Seed};
use crate::sync::Arc;
use crate::time::Timestamp;
use crate::wal::Lsn;
use crate::wal::record::{self, Found, RawRecord, RecordContext, RecordFormat};
use crate::wal::version::{NEWEST, OLDEST};
use std::path::{Path, PathBuf};

pub(crate) const MAGIC: [u8; 4] = *b"FSLG";
/// Offset of the first record.
pub(crate) const DATA_START: u32 = 4096;
const WATERMARK_AT: u64 = 512;
const HEAD_BYTES: usize = 60;
/// The header of version 1, which had no boot id.
const HEAD_BYTES_BEFORE_RELEASE: usize = 44;
const SUFFIX: &str = "seg";

/// A segment's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// The format of its records.
    pub(crate) version: u16,
    pub(crate) number: u32,
    pub(crate) base: Timestamp,
    pub(crate) seed: Seed,
    /// The boot of the machine in which it was created.
    pub(crate) boot: BootId,
}

impl Header {
    pub(crate) const BYTES: usize = HEAD_BYTES;

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD_BYTES);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&self.version.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.base.as_millis().to_le_bytes());
        out.extend_from_slice(&self.seed.0);
        out.extend_from_slice(&self.boot);
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    pub(crate) fn decode(path: &Path, bytes: &[u8]) -> Result<Self> {
        let damaged = |what: &str| Error::corrupt(path, 0, what);
        let is_before_release = || {
            let head = bytes.get(..HEAD_BYTES_BEFORE_RELEASE)?;
            let (head, crc) = head.split_last_chunk::<4>()?;
            let is_first = head.starts_with(&MAGIC) && head.get(4..6) == Some(&[1, 0]);
            Some(is_first && crc32c::crc32c(head).to_le_bytes() == *crc)
        };
        if is_before_release() == Some(true) {
            envelope::check_version(path, 1, OLDEST..=NEWEST)?;
        }
        let head =
            bytes.get(..HEAD_BYTES).ok_or_else(|| damaged("the segment ends in its header"))?;
        let mut r = Reader::new(head);
        let mut field = || -> Option<(Self, [u8; 4], u32)> {
            let magic = r.array()?;
            let version = r.u16()?;
            let _zero = r.u16()?;
            let number = r.u32()?;
            let _zero = r.u32()?;
            let base = Timestamp::from_millis(r.u64()?);
            let (seed, boot) = (Seed(r.array()?), r.array()?);
            Some((Self { version, number, base, seed, boot }, magic, r.u32()?))
        };
        let (header, magic, crc) =
            field().ok_or_else(|| damaged("the segment ends in its header"))?;
        if magic != MAGIC || crc32c::crc32c(&head[..HEAD_BYTES - 4]) != crc {
            return Err(damaged("the header of the segment does not match its checksum"));
        }
        envelope::check_version(path, header.version, OLDEST..=NEWEST)?;
        Ok(header)
    }

    /// Restores a damaged header if the result is certain.
    ///
    /// Number and seed are known from elsewhere, so only base time, boot and version are lost, and the checksum finds a
    /// flipped bit in one of them unless it is damaged too.
    pub(crate) fn restore(number: u32, seed: Seed, damaged: &[u8]) -> Option<Self> {
        let crc = damaged.get(HEAD_BYTES - 4..HEAD_BYTES)?;
        let base = u64::from_le_bytes(damaged.get(16..24)?.try_into().ok()?);
        let boot = u128::from_le_bytes(damaged.get(40..56)?.try_into().ok()?);
        let of = |version, base, boot: u128| Self {
            version,
            number,
            base: Timestamp::from_millis(base),
            seed,
            boot: boot.to_le_bytes(),
        };
        let bases = (0..u64::BITS).map(|bit| (base ^ (1 << bit), boot));
        let boots = (0..u128::BITS).map(|bit| (base, boot ^ (1 << bit)));
        let guesses = std::iter::once((base, boot)).chain(bases).chain(boots);
        let versions = OLDEST..=NEWEST;
        let mut all = versions
            .clone()
            .flat_map(|version| guesses.clone().map(move |(base, boot)| of(version, base, boot)));
        if let Some(header) = all.find(|header| header.encode().ends_with(crc)) {
            return Some(header);
        }
        // Everything but the checksum is intact, so the checksum itself is damaged.
        let flipped = |a: &[u8], b: &[u8]| -> u32 {
            a.iter().zip(b).map(|(a, b)| (a ^ b).count_ones()).sum()
        };
        versions.map(|version| of(version, base, boot)).find(|whole| {
            let encoded = whole.encode();
            damaged.get(..HEAD_BYTES - 4) == encoded.get(..HEAD_BYTES - 4)
                && flipped(&encoded[HEAD_BYTES - 4..], crc) <= 1
        })
    }

    /// Returns what all records of the segment share.
    pub(super) fn format(&self) -> RecordFormat {
        RecordFormat { version: self.version, base: self.base }
    }

    fn context(&self, salt: u32, offset: u32) -> RecordContext {
        RecordContext { format: self.format(), salt, offset }
    }

    /// Seeds the checksum of every record, so that records of another store or segment fail it.
    fn salt(&self) -> u32 {
        let key = Key { ns: NsId(self.number), id: b"segment" };
        IdHasher::new(self.seed).hash(key).table() as u32
    }
}

/// An open segment.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) header: Header,
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn DiskFile>,
    salt: u32,
}

impl Segment {
    pub(crate) fn path(dir: &Path, number: u32) -> PathBuf {
        dir.join(format!("{number:010}.{SUFFIX}"))
    }

    /// Returns the number in a segment's file name; `None` for other files.
    pub(crate) fn number_of(path: &Path) -> Option<u32> {
        let stem = path.file_name()?.to_str()?.strip_suffix(SUFFIX)?.strip_suffix('.')?;
        (stem.len() == 10).then(|| stem.parse().ok()).flatten()
    }

    /// Creates a segment of `bytes`, durable with its header and name before anything else is written to it.
    pub(crate) fn create(disk: &dyn Disk, dir: &Path, header: Header, bytes: u32) -> Result<Self> {
        let path = Self::path(dir, header.number);
        let made = Self::create_at(disk, dir, &path, header, bytes);
        if made.is_err() {
            // A half-made segment holds nothing and would block the next attempt.
            disk.remove(&path).ok();
        }
        made
    }

    fn create_at(
        disk: &dyn Disk,
        dir: &Path,
        path: &Path,
        header: Header,
        bytes: u32,
    ) -> Result<Self> {
        let file = disk.create_new(path).map_err(|e| Error::io("create", path, e))?;
        file.allocate(u64::from(bytes)).map_err(|e| Error::io("allocate", path, e))?;
        file.write_all_at(&header.encode(), 0).map_err(|e| Error::io("write", path, e))?;
        file.sync_data().map_err(|e| Error::io("sync", path, e))?;
        disk.sync_dir(dir).map_err(|e| Error::io("sync", dir, e))?;
        file.map(u64::from(bytes)).map_err(|e| Error::io("map", path, e))?;
        Ok(Self { header, path: path.to_owned(), file, salt: header.salt() })
    }

    /// Fills the space for records with zeros so that writing them is cheap; returns whether it did anything.
    pub(crate) fn fill_ahead(&self, bytes: u32) -> Result<bool> {
        let filled = self.file.fill_ahead(u64::from(DATA_START), u64::from(bytes));
        filled.map_err(|e| Error::io("write", &self.path, e))
    }

    /// Opens a segment and checks its header.
    pub(crate) fn open(disk: &dyn Disk, path: &Path) -> Result<Self> {
        let file = disk.open(path).map_err(|e| Error::io("open", path, e))?;
        let len = file.len().map_err(|e| Error::io("stat", path, e))?;
        let mut head = vec![0; HEAD_BYTES.min(len as usize)];
        file.read_exact_at(&mut head, 0).map_err(|e| Error::io("read", path, e))?;
        let header = Header::decode(path, &head)?;
        if Self::number_of(path) != Some(header.number) {
            return Err(Self::misnamed(path, header.number));
        }
        // Segments are preallocated before use. One truncated below its records would seem never written to.
        if len < u64::from(DATA_START) {
            return Err(Error::corrupt(path, len, "the segment ends before its records begin"));
        }
        Ok(Self { header, path: path.to_owned(), file, salt: header.salt() })
    }

    /// Returns the error for a segment whose header and file name disagree.
    pub(super) fn misnamed(path: &Path, number: u32) -> Error {
        let named = Self::number_of(path).map_or("none".to_owned(), |named| named.to_string());
        let what = format!("header is for segment {number}, file name for {named}");
        Error::corrupt(path, 8, what)
    }

    /// Opens a segment of the store with this seed.
    pub(crate) fn open_own(disk: &dyn Disk, path: &Path, seed: Seed) -> Result<Self> {
        let segment = Self::open(disk, path)?;
        if segment.header.seed == seed { Ok(segment) } else { Err(Self::foreign(path)) }
    }

    /// Returns the error for a segment of another store. Either it or the manifest was copied in; nothing here tells
    /// which.
    pub(super) fn foreign(path: &Path) -> Error {
        let manifest = path.parent().unwrap_or(path).with_file_name("MANIFEST");
        let what = format!("this segment and {} carry different store seeds", manifest.display());
        Error::corrupt(path, 24, what)
    }

    #[inline]
    pub(crate) fn context(&self, offset: u32) -> RecordContext {
        self.header.context(self.salt, offset)
    }

    /// Writes the watermark: the log is on disk up to `lsn`. Errors do not matter: it only helps recovery, and the sync
    /// it records has happened.
    pub(crate) fn note_durable(&self, lsn: Lsn) {
        let mut mark = [0; 12];
        mark[..8].copy_from_slice(&lsn.0.to_le_bytes());
        mark[8..].copy_from_slice(&crc32c::crc32c(&lsn.0.to_le_bytes()).to_le_bytes());
        self.file.write_all_at(&mark, WATERMARK_AT).ok();
    }

    /// Reads the watermark; zero if there is none or it is torn.
    pub(crate) fn durable_noted(&self) -> Lsn {
        let mut mark = [0; 12];
        if self.file.read_exact_at(&mut mark, WATERMARK_AT).is_err() {
            return Lsn(0);
        }
        note_of(&mark)
    }

    /// Reads what is before the records.
    pub(super) fn read_head(&self) -> Result<Vec<u8>> {
        let mut head = vec![0; DATA_START as usize];
        let read = self.file.read_exact_at(&mut head, 0);
        read.map_err(|e| Error::io("read", &self.path, e))?;
        Ok(head)
    }

    /// Reads all records from offset `start` up to `end`, or to the end of the file.
    pub(crate) fn read(&self, start: u32, end: Option<u32>) -> Result<SegmentBytes> {
        let failed = |e| Error::io("read", &self.path, e);
        let len = self.file.len().map_err(|e| Error::io("stat", &self.path, e))?;
        let end = end.map_or(len, u64::from).min(len);
        let mut bytes = vec![0; end.saturating_sub(u64::from(start)) as usize];
        self.file.read_exact_at(&mut bytes, u64::from(start)).map_err(failed)?;
        Ok(SegmentBytes { header: self.header, salt: self.salt, start, bytes })
    }
}

fn note_of(mark: &[u8; 12]) -> Lsn {
    let (lsn, crc) = mark.split_at(8);
    if crc32c::crc32c(lsn).to_le_bytes() != crc {
        return Lsn(0);
    }
    Lsn(u64::from_le_bytes(lsn.try_into().expect("split at eight")))
}

/// Returns the watermark of a segment that was read whole; zero if there is none.
pub(super) fn noted_in(file: &[u8]) -> Lsn {
    let rest = file.get(WATERMARK_AT as usize..).unwrap_or_default();
    rest.first_chunk().map_or(Lsn(0), note_of)
}

/// Part of a segment in memory.
#[derive(Debug)]
pub(crate) struct SegmentBytes {
    pub(crate) header: Header,
    salt: u32,
    start: u32,
    bytes: Vec<u8>,
}

impl SegmentBytes {
    /// Wraps a whole file read by other means, under a header that may be a guess.
    pub(crate) fn from_file(header: Header, mut bytes: Vec<u8>) -> Self {
        bytes.drain(..bytes.len().min(DATA_START as usize));
        Self { header, salt: header.salt(), start: DATA_START, bytes }
    }

    /// Appends a record with this kind and payload and a valid checksum to a file.
    #[cfg(feature = "fuzzing")]
    pub(super) fn put_record(&self, file: &mut Vec<u8>, body: &[u8]) {
        let context = self.header.context(self.salt, file.len() as u32);
        record::put_raw(file, context, body);
    }

    /// Puts an encoded record at this file offset, with its checksum.
    pub(super) fn put(&mut self, offset: u32, record: &mut [u8]) {
        record::seal(record, self.header.context(self.salt, offset), None);
        let at = (offset - self.start) as usize;
        let end = at + record.len();
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[at..end].copy_from_slice(record);
    }

    /// Forgets what is behind this file offset.
    pub(super) fn truncate(&mut self, end: u32) {
        self.bytes.truncate((end - self.start) as usize);
    }

    /// Decodes what is at this file offset.
    pub(crate) fn at(&self, offset: u32) -> Found<'_> {
        let rest = self.bytes.get((offset - self.start) as usize..).unwrap_or(&[]);
        record::decode(rest, self.header.context(self.salt, offset))
    }

    pub(crate) fn end(&self) -> u32 {
        self.start + self.bytes.len() as u32
    }

    /// Returns the bytes between two file offsets.
    pub(crate) fn part(&self, from: u32, to: u32) -> &[u8] {
        &self.bytes[(from - self.start) as usize..(to - self.start) as usize]
    }

    /// Finds the next whole record at or after `offset`, wherever it begins, for repair.
    ///
    /// Skips zeros in one step, because a preallocated segment is mostly zeros.
    pub(crate) fn next_record(&self, offset: u32) -> Option<(u32, RawRecord<'_>)> {
        match self.at(offset) {
            // Of any kind, while a search looks for known ones.
            Found::Record(record) => Some((offset, record)),
            Found::Nothing => {
                let rest = self.bytes.get((offset - self.start) as usize..).unwrap_or(&[]);
                let zeros = rest.iter().position(|b| *b != 0)? as u32;
                // A checksum may itself begin with zero bytes.
                self.search(offset + zeros.saturating_sub(4))
            }
            Found::Damage => self.search(offset),
        }
    }

    fn search(&self, offset: u32) -> Option<(u32, RawRecord<'_>)> {
        let possible = |at: &u32| {
            let rest = self.bytes.get((*at - self.start) as usize..).unwrap_or(&[]);
            record::may_begin(rest)
        };
        (offset..self.end()).filter(possible).find_map(|at| match self.at(at) {
            Found::Record(record) => Some((at, record)),
            Found::Nothing | Found::Damage => None,
        })
    }

    /// Returns whether there is anything but zeros at or after `offset`.
    pub(crate) fn written_after(&self, offset: u32) -> bool {
        let rest = self.bytes.get((offset - self.start) as usize..).unwrap_or(&[]);
        rest.iter().any(|b| *b != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::version::{NEXT, VERSION};

    fn header(number: u32, seed: u8) -> Header {
        let base = Timestamp::from_millis(1_700_000_000_123);
        Header { version: VERSION, number, base, seed: Seed([seed; 16]), boot: [9; 16] }
    }

    /// Before the first release headers had 44 bytes.
    #[test]
    fn a_segment_of_another_version_is_refused_by_its_version() {
        let path = Path::new("0000000007.seg");
        let mut first = header(7, 3).encode();
        first.truncate(40);
        first[4] = 1;
        let crc = crc32c::crc32c(&first);
        first.extend_from_slice(&crc.to_le_bytes());
        first.resize(DATA_START as usize, 0);
        let decoded = Header::decode(path, &first);
        assert!(matches!(decoded, Err(Error::FromThePast { found: 1, oldest: OLDEST, .. })));
        let later = Header { version: NEXT + 1, ..header(7, 3) };
        let decoded = Header::decode(path, &later.encode());
        assert!(matches!(decoded, Err(Error::FromTheFuture { found, .. }) if found == NEXT + 1));
    }

    #[test]
    fn i11_every_flipped_bit_of_a_header_is_noticed() {
        let header = header(7, 3);
        let good = header.encode();
        let path = Path::new("0000000007.seg");
        assert_eq!(Header::decode(path, &good).ok(), Some(header));
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(path, &bad).is_err(), "bit {bit}");
        }
    }

    /// The salt seeds each record's checksum, so a record of another segment or store fails it.
    #[test]
    fn i11_each_segment_of_each_store_has_a_salt_of_its_own() {
        let salt = |number, seed| header(number, seed).salt();
        assert_ne!(salt(7, 3), salt(8, 3));
        assert_ne!(salt(7, 3), salt(7, 4));
    }

    #[test]
    fn i11_a_header_with_one_flipped_bit_is_restored_and_one_that_is_gone_is_not() {
        let seed = Seed([3; 16]);
        let header = header(7, 3);
        let good = header.encode();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::restore(7, seed, &bad), Some(header), "bit {bit}");
        }
        let mut bad = good.clone();
        bad[16..20].fill(0x55);
        assert_eq!(Header::restore(7, seed, &bad), None);
        assert_eq!(Header::restore(7, seed, &[0; HEAD_BYTES]), None);
        assert_eq!(Header::restore(7, seed, &good[..HEAD_BYTES - 1]), None);
        let next = Header { version: NEXT, ..header };
        assert_eq!(Header::restore(7, seed, &next.encode()), Some(next));
    }

    #[test]
    fn names_and_numbers_agree() {
        let path = Segment::path(Path::new("log"), 42);
        assert_eq!(path, Path::new("log/0000000042.seg"));
        assert_eq!(Segment::number_of(&path), Some(42));
        for other in ["log/42.seg", "log/0000000042.tmp", "log/000000004x.seg"] {
            assert_eq!(Segment::number_of(Path::new(other)), None);
        }
    }
}
